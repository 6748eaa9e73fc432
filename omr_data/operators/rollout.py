"""Rollouts: a teacher answers each question several times.

    rollout.Sample(TEACHER, n=8)

The **key** of a rollout is sha256 over the teacher (model, revision, every sampling parameter), the messages and the image
hashes. The attempt number stands beside it. So asking for 12 where 8 are stored asks for 4, and nothing about where or
how fast the teacher is reached matters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from omr_data.errors import RecipeError
from omr_data.identity import Spec
from omr_data.records import Message, Record, Response, render_question
from omr_data.step import AskStep
from omr_data.teacher import Request, Teacher

THINK_THEN_ANSWER = (
    "Think step by step inside <think> and </think>, then give only the final answer inside <answer> and </answer>. "
    "If options are given, answer with the letter of one option."
)
"""The answer format of the published set, as a system message."""


@dataclass(frozen=True)
class PromptTemplate(Spec):
    """How a record is put to a teacher: an optional system message, and the question with its options and a suffix."""

    system: str | None = None
    suffix: str = ""

    def messages(self, record: Record) -> tuple[Message, ...]:
        """The chat for one record. What is stored with the rollouts is exactly this."""
        user = Message("user", render_question(record) + self.suffix)
        return (user,) if self.system is None else (Message("system", self.system), user)


@dataclass(frozen=True)
class Sample(AskStep):
    """Asks the teacher for attempts 0 to n - 1 of each record."""

    teacher: Teacher
    n: int = 8
    prompt: PromptTemplate = PromptTemplate()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise RecipeError(f"{self.name}: n is {self.n}; at least one answer must be asked for.")

    def get_teacher(self) -> Teacher:
        return self.teacher

    def requests(self, record: Record) -> Sequence[Request]:
        return (self.teacher.request(self.prompt.messages(record), record.images, self.n),)

    def attach(self, record: Record, answers: Sequence[Sequence[Response]]) -> Record:
        return replace(record, prompt=self.prompt.messages(record), responses=tuple(answers[0]))

    def tally(self, record: Record) -> Mapping[str, int]:
        counts = Counter({"answers": len(record.responses)})
        counts["unanswered"] = self.n - len(record.responses)
        counts["cut off"] = sum(response.finish_reason == "length" for response in record.responses)
        return +counts
