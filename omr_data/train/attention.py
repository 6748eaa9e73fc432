"""Attention over packed sequences: one long row of tokens in which sequences never see each other.

On a GPU in half precision this is flash attention with variable lengths. Elsewhere the sequences
are padded into a batch for `scaled_dot_product_attention`, at the cost of computing the padding.
No mask of (tokens, tokens) is built either way.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

# The vision towers of transformers pass the edges of their images only to implementations whose
# name holds "flash".
NAME = "omr_packed_flash"


def packed_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "1 heads tokens dim"],
    key: Float[Tensor, "1 key_heads tokens dim"],
    value: Float[Tensor, "1 key_heads tokens dim"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: Int32[Tensor, " image_edges"] | None = None,
    max_length_q: int | None = None,
    packed_edges: Int32[Tensor, " edges"] | None = None,
    packed_longest: int | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "1 tokens heads dim"], None]:
    """Computes attention within each sequence of a packed row, as transformers calls it.

    Args:
        module: The attention layer. Not used.
        query: Queries.
        key: Keys. They may have fewer heads than the queries (grouped-query attention).
        value: Values, with as many heads as the keys.
        attention_mask: Not used: the edges say what a token may see.
        scaling: Factor of the scores; None for 1 / sqrt(dim).
        cu_seq_lens_q: Edges of the images. A vision tower gives them, and attention is full.
        max_length_q: Patches of the largest image.
        packed_edges: Edges of the sequences. Text gives them, and attention is causal.
        packed_longest: Tokens of the longest sequence.

    Returns:
        The output, and None in place of attention weights, which are never computed.
    """
    causal = cu_seq_lens_q is None
    edges = packed_edges if causal else cu_seq_lens_q
    longest = packed_longest if causal else max_length_q
    assert edges is not None and longest is not None  # every packed batch has them
    # Grouped-query attention: several query heads share one key head, which both kernels can do
    # without copying keys.
    grouped = query.shape[1] != key.shape[1]
    if not (query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)):
        padded = _padded_attention(query[0], key[0], value[0], edges, longest, scaling, causal)
        return padded[None], None

    # The kernel takes (tokens, heads, dim); transformers gives (1, heads, tokens, dim).
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    out = varlen_attn(
        q,
        k,
        v,
        cu_seq_q=edges,
        cu_seq_k=edges,
        max_q=longest,
        max_k=longest,
        scale=scaling,
        # A window of -1 has no limit: causal attention looks back without one, and never ahead.
        window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=grouped,
    )
    assert isinstance(out, Tensor)  # no auxiliary output was asked for
    return out[None], None


def _padded_attention(
    query: Float[Tensor, "heads tokens dim"],
    key: Float[Tensor, "key_heads tokens dim"],
    value: Float[Tensor, "key_heads tokens dim"],
    edges: Int32[Tensor, " edges"],
    longest: int,
    scaling: float | None,
    causal: bool,
) -> Float[Tensor, "tokens heads dim"]:
    """The same with each sequence in a row of its own."""
    starts, lengths = edges[:-1].long(), edges.diff()
    place = torch.arange(longest, device=edges.device)
    inside = place < lengths[:, None]  # (sequences, longest)
    # Padding repeats token 0. Any token would do: its result is dropped below.
    token = torch.where(inside, starts[:, None] + place, 0)
    # Padding stands behind a sequence, so in causal attention no token sees it and no mask is
    # needed. Without a mask, torch can take its fused kernel.
    needs_mask = not causal and not bool(inside.all())
    mask: Bool[Tensor, "sequences 1 1 longest"] | None = None
    if needs_mask:
        mask = inside[:, None, None]
    # Each of shape (sequences, heads, longest, dim).
    q, k, v = (tensor[:, token].transpose(0, 1) for tensor in (query, key, value))
    grouped = query.shape[0] != key.shape[0]
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=grouped
    )
    return out.transpose(1, 2)[inside]


# On import, because a model looks the name up when it first runs.
AttentionInterface.register(NAME, packed_attention)
