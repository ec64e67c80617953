"""The operations in C++, for float32 and bfloat16 on a CPU; what a kernel does not fit is left to torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ctypes import addressof, byref
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InvalidInput
from ..backend import Angles, Bias
from ..layout import plain, rotation_fits, rows_of
from ..ragged import AttentionMask, PagedLayout
from ..torch.backend import TorchBackend
from . import native, state_space
from .attention import decode, prefill
from .delta import delta_step
from .linear import most_rows, row_stride, weight_layout

DROPOUT_LEVELS = 1 << 32  # a probability is rounded to this many


class CpuBackend(TorchBackend):
    name, device = "cpu", "cpu"

    def reason(self) -> str:
        return native.why_not()

    serves = staticmethod(native.serves)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        kind = weight_layout(weight)
        if kind is None or weight.dtype is not x.dtype or weight.shape[1] != x.shape[1] or not weight.is_cpu:
            return super().linear(x, weight, bias)
        if x.stride(1) != 1 or not 0 < x.shape[0] <= most_rows(x.dtype, kind):
            return super().linear(x, weight, bias)
        (rows, inputs), outputs = x.shape, weight.shape[0]
        if (bias is not None and not plain(bias, x, x.dtype, outputs)) or torch.is_autocast_enabled("cpu"):
            return super().linear(x, weight, bias)
        y = torch.empty(rows, outputs, dtype=x.dtype)  # (rows, outputs)
        native.library().mh_linear(
            x.data_ptr(), rows, x.stride(0), weight.data_ptr(), kind, row_stride(weight), inputs, outputs,
            None if bias is None else bias.data_ptr(), y.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return y

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, centre: float = 0.0, wide: bool = False) -> Tensor:
        learns = weight.requires_grad and torch.is_grad_enabled()  # the kernel gives no gradient
        if learns or not x.numel() or not plain(weight, x, x.dtype, x.shape[-1]):
            return super().rms_norm(x, weight, eps, centre, wide)
        width, flat = x.shape[-1], rows_of(x)  # flat: (rows, width)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        arguments = native.NormCall(
            x=flat.data_ptr(), weight=weight.data_ptr(), y=y.data_ptr(), rows=flat.shape[0], width=width,
            stride=flat.stride(0), kind=1, type=native.TYPES[x.dtype], eps=eps, centre=centre,
        )  # fmt: skip
        native.library().mh_norm(byref(arguments), torch.get_num_threads())
        return y

    def rotary(
        self, q: Tensor, k: Tensor, angles: Callable[[], Angles], table: Callable[[], Angles]
    ) -> tuple[Tensor, Tensor]:
        if native.serves(k):
            cosines, sines = angles()  # (tokens, rotated / 2) each
            if rotation_fits(q, cosines, sines) and rotation_fits(k, cosines, sines):
                return rotate(q, cosines, sines), rotate(k, cosines, sines)
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
        if bias is None and not dropout and shared and not isinstance(attention_mask.keys, PagedLayout):
            out = decode(q, k, v, attention_mask, scale, softcap, sinks)
            if out is None and sinks is None:
                out = prefill(q, k, v, attention_mask, scale, softcap)
            if out is not None:
                return out
        return super().attention(
            q, k, v, attention_mask, scale=scale, bias=bias, softcap=softcap, dropout=dropout, sinks=sinks
        )

    def top_k(self, scores: Tensor, count: int, banned: Sequence[int], log_probs: bool) -> tuple[Tensor, Tensor] | None:
        if scores.ndim != 2 or scores.stride(1) != 1 or not 0 < count <= scores.shape[1]:
            return None
        values = torch.empty(len(scores), count)  # (rows, count), float32 whatever the scores are
        columns = torch.empty(len(scores), count, dtype=torch.long)  # (rows, count)
        bans = native.numbers(banned)
        arguments = native.TopK(
            scores=scores.data_ptr(), banned=addressof(bans), values=values.data_ptr(), columns=columns.data_ptr(),
            rows=len(scores), width=scores.shape[1], stride=scores.stride(0), count=count, bans=len(banned),
            type=native.TYPES[scores.dtype], log_probs=int(log_probs),
        )  # fmt: skip
        native.library().mh_top_k(byref(arguments), torch.get_num_threads())
        return values, columns

    def dropout(self, x: Tensor, p: float) -> Tensor:
        if p >= 1.0:
            return F.dropout(x, p)  # a scale of 1 / (1 - p) has no finite value
        # torch's generator, so that manual_seed decides the zeros
        seed = int(torch.empty((), dtype=torch.int64).random_())
        return SeededDropout.apply(x, p, seed)

    convolution_step = staticmethod(state_space.convolution_step)
    mamba_step = staticmethod(state_space.mamba_step)

    def updates_rows(self, table: Tensor) -> bool:
        return table.dtype is torch.float32 and table.is_contiguous()

    def adam_rows(
        self, table: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rows: Tensor, step: float,
        group: Mapping[str, Any],
    ) -> None:  # fmt: skip
        if not _rows_fit(table, first, second, gradient, rows):
            raise InvalidInput(
                f"Adam's moments must be like their table, {list(table.shape)} in float32, and its gradient have a row "
                "for each of the table's rows that are named."
            )
        # the corrections of both moments are one factor each, computed here once
        beta1, beta2 = group["betas"]
        arguments = native.AdamRows(
            table=table.data_ptr(), first=first.data_ptr(), second=second.data_ptr(), gradient=gradient.data_ptr(),
            rows=rows.data_ptr(), count=len(rows), width=table.shape[1], rate=group["lr"] / (1 - beta1**step),
            root=1 / sqrt(1 - beta2**step), beta1=beta1, beta2=beta2, eps=group["eps"],
        )  # fmt: skip
        native.library().mh_adam_rows(byref(arguments), torch.get_num_threads())

    def delta_step(
        self, mixed: Tensor, gate: Tensor, rates: Tensor, inputs: Tensor, states: Tensor, slots: Tensor | slice,
        weights: Mapping[str, Any],
    ) -> Tensor | None:  # fmt: skip
        return delta_step(mixed, gate, rates, inputs, states, slots, weights)

    def runs_stacks(self, dtype: torch.dtype) -> bool:
        return dtype in native.TYPES


class SeededDropout(torch.autograd.Function):
    """Dropout whose zeros follow from a seed, so that no mask is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        x = x.contiguous()  # a number is dropped by its place in memory
        y = torch.empty_like(x)
        level = min(round(p * DROPOUT_LEVELS), DROPOUT_LEVELS - 1)
        arguments = native.DropoutCall(
            x=x.data_ptr(), y=y.data_ptr(), count=x.numel(), seed=seed, threshold=level,
            scale=DROPOUT_LEVELS / (DROPOUT_LEVELS - level), type=native.TYPES[x.dtype],
        )  # fmt: skip
        native.library().mh_dropout(byref(arguments), torch.get_num_threads())
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # the same seed drops the same numbers
        return SeededDropout.apply(gradient, ctx.p, ctx.seed), None, None


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return x (tokens, heads, width), its first channels rotated by angles (tokens, rotated / 2)."""
    y = torch.empty(x.shape, dtype=x.dtype)  # (tokens, heads, width)
    arguments = native.Rotation(
        x=x.data_ptr(), y=y.data_ptr(), cosines=cosines.data_ptr(), sines=sines.data_ptr(), tokens=x.shape[0],
        heads=x.shape[1], width=x.shape[2], rotated=2 * cosines.shape[1], stride=x.stride(0), head_stride=x.stride(1),
        type=native.TYPES[x.dtype],
    )  # fmt: skip
    native.library().mh_rotate(byref(arguments), torch.get_num_threads())
    return y


def _rows_fit(table: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rows: Tensor) -> bool:
    """Return whether all tensors of a step of Adam are laid out as the kernel reads them, and all rows exist."""
    fit = all(plain(x, table, torch.float32, *table.shape) for x in (table, first, second))
    fit = fit and plain(gradient, table, torch.float32, len(rows), table.shape[1])
    fit = fit and plain(rows, table, torch.int64, len(rows))
    return fit and (not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < len(table)))
