"""A real HTTP server that speaks chat completions and misbehaves: `python -m tests.fault_server`.

It prints its port, listens on 127.0.0.1 and ends when its standard input closes.

- A question may hold a JSON object that says what goes wrong with it, and how often:
  `{"fault": "500", "times": 2}`.
- `POST /mode` with a status makes every request fail with it, until an empty body is posted.
- `--random SEED` gives every reply a random fate and a random usage within the request's bounds.
- `GET /log` tells each request that was answered, as [question, seed, samples], and more.
"""

import argparse
import asyncio
import functools
import gzip
import json
import random
import re
import sys
from collections import Counter
from typing import Any

from aiohttp import web

TEXT = "<think>I count.</think><answer>{}</answer>"
BOMB_BYTES = 2**28
FINISH_REASONS = ("abort", "error", "content_filter", "tool_calls", "odd", None)
"""Finish reasons that are no answer; a fault "reason X" gives all choices one of them."""


class Server:
    """The state of one server."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.random = random.Random(options.random)
        self.mode = ""
        self.seen = self.probed = 0
        self.busy = self.busiest = 0
        self.faults: Counter[str] = Counter()
        self.log: list[tuple[str, int | None, int]] = []
        self.used = [0, 0]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen += 1
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await asyncio.sleep(self.options.latency)
            question = _text(body["messages"][-1]["content"])
            told = re.search(r"\{.*\}", question)
            fault = json.loads(told[0]) if told else {}
            if self.mode:
                return _refusal(self.mode)
            if fault and self.faults[question] < fault.get("times", 10**9):
                self.faults[question] += 1
                return await self._misbehave(request, body, fault["fault"])
            if self.options.most and self.busy > self.options.most:
                return _refusal("429")
            if self.options.random:
                return await self._random(request, body, question)
            return self._answer(body, question)
        finally:
            self.busy -= 1

    # ------------------------------------------------------------------------------ answers

    def _answer(
        self,
        body: dict[str, Any],
        question: str,
        choices: list[dict[str, Any]] | None = None,
        **fields: Any,
    ) -> web.Response:
        """A reply with good choices, or those that are given; `fields` replace parts of it."""
        samples = body.get("n", 1)
        if self.options.single == "refuse" and samples > 1:
            return web.json_response({"error": "n must be 1"}, status=400)
        given = 1 if self.options.single == "ignore" else samples
        self.log.append((question, body.get("seed"), given))
        listed = [self.choice(index) for index in range(given)]
        for index, changed in enumerate(choices or ()):
            listed[index] |= changed
        usage = {"prompt_tokens": 10, "completion_tokens": 7 * given}
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": self.options.model or body["model"],
            "choices": listed,
            "usage": usage | {"total_tokens": 10 + 7 * given},
        }
        # NaN and Infinity are not JSON, but Python writes and servers send them.
        return web.Response(text=json.dumps(reply | fields), content_type="application/json")

    def choice(self, index: int) -> dict[str, Any]:
        """A good choice."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": TEXT.format(self.options.answer)},
            "finish_reason": "stop",
            "logprobs": None,
        }

    async def _random(
        self, request: web.Request, body: dict[str, Any], question: str
    ) -> web.StreamResponse:
        """One of several fates. What the model used is counted, even when nobody is told."""
        fate = self.random.random()
        if fate < 0.005:
            return _refusal("429")
        text = sum(len(_text(one["content"]).encode()) for one in body["messages"])
        completion = self.random.randint(1, body.get("n", 1) * body["max_tokens"])
        prompt = self.random.randint(1, text)
        self.used[0] += prompt
        self.used[1] += completion
        if fate < 0.10:
            return _reset(request)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        if fate < 0.15:
            return self._answer(body, question, usage=None)
        if fate < 0.20:
            return self._answer(body, question, choices=[_says("")], usage=usage)
        if fate < 0.25:
            return _refusal("500")
        return self._answer(body, question, usage=usage)

    # ------------------------------------------------------------------------------- faults

    async def _misbehave(
        self, request: web.Request, body: dict[str, Any], fault: str
    ) -> web.StreamResponse:
        samples = body.get("n", 1)
        if fault.isdecimal():
            return _refusal(fault)
        if fault.startswith("reason "):
            reason = next(one for one in FINISH_REASONS if str(one) == fault[7:])
            return self._answer(body, fault, choices=[{"finish_reason": reason}] * samples)
        whole = {
            "429 retry-after": lambda: _refusal("429", {"Retry-After": "1"}),
            "quota": lambda: _refusal("429", code="insufficient_quota"),
            "policy": lambda: _refusal("400", code="content_filter"),
            "reset": lambda: _reset(request),
            "malformed": lambda: web.Response(text='{"choices": ['),
            "no choices": lambda: web.json_response({"choices": []}),
            "html": lambda: web.Response(text="<html>Bad gateway</html>"),
            "bomb": _bomb,
            "bad utf-8": lambda: self._bad_utf8(body),
            "no usage": lambda: self._answer(body, fault, usage=None),
            "absurd usage": lambda: self._usage(body, 10**30),
            "infinite usage": lambda: self._usage(body, float("inf")),
            "negative usage": lambda: self._usage(body, -5),
            "too much usage": lambda: self._usage(body, 10**7),
            "another model": lambda: self._answer(body, fault, model="another-model"),
        }
        choices: dict[str, list[dict[str, Any]]] = {
            "empty": [_says("")] * samples,
            "one empty": [_says("")],
            "one filtered": [{"finish_reason": "content_filter"}],
            "refusal": [_says("", refusal="I cannot help with that.")] * samples,
            "reasoning only": [_says(None, reasoning_content="I count and count.")] * samples,
            "reasoning": [_says("<answer>5</answer>", reasoning_content="I count.")] * samples,
            "length": [{**_says("<think>I count"), "finish_reason": "length"}] * samples,
            "surrogate": [_says("<answer>5</answer> \ud83d")] * samples,
            "broken choice": [{"message": None}],
        }
        if fault in whole:
            return whole[fault]()
        if fault in choices:
            return self._answer(body, fault, choices=choices[fault])
        if fault == "hang":
            await asyncio.sleep(3_600)
        if fault == "slow":
            await asyncio.sleep(2.0)
            return self._answer(body, fault)
        if fault == "half":
            return await _half(request)
        raise AssertionError(f"no such fault: {fault}")

    def _usage(self, body: dict[str, Any], tokens: float) -> web.Response:
        usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
        return self._answer(body, "usage", usage=usage)

    def _bad_utf8(self, body: dict[str, Any]) -> web.Response:
        good = self._answer(body, "bad utf-8").body
        assert isinstance(good, bytes)
        bad = good.replace(b"I count.", b"I \xff count.")
        return web.Response(body=bad, content_type="application/json")

    # ---------------------------------------------------------------------------- for tests

    async def models(self, request: web.Request) -> web.Response:
        self.probed += 1
        return web.json_response({"data": []})

    async def set_mode(self, request: web.Request) -> web.Response:
        self.mode = await request.text()
        return web.Response()

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "seen": self.seen,
                "probed": self.probed,
                "busiest": self.busiest,
                "log": self.log,
                "used": self.used,
            }
        )


