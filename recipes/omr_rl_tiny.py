"""OMR-RL-tiny: drawn problems that the embedded teacher gets right at some attempts and wrong at others. Needs no network, key or GPU."""

from omr_data import ALL, Recipe, mix
from omr_data.operators import difficulty, responses, rollout, select, verify
from omr_data.sources import drawn
from omr_data.teachers import tiny

TEACHER = tiny.Teacher()


def recipe(rollouts: int = 8, questions: int = 1_200) -> Recipe:
    problems = drawn.Source(split="train", count=questions, seed=1).then(
        rollout.Sample(TEACHER, n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),  # a score
        select.PassRate(at_least=1 / 16, at_most=15 / 16),  # the choice: a group of equal rewards teaches nothing
        responses.Drop(),
    )
    return Recipe(name="omr-rl-tiny", version="1.0.0", data=mix({problems: ALL}))
