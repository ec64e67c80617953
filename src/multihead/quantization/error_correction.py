"""GPTQ (Frantar et al., 2022, arXiv:2210.17323): the error of rounding an input is made up for by later inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checkpoints.quantized.stored_codes import StoredCodes
from ..checkpoints.quantized.writers.integers import IntegerGrid

BLOCK = 128  # inputs that are rounded before later ones are changed for them
DAMPING = 0.01  # of the mean of the Hessian's diagonal, added to it


def correct(
    weight: Tensor, sums: Tensor, grid: IntegerGrid, *, act_order: bool = False, regroup: bool = True
) -> StoredCodes:
    """Round a weight so that the squared error of its outputs is small.

    Inputs are rounded one after the other. What rounding changed is spread over the inputs that are still to come, by
    the inverse of the Hessian of the error.

    Args:
        weight: (outputs, inputs), float32. sums: of x xT over tokens, (inputs, inputs), half the Hessian.
        act_order: inputs with large activations come first. regroup: a group then holds inputs in that order; else
            in their own, with scales from before.
    """
    inputs, size = weight.shape[1], grid.size(weight.shape[1])
    order = torch.argsort(sums.diagonal(), descending=True, stable=True) if act_order else torch.arange(inputs)
    index = torch.arange(inputs) // size  # group of each input, in the order of rounding
    fixed = grid.round(weight) if act_order and not regroup else None
    if fixed is not None:
        assert fixed.zeros is not None
        index, scales, zeros = index[order], fixed.scales.float(), fixed.zeros.float()
    else:
        scales, zeros = (weight.new_empty(weight.shape[0], -(-inputs // size)) for _ in range(2))
    weight, inverse = weight[:, order].clone(), inverse_factor(sums[order][:, order])
    codes = torch.empty_like(weight)
    groups = index.tolist()
    for first in range(0, inputs, BLOCK):
        last = min(first + BLOCK, inputs)
        errors = weight.new_empty(weight.shape[0], last - first)
        for place in range(first, last):
            group = slice(groups[place], groups[place] + 1)
            if fixed is None and place % size == 0:
                ahead = _with_errors(weight, errors, inverse, first, place, min(place + size, inputs))
                scales[:, group], zeros[:, group] = grid.fit(ahead)
            column = weight[:, place : place + 1]
            codes[:, place : place + 1] = grid.codes(column, scales[:, group], zeros[:, group])
            found = grid.numbers(codes[:, place : place + 1], scales[:, group], zeros[:, group])
            error = (column - found) / inverse[place, place]
            weight[:, place:last] -= error * inverse[place, place:last]
            errors[:, place - first] = error[:, 0]
        weight[:, last:] -= errors @ inverse[first:last, last:]
    if not act_order:
        return grid.stored(codes, scales, zeros)
    back = torch.argsort(order)
    return grid.stored(codes[:, back], scales, zeros, index=index[back] if regroup else None)


def _with_errors(weight: Tensor, errors: Tensor, inverse: Tensor, first: int, place: int, end: int) -> Tensor:
    """Return the inputs from `place` to `end` as they are after the errors of this block so far.

    Inputs of the block have them already; a group may reach beyond it.
    """
    last = first + errors.shape[1]
    if end <= last:
        return weight[:, place:end]
    done = place - first
    later = weight[:, last:end] - errors[:, :done] @ inverse[first:place, last:end]
    return torch.cat([weight[:, place:last], later], 1)


def inverse_factor(sums: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of a damped Hessian, (inputs, inputs).

    Inputs that no token had count as independent of the others, with the mean curvature.
    """
    hessian = sums.double()
    diagonal = hessian.diagonal()
    mean = diagonal[diagonal > 0].mean() if (diagonal > 0).any() else hessian.new_ones(())
    diagonal.copy_(torch.where(diagonal > 0, diagonal, mean))  # in the matrix
    damping = DAMPING * mean
    for _ in range(6):
        damped = hessian + damping * torch.eye(len(hessian), dtype=hessian.dtype)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            inverse = torch.cholesky_inverse(factor)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                return upper.float()
        damping = damping * 10
    # no sound curvature: as if inputs were independent
    return diagonal.rsqrt().diag().float()
