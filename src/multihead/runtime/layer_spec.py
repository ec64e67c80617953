"""Descriptions of layers for all fast paths: fused layers, C++ steps and recorded CUDA graphs.

A fast path runs in place of a layer's `forward`, so an option unknown to it would be ignored silently. `CLASSES`
therefore lists every attribute of the layers that fast paths accept, and `describe` returns None for a layer with
another attribute, of another class, with a hook, or with a replaced method. A new option of a layer is listed here with
its neutral value: fast paths then decline layers that set it, until they compute it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..heads.heads import LanguageModel
from ..nn.attention.alibi import Alibi
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.attention.gated import GatedAttention
from ..nn.attention.position_bias import BucketedBias
from ..nn.attention.query_scale import PositionScale
from ..nn.embeddings import Embeddings, LearnedPositions, SinusoidalPositions, Tensor2TensorPositions
from ..nn.experts import ClampedGate, ExpertList, GroupedTopK, RoutedExperts, SharedExpert, StackedExperts
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.gated_delta_net import GatedDeltaNet, GatedRMSNorm
from ..nn.hooks import is_hooked
from ..nn.layer import CrossLayer, Layer, ParallelLayer, Residual
from ..nn.norms import (
    AllHeadsNorm,
    CentredLayerNorm,
    ClampInfinities,
    HeadNorm,
    PlainLayerNorm,
    PlainRMSNorm,
    RMSNorm,
    WideRMSNorm,
)
from ..nn.positions import Positions, Rotary, RotaryByLength
from ..nn.stack import EncoderDecoder, Stack
from ..nn.state_space import ShortConvolution
from ..nn.switch import SwitchFeedForward
from ..nn.weights import Dropout, Embedding, LayerNorm, Linear, NormedLinear, ScaledEmbedding

MODULE = frozenset(vars(nn.Module()))  # attributes of every torch module


@dataclass(frozen=True)
class Attributes:
    """Attributes of a layer class, grouped by their use in fast paths.

    Args:
        read: names, separated by spaces, that fast paths compute with, compare, or leave to the layer's own code.
        options: name -> neutral value, or the neutral class of a sub-layer. Other values are `LayerSpec.options`.
        inert: name -> why no fast path depends on it. A sub-layer of this name is not described.
    """

    read: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    inert: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset((*self.read.split(), *self.options, *self.inert))


TRAINING = "has no effect outside training, and fast paths run in inference alone"
CALLER = "concerns embeddings or token types that a caller passes, which decode steps never have"
SOURCE = "runs before the decoder; the cross-attention reads its result"

ATTENTION = "causal head_width k_norm positions q_norm scale window"
ATTENTION_OPTIONS = {
    "clip": None, "clips_normed": False, "norm_last": False, "query_scale": None, "softcap": None, "sinks": None,
}  # fmt: skip
EMBEDDING = Attributes(
    "embedding_dim num_embeddings weight", {"max_norm": None},
    {"norm_type": "belongs to max_norm", **dict.fromkeys(("padding_idx", "scale_grad_by_freq", "sparse"), TRAINING)},
)  # fmt: skip
CLASSES: dict[type[nn.Module], Attributes] = {
    Alibi: Attributes("scale slopes"),
    Attention: Attributes(f"{ATTENTION} q k v out", ATTENTION_OPTIONS, {"dropout": TRAINING}),
    GatedAttention: Attributes(f"{ATTENTION} q k v out", ATTENTION_OPTIONS, {"dropout": TRAINING}),
    GatedDeltaNet: Attributes(
        "act convolution decay gate key_width norm output parts qkv rates step strength value_width"
    ),
    GatedRMSNorm: Attributes("act eps weight", {"wide": False}),
    ShortConvolution: Attributes("weight", {"bias": None}),
    CrossAttention: Attributes(f"{ATTENTION} q k v out", ATTENTION_OPTIONS, {"dropout": TRAINING}),
    BucketedBias: Attributes("buckets causal reach table"),
    Tensor2TensorPositions: Attributes("frequencies offset padding width"),
    SinusoidalPositions: Attributes("frequencies width"),
    LearnedPositions: Attributes("offset table", {"padding": None, "by_row": False}),
    Embeddings: Attributes(
        "dropout norm position rounded scale token", {"project": nn.Identity, "segment": None, "widen": nn.Identity},
        dict.fromkeys(("_typed", "rescales", "worded"), CALLER),
    ),
    FeedForward: Attributes("act down dropout up"),
    GatedFeedForward: Attributes("act down dropout gate up", {"scales": (1.0, 1.0)}),
    RoutedExperts: Attributes("count experts router rule softcap wide", {}, {"jitter": TRAINING}),
    GroupedTopK: Attributes("chosen correction floor groups kept normalized raw scale shared"),
    SharedExpert: Attributes("routed scale share shared"),
    SwitchFeedForward: Attributes("capacity experts precision router", {}, {"jitter": TRAINING}),
    StackedExperts: Attributes("act down down_bias gate_up gate_up_bias"),
    ClampedGate: Attributes("alpha limit"),
    Layer: Attributes("attention ffn"),
    CrossLayer: Attributes("attention cross ffn"),
    ParallelLayer: Attributes("attention dropout ffn ffn_norm norm"),
    Residual: Attributes("after before dropout step", {"out": nn.Identity, "scale": 1.0}),
    AllHeadsNorm: Attributes("norm"),
    ClampInfinities: Attributes(),
    HeadNorm: Attributes("eps weight"),
    PlainLayerNorm: Attributes("eps width"),
    PlainRMSNorm: Attributes("eps width"),
    RMSNorm: Attributes("eps weight"),
    WideRMSNorm: Attributes("centre eps weight"),
    Positions: Attributes(),
    PositionScale: Attributes("length shift weight"),
    Rotary: Attributes("frequencies scale"),
    RotaryByLength: Attributes("by_length frequencies scale variant"),
    Stack: Attributes(
        "embed layers norm out", {"adjust": None},
        {"after": "concerns the hidden states of outputs, which only passes layer by layer collect",
         "drop": TRAINING, "recompute": TRAINING,
         "masked_next": "says what a pass reads, not how; decode runners ask for it themselves"},
    ),
    EncoderDecoder: Attributes("decoder", {}, {"bridge": SOURCE, "encoder": SOURCE}),
    LanguageModel: Attributes(
        "bias packed scale table", {"rest": None, "softcap": None, "transform": nn.Identity},
        {"carried": "is used for saving alone; no forward pass reads it"},
    ),
    Dropout: Attributes("", {}, {"inplace": TRAINING, "p": TRAINING}),
    Embedding: EMBEDDING,
    ScaledEmbedding: Attributes(f"{EMBEDDING.read} rounded scale", EMBEDDING.options, EMBEDDING.inert),
    LayerNorm: Attributes("bias elementwise_affine eps normalized_shape weight"),
    CentredLayerNorm: Attributes("bias centre elementwise_affine eps normalized_shape weight"),
    Linear: Attributes("bias in_features out_features weight widened"),
    NormedLinear: Attributes("linear norm"),
    nn.Identity: Attributes(),
    nn.ModuleList: Attributes(),
    ExpertList: Attributes(),
}  # fmt: skip
# Classes whose plain attributes users may set at any time.
SETTABLE = (Attention, CrossAttention, GatedAttention, Residual, RMSNorm, WideRMSNorm)


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """Description of a layer for the fast paths.

    Args:
        layer: the module. options: names of attributes with another value than the neutral one.
        parts: specs of its sub-layers by name; None for a sub-layer without a spec.
        complete: all sub-layers, at any depth, have specs.
    """

    layer: Any
    options: frozenset[str]
    parts: Mapping[str, LayerSpec | None]
    complete: bool

    def part(self, name: str) -> LayerSpec:
        """Return the spec of a sub-layer, which must have one."""
        spec = self.parts[name]
        assert spec is not None
        return spec

    def kind(self, name: str) -> type[nn.Module] | None:
        """Return the class of a sub-layer; None for one that is absent or has no spec."""
        spec = self.parts.get(name)
        return None if spec is None else type(spec.layer)

    @cached_property
    def norm(self) -> NormSpec | None:
        """Norm that the layer computes; None for a layer that computes something else."""
        return norm_spec(self.layer)


@dataclass(frozen=True, eq=False)
class NormSpec:
    """Norm as the kernels compute it.

    Args:
        kind: 1 for the root mean square, 2 for a layer norm, 0 for none.
        scale, shift: the layer's weight and bias, (width,), or none. centre: added to the weight.
    """

    kind: int = 0
    eps: float = 0.0
    scale: Tensor | None = None
    shift: Tensor | None = None
    centre: float = 0.0

    @cached_property
    def weight(self) -> Tensor | None:
        """(width,) in float32, with the centre added."""
        weight = _float32(self.scale)  # (width,)
        # Gemma stores its weights less one
        return weight if weight is None or not self.centre else weight + self.centre

    @cached_property
    def bias(self) -> Tensor | None:
        """(width,) in float32."""
        return _float32(self.shift)


def norm_spec(layer: nn.Module) -> NormSpec | None:
    """Return the norm that a layer computes, of kind 0 for a layer that changes nothing; None for another layer.

    `ClampInfinities` changes float16 alone, which the kernels do not compute with.
    """
    module: Any = layer
    kind = type(layer)
    if kind is LayerNorm:
        return NormSpec(2, module.eps, module.weight, module.bias)
    if kind is CentredLayerNorm:
        # the layer rounds the sum to the weight's precision
        return NormSpec(2, module.eps, (module.weight + module.centre).detach(), module.bias)
    if kind is PlainLayerNorm:
        return NormSpec(2, module.eps)
    if kind is PlainRMSNorm:
        return NormSpec(1, module.eps, torch.ones(module.width))
    if kind is RMSNorm:
        return NormSpec(1, module.eps, module.weight)
    if kind is WideRMSNorm:
        return NormSpec(1, module.eps, module.weight, None, module.centre)
    return NormSpec() if kind in (nn.Identity, ClampInfinities) else None


def _float32(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().float().contiguous()


def register(kind: type[nn.Module], read: str = "", base: type[nn.Module] | None = None) -> None:
    """Add a class of the fast paths to `CLASSES`, with the attributes of `base` and those in `read`."""
    known = Attributes() if base is None else CLASSES[base]
    CLASSES[kind] = Attributes(f"{known.read} {read}", known.options, known.inert)
    _remember(kind)


def describe(layer: nn.Module) -> LayerSpec | None:
    """Return a layer's spec; None if the layer has an unknown attribute, class, hook or method."""
    # a global hook would see every layer
    return None if is_hooked(_UNHOOKED) or not classes_unchanged() else _describe(layer)


