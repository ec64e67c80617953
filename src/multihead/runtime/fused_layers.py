"""Layers whose steps are joined into few products, made in place of trained ones: for inference alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..kernels.activations import ACTIVATIONS as KNOWN
from ..kernels.packed import KEPT, kept_kind
from ..kernels.ragged import Sight
from ..nn.activations import ACTIVATIONS
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.cache.layer_cache import KeyValues
from ..nn.experts import ExpertList, RoutedExperts, StackedExperts, WithShared
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.forward_context import EncoderOutput, ForwardContext
from ..nn.hooks import hooked
from ..nn.layer import Layer, Residual
from ..nn.norms import Finite
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.switch import SwitchFeedForward
from ..nn.weights import Linear
from .fused_experts import PackedExperts, PreparedExperts, PreparedSwitch, PreparedWithShared, Products
from .fused_linear_cpu import Norm, PackedLinear, Product
from .fused_linear_gpu import Joined, normed_sum
from .layer_spec import known, learn, unpatched

JOINED = "joined"  # in place of a kind of codes: weights stay as they are, and torch multiplies them


class PreparedAttention(Attention):
    """Queries, keys and values of one product, and the result's with the residual sum."""

    qkv: Product | Joined
    output: Product | Joined
    widths: tuple[int, int, int]

    def forward(self, x: Tensor, context: ForwardContext, memory: KeyValues | None) -> Tensor:
        return bare(self.output, self._heads(x, context, memory).flatten(1))

    def joined(self, x: Tensor, add: Tensor | None, context: ForwardContext, memory: KeyValues | None) -> Tensor:
        """(tokens, width): `add` and what attention gives of x."""
        return self.output(self._heads(x, context, memory).flatten(1), add)

    @property
    def supports_selected_tokens(self) -> bool:
        return type(self.positions) is Positions and not self.causal and self.window is None

    def forward_selected(self, x: Tensor, context: ForwardContext, add: Tensor | None = None) -> Tensor:
        selected = context.selected
        assert selected is not None
        q, k, v = self._project(x)
        sight = Sight(selected.runs, context.runs)
        mixed = self._mix(q.index_select(0, selected.rows), k, v, sight, None, context, context.capture.attentions)
        return self.output(mixed.flatten(1), add)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).split(self.widths, 1)
        if self.clip is not None:
            q, k, v = (part.clamp(-self.clip, self.clip) for part in (q, k, v))
        return self.q_norm(self._split(q)), self.k_norm(self._split(k)), self._split(v)


class PreparedCrossAttention(CrossAttention):
    """Keys and values of one product."""

    query: Product | Joined
    kv: Product | Joined
    output: Product | Joined
    widths: tuple[int, int]

    def forward(self, x: Tensor, context: ForwardContext, memory: KeyValues | None = None) -> Tensor:
        return bare(self.output, self._mixed(x, context))

    def joined(self, x: Tensor, add: Tensor | None, context: ForwardContext, memory: KeyValues | None = None) -> Tensor:
        return self.output(self._mixed(x, context), add)

    def _mixed(self, x: Tensor, context: ForwardContext) -> Tensor:
        source = context.encoder_output
        assert source is not None
        k, v = self.projected(source)
        sight = context.sight(source.runs, causal=False, window=None)
        return self._mix(
            self._split(self.query(x)), k, v, sight, None, context, context.capture.cross_attentions
        ).flatten(1)

    def projected(self, source: EncoderOutput) -> tuple[Tensor, Tensor]:
        def project(hidden: Tensor) -> tuple[Tensor, Tensor]:
            k, v = self.kv(hidden).split(self.widths, 1)
            return self._split(k), self._split(v)

        return source.project(self, project)


