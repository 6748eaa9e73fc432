"""Attention over packed rows: several sequences in one row that never see each other, and no L x L mask.

Registered with transformers under a name that holds "flash", at which its vision towers hand over the lengths of their
images. On a GPU in half precision it is flash attention of variable length; elsewhere sequences are padded apart and go
through `scaled_dot_product_attention`, at the cost of the padding.
"""

from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "omr_packed_flash"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    packed_edges: torch.Tensor | None = None,
    packed_longest: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Query (1, heads, L, d), key and value (1, key heads, L, d); returns (1, L, heads, d).

    A vision tower gives `cu_seq_lens_q`, the edges of its images, and every patch of an image sees every other. Text has
    `packed_edges`, shape (sequences + 1,), and a token sees what is before it.
    """
    causal = cu_seq_lens_q is None
    edges, longest = (packed_edges, packed_longest) if causal else (cu_seq_lens_q, max_length_q)
    assert edges is not None and longest is not None  # every packed batch has them
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        window = (-1, 0) if causal else (-1, -1)
        grouped = query.shape[1] != key.shape[1]
        out = varlen_attn(
            q,
            k,
            v,
            edges,
            edges,
            longest,
            longest,
            scale=scaling,
            window_size=window,
            enable_gqa=grouped,
        )
        assert isinstance(out, torch.Tensor)  # no auxiliary output was asked for
        return out[None], None
    return _padded(query[0], key[0], value[0], edges, longest, scaling, causal)[None], None


def _padded(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    edges: torch.Tensor,
    longest: int,
    scaling: float | None,
    causal: bool,
) -> torch.Tensor:
    """The same with tensors of (heads, L, d), each sequence in a row of its own. Returns (L, heads, d)."""
    starts, lengths = edges[:-1].long(), edges.diff()
    place = torch.arange(longest, device=edges.device)
    inside = place < lengths[:, None]  # (sequences, longest)
    at = torch.where(inside, starts[:, None] + place, 0)
    # Padding stands behind a sequence, so that in causal attention no token sees it.
    mask = None if causal or bool(inside.all()) else inside[:, None, None]
    q, k, v = (
        tensor[:, at].transpose(0, 1) for tensor in (query, key, value)
    )  # (sequences, heads, longest, d)
    grouped = query.shape[0] != key.shape[0]
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=grouped
    )
    return out.transpose(1, 2)[inside]


AttentionInterface.register(NAME, packed_attention)
