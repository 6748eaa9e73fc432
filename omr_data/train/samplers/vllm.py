"""Sampling by a vLLM server that is given the policy's weights before every step.

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs
    omr train gspo RELEASE --preset omr-7b-gspo --out DIR --set engine=http://HOST:8000

Weights go through a folder that both can read, `DIR/served`: the trainer writes safetensors there,
and tells the server to load them in place and to clear the caches that depend on the old ones. That
costs writing and reading the model once a step (15 GB for 7B in bfloat16, which is seconds from
/dev/shm or NVMe). It needs no process group across two programs. The calls for it exist in vLLM's
development mode only: such a server must not be reachable by anybody else.
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
from omr_data.records import data_url
from omr_data.store.images import inspect_image
from omr_data.train.chat import Encoder, Example
from omr_data.train.checkpoints import export_model
from omr_data.train.model import Policy
from omr_data.train.ranks import Ranks
from omr_data.train.release import PolicyPrompt
from omr_data.train.samplers.base import Completion, SamplingParams

TRIES = 5
"""How often a call is tried."""
TIMEOUT_SECONDS = 3_600.0
"""Limit of one call. All tries of a call stay under `ranks.COLLECTIVE_TIMEOUT`."""
IN_FLIGHT = 256
"""Prompts that each rank has at the server at once; the server has its own queue."""
CACHES = ("mm", "encoder", "prefix")
"""Caches of the server that hold results of the weights."""


class VLLMSampler:
    """Samples from a vLLM server, over its HTTP interface."""

    def __init__(
        self,
        url: str,
        folder: Path,
        policy: Policy,
        encoder: Encoder,
        ranks: Ranks,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Sets the sampler up; nothing is sent yet.

        Args:
            url: The server, with or without /v1.
            folder: The folder through which weights are handed over.
            policy: The policy whose weights the server loads.
            encoder: Renders chats, and is written beside the weights.
            ranks: The processes of the run.
            dtype: The precision in which weights are handed over; None keeps float32.
        """
        self._url = url.rstrip("/").removesuffix("/v1")
        self._folder = folder
        self._policy = policy
        self._encoder = encoder
        self._ranks = ranks
        self._dtype = dtype
        self._model: str | None = None

    def sync(self) -> None:
        """Writes the weights and has the server load them. Raises TrainError when it does not."""
        export_model(self._policy, self._encoder, self._folder, self._ranks, self._dtype)
        if self._ranks.is_main:
            asyncio.run(self._load_weights())
        self._ranks.barrier()

    def sample(
        self,
        prompts: Sequence[PolicyPrompt],
        encoded: Sequence[Example],
        params: SamplingParams,
        step: int,
    ) -> list[list[Completion]]:
        """Samples completions, with the server's log-probabilities.

        Args:
            prompts: The prompts of this rank.
            encoded: The same prompts as token ids. The server must read them alike.
            params: How to sample.
            step: The number of the step.

        Raises:
            TrainError: The server does not answer, or tokenizes a prompt differently.
        """

        async def sample_all() -> list[list[Completion]]:
            # Without a limit, the images of a whole step would be in flight at once.
            slots = asyncio.Semaphore(IN_FLIGHT)
            async with _session() as http:
                if self._model is None:
                    models = await self._call(http, "GET", "/v1/models", {})
                    self._model = str(models["data"][0]["id"])
                asked = (
                    self._sample_one(http, slots, prompt, ids, params, step)
                    for prompt, ids in zip(prompts, encoded, strict=True)
                )
                return await asyncio.gather(*asked)

        return asyncio.run(sample_all())

    async def _load_weights(self) -> None:
        path = str(self._folder.resolve())
        reload = {"method": "reload_weights", "kwargs": {"weights_path": path}}
        async with _session() as http:
            await self._call(http, "POST", "/collective_rpc", reload)
            # Loading clears the workers' image caches, but the scheduler is not told, and would
            # count on entries that are gone.
            for cache in CACHES:
                done = await self._call(http, "POST", f"/reset_{cache}_cache", {})
                if not done.get("success", True):
                    raise TrainError(
                        f"{self._url} keeps its {cache} cache of the old weights, because others "
                        "use it. Give the trainer a server of its own."
                    )

    async def _sample_one(
        self,
        http: aiohttp.ClientSession,
        slots: asyncio.Semaphore,
        prompt: PolicyPrompt,
        encoded: Example,
        params: SamplingParams,
        step: int,
    ) -> list[Completion]:
        # The seed depends on the question and not on its place, so any number of ranks samples
        # the same completions.
        digest = hashlib.sha256(f"{params.seed}:{step}:{prompt.id}".encode()).digest()
        body = {
            "model": self._model,
            "messages": self._messages(prompt),
            "n": params.n,
            "seed": int.from_bytes(digest[:4]) >> 1,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "max_tokens": params.max_tokens,
            # What is not sent is taken from the model folder's generation_config.json.
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logprobs": True,
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
        async with slots:
            answer = await self._call(http, "POST", "/v1/chat/completions", body)
        # Another chat template or image size would train on tokens that were never sampled from.
        read = answer.get("prompt_token_ids")
        if read != encoded.ids.tolist():
            raise TrainError(
                f"{self._url} reads {prompt.id} as {len(read or ())} tokens, and the trainer as "
                f"{len(encoded)}, or as other ones: give both the same model folder, with its "
                "chat template and image sizes."
            )
        # The server may finish them in any order.
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return [_completion(choice) for choice in choices]

    def _messages(self, prompt: PolicyPrompt) -> list[dict[str, Any]]:
        """The chat in the form that the server takes, with images as data URLs."""
        images = iter(prompt.images)
        chat: list[dict[str, Any]] = []
        for turn in prompt.messages:
            parts = self._encoder.content_parts(turn["content"])
            for place, part in enumerate(parts):
                if part["type"] == "image":
                    # The original bytes: the server must resize the same pixels as the trainer.
                    image = next(images)
                    url = data_url(inspect_image(image), base64.b64encode(image).decode())
                    parts[place] = {"type": "image_url", "image_url": {"url": url}}
            # Some templates take text only as a plain string.
            content: str | list[dict[str, Any]] = parts
            if all(part["type"] == "text" for part in parts):
                content = "".join(part["text"] for part in parts)
            chat.append({"role": turn["role"], "content": content})
        return chat

    async def _call(
        self, http: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """The JSON of an answer. What may pass is tried again, after a pause that grows."""
        fault = ""
        for attempt in range(TRIES):
            try:
                async with http.request(method, f"{self._url}{path}", json=body) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        # Some of vLLM's calls answer with an empty body.
                        found: dict[str, Any] = await answer.json() if text else {}
                        return found
                    fault = f"{answer.status} {text[:300]}"
                    # A request that the server refuses is refused again; only overload and its
                    # own faults pass.
                    if answer.status < 500 and answer.status != 429:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:
                fault = f"{type(error).__name__}: {error}"
            await asyncio.sleep(attempt)
        raise TrainError(
            f"{self._url}{path}: {fault}. Start the server with VLLM_SERVER_DEV_MODE=1; "
            "the same command goes on from the last checkpoint."
        )


def _session() -> aiohttp.ClientSession:
    # aiohttp's own limit of 100 connections would be a queue before the server's.
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


def _completion(choice: dict[str, Any]) -> Completion:
    ids = tuple(choice["token_ids"])
    logprobs = tuple(float(token["logprob"]) for token in choice["logprobs"]["content"])
    # A mismatch would shift the correction to other tokens without any error.
    if not logprobs or len(logprobs) != len(ids):
        raise TrainError(
            f"the server gives {len(ids)} tokens and {len(logprobs)} log-probabilities for one "
            "completion."
        )
    return Completion(ids, choice["finish_reason"] == "stop", logprobs)
