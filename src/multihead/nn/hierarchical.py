"""Stacks that run in turn, over and over (Hierarchical Reasoning Model, Wang et al., 2025, arXiv:2506.21734)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .attention.output_gate import OutputGateAttention
from .cache.layer_cache import KVLayerCache, LayerCache, cache_or_none, memory_of
from .embeddings import Embeddings
from .forward_context import ForwardContext
from .stack import Stack


class PrefixAttention(OutputGateAttention):
    """Causal gated attention in which the tokens of a prefix, those of type 1, all see each other.

    Types say so in the pass that begins a text, which must read the whole prefix; later passes are causal.
    """

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, memory: KVLayerCache | None) -> Tensor:
        types, heads = context.segments, q.shape[1]
        if types is None or (context.cache is not None and all(context.cache.lengths)):
            return super()._attend(q, k, v, context, memory)
        q, k = self.positions.rotate(q, k, context)
        runs = context.runs
        if memory is not None:
            k, v, runs = memory.extend(k, v, context)  # (rows, key heads, head width), with the cached tokens

        def bias(text: int) -> Tensor:
            begin, queries, keys = context.runs.begins[text], context.runs.lengths[text], runs.lengths[text]
            seen = types.new_ones(queries, keys, dtype=torch.bool).tril(keys - queries)
            if queries == keys:  # the text begins here
                prefix = types[begin : begin + queries] == 1  # (queries,)
                seen = seen | (prefix[:, None] & prefix)
            hidden = q.new_zeros(queries, keys).masked_fill(~seen, -torch.inf)
            return hidden.expand(heads, queries, keys)

        attention_mask = context.attention_mask(runs, causal=False, window=None)
        return self._mix(q, k, v, attention_mask, bias, context, context.capture.attentions)


class HierarchicalStack(Stack):
    """A fast and a slow stack: the fast one runs a few times for each time that the slow one does.

    Each reads the sum of both states and replaces its own. The fast state is the same learned vector for each token
    first, the slow one the embeddings. Every run of a layer has its own keys and values.

    Args:
        layers, slow: of the fast and of the slow stack. norms: after each run of them.
        turns: runs of the slow stack. steps: runs of the fast one for each of these.
        learning: how many of the last of these steps give gradients, for each turn.
    """

    def __init__(
        self,
        embed: Embeddings,
        layers: Sequence[nn.Module],
        slow: Sequence[nn.Module],
        norms: tuple[nn.Module, nn.Module],
        *,
        width: int,
        turns: int,
        steps: int,
        learning: Sequence[int],
    ) -> None:
        super().__init__(embed, layers)
        self.slow, self.norms = nn.ModuleList(slow), nn.ModuleList(norms)
        self.start = nn.Parameter(torch.empty(width), requires_grad=False)  # (width,)
        self.turns, self.steps, self.learning = turns, steps, tuple(learning)

    @property
    def supports_selected_tokens(self) -> bool:
        return False

    @property
    def reads_prefixes(self) -> bool:
        """True if token types say which tokens of a prompt all see each other."""
        return self.embed.typed

    def memories(self) -> list[LayerCache]:
        """Return an empty layer cache for each run of each layer."""
        once = [*self.layers] * self.steps + [*self.slow]
        return [memory_of(layer) for _ in range(self.turns) for layer in once]

    def forward(self, words: Tensor, context: ForwardContext) -> Tensor:
        """Map token embeddings (tokens, width) to hidden states (tokens, width)."""
        context = context if self.adjust is None else self.adjust(context)
        seen, count = context.capture.hidden, len(self.memories())
        memories = iter(context.cache.layers if context.cache else [None] * count)

        def run(layers: nn.ModuleList, norm: nn.Module, x: Tensor) -> Tensor:
            if seen is not None and not seen:
                seen.append(x)
            for layer in layers:
                x = self._through(layer, x, context, cache_or_none(next(memories)))
                if seen is not None:
                    seen.append(x)
            return norm(x)

        slow = self.embed(words, context)  # (tokens, width)
        fast = self.start.to(slow.dtype).expand_as(slow)
        for learning in self.learning:
            for step in range(self.steps):
                with torch.set_grad_enabled(torch.is_grad_enabled() and step >= self.steps - learning):
                    fast = run(self.layers, self.norms[0], fast + slow)
            slow = run(self.slow, self.norms[1], slow + fast)
        # Only now, since every layer reads the cached lengths of before the pass.
        if context.cache is not None:
            context.cache.advance(context.runs)
        if seen:
            seen[-1] = slow
        return slow
