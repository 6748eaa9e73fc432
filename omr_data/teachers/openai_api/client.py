"""Asks questions over HTTP, as fast as the servers allow, and gives up only on what cannot succeed.

A `PendingRequest` is one question with the attempts of one request. Pending requests wait in a
queue, are sent to the least loaded endpoint, and come back as responses, as failures, or into the
queue. What a status means is `omr_data.http.meaning`; what a choice means is `replies.judge`; when
the run stops is `stops.StopRules`.

The event loop runs in the caller's thread, and only while the caller waits: there are no locks, and
no second thread takes the interpreter from the commits. Sockets buffer what comes meanwhile.
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from omr_data.http import (
    Meaning,
    join_url,
    meaning,
    open_session,
    proxy_of,
    read_limited,
    retry_after,
    shown_url,
)
from omr_data.records import Response
from omr_data.teacher import Answers, AttemptStatus, Batch, Budget, Failure, ReadImage, Request
from omr_data.teachers.openai_api.endpoints import Endpoint, choose
from omr_data.teachers.openai_api.replies import ChatReply, failure, read_reply
from omr_data.teachers.openai_api.settings import ServedModel, Usage
from omr_data.teachers.openai_api.stops import Result, StopRules
from omr_data.teachers.openai_api.wire import prepare, runs, tail

GROUP_SECONDS = 0.05
GROUP_MOST = 512
"""Answers are committed in groups: what came within this time, or this many of them."""
DRAW_SECONDS = 1.0
"""While nothing comes, an empty group is handed over this often, so that the live line is drawn."""
LARGE = 2**14
"""Bytes of a body from which it is sent as it lies, and not copied together for each request."""
TURNS = 5
"""A request may be turned away (429, 503) this many times as often as it may fail, as long as
others are answered. Sharing a busy server is no fault of the request."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a request is tried again: doubled with each try."""


@dataclass(slots=True)
class PendingRequest:
    """A question with the attempts of one request."""

    request: Request
    """The question as the engine gave it."""
    prepared: bytes
    """The body without its tail, shared by all requests of the question."""
    attempts: tuple[int, ...]
    """The attempts that this request asks for."""
    most: Usage
    """What one try can use at most."""
    tries: int = 0
    """Tries that failed."""
    turned_away: int = 0
    """How often the server had too much to do for it, while it answered others."""
    alone: bool = False
    """Whether it was split from a request that the server refused."""


@dataclass(slots=True)
class Try:
    """One request on its way."""

    job: PendingRequest
    """What is asked."""
    endpoint: Endpoint
    """Where it was sent."""
    sent: float
    """When it left, on the monotonic clock."""
    reserved: float
    """US dollars that it can cost at most."""
    is_probe: bool
    """Whether it tries if an endpoint that was away is back."""


