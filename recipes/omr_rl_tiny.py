"""OMR-RL-tiny: synthetic problems that the embedded teacher gets right at some attempts and wrong at others. Needs no network, key or GPU."""

from omr_data import ALL, Recipe, mix, union
from omr_data.operators import difficulty, responses, rollout, select, verify
from omr_data.sources import synthetic
from omr_data.teachers import tiny

TEACHER = tiny.Teacher()
FAMILIES = (
    "text",
    "sum",
    "larger",
    "bars",
)  # no `choice`: of four options a guess is right at times, and is rewarded for nothing
LEVELS = (2, 3)


def recipe(rollouts: int = 8, questions: int = 10_000) -> Recipe:
    """All that is not held out: the more problems, the less is learned by heart."""
    share = questions * 7 // 10
    problems = union(
        synthetic.Source(split="teacher", count=share, families=FAMILIES, levels=LEVELS, seed=1),
        synthetic.Source(
            split="train", count=questions - share, families=FAMILIES, levels=LEVELS, seed=1
        ),
    ).then(
        rollout.Sample(TEACHER, n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),  # a score
        select.PassRate(
            at_least=1 / 16, at_most=15 / 16
        ),  # the choice: a group of equal rewards teaches nothing
        responses.Drop(),
    )
    return Recipe(name="omr-rl-tiny", version="1.0.0", data=mix({problems: ALL}))
