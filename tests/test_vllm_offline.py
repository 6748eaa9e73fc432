"""A model in this process is the same teacher as that model behind a server.

With a real vLLM: `make test-vllm`.
"""

from dataclasses import replace
from typing import Any

import pytest

from omr_data.errors import MissingExtra, TeacherError
from omr_data.identity import fingerprint
from omr_data.operators.rollout import Sample
from omr_data.records import ImageRef
from omr_data.teacher import Budget
from omr_data.teachers import openai_api, vllm_offline
from omr_data.teachers.openai_api.wire import runs
from tests.builders import record

ASKED: dict[str, Any] = {
    "temperature": 0.7,
    "top_k": 20,
    "max_tokens": 64,
    "stop": ("END",),
    "seed": 3,
    "revision_of_model": "a1",
}


def no_image(image: ImageRef) -> bytes:
    raise AssertionError("nothing is asked")


def test_a_question_has_one_key_whether_a_server_is_asked_or_this_process() -> None:
    server = openai_api.Teacher("tiny", **ASKED, urls=("http://127.0.0.1:1/v1",), concurrency=7)
    here = vllm_offline.Teacher(
        "tiny",
        **ASKED,
        path="/weights",
        engine='{"max_model_len": 512}',
        concurrency=9,
        logprob="sum",
    )
    (over_there,), (in_here,) = (
        Sample(teacher, n=4).requests(record()) for teacher in (server, here)
    )
    assert over_there == in_here
    assert fingerprint(Sample(server)) == fingerprint(Sample(here))
    assert fingerprint(here) != fingerprint(replace(here, top_k=21))


def test_without_vllm_one_line_names_the_extra() -> None:
    with (
        pytest.raises(MissingExtra, match=r"pip install 'omr-data\[vllm\]'"),
        vllm_offline.Teacher("tiny").open(1, no_image, Budget()),
    ):
        pass


@pytest.mark.parametrize(
    ("field", "value"),
    [("engine", "max_model_len=512"), ("engine", "[]"), ("concurrency", 0), ("max_tokens", 0)],
)
def test_what_no_engine_takes_is_refused_at_once(field: str, value: object) -> None:
    with pytest.raises(TeacherError, match=f"{field} "):
        vllm_offline.Teacher("tiny", **{field: value})  # type: ignore[arg-type]


def test_attempts_are_asked_for_in_runs_of_consecutive_numbers() -> None:
    assert list(runs((0, 1, 2, 5, 7, 8), 2)) == [(0, 1), (2,), (5,), (7, 8)]
    assert list(runs((8, 9, 10, 11), 4)) == [(8, 9, 10, 11)]
