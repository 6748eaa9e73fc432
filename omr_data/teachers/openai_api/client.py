"""Asks questions over HTTP, as fast as the servers allow, and gives up only on what cannot succeed.

**PendingRequest**: one question with the attempts of one request. Jobs wait in a queue, are sent to the least loaded endpoint, and
come back as responses, as failures, or into the queue: what may pass (429, 5xx, connections, time-outs, empty and
malformed answers) is tried again up to `tries` times; what cannot (other 4xx) is a failure at once, and a cut-off answer is
an answer. The client stops when too many of the last 200 requests fail, or when no answer comes for `patience` seconds.

The event loop runs in the caller's thread, and only while the caller waits: no locks, and no second thread that takes the
interpreter from the commits. Sockets buffer what comes meanwhile.
"""

import asyncio
import heapq
import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from omr_data.errors import TeacherError
from omr_data.records import Response
from omr_data.teacher import Answers, Batch, Budget, Failure, ReadImage, Request
from omr_data.teachers.openai_api.endpoints import Endpoint, choose
from omr_data.teachers.openai_api.wire import failure, prepare, read_reply, runs, tail

if TYPE_CHECKING:
    from omr_data.teachers.openai_api import Teacher

GROUP_SECONDS = 0.05
GROUP_MOST = 512
"""Answers are handed over, and committed, in groups: whatever came in so many seconds, or so many of them."""
WINDOW = 200
LARGE = 2**14
"""Bytes of a body from which it is sent as it lies, instead of being copied together for each attempt."""
DRAIN_SECONDS = 30.0
BUSY = (408, 425, 429, 502, 503, 504, 529)
MISCONFIGURED = (401, 403, 404)


@dataclass(slots=True)
class PendingRequest:
    """A question with the attempts of one request. `alone`: was split from a request that the server refused."""

    request: Request
    prepared: bytes
    attempts: tuple[int, ...]
    tries: int = 0
    alone: bool = False


