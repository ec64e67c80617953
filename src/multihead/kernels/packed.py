"""Weights in the order in which the C++ kernels read them, and what those compute with them.

A panel is 64 outputs. Within a panel four bytes of inputs of each output lie side by side: two bfloat16 numbers, four
int8 codes, or eight int4 codes of which four are in the low halves. Codes are unsigned; int8's zero is 128.

    bf16   rounded weights; the sums are float32
    int8   a scale a row, zero at 0; rows of inputs are coded over their whole range, with a scale and a zero (W8A8)
    int8g  a half-precision scale for each 32 inputs of a row, as GGUF's Q8_0 has; inputs in groups of 32 too
    int4   a half-precision scale and minimum for each 32 inputs of a row, as GGUF's Q4_1 has; inputs likewise in int8
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from .stored import Parts, Stored, in_dtype, slices

KINDS = {"bf16": 0, "int8": 1, "int8g": 2, "int4": 3}
KEPT = "kept"  # in place of a kind: whichever holds what a file has
WIDEST_FIRST = ("bf16", "int8g", "int4")  # of those
PANEL, GROUP = 64, 32
Coded = tuple[Tensor, Tensor | None, Tensor | None]  # codes (outputs, inputs), and scales and minima of rows or groups
SLICE = 2**22  # numbers of a weight that are coded at once


@dataclass(frozen=True)
class Packed:
    """A matrix (outputs, inputs) in panels.

    Args:
        codes: bytes (int4, int8) or bfloat16, in panels. scales: float32 (width,) for int8; float16 in panels for
            groups. minima: float16 like the scales, for int4; for int8 the sums of each row's codes, float32.
    """

    kind: str
    shape: tuple[int, int]
    codes: Tensor
    scales: Tensor | None = None
    minima: Tensor | None = None

    @property
    def width(self) -> int:
        """Outputs with what fills up the last panel."""
        return -(-self.shape[0] // PANEL) * PANEL

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.codes, self.scales, self.minima) if x is not None)


def stacked(*parts: Tensor) -> Tensor:
    """One under the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def pack(weight: Tensor | Sequence[Tensor], kind: str, join: Callable[..., Tensor] = stacked) -> Packed:
    """A matrix (outputs, inputs), coded and in panels. Codes of a file are kept where the kind has such.

    Args:
        weight: all of it, or parts of its rows that `join` makes it of.
        kind: `KEPT` for the narrowest that holds what a file has of each part.

    Raises:
        UnsupportedOption: another kind. InvalidInput: weights that are not finite, or too large for scales in half
            precision.
    """
    weights = [w.detach() for w in ([weight] if isinstance(weight, Tensor) else weight)]
    kind = kept_kind(weights) if kind == KEPT else kind
    if kind not in KINDS:
        raise UnsupportedOption(f"Weights are packed as {', '.join(KINDS)}, not {kind!r}.")
    if weights[0].is_meta:
        return without_memory(kind, (join(*weights).shape[0], weights[0].shape[1]))
    codes, scales, minima = _together([_coded(w, kind) for w in weights], join)
    shape = codes.shape[0], weights[0].shape[1]
    if kind == "bf16":
        return Packed(kind, shape, _panels(codes, 32, 2))
    assert scales is not None
    if kind == "int8":
        rows = [F.pad(x, (0, -len(x) % PANEL)) for x in (scales, minima) if x is not None]
        return Packed(kind, shape, _panels(codes, 64, 4, 128), *rows)
    halves = [None if x is None else _grouped(_half(x)) for x in (scales, minima)]
    if kind == "int8g":
        return Packed(kind, shape, _panels(codes, GROUP, 4, 128), halves[0])
    whole = _panels(codes, GROUP, 4, 0).view(-1, 2, GROUP // 8, PANEL, 4)  # (panels and groups, halves, ...)
    return Packed(kind, shape, (whole[:, 0] | whole[:, 1] << 4).flatten(), *halves)


def kept_kind(weights: Sequence[Tensor]) -> str:
    """The narrowest kind that holds what a file has of all these; bf16 for what it has in no codes."""
    return min((w.form.kind if isinstance(w, Stored) else "bf16" for w in weights), key=WIDEST_FIRST.index)


def without_memory(kind: str, shape: tuple[int, int]) -> Packed:
    """What a matrix becomes, for weights that are still to come."""
    width, unit = -(-shape[0] // PANEL) * PANEL, 64 if kind == "int8" else 32
    count = width * (-(-shape[1] // unit) * unit)

    def some(size: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device="meta")

    if kind == "bf16":
        return Packed(kind, shape, some(count, torch.bfloat16))
    if kind == "int8":
        return Packed(kind, shape, some(count, torch.uint8), *(some(width, torch.float32) for _ in range(2)))
    halves = [some(count // GROUP, torch.float16) for _ in range(2 if kind == "int4" else 1)]
    return Packed(kind, shape, some(count // 2 if kind == "int4" else count, torch.uint8), *halves)


def unpack(packed: Packed) -> Tensor:
    """The numbers that codes stand for, float32 (outputs, inputs)."""
    rows, columns = packed.shape
    deep = 2 if packed.kind == "bf16" else 4
    unit = 64 if packed.kind == "int8" else 32
    wide = -(-columns // unit) * unit
    codes = packed.codes
    if packed.kind == "int4":
        both = codes.view(-1, 1, GROUP // 8, PANEL, 4)
        codes = torch.cat([both & 15, both >> 4], 1)
    flat = codes.view(-1, wide // deep, PANEL, deep).transpose(1, 2).reshape(-1, wide)[:rows, :columns].float()
    if packed.kind == "bf16":
        return flat
    assert packed.scales is not None
    if packed.kind == "int8":
        return (flat - 128) * packed.scales[:rows, None]  # their sums are not needed here
    scales, minima = (
        None if x is None else _spread(x, wide // GROUP)[:rows, :columns] for x in (packed.scales, packed.minima)
    )
    assert scales is not None
    return (flat - 128) * scales if minima is None else flat * scales + minima


def product(x: Tensor, packed: Packed, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias as the kernels compute it, (rows, inputs) to float32 (rows, outputs): the definition.

    Inputs are rounded to bfloat16, or coded in 8 bits: over each row's range, or by the largest of each group of 32.
    """
    weight, x = unpack(packed), x.float()
    if packed.kind == "bf16":
        x = x.to(torch.bfloat16).float()
    elif packed.kind == "int8":
        low, high = x.aminmax(dim=1, keepdim=True)
        scales = (high - low) / 255
        x = ((x - low) / scales.masked_fill(scales == 0, 1)).round() * scales + low
    else:
        parts = F.pad(x, (0, -x.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
        scales = parts.abs().amax(-1, keepdim=True) / 127
        x = ((parts / scales.masked_fill(scales == 0, 1)).round() * scales).flatten(1)[:, : x.shape[1]]
    return F.linear(x, weight, bias)


def interleaved(gate: Tensor, up: Tensor) -> Tensor:
    """Two matrices or vectors of as many outputs, 32 of one beside 32 of the other, filled up with zeros."""
    fill = -gate.shape[0] % (PANEL // 2)
    both = [torch.cat([x, x.new_zeros(fill, *x.shape[1:])]).unflatten(0, (-1, PANEL // 2)) for x in (gate, up)]
    return torch.stack(both, 1).flatten(0, 2)


def _coded(weight: Tensor, kind: str) -> Coded:
    """`_rounded` of all rows, or what a file has; bf16 has neither scales nor minima."""
    if kind == "bf16":
        return in_dtype(weight, torch.bfloat16), None, None
    if isinstance(weight, Stored) and weight.form.same and weight.form.kind == kind:
        found = weight.parts()
        _check_finite(*found[1:])
        return found
    return _together([_rounded(part, kind) for part in slices(weight, max(1, SLICE // weight.shape[1]))], stacked)


def _together(parts: Sequence[Coded], join: Callable[..., Tensor]) -> Coded:
    """Several parts' codes, scales and minima, each made one."""
    scales, minima = (None if parts[0][i] is None else join(*(part[i] for part in parts)) for i in (1, 2))
    return join(*(part[0] for part in parts)), scales, minima


def _rounded(weight: Tensor, kind: str) -> Parts:
    """Codes like the weight (int8 signed, int4 unsigned), and scales and minima as `Packed` has them."""
    _check_finite(weight)
    if kind == "int8":
        scales = weight.abs().amax(1) / 127
        codes = (weight / scales.masked_fill(scales == 0, 1)[:, None]).round_()
        return codes.to(torch.int8), scales, codes.sum(1)
    groups = F.pad(weight, (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    if kind == "int8g":
        scales = _half(groups.abs().amax(-1) / 127).float()
        codes = (groups / scales.masked_fill(scales == 0, 1)[..., None]).round_().clamp_(-127, 127)
        return codes.to(torch.int8).flatten(1), scales, None
    return _fours(groups)


def _check_finite(*tensors: Tensor | None) -> None:
    if not all(x is None or x.isfinite().all() for x in tensors):
        raise InvalidInput(
            "These weights are not all finite numbers, so they cannot be quantized; check the checkpoint."
        )


def _fours(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Over each group's whole range; or on Q4_0's grid, where its error is smaller: weights that lie on it keep it.

    Clipping the range for a smaller squared error was tried: it makes models worse, since large weights matter.
    """
    low, high = groups.aminmax(dim=-1)
    signed = torch.where(high > -low, high, low)  # Q4_0: the largest magnitude at code 0, zero at 8
    first, second = _on_grid(groups, low, (high - low) / 15), _on_grid(groups, signed, signed / -8)
    better = second[3] < first[3]
    codes = torch.where(better[..., None], second[0], first[0])
    return codes.flatten(1), torch.where(better, second[1], first[1]), torch.where(better, second[2], first[2])


def _on_grid(groups: Tensor, minimum: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, scales and minima rounded to half precision, and the squared error of each group."""
    minimum, scale = _half(minimum).float(), _half(scale).float()
    by = scale.masked_fill(scale == 0, 1)[..., None]
    codes = ((groups - minimum[..., None]) / by).round_().clamp_(0, 15)
    wrong = (codes * scale[..., None] + minimum[..., None] - groups).square_().sum(-1)
    return codes.to(torch.uint8), scale, minimum, wrong


def _half(x: Tensor) -> Tensor:
    half = x.to(torch.float16)
    if not half.isfinite().all():
        raise InvalidInput("A weight is too large for a scale in half precision; use int8 or bf16.")
    return half


def _panels(x: Tensor, unit: int, deep: int, zero: int = 0) -> Tensor:
    """(outputs, inputs) in panels; signed codes become unsigned with `zero` added."""
    if x.dtype == torch.int8:
        x = x.view(torch.uint8) + zero
    x = F.pad(x, (0, -x.shape[1] % unit, 0, -x.shape[0] % PANEL), value=zero)
    return x.view(-1, PANEL, x.shape[1] // deep, deep).transpose(1, 2).flatten()


def _grouped(x: Tensor) -> Tensor:
    """(outputs, groups) in panels."""
    x = F.pad(x, (0, 0, 0, -x.shape[0] % PANEL))
    return x.view(-1, PANEL, x.shape[1]).transpose(1, 2).flatten()


def _spread(x: Tensor, groups: int) -> Tensor:
    """The inverse, a number for each input: (outputs, inputs) in float32."""
    return x.view(-1, groups, PANEL).transpose(1, 2).reshape(-1, groups).float().repeat_interleave(GROUP, 1)