class Client:
    """The state of one run. Use it inside its event loop."""

    def __init__(
        self,
        teacher: ServedModel,
        urls: tuple[str, ...],
        key: str | None,
        read_image: ReadImage,
        budget: Budget,
    ) -> None:
        self.teacher, self.budget = teacher, budget
        self.endpoints = [Endpoint(url, teacher.concurrency) for url in urls]
        self.rules = StopRules(teacher, self.endpoints, key)
        self.paused = False
        self._key, self._read_image = key, read_image
        self._addresses = {
            url: URL(join_url(url, "chat/completions"), encoded=True) for url in urls
        }
        self._proxies = {url: proxy_of(url) for url in urls}
        self._ready: deque[PendingRequest] = deque()
        self._later: list[tuple[float, int, PendingRequest]] = []
        self._numbers = itertools.count()
        self._results: list[Result] = []
        self._tasks: dict[asyncio.Task[None], Endpoint] = {}
        self._silenced: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._wake_at = 1
        self._began = time.monotonic()
        self._tokens = 0
        self._http: aiohttp.ClientSession | None = None
        self._listener: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the connection pool."""
        self._http = open_session(self._key, self.teacher.timeout, self.teacher.silence)
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        """Drops what is in flight and closes the connections."""
        # A request that ends makes room for the next one, and nothing may be sent any more. What is
        # in flight is lost here, so a stopped run waits for it before closing.
        self._drop_queue()
        tasks = [*self._tasks, *([self._listener] if self._listener else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    @property
    def in_flight(self) -> int:
        """Requests that were sent and not answered."""
        return len(self._tasks)

    def has_room(self) -> bool:
        """Whether more questions should be queued: enough for one group at full speed."""
        stopped = self.rules.fatal or self.paused
        return not stopped and len(self._ready) < 2 * self._limit() + 64

    def _limit(self) -> int:
        return sum(int(endpoint.limit) for endpoint in self.endpoints)

    def done(self) -> bool:
        """Whether nothing is queued, in flight or left to hand over."""
        return not (self._ready or self._later or self._tasks or self._results)

    def add(self, batch: Batch) -> None:
        """Queues questions."""
        most = self.teacher.samples_per_request
        for request in batch:
            prepared = prepare(self.teacher, request, self._read_image)
            # A gap in the attempts is a request of its own, because of the seeds.
            for attempts in runs(request.attempts, most):
                bound = self.teacher.usage_at_most(request, len(attempts))
                self._ready.append(PendingRequest(request, prepared, attempts, bound))

    # ------------------------------------------------------------------------------ waiting

    async def collect(self, more: bool) -> Answers:
        """Returns the next group of answers; an empty one when nothing came for a second.

        Args:
            more: Whether questions are left to queue.
        """
        self._dispatch()
        drawn = time.monotonic() + DRAW_SECONDS
        while not self._results and not self._idle() and time.monotonic() < drawn:
            await self._wait(drawn, 1)
        end = time.monotonic() + GROUP_SECONDS
        while self._tasks and 0 < len(self._results) < GROUP_MOST and time.monotonic() < end:
            if more and self.has_room() and len(self._ready) < self._limit() // 2:
                break  # the queue would run dry
            await self._wait(end, GROUP_MOST)
        # Nothing can succeed any more, so held rejections are decided about now.
        if not more and self._idle():
            self._results += self.rules.all_returned()
        results, self._results = self._results, []
        return results

    def _idle(self) -> bool:
        return not (self._tasks or self._ready or self._later)

    async def _wait(self, until: float, results: int) -> None:
        """Waits until results are there, the queue runs low, or something may be sent.

        Args:
            until: When to return at the latest, on the monotonic clock.
            results: Of how many results it wakes.
        """
        now = time.monotonic()
        times = [until]
        # Whatever ends first is worth a look: a rest, a pause, or the group.
        times += [one.resting_until for one in self.endpoints if one.resting_until > now]
        if self._later:
            times.append(self._later[0][0])
        self._wake_at = results
        self._woken.clear()
        # A time-out means that something may be sent now, or that the group is due.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), max(0.001, min(times) - now))
        self._dispatch()

    async def _listen(self) -> None:
        """Tells a long answer from a dead server.

        An endpoint that sends nothing for `silence` seconds is asked for its list of models, which
        any living server answers in some way. After two questions without any reply, what is in
        flight there is given up. It costs one small request a minute, where streaming would cost an
        event for each token.
        """
        assert self._http is not None  # start() made it
        silence = self.teacher.silence
        deaf = dict.fromkeys((endpoint.url for endpoint in self.endpoints), 0)
        while True:
            await asyncio.sleep(silence / 2)
            for endpoint in self.endpoints:
                # An idle endpoint owes no answer, and is not asked.
                if not endpoint.in_flight or time.monotonic() - endpoint.heard_at < silence:
                    deaf[endpoint.url] = 0
                    continue
                deaf[endpoint.url] += 1
                if await self._is_alive(endpoint):
                    deaf[endpoint.url] = 0
                elif deaf[endpoint.url] >= 2:
                    self._give_up(endpoint)

    async def _is_alive(self, endpoint: Endpoint) -> bool:
        assert self._http is not None  # start() made it
        limit = aiohttp.ClientTimeout(total=self.teacher.silence)
        url = URL(join_url(endpoint.url, "models"), encoded=True)
        proxy = self._proxies[endpoint.url]
        try:
            async with self._http.get(url, timeout=limit, proxy=proxy, allow_redirects=False):
                return True
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def _give_up(self, endpoint: Endpoint) -> None:
        # Marked first, so that the task can tell this from the end of the session.
        for task, where in self._tasks.items():
            if where is endpoint:
                self._silenced.add(task)
                task.cancel()

    # ------------------------------------------------------------------------------ sending

    def _dispatch(self) -> None:
        """Sends what can be sent now."""
        now = time.monotonic()
        # Retries go behind what waits already: a poison question must not hold others up.
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        if self.rules.waits_for_a_success:
            if not self._tasks:
                self._results += self.rules.all_returned()
            elif not self.rules.fatal:
                return
        if self.rules.fatal:
            self._drop_queue()
        while self._ready and (endpoint := choose(self.endpoints, now)) is not None:
            job = self._ready.popleft()
            # This server gives one answer a request, whatever n says.
            if len(job.attempts) > 1 and endpoint.several is False:
                self._ready.extendleft(reversed(self._split(job)))
                continue
            # Without prices this is 0, and only the number of requests is limited.
            reserved = self.teacher.dollars(job.most)
            if not self.budget.reserve(reserved):
                self._ready.appendleft(job)
                # What is in flight may cost less than reserved, and make room for this one.
                if not self._tasks:
                    self._pause()
                break
            endpoint.sent(now)
            sending = self._send(Try(job, endpoint, now, reserved, endpoint.probing))
            self._tasks[asyncio.get_running_loop().create_task(sending)] = endpoint

    def _pause(self) -> None:
        self.paused = True
        self.budget.pause()
        self._drop_queue()

    def _drop_queue(self) -> None:
        self._ready.clear()
        self._later.clear()

    def _split(self, job: PendingRequest) -> list[PendingRequest]:
        """The attempts of a request, each in a request of its own."""
        most = self.teacher.usage_at_most(job.request, 1)
        return [
            replace(job, attempts=(attempt,), most=most, alone=True) for attempt in job.attempts
        ]

    async def _send(self, sent: Try) -> None:
        """Sends one request, and acts on what comes of it."""
        assert self._http is not None  # start() made it
        task = asyncio.current_task()
        assert task is not None  # _dispatch made it
        job, endpoint = sent.job, sent.endpoint
        rest = tail(self.teacher, job.request.key, job.attempts)
        body = job.prepared + rest if len(job.prepared) < LARGE else _Parts(job.prepared, rest)
        try:
            async with self._http.post(
                self._addresses[endpoint.url],
                data=body,
                proxy=self._proxies[endpoint.url],
                allow_redirects=False,
            ) as reply:
                endpoint.heard_at = time.monotonic()
                raw, status = await read_limited(reply), reply.status
                asked = retry_after(reply.headers.get("Retry-After"))
                where = reply.headers.get("Location", "")
            if 200 <= status < 300:
                self._replied(sent, raw, status)
            else:
                self._refused(sent, status, raw, asked, where)
        except asyncio.CancelledError:
            if task not in self._silenced:
                raise
            self._faulted(sent, "silence", f"the server is silent for {self.teacher.silence:g} s")
        except aiohttp.ConnectionTimeoutError:
            self._faulted(sent, "connection", "no connection within 30 s", gone=True)
        except TimeoutError:
            self._faulted(sent, "timeout", f"no answer within {self.teacher.timeout or 30:g} s")
        except (aiohttp.ClientError, OSError) as error:
            gone = isinstance(error, aiohttp.ClientConnectorError)
            self._faulted(sent, "connection", f"{type(error).__name__}: {error}", gone=gone)
        finally:
            endpoint.in_flight -= 1
            endpoint.probing &= not sent.is_probe
            self._tasks.pop(task, None)
            self._silenced.discard(task)
            self._dispatch()
            # After a fault the pauses have changed, and who waits must look at them again.
            has_news = endpoint.failing_since is not None or len(self._results) >= self._wake_at
            if has_news or len(self._ready) < self._limit() // 2:
                self._woken.set()

    # ----------------------------------------------------------------------------- outcomes

    def _replied(self, sent: Try, raw: bytes, status: int) -> None:
        """Acts on a 2xx reply: good choices are handed over, and only the missing asked again."""
        job, endpoint, now = sent.job, sent.endpoint, time.monotonic()
        reply = read_reply(raw, self.teacher.model, job.request.key, job.attempts, now - sent.sent)
        # A try without usage may have cost all that was reserved for it.
        cost = sent.reserved if reply.usage is None else self.teacher.dollars(reply.usage)
        self.budget.settle(sent.reserved, cost)
        if self.budget.usd is not None and reply.usage is not None:
            self.rules.contradicts_budget(reply.usage, job.most)
        endpoint.succeeded(now)
        if reply.fault:
            self.rules.paid_without_answer(reply.fault)
            self._again(job, job.attempts, reply.fault, reply.detail, status)
            return
        # Before anything is handed over: a stored answer is never taken back.
        reply = self._of_the_asked_model(reply)
        if reply.responses:
            self._results += self.rules.answer_came()
            self._results.append((job.request, list(reply.responses)))
            self._tokens += sum(response.completion_tokens for response in reply.responses)
        self._bad_choices(job, reply)
        self._missing_choices(job, endpoint, reply)

    def _of_the_asked_model(self, reply: ChatReply) -> ChatReply:
        """With `served_as`, answers of another model become failures."""
        if self.teacher.accepts(reply.served):
            return reply
        # Kept as failures, so that `omr rollouts failures` names the other model.
        detail = f"asked for {self.teacher.model}, and {reply.served} was served"
        others = [
            failure(one.attempt, AttemptStatus.FAILED, "another model", detail, 200)
            for one in reply.responses
        ]
        return replace(reply, responses=(), failures=(*reply.failures, *others))

    def _bad_choices(self, job: PendingRequest, reply: ChatReply) -> None:
        settled = [one for one in reply.failures if one.status.settled]
        if settled:
            # The filter or the tools are of this request: it says nothing about the server.
            self._results.append((job.request, [*settled]))
        # Each is asked again alone: its neighbours are stored already.
        failed = [one for one in reply.failures if not one.status.settled]
        if not reply.responses and not settled:
            self.rules.paid_without_answer(failed[0].kind if failed else "no choices")
        for one in failed:
            self._again(job, (one.attempt,), one.kind, one.detail, one.http_status)

    def _missing_choices(self, job: PendingRequest, endpoint: Endpoint, reply: ChatReply) -> None:
        # Split because of a refusal, and answered alone: so it was n that was refused.
        if job.alone and endpoint.several is None:
            endpoint.several = False
        elif len(job.attempts) > 1:
            endpoint.several = reply.choices == len(job.attempts)
            most = self.teacher.usage_at_most(job.request, 1)
            self._ready.extend(
                replace(job, attempts=(attempt,), most=most)
                for attempt in job.attempts[reply.choices :]
            )

    def _refused(
        self, sent: Try, status: int, raw: bytes, asked: float | None, location: str
    ) -> None:
        """Acts on a reply that is not 2xx."""
        job, endpoint, now = sent.job, sent.endpoint, time.monotonic()
        words = self.rules.redacted(raw[:500].decode("utf-8", "replace"))
        found = meaning(status, raw)
        # A gateway that gave up (500, 502, 504) may have let the model finish. Nobody charges for
        # what was turned away.
        charged = status >= 500 and status not in (503, 529)
        self.budget.settle(sent.reserved, sent.reserved if charged else 0.0)
        if found is Meaning.BUSY:
            self._turned_away(sent, status, words, asked)
        elif found is Meaning.BROKEN:
            endpoint.failed(now, sent.sent, f"{status} {words}")
            self._again(job, job.attempts, "server error", words, status)
        elif found is Meaning.ACCESS:
            if location:
                words = f"it redirects to {shown_url(location)}. {words}"
            self.rules.denied(endpoint, status, words)
            self._settle(job, AttemptStatus.FAILED, "refused access", words, status)
        elif len(job.attempts) > 1:
            # Either this server takes no n, or this question cannot be answered: asking one by one
            # tells which.
            self._ready.extendleft(reversed(self._split(job)))
        elif found is Meaning.POLICY:
            self._settle(job, AttemptStatus.REFUSED, "content filter", words, status)
        else:
            failures = self._failures(job, AttemptStatus.REJECTED, "rejected", words, status)
            self._results += self.rules.rejected((job.request, failures), status, words)
        if found in (Meaning.BUSY, Meaning.BROKEN):
            self.rules.endpoint_failed(now, self.in_flight - 1)

    def _turned_away(self, sent: Try, status: int, words: str, asked: float | None) -> None:
        """Acts on a server that has too much to do, or says that it is away."""
        job, endpoint, now = sent.job, sent.endpoint, time.monotonic()
        # Without Retry-After the pauses grow by themselves.
        kind = "rate limited" if status == 429 else "server error"
        if status in (429, 503):
            endpoint.too_much(now, sent.sent, asked, f"{status} {words}")
        else:
            endpoint.failed(now, sent.sent, f"{status} {words}")
        # While nothing is answered the endpoint is away, which is waited for. When others are
        # answered meanwhile, it may be this request that is too much.
        job.turned_away += endpoint.answered_at > sent.sent
        if job.turned_away >= TURNS * self.teacher.tries:
            self._settle(job, AttemptStatus.FAILED, kind, words, status)
        else:
            self._put_back(job, asked)

    def _faulted(self, sent: Try, kind: str, detail: str, gone: bool = False) -> None:
        """Acts on a request without a whole reply."""
        job, now = sent.job, time.monotonic()
        detail = self.rules.redacted(detail)
        # Nothing was sent to a server that could not be reached, so it costs nothing.
        self.budget.settle(sent.reserved, 0.0 if gone else sent.reserved)
        # A reset may be the fault of this request, so it counts as a try below.
        sent.endpoint.failed(now, sent.sent, f"{kind}: {detail}", gone)
        if gone:
            self._put_back(job)
        else:
            self._again(job, job.attempts, kind, detail, 0)
        self.rules.endpoint_failed(now, self.in_flight - 1)

    def _again(
        self, job: PendingRequest, attempts: Sequence[int], kind: str, detail: str, status: int
    ) -> None:
        """Puts attempts back, or gives them up after their last try."""
        job = replace(job, attempts=tuple(attempts), tries=job.tries + 1)
        if job.tries >= self.teacher.tries:
            self._settle(job, AttemptStatus.FAILED, kind, detail, status)
        else:
            job.most = self.teacher.usage_at_most(job.request, len(job.attempts))
            self._put_back(job)

    def _put_back(self, job: PendingRequest, asked: float | None = None) -> None:
        # The run ends: what is not sent now comes back in the next one.
        if self.rules.fatal or self.paused:
            return
        tried = min(16, job.tries + job.turned_away)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**tried) if asked is None else asked
        heapq.heappush(self._later, (time.monotonic() + pause, next(self._numbers), job))

    def _settle(
        self, job: PendingRequest, status: AttemptStatus, kind: str, detail: str, http_status: int
    ) -> None:
        self._results.append((job.request, self._failures(job, status, kind, detail, http_status)))

    def _failures(
        self, job: PendingRequest, status: AttemptStatus, kind: str, detail: str, http_status: int
    ) -> list[Response | Failure]:
        words = self.rules.redacted(detail)
        tries = max(job.tries, 1)
        return [failure(one, status, kind, words, http_status, tries) for one in job.attempts]

    def note(self) -> str:
        """What is in flight, tokens a second, and what is waited for."""
        now = time.monotonic()
        rate = self._tokens / max(now - self._began, 0.001)
        notes = [f"{self.in_flight:,} in flight, {rate:,.0f} tokens/s"]
        for endpoint in self.endpoints:
            # Only while it rests: a single fault among answers is no news.
            if endpoint.failing_since is not None and endpoint.resting_until > now:
                waited = int(now - endpoint.failing_since)
                trouble = endpoint.trouble[:60]
                notes.insert(0, f"waiting {waited} s for {shown_url(endpoint.url)}: {trouble}")
        return ", ".join(notes)


class _Parts(aiohttp.Payload):
    """A large body in two parts. Its first bytes travel with the headers."""

    def __init__(self, prepared: bytes, rest: bytes) -> None:
        super().__init__(prepared, content_type="application/json")
        self._prepared, self._rest = prepared, rest
        self._size = len(prepared) + len(rest)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return (self._prepared + self._rest).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._prepared)
        await writer.write(view[:1_024])
        await writer.write(view[1_024:])
        await writer.write(self._rest)
