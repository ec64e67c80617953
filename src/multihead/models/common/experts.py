"""Routed experts as most families have them, and the rows of their key maps."""

from __future__ import annotations

from typing import Any

from ...checkpoints.key_map import Rows
from ...nn.experts import ExpertList, RoutedExperts, Rule
from ...nn.feedforward import GatedFeedForward

PARTS = ("gate", "up", "down")
ALONE = "layers.*.ffn.step"  # our path of routed experts
ROUTED, SHARED = f"{ALONE}.routed", f"{ALONE}.shared"  # and of theirs beside a shared expert
DENSE = tuple(f"{ALONE}.{part}" for part in PARTS)


def gated(config: Any, inner: int, *, bias: bool = False) -> GatedFeedForward:
    return GatedFeedForward(config.hidden_size, inner, config.hidden_act, bias=bias)


def routed(config: Any, count: int, rule: Rule, inner: int | None = None, **options: Any) -> RoutedExperts:
    """Build routed experts; `options` are those of `RoutedExperts`.

    Args:
        inner: width of an expert; None for the config's.
    """
    width = inner or config.moe_intermediate_size
    each = ExpertList([gated(config, width, bias=options.pop("expert_bias", False)) for _ in range(count)])
    return RoutedExperts(config.hidden_size, each, count, rule, **options)


def routed_rows(ours: str = ALONE, theirs: str = "layers.*.mlp", router: str = "gate") -> Rows:
    """Return the key map rows of routed experts at `ours` and of their router."""
    each = {f"{ours}.experts.*.{part}": f"{theirs}.experts.*.{part}_proj" for part in PARTS}
    return {**each, f"{ours}.router": f"{theirs}.{router}"}


def expert_rows(theirs: str = "layers.*.mlp", shared: str = "shared_experts", router: str = "gate") -> Rows:
    """Return the key map rows of routed experts and of a shared one."""
    beside = {f"{SHARED}.{part}": f"{theirs}.{shared}.{part}_proj" for part in PARTS}
    return {**routed_rows(ROUTED, theirs, router), **beside}
