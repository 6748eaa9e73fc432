"""The model that is trained: any Qwen2.5-VL or Qwen3-VL class model of transformers.

A **policy** wraps the model behind two calls: `forward` gives the log-probability of every target
of a packed batch, and `generate` samples completions. FSDP2 shards parameters, gradients and
optimizer states block by block; with bfloat16 the master weights stay in float32.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
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
from omr_data.train.attention import NAME as PACKED_ATTENTION
from omr_data.train.batches import PackedBatch
from omr_data.train.chat import Encoder, Example
from omr_data.train.ranks import Ranks
from omr_data.train.samplers.base import Completion, SamplingParams
from omr_data.train.settings import ModelSettings, TrainSettings

CHUNK_VALUES = 2**26
"""Logits that are held at once: 256 MiB in float32, of which about five copies live at a time. All
logits of 61,440 tokens over a vocabulary of 152,000 would take 37 GB."""
RECOMPILE_LIMIT = 32
"""Text and vision blocks, with and without images, share one code object. Torch's own limit of 8
versions of it would leave later ones uncompiled."""


class Policy(nn.Module):
    """A model with its language head."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Takes over a model, whose attention becomes that of packed sequences."""
        super().__init__()
        self.model: Any = model
        # How the model's makers would sample from it is kept for the exported model only: here
        # transformers would fill in whatever is not said, such as a repetition penalty.
        self.published = model.generation_config
        empty_config: Any = GenerationConfig
        model.generation_config = empty_config()
        for part in (model.config.text_config, model.config.vision_config):
            part._attn_implementation = PACKED_ATTENTION

    def forward(
        self, batch: PackedBatch, temperature: float = 1.0
    ) -> tuple[Float[Tensor, " targets"], Float[Tensor, " targets"]]:
        """Scores the targets of a batch that is on this device.

        Returns:
            Log-probabilities, and entropies in nats without gradient, both in float32.
        """
        # Below the language head: it is applied to the targets only, in chunks.
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
        predicting = states[0, batch.predict_at]
        return token_scores(predicting, self.model.lm_head.weight, batch.labels, temperature)

    @torch.no_grad()
    def generate(
        self, encoder: Encoder, prompts: Sequence[Example], params: SamplingParams
    ) -> list[list[Completion]]:
        """Samples completions, inside `generating`. Seed torch's global generator first.

        Args:
            encoder: Gives the end token and the padding.
            prompts: The prompts, which are padded to one length.
            params: How to sample. Its seed is not used here.
        """
        greedy = params.temperature == 0
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None}
        if not greedy:
            sampling = {
                "do_sample": True,
                "temperature": params.temperature,
                "top_p": params.top_p,
                "top_k": 0,
            }
        # The cache grows with every token, and each new length would be compiled anew.
        with torch.compiler.set_stance("force_eager"):
            out = self.model.generate(
                **_left_padded(encoder, prompts, self.model.device),
                num_return_sequences=params.n,
                max_new_tokens=params.max_tokens,
                eos_token_id=encoder.end_token,
                pad_token_id=encoder.pad_token,
                **sampling,
            )
        longest = max(len(prompt) for prompt in prompts)
        completions: list[Completion] = []
        for ids in out[:, longest:].tolist():
            ended = encoder.end_token in ids
            # What follows the end token is padding.
            length = ids.index(encoder.end_token) + 1 if ended else len(ids)
            completions.append(Completion(tuple(ids[:length]), ended))
        return [
            completions[start : start + params.n] for start in range(0, len(completions), params.n)
        ]

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Prepares the model for `generate`, on all ranks together.

        Attention has a cache and padding, nothing is recomputed, and every parameter is gathered,
        so the calls within may differ from rank to rank. It costs the memory of the whole model in
        the precision of its computations.
        """
        text, training = self.model.config.text_config, self.training
        # Gathered by hand: FSDP would gather and drop every block for every token.
        sharded = [module for module in self.modules() if isinstance(module, FSDPModule)]
        text._attn_implementation = "sdpa"
        self.train(False)
        for module in sharded:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            text._attn_implementation = PACKED_ATTENTION
            # transformers keeps the offsets of the last prompts, and a later forward would use
            # them.
            self.model.model.rope_deltas = None
            self.train(training)
            for module in sharded:
                module.set_reshard_after_forward(id(module) != id(self), recurse=False)
                module.reshard()


def _left_padded(
    encoder: Encoder, prompts: Sequence[Example], device: torch.device
) -> dict[str, Tensor]:
    """Prompts as one tensor of shape (prompts, longest), with padding before the first token."""
    longest = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), longest), encoder.pad_token)
    mask = np.zeros((len(prompts), longest), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt.ids
        mask[row, longest - len(prompt) :] = 1
    arrays = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == encoder.image_token).astype(np.int64),
    }
    # The vision tower cannot take zero patches.
    if any(len(prompt.grids) for prompt in prompts):
        arrays["pixel_values"] = np.concatenate([prompt.patches for prompt in prompts])
        arrays["image_grid_thw"] = np.concatenate([prompt.grids for prompt in prompts])
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def token_scores(
    states: Float[Tensor, "targets hidden"],
    weight: Float[Tensor, "vocabulary hidden"],
    labels: Int[Tensor, " targets"],
    temperature: float = 1.0,
    chunk: int | None = None,
) -> tuple[Float[Tensor, " targets"], Float[Tensor, " targets"]]:
    """Computes log softmax(states @ weight.T / temperature) at the labels, and its entropy.

    Logits are computed in chunks and again in the backward pass, so all of them are never held.
    That costs one more product with `weight`.

    Args:
        states: Hidden states of the tokens that predict.
        weight: The matrix of the language head.
        labels: The token that each state should predict.
        temperature: Divides the logits.
        chunk: Tokens of a chunk; None for as many as `CHUNK_VALUES` allows.

    Returns:
        Log-probabilities, and entropies in nats without gradient, both in float32.
    """
    size = chunk or max(1, CHUNK_VALUES // len(weight))
    # One chunk needs no recomputation, which small models never pay for.
    if len(states) <= size:
        return _chunk_scores(states, weight, labels, temperature)
    scores = [
        checkpoint(_chunk_scores, part, weight, wanted, temperature, use_reentrant=False)
        for part, wanted in zip(torch.split(states, size), torch.split(labels, size), strict=True)
    ]
    logprobs = torch.cat([logprobs for logprobs, _ in scores])
    entropies = torch.cat([entropies for _, entropies in scores])
    return logprobs, entropies


def _chunk_scores(
    states: Float[Tensor, "targets hidden"],
    weight: Float[Tensor, "vocabulary hidden"],
    labels: Int[Tensor, " targets"],
    temperature: float,
) -> tuple[Float[Tensor, " targets"], Float[Tensor, " targets"]]:
    # In float32 even where the product is in bfloat16: a softmax over 152,000 words is not exact
    # enough otherwise.
    logits = (states @ weight.T).float() / temperature
    total = logits.logsumexp(-1)
    with torch.no_grad():
        entropy = total - (logits.softmax(-1) * logits).sum(-1)
    return logits.gather(-1, labels[:, None])[:, 0] - total, entropy


def load_policy(settings: ModelSettings, ranks: Ranks, seed: int = 0) -> Policy:
    """Loads a policy onto this rank's device, sharded over all ranks.

    Every rank reads the weights into its own memory first: on a machine with several ranks, four
    bytes a parameter of host memory for each of them.

    Args:
        settings: The model. With `start="random"` only its architecture is used.
        ranks: The processes of the run.
        seed: The seed of random weights.

    Raises:
        TrainError: The model cannot be loaded.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    auto: Any = AutoModelForImageTextToText
    name, revision = settings.folder, settings.revision_of_model
    # All ranks make the same random weights, of which each then keeps its shard.
    torch.manual_seed(seed)
    try:
        if settings.start == "random":
            config = AutoConfig.from_pretrained(name, revision=revision)
            model = auto.from_config(config, dtype=torch.float32)
        else:
            model = auto.from_pretrained(
                name, revision=revision, dtype=torch.float32, attn_implementation="sdpa"
            )
    except (OSError, ValueError) as error:
        raise TrainError(
            f"{name} cannot be loaded: {error} "
            "Give a folder of weights that transformers reads, or a Hub id."
        ) from error
    if isinstance(settings, TrainSettings):
        return prepare(
            model,
            ranks,
            settings.precision,
            activation_checkpointing=settings.activation_checkpointing,
            compile=settings.compile,
        )
    return prepare(model, ranks, settings.precision)


