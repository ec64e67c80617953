"""Spans: which of our modules begin and end what a part of the reference's computes, where none of ours is the part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..heads.heads import LanguageModel
from ..nn.attention.attention import Attention
from ..nn.embeddings import Embeddings
from ..nn.feedforward import FeedForward
from ..nn.layer import Residual
from ..nn.own_names import own_modules
from ..nn.stack import Stack


@dataclass(frozen=True, eq=False)
class Span:
    """Modules of ours around a part's computation.

    Args:
        begin: its inputs are the part's.
        end: its output is the part's. ends_before: its first input is the part's output.
        calls: of `end` in one pass of the part.
    """

    begin: nn.Module
    end: nn.Module
    ends_before: bool = False
    calls: int = 1


def whole(module: nn.Module) -> Span:
    """Return the span of one of our modules."""
    return Span(module, module)


def span_of(model: Any, cover: tuple[nn.Module, ...], is_base: bool) -> Span | None:
    """Return the span of a part; None where nothing of ours begins or ends with it.

    Args:
        cover: our outermost modules inside of the part. is_base: it is the model without its head.
    """
    if model.backbone in cover and (is_base or len(cover) == 1):
        return whole(model.backbone)
    inside, shared = set(cover), _shared(model)
    for _, module in own_modules(model):
        found: Span | None = None
        if isinstance(module, Stack):
            found = _of_stack(module, inside)
        elif isinstance(module, Attention) and inside == _learned(module) - shared - {module.out}:
            found = Span(module, module.out, ends_before=True)
        elif type(module) is FeedForward and inside == {module.up}:
            found = Span(module, module.down, ends_before=True)
        elif type(module) is Embeddings and inside == _learned(module) - {module.project}:
            found = Span(module, module.project, ends_before=True)
        elif type(module) is Residual and not isinstance(module.after, nn.Identity):
            found = _of_output(module, inside)
        if found is not None:
            return found
    return _beside_shared(model, inside, shared)


def _shared(model: nn.Module) -> set[nn.Module]:
    """Return the modules that several others hold, such as positions of all layers."""
    holders = Counter(inner for _, module in own_modules(model) for inner in set(module.children()))
    return {module for module, count in holders.items() if count > 1}


def _beside_shared(model: nn.Module, inside: set[nn.Module], shared: set[nn.Module]) -> Span | None:
    """Return the span of the innermost module that has a part's parameters and some of shared modules (MPNet)."""
    others = {id(p) for module in shared for p in module.parameters()}
    wanted = {id(p) for module in inside for p in module.parameters()} - others
    found = [module for _, module in own_modules(model) if not isinstance(module, nn.ModuleList)]
    owned = [(module, {id(p) for p in module.parameters()}) for module in found]
    fitting = [module for module, own in owned if own & others and own - others == wanted]
    return whole(fitting[-1]) if wanted and fitting else None


def tied_head(model: Any, weight: nn.Parameter) -> LanguageModel | None:
    """Return the head that scores words with the embeddings' own matrix; None without one."""
    for head in model.head.modules() if model.head is not None else ():
        if isinstance(head, LanguageModel) and getattr(head.table, "weight", None) is weight and head.rest is None:
            return head
    return None


def _learned(module: nn.Module) -> set[nn.Module]:
    """Return the modules directly inside of another that have parameters."""
    return {inner for inner in module.children() if next(inner.parameters(), None) is not None}


def _of_stack(stack: Stack, inside: set[nn.Module]) -> Span | None:
    """Return the span of all layers, or of the stack."""
    if stack.layers not in inside or not len(stack.layers):
        return None
    more, around = inside - {stack.layers}, {stack.norm, stack.out, *stack.embed.children()}
    if not more & around - {stack.embed.project}:
        return _of_layers(stack, stack.embed.project if stack.embed.project in more else None)
    # Embeddings of words may be another part's: T5's `shared`.
    needed = (_learned(stack) | _learned(stack.embed)) - {stack.embed, stack.embed.token}
    return whole(stack) if needed <= inside else None


def _of_layers(stack: Stack, project: nn.Module | None) -> Span | None:
    """Return the span of all layers, which begins with a projection where one is given."""
    first, last = stack.layers[0], stack.layers[-1]
    if stack.drop:
        return None  # training leaves layers out, the last too
    if len(stack.layers) > 1 and all(layer is first for layer in stack.layers) and project is None:
        return whole(first)  # ALBERT's group of one layer, which is called again and again
    return Span(project or first, last, calls=sum(layer is last for layer in stack.layers))


def _of_output(block: Residual, inside: set[nn.Module]) -> Span | None:
    """Return the span of a step's last matrix, the sum and the norm after it: BERT's `attention.output`, `output`."""
    step = block.step
    last = step.out if isinstance(step, Attention) else step.down if type(step) is FeedForward else None
    if not isinstance(last, nn.Module) or inside != {last, block.after} or _learned(block) != {step, block.after}:
        return None
    return Span(last, block)
