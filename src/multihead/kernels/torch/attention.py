"""Reference attention, one sequence after another. Every other implementation must give the same result."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backend import Bias, backend
from ..ragged import AttentionMask, SequenceLayout


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attention_mask: AttentionMask,
    *,
    scale: float,
    bias: Bias | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    sinks: Tensor | None = None,
    probabilities: list[Tensor] | None = None,
) -> Tensor:
    """Return attention as `AttentionFunction` describes it (Vaswani et al., 2017, arXiv:1706.03762).

    Args:
        probabilities: gets each sequence's probabilities, (heads, queries, keys).
    """
    groups, outputs = q.shape[1] // k.shape[1], []  # groups: heads that share a key head
    for sequence in range(len(attention_mask.queries)):
        # (heads, queries, keys)
        p = attention_probabilities(
            q, k, attention_mask, sequence, scale=scale, bias=bias, softcap=softcap, sinks=sinks
        )
        if probabilities is not None:
            probabilities.append(p)
        p = backend(p.detach()).dropout(p, dropout) if dropout else p
        values = _rows(v, attention_mask.keys, sequence).repeat_interleave(groups, dim=1)  # (keys, heads, width)
        outputs.append(torch.einsum("hqk,khd->qhd", p, values))  # (queries, heads, width)
    return torch.cat(outputs) if outputs else q.new_zeros(*q.shape[:2], v.shape[-1])  # (tokens, heads, width)


def attention_probabilities(
    q: Tensor,
    k: Tensor,
    attention_mask: AttentionMask,
    sequence: int,
    *,
    scale: float,
    bias: Bias | None,
    softcap: float | None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return attention probabilities of one sequence, (heads, queries, keys), with a softmax in float32."""
    keys = _rows(k, attention_mask.keys, sequence)  # (keys, key heads, width)
    keys = keys.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # (keys, heads, width)
    # (heads, queries, keys)
    scores = torch.einsum("qhd,khd->hqk", _rows(q, attention_mask.queries, sequence), keys) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)  # Gemma 2 bounds scores before biases and the mask
    if bias is not None:
        scores = scores + bias(sequence)
    mask = attention_mask.dense(sequence, q.device)  # (queries, keys)
    if mask is not None:
        # The lowest finite number, since a row of minus infinity would give NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:  # one more key, of which the softmax takes its share
        own = (
            sinks[None] if sinks.ndim == 1 else _rows(sinks, attention_mask.queries, sequence)
        )  # (queries or 1, heads)
        column = own.to(scores.dtype).T[..., None].expand(-1, scores.shape[1], 1)  # (heads, queries, 1)
        scores = torch.cat([scores, column], -1)
    # (heads, queries, keys), and one more with sinks; float32, since a sum of bfloat16 numbers is too rough
    p = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return p if sinks is None else p[..., :-1]


def _rows(x: Tensor, layout: SequenceLayout, sequence: int) -> Tensor:
    return x.narrow(0, layout.begins[sequence], layout.lengths[sequence])
