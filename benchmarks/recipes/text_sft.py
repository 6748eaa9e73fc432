"""Sums as text, answered by the embedded teacher: train_tiny.py trains a random model on them."""

from omr_data import Recipe, union
from omr_data.operators import difficulty, explode, rollout, verify
from omr_data.sources import synthetic
from omr_data.teachers import tiny


def recipe(teacher_rows: int = 1_500, train_rows: int = 600) -> Recipe:
    """Both splits that are not held out: a model from random weights has seen neither."""
    sums = union(
        synthetic.Source(split="teacher", count=teacher_rows, families=("text",)),
        synthetic.Source(split="train", count=train_rows, families=("text",)),
    )
    rows = sums.then(
        rollout.Sample(tiny.Teacher(), n=8),
        verify.Answers(),
        difficulty.PassRate(),
        explode.Right(),
    )
    return Recipe(name="text-sft", version="1.0.0", data=rows)
