"""OMR-RL-tiny: problems that the embedded teacher solves at some attempts and not at others.

These are the problems that reinforcement learning can learn from: where all attempts of a group are
right, or all wrong, every advantage is zero. It needs no network, key or GPU.
"""

from omr_data import ALL, Recipe, mix, union
from omr_data.operators import difficulty, responses, rollout, select, verify
from omr_data.sources import synthetic
from omr_data.teachers import tiny

TEACHER = tiny.Teacher()
# Without `choice`: a guess among four options is right now and then, and would be rewarded.
FAMILIES = ("text", "sum", "larger", "bars")
LEVELS = (2, 3)


def recipe(rollouts: int = 8, questions: int = 10_000) -> Recipe:
    """Builds the set from all problems that are not held out for evaluation.

    Args:
        rollouts: Attempts for each problem, from which its pass rate is estimated.
        questions: Problems to make. With few of them, a model learns their answers by heart.
    """
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
        # The selection: a group with equal rewards has no gradient.
        select.PassRate(at_least=1 / 16, at_most=15 / 16),
        responses.Drop(),
    )
    return Recipe(name="omr-rl-tiny", version="1.0.0", data=mix({problems: ALL}))
