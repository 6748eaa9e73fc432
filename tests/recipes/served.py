"""A recipe for tests of the HTTP teacher: synthetic problems, asked of OMR_TEACHER_URL."""

from omr_data import Recipe
from omr_data.operators import difficulty, explode, rollout, verify
from omr_data.sources import synthetic
from omr_data.teachers import openai_api


def recipe(
    rollouts: int = 4, questions: int = 300, timeout: float = 20.0, outage: float = 2.0
) -> Recipe:
    prices = {"prompt_price": 1.0, "completion_price": 1.0}
    teacher = openai_api.Teacher(
        "tiny", max_tokens=64, timeout=timeout, tries=3, outage=outage, **prices
    )
    answered = synthetic.Source(count=questions, families=("larger", "bars", "choice")).then(
        rollout.Sample(teacher, n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),
        explode.Right(),
    )
    return Recipe("served", "1.0.0", answered)
