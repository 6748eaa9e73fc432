"""Asks questions over HTTP, as fast as the servers allow, and gives up only on what cannot succeed.

A `PendingRequest` is one question with the attempts of one request. Pending requests wait in a
queue, are sent to the least loaded endpoint, and come back as responses, as failures, or into the
queue (see `outcomes`).

The event loop runs in the caller's thread, and only while the caller waits: there are no locks, and
no second thread takes the interpreter from the commits. Sockets buffer what comes meanwhile.
"""

import asyncio
import contextlib
import time

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from omr_data.http import join_url, open_session, proxy_of, read_limited, retry_after, shown_url
from omr_data.teacher import Answers, Batch, Budget, ReadImage
from omr_data.teachers.openai_api.endpoints import Endpoint, choose
from omr_data.teachers.openai_api.outcomes import Outcomes
from omr_data.teachers.openai_api.pending import PendingQueue, PendingRequest, Try
from omr_data.teachers.openai_api.settings import ServedModel
from omr_data.teachers.openai_api.silence import listen
from omr_data.teachers.openai_api.stops import StopRules
from omr_data.teachers.openai_api.wire import prepare, runs, tail

GROUP_SECONDS = 0.05
GROUP_MOST = 512
"""Answers are committed in groups: what came within this time, or this many of them."""
DRAW_SECONDS = 1.0
"""While nothing comes, an empty group is handed over this often, so that the live line is drawn."""
LARGE = 2**14
"""Bytes of a body from which it is sent as it lies, and not copied together for each request."""


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
        """Sends nothing yet.

        Args:
            teacher: The model, and how it is asked.
            urls: Base URLs up to `/v1`.
            key: The bearer token, if the servers want one.
            read_image: Reads the bytes of the requests' images.
            budget: What may be spent.
        """
        self.teacher, self.budget = teacher, budget
        self.endpoints = [Endpoint(url, teacher.concurrency) for url in urls]
        self.rules = StopRules(teacher, self.endpoints, key)
        self.paused = False
        self._key, self._read_image = key, read_image
        # Worked out once: parsing a URL costs a tenth of a request that is answered at once.
        self._addresses = {
            url: URL(join_url(url, "chat/completions"), encoded=True) for url in urls
        }
        self._proxies = {url: proxy_of(url) for url in urls}
        self._queue = PendingQueue()
        self._outcomes = Outcomes(teacher, budget, self.rules, self._queue)
        self._tasks: dict[asyncio.Task[None], Endpoint] = {}
        self._silenced: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._wake_at = 1
        self._began = time.monotonic()
        self._http: aiohttp.ClientSession | None = None
        self._listener: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the connection pool."""
        silence = self.teacher.silence
        self._http = open_session(self._key, self.teacher.timeout, silence)

        def give_up(endpoint: Endpoint) -> None:
            # Marked first, so that the task can tell this from the end of the session.
            for task, where in self._tasks.items():
                if where is endpoint:
                    self._silenced.add(task)
                    task.cancel()

        watching = listen(self._http, self.endpoints, self._proxies, silence, give_up)
        self._listener = asyncio.get_running_loop().create_task(watching)

    async def close(self) -> None:
        """Drops what is in flight and closes the connections."""
        # A request that ends makes room for the next one, and nothing may be sent any more. What is
        # in flight is lost here, so a stopped run waits for it before closing.
        self._queue.close()
        tasks = [*self._tasks]
        if self._listener is not None:
            tasks.append(self._listener)
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
        return not stopped and len(self._queue) < 2 * self._limit() + 64

    def _limit(self) -> int:
        return sum(int(endpoint.limit) for endpoint in self.endpoints)

    def done(self) -> bool:
        """Whether nothing is queued, in flight or left to hand over."""
        return self._idle() and not self._outcomes.results

    def _idle(self) -> bool:
        return not self._tasks and self._queue.is_empty

    def add(self, batch: Batch) -> None:
        """Queues questions."""
        most = self.teacher.samples_per_request
        for request in batch:
            prepared = prepare(self.teacher, request, self._read_image)
            # A gap in the attempts is a request of its own, because of the seeds.
            for attempts in runs(request.attempts, most):
                bound = self.teacher.usage_at_most(request, len(attempts))
                self._queue.add([PendingRequest(request, prepared, attempts, bound)])

    # ------------------------------------------------------------------------------ waiting

    async def collect(self, more: bool) -> Answers:
        """Returns the next group of answers; an empty one when nothing came for a second.

        Args:
            more: Whether questions are left to queue.
        """
        self._dispatch()
        outcomes = self._outcomes
        drawn = time.monotonic() + DRAW_SECONDS
        while not outcomes.results and not self._idle() and time.monotonic() < drawn:
            await self._wait(drawn, 1)
        end = time.monotonic() + GROUP_SECONDS
        while self._tasks and 0 < len(outcomes.results) < GROUP_MOST and time.monotonic() < end:
            if more and self.has_room() and len(self._queue) < self._limit() // 2:
                break  # the queue would run dry
            await self._wait(end, GROUP_MOST)
        # Nothing can succeed any more, so held rejections are decided about now.
        if not more and self._idle():
            outcomes.results += self.rules.all_returned()
        results, outcomes.results = outcomes.results, []
        return results

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
        if (pause_ends := self._queue.next_pause_ends) is not None:
            times.append(pause_ends)
        self._wake_at = results
        self._woken.clear()
        # A time-out means that something may be sent now, or that the group is due.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), max(0.001, min(times) - now))
        self._dispatch()

    # ------------------------------------------------------------------------------ sending

    def _dispatch(self) -> None:
        """Sends what can be sent now."""
        now, queue = time.monotonic(), self._queue
        queue.wake(now)
        if self.rules.waits_for_a_success:
            if not self._tasks:
                self._outcomes.results += self.rules.all_returned()
            elif not self.rules.fatal:
                return
        if self.rules.fatal:
            queue.close()
        while queue and (endpoint := choose(self.endpoints, now)) is not None:
            job = queue.take()
            # This server gives one answer a request, whatever n says.
            if len(job.attempts) > 1 and endpoint.several is False:
                queue.add_first(job.one_by_one(self.teacher))
                continue
            # Without prices this is 0, and only the number of requests is limited.
            reserved = self.teacher.dollars(job.most)
            if not self.budget.reserve(reserved):
                queue.add_first([job])
                # What is in flight may cost less than reserved, and make room for this one.
                if not self._tasks:
                    self.paused = True
                    self.budget.pause()
                    queue.close()
                break
            endpoint.sent(now)
            sending = self._send(Try(job, endpoint, now, reserved, endpoint.probing))
            self._tasks[asyncio.get_running_loop().create_task(sending)] = endpoint

    async def _send(self, sent: Try) -> None:
        """Sends one request, and acts on what comes of it."""
        assert self._http is not None  # start() made it
        task = asyncio.current_task()
        assert task is not None  # _dispatch made it
        job, endpoint = sent.job, sent.endpoint
        faulted = self._outcomes.faulted
        rest = tail(self.teacher, job.request.key, job.attempts)
        body: bytes | _Parts = _Parts(job.prepared, rest)
        if len(job.prepared) < LARGE:
            body = job.prepared + rest
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
                self._outcomes.replied(sent, raw, status)
            else:
                self._outcomes.refused(sent, status, raw, asked, where)
        except asyncio.CancelledError:
            if task not in self._silenced:
                raise
            faulted(sent, "silence", f"the server is silent for {self.teacher.silence:g} s")
        except aiohttp.ConnectionTimeoutError:
            faulted(sent, "connection", "no connection within 30 s", gone=True)
        except TimeoutError:
            faulted(sent, "timeout", f"no answer within {self.teacher.timeout or 30:g} s")
        except (aiohttp.ClientError, OSError) as error:
            gone = isinstance(error, aiohttp.ClientConnectorError)
            faulted(sent, "connection", f"{type(error).__name__}: {error}", gone=gone)
        finally:
            endpoint.in_flight -= 1
            endpoint.probing &= not sent.is_probe
            self._tasks.pop(task, None)
            self._silenced.discard(task)
            self._dispatch()
            # After a fault the pauses have changed, and who waits must look at them again.
            has_news = (
                endpoint.failing_since is not None or len(self._outcomes.results) >= self._wake_at
            )
            if has_news or len(self._queue) < self._limit() // 2:
                self._woken.set()

    def note(self) -> str:
        """What is in flight, tokens a second, and what is waited for."""
        now = time.monotonic()
        rate = self._outcomes.tokens / max(now - self._began, 0.001)
        notes = [f"{self.in_flight:,} in flight, {rate:,.0f} tokens/s"]
        for endpoint in self.endpoints:
            # Only while it rests: a single fault among answers is not worth a line.
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
