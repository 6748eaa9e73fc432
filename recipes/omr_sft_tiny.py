"""OMR-SFT-tiny: synthetic problems, each answered eight times by the embedded teacher.

It needs no network, key or GPU and builds in about a minute. Everything that a large set does
happens here on small rows: asking, verifying, scoring and releasing.
"""

from omr_data import ALL, Recipe, mix
from omr_data.operators import difficulty, explode, rollout, verify
from omr_data.sources import synthetic
from omr_data.teachers import tiny

TEACHER = tiny.Teacher()


def recipe(rollouts: int = 8, questions: int = 1_200) -> Recipe:
    """Builds the set.

    Args:
        rollouts: Attempts for each question. More of them ask only for what is missing.
        questions: Problems to make, the same number of each family and level.
    """
    answered = synthetic.Source(split="train", count=questions).then(
        rollout.Sample(TEACHER, n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),  # a score, not a filter
        explode.Right(),
    )
    return Recipe(name="omr-sft-tiny", version="1.0.0", data=mix({answered: ALL}))
