"""A recipe for tests of the batch teacher: synthetic problems, asked of OMR_TEACHER_URL."""

from omr_data import Recipe
from omr_data.operators import difficulty, explode, rollout, verify
from omr_data.sources import synthetic
from omr_data.teachers import openai_batch


def recipe(
    rollouts: int = 4,
    questions: int = 60,
    per_file: int = 50_000,
    samples: int = 8,
    poll: float = 0.05,
) -> Recipe:
    limits = {
        "requests_per_file": per_file,
        "samples_per_request": samples,
        "poll": poll,
        "outage": 2.0,
        "timeout": 20.0,
    }
    teacher = openai_batch.Teacher(
        "tiny", max_tokens=64, prompt_price=1.0, completion_price=1.0, **limits
    )
    answered = synthetic.Source(count=questions, families=("larger", "bars", "choice")).then(
        rollout.Sample(teacher, n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),
        explode.Right(),
    )
    return Recipe("served", "1.0.0", answered)
