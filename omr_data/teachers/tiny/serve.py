"""The embedded teacher as an OpenAI-compatible server, `omr teacher serve`: a real model over HTTP.

It reads `messages` (text, and images as data URLs), `n`, `seed`, `temperature` and `max_tokens`.
Sample i of a request has the seed plus i, as in vLLM; without a seed, one is chosen at random. One
request is answered at a time.
"""

import base64
import binascii
import json
import random
import socket
import threading
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from omr_data.records import IMAGE_MARK, Message
from omr_data.teachers import tiny
from omr_data.teachers.tiny.network import load_network
from omr_data.teachers.tiny.prompts import encode_prompt
from omr_data.teachers.tiny.sample import Sampler, SampleRequest

MAX_SAMPLES = 64
"""Samples of one request, at most: others wait while it is answered."""
MAX_TOKENS = 256
"""Tokens of a sample, at most. The model's answers are far shorter."""


class _Refused(Exception):
    """A request that cannot be answered; the text says why."""


class _Model:
    """The loaded model, used by one thread at a time."""

    def __init__(self) -> None:
        self._network, self._tokenizer = load_network(tiny.FOLDER)
        self._lock = threading.Lock()
        self.name = tiny.Teacher().model_id

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """One completion. Raises _Refused."""
        messages, image = read_chat(body.get("messages"))
        samples = _number(body, "n", 1, MAX_SAMPLES)
        tokens = _number(body, "max_tokens", 64, MAX_TOKENS)
        # Without one, the temperature that the teacher itself has.
        temperature = body.get("temperature", tiny.TEMPERATURE)
        if not isinstance(temperature, int | float) or not 0 <= temperature <= 10:
            raise _Refused("temperature must be a number from 0 to 10")
        first = body.get("seed")
        if not isinstance(first, int) or first < 0:
            first = random.randrange(2**31)
        prompt = encode_prompt(self._tokenizer, messages, image)
        # Attempts are numbered from the seed, so equal seeds give equal samples.
        wanted = SampleRequest("", prompt, tuple(range(first, first + samples)))
        # Two requests at once would share two cores, and neither would be done sooner.
        with self._lock:
            sampler = Sampler(self._network, self._tokenizer, float(temperature), tokens, 0)
            (answers,) = sampler.sample([wanted])
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": sample.text},
                "finish_reason": sample.finish_reason,
                "logprobs": None,
            }
            for index, sample in enumerate(answers)
        ]
        completion = sum(sample.tokens for sample in answers)
        usage = {
            "prompt_tokens": len(prompt.ids),
            "completion_tokens": completion,
            "total_tokens": len(prompt.ids) + completion,
        }
        return {
            "id": f"tiny-{first}",
            "object": "chat.completion",
            "created": 0,
            "model": self.name,
            "choices": choices,
            "usage": usage,
        }


def _number(body: dict[str, Any], name: str, usual: int, most: int) -> int:
    value = body.get(name) or usual
    if not isinstance(value, int) or not 1 <= value <= most:
        raise _Refused(f"{name} must be a whole number from 1 to {most}")
    return value


def read_chat(given: object) -> tuple[tuple[Message, ...], bytes | None]:
    """Reads a chat in the form of the OpenAI API.

    Returns:
        The messages, and the first image: the model uses only one.
    """
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise _Refused("messages must be a list of objects")
    messages, images = [], []
    for one in given:
        content = one.get("content")
        parts = content
        if not isinstance(content, list):
            parts = [{"type": "text", "text": content}]
        text = ""
        for part in parts:
            match part:
                case {"type": "text", "text": str(words)}:
                    text += words
                case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith(
                    "data:"
                ):
                    try:
                        images.append(base64.b64decode(url.partition(",")[2], validate=True))
                    except binascii.Error as error:
                        raise _Refused("an image is not valid base64") from error
                    text += IMAGE_MARK
                case _:
                    raise _Refused("content must be text, or parts of text and images as data URLs")
        # The template would write any role into the prompt as it is.
        if one.get("role") not in ("system", "user", "assistant"):
            raise _Refused("role must be system, user or assistant")
        messages.append(Message(one["role"], text))
    # The others are decoded above all the same, so that a broken one is an error.
    return tuple(messages), next(iter(images), None)


def make_app() -> Starlette:
    """Makes the application, and loads the model."""
    model = _Model()

    async def complete(request: Request) -> JSONResponse:
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise _Refused("the body must be a JSON object")
            # In a thread, so that the server goes on accepting requests while it samples.
            return JSONResponse(await run_in_threadpool(model.answer, body))
        except json.JSONDecodeError:
            return _error("the body is not JSON")
        # Pillow raises an OSError for an image that it cannot read.
        except (_Refused, OSError) as error:
            return _error(str(error))

    async def models(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "object": "list",
                "data": [{"id": model.name, "object": "model", "owned_by": "omr_data"}],
            }
        )

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
        ]
    )


def _error(text: str) -> JSONResponse:
    return JSONResponse(
        {"error": {"message": text, "type": "invalid_request_error"}}, status_code=400
    )


def serve(host: str, port: int) -> None:
    """Serves until it is stopped, and prints its URL. Port 0 takes a free one."""
    app = make_app()
    # Bound before the URL is printed, so that whoever reads it can connect.
    listening = socket.create_server((host, port))
    print(f"{tiny.Teacher().model_id} at http://{host}:{listening.getsockname()[1]}/v1", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
