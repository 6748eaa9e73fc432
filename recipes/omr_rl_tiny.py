"""OMR-RL-tiny: drawn problems that the embedded teacher gets right at some attempts and wrong at others. Needs no network, key or GPU."""

from omr_data import ALL, Recipe, mix
from omr_data.operators import difficulty, responses, rollout, select, verify
from omr_data.sources import drawn
from omr_data.teachers import tiny

TEACHER = tiny.Teacher()


FAMILIES = ("text", "sum", "larger", "bars")  # no `choice`: of four options a guess is right at times, and is rewarded for nothing


def recipe(rollouts: int = 8, questions: int = 3_000) -> Recipe:
    problems = drawn.Source(split="train", count=questions, families=FAMILIES, levels=(2, 3), seed=1).then(
        rollout.Sample(TEACHER, n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),  # a score
        select.PassRate(at_least=1 / 16, at_most=15 / 16),  # the choice: a group of equal rewards teaches nothing
        responses.Drop(),
    )
    return Recipe(name="omr-rl-tiny", version="1.0.0", data=mix({problems: ALL}))
