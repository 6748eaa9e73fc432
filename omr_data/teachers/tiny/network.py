"""The forward pass of the embedded model in NumPy: a Qwen2.5-VL of about one million parameters.

A first build must not install a deep-learning framework of a gigabyte to run four megabytes of
weights. The arithmetic is that of transformers' `Qwen2_5_VLForConditionalGeneration` in float32,
which tests compare it with; the trainer uses that class.

**Patches**: shape (images, 64, 384): 8 x 8 patches in merge order, each 3 colors x 2 frames x 8 x
8.
**Cache**: the keys and values of the tokens read so far, for each layer.
Shapes use R for rows (questions), Q for new tokens, K for all tokens so far, and H for hidden size.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from omr_data.teachers.tiny.prompts import GRID, IMAGE_TOKENS, MERGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

LAYERS, HEADS, HIDDEN, EPSILON = 4, 4, 128, 1e-5
VISION_LAYERS, VISION_HEADS, VISION_HIDDEN, VISION_EPSILON = 3, 2, 64, 1e-6
HEAD = HIDDEN // HEADS
VISION_HEAD = VISION_HIDDEN // VISION_HEADS
ROPE_BASE = 10_000.0
MROPE_SECTION = (4, 6, 6)
"""Frequencies of each head that turn with time, with rows and with columns (Qwen2-VL, section
2.1)."""
HIDDEN_BIAS = np.float32(-1e9)
"""Added to the score of a token that must not be seen. Finite, so that a softmax never divides
0/0."""


@dataclass(slots=True)
class Cache:
    """Keys and values of the tokens read so far, with room for those to come.

    Room is reserved once: growing the arrays token by token would copy them at every step.
    """

    keys: "Floats"
    """Shape (layers, R, heads, head size, capacity): transposed, as the product with queries
    needs."""
    values: "Floats"
    """Shape (layers, R, heads, capacity, head size)."""
    length: int = 0
    """Tokens that are held, of the capacity."""

    @classmethod
    def empty(cls, rows: int, capacity: int) -> "Cache":
        """Reserves room for `capacity` tokens in each of `rows` rows."""
        keys = np.zeros((LAYERS, rows, HEADS, HEAD, capacity), np.float32)
        values = np.zeros((LAYERS, rows, HEADS, capacity, HEAD), np.float32)
        return cls(keys, values)


class Network:
    """The weights, laid out for NumPy: transposed once, with products of one input joined."""

    def __init__(self, weights: Path) -> None:
        """Reads a `model.safetensors` with the names that transformers gives.

        Args:
            weights: The file. Its tensors are float32 and take 4 MB.
        """
        stored = load_file(weights)

        def joined(*names: str) -> "Floats":
            """Linear layers that read one input, as one matrix of shape (inputs, outputs)."""
            together = np.concatenate([stored[f"{name}.weight"] for name in names])
            return np.ascontiguousarray(together.T)

        def joined_bias(*names: str) -> "Floats":
            return np.concatenate([stored[f"{name}.bias"] for name in names])

        self.embeddings = stored["model.embed_tokens.weight"]
        # Transposed once here: a product with a transposed view is slower at every token.
        # Input and output embeddings are tied.
        self._head = np.ascontiguousarray(self.embeddings.T)
        self._norm = stored["model.norm.weight"]
        self._layers = []
        for number in range(LAYERS):
            layer = f"model.layers.{number}"
            attention = [f"{layer}.self_attn.{name}_proj" for name in "qkv"]
            self._layers.append(
                _Layer(
                    norm_in=stored[f"{layer}.input_layernorm.weight"],
                    qkv=joined(*attention),
                    qkv_bias=joined_bias(*attention),
                    out=joined(f"{layer}.self_attn.o_proj"),
                    norm_mlp=stored[f"{layer}.post_attention_layernorm.weight"],
                    gate_up=joined(f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj"),
                    down=joined(f"{layer}.mlp.down_proj"),
                )
            )
        self._blocks = []
        for number in range(VISION_LAYERS):
            block = f"visual.blocks.{number}"
            gate_up = (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj")
            self._blocks.append(
                _Layer(
                    norm_in=stored[f"{block}.norm1.weight"],
                    qkv=joined(f"{block}.attn.qkv"),
                    qkv_bias=joined_bias(f"{block}.attn.qkv"),
                    out=joined(f"{block}.attn.proj"),
                    out_bias=joined_bias(f"{block}.attn.proj"),
                    norm_mlp=stored[f"{block}.norm2.weight"],
                    gate_up=joined(*gate_up),
                    gate_up_bias=joined_bias(*gate_up),
                    down=joined(f"{block}.mlp.down_proj"),
                    down_bias=joined_bias(f"{block}.mlp.down_proj"),
                )
            )
        patch = stored["visual.patch_embed.proj.weight"]
        self._patch = np.ascontiguousarray(patch.reshape(VISION_HIDDEN, -1).T)
        self._merger_norm = stored["visual.merger.ln_q.weight"]
        self._merger = [
            (joined(f"visual.merger.mlp.{number}"), joined_bias(f"visual.merger.mlp.{number}"))
            for number in (0, 2)
        ]
        # Every image has the same 64 patches, so their rotations are computed once.
        self._vision_turns = _vision_turns()

    def see(self, patches: "Floats") -> "Floats":
        """Encodes images.

        Args:
            patches: Shape (images, 64, 384).

        Returns:
            Image tokens of shape (images, 16, H).
        """
        images = len(patches)
        # The convolution of the patches is one product, because they do not overlap.
        states = patches @ self._patch
        for block in self._blocks:
            heads = block.heads(states, VISION_EPSILON, VISION_HEADS)
            query, key, value = heads[0], heads[1], heads[2]
            query, key = _turn(query, *self._vision_turns), _turn(key, *self._vision_turns)
            scores = query @ key.transpose(0, 1, 3, 2) * np.float32(VISION_HEAD**-0.5)
            seen = _softmax(scores) @ value
            states = block.finish(states, seen, VISION_EPSILON)
        normed = _rms(states, self._merger_norm, VISION_EPSILON)
        # Four neighboring patches lie side by side already: patches come in merge order.
        merged = normed.reshape(images, IMAGE_TOKENS, MERGE * MERGE * VISION_HIDDEN)
        (first, first_bias), (second, second_bias) = self._merger
        return _gelu(merged @ first + first_bias) @ second + second_bias

    def forward(
        self, embeddings: "Floats", positions: "NDArray[np.int64]", bias: "Floats", cache: Cache
    ) -> "Floats":
        """Reads new tokens and adds them to the cache.

        Args:
            embeddings: The new tokens, shape (R, Q, H).
            positions: Their mRoPE positions, shape (3, R, Q).
            bias: Added to the attention scores, shape (R, 1, Q, K): 0 for what a token sees, and
                HIDDEN_BIAS for what it does not.
            cache: The tokens before them. It holds Q more afterwards.

        Returns:
            The last hidden states, shape (R, Q, H), normalized.
        """
        turns = _text_turns(positions)
        start, stop = cache.length, cache.length + embeddings.shape[1]
        states = embeddings
        for number, layer in enumerate(self._layers):
            query, key, value = layer.heads(states, EPSILON, HEADS)
            keys = cache.keys[number, ..., :stop]
            values = cache.values[number, :, :, :stop]
            keys[..., start:] = _turn(key, *turns).transpose(0, 1, 3, 2)
            values[:, :, start:] = value
            scores = _turn(query, *turns) @ keys
            # In place: the scores are the largest array here.
            scores *= np.float32(HEAD**-0.5)
            scores += bias
            states = layer.finish(states, _softmax(scores) @ values, EPSILON)
        # After all layers: each wrote its keys and values at the same place.
        cache.length = stop
        return _rms(states, self._norm, EPSILON)

    def logits(self, states: "Floats") -> "Floats":
        """Scores every token of the vocabulary: shape (..., H) to (..., vocabulary)."""
        scores: Floats = states @ self._head
        return scores


def load_network(folder: Path) -> tuple[Network, Tokenizer]:
    """Loads the weights and the tokenizer of a folder that `train.save` wrote."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Network(folder / "model.safetensors"), tokenizer


