"""Mixture of experts: a router sends each token to a few experts (Shazeer et al., 2017, arXiv:1701.06538)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnsupportedConfig
from .weights import Float32Parameters, Linear

Rule = Callable[[Tensor], tuple[Tensor, Tensor]]  # router scores (tokens, experts) -> weights, experts (tokens, chosen)

# Routers lie deep in feed-forwards, which get no context of the pass.
_SEEN: ContextVar[list[Tensor] | None] = ContextVar("router scores of this pass", default=None)


@contextmanager
def collected_scores(into: list[Tensor] | None) -> Iterator[None]:
    """Append the scores (tokens, experts) of every router of a pass to a list; None for no list."""
    token = _SEEN.set(into)
    try:
        yield
    finally:
        _SEEN.reset(token)


def noted(scores: Tensor) -> Tensor:
    """Return router scores (tokens, experts), which whoever collects them has got."""
    seen = _SEEN.get()
    if seen is not None:
        seen.append(scores)
    return scores


class ExpertList(nn.ModuleList):
    """Experts that are separate modules."""

    def forward(self, x: Tensor, expert: int) -> Tensor:
        """Apply one expert to states (tokens, width)."""
        return self[expert](x)


class IdentityExperts(ExpertList):
    """Experts that are separate modules; those with higher numbers give what they read (LongCat's zero experts)."""

    def forward(self, x: Tensor, expert: int) -> Tensor:
        """Apply one expert to states (tokens, width)."""
        return self[expert](x) if expert < len(self) else x


class DroppedExperts(ExpertList):
    """Experts whose channels are dropped in training and scaled by what is kept otherwise (NLLB-MoE).

    Args:
        dropout: of what an expert gives, in training; otherwise its share is taken off.
    """

    def __init__(self, experts: Sequence[nn.Module], dropout: float) -> None:
        super().__init__(experts)
        self.dropout = dropout

    def forward(self, x: Tensor, expert: int) -> Tensor:
        """Apply one expert to states (tokens, width)."""
        y = self[expert](x)
        return F.dropout(y, self.dropout) if self.training else y * (1.0 - self.dropout)


def parts_without_experts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and its parts, without lists of experts, which can hold tens of thousands."""
    yield module
    for part in module.children():
        if not isinstance(part, ExpertList):
            yield from parts_without_experts(part)


class ClampedGate(nn.Module):
    """Gate of GPT-OSS: (up + 1) * gate * sigmoid(alpha * gate), inputs clamped first (arXiv:2508.10925).

    Args:
        alpha: steepness of the gate's sigmoid. limit: bound of gate and up.
    """

    def __init__(self, alpha: float, limit: float) -> None:
        super().__init__()
        self.alpha, self.limit = alpha, limit

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return the gated states, (tokens, inner), of gates and ups (tokens, inner)."""
        # Only the gate's upper side is bounded: its sigmoid already closes the lower one.
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return (up + 1) * gate * torch.sigmoid(gate * self.alpha)


class StackedExperts(nn.Module):
    """Experts whose matrices lie in one tensor, with gate and up columns interleaved (GPT-OSS)."""

    def __init__(self, count: int, width: int, inner: int, act: ClampedGate) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(count, width, 2 * inner))
        self.gate_up_bias = nn.Parameter(torch.empty(count, 2 * inner))
        self.down = nn.Parameter(torch.empty(count, inner, width))
        self.down_bias = nn.Parameter(torch.empty(count, width))
        self.act = act

    def forward(self, x: Tensor, expert: int) -> Tensor:
        """Apply one expert to states (tokens, width)."""
        both = x @ self.gate_up[expert] + self.gate_up_bias[expert]  # (tokens, 2 inner)
        # Even columns are gates, odd ones ups: (tokens, inner) each, then (tokens, width).
        return self.act(both[..., ::2], both[..., 1::2]) @ self.down[expert] + self.down_bias[expert]