def prepare(
    model: Any,
    ranks: Ranks,
    precision: str,
    *,
    activation_checkpointing: bool = False,
    compile: bool = False,
) -> Policy:
    """Makes a policy of a model of transformers.

    Args:
        model: The model, in float32.
        ranks: The processes that share it.
        precision: "float32", or "bfloat16" for computations in half precision.
        activation_checkpointing: Computes activations again in the backward pass, to save memory.
        compile: Compiles each block.

    Raises:
        TrainError: The precision needs a GPU or several processes.
    """
    model.train()
    if activation_checkpointing:
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
    policy = Policy(model)
    # The blocks that transformers itself would not split over devices.
    names = model._no_split_modules
    blocks = [module for module in model.modules() if type(module).__name__ in names]
    # Recomputation, compilation and sharding, in this order: each wraps what is there.
    if compile:
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        for block in blocks:
            block.compile()
    if ranks.world > 1 or ranks.device.type == "cuda":
        half = torch.bfloat16 if precision == "bfloat16" else None
        # Gradients are summed in float32: in bfloat16, 8 bits of a sum over ranks would be lost.
        mixed = MixedPrecisionPolicy(half, torch.float32, cast_forward_inputs=False)
        mesh = init_device_mesh(ranks.device.type, (ranks.world,))
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=mixed)
        fully_shard(policy, mesh=mesh, mp_policy=mixed, reshard_after_forward=False)
        # `generate` enters below the policy's forward, so FSDP must be told of it.
        register_fsdp_forward_method(policy, "generate")
    elif precision == "bfloat16":
        raise TrainError(
            "precision bfloat16 on one CPU process has no float32 masters: use float32, or a GPU."
        )
    return policy.to(ranks.device)
