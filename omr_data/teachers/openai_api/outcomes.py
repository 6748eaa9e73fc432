"""What a reply does to the run: results, another try, a slower endpoint, or the end.

What a status means is `omr_data.http.meaning`; what a choice means is `replies.judge`; when the run
stops is `stops.StopRules`.
"""

import time
from collections.abc import Sequence

from omr_data.http import Meaning, meaning, shown_url
from omr_data.records import Response
from omr_data.teacher import AttemptStatus, Budget, Failure
from omr_data.teachers.openai_api.pending import PendingQueue, PendingRequest, Try
from omr_data.teachers.openai_api.replies import failure, read_reply
from omr_data.teachers.openai_api.settings import ServedModel
from omr_data.teachers.openai_api.stops import Result, StopRules

TURNS = 5
"""A request may be turned away (429, 503) this many times as often as it may fail, as long as
others are answered. The request is not at fault when it shares a busy server."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a request is tried again: doubled with each try."""


class Outcomes:
    """Acts on what came of each try. `results` is what the client hands over."""

    def __init__(
        self, teacher: ServedModel, budget: Budget, rules: StopRules, queue: PendingQueue
    ) -> None:
        """Starts without results.

        Args:
            teacher: The model, its prices and its limits.
            budget: Is settled for each try.
            rules: Decide when the run stops.
            queue: Takes what is to be asked again.
        """
        self.results: list[Result] = []
        self.tokens = 0
        """Tokens of all answers so far."""
        self._teacher, self._budget, self._rules, self._queue = teacher, budget, rules, queue

    def replied(self, sent: Try, raw: bytes, status: int) -> None:
        """Acts on a 2xx reply: good choices are handed over, and only the missing asked again.

        Args:
            sent: The try.
            raw: The body.
            status: The HTTP status.
        """
        job, endpoint, now = sent.job, sent.endpoint, time.monotonic()
        reply = read_reply(raw, self._teacher, job.request.key, job.attempts, now - sent.sent)
        # A try without usage may have cost all that was reserved for it.
        cost = sent.reserved
        if reply.usage is not None:
            cost = self._teacher.dollars(reply.usage)
        self._budget.settle(sent.reserved, cost)
        if self._budget.usd is not None and reply.usage is not None:
            self._rules.contradicts_budget(reply.usage, job.most)
        endpoint.succeeded(now)
        if reply.fault:
            self._rules.paid_without_answer(reply.fault)
            self._again(job, job.attempts, reply.fault, reply.detail, status)
            return
        if reply.responses:
            self.results += self._rules.answer_came()
            self.results.append((job.request, list(reply.responses)))
            self.tokens += sum(response.completion_tokens for response in reply.responses)
        self._failed_choices(job, reply.failures, bool(reply.responses))
        # Split because of a refusal, and answered alone: so it was n that was refused.
        if job.alone and endpoint.several is None:
            endpoint.several = False
        elif len(job.attempts) > 1:
            endpoint.several = reply.choices == len(job.attempts)
            # Nothing failed here, so these are no tries.
            missing = job.attempts[reply.choices :]
            self._queue.add(job.only([attempt], self._teacher) for attempt in missing)

    def _failed_choices(
        self, job: PendingRequest, failures: Sequence[Failure], has_answers: bool
    ) -> None:
        settled = [one for one in failures if one.status.settled]
        if settled:
            # The filter or the tools are of this request: it says nothing about the server.
            self.results.append((job.request, [*settled]))
        failed = [one for one in failures if not one.status.settled]
        if not has_answers and not settled:
            kinds = [one.kind for one in failed]
            self._rules.paid_without_answer(kinds[0] if kinds else "no choices")
        # Each is asked again alone: its neighbors are stored already.
        for one in failed:
            self._again(job, (one.attempt,), one.kind, one.detail, one.http_status)

    def refused(
        self, sent: Try, status: int, raw: bytes, asked: float | None, location: str
    ) -> None:
        """Acts on a reply that is not 2xx.

        Args:
            sent: The try.
            status: The HTTP status.
            raw: The body.
            asked: Seconds of Retry-After, if it was sent.
            location: Where a redirect leads. Empty for other statuses.
        """
        job, endpoint, now = sent.job, sent.endpoint, time.monotonic()
        words = self._rules.redacted(raw[:500].decode("utf-8", "replace"))
        found = meaning(status, raw)
        # A gateway that gave up (500, 502, 504) may have let the model finish. Nobody charges for
        # what was turned away.
        is_charged = status >= 500 and status not in (503, 529)
        self._budget.settle(sent.reserved, sent.reserved * is_charged)
        if found is Meaning.BUSY:
            self._turned_away(sent, status, words, asked)
        elif found is Meaning.BROKEN:
            endpoint.failed(now, sent.sent, f"{status} {words}")
            self._again(job, job.attempts, "server error", words, status)
        elif found is Meaning.ACCESS:
            if location:
                words = f"it redirects to {shown_url(location)}. {words}"
            self._rules.denied(endpoint, status, words)
            self._settle(job, AttemptStatus.FAILED, "refused access", words, status)
        elif len(job.attempts) > 1:
            # Either this server takes no n, or this question cannot be answered: asking one by one
            # tells which.
            self._queue.add_first(job.one_by_one(self._teacher))
        elif found is Meaning.POLICY:
            self._settle(job, AttemptStatus.REFUSED, "content filter", words, status)
        else:
            failures = self._failures(job, AttemptStatus.REJECTED, "rejected", words, status)
            self.results += self._rules.rejected((job.request, failures), status, words)
        if found in (Meaning.BUSY, Meaning.BROKEN):
            self._rules.endpoint_failed(now)

    def _turned_away(self, sent: Try, status: int, words: str, asked: float | None) -> None:
        """Acts on a server that has too much to do, or says that it is away."""
        job, endpoint, now = sent.job, sent.endpoint, time.monotonic()
        # Without Retry-After the pauses grow by themselves.
        if status in (429, 503):
            endpoint.too_much(now, sent.sent, asked, f"{status} {words}")
        else:
            endpoint.failed(now, sent.sent, f"{status} {words}")
        # While nothing is answered the endpoint is away, which is waited for. When others are
        # answered meanwhile, it may be this request that is too much.
        job.turned_away += endpoint.answered_at > sent.sent
        if job.turned_away >= TURNS * self._teacher.tries:
            kind = "rate limited" if status == 429 else "server error"
            self._settle(job, AttemptStatus.FAILED, kind, words, status)
        else:
            self._put_back(job, asked)

    def faulted(self, sent: Try, kind: str, detail: str, gone: bool = False) -> None:
        """Acts on a request without a whole reply.

        Args:
            sent: The try.
            kind: A short word for counting.
            detail: What happened.
            gone: Whether the server could not be reached at all.
        """
        job, now = sent.job, time.monotonic()
        detail = self._rules.redacted(detail)
        # Nothing was sent to a server that could not be reached, so it costs nothing.
        self._budget.settle(sent.reserved, sent.reserved * (not gone))
        # A reset may be the fault of this request, so it counts as a try below.
        sent.endpoint.failed(now, sent.sent, f"{kind}: {detail}", gone)
        if gone:
            self._put_back(job)
        else:
            self._again(job, job.attempts, kind, detail, 0)
        self._rules.endpoint_failed(now)

    def _again(
        self, job: PendingRequest, attempts: Sequence[int], kind: str, detail: str, status: int
    ) -> None:
        """Puts attempts back, or gives them up after their last try."""
        job = job.only(attempts, self._teacher)
        job.tries += 1
        if job.tries >= self._teacher.tries:
            self._settle(job, AttemptStatus.FAILED, kind, detail, status)
        else:
            self._put_back(job)

    def _put_back(self, job: PendingRequest, asked: float | None = None) -> None:
        # The run ends: what is not sent now comes back in the next one.
        if self._rules.fatal:
            return
        if asked is None:
            # Bounded, because 2 to the power of thousands is not a number of seconds.
            tried = min(16, job.tries + job.turned_away)
            asked = min(LONGEST_PAUSE, FIRST_PAUSE * 2**tried)
        self._queue.add_later(job, asked)

    def _settle(
        self, job: PendingRequest, status: AttemptStatus, kind: str, detail: str, http_status: int
    ) -> None:
        self.results.append((job.request, self._failures(job, status, kind, detail, http_status)))

    def _failures(
        self, job: PendingRequest, status: AttemptStatus, kind: str, detail: str, http_status: int
    ) -> list[Response | Failure]:
        words = self._rules.redacted(detail)
        tries = max(job.tries, 1)
        return [failure(one, status, kind, words, http_status, tries) for one in job.attempts]