class RoutedExperts(nn.Module):
    """Send each token through the experts that its router selects and sum the weighted outputs.

    Tokens are sorted by expert: each expert that is used computes one product over its own tokens, nothing is padded.

    Args:
        experts: called with (tokens, width) and a number. count: of them. rule: from the router's scores to weights.
        bias: of the router. wide: it computes in float32. exact: its weights are float32 in a half-precision model.
        jitter: relative noises on the states, in training. softcap: squeezes the router's scores (Laguna).
    """

    unpacked: ClassVar[tuple[str, ...]] = ("router",)  # its numbers decide who is chosen

    def __init__(
        self,
        width: int,
        experts: nn.Module,
        count: int,
        rule: Rule,
        *,
        bias: bool = False,
        wide: bool = False,
        exact: bool = False,
        jitter: Sequence[float] = (),
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.router, self.experts, self.count, self.rule = Linear(width, count, bias=bias), experts, count, rule
        self.wide, self.jitter, self.softcap = wide, tuple(part for part in jitter if part), softcap
        if exact:
            self.router.widened = (torch.float16, torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states (tokens, width) to (tokens, width)."""
        for noise in self.jitter if self.training else ():
            x = x * torch.empty_like(x).uniform_(1.0 - noise, 1.0 + noise)
        return self.mix(x, *self.route(x))

    def mix(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Return the weighted sum of the results of chosen experts for x: (tokens, width) and (tokens, chosen)."""
        if x.shape[0] == 1:  # nothing to sort or gather: a decode step of one sequence
            out = torch.zeros_like(x)
            for expert, place in sorted(zip(chosen[0].tolist(), range(chosen.shape[1]), strict=True)):
                out = out + (self.experts(x, expert) * weights[:, place : place + 1]).to(x.dtype)
            return out
        flat = chosen.flatten()  # (tokens * chosen,)
        # Choices by expert; stable, so that an expert reads its tokens in their order.
        order = flat.argsort(stable=True)
        # This waits for the device: the host must know how many rows each product has.
        counts: Sequence[int] = torch.bincount(flat, minlength=self.count).tolist()
        out = torch.zeros_like(x)
        for expert, places in enumerate(order.split(counts)):  # places: (choices of this expert,)
            if places.shape[0]:
                tokens = places // chosen.shape[1]  # the token of each choice
                # (choices of this expert, width)
                given = self.experts(x[tokens], expert) * weights.flatten()[places][:, None]
                out = out.index_add(0, tokens, given.to(x.dtype))
        return out

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and expert indices, (tokens, chosen) each."""
        return self.rule(noted(self.scores(x)))

    def scores(self, x: Tensor) -> Tensor:
        """Return the router's scores, (tokens, experts)."""
        if self.wide:
            bias = None if self.router.bias is None else self.router.bias.float()
            scores = F.linear(x.float(), self.router.weight.float(), bias)
        else:
            scores = self.router(x)
        return scores if self.softcap is None else torch.tanh(scores.float() / self.softcap) * self.softcap


class LatentExperts(RoutedExperts):
    """Routed experts that read and write a narrower projection of the states (Nemotron 3).

    Args:
        latent: width of it. latent_bias: of both projections.
    """

    def __init__(
        self,
        width: int,
        latent: int,
        experts: nn.Module,
        count: int,
        rule: Rule,
        *,
        latent_bias: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(width, experts, count, rule, **options)
        self.narrow, self.widen = Linear(width, latent, bias=latent_bias), Linear(latent, width, bias=latent_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.widen(self.mix(self.narrow(x), *self.route(x)))


class ScaledInputExperts(RoutedExperts):
    """Routed experts whose weights scale what an expert reads, not what it gives (Llama 4)."""

    def mix(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        order = chosen.flatten().argsort(stable=True)  # (tokens * chosen,): choices by expert
        counts: Sequence[int] = torch.bincount(chosen.flatten(), minlength=self.count).tolist()
        out = torch.zeros_like(x)
        for expert, places in enumerate(order.split(counts)):  # places: (choices of this expert,)
            if places.shape[0]:
                tokens = places // chosen.shape[1]  # the token of each choice
                # (choices of this expert, width)
                given = self.experts((x[tokens] * weights.flatten()[places][:, None]).to(x.dtype), expert)
                out = out.index_add(0, tokens, given)
        return out


class Biased(nn.Module):
    """A step with a bias on its result (JetMoE)."""

    def __init__(self, step: nn.Module, width: int) -> None:
        super().__init__()
        self.step, self.bias = step, nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x) + self.bias  # (tokens, width)


class SharedExpert(nn.Module):
    """Routed experts plus one expert that every token passes.

    Args:
        share: scales the shared one's result by a sigmoid of its own (Qwen 2); None for all of it (DeepSeek).
        scale: of the sum (Cohere's mean of two).
    """

    unpacked: ClassVar = ("share",)  # of one output, where panels have 64

    def __init__(
        self, routed: RoutedExperts, shared: nn.Module, share: nn.Module | None = None, *, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.routed, self.shared, self.share, self.scale = routed, shared, share, scale

    def forward(self, x: Tensor) -> Tensor:
        shared = self.shared(x)  # (tokens, width)
        both = self.routed(x) + (shared if self.share is None else torch.sigmoid(self.share(x)) * shared)
        return both if self.scale == 1.0 else both * self.scale


@dataclass(frozen=True)
class TopK:
    """Choice of experts by scores alone, without learned numbers.

    Args:
        chosen: experts of a token. late: softmax over the chosen scores alone, in their precision, not over all.
        groups, kept, best: of experts, in all and considered; a group counts by the sum of its `best` highest ones.
        normalized: weights are divided by their norm of this power plus `added`. scale: of the weights then.
    """

    chosen: int
    late: bool = False
    groups: int = 1
    kept: int = 1
    best: int = 1
    normalized: bool = False
    power: float = 1.0
    added: float = 0.0
    scale: float = 1.0

    def __call__(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and expert indices, (tokens, chosen) each, of scores (tokens, experts)."""
        if self.late:
            top, experts = scores.topk(self.chosen, -1)
            return top.softmax(-1), experts
        p = scores.softmax(-1, dtype=torch.float32)  # (tokens, experts)
        if self.groups > 1:
            # 0 is below every probability
            best = p.unflatten(-1, (self.groups, -1)).topk(self.best, -1).values.sum(-1)  # (tokens, groups)
            p = mask_groups(p, best, self.kept, 0.0)
        weights, experts = p.topk(self.chosen, -1)
        if self.normalized:
            total = weights.sum(-1, keepdim=True) if self.power == 1.0 else weights.norm(self.power, -1, keepdim=True)
            weights = weights / (total + self.added)
        return weights * self.scale, experts


def softmax_top_k(chosen: int, *, normalized: bool, power: float = 1.0) -> TopK:
    """Softmax over all experts, then top-k; `normalized` makes the weights sum to 1 (Mixtral, arXiv:2401.04088).

    Args:
        power: of the norm that is 1 then (DBRX).
    """
    return TopK(chosen, normalized=normalized, power=power)


def top_k_softmax(chosen: int) -> TopK:
    """Top-k of the scores, then softmax over these alone (GPT-OSS)."""
    return TopK(chosen, late=True)


def top_k_sigmoid(chosen: int) -> Rule:
    """Top-k of the scores, then a sigmoid of each, in the scores' precision (Llama 4)."""

    def rule(scores: Tensor) -> tuple[Tensor, Tensor]:
        top, experts = scores.topk(chosen, -1)  # (tokens, chosen) each
        return top.float().sigmoid().to(scores.dtype), experts

    return rule


def mask_groups(scores: Tensor, groups: Tensor, kept: int, lowest: float) -> Tensor:
    """Mask scores (tokens, experts) outside of the `kept` best groups; groups: (tokens, groups)."""
    # (tokens, groups)
    best = torch.zeros_like(groups, dtype=torch.bool).scatter(1, groups.topk(kept, -1).indices, True)
    # Each group's mark counts for all of its experts: (tokens, experts).
    return scores.masked_fill(~best.repeat_interleave(scores.shape[1] // groups.shape[1], 1), lowest)


def group_limited_top_k(chosen: int, *, groups: int, kept: int, scale: float) -> TopK:
    """Top-k inside the `kept` groups with the best experts (DeepSeek-V2); weights do not sum to 1."""
    return TopK(chosen, groups=groups, kept=kept, scale=scale)


def pair_limited_top_k(chosen: int, *, groups: int, kept: int, normalized: bool, scale: float) -> TopK:
    """Top-k of softmax scores inside the `kept` groups with the best pairs of experts (Mistral Small 4).

    Args:
        normalized: weights sum to `scale`; else they are the scores times it.
    """
    # The sum that weights are divided by is never 0.
    return TopK(chosen, groups=groups, kept=kept, best=2, normalized=normalized, added=1e-20, scale=scale)


class GroupedTopK(Float32Parameters):
    """Top-k of scores with a learned balancing bias, inside the best groups (DeepSeek-V3).

    Args:
        chosen: experts of a token. groups, kept: of experts, in all and considered; a group counts by its best two.
        normalized: weights sum to `scale`; else they are the scores times it.
        corrected: there is a balancing bias. raw: the router's scores are ranked, not their sigmoids (Kolibri).
        shared: softmax over all experts instead of a sigmoid each (ERNIE 4.5).
        floor: least sum that weights are divided by.
    """

    rest = -torch.inf  # rank of experts outside the best groups; A.X-K2 has 0, so that they may be chosen
    widened = (torch.float16, torch.bfloat16)  # differences between experts can be below the precision of these types

    def __init__(
        self,
        count: int,
        chosen: int,
        *,
        groups: int = 1,
        kept: int = 1,
        normalized: bool = True,
        scale: float = 1.0,
        corrected: bool = True,
        raw: bool = False,
        shared: bool = False,
        floor: float = 1e-20,
    ) -> None:
        super().__init__()
        if chosen > count or (groups > 1 and (count % groups or count // groups < 2 or kept > groups)):
            raise UnsupportedConfig(
                f"A token cannot have {chosen} of {count} experts in {kept} of {groups} groups: groups are of one "
                "size, of two experts or more."
            )
        self.correction = nn.Parameter(torch.empty(count)) if corrected else None
        self.chosen, self.groups, self.kept, self.normalized, self.scale = chosen, groups, kept, normalized, scale
        self.raw, self.shared, self.floor = raw, shared, floor

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        scores = scores.float()  # (tokens, experts)
        p = scores.softmax(-1) if self.shared else scores.sigmoid()  # (tokens, experts)
        ranked = scores if self.raw else p
        # Balances the load of experts: it changes who is chosen, but no weight.
        ranked = ranked if self.correction is None else ranked + self.correction.to(p.dtype)
        if self.groups > 1:
            pairs = ranked.unflatten(-1, (self.groups, -1)).topk(2, -1).values.sum(-1)  # (tokens, groups)
            ranked = mask_groups(ranked, pairs, self.kept, self.rest)
        experts = ranked.topk(self.chosen, -1).indices  # (tokens, chosen)
        weights = p.gather(1, experts)  # (tokens, chosen)
        if self.normalized:
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=self.floor)  # no division by 0
        return weights * self.scale, experts


class SigmoidTopK(Float32Parameters):
    """Top-k of sigmoid scores with a learned balancing bias or none (LFM2).

    Args:
        chosen: experts of a token. normalized: weights sum to `scale`; else they are the scores times it.
    """

    widened = (torch.float16, torch.bfloat16)

    def __init__(self, count: int, chosen: int, *, corrected: bool, normalized: bool, scale: float) -> None:
        super().__init__()
        self.correction = nn.Parameter(torch.empty(count)) if corrected else None
        self.chosen, self.normalized, self.scale = chosen, normalized, scale

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        p = scores.sigmoid()  # (tokens, experts)
        ranked = p if self.correction is None else p + self.correction
        experts = ranked.topk(self.chosen, -1).indices  # (tokens, chosen)
        weights = p.gather(1, experts)  # (tokens, chosen)
        if self.normalized:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        return weights * self.scale, experts


class SparseMixer(nn.Module):
    """Two experts a token, drawn in training, with the gradient of Liu et al. (2024, arXiv:2409.12136).

    Scores that are further from the best one than twice the margin are no candidates.

    Args:
        margin: relative to the scores.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        first = self._pick(scores, scores)
        second = self._pick(scores.scatter(1, first[1], -torch.inf), scores)
        weights, experts = (torch.cat(pair, -1) for pair in zip(first, second, strict=True))  # (tokens, 2) each
        return weights, experts

    def _pick(self, left: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight and the expert, (tokens, 1) each, among scores (tokens, experts) that are left."""
        with torch.no_grad():
            best, chosen = left.max(-1, keepdim=True)  # (tokens, 1) each
            far = (best - scores) / torch.maximum(scores.abs(), best) > 2 * self.margin  # (tokens, experts)
        near = left.masked_fill(far, -torch.inf)
        if self.training:  # the Gumbel maximum is a sample of the softmax
            chosen = (near - torch.empty_like(near).exponential_().log()).argmax(-1, keepdim=True)
        p = near.softmax(-1)
        weight = p.gather(1, chosen)  # (tokens, 1)
        if not self.training:
            return weight, chosen
        # Heun's method: three quarters of the draws of another expert than the best count a third, with the same
        # gradient.
        whole = (chosen == p.argmax(-1, keepdim=True)) | (torch.rand_like(weight) > 0.75)
        part = torch.where(whole, 0.3333 + 0.6667, 0.3333).to(weight.dtype)
        return weight + (weight * part - weight).detach(), chosen
