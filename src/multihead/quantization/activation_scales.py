"""AWQ (Lin et al., 2023, arXiv:2306.00978): inputs with large activations are scaled up before weights are rounded.

What produces the inputs (a norm, values, the ups of a gated feed-forward) is divided by the same scales, so that the
layer computes what it did. Only modules whose computation is known here are changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checkpoints.quantized.writers.integers import IntegerGrid
from ..nn.attention.attention import Attention
from ..nn.experts import ExpertList, RoutedExperts, SharedExpert
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.layer import NormedResidual, Residual
from ..nn.norms import RMSNorm, WideRMSNorm
from ..nn.weights import LayerNorm, Linear
from .passes import InputStatistics

STEPS = 20  # exponents of activations that are tried, from 0
PLAIN = (GatedFeedForward, FeedForward)


@dataclass(frozen=True)
class Site:
    """Linear layers that read the same inputs, and the module whose outputs these are.

    Args:
        source: a norm or a linear layer. readers: path -> layer that is quantized. others: that are not (a router).
    """

    source: nn.Module
    readers: dict[str, Linear]
    others: Sequence[Linear] = ()


def scale_layer(layer: nn.Module, path: str, statistics: InputStatistics, grid: IntegerGrid) -> None:
    """Scale the inputs of a layer's quantized matrices; statistics become those of the scaled inputs.

    Args:
        path: of the layer. grid: of the codes.
    """
    for site in sites(layer, path):
        quantized = {name: reader for name, reader in site.readers.items() if name in statistics.tokens}
        known = {name: reader for name, reader in quantized.items() if name in statistics.sums}
        if not known or len(quantized) < len(site.readers):
            continue  # a matrix that stays as it is would have to be scaled too
        scales = search(known, statistics, grid)
        if scales is None:
            continue
        scales = divide(site.source, scales)
        with torch.no_grad():
            for reader in (*site.readers.values(), *site.others):
                reader.weight.copy_(reader.weight.float() * scales)
        for name in known:
            statistics.sums[name] = statistics.sums[name] / (scales[:, None] * scales)


def sites(layer: nn.Module, path: str) -> Iterator[Site]:
    """Yield the sites of a layer, those whose sources are readers of other sites first."""
    for name, module in layer.named_modules(prefix=path):
        if type(module) is GatedFeedForward and linear(module.up) and linear(module.down):
            yield Site(module.up, {f"{name}.down": module.down})  # type: ignore[dict-item]
        elif type(module) is Attention and gives_values(module):
            yield Site(module.v, {f"{name}.out": module.out})  # type: ignore[dict-item]
    for name, module in layer.named_modules(prefix=path):
        # a residual that adds to its normed input would add other numbers
        plain = isinstance(module, Residual) and not isinstance(module, NormedResidual)
        if plain and type(module.before) in (RMSNorm, WideRMSNorm, LayerNorm):
            found = read_by(module.step, f"{name}.step")
            if found is not None:
                yield Site(module.before, *found)


def gives_values(attention: Attention) -> bool:
    """True if each output of the values' layer scales one input of the last layer, and nothing else."""
    values, out = attention.v, attention.out
    if type(values) is not Linear or type(out) is not Linear or attention.clip is not None:
        return False
    return values.out_features == out.in_features


def read_by(step: nn.Module, path: str) -> tuple[dict[str, Linear], list[Linear]] | None:
    """Return the layers that read a step's inputs, and routers among them; None for a step that is not known here."""
    if type(step) is SharedExpert:
        parts = [read_by(step.routed, f"{path}.routed"), read_by(step.shared, f"{path}.shared")]
        if parts[0] is None or parts[1] is None or not (step.share is None or linear(step.share)):
            return None
        share = [] if step.share is None else [step.share]
        return {**parts[0][0], **parts[1][0]}, [*parts[0][1], *parts[1][1], *share]  # type: ignore[list-item]
    if type(step) is RoutedExperts:
        each = step.experts
        if type(each) is not ExpertList or any(type(one) not in PLAIN for one in each):
            return None
        found: dict[str, Linear] = {}
        for number, one in enumerate(each):
            found |= _named(one, f"{path}.experts.{number}", "gate", "up")
        return found, [step.router]
    names = ("q", "k", "v") if type(step) is Attention else ("gate", "up") if type(step) in PLAIN else ()
    named = _named(step, path, *names)
    return (named, []) if named and all(map(linear, named.values())) else None


def _named(module: nn.Module, path: str, *names: str) -> dict[str, Linear]:
    return {f"{path}.{name}": getattr(module, name) for name in names if hasattr(module, name)}


def linear(module: nn.Module | None) -> bool:
    """True for a plain linear layer."""
    return type(module) is Linear


def search(readers: dict[str, Linear], statistics: InputStatistics, grid: IntegerGrid) -> Tensor | None:
    """Return the scales (inputs,) with the least squared error of all readers' outputs; None for no scales."""
    sums = [statistics.sums[name] for name in readers]
    tokens = sum(statistics.tokens[name] for name in readers)
    magnitudes = (torch.stack([x.diagonal() for x in sums]).sum(0) / max(1, tokens)).sqrt()
    if not (magnitudes > 0).any():
        return None
    magnitudes = magnitudes.clamp(min=float(magnitudes[magnitudes > 0].min()) * 1e-2)
    best, least = None, _error(readers, sums, None, grid)
    for step in range(1, STEPS):
        scales = magnitudes ** (step / STEPS)
        scales = scales / (scales.max() * scales.min()).sqrt()
        error = _error(readers, sums, scales, grid)
        if error < least:
            best, least = scales, error
    return best


def _error(readers: dict[str, Linear], sums: Sequence[Tensor], scales: Tensor | None, grid: IntegerGrid) -> float:
    total = 0.0
    for reader, inputs in zip(readers.values(), sums, strict=True):
        weight = reader.weight.detach().float()
        scaled = weight if scales is None else weight * scales
        found = grid.round(scaled, quick=True).numbers(torch.float32)
        change = (found if scales is None else found / scales) - weight  # (outputs, inputs)
        total += float((change @ inputs).mul_(change).sum())
    return total


def divide(source: nn.Module, scales: Tensor) -> Tensor:
    """Divide the outputs of a norm or linear layer by scales; return the scales after rounding to its precision."""
    with torch.no_grad():
        if isinstance(source, Linear):
            source.weight.copy_(source.weight.float() / scales[:, None])
            if source.bias is not None:
                source.bias.copy_(source.bias.float() / scales)
            return scales
        weight: Tensor = source.weight  # type: ignore[assignment]
        centre = getattr(source, "centre", 0.0)
        before = weight.float() + centre
        bias: Tensor | None = getattr(source, "bias", None)
        weight.copy_(before / scales - centre)
        after = weight.float() + centre
        if bias is not None:  # the scales must be the same for both
            bias.copy_(bias.float() / scales)
            return scales
        return torch.where(after != 0, before / torch.where(after != 0, after, 1.0), 1.0)
