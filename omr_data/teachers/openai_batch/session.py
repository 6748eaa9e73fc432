"""Buys batches, waits for them, and hands over what came back.

**Bought**: a batch that was paid for, by this process or by one before it; a line of it is **claimed** by the question of this
run that wants it. Lines that nobody claims stay in the journal. A batch is collected when all its lines are claimed, or
when no more questions are to come.

A request for several answers that is refused, and answers that are missing from one, are asked for one by one in a later
batch: only the refusal of a single answer says something about the question.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from openai.types import Batch as Remote

from omr_data.errors import TeacherError
from omr_data.records import Response
from omr_data.store.atomic import atomic_path
from omr_data.teacher import Answers, Batch, Budget, Failure, ReadImage, Request
from omr_data.teachers.openai_api.wire import runs
from omr_data.teachers.openai_batch.journal import BatchJournal, Entry
from omr_data.teachers.openai_batch.lines import (
    BatchLine,
    Results,
    custom_id,
    failures,
    parse_line,
    read_line,
    write_line,
)
from omr_data.teachers.openai_batch.provider import FINAL, Provider

if TYPE_CHECKING:
    from omr_data.teachers.openai_batch import Teacher

GROUP = 512
"""Requests whose answers are handed over, and committed, at once."""
TOO_MANY_TOKENS = "token_limit_exceeded"
"""What a provider says of a batch when too much of the account is waiting already. It passes as other batches end."""


@dataclass(slots=True)
class Load:
    """What this run put into a batch: lines, bytes, attempts, and the US dollars that they cost at most."""

    lines: list[BatchLine] = field(default_factory=list)
    size: int = 0
    attempts: int = 0
    most: float = 0.0


@dataclass(slots=True, eq=False)
class Bought:
    """A batch with its claimed lines by name. One from an earlier run has no load: it was paid for then."""

    entry: Entry
    claimed: dict[str, BatchLine] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    remote: Remote | None = None
    alone: bool = False
    """Whether no other batch of this run was under way at any time since it was bought."""

    @property
    def final(self) -> bool:
        """Whether the provider is done with it."""
        return self.remote is not None and self.remote.status in FINAL


class BatchSession:
    """A run of questions: the flow's Session over one account."""

    def __init__(
        self,
        teacher: "Teacher",
        provider: Provider,
        journal: BatchJournal,
        read_image: ReadImage,
        budget: Budget,
    ) -> None:
        self._teacher, self._provider, self._journal, self._read_image, self._budget = (
            teacher,
            provider,
            journal,
            read_image,
            budget,
        )
        self._bought: list[Bought] = []
        self._of_key: dict[str, list[tuple[tuple[int, ...], Bought]]] = {}
        self._again: deque[BatchLine] = deque()
        self._drained = False
        self._at_once, self._samples = teacher.batches_at_once, teacher.samples_per_request
        self._answered, self._spent = 0, 0.0

    def note(self) -> str:
        """How many batches are under way, and how far the provider is with them."""
        busy = self._busy()
        counts = [
            bought.remote.request_counts
            for bought in busy
            if bought.remote and bought.remote.request_counts
        ]
        done, total = (
            sum(count.completed + count.failed for count in counts),
            sum(len(bought.entry.lines) for bought in busy),
        )
        return (
            f"{len(busy):,} batch{'es' if len(busy) > 1 else ''}, {done:,} of {total:,} requests done"
            if busy
            else ""
        )

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Raises TeacherError when the provider refuses a batch or cannot be reached; what came before is given first.

        An empty group comes after each look at the provider, so that a person sees something in the hours between.
        """
        self._recall()
        lines = self._lines(batches)
        while True:
            while len(self._busy()) < self._at_once and (load := self._compose(lines)).lines:
                self._buy(load)
            for bought in self._busy():
                assert bought.entry.batch is not None  # _recall and _buy saw to it
                bought.remote = self._provider.look(bought.entry.batch, bought.entry.path)
            yield []
            ready = [
                bought
                for bought in self._bought
                if bought.final and (self._drained or self._whole(bought))
            ]
            for bought in ready:
                yield from self._collect(bought)
            if (
                self._drained
                and not self._again
                and not any(bought.claimed for bought in self._bought)
            ):
                return
            if not ready:
                time.sleep(self._provider.poll)

    def _busy(self) -> list[Bought]:
        return [bought for bought in self._bought if bought.claimed and not bought.final]

    def _whole(self, bought: Bought) -> bool:
        return len(bought.claimed) == len(bought.entry.lines)

    # ------------------------------------------------------------------------------------------- asking

    def _recall(self) -> None:
        """Finds the batches of earlier runs again, and forgets what never became one."""
        for entry in self._journal.entries():
            if entry.url == self._provider.url and entry.batch is None:
                # A list may lag a little behind what was just made.
                time.sleep(max(0.0, self._provider.poll - entry.age(time.time())))
                found = self._provider.find(entry.file)
                entry = replace(entry, batch=found.id) if found else replace(entry, lines=())
                self._journal.write(entry)
            bought = Bought(entry)
            self._bought.append(bought)
            for key, first, count in entry.lines:
                self._of_key.setdefault(key, []).append(
                    (tuple(range(first, first + count)), bought)
                )

    def _lines(self, batches: Iterator[Batch]) -> Iterator[BatchLine]:
        """The lines that are not under way yet; those that are get claimed in passing."""
        for batch in batches:
            for request in batch:
                covered: set[int] = set()
                for attempts, bought in self._of_key.pop(request.key, []):
                    if not covered.issuperset(attempts) and not set(request.attempts).isdisjoint(
                        attempts
                    ):
                        self._claim(bought, BatchLine(request, attempts))
                        covered.update(attempts)
                left = tuple(attempt for attempt in request.attempts if attempt not in covered)
                yield from (BatchLine(request, run) for run in runs(left, self._samples) if run)

    def _claim(self, bought: Bought, line: BatchLine) -> None:
        if bought.entry.url != self._provider.url:
            raise TeacherError(
                f"{len(bought.entry.lines):,} requests of this build are under way at {bought.entry.url}, and paid for. Set the URL to it "
                f"to collect them. To give them up and ask {self._provider.url} instead, delete {bought.entry.path}."
            )
        bought.claimed[line.id] = line

    def _compose(self, lines: Iterator[BatchLine]) -> Load:
        """The lines of the next batch, and their bytes in a file; none where the budget has no room, or nothing is left."""
        load = Load()
        with atomic_path(self._journal.draft()) as path, open(path, "wb") as file:
            while (
                len(load.lines) < self._teacher.requests_per_file
                and (line := self._next(lines)) is not None
            ):
                room = self._budget.room(self._expected(load))
                raw = write_line(self._teacher, line, self._read_image) if room else b""
                if not room or (load.lines and load.size + len(raw) > self._teacher.bytes_per_file):
                    self._again.appendleft(line)
                    break
                file.write(raw)
                self._budget.sent += 1
                load.lines.append(line)
                load.size += len(raw)
                load.attempts += len(line.attempts)
                load.most += self._teacher.most(line.request, len(line.attempts))
        if not load.lines:
            self._journal.draft().unlink()
            if self._again and not any(bought.load.lines for bought in self._bought):
                self._give_up(lines)
        return load

    def _next(self, lines: Iterator[BatchLine]) -> BatchLine | None:
        if self._again:
            return self._again.popleft()
        line = next(lines, None)
        self._drained |= line is None
        return line

    def _give_up(self, lines: Iterator[BatchLine]) -> None:
        """The budget is spent. What is left is gone through once more: earlier batches may hold some of it."""
        self._budget.allows()
        self._again.clear()
        for _ in lines:
            pass
        self._drained = True

    def _expected(self, load: Load) -> float:
        """US dollars on their way: at the mean of this run's answers, or the most it can be while there are none."""
        loads = [load, *(bought.load for bought in self._bought)]
        if self._answered:
            return self._spent / self._answered * sum(one.attempts for one in loads)
        return sum(one.most for one in loads)

    def _buy(self, load: Load) -> None:
        """Uploads the file, writes down what is about to be bought, and buys it. The order is what a kill cannot break."""
        draft = self._journal.draft()
        file = self._provider.upload(draft)
        draft.unlink()
        bought_lines = tuple(
            (line.request.key, line.attempts[0], len(line.attempts)) for line in load.lines
        )
        entry = Entry(self._journal.new_path(), self._provider.url, file, None, bought_lines)
        self._journal.write(entry)
        entry = replace(entry, batch=self._provider.make(file).id)
        self._journal.write(entry)
        others = self._busy()
        for other in others:
            other.alone = False
        self._bought.append(
            Bought(entry, {line.id: line for line in load.lines}, load, alone=not others)
        )

    # --------------------------------------------------------------------------------------- collecting

    def _collect(self, bought: Bought) -> Iterator[Answers]:
        """Everything that came of a batch; its entry goes once all of it is committed."""
        remote = bought.remote
        assert remote is not None  # it is final
        self._bought.remove(bought)
        if (
            remote.status == "failed"
            and remote.output_file_id is None
            and remote.error_file_id is None
        ):
            self._failed(bought, remote)
            return
        names = set(bought.claimed)
        group: list[tuple[Request, Sequence[Response | Failure]]] = []
        for line, answer in self._answers(bought, remote):
            if results := self._read(line, answer, _seconds(remote)):
                group.append((line.request, results))
            if len(group) == GROUP:
                yield group
                group = []
        kind = remote.status if remote.status in ("expired", "cancelled") else "no answer"
        detail = f"the batch {remote.id} is {remote.status}, and holds no answer to this request"
        group += [(line.request, failures(line, kind, detail)) for line in bought.claimed.values()]
        yield group
        left = tuple(
            (key, first, count)
            for key, first, count in bought.entry.lines
            if custom_id(key, first) not in names
        )
        self._journal.write(replace(bought.entry, lines=left))

    def _answers(
        self, bought: Bought, remote: Remote
    ) -> Iterator[tuple[BatchLine, dict[str, Any]]]:
        """The claimed lines with what the output files say, each once."""
        path = self._journal.draft()
        for file in (remote.output_file_id, remote.error_file_id):
            if file is None:
                continue
            self._provider.download(file, path, bought.entry.path)
            with open(path, "rb") as stream:
                for raw in stream:
                    answer = parse_line(raw)
                    line = bought.claimed.pop(str(answer.get("custom_id")), None)
                    if line is not None:
                        yield line, answer
            path.unlink()

    def _read(self, line: BatchLine, answer: dict[str, Any], seconds: float) -> Results:
        """The results of one line, paid for; attempts without one go into a later batch."""
        results = read_line(line, answer, self._teacher.model, seconds)
        responses = [result for result in results if isinstance(result, Response)]
        cost = self._teacher.cost(responses)
        self._budget.spent += cost
        self._spent += cost
        self._answered += len(responses)
        if len(responses) == len(results) < len(line.attempts):
            self._samples = 1 if responses else self._samples
            missing = line.attempts[len(responses) :]
            self._again.extend(
                BatchLine(line.request, (attempt,))
                for attempt in missing
                if attempt in line.request.attempts
            )
        return results

    def _failed(self, bought: Bought, remote: Remote) -> None:
        """A batch that was refused whole, which costs nothing. Raises TeacherError unless waiting mends it."""
        errors = (remote.errors.data if remote.errors else None) or []
        self._journal.write(replace(bought.entry, lines=()))
        if not bought.alone and any(error.code == TOO_MANY_TOKENS for error in errors):
            self._at_once = max(1, len(self._busy()))
            self._again.extend(bought.claimed.values())
            return
        shown = (
            "; ".join(f"line {error.line}: {error.code}: {error.message}" for error in errors[:3])
            or "no reason is given"
        )
        raise TeacherError(
            f"{self._provider.url} refused the batch {remote.id} of {len(bought.entry.lines):,} requests to {self._teacher.model}, "
            f"and nothing of it was paid for ({len(errors):,} errors). {shown[:600]}. Mend the teacher's fields, or lower "
            "requests_per_file if it is too much at once. Other batches go on, and the same command collects them."
        )


def _seconds(remote: Remote) -> float:
    ended = remote.completed_at or remote.expired_at or remote.cancelled_at or remote.created_at
    return float(max(0, ended - remote.created_at))
