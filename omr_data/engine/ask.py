"""Asking a teacher only for what the store does not hold, in the same batches on every run.

Requests are cut into batches of `teacher.batch` questions over the whole input, before anything
stored is left out. So after a crash a batch is asked whole or not at all, and a teacher whose text
depends on its batch still gives the same.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from omr_data.engine.requests import Wanted, iter_groups, read_requests, read_wanted
from omr_data.errors import IncompleteError, TeacherError
from omr_data.progress import Reporter
from omr_data.records import Response
from omr_data.step import AskStep
from omr_data.store.rollouts import RolloutStore
from omr_data.store.workspace import Workspace
from omr_data.teacher import Answers, AttemptStatus, Budget, Request
from omr_data.teachers.openai_api.replies import is_served_as_asked

Keyed = TypeVar("Keyed", Request, Wanted)

KEYS_AT_ONCE = 10_000
"""Keys that are looked up together while counting."""
MESSAGE = 200
"""Most characters of a server's message in a summary."""


def requests_of(step: AskStep, shards: Sequence[Path]) -> Iterator[Request]:
    """Yields the requests of some shards whose requests were not kept yet."""
    for shard in shards:
        for group in iter_groups(step, shard):
            yield from group


def unsettled(
    requests: Iterable[Request], batch_size: int, store: RolloutStore | None
) -> Iterator[list[Request]]:
    """Yields batches of requests with the attempts that are not settled yet.

    Questions with equal requests (same words, same images) are one request, and share their
    answers. Batches with nothing to ask are left out.

    Args:
        requests: All requests of the step, in order.
        batch_size: Questions in a batch.
        store: The store, or None where there is none yet.
    """
    distinct = _distinct(requests)
    while batch := list(islice(distinct, batch_size)):
        # One query per batch: a query per question would cost more than the answer's commit.
        settled = _settled(store, batch)
        asked = []
        for request in batch:
            done = settled.get(request.key, set())
            left = tuple(attempt for attempt in request.attempts if attempt not in done)
            if left:
                asked.append(replace(request, attempts=left))
        if asked:
            yield asked


def count_unsettled(wanted: Iterable[Wanted], store: RolloutStore | None) -> int:
    """Counts the attempts that have to be asked. Reads keys only.

    Args:
        wanted: Keys and attempts of the step, in order.
        store: The store, or None where there is none yet.
    """
    distinct = _distinct(wanted)
    count = 0
    while chunk := list(islice(distinct, KEYS_AT_ONCE)):
        settled = _settled(store, chunk)
        count += sum(len({*one.attempts} - settled.get(one.key, set())) for one in chunk)
    return count


def open_store(rollouts: Path) -> AbstractContextManager[RolloutStore | None]:
    """Opens the store for reading, or gives None where there is none yet."""
    # A plan must not make a store, and opening one for writing would.
    if RolloutStore.is_there(rollouts):
        return RolloutStore.read(rollouts)
    return nullcontext()


def ask_teacher(
    step: AskStep,
    tables: Sequence[Path],
    workspace: Workspace,
    workers: int,
    reporter: Reporter,
    budget: Budget,
) -> None:
    """Asks for everything that is not settled, and stores each answer as it comes.

    Args:
        step: The step that asks.
        tables: The requests of its input shards, as `make_requests` wrote them.
        workspace: Where rollouts and images are.
        workers: How many processes a local model may use.
        reporter: Where progress is shown.
        budget: What may be spent.

    Raises:
        IncompleteError: The budget is spent, or some attempts failed. All answers are stored.
        TeacherError: The teacher cannot answer, or left a request out.
    """
    # Counted before the teacher is opened: loading a model costs minutes, and nothing may be left.
    wanted = chain.from_iterable(map(read_wanted, tables))
    with open_store(workspace.rollouts) as store:
        total = count_unsettled(wanted, store)
    if not total:
        return
    teacher = step.get_teacher().kept_in(workspace.root)
    outcome = AskOutcome(total, teacher.model_id)
    # Read again and not kept: a million requests do not fit in memory.
    requests = chain.from_iterable(map(read_requests, tables))
    with (
        RolloutStore.write(workspace.rollouts) as store,
        teacher.open(workers, workspace.images, budget) as session,
        reporter.bar(f"asking {teacher.model_id}", total, "answers") as bar,
    ):
        try:
            before = budget.spent
            for answers in session.answer(unsettled(requests, teacher.batch, store)):
                # Stored before it is shown: what a person sees done is done.
                if answers:
                    store.put(answers)
                group = outcome.add(answers)
                bar.advance(group, outcome.note(session.note(), budget.spent - before))
        finally:
            # Said even when the run stops: why requests failed is what a person needs then.
            for line in outcome.lines(store.replaced):
                reporter.say(f"  {line}")
    outcome.check(budget)


