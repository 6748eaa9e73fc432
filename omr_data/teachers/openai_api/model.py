"""A chat model and how it is asked: everything that decides an answer, wherever the model runs.

`ChatModel` is the identity of a teacher behind a server (`openai_api.Teacher`), of one asked in
batches (`openai_batch.Teacher`) and of one in this process (`vllm_offline.Teacher`). All have the
same name, revision and identity fields, and so the same rollout keys.
"""

import json
from dataclasses import dataclass
from typing import ClassVar

from omr_data import teacher
from omr_data.errors import TeacherError
from omr_data.identity import json_field
from omr_data.teacher import JSON_FIELDS, canonical_json

OUR_FIELDS = (
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "seed",
    "stream",
    "stream_options",
)
"""Fields of a request that the client sets. In `extra_body` they would break keys, seeds or the
budget without a word."""


@dataclass(frozen=True)
class ChatModel(teacher.Teacher):
    """One model with its sampling parameters.

    None leaves a parameter to the server, or to the model's generation_config.json.

    Raises:
        TeacherError: A parameter that no server takes, or text that is not a JSON object.
    """

    name: ClassVar[str] = "openai_api.Teacher"
    """One name for all ways of asking a model, so that they share rollout keys."""
    at_least_one: ClassVar[tuple[str, ...]] = ("max_tokens",)
    """Fields that must be 1 or more."""
    json_objects: ClassVar[tuple[str, ...]] = JSON_FIELDS
    """Fields that hold a JSON object as text."""

    model: str
    """The name that the server knows the model by."""
    revision_of_model: str | None = None
    """Whatever tells two sets of weights of one name apart, such as a commit."""
    temperature: float | None = 1.0
    """Sampling temperature. 0 is greedy."""
    top_p: float | None = None
    """Nucleus sampling: the probability mass that is kept."""
    top_k: int | None = None
    """How many of the likeliest tokens are kept."""
    min_p: float | None = None
    """The smallest probability that is kept, as a share of the largest."""
    max_tokens: int = 16_384
    """Most tokens of one answer, reasoning included."""
    presence_penalty: float | None = None
    """Penalty for tokens that occurred."""
    frequency_penalty: float | None = None
    """Penalty for tokens, times how often they occurred."""
    repetition_penalty: float | None = None
    """Factor for tokens that occurred, in vLLM and SGLang."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    seed: int | None = 0
    """Base of the per-attempt seeds. None asks without seeds."""
    response_format: str | None = json_field(None)
    """The format of an answer: a JSON object as text, in OpenAI's shape."""
    extra_body: str = json_field("{}")
    """More fields of a request's body: a JSON object as text, like '{"guided_choice": ["A"]}'."""

    def __post_init__(self) -> None:
        # Subclasses add their own fields to these lists.
        # A 0 would fail at the server, after the sources were read.
        for name in self.at_least_one:
            if getattr(self, name) < 1:
                raise TeacherError(
                    f"{self.name}: {name} is {getattr(self, name)}, and must be at least 1."
                )
        for name in self.json_objects:
            text = getattr(self, name)
            if text is None:
                continue
            try:
                value = json.loads(text)
                # Python reads NaN, which JSON does not have: this raises for it.
                spelled = canonical_json(value)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise TeacherError(
                    f"{self.name}: {name} must be a JSON object as text, like '{{\"top_k\": 20}}', "
                    f"and is {text[:60]!r}."
                )
            # The field itself becomes canonical, so spacing is neither identity nor sent.
            object.__setattr__(self, name, spelled)
        super().__post_init__()
        # Checked here and not when asking: a plan should refuse it, too.
        taken = sorted(set(OUR_FIELDS) & set(json.loads(self.extra_body)))
        if taken:
            raise TeacherError(
                f"{self.name}: extra_body sets {', '.join(taken)}, which the client sets itself. "
                "Use the fields of the teacher and of rollout.Sample, and leave them out here."
            )

    @property
    def batch(self) -> int:
        return 16

    @property
    def model_id(self) -> str:
        return self.model
