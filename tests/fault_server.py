"""A real HTTP server that speaks chat completions and misbehaves as it is told: `python -m tests.fault_server`.

It prints its port, listens on 127.0.0.1 and ends when its standard input closes. A question may hold a JSON object that
says what goes wrong, and how often: `{"fault": "500", "times": 2}`. `GET /log` gives each request that was answered, as
[question, seed, samples], and `GET /seen` the number of requests of any kind.
"""

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from typing import Any

from aiohttp import web

TEXT = "<think>I count.</think><answer>{}</answer>"


class Server:
    """The state of one server."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seen = 0
        self.busy = self.busiest = 0
        self.faults: Counter[str] = Counter()
        self.log: list[tuple[str, int | None, int]] = []

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
            if fault and self.faults[question] < fault.get("times", 10**9):
                self.faults[question] += 1
                return await self._misbehave(request, body, fault["fault"])
            if self.options.most and self.busy > self.options.most:
                return web.json_response({"error": "too many"}, status=429)
            return self._answer(body, question)
        finally:
            self.busy -= 1

    def _answer(self, body: dict[str, Any], question: str, **fields: Any) -> web.Response:
        samples = body.get("n", 1)
        if self.options.single == "refuse" and samples > 1:
            return web.json_response({"error": "n must be 1"}, status=400)
        given = 1 if self.options.single == "ignore" else samples
        self.log.append((question, body.get("seed"), given))
        message = {"role": "assistant", "content": TEXT.format(self.options.answer)} | fields.pop(
            "message", {}
        )
        choices = [
            {
                "index": index,
                "message": message,
                "finish_reason": fields.get("finish_reason", "stop"),
                "logprobs": None,
            }
            for index in range(given)
        ]
        usage = {
            "prompt_tokens": 10,
            "completion_tokens": 7 * given,
            "total_tokens": 10 + 7 * given,
        }
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "served-model",
            "choices": choices,
            "usage": usage,
        }
        return web.json_response(reply)

    async def _misbehave(
        self, request: web.Request, body: dict[str, Any], fault: str
    ) -> web.StreamResponse:
        match fault:
            case "429" | "500" | "503" | "400" | "401" | "413":
                return web.json_response({"error": f"told to say {fault}"}, status=int(fault))
            case "429 retry-after":
                return web.json_response(
                    {"error": "later"}, status=429, headers={"Retry-After": "1"}
                )
            case "reset":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "hang":
                await asyncio.sleep(3_600)
                return web.Response()
            case "empty":
                return self._answer(body, "empty", message={"content": ""})
            case "reasoning only":
                return self._answer(
                    body,
                    "reasoning",
                    message={"content": None, "reasoning_content": "I count and count."},
                )
            case "reasoning":
                return self._answer(
                    body,
                    "both",
                    message={"content": "<answer>5</answer>", "reasoning_content": "I count."},
                )
            case "length":
                return self._answer(
                    body, "length", message={"content": "<think>I count"}, finish_reason="length"
                )
            case "malformed":
                return web.Response(text='{"choices": [', content_type="application/json")
            case "no choices":
                return web.json_response({"choices": []})
            case "html":
                return web.Response(text="<html>Bad gateway</html>")
            case "half":
                answer = web.StreamResponse(
                    headers={"Content-Length": "1000", "Content-Type": "application/json"}
                )
                await answer.prepare(request)
                await answer.write(b'{"choices": [{"index"')
                assert request.transport is not None
                request.transport.abort()
                return answer
        raise AssertionError(f"no such fault: {fault}")

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response({"seen": self.seen, "busiest": self.busiest, "log": self.log})


def _text(content: str | list[dict[str, Any]]) -> str:
    return (
        content
        if isinstance(content, str)
        else "".join(part.get("text", "<image>") for part in content)
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--most", type=int, default=0, help="more requests at once get a 429")
    parser.add_argument(
        "--single", choices=("", "ignore", "refuse"), default="", help="what becomes of n"
    )
    parser.add_argument("--answer", default="5")
    parser.add_argument("--port", type=int, default=0)
    server = Server(parser.parse_args())
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/log", server.tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", server.options.port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
