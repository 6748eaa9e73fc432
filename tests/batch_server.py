"""A real HTTP server with a hosted provider's Files and Batches: `python -m tests.batch_server`.

It prints its port, listens on 127.0.0.1 and ends when its standard input closes. It misbehaves as
it is told. A question may say in JSON what becomes of its line, and how often: `{"fault": "429",
"times": 1}`. `GET /log` tells what was bought; `POST /go` lets go of a held request (see `--hold`).
"""

import argparse
import asyncio
import itertools
import json
import re
import sys
import time
from collections import Counter
from typing import Any

from aiohttp import web

TEXT = "<think>I count.</think><answer>5</answer>"


class Server:
    """The state of one account."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.numbers = itertools.count(1)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.faults: Counter[str] = Counter()
        self.bought: list[tuple[str, int | None, int]] = []
        self.calls: Counter[str] = Counter()
        self.holding = ""
        self.going = asyncio.Event()

    # Files ----------------------------------------------------------------------------------------

    async def upload(self, request: web.Request) -> web.Response:
        fields = {part.name: await part.read() async for part in await request.multipart()}
        assert fields["purpose"] == b"batch"
        name = self.keep(fields["file"])
        await self.hold("upload")
        return web.json_response(_file(name, self.files[name]))

    def keep(self, content: bytes) -> str:
        name = f"file-{next(self.numbers)}"
        self.files[name] = content
        return name

    async def content(self, request: web.Request) -> web.Response:
        self.calls["content"] += 1
        if self.options.flaky and self.calls["content"] == 1:
            return web.Response(status=503)
        return web.Response(body=self.files[request.match_info["id"]])

    # Batches --------------------------------------------------------------------------------------

    async def make(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
        self.calls["make"] += 1
        await self.hold("before")
        batch = {
            "id": f"batch_{next(self.numbers)}",
            "object": "batch",
            "created_at": int(time.time()),
            "status": "validating",
        } | asked
        self.batches[batch["id"]] = batch
        batch["_made"] = time.monotonic()
        batch["_ready"] = batch["_made"] + self.options.seconds
        if self.options.flaky and self.calls["make"] == 1:
            assert request.transport is not None
            request.transport.abort()  # the batch is made, and nobody is told
        await self.hold("after")
        return web.json_response(_shown(batch))

    async def retrieve(self, request: web.Request) -> web.Response:
        self.calls["retrieve"] += 1
        if self.options.flaky and self.calls["retrieve"] == 1:
            return web.Response(status=500)
        batch = self.batches.get(request.match_info["id"])
        if batch is None or request.headers["Authorization"] == "Bearer another":
            return web.json_response({"error": {"message": "No such batch"}}, status=404)
        if time.monotonic() >= batch["_ready"] and batch["status"] in ("validating", "in_progress"):
            self.run(batch)
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        shown = _shown(batch)
        if batch["status"] == "completed" and self.calls["late"] < self.options.late:
            # The files appear a few looks after the status does.
            self.calls["late"] += 1
            shown |= {"output_file_id": None, "error_file_id": None}
        return web.json_response(shown)

    async def listing(self, request: web.Request) -> web.Response:
        shown_from = time.monotonic() - self.options.lag
        newest = [
            name for name in reversed(self.batches) if self.batches[name]["_made"] <= shown_from
        ]
        start = newest.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = newest[start : start + 2]  # small pages, so that paging is tested
        shown = [_shown(self.batches[name]) for name in page]
        return web.json_response(
            {"object": "list", "data": shown, "has_more": start + 2 < len(newest)}
        )

    def run(self, batch: dict[str, Any]) -> None:
        """Answers every line, or refuses the batch."""
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        errors = list(self.refusals(lines))
        if errors:
            batch |= {"status": "failed", "errors": {"object": "list", "data": errors}}
            return
        good, bad = [], []
        for line in lines:
            answer = self.answer(line["custom_id"], line["body"], self.options.outcome)
            if answer is not None:
                (good if (answer["response"] or {}).get("status_code") == 200 else bad).append(
                    json.dumps(answer)
                )
        batch |= {
            "status": self.options.outcome,
            "completed_at": int(time.time()),
            "output_file_id": None,
            "error_file_id": None,
        }
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        if good:
            batch["output_file_id"] = self.keep("\n".join(good).encode())
        if bad:
            batch["error_file_id"] = self.keep("\n".join(bad).encode())
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}

    def refusals(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        waiting = sum(batch["status"] == "in_progress" for batch in self.batches.values())
        if self.options.enqueued and waiting > self.options.enqueued:
            return [
                {
                    "code": "token_limit_exceeded",
                    "message": "Enqueued token limit reached",
                    "line": None,
                    "param": None,
                }
            ]
        seen: set[str] = set()
        for number, line in enumerate(lines, 1):
            for code, wrong in {
                "duplicate_custom_id": line["custom_id"] in seen or len(line["custom_id"]) > 64,
                "invalid_method": line["method"] != "POST",
                "invalid_url": line["url"] != "/v1/chat/completions",
                "model_not_found": line["body"]["model"] == "absent",
            }.items():
                if wrong:
                    return [
                        {
                            "code": code,
                            "message": f"told so of {line['body']['model']}",
                            "line": number,
                            "param": "body",
                        }
                    ]
            seen.add(line["custom_id"])
        return []

    def answer(self, name: str, body: dict[str, Any], outcome: str) -> dict[str, Any] | None:
        question, samples = _text(body["messages"][-1]["content"]), body.get("n", 1)
        self.bought.append((question, body.get("seed"), samples))
        told = re.search(r"\{.*\}", question)
        fault = json.loads(told[0]) if told else {}
        if fault and self.faults[question] < fault.get("times", 10**9):
            self.faults[question] += 1
            if fault["fault"] == "lost":
                return None
            if fault["fault"] == "expired":
                error = {
                    "code": "batch_expired",
                    "message": "This request could not be executed before the completion window "
                    "expired.",
                }
                return {"id": name, "custom_id": name, "response": None, "error": error}
            if fault["fault"] == "empty":
                return _answered(name, 200, _completion(body, samples, ""))
            if fault["fault"] == "surrogate":
                return _answered(name, 200, _completion(body, samples, f"{TEXT} \ud83d"))
            if fault["fault"] == "one empty":
                completion = _completion(body, samples, TEXT)
                completion["choices"][0]["message"] = {"role": "assistant", "content": ""}
                return _answered(name, 200, completion)
            if not fault["fault"].isdecimal():
                reason = None if fault["fault"] == "null" else fault["fault"]
                return _answered(name, 200, _completion(body, samples, TEXT, reason))
            return _answered(
                name, int(fault["fault"]), {"error": {"message": f"told to say {fault['fault']}"}}
            )
        if outcome != "completed" and len(self.bought) % 2:
            return None if outcome == "cancelled" else self.answer_expired(name)
        if self.options.single == "refuse" and samples > 1:
            return _answered(name, 400, {"error": {"message": "n must be 1"}})
        return _answered(
            name, 200, _completion(body, 1 if self.options.single == "ignore" else samples, TEXT)
        )

    def answer_expired(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "custom_id": name,
            "response": None,
            "error": {"code": "batch_expired", "message": "too late"},
        }

    # For tests ------------------------------------------------------------------------------------

    async def hold(self, moment: str) -> None:
        if self.options.hold == moment and not self.going.is_set():
            self.holding = moment
            await self.going.wait()

    async def go(self, request: web.Request) -> web.Response:
        self.going.set()
        if (await request.read()) == b"complete":
            self.options.outcome = "completed"
        return web.Response()

    async def tell(self, request: web.Request) -> web.Response:
        sizes = [
            len(self.files[batch["input_file_id"]].splitlines()) for batch in self.batches.values()
        ]
        return web.json_response(
            {"batches": sizes, "bought": self.bought, "holding": self.holding, "calls": self.calls}
        )


def _completion(
    body: dict[str, Any], samples: int, text: str, reason: str | None = "stop"
) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choices = [
        {"index": index, "message": message, "finish_reason": reason, "logprobs": None}
        for index in range(samples)
    ]
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 7 * samples,
        "total_tokens": 10 + 7 * samples,
    }
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": choices,
        "usage": usage,
    }


def _answered(name: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "custom_id": name,
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": None,
    }


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {
        "id": name,
        "object": "file",
        "bytes": len(content),
        "created_at": 1,
        "filename": "x",
        "purpose": "batch",
        "status": "processed",
    }


def _shown(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if not name.startswith("_")}


def _text(content: str | list[dict[str, Any]]) -> str:
    return (
        content
        if isinstance(content, str)
        else "".join(part.get("text", "<image>") for part in content)
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.0, help="from making a batch to its end")
    parser.add_argument(
        "--outcome",
        choices=("completed", "expired", "cancelled"),
        default="completed",
        help="how batches end",
    )
    parser.add_argument(
        "--single", choices=("", "ignore", "refuse"), default="", help="what becomes of n"
    )
    parser.add_argument(
        "--enqueued", type=int, default=0, help="more batches at once fail; -1 fails all"
    )
    parser.add_argument(
        "--flaky",
        type=int,
        default=0,
        help="the first call of each kind fails; making a batch does so after it is made",
    )
    parser.add_argument(
        "--late", type=int, default=0, help="looks at a completed batch without its file ids"
    )
    parser.add_argument(
        "--lag", type=float, default=0.0, help="seconds until a new batch is in the list"
    )
    parser.add_argument(
        "--hold",
        choices=("", "upload", "before", "after"),
        default="",
        help="hold the answer to an upload, or a batch",
    )
    server = Server(parser.parse_args())
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_post("/v1/batches", server.make)
    app.router.add_get("/v1/batches", server.listing)
    app.router.add_get("/v1/batches/{id}", server.retrieve)
    app.router.add_get("/log", server.tell)
    app.router.add_post("/go", server.go)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
