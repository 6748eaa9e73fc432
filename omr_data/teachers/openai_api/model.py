"""A chat model and how it is asked: what decides an answer, wherever the model runs.

**ChatModel**: the identity of a teacher behind a server (`openai_api.Teacher`) and of one in this process
(`vllm_offline.Teacher`). Both have the same name, revision and fields, and so the same rollout keys.
"""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from omr_data import teacher
from omr_data.errors import TeacherError
from omr_data.identity import json_field


@dataclass(frozen=True)
class ChatModel(teacher.Teacher):
    """One model with its sampling parameters; None leaves a parameter to the server, or to the model's generation_config.json.

    `revision_of_model` is whatever tells two weights of one name apart. `seed` is the base of per-attempt seeds.
    `response_format` and `extra_body` are JSON objects as text; the latter's fields are added to the body of a request.

    Raises:
        TeacherError: a parameter that no server takes, or text that is no JSON object.
    """

    name: ClassVar[str] = "openai_api.Teacher"
    at_least_one: ClassVar[tuple[str, ...]] = ("max_tokens",)
    json_objects: ClassVar[tuple[str, ...]] = ("response_format", "extra_body")

    model: str
    revision_of_model: str | None = None
    temperature: float | None = 1.0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int = 16_384
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = 0
    response_format: str | None = json_field(None)
    extra_body: str = json_field("{}")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.at_least_one:
            if getattr(self, name) < 1:
                raise TeacherError(
                    f"{self.name}: {name} is {getattr(self, name)}, and must be at least 1."
                )
        for name in self.json_objects:
            if (text := getattr(self, name)) is not None and not _is_object(text):
                raise TeacherError(
                    f"{self.name}: {name} must be a JSON object as text, like '{{\"top_k\": 20}}', and is {text[:60]!r}."
                )

    @property
    def batch(self) -> int:
        return 16

    @property
    def model_id(self) -> str:
        return self.model


def _is_object(text: str) -> bool:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict)