def _describe(layer: nn.Module) -> LayerSpec | None:
    # the exact class, since a subclass may compute something else
    attributes, own = CLASSES.get(type(layer)), vars(layer)
    if attributes is None or own["_forward_hooks"] or own["_forward_pre_hooks"]:
        return None
    names, modules = attributes.names, own["_modules"]
    listed = isinstance(layer, nn.ModuleList) or names.issuperset(modules)
    if not (listed and names.issuperset(own["_parameters"]) and names.issuperset(own["_buffers"])):
        return None
    if not names.issuperset(own.keys() - MODULE):  # a replaced method is an attribute, too
        return None
    inert = attributes.inert
    parts = {name: _describe(x) for name, x in modules.items() if x is not None and name not in inert}
    options = [name for name, neutral in attributes.options.items() if not _is_neutral(layer, name, neutral)]
    complete = all(part is not None and part.complete for part in parts.values())
    return LayerSpec(layer, frozenset(options), parts, complete)


def _is_neutral(layer: nn.Module, name: str, neutral: Any) -> bool:
    value = getattr(layer, name, neutral)
    if isinstance(neutral, type):  # a subclass may compute something else, so it is not neutral
        return value is neutral or type(value) is neutral
    # True equals 1, so types are compared, too
    return value is neutral or (type(value) is type(neutral) and bool(value == neutral))


