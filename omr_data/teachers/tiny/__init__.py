"""The embedded teacher: a vision-language model of a million parameters that comes with the
package.

It lets a laptop without network, key or GPU sample real rollouts. It was trained from scratch by
`omr_data/teachers/tiny/train.py` on synthetic problems (`make teacher` does it again);
`weights/training.json` holds its seed, curve and accuracies. On anything else it answers badly,
but in the right format.
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
"""At this temperature more than half of the synthetic questions have right and wrong attempts."""

# Read when the module is imported (4 MB, a few milliseconds): the teacher's identity needs it
# before any model is loaded.
with open(FOLDER / "model.safetensors", "rb") as stream:
    WEIGHTS_SHA256 = file_digest(stream, "sha256").hexdigest()
"""sha256 of the weights: new weights give new rollouts."""


@dataclass(frozen=True)
class Teacher(teacher.Teacher):
    """Samples from the embedded model.

    The text of (question, attempt) is the same in any batch and for any number of workers, on one
    kind of machine.
    """

    temperature: float = TEMPERATURE
    """The temperature of sampling; 0 takes the likeliest token."""
    max_tokens: int = 64
    """Tokens of an answer, at most."""
    seed: int = 0
    """The seed of sampling. Another seed gives other answers."""
    weights: str = WEIGHTS_SHA256
    """sha256 of the weights, which is part of the teacher's identity."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 0 or self.max_tokens < 1:
            raise TeacherError(
                f"{self.name}: temperature is {self.temperature} and max_tokens {self.max_tokens}; "
                "they must be at least 0 and 1."
            )
        # A recipe that names other weights must not silently get answers of these.
        if self.weights != WEIGHTS_SHA256:
            raise TeacherError(
                f"{self.name} is asked for weights {self.weights[:12]}, and this package holds "
                f"{WEIGHTS_SHA256[:12]}. Install the version of the package that had them."
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
        # Processes and not threads: each samples on one core, and rounds the same on any machine.
        with mapper(workers, _start, self, read_image) as processes:
            yield _Session(processes, budget)


@dataclass(frozen=True, slots=True)
class _Session:
    processes: Mapper
    """The processes that sample."""
    budget: Budget
    """Ends the session when its requests are used up."""

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        return self.processes.map(_answer, self.budget.within(batches))

    def note(self) -> str:
        return ""


# A worker process is given functions by name, so what it has loaded is a global.
_loaded: "tuple[Teacher, Sampler, ReadImage] | None" = None
"""The model of this process."""


def _start(teacher: Teacher, read_image: ReadImage) -> None:
    """Loads the model into this process."""
    from omr_data.teachers.tiny.network import load_network
    from omr_data.teachers.tiny.sample import Sampler

    global _loaded
    # Once for each process: the weights are read and transposed.
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
        image = None
        if request.images:
            # The model was trained with one image, and sees no other.
            image = read_image(request.images[0])
        prompt = encode_prompt(sampler.tokenizer, request.messages, image)
        questions.append(SampleRequest(request.key, prompt, request.attempts))
    # All questions of the batch together: a prefill reads 16 of them at the price of one.
    answers: list[tuple[Request, Sequence[Response | Failure]]] = []
    for request, question, samples in zip(batch, questions, sampler.sample(questions), strict=True):
        responses = [
            Response(
                text=sample.text,
                attempt=attempt,
                model=teacher.model_id,
                finish_reason=sample.finish_reason,
                prompt_tokens=len(question.prompt.ids),
                completion_tokens=sample.tokens,
                key=request.key,
            )
            for attempt, sample in zip(request.attempts, samples, strict=True)
        ]
        answers.append((request, responses))
    return answers
