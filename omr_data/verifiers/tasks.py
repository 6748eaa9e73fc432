"""Which verifiers a task is given to: the one table of tasks.

`Record.task` names a task; "maths" is the default. A recipe overrides a task with
`verify.Answers(tasks.STANDARD.override("counting", counting.Verifier(tolerance=0.1)))`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from omr_data.errors import VerifyError
from omr_data.identity import Spec
from omr_data.records import Verdict
from omr_data.verifiers import (
    anls,
    base,
    box_iou,
    cascade,
    chart,
    choice,
    counting,
    instructions,
    key_value,
    multi_select,
    ordering,
    point_in_box,
    rubric,
    typed,
)
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.cascade import Step

Route = tuple[str, cascade.Verifier]

TABLE: tuple[Route, ...] = (
    ("maths", cascade.STANDARD),
    ("choice", cascade.Verifier((choice.Verifier(),))),
    ("text", cascade.Verifier((typed.Verifier(),))),
    ("box", cascade.Verifier((box_iou.Verifier(),))),
    ("point", cascade.Verifier((point_in_box.Verifier(),))),
    ("counting", cascade.Verifier((counting.Verifier(),))),
    ("chart", cascade.Verifier((choice.Verifier(), chart.Verifier()))),
    ("ocr", cascade.Verifier((anls.Verifier(),))),
    ("multi_select", cascade.Verifier((multi_select.Verifier(),))),
    ("ordering", cascade.Verifier((ordering.Verifier(),))),
    ("key_value", cascade.Verifier((key_value.Verifier(),))),
    ("rubric", cascade.Verifier((rubric.Verifier(),))),
    ("instructions", cascade.Verifier((instructions.Verifier(),))),
)


@dataclass(frozen=True)
class Router(Spec):
    """Gives each pair to the cascade of its task.

    Raises:
        VerifyError: A task stands there twice.
    """

    routes: tuple[Route, ...] = TABLE
    """The cascade of each task. Its verifiers are part of the identity of a recipe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name for name, _ in self.routes]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise VerifyError(f"{self.name}: the task {min(twice)!r} stands there twice. Keep one.")

    def override(self, task: str, *verifiers: base.Verifier) -> "Router":
        """The same table with other verifiers for one task, which may be a new one.

        Args:
            task: The name of the task.
            verifiers: Its verifiers, in the order in which they are asked.
        """
        # The new route goes last; the order of routes means nothing but to the identity.
        kept = tuple(route for route in self.routes if route[0] != task)
        return Router((*kept, (task, cascade.Verifier(verifiers))))

    def cascade_of(self, task: str) -> cascade.Verifier:
        """The cascade of a task. Raises VerifyError for one that is not in the table."""

        for name, found in self.routes:
            if name == task:
                return found

        known = ", ".join(name for name, _ in self.routes)
        raise VerifyError(
            f"{task!r} is not a task. The tasks are {known}; "
            f"add one with tasks.STANDARD.override({task!r}, verifier)."
        )

    def verify(self, pair: AnswerPair) -> Verdict:
        """The verdict on one pair, by the cascade of its task."""
        return self.cascade_of(pair.task).verify(pair)

    def verify_many(self, pairs: Sequence[AnswerPair]) -> list[Verdict]:
        """The verdicts on many pairs, in order."""
        return [self.verify(pair) for pair in pairs]

    def explain(self, pair: AnswerPair) -> list[Step]:
        """How the verdict on a pair comes about (see `cascade.Verifier.explain`)."""
        return self.cascade_of(pair.task).explain(pair)


STANDARD = Router()
"""The default table."""
