"""Cached sequences of earlier texts, for prompts that begin as they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...nn.cache.store import CachedSequence, KVCacheManager

KEPT_STATES = 4  # texts whose recurrent states are kept: a state cannot be cut back, so earlier ones serve earlier ends


@dataclass(frozen=True, eq=False)
class KeptSequence:
    """Cached tokens of a text that has ended."""

    tokens: list[int]
    cached: CachedSequence


class PrefixCache:
    """Keeps the caches of the last texts, and gives them to prompts with the same first tokens.

    Keys and values can be cut back to the common prefix, so that one text is kept. A recurrent state cannot: it serves
    only prompts that continue all of its tokens, so that the states of several texts are kept.
    """

    def __init__(self, store: KVCacheManager) -> None:
        self.store = store
        self.kept: list[KeptSequence] = []  # the oldest first
        self.size = KEPT_STATES if store.slots else 1

    def take(self, tokens: Sequence[int]) -> CachedSequence | None:
        """Return a cache of the longest known prefix of a prompt, the last token excluded; None if there is none."""
        usable = [(self._usable(kept, tokens), number) for number, kept in enumerate(self.kept)]
        length, number = max(usable, default=(0, 0))
        if not length:
            return None
        kept = self.kept.pop(number)
        if self.store.slots:
            self.kept.append(kept)  # the state stays for the same prompt again
            return kept.cached.fork()
        kept.cached.crop(length)
        return kept.cached

    def keep(self, tokens: Sequence[int], cached: CachedSequence) -> None:
        """Keep a sequence's cache instead of freeing it; the oldest one is freed for it."""
        if self.store.whole or self.store.joint:
            cached.free()
            return
        if cached.length > len(tokens):  # a runner may compute tokens after the last one
            cached.crop(len(tokens))
        new = KeptSequence(list(tokens[: cached.length]), cached)
        others = [kept for kept in self.kept if kept.tokens != new.tokens]  # the same tokens are kept once
        before, self.kept = self.kept, [*others, new][-self.size :]
        for kept in before:
            if kept not in self.kept:
                kept.cached.free()

    def clear(self) -> None:
        """Free all caches."""
        while self.kept:
            self.kept.pop().cached.free()

    def _usable(self, kept: KeptSequence, tokens: Sequence[int]) -> int:
        """Return how many tokens of a kept text a prompt can use."""
        pairs = enumerate(zip(kept.tokens, tokens, strict=False))
        same = next((i for i, (a, b) in pairs if a != b), min(len(kept.tokens), len(tokens)))
        same = min(same, len(tokens) - 1)  # the pass over the last token gives the logits of the next one
        fits = kept.cached.is_valid_for(len(tokens)) and kept.cached.can_crop(same)
        return same if fits else 0
