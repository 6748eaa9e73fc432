"""A recipe for `make test-vllm`: the embedded weights, asked in one of three places."""

import json

from omr_data import Recipe
from omr_data.operators import difficulty, explode, rollout, verify
from omr_data.sources import synthetic
from omr_data.teacher import Teacher
from omr_data.teachers import openai_api, tiny, vllm_offline

NAME = "omr-tiny"
SAMPLING = {"temperature": tiny.TEMPERATURE, "max_tokens": 64}
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1_024,
    "max_num_seqs": 256,
    "limit_mm_per_prompt": {"image": 1, "video": 0},
    # On CPU, vLLM 0.32 dies of a prefill in pieces when requests have seeds ("CPU Generator does
    # not use offset").
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 8_192,
}


def source(questions: int) -> synthetic.Source:
    return synthetic.Source(
        count=questions, families=("sum", "larger", "bars", "choice"), levels=(2, 3)
    )


def sample(teacher: str, path: str = "", rollouts: int = 8) -> rollout.Sample:
    teachers: dict[str, Teacher] = {
        "server": openai_api.Teacher(NAME, **SAMPLING),
        "offline": vllm_offline.Teacher(
            NAME, **SAMPLING, path=path, engine=json.dumps(ENGINE), logprob="sum"
        ),
        "embedded": tiny.Teacher(**SAMPLING),
    }
    return rollout.Sample(teachers[teacher], n=rollouts)


def recipe(teacher: str = "server", path: str = "", questions: int = 200) -> Recipe:
    answered = source(questions).then(
        sample(teacher, path), verify.Answers(), difficulty.PassRate(), explode.Right()
    )
    return Recipe("vllm", "1.0.0", answered)
