"""The operations in Triton, on a GPU, without gradients; what a program does not fit is left to torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..activations import ACTIVATIONS
from ..backend import Angles, Bias
from ..layout import plain, rotation_fits
from ..ragged import AttentionMask
from ..torch.backend import TorchBackend
from . import launch

WIDEST_NORM = 16_384  # channels that a program of `add_norm` holds at once


class TritonBackend(TorchBackend):
    name, device = "triton", "cuda"

    def reason(self) -> str:
        return launch.why_not()

    def serves(self, x: Tensor) -> bool:
        return launch.serves(x)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, centre: float = 0.0, wide: bool = False) -> Tensor:
        learns = weight.requires_grad and torch.is_grad_enabled()
        if learns or not x.numel() or not plain(weight, x, x.dtype, x.shape[-1]):
            return super().rms_norm(x, weight, eps, centre, wide)
        return launch.rms_norm(x, weight, eps, centre)

    def rotary(
        self, q: Tensor, k: Tensor, angles: Callable[[], Angles], table: Callable[[], Angles]
    ) -> tuple[Tensor, Tensor]:
        if launch.serves(k):
            cosines, sines = angles()
            if rotation_fits(q, cosines, sines) and rotation_fits(k, cosines, sines):
                return launch.rotate(q, cosines, sines), launch.rotate(k, cosines, sines)
        return super().rotary(q, k, angles, table)

    def attention(
        self,
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
    ) -> Tensor:
        shared = sinks is None or sinks.ndim == 1  # by all queries of a head
        if bias is None and not dropout and shared and launch.fits(q, k, v):
            return launch.attention(q, k, v, attention_mask, scale, softcap, sinks)
        return super().attention(
            q, k, v, attention_mask, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks
        )

    def activation_gate(self, x: Tensor, act: str) -> Tensor | None:
        return launch.activation_gate(x, ACTIVATIONS[act])

    def add_norm(
        self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, kind: int, centre: float,
        keep_sum: bool,
    ) -> tuple[Tensor, Tensor] | None:  # fmt: skip
        if not launch.serves(y) or x.dtype != y.dtype or x.shape != y.shape or x.ndim != 2 or x.shape[1] > WIDEST_NORM:
            return None
        if not all(plain(part, x, x.dtype, x.shape[1]) for part in (weight, bias)):
            return None
        return launch.add_norm(x, y, kind, weight, bias, eps, centre, keep_sum)

    def reads_pages(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        return launch.fits(q, k, v)

    def write_pages(
        self, q: Tensor, k: Tensor, v: Tensor, angles: Angles | None, k_store: Tensor, v_store: Tensor, rows: Tensor
    ) -> Tensor:
        if angles is not None:
            return launch.rotate_and_write(q, k, v, angles, k_store, v_store, rows)
        launch.write_rows(k, v, k_store, v_store, rows)
        return q

    def captures(self, dtype: torch.dtype, widest: int) -> bool:
        return dtype in launch.TYPES and widest <= launch.WIDEST

    def advance_step(self, inputs: Tensor, tokens: Tensor, windows: int, blocks: int) -> None:
        launch.advance_step(inputs, tokens, windows, blocks)
