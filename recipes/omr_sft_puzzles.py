"""OMR-SFT-puzzles: the same path on three real sources, from the Hub or a mirror (`--mirror DIR`).

The embedded teacher answers them badly, so few rows are released; with a server, set OMR_TEACHER_URL and give its model:
    omr build recipes/omr_sft_puzzles.py --set model=Qwen/Qwen3-VL-8B-Instruct
"""

from omr_data import ALL, Recipe, mix, union
from omr_data.operators import difficulty, explode, limits, rollout, verify
from omr_data.sources import algopuzzlevqa, gsm8k, puzzlevqa
from omr_data.teachers import tiny

TEACHER = tiny.Teacher()


def recipe(rollouts: int = 8) -> Recipe:
    questions = union(puzzlevqa.Source(), algopuzzlevqa.Source(), gsm8k.Source(split="train")).then(
        limits.ImageSide(at_least=28),
        verify.Gold(),
    )
    answered = questions.then(
        rollout.Sample(TEACHER, n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),
        explode.Right(),
    )
    return Recipe(name="omr-sft-puzzles", version="1.0.0", data=mix({answered: ALL}))