def attribute_names(layer: nn.Module) -> set[str]:
    """Return the attributes that a layer has in addition to those of every module."""
    return {*(vars(layer).keys() - MODULE), *layer._modules, *layer._parameters, *layer._buffers}


def adopt(module: nn.Module, layer: nn.Module, *without: str) -> None:
    """Copy the attributes of a described layer, except those in `without`, and its training mode to a new module."""
    module.training = layer.training
    vars(module).update({name: x for name, x in vars(layer).items() if name not in MODULE and name not in without})
    for kind in ("_parameters", "_buffers", "_modules"):
        getattr(module, kind).update({name: x for name, x in getattr(layer, kind).items() if name not in without})


_UNHOOKED = nn.Identity()  # is hooked only by a global hook on all modules
_MEMBERS: dict[type, dict[str, Any]] = {}  # methods and class attributes of each class, as defined
_NOW: dict[type, ValuesView[Any]] = {}  # views of the members that each class has now
_CHECKED: dict[type, tuple[Any, ...]] = {}  # members of a class when they were last compared and found equal


def _members(kind: type) -> dict[str, Any]:
    return {name: x for name, x in vars(kind).items() if not name.startswith("__") or name == "__call__"}


def _remember(kind: type) -> None:
    for parent in kind.__mro__:
        if parent is not nn.Module and parent is not object:
            _MEMBERS.setdefault(parent, _members(parent))
            _NOW.setdefault(parent, vars(parent).values())


