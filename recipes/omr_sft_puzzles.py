"""OMR-SFT-puzzles: the path of a large set on three real datasets, from the Hub or a mirror folder.

The embedded teacher never saw such questions and is rarely right, so few rows are released. With a
server of your own:

    export OMR_TEACHER_URL=http://HOST:8000/v1
    omr build recipes/omr_sft_puzzles.py --set model=Qwen/Qwen3-VL-8B-Instruct
"""

from omr_data import ALL, Recipe, Teacher, mix, union
from omr_data.operators import difficulty, explode, limits, rollout, verify
from omr_data.sources import algopuzzlevqa, gsm8k, puzzlevqa
from omr_data.teachers import openai_api, tiny


def recipe(
    rollouts: int = 8,
    model: str = "",
    prompt_price: float | None = None,
    completion_price: float | None = None,
) -> Recipe:
    """Builds the set.

    Args:
        rollouts: Attempts for each question.
        model: The model that OMR_TEACHER_URL serves. Empty asks the embedded teacher.
        prompt_price: US dollars for a million tokens of prompts. A budget in dollars needs it.
        completion_price: US dollars for a million tokens of answers. A budget needs it as well.
    """
    teacher: Teacher = tiny.Teacher()
    prompt = rollout.PromptTemplate()
    if model:
        # A model that reasons needs room for it, and is told the format that is rewarded later.
        teacher = openai_api.Teacher(
            model,
            temperature=1.0,
            max_tokens=8_192,
            prompt_price=prompt_price,
            completion_price=completion_price,
        )
        prompt = rollout.PromptTemplate(system=rollout.THINK_THEN_ANSWER)
    questions = union(puzzlevqa.Source(), algopuzzlevqa.Source(), gsm8k.Source(split="train")).then(
        limits.ImageSide(at_least=28),
        verify.Gold(),
    )
    answered = questions.then(
        rollout.Sample(teacher, n=rollouts, prompt=prompt),
        verify.Answers(),
        difficulty.PassRate(),
        explode.Right(),
    )
    return Recipe(name="omr-sft-puzzles", version="1.0.0", data=mix({answered: ALL}))
