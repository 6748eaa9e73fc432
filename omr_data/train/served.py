"""A vLLM server that samples for the trainer, with the policy's weights before every step.

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs
    omr train gspo RELEASE --preset omr-7b-gspo --out DIR --set engine=http://HOST:8000

Weights go through a folder that both can read (`DIR/served`): the policy is written there as safetensors, and the server told to
load them in place and to forget what it cached of the old ones. That costs a write and a read of the model for each step (15 GB
for 7B in bfloat16: seconds from /dev/shm or NVMe), and needs no group of processes across two programs. The calls for it exist in
vLLM's development mode only: let nobody else reach such a server.
"""

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import torch

from omr_data.errors import TrainError
from omr_data.records import Message
from omr_data.store.images import inspect_image
from omr_data.teacher import Request
from omr_data.teachers.openai_api.wire import data_url, messages
from omr_data.train.chat import Encoder, Example
from omr_data.train.checkpoints import export
from omr_data.train.engines import Sampling
from omr_data.train.model import Policy, Sampled
from omr_data.train.ranks import Ranks
from omr_data.train.rows import Problem

TRIES = 5
SECONDS = 3_600.0
"""For one call; five tries of it stay under what other processes wait for this one (`ranks.LONGEST`)."""
IN_FLIGHT = 256
"""Questions at once for each rank; the server has its own queue."""


class Server:
    """The engine behind a URL, without /v1. `dtype`: what the server computes in, and is sent."""

    def __init__(
        self,
        url: str,
        folder: Path,
        encoder: Encoder,
        ranks: Ranks,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._folder, self._encoder, self._ranks, self._dtype = folder, encoder, ranks, dtype
        self._model: str | None = None

    def sync(self, policy: Policy) -> None:
        """Writes the weights, and has the server load them. Raises TrainError when it does not."""
        export(policy, self._encoder, self._folder, self._ranks, self._dtype)
        if self._ranks.first:
            asyncio.run(self._load())
        self._ranks.barrier()

    def sample(
        self, problems: Sequence[Problem], prompts: Sequence[Example], sampling: Sampling, step: int
    ) -> list[list[Sampled]]:
        """n answers to each problem, with the server's log-probabilities.

        Raises:
            TrainError: the server does not answer, or reads a prompt otherwise than the trainer.
        """
        return asyncio.run(self._sample(problems, prompts, sampling, step))

    async def _load(self) -> None:
        async with self._session() as http:
            weights = {
                "method": "reload_weights",
                "kwargs": {"weights_path": str(self._folder.resolve())},
            }
            await self._call(http, "POST", "/collective_rpc", weights)
            # The workers forget images by themselves when they load; the scheduler must be told, or it counts on what is gone.
            for cache in ("mm", "encoder", "prefix"):
                done = await self._call(http, "POST", f"/reset_{cache}_cache", {})
                if not done.get("success", True):
                    raise TrainError(
                        f"{self._url} keeps its {cache} cache of the old weights: others use it. Give the trainer a server of its own."
                    )

    async def _sample(
        self, problems: Sequence[Problem], prompts: Sequence[Example], sampling: Sampling, step: int
    ) -> list[list[Sampled]]:
        async with self._session() as http:
            if self._model is None:
                self._model = str(
                    (await self._call(http, "GET", "/v1/models", {}))["data"][0]["id"]
                )
            room = asyncio.Semaphore(IN_FLIGHT)
            asked = (
                self._ask(http, room, problem, prompt, sampling, step)
                for problem, prompt in zip(problems, prompts, strict=True)
            )
            return await asyncio.gather(*asked)

    async def _ask(
        self,
        http: aiohttp.ClientSession,
        room: asyncio.Semaphore,
        problem: Problem,
        prompt: Example,
        sampling: Sampling,
        step: int,
    ) -> list[Sampled]:
        digest = hashlib.sha256(f"{sampling.seed}:{step}:{problem.id}".encode()).digest()
        body = {
            "model": self._model, "messages": self._chat(problem), "n": sampling.n, "seed": int.from_bytes(digest[:4]) >> 1,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0, "max_tokens": sampling.max_tokens,
            "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "min_p": 0.0,  # else the model folder's own
            "logprobs": True, "return_token_ids": True, "skip_special_tokens": False,
        }  # fmt: skip
        async with room:
            answer = await self._call(http, "POST", "/v1/chat/completions", body)
        read = answer.get("prompt_token_ids")
        if read != prompt.ids.tolist():
            raise TrainError(
                f"{self._url} reads {problem.id} as {len(read or ())} tokens, and the trainer as {len(prompt)}, or as other ones: "
                "give both the same model folder, with its chat template and image sizes."
            )
        return [
            _read(choice)
            for choice in sorted(answer["choices"], key=lambda choice: choice["index"])
        ]

    def _chat(self, problem: Problem) -> list[dict[str, Any]]:
        turns = tuple(
            Message(turn["role"], self._encoder.plain(turn["content"]))  # type: ignore[arg-type]
            for turn in problem.messages
        )
        refs = [inspect_image(data) for data in problem.images]
        held = {
            ref.sha256: base64.b64encode(data).decode()
            for ref, data in zip(refs, problem.images, strict=True)
        }
        return messages(
            Request("", turns, tuple(refs), ()), lambda ref: data_url(ref, held[ref.sha256])
        )

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=SECONDS)
        )

    async def _call(
        self, http: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """The JSON of an answer. What may pass is tried again, a second longer apart each time."""
        fault = ""
        for attempt in range(TRIES):
            try:
                async with http.request(method, f"{self._url}{path}", json=body) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        found: dict[str, Any] = await answer.json() if text else {}
                        return found
                    fault = f"{answer.status} {text[:300]}"
                    if answer.status < 500 and answer.status != 429:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:
                fault = f"{type(error).__name__}: {error}"
            await asyncio.sleep(attempt)
        raise TrainError(
            f"{self._url}{path}: {fault}. Start the server with VLLM_SERVER_DEV_MODE=1; the same command goes on from the last checkpoint."
        )


def _read(choice: dict[str, Any]) -> Sampled:
    logps = tuple(float(token["logprob"]) for token in choice["logprobs"]["content"])
    if not logps or len(logps) != len(choice["token_ids"]):
        raise TrainError(
            f"the server gives {len(choice['token_ids'])} tokens and {len(logps)} log-probabilities for one answer."
        )
    return Sampled(tuple(choice["token_ids"]), choice["finish_reason"] == "stop", logps)