class PreparedFeedForward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)), in two products."""

    def __init__(self, into: Product | Joined, out: Product | Joined) -> None:
        super().__init__()
        self.into, self.output = into, out

    def forward(self, x: Tensor) -> Tensor:
        return bare(self.output, self.into(x))

    def joined(self, x: Tensor, add: Tensor | None) -> Tensor:
        """(tokens, width): `add` and what the step gives of x."""
        return self.output(self.into(x), add)


class PreparedResidual(Residual):
    """A residual step that adds what it reads itself, with the norms that its products have taken in.

    A step that somebody hooks is asked for what it gives alone, which is then added here.
    """

    joins: tuple[nn.Module, ...] = ()  # the step, as it was prepared
    taken = (False, False)  # whether its products have taken in the norm before and the one after

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        if self._adds:
            return self.after(self.step.joined(self.before(x), x, *args))  # type: ignore[operator]
        return self._apart(x, *args)

    @property
    def _adds(self) -> bool:
        """Whether the step may add what it reads.

        Raises:
            InvalidInput: a part was replaced that was joined with others.
        """
        step = self.step
        if step is not self.joins[0] or any(
            taken and type(norm) is not nn.Identity
            for taken, norm in zip(self.taken, (self.before, self.after), strict=True)
        ):
            if any(self.taken):
                raise InvalidInput(
                    "A step and the norms around it were joined when this model was prepared, and one of them was "
                    f"replaced since ({type(step).__name__} is there now). Replace parts first, then call prepare()."
                )
            return False
        return not hooked(step) and type(self.out) is nn.Identity and not hooked(self.out) and self.scale == 1.0

    def _apart(self, x: Tensor, *args: Any) -> Tensor:
        """The same where what the step gives is looked at, or has something done to it, before it is added."""
        new = self.dropout(self.out(self.step(self.before(x), *args)))
        total = x + (new if self.scale == 1.0 else new * self.scale)
        return self.after(self.step.output.settled(total) if self.taken[1] else total)  # type: ignore[union-attr,operator]

    @property
    def supports_selected_tokens(self) -> bool:
        return getattr(self.step, "supports_selected_tokens", False)

    def forward_selected(self, x: Tensor, context: ForwardContext) -> Tensor:
        assert context.selected is not None
        rows = x.index_select(0, context.selected.rows)
        return self.after(self.step.forward_selected(self.before(x), context, rows))  # type: ignore[operator]


class JoinedResidual(PreparedResidual):
    """The same on a GPU, where a sum is made together with the norm that reads it.

    A sum that the next step's norm reads is a tensor with that norm and what it gives, as its `normed`.
    """

    follows: Follows | None = None

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        norm, known = getattr(x, "normed", (None, None))
        if not self._adds:
            return self._apart(x, *args)
        new = self.step.joined(self.before(x) if known is None or norm is not self.before else known, None, *args)  # type: ignore[operator]
        if type(self.after) is not nn.Identity:
            found = None if hooked(self.after) else normed_sum(x, new, self.after, keep=False)
            return self.after(x + new) if found is None else found[1]
        after = self.follows
        found = normed_sum(x, new, after.norm, keep=True) if after is not None and after.next() else None
        if found is None or after is None:
            return x + new
        found[0].normed = after.norm, found[1]  # type: ignore[attr-defined]
        return found[0]


@dataclass(frozen=True, eq=False)
class Follows:
    """The step that reads what another one gives, where nothing is done to it between.

    Args:
        norm: of that step. places: what leads from the one to the other: an owner, the name of a part, and the part.
    """

    norm: nn.Module
    places: tuple[tuple[nn.Module, str, nn.Module], ...]

    def next(self) -> bool:
        """Whether it is still so: nobody has hooked or replaced what lies between."""
        held = all(owner._modules.get(name) is part and not hooked(part) for owner, name, part in self.places)
        return held and unpatched()


def _follow(stack: Stack) -> None:
    """Tells each step of a stack's layers the next one."""
    layers = [(str(number), layer) for number, layer in enumerate(stack.layers) if isinstance(layer, Layer)]
    steps = [
        (step, ((stack.layers, number, layer), (layer, name, step)))
        for number, layer in layers for name, step in layer.named_children() if name in ("attention", "cross", "ffn")
    ]  # fmt: skip
    for (step, here), (after, there) in pairwise(steps):
        if type(step) is type(after) is JoinedResidual and type(step.after) is nn.Identity:
            way = (*here, *there, (after, "before", after.before))
            step.follows = Follows(after.before, way)


