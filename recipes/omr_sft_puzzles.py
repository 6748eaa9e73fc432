"""OMR-SFT-puzzles: the same path on three real sources, from the Hub or a mirror (`--mirror DIR`).

The embedded teacher answers them badly, so few rows are released. With a server of your own:
    OMR_TEACHER_URL=http://HOST:8000/v1 omr build recipes/omr_sft_puzzles.py --set model=Qwen/Qwen3-VL-8B-Instruct
"""

from omr_data import ALL, Recipe, mix, union
from omr_data.operators import difficulty, explode, limits, rollout, verify
from omr_data.sources import algopuzzlevqa, gsm8k, puzzlevqa
from omr_data.teachers import openai_api, tiny


def recipe(rollouts: int = 8, model: str = "") -> Recipe:
    teacher = (
        openai_api.Teacher(model, temperature=1.0, max_tokens=8_192) if model else tiny.Teacher()
    )
    prompt = (
        rollout.PromptTemplate(system=rollout.THINK_THEN_ANSWER)
        if model
        else rollout.PromptTemplate()
    )
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
