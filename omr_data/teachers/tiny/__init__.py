"""The embedded teacher: a real vision-language model of about one million parameters that comes with the package.

It lets a laptop without network, key or GPU draw true stochastic rollouts. It was trained from scratch by
`omr_data/teachers/tiny/train.py` on synthetic problems (`make teacher` does it again); `weights/training.json` holds its seed,
curve and accuracies. On anything else it answers badly, but in the right format.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from omr_data import teacher
from omr_data.errors import TeacherError
from omr_data.processes import Mapper, mapper
from omr_data.records import Response
from omr_data.teacher import Answers, Batch, Budget, Failure, ReadImage, Request, Session

if TYPE_CHECKING:
    from omr_data.teachers.tiny.sample import Sampler

FOLDER = Path(__file__).parent / "weights"
TEMPERATURE = 1.15
"""At this one more than half of the synthetic questions are answered rightly at some attempts and wrongly at others."""


def _sha256() -> str:
    with open(FOLDER / "model.safetensors", "rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


WEIGHTS_SHA256 = _sha256()
"""sha256 of the weights: new ones give new rollouts."""


@dataclass(frozen=True)
class Teacher(teacher.Teacher):
    """Samples from the embedded model. An answer has at most `max_tokens` tokens; temperature 0 is greedy.

    The text of (question, attempt) is the same in any batch and for any number of workers, on one kind of machine.
    """

    temperature: float = TEMPERATURE
    max_tokens: int = 64
    seed: int = 0
    weights: str = WEIGHTS_SHA256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 0 or self.max_tokens < 1:
            raise TeacherError(
                f"{self.name}: temperature {self.temperature} and max_tokens {self.max_tokens} must be at least 0 and 1."
            )
        if self.weights != WEIGHTS_SHA256:
            raise TeacherError(
                f"{self.name} is asked for weights {self.weights[:12]}, and this package holds {WEIGHTS_SHA256[:12]}."
            )

    @property
    def batch(self) -> int:
        return 64

    @property
    def model_id(self) -> str:
        return f"omr-tiny-{self.weights[:8]}"

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Loads the model in this process, or in `workers` processes.

        Args:
            workers: How many processes sample at once, each on one core.
            read_image: Reads the bytes of a request's image.
            budget: Counts requests; answers cost nothing.
        """
        with mapper(workers, _start, self, read_image) as processes:
            yield _Session(processes, budget)


@dataclass(frozen=True, slots=True)
class _Session:
    processes: Mapper
    budget: Budget

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        return self.processes.map(_answer, self.budget.within(batches))

    def note(self) -> str:
        return ""


_loaded: "tuple[Teacher, Sampler, ReadImage] | None" = None
"""The model of this process."""


def _start(teacher: Teacher, read_image: ReadImage) -> None:
    """Loads the model into this process."""
    from omr_data.teachers.tiny.network import load_network
    from omr_data.teachers.tiny.sample import Sampler

    global _loaded
    network, tokenizer = load_network(FOLDER)
    sampler = Sampler(network, tokenizer, teacher.temperature, teacher.max_tokens, teacher.seed)
    _loaded = (teacher, sampler, read_image)


def _answer(batch: Batch) -> Answers:
    from omr_data.teachers.tiny.prompts import encode_prompt
    from omr_data.teachers.tiny.sample import SampleRequest

    assert _loaded is not None  # _start ran in this process
    teacher, sampler, read_image = _loaded
    questions = []
    for request in batch:
        image = read_image(request.images[0]) if request.images else None
        questions.append(
            SampleRequest(
                request.key,
                encode_prompt(sampler.tokenizer, request.messages, image),
                request.attempts,
            )
        )
    answers: list[tuple[Request, Sequence[Response | Failure]]] = []
    for request, question, samples in zip(batch, questions, sampler.sample(questions), strict=True):
        responses = [
            Response(
                text=sample.text,
                attempt=attempt,
                model=teacher.model_id,
                finish_reason="stop" if sample.ended else "length",
                prompt_tokens=len(question.prompt.ids),
                completion_tokens=sample.tokens,
                key=request.key,
            )
            for attempt, sample in zip(request.attempts, samples, strict=True)
        ]
        answers.append((request, responses))
    return answers
