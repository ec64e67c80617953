"""Find the codes, scales and minima of quantized blocks that come nearest to given numbers.

The error of a block is the sum of its squared differences, each times its importance. A search over scales gives each
group a first scale. Then the scale of the block and the whole numbers of the groups are improved in turns, each by
least squares or by trying their neighbors, so that the error never rises.

Shapes: numbers and importances (blocks, groups, width), codes too; what groups have (blocks, groups, 1); what blocks
have (blocks, 1, 1). All are float32, codes too.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

ROUNDS = 2  # of improving a block's scale and its groups in turns
NEIGHBORS = ((0, (0, -1, 1)), (-1, (0,)), (1, (0,)))  # (added to a minimum, added to the scale) that are tried
ALONE = ((0, (0,)),)


class SignedFit(NamedTuple):
    """Blocks whose weights are `whole * scales * codes`; a block of one group has no `scales` (they are one)."""

    codes: Tensor
    scales: Tensor
    whole: Tensor


class ShiftedFit(NamedTuple):
    """Blocks whose weights are `whole * scales * codes - least * minima`."""

    codes: Tensor
    scales: Tensor
    minima: Tensor
    whole: Tensor
    least: Tensor


Fit = TypeVar("Fit", SignedFit, ShiftedFit)


def fit_signed(x: Tensor, importance: Tensor, low: int, top: int) -> SignedFit:
    """Fit blocks whose groups have a signed scale.

    Args:
        low: the lowest code; the highest is -low - 1. top: the lowest scale of a group, as a negative whole number.
    """
    rough = search_signed(x, importance, low)  # (blocks, groups, 1)
    whole = to_half(largest(rough.flatten(1))[..., None] / top)
    scales = (rough * inverse(whole)).round_().clamp_(top, -top - 1)
    best, error = try_signed(x, importance, low, top, scales, whole)
    for _ in range(ROUNDS):
        step = best.scales * best.codes
        over = (importance * step * step).sum((1, 2), keepdim=True)
        whole = to_half((importance * step * x).sum((1, 2), keepdim=True) * inverse(over))
        found, wrong = try_signed(x, importance, low, top, best.scales, whole)
        best, error = better_of(found, wrong, best, error)
    return best


def search_signed(x: Tensor, importance: Tensor, low: int) -> Tensor:
    """Return the best scale of each group by itself (blocks, groups, 1): around the largest number at the last code."""
    peak = largest(x)  # (blocks, groups, 1)
    weighted = importance * x
    best, gain = torch.zeros_like(peak), torch.zeros_like(peak)
    for place in (*range(-9, 10), 2 * -low - 10):  # the last puts the largest number at the highest code
        turned = inverse(peak) * (low - place / 10 if place < 10 else -low - 1)
        codes = (x * turned).round_().clamp_(low, -low - 1)
        product = (weighted * codes).sum(-1, keepdim=True)
        square = (importance * codes).mul_(codes).sum(-1, keepdim=True)
        gained = product * product * inverse(square)  # of the squared sum, by the best scale of these codes
        better = gained > gain
        best = torch.where(better, product * inverse(square), best)
        gain = torch.where(better, gained, gain)
    return best


def try_signed(
    x: Tensor, importance: Tensor, low: int, top: int, scales: Tensor, whole: Tensor
) -> tuple[SignedFit, Tensor]:
    """Choose the scale of each group among a number and its neighbors, and its codes; return the error of blocks."""

    def codes(scale: Tensor) -> Tensor:
        return (x * inverse(scale)).round_().clamp_(low, -low - 1)

    chosen, error = scales, torch.full_like(scales, torch.inf)
    for step in (0, -1, 1) if scales.shape[1] > 1 else (0,):
        near = (scales + step).clamp_(top, -top - 1)
        scale = near * whole
        wrong = codes(scale).mul_(scale).sub_(x).square_().mul_(importance).sum(-1, keepdim=True)
        better = wrong < error
        chosen, error = torch.where(better, near, chosen), torch.where(better, wrong, error)
    return SignedFit(codes(chosen * whole), chosen, whole), error.sum(1, keepdim=True)


def fit_shifted(x: Tensor, importance: Tensor, high: int, top: int) -> ShiftedFit:
    """Fit blocks whose groups have a scale and a minimum, neither negative.

    Args:
        high: the highest code; the lowest is 0. top: the highest scale and minimum of a group, as whole numbers.
    """
    scale, minimum = search_shifted(x, importance, high, below=True)
    whole, least = (to_half(part.amax(1, keepdim=True) / top) for part in (scale, minimum))
    scales, minima = ((part * inverse(of)).round_().clamp_(0, top) for part, of in ((scale, whole), (minimum, least)))
    best, error = try_shifted(x, importance, high, top, ShiftedFit(x, scales, minima, whole, least))
    for _ in range(ROUNDS):
        whole, least = (to_half(part.clamp_min(0)) for part in solve(x, importance, best))
        found, wrong = try_shifted(x, importance, high, top, best._replace(whole=whole, least=least))
        best, error = better_of(found, wrong, best, error)
    return best


def fit_range(x: Tensor, importance: Tensor, high: int) -> ShiftedFit:
    """Fit blocks of one group with a scale and a minimum of any sign."""
    scale, minimum = (to_half(part) for part in search_shifted(x, importance, high, below=False))
    one = torch.ones_like(scale)
    best, error = try_shifted(x, importance, high, 0, ShiftedFit(x, one, one, scale, minimum))
    for _ in range(ROUNDS):
        whole, least = (to_half(part) for part in solve(x, importance, best))
        found, wrong = try_shifted(x, importance, high, 0, best._replace(whole=whole.clamp_min(0), least=least))
        best, error = better_of(found, wrong, best, error)
    return best


def search_shifted(x: Tensor, importance: Tensor, high: int, *, below: bool) -> tuple[Tensor, Tensor]:
    """Return the best scale and minimum of each group by itself, (blocks, groups, 1) each.

    Args:
        below: minima may not be negative, so that no group begins above zero.
    """
    bottom, peak = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    bottom = bottom.clamp_max(0) if below else bottom
    above = x - bottom
    weighted = importance * x
    total, first = importance.sum(-1, keepdim=True), weighted.sum(-1, keepdim=True)
    spread = inverse(peak - bottom)
    scale, minimum, gain = torch.zeros_like(peak), -bottom, torch.full_like(peak, -torch.inf)
    for place in range(-9, 10, 2):
        codes = (above * (spread * (high + place * (0.05 if high < 4 else 0.1)))).round_().clamp_(0, high)
        product = (weighted * codes).sum(-1, keepdim=True)
        part = importance * codes
        one, two = part.sum(-1, keepdim=True), part.mul_(codes).sum(-1, keepdim=True)
        under = total * two - one * one
        alike = under <= 1e-6 * total * two  # all codes: a minimum alone, or a scale alone
        under = inverse(under)
        a = torch.where(alike, product * inverse(two), (total * product - one * first) * under)
        b = torch.where(alike, torch.where(two > 0, 0.0, -first / total), (one * product - two * first) * under)
        if below:  # the best scale without a minimum, where the best minimum would be negative
            a, b = torch.where(b < 0, product * inverse(two), a), b.clamp_min(0)
        # what the squared sum loses: 2 sum(w x y) - sum(w y y), for y = a * code - b
        gained = 2 * (a * product - b * first) - (a * a * two - 2 * a * b * one + b * b * total)
        better = gained > gain
        scale, minimum = torch.where(better, a, scale), torch.where(better, b, minimum)
        gain = torch.where(better, gained, gain)
    return scale.clamp_min_(0), minimum


def try_shifted(x: Tensor, importance: Tensor, high: int, top: int, near: ShiftedFit) -> tuple[ShiftedFit, Tensor]:
    """Choose scale and minimum of each group among those of `near` and their neighbors, and its codes; return errors.

    Args:
        top: the highest of them; 0 leaves both as they are.
    """
    _, scales, minima, whole, least = near

    def codes(scale: Tensor, moved: Tensor) -> Tensor:
        return (moved * inverse(scale)).round_().clamp_(0, high)

    chosen, lowest, error = scales, minima, torch.full_like(scales, torch.inf)
    for lower, steps in NEIGHBORS if top else ALONE:
        minimum = (minima + lower).clamp_(0, top) if top else minima
        moved = x + minimum * least
        for step in steps:
            scale = (scales + step).clamp_(0, top) if top else scales
            wrong = codes(scale * whole, moved).mul_(scale * whole).sub_(moved).square_().mul_(importance)
            wrong = wrong.sum(-1, keepdim=True)
            better = wrong < error
            error = torch.where(better, wrong, error)
            chosen, lowest = torch.where(better, scale, chosen), torch.where(better, minimum, lowest)
    return (
        ShiftedFit(codes(chosen * whole, x + lowest * least), chosen, lowest, whole, least),
        error.sum(1, keepdim=True),
    )


def better_of(found: Fit, wrong: Tensor, best: Fit, error: Tensor) -> tuple[Fit, Tensor]:
    """Return for each block the fit with the smaller error, and that error."""
    better = wrong < error
    kept = type(best)(*(torch.where(better, new, old) for new, old in zip(found, best, strict=True)))
    return kept, torch.where(better, wrong, error)


def solve(x: Tensor, importance: Tensor, fit: ShiftedFit) -> tuple[Tensor, Tensor]:
    """Return the scale and the minimum of each block with the least error for the codes that it has, (blocks, 1, 1)."""
    step, minima = fit.scales * fit.codes, fit.minima

    def total(y: Tensor, z: Tensor) -> Tensor:
        return (importance * y * z).sum((1, 2), keepdim=True)

    two, both, minima2 = total(step, step), total(step, minima), total(minima, minima)
    first, second = total(x, step), total(x, minima)
    under = two * minima2 - both * both
    # a block without minima, or with minima that say the same as its codes
    alone = under <= 1e-6 * two * minima2
    other = (first * minima2 - second * both) * inverse(under)
    whole = torch.where(alone, (first + fit.least * both) * inverse(two), other)
    least = torch.where(alone, fit.least, (first * both - second * two) * inverse(under))
    return whole, least


def largest(x: Tensor) -> Tensor:
    """Return the number of largest magnitude in each last axis, which stays."""
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    return torch.where(high > -low, high, low)


def inverse(x: Tensor) -> Tensor:
    """Return 1 / x, and 0 for 0."""
    return torch.where(x == 0, 0.0, 1 / x)


def to_half(x: Tensor) -> Tensor:
    """Round to half precision, in which files keep scales."""
    return x.half().float()
