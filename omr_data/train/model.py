"""The model that is trained: any Qwen2.5-VL or Qwen3-VL class model of transformers, the embedded one with the same code.

**Policy**: the model behind two calls: `forward` gives the log-probability of every target of a packed batch, and
`generate` samples answers. Both are forwards to FSDP2, which shards parameters, gradients and optimizer states block by
block; with bfloat16 the masters stay float32.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from omr_data.errors import TrainError
from omr_data.train.attention import NAME as PACKED
from omr_data.train.batches import Batch
from omr_data.train.chat import Encoder, Example
from omr_data.train.ranks import Ranks
from omr_data.train.settings import Model, Trained

CHUNK_VALUES = 2**26
"""Logits of one chunk: 256 MiB in float32, of which about five copies live at once. Full logits of 61,440 tokens over 152,000
words would be 37 GB."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer: its token ids, the end token included if it got there, whether it did, and the log-probability of each id that
    the sampling engine gave, if it told."""

    ids: tuple[int, ...]
    ended: bool
    logps: tuple[float, ...] | None = None


class Policy(nn.Module):
    """A model with its language head. `published`: how its makers would sample from it. It is kept for the exported model, and
    counts for nothing here: transformers would fill in whatever is not said, a repetition penalty say."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model
        self.published, model.generation_config = model.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
        for part in (model.config.text_config, model.config.vision_config):
            part._attn_implementation = PACKED

    def forward(self, batch: Batch, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies (nats, without gradient) at the targets of a batch on this device, each (targets,) in float32."""
        states = self.model.model(
            input_ids=batch.ids,
            position_ids=batch.positions,
            attention_mask=None,
            pixel_values=batch.patches,
            image_grid_thw=batch.grids,
            use_cache=False,
            packed_edges=batch.edges,
            packed_longest=batch.longest,
        ).last_hidden_state
        return token_scores(
            states[0, batch.predict_at], self.model.lm_head.weight, batch.labels, temperature
        )

    @torch.no_grad()
    def generate(
        self,
        encoder: Encoder,
        prompts: Sequence[Example],
        n: int,
        max_tokens: int,
        temperature: float,
        top_p: float,
    ) -> list[list[Sampled]]:
        """n answers to each prompt; temperature 0 takes the likeliest token. Inside `generating`.

        Random numbers come from torch's global generator: seed it first.
        """
        with torch.compiler.set_stance(
            "force_eager"
        ):  # every new length of the cache would be compiled anew
            out = self.model.generate(
                **_left_padded(encoder, prompts, self.model.device),
                num_return_sequences=n,
                max_new_tokens=max_tokens,
                do_sample=temperature > 0,
                temperature=temperature or None,
                top_p=top_p if temperature else None,
                top_k=0 if temperature else None,
                eos_token_id=encoder.end_token,
                pad_token_id=encoder.pad_token,
            )
        answers = out[:, max(len(prompt) for prompt in prompts) :].tolist()
        cut = [_until(answer, encoder.end_token) for answer in answers]
        return [cut[start : start + n] for start in range(0, len(cut), n)]

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Attention with a cache and padding, no recomputation, and every parameter gathered, on all ranks together: what comes
        between may differ from rank to rank. Costs the memory of the whole model in the precision of its computations."""
        text, training = self.model.config.text_config, self.training
        sharded = [module for module in self.modules() if isinstance(module, FSDPModule)]
        text._attn_implementation = "sdpa"
        self.train(False)
        for module in sharded:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            text._attn_implementation = PACKED
            self.model.model.rope_deltas = None  # a later forward would take them for its own
            self.train(training)
            for module in sharded:
                module.set_reshard_after_forward(id(module) != id(self), recurse=False)
                module.reshard()


def _until(ids: Sequence[int], end: int) -> Sampled:
    ended = end in ids
    return Sampled(tuple(ids[: ids.index(end) + 1] if ended else ids), ended)


def _left_padded(
    encoder: Encoder, prompts: Sequence[Example], device: torch.device
) -> dict[str, torch.Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), longest), encoder.pad_token)
    mask = np.zeros((len(prompts), longest), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = prompt.ids, 1
    arrays = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == encoder.image_token).astype(np.int64),
    }
    if any(len(prompt.grids) for prompt in prompts):
        arrays["pixel_values"] = np.concatenate([prompt.patches for prompt in prompts])
        arrays["image_grid_thw"] = np.concatenate([prompt.grids for prompt in prompts])
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def token_scores(
    states: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(states @ weight.T / temperature) at the labels, and the entropy of that distribution, each (tokens,) in float32.

    `states` (tokens, hidden), `weight` (words, hidden). Logits are made chunk by chunk and made again in the backward pass, so
    that they are never all held; that costs one more product with `weight`.
    """
    size = chunk or max(1, CHUNK_VALUES // len(weight))
    if len(states) <= size:
        return _scores(states, weight, labels, temperature)
    parts = [
        checkpoint(_scores, part, weight, wanted, temperature, use_reentrant=False)
        for part, wanted in zip(torch.split(states, size), torch.split(labels, size), strict=True)
    ]
    return torch.cat([logps for logps, _ in parts]), torch.cat(
        [entropies for _, entropies in parts]
    )


def _scores(
    states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = (states @ weight.T).float() / temperature
    total = logits.logsumexp(-1)
    with torch.no_grad():
        entropy = total - (logits.softmax(-1) * logits).sum(-1)
    return logits.gather(-1, labels[:, None])[:, 0] - total, entropy


def load_policy(settings: Model, ranks: Ranks, seed: int = 0) -> Policy:
    """A policy on this rank's device, sharded over all ranks; with `start="random"` only the architecture counts, and the seed.

    Every rank reads the weights into its own memory first: four bytes a parameter of host memory for each rank of a machine.

    Raises:
        TrainError: the model cannot be loaded.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    auto: Any = AutoModelForImageTextToText
    name, revision = settings.folder, settings.revision_of_model
    torch.manual_seed(seed)
    try:
        if settings.start == "random":
            made = auto.from_config(
                AutoConfig.from_pretrained(name, revision=revision), dtype=torch.float32
            )
        else:
            made = auto.from_pretrained(
                name, revision=revision, dtype=torch.float32, attn_implementation="sdpa"
            )
    except (OSError, ValueError) as error:
        raise TrainError(
            f"{name} cannot be loaded: {error} Give a folder of weights that transformers reads, or a Hub id."
        ) from error
    held = settings if isinstance(settings, Trained) else Trained()
    return prepare(made, ranks, settings.precision, held.activation_checkpointing, held.compile)


def prepare(
    made: Any, ranks: Ranks, precision: str, activation_checkpointing: bool, compile: bool
) -> Policy:
    """Makes a policy of a model of transformers: recomputation, compilation and sharding, in this order, block by block."""
    made.train()
    if activation_checkpointing:
        made.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
    policy = Policy(made)
    blocks = [
        module for module in made.modules() if type(module).__name__ in made._no_split_modules
    ]
    if compile:
        torch._dynamo.config.recompile_limit = (
            32  # text and vision blocks, with and without images, share one code
        )
        for block in blocks:
            block.compile()
    if ranks.world > 1 or ranks.device.type == "cuda":
        half = precision == "bfloat16"
        mixed = MixedPrecisionPolicy(
            torch.bfloat16 if half else None, torch.float32, cast_forward_inputs=False
        )
        mesh = init_device_mesh(ranks.device.type, (ranks.world,))
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=mixed)
        fully_shard(policy, mesh=mesh, mp_policy=mixed, reshard_after_forward=False)
        register_fsdp_forward_method(policy, "generate")
    elif precision == "bfloat16":
        raise TrainError(
            "precision bfloat16 on one CPU process has no float32 masters: use float32, or a GPU."
        )
    return policy.to(ranks.device)
