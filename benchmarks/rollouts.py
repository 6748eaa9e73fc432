"""Asking a teacher over HTTP: requests a second, beside a bare aiohttp loop and the openai client.

    python benchmarks/rollouts.py              about four minutes
    python benchmarks/rollouts.py --quick      a tenth of the requests

A server of its own process answers every request with 4 KB after 20 ms. In one run, on the same
questions, without and with an image of 200 KB, each question eight times in requests of their own:
this project's client with every answer committed to its store; a bare aiohttp loop that posts the
same bodies, prepared before, and reads the answers; the official `openai` async client; and the
published pipeline's shape, a thread pool of half the cores that decodes and re-encodes the image as
PNG for each request. Then memory over 100,000 requests, and two servers of which one is ten times
slower, against each of them alone. The last line is one JSON object.
"""

import argparse
import asyncio
import base64
import io
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import openai
import psutil
from PIL import Image

from omr_data.operators.rollout import Sample
from omr_data.records import IMAGE_MARK, ImageRef, Record
from omr_data.store.rollouts import RolloutStore
from omr_data.teacher import Budget, Request
from omr_data.teachers.openai_api import Teacher
from omr_data.teachers.openai_api.wire import prepare, tail

LATENCY = 0.02
IN_FLIGHT = 128


# ----------------------------------------------------------------------------------- the server


class Answerer(asyncio.Protocol):
    """As little HTTP as possible, so that it never limits the clients.

    One request at a time on each connection, `slots` at once over all.
    """

    latency = LATENCY
    slots: asyncio.Semaphore | None = None
    reply = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer, self.need = transport, bytearray(), 0

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.need and (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end]).lower()
            self.need = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        if self.need and len(self.buffer) >= self.need:
            del self.buffer[: self.need]
            self.need = 0
            if self.slots is None:
                asyncio.get_running_loop().call_later(self.latency, self.answer)
            else:
                asyncio.get_running_loop().create_task(self.queued(self.slots))

    async def queued(self, slots: asyncio.Semaphore) -> None:
        async with slots:
            await asyncio.sleep(self.latency)
        self.answer()

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.reply)


