"""The layout of weights that the C++ kernels read: panels of 64 outputs.

Within a panel four bytes of inputs of each output lie side by side: two bfloat16 numbers, four int8 codes, or eight
int4 codes of which four are in the low halves. Codes are unsigned; the zero of int8 is 128.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InvalidInput

PANEL, GROUP = 64, 32  # outputs of a panel; inputs that share a scale


def panel_width(outputs: int) -> int:
    """Round a number of outputs up to whole panels."""
    return -(-outputs // PANEL) * PANEL


def to_panels(x: Tensor, unit: int, depth: int, zero: int = 0) -> Tensor:
    """Lay out codes (outputs, inputs) in panels, flat.

    Args:
        unit: inputs are filled up to a multiple of it. depth: inputs in four bytes.
        zero: added to signed codes, which become unsigned; the code that fills up.
    """
    if x.dtype == torch.int8:
        x = x.view(torch.uint8) + zero  # wraps around: -128 becomes 0, and 0 becomes 128
    fill = (0, -x.shape[1] % unit, 0, -x.shape[0] % PANEL)
    if any(fill) or x.storage_offset() * x.element_size() % 4 or not x.is_contiguous():
        x = F.pad(x, fill, value=zero).contiguous()  # (panel width, inputs filled up)
    # four bytes of inputs as one number, which is moved three times as fast as its parts
    steps = x.view(torch.int32).view(-1, PANEL, x.shape[1] // depth)
    # a step of the kernels reads 64 outputs side by side: (panels, steps, 64)
    return steps.transpose(1, 2).flatten().view(x.dtype)


def from_panels(codes: Tensor, inputs: int, unit: int, depth: int, zero: int = 0) -> Tensor:
    """Return codes (outputs, inputs), both filled up; signed where `zero` is not 0."""
    width = -(-inputs // unit) * unit  # inputs filled up
    # (panels, steps, 64, depth) to (outputs, inputs)
    x = codes.view(-1, width // depth, PANEL, depth).transpose(1, 2).reshape(-1, width)
    return (x - zero).view(torch.int8) if zero else x


def groups_to_panels(x: Tensor) -> Tensor:
    """Lay out float16 scales or minima (outputs, groups) in panels, flat.

    Raises:
        InvalidInput: a number too large for half precision.
    """
    x = F.pad(to_half(x), (0, 0, 0, -x.shape[0] % PANEL))  # (panel width, groups)
    # (panels, groups, 64): the scales of a group lie side by side
    return x.view(-1, PANEL, x.shape[1]).transpose(1, 2).flatten()


def groups_from_panels(x: Tensor, inputs: int) -> Tensor:
    """Return float32 scales or minima (outputs, groups), outputs filled up."""
    groups = -(-inputs // GROUP)
    # (panels, groups, 64) to (outputs, groups)
    return x.view(-1, groups, PANEL).transpose(1, 2).reshape(-1, groups).float()


def in_groups(weight: Tensor) -> Tensor:
    """View a matrix (outputs, inputs) as (outputs, groups, 32), filled up with zeros."""
    return F.pad(weight, (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))


def round_inputs_by_group(x: Tensor) -> Tensor:
    """Round rows (rows, inputs) to 8 bits by the largest magnitude of each group of 32."""
    parts = in_groups(x)  # (rows, groups, 32)
    scales = parts.abs().amax(-1, keepdim=True) / 127  # (rows, groups, 1)
    return ((parts / scales.masked_fill(scales == 0, 1)).round() * scales).flatten(1)[:, : x.shape[1]]


def to_half(x: Tensor) -> Tensor:
    """Round to float16. Raises InvalidInput for a number too large."""
    half = x.to(torch.float16)  # infinity for more than 65504
    if not half.is_meta and not half.isfinite().all():
        raise InvalidInput("A weight is too large for a scale in half precision; use int8 or bf16.")
    return half


def interleave(gate: Tensor, up: Tensor) -> Tensor:
    """Put 32 rows of one matrix beside 32 of the other, each filled up with zeros: half a panel of gates, half of ups.

    Args:
        gate, up: matrices or vectors of equally many outputs.
    """
    fill = -gate.shape[0] % (PANEL // 2)
    # (panels, 32, ...) each
    both = [torch.cat([x, x.new_zeros(fill, *x.shape[1:])]).unflatten(0, (-1, PANEL // 2)) for x in (gate, up)]
    return torch.stack(both, 1).flatten(0, 2)  # (panels, 2, 32, ...) to (panel width, ...)
