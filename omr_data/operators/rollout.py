"""Rollouts: a teacher answers each question several times.

    rollout.Sample(TEACHER, n=8)

The key of a rollout is the sha256 over the teacher (model, revision, every sampling parameter), the
messages and the image hashes. The attempt number stands beside it. So asking for 12 where 8 are
stored asks for 4, and nothing about where or how fast the teacher is reached matters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from omr_data.errors import BadRow, RecipeError, StepError
from omr_data.identity import Spec, runtime_field
from omr_data.records import Message, Record, Response, chat, check_marks
from omr_data.step import AskStep
from omr_data.teacher import Request, Teacher

THINK_THEN_ANSWER = (
    "Think step by step inside <think> and </think>, then give only the final answer inside "
    "<answer> and </answer>. If options are given, answer with the letter of one option."
)
"""The answer format of the published set, as a system message."""


@dataclass(frozen=True)
class PromptTemplate(Spec):
    """How a record is put to a teacher: exactly its own chat, unless a field adds to it."""

    system: str | None = None
    """A system message for records that have none. A record's own system message is kept."""
    suffix: str = ""
    """Text after the last user turn and its options."""

    def messages(self, record: Record) -> tuple[Message, ...]:
        """Returns the chat for one record. What is stored with the rollouts is exactly this."""
        *before, last = chat(record)
        messages = (*before, replace(last, text=last.text + self.suffix))
        if self.system is None or messages[0].role == "system":
            return messages
        # In front, because templates of most models take a system message only there.
        return (Message("system", self.system), *messages)


@dataclass(frozen=True)
class Sample(AskStep):
    """Asks the teacher for attempts 0 to n - 1 of each record.

    Responses that came with the dataset stay in front of the new ones. Those of an earlier teacher
    are replaced; they stay in the rollout store.

    Raises:
        RecipeError: `n` is less than 1, or `unanswered` is not a share.
    """

    teacher: Teacher
    """The model to ask."""
    n: int = 8
    """Attempts for each record."""
    prompt: PromptTemplate = PromptTemplate()
    """What is added to the record's own chat."""
    unanswered: float = runtime_field(0.01)
    """The share of attempts that a release may leave refused or rejected, from 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Refused here: 0 attempts would drop every record without a word.
        if self.n < 1:
            raise RecipeError(f"{self.name}: n is {self.n}; at least one answer must be asked for.")
        if not 0.0 <= self.unanswered <= 1.0:
            raise RecipeError(
                f"{self.name}: unanswered is {self.unanswered}; it is a share from 0 to 1."
            )

    def get_teacher(self) -> Teacher:
        return self.teacher

    @property
    def unanswered_at_most(self) -> float:
        return self.unanswered

    def requests(self, record: Record) -> Sequence[Request]:
        try:
            # Sources are checked when they are read. A Map in between may have broken it.
            check_marks(record)
        except BadRow as error:
            raise StepError(
                f"{self.name} cannot ask record {record.id}: {error}. A step before this one "
                "changed the text or the images; give each image one mark."
            ) from error
        return (self.teacher.request(self.prompt.messages(record), record.images, self.n),)

    def attach(self, record: Record, answers: Sequence[Sequence[Response]]) -> Record:
        # Only answers of a teacher have a key.
        given = [response for response in record.responses if not response.key]
        messages = self.prompt.messages(record)
        return replace(record, prompt=messages, responses=(*given, *answers[0]))

    def tally(self, record: Record) -> Mapping[str, int]:
        # The engine adds what has no answer: refused and rejected attempts.
        new = [response for response in record.responses if response.key]
        counts = Counter({"answers": len(new)})
        counts["cut off"] = sum(response.finish_reason == "length" for response in new)
        return +counts
