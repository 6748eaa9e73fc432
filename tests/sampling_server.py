"""A server that samples for the trainer as vLLM does: `python -m tests.sampling_server`.

Its answers depend on the question alone: numbers, some of them right. It reads prompts as the
embedded model does, and tells which weights it was told to load.
"""

import argparse
import base64
import hashlib
import json
import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from omr_data.records import IMAGE_MARK
from omr_data.teachers import tiny
from omr_data.train.chat import Encoder


def make_app(log: list[Any]) -> Starlette:
    """`log` gets the bodies of all calls but those for samples."""
    encoder = Encoder(str(tiny.FOLDER))

    def choice(body: dict[str, Any], index: int) -> dict[str, Any]:
        digest = hashlib.sha256(f"{body['messages']}:{index}:{body['seed']}".encode()).digest()
        text = (
            f"<think>so</think><answer>{digest[0] % 24}</answer>" if digest[1] > 60 else "<answer>"
        )
        ids = [
            *encoder.tokenizer(text, add_special_tokens=False)["input_ids"],
            *([encoder.end_token] if digest[1] > 60 else []),
        ]
        logprobs = [
            {"token": "", "logprob": -0.5 - digest[2 + place % 20] / 256}
            for place in range(len(ids))
        ]
        return {
            "index": index,
            "token_ids": ids,
            "logprobs": {"content": logprobs},
            "finish_reason": "stop" if digest[1] > 60 else "length",
        }

    async def complete(request: Request) -> JSONResponse:
        body = await request.json()
        assert body["repetition_penalty"] == 1.0 and body["return_token_ids"] and body["logprobs"]
        images, turns = [], []
        for message in body["messages"]:
            parts = (
                message["content"]
                if isinstance(message["content"], list)
                else [{"type": "text", "text": message["content"]}]
            )
            images += [
                base64.b64decode(part["image_url"]["url"].partition(",")[2])
                for part in parts
                if part["type"] == "image_url"
            ]
            turns.append(
                {
                    "role": message["role"],
                    "content": "".join(part.get("text", IMAGE_MARK) for part in parts),
                }
            )
        choices = [choice(body, index) for index in range(body["n"])]
        return JSONResponse(
            {"choices": choices, "prompt_token_ids": encoder.prompt(turns, images).ids.tolist()}
        )

    async def told(request: Request) -> JSONResponse:
        log.append([request.url.path, json.loads(await request.body() or b"{}")])
        return JSONResponse({"success": True})

    async def look(request: Request) -> JSONResponse:
        return JSONResponse(log)

    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"data": [{"id": "canned"}]})

    caches = [
        Route(f"/reset_{name}_cache", told, methods=["POST"])
        for name in ("mm", "encoder", "prefix")
    ]
    calls = [
        Route("/collective_rpc", told, methods=["POST"]),
        Route("/log", look),
        Route("/v1/models", models),
    ]
    return Starlette(
        routes=[*caches, *calls, Route("/v1/chat/completions", complete, methods=["POST"])]
    )


def main() -> None:
    """Prints its URL, and serves until it is stopped."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(make_app([]), log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main()
