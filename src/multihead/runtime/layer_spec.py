"""Parts of a model as the ways past their `forward` know them: kernels that compute a whole step, or a recorded one.

What such a way leaves out would be left out in silence, so it asks here first. A part is known while it is of a class
below, has no attribute beside those named, which are all that the ways read, and nobody hooks or patches it. Whoever
gives a layer a new option names it here once the ways honour it; until then they leave such layers to their `forward`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..nn.attention.alibi import Alibi
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.attention.position_bias import BucketedBias
from ..nn.embeddings import CountedSinusoids, Embeddings, LearnedPositions, SinusoidalPositions
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.hooks import hooked
from ..nn.layer import CrossLayer, Layer, ParallelLayer, Residual
from ..nn.norms import AcrossHeads, Finite, HeadNorm, PlainLayerNorm, RMSNorm, WideRMSNorm
from ..nn.positions import Positions, Rotary, RotaryByLength
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Dropout, Embedding, LayerNorm, Linear, ScaledEmbedding
from .fused_linear_cpu import PackedLinear, Product
from .fused_linear_gpu import Joined

OWN = frozenset(vars(nn.Module()))  # what torch keeps of every module
HEADS = "causal clip dropout head_width k_norm positions q_norm scale sinks softcap window"
TABLE = "embedding_dim max_norm norm_type num_embeddings padding_idx scale_grad_by_freq sparse weight"
CODES = (
    "_address _struct act after after_bias after_weight codes gated kind minima norm norm_bias norm_weight numbers "
    "offsets outputs parts scales shape"
)
STACK = "adjust after drop embed layers norm out recompute steps"
NAMES: Mapping[type[nn.Module], str] = {
    Alibi: "scale slopes",
    Attention: f"{HEADS} q k v out qkv output widths",
    CrossAttention: f"{HEADS} q k v out query kv output widths",
    BucketedBias: "buckets causal reach table",
    CountedSinusoids: "frequencies offset padding width",
    SinusoidalPositions: "frequencies width",
    LearnedPositions: "offset padding table",
    Embeddings: "_typed dropout norm position project rescales rounded scale segment token widen worded",
    FeedForward: "act down dropout up",
    GatedFeedForward: "act down dropout gate scales up",
    Joined: "act bias gated weight",
    Layer: "attention ffn",
    CrossLayer: "attention cross ffn",
    ParallelLayer: "attention dropout ffn ffn_norm norm",
    Residual: "after before dropout out scale step follows joins taken",
    AcrossHeads: "norm",
    Finite: "",
    HeadNorm: "eps weight",
    PlainLayerNorm: "eps width",
    RMSNorm: "eps weight",
    WideRMSNorm: "centre eps weight",
    Product: CODES,
    PackedLinear: f"{CODES} in_features out_features sample",
    Positions: "",
    Rotary: "frequencies scale",
    RotaryByLength: "by_length frequencies scale variant",
    Stack: STACK,
    EncoderDecoder: "bridge decoder encoder",
    Dropout: "inplace p",
    Embedding: TABLE,
    ScaledEmbedding: f"{TABLE} rounded scale",
    LayerNorm: "bias elementwise_affine eps normalized_shape weight",
    Linear: "bias in_features out_features weight widened",
    nn.Identity: "",
}
KNOWN: dict[type[nn.Module], frozenset[str]] = {kind: frozenset(names.split()) for kind, names in NAMES.items()}
TOLD = (Attention, CrossAttention, Residual)  # whose plain attributes may be set at any time, with effect


def learn(kind: type[nn.Module], *names: str) -> None:
    """Makes a class known too, whose parts have these attributes beside those of its known base."""
    base = next((KNOWN[parent] for parent in kind.__mro__[1:] if parent in KNOWN), frozenset())
    KNOWN[kind] = base | set(names)
    _remember(kind)


def known(part: nn.Module) -> bool:
    """Whether a part is one that the ways past its `forward` stand for."""
    names = KNOWN.get(type(part))
    if type(part) is nn.ModuleList:
        return not hooked(part)
    return names is not None and not hooked(part) and attributes(part) <= names


def all_known(parts: Iterable[nn.Module]) -> bool:
    """The same of several parts, whose classes are as they were defined."""
    return all(map(known, parts)) and unpatched()


def attributes(part: nn.Module) -> set[str]:
    """What a part has beside what every module has."""
    return {*(vars(part).keys() - OWN), *part._modules, *part._parameters, *part._buffers}


def _members(kind: type) -> dict[str, Any]:
    return {name: x for name, x in vars(kind).items() if not name.startswith("__") or name == "__call__"}


_DEFINED: dict[type, dict[str, Any]] = {}
_SEEN: dict[type, list[int]] = {}  # the members of a class by identity, when they were last looked at and found right


def _remember(kind: type) -> None:
    for parent in kind.__mro__:
        if parent is not nn.Module and parent is not object:
            _DEFINED.setdefault(parent, _members(parent))


for _kind in KNOWN:
    _remember(_kind)


def unpatched() -> bool:
    """Whether the known classes have the members that they were defined with."""
    for kind, members in _DEFINED.items():
        here = list(map(id, vars(kind).values()))
        if here != _SEEN.get(kind):
            if _members(kind) != members:
                return False
            _SEEN[kind] = here
    return True


class Snapshot:
    """Parts as they are now, for who described them once and computes in their place later.

    Args:
        parts: all known. whole: whether the plain attributes of all of them count, not those of a few kinds alone.
    """

    def __init__(self, parts: Sequence[nn.Module], whole: bool = False) -> None:
        held = [vars(part) for part in parts]
        self._parts, self._types = list(parts), list(map(type, parts))
        self._held, self._sizes = held, list(map(len, held))
        self._hooks = [own[name] for own in held for name in ("_forward_hooks", "_forward_pre_hooks")]
        self._children = [(own["_modules"], dict(own["_modules"])) for own in held if own["_modules"]]
        told = [vars(part) for part in parts if whole or isinstance(part, TOLD)]
        self._told = [
            (own, {name: own[name] for name in own.keys() - OWN if not isinstance(own[name], torch.Tensor)})
            for own in told
        ]  # tensors move to where they are computed with

    def holds(self) -> bool:
        """Whether they are the same parts still, and nobody has set, hooked or replaced any."""
        if any(self._hooks) or list(map(len, self._held)) != self._sizes or hooked(_NOBODY) or not unpatched():
            return False
        if list(map(type, self._parts)) != self._types:
            return False
        if any(now != then for now, then in self._children):
            return False
        return all(
            own.get(name) is x or _equal(own.get(name), x) for own, told in self._told for name, x in told.items()
        )


_NOBODY = nn.Identity()


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
