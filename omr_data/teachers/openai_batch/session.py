"""Buys batches, waits for them, and hands over what came back.

A `Bought` batch was paid for, by this process or by one before it. A line of it is claimed by the
question of this run that wants it. Lines that nobody claims stay in the journal. A batch is
collected when all its lines are claimed, or when no more questions are to come.

A request for several answers that is refused, and answers that are missing from one, are asked for
one by one in a later batch: only the refusal of a single answer says something about the question.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from openai.types import Batch as Remote

from omr_data.errors import TeacherError
from omr_data.http import shown_url
from omr_data.records import Response
from omr_data.store.atomic import atomic_path
from omr_data.teacher import Answers, Batch, Budget, Failure, ReadImage, Request
from omr_data.teachers.openai_api.wire import runs
from omr_data.teachers.openai_batch.bought import Bought, Load
from omr_data.teachers.openai_batch.journal import BatchJournal, Entry
from omr_data.teachers.openai_batch.lines import (
    BatchLine,
    LineResult,
    custom_id,
    failures,
    parse_line,
    read_line,
    write_line,
)
from omr_data.teachers.openai_batch.provider import KEPT, Provider
from omr_data.teachers.openai_batch.settings import BatchModel

GROUP = 512
"""Requests whose answers are handed over, and committed, at once."""
TOO_MANY_TOKENS = "token_limit_exceeded"
"""A provider says so of a batch when too much of the account waits. It passes as batches end."""


class BatchSession:
    """A run of questions: `teacher.Session` over one account."""

    def __init__(
        self,
        teacher: BatchModel,
        provider: Provider,
        journal: BatchJournal,
        read_image: ReadImage,
        budget: Budget,
    ) -> None:
        self._teacher, self._provider, self._journal = teacher, provider, journal
        self._read_image, self._budget = read_image, budget
        self._bought: list[Bought] = []
        self._of_key: dict[str, list[tuple[tuple[int, ...], Bought]]] = {}
        self._again: deque[BatchLine] = deque()
        self._drained = False
        self._at_once, self._samples = teacher.batches_at_once, teacher.samples_per_request

    def note(self) -> str:
        """How many batches are under way, and how far the provider is with them."""
        busy = self._busy()
        if not busy:
            return ""
        done = sum(bought.done for bought in busy)
        total = sum(len(bought.entry.lines) for bought in busy)
        batches = "batches" if len(busy) > 1 else "batch"
        return f"{len(busy):,} {batches}, {done:,} of {total:,} requests done"

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Yields answers as batches end.

        An empty group comes after each look at the provider, so that a person sees something in the
        hours between.

        Raises:
            TeacherError: The provider refuses a batch or cannot be reached. What came before is
                given first.
        """
        self._recall()
        lines = self._lines(batches)
        # Buying comes before looking, so that the provider works while this process waits.
        while True:
            while len(self._busy()) < self._at_once and (load := self._compose(lines)).lines:
                self._buy(load)
            for bought in self._busy():
                assert bought.entry.batch is not None  # _recall and _buy saw to it
                bought.remote = self._provider.look(bought.entry.batch, bought.entry.path)
                if bought.has_ended and bought.ended_at is None:
                    bought.ended_at = time.monotonic()
            yield []
            # Lines that nobody claims yet may be wanted by questions that are still to come.
            ready = [
                one
                for one in self._bought
                if self._can_collect(one)
                and (self._drained or len(one.claimed) == len(one.entry.lines))
            ]
            for bought in ready:
                yield from self._collect(bought)
            is_waiting = any(bought.claimed for bought in self._bought)
            if self._drained and not self._again and not is_waiting:
                return
            if not ready:
                time.sleep(self._provider.poll)

    def _busy(self) -> list[Bought]:
        return [one for one in self._bought if one.claimed and not self._can_collect(one)]

    def _can_collect(self, bought: Bought) -> bool:
        if bought.has_files():
            return True
        if bought.ended_at is None:
            return False
        # Its files never came: what it asked for is a failure then, and asked again.
        return time.monotonic() - bought.ended_at > self._provider.outage

    # ------------------------------------------------------------------------------- asking

    def _recall(self) -> None:
        """Finds the batches of earlier runs again, and forgets what never became one."""
        for entry in self._journal.entries():
            if self._is_ours(entry) and entry.batch is None:
                # A list may lag a little behind what was just made.
                time.sleep(max(0.0, self._provider.poll - entry.age(time.time())))
                found = self._provider.find(entry.file)
                if found is None:
                    entry = replace(entry, lines=())
                else:
                    entry = replace(entry, batch=found.id)
                self._journal.write(entry)
            # Entries of other providers stay in view: their questions must not be bought twice.
            bought = Bought(entry)
            self._bought.append(bought)
            for key, first, count in entry.lines:
                attempts = tuple(range(first, first + count))
                self._of_key.setdefault(key, []).append((attempts, bought))

    def _is_ours(self, entry: Entry) -> bool:
        return shown_url(entry.url) == self._provider.name

    def _lines(self, batches: Iterator[Batch]) -> Iterator[BatchLine]:
        """Yields the lines that are not under way yet; those that are get claimed in passing."""
        for batch in batches:
            for request in batch:
                covered = self._claim_bought(request)
                left = tuple(one for one in request.attempts if one not in covered)
                for run in runs(left, self._samples):
                    if run:
                        yield BatchLine(request, run)

    def _claim_bought(self, request: Request) -> set[int]:
        """Claims what was bought of a question, and returns those attempts."""
        covered: set[int] = set()
        for attempts, bought in self._of_key.pop(request.key, []):
            is_wanted = not set(request.attempts).isdisjoint(attempts)
            if not is_wanted or covered.issuperset(attempts):
                continue
            if not self._is_ours(bought.entry):
                raise TeacherError(
                    f"{len(bought.entry.lines):,} requests of this build are under way at "
                    f"{shown_url(bought.entry.url)}, and paid for. Set the URL to it to collect "
                    f"them. To give them up and ask {self._provider.name} instead, delete "
                    f"{bought.entry.path}."
                )
            line = BatchLine(request, attempts)
            bought.claimed[line.id] = line
            covered.update(attempts)
        return covered

    def _compose(self, lines: Iterator[BatchLine]) -> Load:
        """The lines of the next batch, and their bytes in a file.

        None where the budget has no room, or nothing is left.
        """
        load = Load()
        most_lines = self._teacher.requests_per_file
        with atomic_path(self._journal.draft()) as path, open(path, "wb") as file:
            while len(load.lines) < most_lines:
                # What came back from a batch goes first: its question is half answered.
                line = self._again.popleft() if self._again else next(lines, None)
                if line is None:
                    self._drained = True
                    break
                raw = write_line(self._teacher, line, self._read_image)
                # A single line over the limit was refused above.
                is_full = load.lines and load.size + len(raw) > self._teacher.bytes_per_file
                bound = self._teacher.usage_at_most(line.request, len(line.attempts))
                reserved = self._teacher.dollars(bound)
                if is_full or not self._budget.reserve(reserved):
                    self._again.appendleft(line)
                    break
                file.write(raw)
                load.lines.append(line)
                load.size += len(raw)
                load.reserved[line.id] = reserved
        if not load.lines:
            self._journal.draft().unlink()
            # What is under way may cost less than reserved, and make room for more.
            if self._again and not any(one.load.lines for one in self._bought):
                self._budget.pause()
                self._again.clear()
                # Gone through once more: earlier batches may hold some of what is left.
                for _ in lines:
                    pass
                self._drained = True
        return load

    def _buy(self, load: Load) -> None:
        """Uploads the file, writes down what is about to be bought, and buys it.

        The order is what a kill cannot break.
        """
        draft = self._journal.draft()
        file = self._provider.upload(draft)
        draft.unlink()
        bought_lines = tuple(
            (line.request.key, line.attempts[0], len(line.attempts)) for line in load.lines
        )
        path = self._journal.new_path()
        entry = Entry(path, self._provider.name, file, None, bought_lines)
        self._journal.write(entry)
        entry = replace(entry, batch=self._provider.make(file).id)
        self._journal.write(entry)
        # Whether "too much is waiting" can pass depends on who else was waiting.
        others = self._busy()
        for other in others:
            other.alone = False
        claimed = {line.id: line for line in load.lines}
        self._bought.append(Bought(entry, claimed, load, alone=not others))

    # --------------------------------------------------------------------------- collecting

    def _collect(self, bought: Bought) -> Iterator[Answers]:
        """Yields everything that came of a batch; its entry goes once all of it is committed."""
        remote = bought.remote
        assert remote is not None  # it has ended
        self._bought.remove(bought)
        has_files = remote.output_file_id or remote.error_file_id
        if remote.status == "failed" and not has_files:
            self._failed(bought, remote)
            return
        # Taken before reading: reading empties the claims.
        names = set(bought.claimed)
        group: list[tuple[Request, Sequence[Response | Failure]]] = []
        contradiction: TeacherError | None = None
        for line, answer in self._answers(bought, remote):
            result = read_line(line, answer, self._teacher, bought.seconds)
            contradiction = self._settle(bought, line, result) or contradiction
            if result.results:
                group.append((line.request, result.results))
            if len(group) == GROUP:
                yield group
                group = []
        kind = "no answer"
        if remote.status in ("expired", "cancelled"):
            kind = remote.status
        detail = f"the batch {remote.id} is {remote.status}, and holds no answer to this request"
        for name, line in bought.claimed.items():
            # Providers do not charge for lines that they did not run.
            self._budget.settle(bought.load.reserved.pop(name, 0.0), 0.0)
            group.append((line.request, failures(line, kind, detail)))
        yield group
        left = tuple(
            (key, first, count)
            for key, first, count in bought.entry.lines
            if custom_id(key, first) not in names
        )
        self._journal.write(replace(bought.entry, lines=left))
        if contradiction is not None:
            raise contradiction

    def _answers(
        self, bought: Bought, remote: Remote
    ) -> Iterator[tuple[BatchLine, dict[str, Any]]]:
        """Yields the claimed lines with what the output files say, each once."""
        path = self._journal.draft()
        for file in (remote.output_file_id, remote.error_file_id):
            if file is None:
                continue
            self._provider.download(file, path, bought.entry.path)
            with open(path, "rb") as stream:
                for raw in stream:
                    answer = parse_line(raw)
                    # A line that appears twice, or that nobody claims, is passed over.
                    line = bought.claimed.pop(str(answer.get("custom_id")), None)
                    if line is not None:
                        yield line, answer
            path.unlink()

    def _settle(self, bought: Bought, line: BatchLine, result: LineResult) -> TeacherError | None:
        """Counts what a line cost, and puts its missing attempts into a later batch.

        Returns:
            An error where the provider used more than the line can use at most.
        """
        reserved = bought.load.reserved.pop(line.id, None)
        if reserved is None:
            cost, reserved = 0.0, 0.0  # an earlier run bought it, and paid for it then
        elif result.usage is not None:
            cost = self._teacher.dollars(result.usage)
        else:
            # A reply without usage may have cost all that was reserved.
            cost = reserved * result.was_run
        self._budget.settle(reserved, cost)
        if result.missing:
            # Some providers give one answer, however many are asked for.
            if not result.takes_several:
                self._samples = 1
            self._again.extend(BatchLine(line.request, (one,)) for one in result.missing)
        if self._budget.usd is None or cost <= reserved:
            return None
        return TeacherError(
            f"{self._provider.name} counts usage of ${cost:,.6f} for one request to "
            f"{self._teacher.model}, which can cost at most ${reserved:,.6f}. So no budget in "
            "dollars can be kept. Raise image_tokens_at_most, or run without --budget. "
            "Every answer so far is kept."
        )

    def _failed(self, bought: Bought, remote: Remote) -> None:
        """A batch that was refused whole, which costs nothing.

        Raises:
            TeacherError: Waiting does not mend it.
        """
        errors = (remote.errors and remote.errors.data) or []
        self._journal.write(replace(bought.entry, lines=()))
        for reserved in bought.load.reserved.values():
            self._budget.settle(reserved, 0.0)
        # It passes when other batches end, unless there are none.
        too_much = any(error.code == TOO_MANY_TOKENS for error in errors)
        if not bought.alone and too_much:
            self._at_once = max(1, len(self._busy()))
            self._again.extend(bought.claimed.values())
            return
        shown = "; ".join(f"line {one.line}: {one.code}: {one.message}" for one in errors[:3])
        raise TeacherError(
            f"{self._provider.name} refused the batch {remote.id} of "
            f"{len(bought.entry.lines):,} requests to {self._teacher.model}, and nothing of it was "
            f"paid for ({len(errors):,} errors). {shown[:600] or 'no reason is given'}. Mend the "
            f"teacher's fields, or lower requests_per_file if it is too much at once. {KEPT}"
        )
