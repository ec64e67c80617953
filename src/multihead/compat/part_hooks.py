"""Hooks of parts that are no module of ours: they run at the modules that begin and end the part's computation.

Hooks get the part, as those of its own module do, and states (tokens, width). What a hook returns takes the place of
inputs, outputs and gradients, as in torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import BackwardHook, RemovableHandle

from ..checkpoints.tensor_sources import Source
from ..errors import UnsupportedOption
from ..heads.heads import LanguageModel
from .assigned_parts import join_outputs, own_outputs
from .part_spans import Span


class HookHandle(RemovableHandle):
    """Handle of a hook of a part.

    Args:
        inner: of the hook. released: is called when the hook is gone.
    """

    def __init__(self, inner: RemovableHandle, released: Callable[[], None]) -> None:
        self.inner, self.released, self.id = inner, released, inner.id

    def remove(self) -> None:
        """Remove the hook."""
        self.inner.remove()
        self.released()


class PartHooks:
    """Hooks of one part. Our modules are hooked only while there are any, so that fast paths serve them afterwards.

    Args:
        part: that hooks are called with.
    """

    def __init__(self, part: nn.Module) -> None:
        self.part, self.holder = part, nn.Module()  # which is never called: torch registers hooks there
        self.handles: list[RemovableHandle] = []
        self.local = threading.local()

    def __deepcopy__(self, memo: Any) -> None:
        return None

    def __reduce__(self) -> Any:
        return type(None), ()

    def register(self, name: str, *args: Any, **options: Any) -> RemovableHandle:
        """Call a method of `nn.Module` that registers a hook."""
        handle = getattr(self.holder, name)(*args, **options)
        if not self.handles:
            self.handles = self.attach()
        return HookHandle(handle, self.release)

    def release(self) -> None:
        """Unhook our modules where no hook is left."""
        own: Any = self.holder
        if not (own._forward_hooks or own._forward_pre_hooks or own._backward_hooks or own._backward_pre_hooks):
            for handle in self.handles:
                handle.remove()
            self.handles = []

    def attach(self) -> list[RemovableHandle]:
        """Hook our modules."""
        raise NotImplementedError

    def begin(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a part's inputs as hooks leave them."""
        own: Any = self.holder
        for number, hook in list(own._forward_pre_hooks.items()):
            if number in own._forward_pre_hooks_with_kwargs:
                found = hook(self.part, given, {})
                given = given if found is None else found[0]
            else:
                found = hook(self.part, given)
                given = given if found is None else found if isinstance(found, tuple) else (found,)
        hooks = list(own._backward_hooks.values()), list(own._backward_pre_hooks.values())
        backward = BackwardHook(self.part, *hooks) if any(hooks) else None
        given = given if backward is None else backward.setup_input_hook(given)
        self.local.open = given, backward
        return given

    def end(self, output: Any) -> Any:
        """Return a part's output as hooks leave it; layers that are computed again for gradients have no begin."""
        opened, self.local.open = getattr(self.local, "open", None), None
        if opened is None:
            return output
        (given, backward), own = opened, self.holder
        for number, hook in list(own._forward_hooks.items()):
            more: tuple[Any, ...] = ({},) if number in own._forward_hooks_with_kwargs else ()
            found = hook(self.part, given, *more, output)
            output = output if found is None else found
        return output if backward is None else backward.setup_output_hook(output)


class SpanHooks(PartHooks):
    """Hooks of a part that begins and ends at modules of ours."""

    def __init__(self, part: nn.Module, span: Span) -> None:
        super().__init__(part)
        self.span = span

    def attach(self) -> list[RemovableHandle]:
        """Hook the modules that begin and end the part."""
        span = self.span
        first = span.begin.register_forward_pre_hook(lambda _, given: self._begin(given))
        if span.ends_before:
            return [first, span.end.register_forward_pre_hook(lambda _, given: (self.end(given[0]), *given[1:]))]
        return [first, span.end.register_forward_hook(lambda _, given, output: self._end(output))]

    def _begin(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        self.local.left = self.span.calls
        return self.begin(given)

    def _end(self, output: Any) -> Any:
        if self.span.calls > 1:
            self.local.left = getattr(self.local, "left", 0) - 1
            if self.local.left:
                return output
        return self.end(output)


class ScoreHooks(PartHooks):
    """Hooks of a matrix of scores that is the embeddings' own: GPT-2's `lm_head`.

    The head computes the scores twice, so that hooks see them as the matrix gives them, before a scale or a soft bound.

    Args:
        head: that scores with the matrix.
    """

    def __init__(self, part: nn.Module, head: LanguageModel) -> None:
        super().__init__(part)
        self.head = head

    def attach(self) -> list[RemovableHandle]:
        """Hook the head and what is before its matrix."""
        before = self.head.transform.register_forward_hook(lambda _, given, output: self._before(output))
        return [before, self.head.register_forward_hook(lambda head, given, output: self._after(head))]

    def _before(self, states: Tensor) -> None:
        # T5 scales the states, others the scores.
        first = self.head.scale == states.shape[-1] ** -0.5
        self.local.scores = *self.begin((states * self.head.scale if first else states,)), first

    def _after(self, head: Any) -> Tensor:
        states, first = self.local.scores
        scores = self.end(head._scores(states))
        return scores if first and head.softcap is None else head._shaped(scores / head.scale if first else scores)


class JoinedHooks(PartHooks):
    """Hooks of one matrix of the reference that is several of ours, which read the same: GPT-2's `c_attn`.

    The first of ours that is called computes the others' outputs too, so that hooks see and change all.

    Args:
        owners, sources: our modules and their parts of the matrix.
    """

    def __init__(self, part: nn.Module, owners: Sequence[nn.Module], sources: Sequence[Source]) -> None:
        super().__init__(part)
        self.owners, self.sources = list(owners), list(sources)

    def attach(self) -> list[RemovableHandle]:
        """Hook our modules."""
        # no bound methods, which a deep copy of the model would copy
        before = [owner.register_forward_pre_hook(lambda *given: self._before(*given)) for owner in self.owners]
        return [*before, *(owner.register_forward_hook(lambda *given: self._after(*given)) for owner in self.owners)]

    def _before(self, owner: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if owner not in self.owners:
            raise UnsupportedOption(
                "A model was copied while a joined matrix of it was hooked: remove the hook, copy, and hook both."
            )
        known, left, inputs, _ = getattr(self.local, "joined", None) or (None, set(), (), {})
        if owner not in left:
            self.local.joined = None
            inputs = self.begin(given)
            self.local.joined = given[0], set(self.owners), inputs, {}
        elif given[0] is not known:
            self.local.joined = None
            raise UnsupportedOption("A hooked matrix is several here that read different states; hook each of them.")
        return inputs

    def _after(self, owner: nn.Module, _: Any, output: Tensor) -> Tensor:
        (known, left, inputs, parts), self.local.joined = self.local.joined, None
        if not parts:
            each = [output if one is owner else one.forward(*inputs) for one in self.owners]
            joined = self.end(join_outputs(self.sources, each))
            for one, source in zip(self.owners, self.sources, strict=True):
                chosen = own_outputs(source, joined.shape[-1]).to(joined.device)
                parts[one] = joined.index_select(-1, chosen)
        left.discard(owner)
        self.local.joined = (known, left, inputs, parts) if left else None
        return parts[owner]
