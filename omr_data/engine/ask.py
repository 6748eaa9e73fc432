"""Asking a teacher: only for what the store does not hold, in batches that are the same on every run.

Requests are cut into batches of `teacher.batch` questions over the whole input, before anything stored is left out. So
after a crash a batch is asked whole or not at all, and a teacher whose text depends on its batch still draws the same.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path

from omr_data.errors import IncompleteError, TeacherError
from omr_data.progress import Bar, Reporter
from omr_data.step import AskStep
from omr_data.store.rollouts import RolloutStore
from omr_data.store.shards import read_records
from omr_data.store.workspace import Workspace
from omr_data.teacher import Answers, Budget, Failure, Request, Session


def wanted(
    step: AskStep, shards: Sequence[Path], store: RolloutStore | None
) -> Iterator[list[Request]]:
    """Batches of requests with the attempts that are not settled yet; batches with none are left out.

    Questions with equal requests (same words, same images) are one request: they share their answers.
    """
    requests = _distinct(step, shards)
    while batch := list(islice(requests, step.get_teacher().batch)):
        settled = store.settled([request.key for request in batch]) if store else {}
        left = [_without(request, settled.get(request.key, set())) for request in batch]
        if asked := [request for request in left if request.attempts]:
            yield asked


def count_wanted(step: AskStep, shards: Sequence[Path], rollouts: Path) -> int:
    """How many attempts have to be asked. Reads the input's records and the store's keys."""
    with open_store(rollouts) as store:
        return sum(
            len(request.attempts) for batch in wanted(step, shards, store) for request in batch
        )


def open_store(rollouts: Path) -> AbstractContextManager[RolloutStore | None]:
    """The store to read, or None where there is none yet."""
    return RolloutStore.read(rollouts) if RolloutStore.is_there(rollouts) else nullcontext()


def ask_teacher(
    step: AskStep,
    shards: Sequence[Path],
    workspace: Workspace,
    workers: int,
    reporter: Reporter,
    budget: Budget,
) -> None:
    """Asks for everything that is not settled, and stores each answer as it comes.

    Raises:
        IncompleteError: the budget is spent, or some attempts failed in a way that may pass. All answers are stored.
        TeacherError: the teacher cannot answer, or left a request out.
    """
    total = count_wanted(step, shards, workspace.rollouts)
    if not total:
        return
    with (
        RolloutStore.write(workspace.rollouts) as store,
        step.get_teacher()
        .kept_in(workspace.root)
        .open(workers, workspace.images, budget) as session,
        reporter.bar(f"asking {step.get_teacher().model_id}", total, "answers") as bar,
    ):
        returned, failed = _ask(session, wanted(step, shards, store), store, bar, budget, total)
    for kind, retriable in sorted(failed):
        count = failed[kind, retriable]
        reporter.say(
            f"  {count:,} attempts failed: {kind}{'' if retriable else ', and will not be asked again'}"
        )
    again = sum(count for (_, retriable), count in failed.items() if retriable)
    if returned != total and budget.reached:
        raise IncompleteError(
            f"paused: the budget is spent ({budget.sent:,} requests, ${budget.spent:,.2f}), with {total - returned:,} of {total:,} attempts "
            "to ask. Every answer is stored: the same command with a new budget goes on from here."
        )
    if returned != total:
        raise TeacherError(
            f"the teacher gave {returned:,} answers and failures for {total:,} attempts. Each attempt must come back once."
        )
    if again:
        raise IncompleteError(
            f"{again:,} of {total:,} attempts got no answer, and may succeed later. "
            "Every answer is stored: the same command asks again for exactly the missing ones."
        )


def _ask(
    session: Session,
    batches: Iterator[list[Request]],
    store: RolloutStore,
    bar: Bar,
    budget: Budget,
    total: int,
) -> tuple[int, Counter[tuple[str, bool]]]:
    """How many attempts came back, and how many of them failed, by kind and by whether they may be asked again."""
    returned, before = 0, budget.spent
    failed: Counter[tuple[str, bool]] = Counter()
    for answers in session.answer(batches):
        store.put(answers)
        returned += (group := _count(answers))
        failed.update(
            (result.kind, result.retriable)
            for _, results in answers
            for result in results
            if isinstance(result, Failure)
        )
        notes = [
            f"{failed.total():,} failed" if failed else "",
            session.note(),
            _cost(budget.spent - before, returned - failed.total(), total),
        ]
        bar.advance(group, ", ".join(note for note in notes if note))
    return returned, failed


def _cost(spent: float, answered: int, total: int) -> str:
    """Dollars so far, and what all of it will have cost at the mean so far."""
    return (
        f"${spent:,.2f} of about ${spent / answered * total:,.2f}" if spent and answered > 0 else ""
    )


def _count(answers: Answers) -> int:
    """Results of attempts that were asked for: one that was paid for earlier may come with others, which are stored as well."""
    return sum(
        result.attempt in request.attempts for request, results in answers for result in results
    )


def _distinct(step: AskStep, shards: Sequence[Path]) -> Iterator[Request]:
    seen: set[bytes] = set()
    for shard in shards:
        for record in read_records(shard):
            for request in step.requests(record):
                key = bytes.fromhex(request.key)
                if key not in seen:
                    seen.add(key)
                    yield request


def _without(request: Request, settled: set[int]) -> Request:
    return replace(
        request, attempts=tuple(attempt for attempt in request.attempts if attempt not in settled)
    )