@dataclass(frozen=True, slots=True)
class _Layer:
    """One transformer block of the text or the vision model. Matrices are (inputs, outputs)."""

    norm_in: "Floats"
    """Weights of the normalization before attention."""
    qkv: "Floats"
    """Queries, keys and values in one matrix: one product instead of three."""
    qkv_bias: "Floats"
    """Their biases."""
    out: "Floats"
    """The output of attention."""
    norm_mlp: "Floats"
    """Weights of the normalization before the MLP."""
    gate_up: "Floats"
    """Gate and input of the MLP in one matrix."""
    down: "Floats"
    """The output of the MLP."""
    out_bias: "Floats | float" = 0.0
    """The bias of `out`; the text model has none."""
    gate_up_bias: "Floats | float" = 0.0
    """The bias of `gate_up`; the text model has none."""
    down_bias: "Floats | float" = 0.0
    """The bias of `down`; the text model has none."""

    def heads(self, states: "Floats", epsilon: float, heads: int) -> "Floats":
        """Queries, keys and values, shape (3, rows, heads, tokens, head size)."""
        rows, tokens, _ = states.shape
        # One product for all three: one call of BLAS instead of three.
        joined = _rms(states, self.norm_in, epsilon) @ self.qkv + self.qkv_bias
        return joined.reshape(rows, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)

    def finish(self, states: "Floats", seen: "Floats", epsilon: float) -> "Floats":
        """Adds what attention saw, shape (rows, heads, tokens, head size), and the SwiGLU MLP."""
        rows, tokens, width = states.shape
        seen = seen.transpose(0, 2, 1, 3).reshape(rows, tokens, width)
        states = states + (seen @ self.out + self.out_bias)
        gate_up = _rms(states, self.norm_mlp, epsilon) @ self.gate_up + self.gate_up_bias
        gate, up = np.split(gate_up, 2, axis=-1)
        # exp is infinite for very negative gates, and the quotient 0, which is right.
        silu = gate / (1 + np.exp(-gate))
        after: Floats = states + (silu * up @ self.down + self.down_bias)
        return after