class Client:
    """The state of one run. Use it inside its event loop."""

    def __init__(
        self,
        teacher: "Teacher",
        urls: tuple[str, ...],
        key: str | None,
        read_image: ReadImage,
        budget: Budget,
    ) -> None:
        self.teacher, self.budget, self._key, self._read_image = teacher, budget, key, read_image
        self.endpoints = [Endpoint(url, teacher.concurrency) for url in urls]
        self._addresses = {url: URL(f"{url}/chat/completions") for url in urls}
        self.paused = False
        self.fatal: TeacherError | None = None
        self._ready: deque[PendingRequest] = deque()
        self._later: list[tuple[float, int, PendingRequest]] = []
        self._numbers = itertools.count()
        self._results: list[tuple[Request, list[Response | Failure]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._wake_at = 1
        self._window: deque[str] = deque(maxlen=WINDOW)
        self._last_answer = self._began = time.monotonic()
        self._tokens = self._answered = 0
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Opens the connection pool."""
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self._key}"} if self._key else {}
        )
        timeout = aiohttp.ClientTimeout(
            total=self.teacher.timeout, sock_connect=min(30.0, self.teacher.timeout)
        )
        # No cookies, and URLs parsed once: a tenth of the time of a request that is answered at once.
        jar = aiohttp.DummyCookieJar()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            headers=headers,
            cookie_jar=jar,
        )

    async def close(self) -> None:
        """Drops what is in flight and closes the connections."""
        # A request that ends makes room for the next one, and nothing may be sent any more.
        self._ready.clear()
        self._later.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    @property
    def in_flight(self) -> int:
        """Requests that were sent and not answered."""
        return len(self._tasks)

    def has_room(self) -> bool:
        """Whether more questions should be queued: enough for one group at full speed, and no more in memory."""
        return not self.fatal and not self.paused and len(self._ready) < 2 * self._limit() + 64

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
            for attempts in runs(request.attempts, most):
                self._ready.append(PendingRequest(request, prepared, attempts))

    async def collect(self, more: bool) -> Answers:
        """The next group of answers; `more` says that questions are left to queue. Empty only when nothing is to come."""
        self._dispatch()
        while not self._results and (self._tasks or self._ready or self._later):
            await self._wait(None, 1)
        end = time.monotonic() + GROUP_SECONDS
        while (
            len(self._results) < GROUP_MOST and self._tasks and (left := end - time.monotonic()) > 0
        ):
            if more and self.has_room() and len(self._ready) < self._limit() // 2:
                break  # the queue would run dry
            await self._wait(left, GROUP_MOST)
        results, self._results = self._results, []
        return results

    async def _wait(self, most: float | None, results: int) -> None:
        """Until so many results are there, the queue runs low, something may be sent, or so many seconds have passed."""
        now = time.monotonic()
        times = [
            endpoint.resting_until for endpoint in self.endpoints if endpoint.resting_until > now
        ]
        times += [self._later[0][0]] if self._later else []
        times += [now + most] if most is not None else []
        times.append(self._last_answer + self.teacher.patience)
        self._wake_at = results
        self._woken.clear()
        try:
            await asyncio.wait_for(self._woken.wait(), max(0.001, min(times) - now))
        except TimeoutError:
            self._check_patience()
        self._dispatch()

    def _dispatch(self) -> None:
        """Sends what can be sent now."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        if self.fatal:
            self._ready.clear()
            self._later.clear()
        while (
            self._ready
            and not self.paused
            and (endpoint := choose(self.endpoints, now)) is not None
        ):
            if not self.budget.allows(self.in_flight * self._mean_cost()):
                self.paused = True
                self._ready.clear()
                self._later.clear()
                break
            job = self._ready.popleft()
            if len(job.attempts) > 1 and endpoint.several is False:
                self._ready.extendleft(reversed(_alone(job)))
                continue
            endpoint.in_flight += 1
            self.budget.sent += 1
            task = asyncio.get_running_loop().create_task(self._send(job, endpoint))
            self._tasks.add(task)

    async def _send(self, job: PendingRequest, endpoint: Endpoint) -> None:
        """One request, and what comes of it."""
        assert self._http is not None  # start() made it
        task = asyncio.current_task()
        assert task is not None  # _dispatch made it
        sent = time.monotonic()
        rest = tail(self.teacher, job.request.key, job.attempts)
        body = job.prepared + rest if len(job.prepared) < LARGE else _Parts(job.prepared, rest)
        try:
            async with self._http.post(self._addresses[endpoint.url], data=body) as answer:
                raw, status = await answer.read(), answer.status
                retry_after = _seconds(answer.headers.get("Retry-After"))
            now = time.monotonic()
            if status == 200:
                self._answer(job, endpoint, raw, sent, now)
            else:
                self._refused(job, endpoint, status, raw, retry_after, sent, now)
        except TimeoutError:
            endpoint.failed(time.monotonic(), sent, gone=False)
            self._again(job, "timeout", f"no answer within {self.teacher.timeout:g} s", 0)
        except (aiohttp.ClientError, OSError) as error:
            endpoint.failed(
                time.monotonic(), sent, gone=isinstance(error, aiohttp.ClientConnectorError)
            )
            self._again(job, "connection", f"{type(error).__name__}: {error}", 0)
        finally:
            endpoint.in_flight -= 1
            self._tasks.discard(task)
            self._dispatch()
            if len(self._results) >= self._wake_at or len(self._ready) < self._limit() // 2:
                self._woken.set()

    def _answer(
        self, job: PendingRequest, endpoint: Endpoint, raw: bytes, sent: float, now: float
    ) -> None:
        reply = read_reply(raw, self.teacher.model, job.request.key, job.attempts, now - sent)
        if reply.fault:  # the server is well; it is its model that is not
            self._again(job, reply.fault, reply.detail, 200)
            return
        endpoint.succeeded(now)
        self._window.append("")
        self._last_answer = now
        responses = list(reply.responses)
        if job.alone and endpoint.several is None:
            endpoint.several = False
        elif len(job.attempts) > 1:
            endpoint.several = len(responses) == len(job.attempts)
            left = job.attempts[len(responses) :]
            self._ready.extend(
                PendingRequest(job.request, job.prepared, (attempt,)) for attempt in left
            )
        self._tokens += sum(response.completion_tokens for response in responses)
        self._answered += 1
        self.budget.spent += self.teacher.cost(responses)
        self._results.append((job.request, list(responses)))

    def _refused(
        self,
        job: PendingRequest,
        endpoint: Endpoint,
        status: int,
        raw: bytes,
        retry_after: float | None,
        sent: float,
        now: float,
    ) -> None:
        detail = self._redacted(raw[:500].decode("utf-8", "replace"))
        if status in BUSY:
            if status in (429, 503):
                endpoint.too_much(now, sent, retry_after)
            else:
                endpoint.failed(now, sent, gone=False)
            self._again(
                job,
                "rate limited" if status == 429 else "server error",
                detail,
                status,
                retry_after,
            )
        elif status >= 500:
            endpoint.failed(now, sent, gone=False)
            self._again(job, "server error", detail, status)
        elif status in MISCONFIGURED:
            self._stop(
                f"{_shown(endpoint.url)} answers {status} to {self.teacher.model}: {detail[:200]}. "
                "Check the URL, the model's name and the key; every answer so far is kept."
            )
        elif len(job.attempts) > 1:
            # Either this server takes no n, or this question cannot be answered: asking one by one tells which.
            self._ready.extendleft(reversed(_alone(job)))
        else:
            self._window.append("")
            self._fail(job, "rejected", detail, status, retriable=False)

    def _again(
        self,
        job: PendingRequest,
        kind: str,
        detail: str,
        status: int,
        retry_after: float | None = None,
    ) -> None:
        """Puts a job back, or gives it up after its last try."""
        job.tries += 1
        self._window.append(kind)
        self._check_share()
        if job.tries >= self.teacher.tries:
            self._fail(job, kind, self._redacted(detail), status, retriable=True)
        elif not self.fatal and not self.paused:
            wait = retry_after if retry_after is not None else min(30.0, 0.1 * 2**job.tries)
            heapq.heappush(self._later, (time.monotonic() + wait, next(self._numbers), job))

    def _fail(
        self, job: PendingRequest, kind: str, detail: str, status: int, retriable: bool
    ) -> None:
        failures: list[Response | Failure] = [
            failure(one, kind, detail, status, max(job.tries, 1), retriable) for one in job.attempts
        ]
        self._results.append((job.request, failures))

    def _check_share(self) -> None:
        failed = Counter(kind for kind in self._window if kind)
        if len(self._window) == WINDOW and failed.total() > self.teacher.stop_share * WINDOW:
            kinds = ", ".join(f"{count} {kind}" for kind, count in failed.most_common())
            self._stop(
                f"{failed.total()} of the last {WINDOW} requests failed ({kinds}). Stopped before more is paid for; answers are kept."
            )

    def _check_patience(self) -> None:
        if time.monotonic() - self._last_answer >= self.teacher.patience and any(self._window):
            last = next(kind for kind in reversed(self._window) if kind)
            where = ", ".join(_shown(endpoint.url) for endpoint in self.endpoints)
            self._stop(
                f"no answer for {self.teacher.patience:g} s from {where}; the last failure was: {last}. Answers so far are kept."
            )

    def _stop(self, why: str) -> None:
        if self.fatal is None:
            self.fatal = TeacherError(why)

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _mean_cost(self) -> float:
        return self.budget.spent / self._answered if self._answered else 0.0

    def note(self) -> str:
        """Requests in flight, and tokens a second."""
        return f"{self.in_flight:,} in flight, {self._tokens / max(time.monotonic() - self._began, 0.001):,.0f} tokens/s"


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


class HttpSession:
    """A run of questions: the flow's Session over one Client."""

    def __init__(self, client: Client, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def note(self) -> str:
        """What the client says of itself."""
        return self._client.note()

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Raises TeacherError when the client had to stop; what came before is given first."""
        client = self._client
        left = True
        while True:
            while left and client.has_room():
                batch = next(batches, None) if client.budget.allows() else None
                left = batch is not None
                if batch is not None:
                    client.add(batch)
            left = left and not client.paused and not client.fatal
            if answers := self._runner.run(client.collect(left)):
                yield answers
            if not left and client.done():
                break
        if client.fatal:
            raise client.fatal


def _alone(job: PendingRequest) -> list[PendingRequest]:
    return [
        PendingRequest(job.request, job.prepared, (attempt,), job.tries, alone=True)
        for attempt in job.attempts
    ]


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; a date is not read, and more than an hour is an hour."""
    try:
        return None if header is None else min(3_600.0, max(0.0, float(header)))
    except ValueError:
        return None


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    return url.partition("?")[0].replace(url.rpartition("@")[0] + "@", "") if "@" in url else url