for _kind, _names in (
    (PreparedAttention, ()), (PreparedCrossAttention, ()), (PreparedFeedForward, ("into", "output")),
    (PreparedResidual, ()), (JoinedResidual, ()),
):  # fmt: skip
    learn(_kind, *_names)


def prepare(module: nn.Module, kind: str) -> None:
    """Joins and packs every step inside that can be, in place; other linear layers are packed alone.

    Args:
        kind: of codes, as in `kernels.packed`, or `JOINED`.

    Raises:
        InvalidInput: weights that are not finite, or too large.
    """
    for part in list(module.modules()):
        if type(part) is Residual:
            _residual(part, kind)
    _steps(module, kind)
    for part in module.modules():
        if isinstance(part, Stack) and kind == JOINED:
            _follow(part)


def _residual(residual: Residual, kind: str) -> None:
    """A residual whose step can add what it reads."""
    if type(residual.out) is not nn.Identity or residual.scale != 1.0 or not known(residual):
        return
    if kind != JOINED and _routes(residual.step):  # a router reads what the norm gives, too
        residual.step = _experts(residual.step, kind)
        residual.__class__, residual.joins = PreparedResidual, (residual.step,)  # type: ignore[assignment]
    if not can_join(residual.step):
        return
    if kind == JOINED and type(residual.after) is Finite and residual.before.weight.dtype is not torch.float16:
        residual.after = nn.Identity()
    norms = residual.before, residual.after
    before, after = (None if kind == JOINED or not known(norm) else Norm.of(norm) for norm in norms)
    residual.step = _step(residual.step, kind, before, after)
    residual.before = nn.Identity() if before else residual.before
    residual.after = nn.Identity() if after else residual.after
    residual.__class__ = JoinedResidual if kind == JOINED else PreparedResidual
    residual.joins, residual.taken = (residual.step,), (before is not None, after is not None)  # type: ignore[assignment]


def _steps(module: nn.Module, kind: str) -> None:
    for name, child in list(module.named_children()):
        if can_join(child):
            setattr(module, name, _step(child, kind, None, None))
        elif kind != JOINED and _routes(child):
            setattr(module, name, _experts(child, kind))
        elif is_plain(child) and kind != JOINED and name not in getattr(module, "unpacked", ()):
            setattr(module, name, PackedLinear(child, kind))  # type: ignore[arg-type]
        elif not isinstance(child, (Product, Joined)):
            _steps(child, kind)


def can_join(step: nn.Module) -> bool:
    """Whether a step is of the plain kind that is joined here."""
    if not known(step):
        return False
    if type(step) in (Attention, CrossAttention):
        return all(is_plain(getattr(step, name)) for name in ("q", "k", "v", "out"))
    if isinstance(step, (FeedForward, GatedFeedForward)) and step.down.weight.dtype != step.up.weight.dtype:
        return False
    if type(step) is FeedForward:
        return is_plain(step.up) and is_plain(step.down) and named(step.act) is not None
    linears = type(step) is GatedFeedForward and all(map(is_plain, (step.gate, step.up, step.down)))
    return linears and step.scales == (1.0, 1.0) and named(step.act) is not None


def is_plain(linear: nn.Module) -> bool:
    """Whether a linear layer is its weight and bias and nothing more."""
    return type(linear) is Linear and known(linear)


def bare(product: Product | Joined, x: Tensor) -> Tensor:
    """What a step's last product gives, before the residual sum and the norm after it."""
    return product.bare(x) if isinstance(product, Product) else product(x)


def _routes(step: nn.Module) -> bool:
    """Whether a step sends tokens to experts that are packed here."""
    made: Any = step
    if type(step) is WithShared:
        return _routes(made.routed) and can_join(made.shared)
    if type(step) is SwitchFeedForward or (type(step) is RoutedExperts and type(made.experts) is ExpertList):
        return all(map(can_join, made.experts)) and len({type(expert) for expert in made.experts}) == 1
    return type(step) is RoutedExperts and type(made.experts) is StackedExperts