for _kind in CLASSES:
    _remember(_kind)


def classes_unchanged() -> bool:
    """Return True if no method or class attribute of the described classes was replaced."""
    for kind, view in _NOW.items():
        now = tuple(view)
        if now != _CHECKED.get(kind):  # a comparison with the same objects is cheap, so it is done in every pass
            if _members(kind) != _MEMBERS[kind]:
                return False
            _CHECKED[kind] = now
    return True


class Snapshot:
    """Attributes of described layers at one moment, compared before a fast path runs in place of the layers.

    Args:
        layers: layers that have specs. whole: compare plain attributes of all layers, not of `SETTABLE` classes alone.
        changed: the layers are copies of layers that had changed, so `holds` is always False.
    """

    def __init__(self, layers: Sequence[nn.Module], whole: bool = False, changed: bool = False) -> None:
        self._layers, self._kinds, self._whole, self._changed = list(layers), list(map(type, layers)), whole, changed
        self._own = [vars(layer) for layer in layers]  # the dictionaries themselves, so that later changes show
        self._sizes = list(map(len, self._own))
        self._hooks = [own[name] for own in self._own for name in ("_forward_hooks", "_forward_pre_hooks")]
        self._modules = [(own["_modules"], dict(own["_modules"])) for own in self._own if own["_modules"]]
        compared = [vars(layer) for layer in layers if whole or isinstance(layer, SETTABLE)]
        self._values = [
            (own, {name: own[name] for name in own.keys() - MODULE if not isinstance(own[name], Tensor)})
            for own in compared
        ]  # tensors are not compared: they may move between devices

    def holds(self) -> bool:
        """Return True if no layer was replaced, hooked or changed since the snapshot."""
        if self._changed or any(self._hooks) or list(map(len, self._own)) != self._sizes or is_hooked(_UNHOOKED):
            return False
        # the class of a module can be set, too
        if list(map(type, self._layers)) != self._kinds or not classes_unchanged():
            return False
        if any(now != then for now, then in self._modules):
            return False
        return all(
            own.get(name) is x or _equal(own.get(name), x) for own, values in self._values for name, x in values.items()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self._layers, self._whole, not self.holds())  # a copy compares the copied layers


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