def _rms(states: "Floats", weight: "Floats", epsilon: float) -> "Floats":
    """Root-mean-square normalization (Zhang and Sennrich, arXiv 1910.07467, equation 4)."""
    mean = np.einsum("...h,...h->...", states, states)[..., None] / states.shape[-1]
    normed: Floats = states / np.sqrt(mean + np.float32(epsilon)) * weight
    return normed


def _softmax(scores: "Floats") -> "Floats":
    # Shifted by the largest score, so that no exponential overflows.
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    shares: Floats = scores / scores.sum(-1, keepdims=True)
    return shares


def _gelu(values: "Floats") -> "Floats":
    """The exact GELU. Its error function is Abramowitz and Stegun 7.1.26, right to 1.5e-7, which is
    the precision of float32: NumPy has none, and SciPy would be a dependency for this line."""
    scaled = np.abs(values) / np.sqrt(np.float32(2))
    step = 1 / (1 + np.float32(0.3275911) * scaled)
    factors = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    series = np.zeros_like(step)
    for factor in factors:
        series = (series + np.float32(factor)) * step
    error = np.sign(values) * (1 - series * np.exp(-scaled * scaled))
    activated: Floats = np.float32(0.5) * values * (1 + error)
    return activated


def _turn(heads: "Floats", cosine: "Floats", sine: "Floats") -> "Floats":
    """Applies rotary position embedding to (rows, heads, tokens, head size)."""
    half = heads.shape[-1] // 2
    # Pairs are (i, i + half), as in transformers, and not neighbors as in the paper.
    turned: Floats = np.concatenate([-heads[..., half:], heads[..., :half]], -1)
    return np.asarray(heads * cosine + turned * sine, dtype=np.float32)


def _frequencies(size: int) -> "Floats":
    """Inverse frequencies of rotary embedding over `size` dimensions, shape (size / 2,)."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / size
    return np.asarray(1 / ROPE_BASE**exponents, dtype=np.float32)


def _text_turns(positions: "NDArray[np.int64]") -> "tuple[Floats, Floats]":
    """Cosines and sines of mRoPE, shape (R, 1, Q, head size), from positions (3, R, Q)."""
    angles = positions[..., None].astype(np.float32) * _frequencies(HEAD)
    # Each frequency follows one of time, row and column, in three consecutive sections.
    stops = np.cumsum(MROPE_SECTION)
    sections = [
        angles[axis, ..., stop - size : stop]
        for axis, (size, stop) in enumerate(zip(MROPE_SECTION, stops, strict=True))
    ]
    # Both members of a pair turn by the same angle.
    half = np.concatenate(sections, -1)
    whole = np.concatenate([half, half], -1)[:, None]
    return np.cos(whole), np.sin(whole)


def _vision_turns() -> "tuple[Floats, Floats]":
    """Cosines and sines of the 64 patches of an image, shape (64, head size)."""
    cells = np.arange(GRID * GRID).reshape(GRID // MERGE, MERGE, GRID // MERGE, MERGE)
    order = cells.transpose(0, 2, 1, 3).ravel()
    frequencies = _frequencies(VISION_HEAD // 2)
    rows = (order // GRID)[:, None] * frequencies
    columns = (order % GRID)[:, None] * frequencies
    half = np.concatenate([rows, columns], -1)
    whole = np.concatenate([half, half], -1).astype(np.float32)
    return np.cos(whole), np.sin(whole)
