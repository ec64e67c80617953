"""Fused layers for inference: few products a step, with the residual sum and the norms around it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import InvalidInput
from ..kernels.activations import ACTIVATIONS as KERNEL_ACTIVATIONS
from ..nn.activations import ACTIVATIONS
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.cache.layer_cache import KVLayerCache, cache_or_none
from ..nn.encoder_output import EncoderOutput
from ..nn.feedforward import FeedForward, GatedFeedForward
from ..nn.forward_context import ForwardContext
from ..nn.hooks import is_hooked
from ..nn.layer import Residual
from ..nn.norms import ClampInfinities
from ..nn.positions import Positions
from ..nn.stack import Stack
from ..nn.weights import Linear
from .fused_linear_cpu import FusedLinear
from .fused_linear_gpu import FusedLinearGPU, normed_sum
from .layer_spec import LayerSpec, Snapshot, adopt, register

Product = FusedLinear | FusedLinearGPU
FUSED_OPTIONS = {
    "clip",
    "norm_last",
    "query_scale",
    "softcap",
    "sinks",
}  # of attention, which `FusedAttention` computes
LINEARS: dict[type, tuple[str, ...]] = {
    Attention: ("q", "k", "v", "out"), CrossAttention: ("q", "k", "v", "out"), FeedForward: ("up", "down"),
    GatedFeedForward: ("gate", "up", "down"),
}  # fmt: skip


class FusedAttention(Attention):
    """Attention with one product for queries, keys and values, and one for the result with the residual sum.

    Args:
        layer: the attention that this one replaces. qkv: (width) to (query + key + value widths).
        output: (query width) to (width).
    """

    widths: tuple[int, int, int]  # of queries, keys and values

    def __init__(self, layer: Attention, qkv: Product, output: Product) -> None:
        nn.Module.__init__(self)
        adopt(self, layer, "q", "k", "v", "out")
        self.widths = len(layer.q.weight), len(layer.k.weight), len(layer.v.weight)  # type: ignore[arg-type]
        self.qkv, self.output = qkv, output

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        # (tokens, heads, head width) to (tokens, width)
        return without_norm(self.output, self._heads(x, context, memory).flatten(1))

    def forward_add(
        self, x: Tensor, add: Tensor | None, context: ForwardContext, memory: KVLayerCache | None
    ) -> Tensor:
        """`add` and the attention's result for x, (tokens, width)."""
        return self.output(self._heads(x, context, memory).flatten(1), add)

    @property
    def supports_selected_tokens(self) -> bool:
        return type(self.positions) is Positions and not self.causal and self.window is None

    def forward_selected(self, x: Tensor, context: ForwardContext, add: Tensor | None = None) -> Tensor:
        return self.output(self._selected_heads(x, context).flatten(1), add)

    def _products(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        # (tokens, query width), (tokens, key width), (tokens, value width)
        q, k, v = self.qkv(x).split(self.widths, 1)
        return q if rows is None else q.index_select(0, rows), k, v


class FusedCrossAttention(CrossAttention):
    """Cross-attention with one product for keys and values.

    Args:
        layer: the attention that this one replaces. query, output: as in `FusedAttention`.
        kv: (source width) to (key width + value width).
    """

    widths: tuple[int, int]  # of keys and values

    def __init__(
        self,
        layer: CrossAttention,
        query: Product,
        kv: Product,
        output: Product,
    ) -> None:
        nn.Module.__init__(self)
        adopt(self, layer, "q", "k", "v", "out")
        self.widths = len(layer.k.weight), len(layer.v.weight)  # type: ignore[arg-type]
        self.query, self.kv, self.output = query, kv, output

    def forward(self, x: Tensor, context: ForwardContext, memory: KVLayerCache | None = None) -> Tensor:
        return without_norm(self.output, self._cross_heads(x, context))

    def forward_add(
        self, x: Tensor, add: Tensor | None, context: ForwardContext, memory: KVLayerCache | None = None
    ) -> Tensor:
        """`add` and the attention's result for x, (tokens, width)."""
        return self.output(self._cross_heads(x, context), add)

    def _cross_heads(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Return the outputs of all cross-attention heads, concatenated: (tokens, query width)."""
        source = context.encoder_output
        assert source is not None
        k, v = self.projected(source)  # (source tokens, heads, head width) each
        # each query sees its whole source
        attention_mask = context.attention_mask(source.runs, causal=False, window=None)
        return self._mix(
            self._split(self.query(x)), k, v, attention_mask, None, context, context.capture.cross_attentions
        ).flatten(1)

    def projected(self, source: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Keys and values of a source, (source tokens, heads, head width) each, computed once a source."""

        def project(hidden: Tensor) -> tuple[Tensor, Tensor]:
            k, v = self.kv(hidden).split(self.widths, 1)
            return self._split(k), self._split(v)  # (source tokens, heads, head width) each

        return source.project(self, project)


class FusedFeedForward(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)), in two products."""

    def __init__(self, into: Product, out: Product) -> None:
        super().__init__()
        self.into, self.output = into, out

    def forward(self, x: Tensor) -> Tensor:
        # (tokens, width) to (tokens, inner) to (tokens, width)
        return without_norm(self.output, self.into(x))

    def forward_add(self, x: Tensor, add: Tensor | None) -> Tensor:
        """`add` and the result for x, (tokens, width)."""
        return self.output(self.into(x), add)


class FusedResidual(Residual):
    """Residual whose step adds the residual itself, and whose products compute the norms around it.

    A hooked step returns its own result alone, and `forward` adds the residual.

    Args:
        layer: the residual that this one replaces. step: the fused step.
        before, after: whether the step's products compute the norm before it, and the one after the sum.
        out: whether they compute the norm of the step's result.
    """

    def __init__(
        self, layer: Residual, step: nn.Module, before: bool = False, after: bool = False, out: bool = False
    ) -> None:
        nn.Module.__init__(self)
        adopt(self, layer)
        self.step = step
        self.fused_step, self.inner_norms = (step,), (before, after, out)  # a tuple: no sub-layer of its own
        if before:
            self.before = nn.Identity()
        if after:
            self.after = nn.Identity()
        if out:
            self.out = nn.Identity()

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        if self._is_fused:
            return self.after(self.step.forward_add(self.before(x), x, *args))  # type: ignore[operator]
        return self._separate(x, *args)

    @property
    def _is_fused(self) -> bool:
        """True if the step may add the residual itself.

        Raises:
            InvalidInput: a part that was fused with others has been replaced.
        """
        step = self.step
        if step is not self.fused_step[0] or any(
            inner and type(norm) is not nn.Identity
            for inner, norm in zip(self.inner_norms, (self.before, self.after, self.out), strict=True)
        ):
            if any(self.inner_norms):
                raise InvalidInput(
                    "A step and the norms around it were joined when this model was prepared, and one of them was "
                    f"replaced since ({type(step).__name__} is there now). Replace parts first, then call prepare()."
                )
            return False
        return not is_hooked(step) and type(self.out) is nn.Identity and not is_hooked(self.out) and self.scale == 1.0

    def _separate(self, x: Tensor, *args: Any) -> Tensor:
        """Compute step, sum and norm separately, where a hook, `out` or a scale changes the step's result."""
        new = self.step(self.before(x), *args)  # (tokens, width)
        new = self.step.output.normalized(new) if self.inner_norms[2] else new  # type: ignore[union-attr,operator]
        new = self.dropout(self.out(new))  # (tokens, width)
        total = x + (new if self.scale == 1.0 else new * self.scale)  # (tokens, width): the residual sum
        return self.after(self.step.output.normalized(total) if self.inner_norms[1] else total)  # type: ignore[union-attr,operator]

    @property
    def supports_selected_tokens(self) -> bool:
        return getattr(self.step, "supports_selected_tokens", False)

    def forward_selected(self, x: Tensor, context: ForwardContext) -> Tensor:
        assert context.selected is not None
        # (selected tokens, width): the residual of these alone
        rows = x.index_select(0, context.selected.rows)
        return self.after(self.step.forward_selected(self.before(x), context, rows))  # type: ignore[operator]


class FusedResidualGPU(FusedResidual):
    """Residual step on a GPU, where one kernel computes a sum and the norm that reads it."""

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return self.with_next_norm(x, None, None, *args)[0]

    def with_next_norm(
        self, x: Tensor, normed: Tensor | None, norm: nn.Module | None, *args: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the result (tokens, width) for x (tokens, width), and the next layer's norm of it.

        Args:
            normed: the norm of x, (tokens, width), if the layer before has computed it.
            norm: the norm that reads the result; the second result is None if no kernel computes this norm.
        """
        if not self._is_fused:
            return self._separate(x, *args), None
        # (tokens, width)
        new = self.step.forward_add(self.before(x) if normed is None else normed, None, *args)  # type: ignore[operator]
        if type(self.after) is not nn.Identity:
            sums = None if is_hooked(self.after) else normed_sum(x, new, self.after, keep=False)
            # a norm after the sum is its only reader, so the sum is not kept
            return (self.after(x + new) if sums is None else sums[1]), None
        sums = None if norm is None else normed_sum(x, new, norm, keep=True)
        return (x + new, None) if sums is None else sums


class FusedStackGPU(Stack):
    """Stack on a GPU that computes each residual sum together with the norm that reads it.

    It runs layer by layer where hidden states are collected, or a part was hooked, set or replaced.
    """

    def __init__(self, stack: Stack) -> None:
        nn.Module.__init__(self)
        adopt(self, stack)
        residuals = [layer.get_submodule(name) for layer in self.layers for name in steps_of(layer)]
        norms: list[Any] = [residual.before for residual in residuals]
        self.next_norms = [*norms[1:], None]  # the last sum is read by the norm of the stack, which runs apart
        self.snapshot = Snapshot([self.layers, *self.layers, *residuals, *norms])

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        if not self._is_fused(context):
            return super().forward(words, context)
        x, normed = self.embed(words, context), None  # (tokens, width)
        memories, norms = context.cache.layers if context.cache else [None] * len(self.layers), iter(self.next_norms)
        for layer, memory in zip(self.layers, map(cache_or_none, memories), strict=True):
            arguments = {"attention": (context, memory), "cross": (context,), "ffn": ()}
            for name in steps_of(layer):
                x, normed = getattr(layer, name).with_next_norm(x, normed, next(norms), *arguments[name])
        if context.cache is not None:
            context.cache.advance(context.runs)
        return self.out(self.norm(x))

    def _is_fused(self, context: ForwardContext) -> bool:
        whole = (
            self.adjust is None and context.selected is None and context.capture.hidden is None and not self.recompute
        )
        crosses = hasattr(self.layers[0], "cross")
        return (
            whole
            and not (self.drop and self.training)
            and crosses == (context.encoder_output is not None)
            and self.snapshot.holds()
        )


def fusable(spec: LayerSpec | None, *last: type[nn.Module]) -> bool:
    """Return True if the fused layers compute all that attention or a feed-forward does.

    Args:
        last: classes that the last linear layer may have, in addition to the usual one.
    """
    names = () if spec is None else LINEARS.get(type(spec.layer), ())
    if spec is None or not names or spec.kind(names[-1]) not in (Linear, *last):
        return False
    if any(spec.kind(name) is not Linear for name in names[:-1]):
        return False
    if not spec.options <= FUSED_OPTIONS:
        return False
    if isinstance(spec.layer, Attention):
        return True
    ffn = spec.layer
    # T5 may keep `down` in float32 beside half precision
    down = ffn.down.linear if type(ffn.down) in last else ffn.down
    return down.weight.dtype == ffn.up.weight.dtype and kernel_activation(ffn.act) is not None


def is_joined(residual: LayerSpec) -> bool:
    """Return True for a fused residual whose products compute everything around its step."""
    # fused norms left identities
    outside = [residual.kind(norm) in (nn.Identity, ClampInfinities) for norm in ("before", "out", "after")]
    return type(residual.layer) is FusedResidual and not residual.options and all(outside)


def fits_norms(residual: LayerSpec) -> bool:
    """Return True if the products of a residual's step compute the norms around it, and nothing else is around it.

    One product computes one norm: of the sum, or of its own result before the sum.
    """
    norms = [None if part is None else part.norm for part in (residual.parts[n] for n in ("before", "out", "after"))]
    if any(norm is None for norm in norms) or not residual.options <= {"out"}:
        return False
    return not (norms[1] and norms[1].kind and norms[2] and norms[2].kind)


def kernel_activation(act: Any) -> str | None:
    """Return the name of an activation that the kernels compute; None for another."""
    return next((name for name, known in ACTIVATIONS.items() if known is act and name in KERNEL_ACTIVATIONS), None)


def steps_of(layer: nn.Module) -> tuple[str, ...]:
    """Return the names of a layer's residual steps, in the order in which they run."""
    return ("attention", "cross", "ffn") if hasattr(layer, "cross") else ("attention", "ffn")


def without_norm(product: Product, x: Tensor) -> Tensor:
    """Return a step's last product, before the residual sum and the norm after it."""
    return product.without_norm(x) if isinstance(product, FusedLinear) else product(x)


register(FusedAttention, "qkv output widths", base=Attention)
register(FusedCrossAttention, "query kv output widths", base=CrossAttention)
register(FusedFeedForward, "into output")
register(FusedResidual, "fused_step inner_norms", base=Residual)
register(FusedResidualGPU, base=FusedResidual)
register(FusedStackGPU, "next_norms snapshot", base=Stack)
