"""Attention approximated through landmarks (Xiong et al., 2021, arXiv:2102.03902)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InvalidInput
from ..forward_context import ForwardContext
from .attention import Attention


class NystromAttention(Attention):
    """Attention through the means of segments of a text, plus a convolution of its values.

    Args:
        landmarks: segments of a text; None for exact attention. length: of every text, where there are landmarks.
        kernel: of the convolution, which each head has one filter of; None for none.
    """

    def __init__(
        self, width: int, heads: int, *, landmarks: int | None, length: int, kernel: int | None, dropout: float = 0.0
    ) -> None:
        super().__init__(width, heads, dropout=dropout)
        self.landmarks, self.length = landmarks, length
        self.conv = None if kernel is None else Filters(heads, kernel)

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    def forward(self, x: Tensor, context: ForwardContext, memory: object) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        q, k, v = self._project(x)  # (tokens, heads, head width) each
        lengths = context.runs.lengths
        if self.landmarks is None:
            attention_mask = context.attention_mask(context.runs, causal=False, window=None)
            mixed = self._mix(q, k, v, attention_mask, None, context, context.capture.attentions)
        else:
            mixed = self._through_landmarks(q, k, v, lengths, context)
        if self.conv is not None:
            mixed = mixed + torch.cat([self.conv(values) for values in v.split(lengths)])
        return self.out(mixed.flatten(1))

    def _through_landmarks(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...], context: ForwardContext
    ) -> Tensor:
        """Return head outputs (tokens, heads, head width). Raises InvalidInput for a text of another length."""
        assert self.landmarks is not None
        if any(length not in (0, self.length) for length in lengths):
            raise InvalidInput(
                f"Landmarks are means of segments of {self.length} tokens: every text must have so many, not "
                f"{sorted(set(lengths))}."
            )
        shape = (len(q) // self.length, self.length)  # a text of padding alone has no tokens
        # (texts, heads, length, head width) each; the square root of the scale on either side
        q, k, v = (part.unflatten(0, shape).transpose(1, 2) for part in (q, k, v))
        q, k = (part / math.sqrt(math.sqrt(self.head_width)) for part in (q, k))
        # (texts, heads, landmarks, head width)
        q_means, k_means = (part.unflatten(2, (self.landmarks, -1)).mean(3) for part in (q, k))
        left = (q @ k_means.mT).softmax(-1)  # (texts, heads, length, landmarks)
        middle = pseudo_inverse((q_means @ k_means.mT).softmax(-1))  # (texts, heads, landmarks, landmarks)
        right = (q_means @ k.mT).softmax(-1)  # (texts, heads, landmarks, length)
        shares = left @ middle
        if context.capture.attentions is not None:  # of all keys, (texts, heads, length, length)
            shown = iter(shares @ right)
            empty = q.new_zeros(q.shape[1], 0, 0)
            context.capture.attentions.append([next(shown) if length else empty for length in lengths])
        return (shares @ (right @ v)).transpose(1, 2).flatten(0, 1)


class Filters(nn.Module):
    """Convolution of each head's channels along a text with one filter a head; the weight is (heads, 1, kernel, 1)."""

    def __init__(self, heads: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, 1, kernel, 1))

    def forward(self, values: Tensor) -> Tensor:
        """Map (length, heads, head width) to the same."""
        if not len(values):
            return values
        padding = (self.weight.shape[2] // 2, 0)
        out = F.conv2d(values.transpose(0, 1)[None], self.weight, padding=padding, groups=self.weight.shape[0])
        return out[0].transpose(0, 1)


def pseudo_inverse(matrix: Tensor, steps: int = 6) -> Tensor:
    """Return an approximate inverse of matrices (texts, heads, n, n), by the paper's iteration.

    The first guess has one scale for the whole batch, as the reference has.
    """
    one = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    guess = matrix.mT / matrix.sum(-2).max()
    for _ in range(steps):
        product = matrix @ guess
        guess = (0.25 * guess) @ (13 * one - product @ (15 * one - product @ (7 * one - product)))
    return guess