@dataclass(slots=True)
class AskOutcome:
    """What came of the attempts of one run."""

    total: int
    """Attempts that were to be asked."""
    model: str
    """The model that was asked."""
    returned: int = 0
    """Wanted attempts that came back, answered or not."""
    failures: Counter[tuple[AttemptStatus, str]] = field(default_factory=Counter)
    """Attempts without an answer, by status and kind."""
    messages: dict[tuple[AttemptStatus, str], str] = field(default_factory=dict)
    """What the server said to the first of each."""
    served: Counter[str] = field(default_factory=Counter)
    """Answers by the model that the server says it served."""

    def add(self, answers: Answers) -> int:
        """Notes a group of answers, and returns how many wanted attempts it holds."""
        before = self.returned
        for request, results in answers:
            for result in results:
                # An attempt that an earlier run bought may come back with the wanted ones.
                self.returned += result.attempt in request.attempts
                if isinstance(result, Response):
                    self.served[result.model] += 1
                    continue
                kind = (result.status, result.kind)
                self.failures[kind] += 1
                self.messages.setdefault(kind, result.detail)
        return self.returned - before

    def note(self, said: str, spent: float) -> str:
        """What stands beside the progress.

        Args:
            said: What the session says of itself.
            spent: US dollars that this run has spent.
        """
        failed = self.failures.total()
        # The mean cost is that of an answer, and failures may have cost nothing.
        answered = self.returned - failed
        notes = [said]
        if failed:
            notes.insert(0, f"{failed:,} without an answer")
        if spent and answered > 0:
            notes.append(f"${spent:,.2f} of about ${spent / answered * self.total:,.2f}")
        return ", ".join(note for note in notes if note)

    def lines(self, replaced: int) -> Iterator[str]:
        """Yields what a person should know of the run, one line each.

        Args:
            replaced: Characters of answers that could not be stored.
        """
        for (status, kind), count in sorted(
            self.failures.items(), key=lambda item: (item[0][0].value, item[0][1])
        ):
            line = f"{count:,} attempts {status.value}: {kind}"
            if status.settled:
                line += ", and will not be asked again"
            # On one line: servers answer with whole pages of HTML.
            said = " ".join(self.messages[status, kind].split())[:MESSAGE]
            if said:
                line += f" ({said})"
            yield line
        # Answers of another model are kept unless the recipe names the accepted ones.
        for served, count in self.served.items():
            if not is_served_as_asked(self.model, served):
                yield (
                    f"{count:,} answers came from the model {served!r}, and {self.model!r} was "
                    "asked for. If that is another model, set served_as in the teacher and retry."
                )
        if replaced:
            yield f"{replaced:,} characters of answers could not be stored, and are U+FFFD now"

    def check(self, budget: Budget) -> None:
        """Raises when attempts are missing.

        Raises:
            IncompleteError: The budget is spent, or some attempts failed.
            TeacherError: The teacher did not give each attempt back.
        """
        # A pause is not a fault of the teacher, and says how to go on.
        if self.returned != self.total and budget.reached:
            raise IncompleteError(
                f"paused: the budget is spent ({budget.sent:,} requests, ${budget.spent:,.2f}), "
                f"with {self.total - self.returned:,} of {self.total:,} attempts to ask. Every "
                "answer is stored: the same command with a new budget goes on from here."
            )
        if self.returned != self.total:
            raise TeacherError(
                f"the teacher gave {self.returned:,} answers and failures for {self.total:,} "
                "attempts. Each attempt must come back once."
            )
        # Settled ones do not count here: how many a release may have is the step's own rule.
        failed = sum(count for (status, _), count in self.failures.items() if not status.settled)
        if failed:
            raise IncompleteError(
                f"{failed:,} of {self.total:,} attempts got no answer, and may succeed later. "
                "Every answer is stored: the same command asks again for exactly the missing ones. "
                "`omr rollouts failures` shows what the server said."
            )


def _distinct(items: Iterable[Keyed]) -> Iterator[Keyed]:
    """The first of each key. Keys are kept as 32 bytes: there may be a million of them."""
    seen: set[bytes] = set()
    for item in items:
        key = bytes.fromhex(item.key)
        if key not in seen:
            seen.add(key)
            yield item


def _settled(store: RolloutStore | None, items: Sequence[Keyed]) -> dict[str, set[int]]:
    """The attempts of some keys that need no asking."""
    if store is None:
        return {}
    return store.settled([item.key for item in items])