async def serve(latency: float, slots: int) -> None:
    Answerer.latency, Answerer.slots = latency, asyncio.Semaphore(slots) if slots else None
    text = "<think>" + "I look, I count and I add. " * 145 + "</think><answer>5</answer>"
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 300, "completion_tokens": 1_000, "total_tokens": 1_300}
    body = json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
    ).encode()
    Answerer.reply = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
        + body
    )
    server = await asyncio.get_running_loop().create_server(Answerer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextmanager
def server(latency: float = LATENCY, slots: int = 0) -> Iterator[str]:
    """A running server's URL; it ends with the block, or with this process."""
    command = [sys.executable, __file__, "--serve", str(latency), str(slots)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------------------------- the clients


class Questions:
    """Questions that are all different, with or without one image of about 200 KB."""

    def __init__(self, has_image: bool) -> None:
        noise = Image.frombytes("RGB", (260, 260), random.Random(0).randbytes(260 * 260 * 3))
        buffer = io.BytesIO()
        noise.save(buffer, "PNG")
        self.image_bytes = buffer.getvalue()
        self.image = (ImageRef("a" * 64, 260, 260, "PNG"),) if has_image else ()
        self.made = 0

    def requests(self, teacher: Teacher, count: int) -> Iterator[list[Request]]:
        """Batches of 16 questions, so many attempts in all."""
        sample = Sample(teacher, n=8)
        for start in range(0, count // 8, 16):
            yield [self._one(sample) for _ in range(start, min(start + 16, count // 8))]

    def _one(self, sample: Sample) -> Request:
        self.made += 1
        text = (
            IMAGE_MARK * len(self.image)
            + f"Question {self.made}: how many are there? "
            + "Look closely. " * 20
        )
        return sample.requests(Record(str(self.made), "b", "MIT", text, "5", self.image))[0]

    def read(self, image: ImageRef) -> bytes:
        """The image's bytes."""
        return self.image_bytes


def ours(
    urls: Sequence[str], count: int, questions: Questions, memory: list[float] | None = None
) -> float:
    """Requests a second with each answer committed."""
    teacher = Teacher("m", urls=tuple(urls), max_tokens=64, samples_per_request=1)
    process, done, count = psutil.Process(), 0, count // 8 * 8
    with (
        tempfile.TemporaryDirectory() as folder,
        RolloutStore.write(Path(folder) / "rollouts.sqlite") as store,
    ):
        began = time.perf_counter()
        with teacher.open(1, questions.read, Budget()) as session:
            for answers in session.answer(questions.requests(teacher, count)):
                store.put(answers)
                done += sum(len(results) for _, results in answers)
                if memory is not None:
                    memory.append(process.memory_info().rss / 2**20)
        seconds = time.perf_counter() - began
        assert done == store.stats().rollouts == count
    return count / seconds


def bodies(questions: Questions, count: int) -> list[bytes]:
    teacher = Teacher("m", max_tokens=64)
    batches = questions.requests(teacher, count)
    prepared = [(one, prepare(teacher, one, questions.read)) for batch in batches for one in batch]
    return [
        start + tail(teacher, one.key, (attempt,))
        for one, start in prepared
        for attempt in one.attempts
    ]


async def bare(url: str, prepared: Sequence[bytes], count: int) -> float:
    """aiohttp alone: workers that post and read. So many requests, the bodies in turn."""
    left = itertools.islice(itertools.cycle(prepared), count)

    async def work(http: aiohttp.ClientSession) -> None:
        for body in left:
            async with http.post(f"{url}/chat/completions", data=body) as answer:
                await answer.read()

    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers=headers
    ) as http:
        began = time.perf_counter()
        await asyncio.gather(*(work(http) for _ in range(IN_FLIGHT)))
        return count / (time.perf_counter() - began)


async def official(url: str, prepared: Sequence[bytes]) -> float:
    """The openai async client, given the same messages."""
    left = iter([json.loads(body) for body in prepared])
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:

        async def work() -> None:
            for body in left:
                await client.chat.completions.create(**body)

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return len(prepared) / (time.perf_counter() - began)


def published(url: str, questions: Questions, count: int) -> float:
    """A thread pool of half the cores: each decodes the image and writes it as PNG again."""
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)

    def one(number: int) -> None:
        content: list[dict[str, object]] = [
            {"type": "text", "text": f"Question {number}: how many are there?"}
        ]
        if questions.image:
            buffer = io.BytesIO()
            Image.open(io.BytesIO(questions.image_bytes)).convert("RGB").save(buffer, "PNG")
            data = base64.b64encode(buffer.getvalue()).decode()
            content.insert(
                0, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
            )
        client.chat.completions.create(
            model="m", max_tokens=64, messages=[{"role": "user", "content": content}]
        )  # type: ignore[misc, list-item]

    with client, ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as threads:
        began = time.perf_counter()
        list(threads.map(one, range(count)))
        return count / (time.perf_counter() - began)


# ---------------------------------------------------------------------------------- the figures


def compare(has_image: bool, share: float) -> dict[str, float]:
    """Three rounds, the clients in turn; medians."""
    questions = Questions(has_image)
    count, few = int(24_000 * share), int(600 * share)
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "openai": [], "published": []}
    with server() as url:
        for _ in range(3):
            rates["ours"].append(ours([url], count, questions))
            rates["bare"].append(asyncio.run(bare(url, bodies(questions, 2_000), count)))
            rates["openai"].append(asyncio.run(official(url, bodies(questions, few))))
            rates["published"].append(published(url, questions, max(20, few // 6)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(
        f"{'with a 200 KB image' if has_image else 'text only'}: "
        + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in medians.items())
    )
    return medians


def memory(share: float) -> tuple[float, float]:
    """MiB resident after a tenth of 100,000 requests, and the most after that."""
    seen: list[float] = []
    with server(latency=0.0) as url:
        rate = ours([url], int(100_000 * share), Questions(False), seen)
    early, late = seen[len(seen) // 10], max(seen[len(seen) // 10 :])
    print(
        f"memory over {int(100_000 * share):,} requests at {rate:,.0f}/s: "
        f"{early:,.0f} MiB at a tenth, at most {late:,.0f} MiB after that"
    )
    return early, late


def two_servers(share: float) -> float:
    """The rate with a fast and a ten times slower server, over the sum of their rates alone."""
    questions = Questions(False)
    with server(0.02, 16) as fast, server(0.2, 16) as slow:
        alone = [
            ours([fast], int(8_000 * share), questions),
            ours([slow], int(800 * share), questions),
        ]
        both = ours([fast, slow], int(8_800 * share), questions)
    print(f"two servers: {alone[0]:,.0f}/s and {alone[1]:,.0f}/s alone, {both:,.0f}/s together")
    return both / sum(alone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", nargs=2, metavar=("LATENCY", "SLOTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(float(arguments.serve[0]), int(arguments.serve[1])))
        return
    share = 0.1 if arguments.quick else 1.0
    text, image = compare(False, share), compare(True, share)
    early, late = memory(share)
    result = {
        "ratio": round(text["ours"] / text["bare"], 2),
        "ratio_image": round(image["ours"] / image["bare"], 2),
        "requests_per_s": round(text["ours"]),
        "over_openai": round(text["ours"] / text["openai"], 1),
        "over_openai_image": round(image["ours"] / image["openai"], 1),
        "over_published": round(text["ours"] / text["published"], 1),
        "over_published_image": round(image["ours"] / image["published"], 1),
        "memory_growth_mib": round(late - early, 1),
        "two_servers": round(two_servers(share), 3),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