def _says(text: str | None, **fields: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text} | fields}


def _refusal(
    status: str, headers: dict[str, str] | None = None, code: str | None = None
) -> web.Response:
    error = {"message": f"told to say {status}", "code": code}
    moved = {"Location": "http://elsewhere.example/v1?api-key=hidden"} if status[0] == "3" else {}
    return web.json_response({"error": error}, status=int(status), headers=moved | (headers or {}))


def _reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@functools.cache
def _bomb_bytes() -> bytes:
    return gzip.compress(b" " * BOMB_BYTES, compresslevel=1)


def _bomb() -> web.Response:
    return web.Response(body=_bomb_bytes(), headers={"Content-Encoding": "gzip"})


async def _half(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(
        headers={"Content-Length": "1000", "Content-Type": "application/json"}
    )
    await answer.prepare(request)
    await answer.write(b'{"choices": [{"index"')
    assert request.transport is not None
    request.transport.abort()
    return answer


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "<image>") for part in content)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--most", type=int, default=0, help="more requests at once get a 429")
    parser.add_argument(
        "--single", choices=("", "ignore", "refuse"), default="", help="what becomes of n"
    )
    parser.add_argument("--answer", default="5")
    parser.add_argument("--model", default="", help="what is served; the asked model if not given")
    parser.add_argument("--random", type=int, default=0, help="the seed of random fates")
    parser.add_argument("--port", type=int, default=0)
    server = Server(parser.parse_args())
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/v1/models", server.models)
    app.router.add_post("/mode", server.set_mode)
    app.router.add_get("/log", server.tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", server.options.port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