def _experts(step: Any, kind: str) -> nn.Module:
    """The step with its experts packed, one after the other: each is let go before the next."""
    if isinstance(step, WithShared):
        step.routed, step.shared = _experts(step.routed, kind), _step(step.shared, kind, None, None)  # type: ignore[assignment]
        step.__class__ = PreparedWithShared
    elif isinstance(step, SwitchFeedForward):
        step.experts = _listed(step.experts, kind)  # type: ignore[assignment]
        step.__class__ = PreparedSwitch
    else:
        pack = _stacked if isinstance(step.experts, StackedExperts) else _listed
        step.experts, step.__class__ = pack(step.experts, kind), PreparedExperts
        if step.wide:
            step.router.widened = (torch.float16, torch.bfloat16)  # it computes in float32: not cast in every pass
    return step


def _listed(experts: Any, kind: str) -> PackedExperts:
    gated, act = isinstance(experts[0], GatedFeedForward), named(experts[0].act)

    def product(expert: nn.Module, kind: str, *names: str, **options: Any) -> Product:
        linears = [getattr(expert, name) for name in names]
        for name in names:
            delattr(expert, name)
        return _joined(linears, kind, **options)  # type: ignore[return-value]

    def products(*names: str, **options: Any) -> Products:
        weights = [getattr(expert, name).weight for expert in experts for name in names]
        one = kept_kind(weights) if kind == KEPT else kind  # a stack has one kind
        return Products([partial(product, expert, one, *names, **options) for expert in experts])

    into = products(*(("gate", "up") if gated else ("up",)), act=act, gated=gated)
    return PackedExperts(into, products("down"))


def _stacked(experts: StackedExperts, kind: str) -> PackedExperts:
    kind = "bf16" if kind == KEPT else kind  # columns of theirs are rows of products: a file's codes are of no use

    def into(number: int) -> Product:
        weight, bias = experts.gate_up[number].t(), experts.gate_up_bias[number]
        return Product([weight[::2], weight[1::2]], [bias[::2], bias[1::2]], kind)

    def out(number: int) -> Product:
        return Product([experts.down[number].t()], [experts.down_bias[number]], kind)

    numbers = range(len(experts.down))
    first = Products([partial(into, number) for number in numbers])
    del experts.gate_up
    return PackedExperts(first, Products([partial(out, number) for number in numbers]), experts.act)


def named(act: Any) -> str | None:
    """The name of an activation that the kernels compute."""
    return next((name for name, known in ACTIVATIONS.items() if known is act and name in KNOWN), None)


def _joined(
    linears: list[Any], kind: str, act: str | None = None, gated: bool = False, **norms: Norm | None
) -> Product | Joined:
    if kind == JOINED:
        return Joined([x.weight for x in linears], [x.bias for x in linears], act=act, gated=gated)
    options: dict[str, Any] = {"act": act, "gated": gated, **norms}
    return Product([x.weight for x in linears], [x.bias for x in linears], kind, **options)


def _step(step: Any, kind: str, before: Norm | None, after: Norm | None) -> nn.Module:
    """The joined step, with the norms before and after it where the kernels compute these."""
    if isinstance(step, (FeedForward, GatedFeedForward)):
        gated = isinstance(step, GatedFeedForward)
        linears = [step.gate, step.up] if gated else [step.up]
        into = _joined(linears, kind, act=named(step.act), gated=gated, norm=before)
        return PreparedFeedForward(into, _joined([step.down], kind, after=after))
    made: Any = step
    output = _joined([made.out], kind, after=after)
    if isinstance(step, CrossAttention):
        made.query, made.kv = _joined([made.q], kind, norm=before), _joined([made.k, made.v], kind)
        made.widths = made.k.out_features, made.v.out_features
        made.__class__ = PreparedCrossAttention
    else:
        made.qkv = _joined([made.q, made.k, made.v], kind, norm=before)
        made.widths = made.q.out_features, made.k.out_features, made.v.out_features
        made.__class__ = PreparedAttention
    del made.q, made.k, made.v, made.out
    made.output = output
    return made
