"""Caches that a program makes, `past_key_values=DynamicCache()`, and the classes of those that a model returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput, MissingName, UnsupportedOption
from ..modeling.base_model import BaseModel
from ..modeling.own_model import Matches
from ..nn.cache.padded_cache import KeysAndValues, read_padded, write_padded
from ..nn.cache.store import BatchCache


class _Caches(type):
    """A program's own cache is an instance of its class, and what a model returns is one of both sides' classes."""

    def __instancecheck__(cls, one: Any) -> bool:
        if not isinstance(one, BatchCache):
            return super().__instancecheck__(one)
        sided = one.encoder_output is not None
        return {"DynamicCache": not sided, "EncoderDecoderCache": sided}.get(cls.__name__, cls.__name__ == "Cache")


@dataclass(frozen=True)
class CachedLayer:
    """Keys and values of a layer, (batch, heads, length, width) each, zero at padding on the right."""

    keys: Tensor
    values: Tensor

    def get_seq_length(self) -> int:
        """Return the cached tokens."""
        return self.keys.shape[2]


class Cache(metaclass=_Caches):
    """The keys, values and states of a batch. It is empty until a model's first pass with it as `past_key_values`."""

    cache: BatchCache | None = None
    given: list[KeysAndValues]  # of each layer, from a program; the first pass takes them over

    def __init__(self) -> None:
        self.given = []

    def of_model(self, model: Any, rows: int) -> BatchCache:
        """Return the cache that passes of a model fill; a new one for the first pass, of `rows` texts."""
        if self.cache is None:
            cache = model.new_cache(rows)
            if self.given:
                write_padded(cache, self.given)
            self.cache, self.given = cache, []
        return self.cache

    @classmethod
    def from_legacy_cache(cls, past_key_values: Any = None) -> Any:
        """Return a cache of the keys and values of each layer, (batch, heads, length, width), as version 4 had them."""
        cache = cls()
        for layer, (keys, values) in enumerate(past_key_values or ()):
            cache.update(keys, values, layer)
        return cache

    def to_legacy_cache(self) -> tuple[KeysAndValues, ...]:
        """Return copies of the keys and values of each layer, (batch, heads, length, width)."""
        if self.cache is None:
            return tuple(self.given)
        return tuple(read_padded(self.cache, layer) for layer in range(len(self)))

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> KeysAndValues:
        """Append keys and values to a layer, before any model's pass, and return all of the layer's.

        Raises:
            UnsupportedOption: a model fills the cache. InvalidInput: a layer before it has none.
        """
        if self.cache is not None:
            raise UnsupportedOption("update: passes of a model fill this cache; another DynamicCache() holds yours.")
        if layer_idx > len(self.given):
            raise InvalidInput(f"update: layer {len(self.given)} has no keys yet, and {layer_idx} comes after it.")
        if layer_idx == len(self.given):
            self.given.append((key_states, value_states))
        else:
            keys, values = self.given[layer_idx]
            self.given[layer_idx] = torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)
        return self.given[layer_idx]

    def __len__(self) -> int:
        """Return the number of layers; 0 before the first pass."""
        return len(self.given) if self.cache is None else len(self.cache.layers)

    def __getitem__(self, layer: int) -> KeysAndValues:
        return self.to_legacy_cache()[layer]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, None]]:
        return iter([(keys, values, None) for keys, values in self.to_legacy_cache()])

    def __bool__(self) -> bool:
        return True  # an empty one is a cache all the same

    @property
    def layers(self) -> list[CachedLayer]:
        """Copies of the keys and values of each layer."""
        return [CachedLayer(*pair) for pair in self.to_legacy_cache()]

    @property
    def key_cache(self) -> list[Tensor]:
        """Copies of the keys of each layer, as version 4 named them."""
        return [keys for keys, _ in self.to_legacy_cache()]

    @property
    def value_cache(self) -> list[Tensor]:
        """Copies of the values of each layer, as version 4 named them."""
        return [values for _, values in self.to_legacy_cache()]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the cached tokens of the longest text."""
        if self.cache is None:
            return self.given[layer_idx][0].shape[2] if layer_idx < len(self.given) else 0
        return self.cache.get_seq_length()

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each text so many times, one beside the other."""
        if self.cache is not None:
            self.cache.select(torch.arange(len(self.cache.texts)).repeat_interleave(repeats))
        self.given = [tuple(x.repeat_interleave(repeats, 0) for x in pair) for pair in self.given]  # type: ignore[misc]

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        """Return -1: there is no limit."""
        return -1

    def crop(self, max_length: int) -> None:
        """Keep the first tokens of each text; of a negative number, all but so many last ones."""
        if self.cache is not None:
            self.cache.crop(max_length if max_length >= 0 else max(self.get_seq_length() + max_length, 0))

    def reorder_cache(self, beam_idx: Any) -> None:
        """Choose texts by their numbers, (n,); one may be chosen several times."""
        if self.cache is not None:
            self.cache.select(beam_idx)

    batch_select_indices = reorder_cache

    def reset(self) -> None:
        """Forget everything: the next pass is the first one."""
        self.cache, self.given = None, []


class DynamicCache(Cache):
    """A cache that grows with its texts, as all do here.

    Args:
        ddp_cache_data: keys and values of each layer, (batch, heads, length, width).
        config: of the model; nothing is read of it, since the model makes its cache.
    """

    def __init__(self, ddp_cache_data: Any = None, config: Any = None, **options: Any) -> None:
        wrong = [name for name, value in options.items() if value]
        if wrong:
            raise UnsupportedOption(f"DynamicCache: {', '.join(wrong)} is not done here; leave it out.")
        super().__init__()
        for layer, (keys, values, *_) in enumerate(ddp_cache_data or ()):
            self.update(keys, values, layer)


class EncoderDecoderCache(Cache):
    """A cache of an encoder-decoder.

    Args:
        caches: empty caches of both sides; the model makes its own.
    """

    def __init__(self, *caches: Any) -> None:
        if any(cache.get_seq_length() for cache in caches):
            raise UnsupportedOption("EncoderDecoderCache: a cache of one side that holds tokens is not taken over.")
        super().__init__()


class _None(type):
    def __instancecheck__(cls, one: Any) -> bool:
        return False


class StaticCache(metaclass=_None):
    """A cache of a fixed length, of which there are none here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        name = type(self).__name__
        raise MissingName(f"{name}: caches grow here in blocks; `model.generate` needs none given.")


class HybridCache(StaticCache):
    """A cache of fixed lengths by layer, of version 4."""


class SlidingWindowCache(StaticCache):
    """A cache of a window of fixed length, of version 4."""


class QuantizedCache(metaclass=_None):
    """A cache of fewer bits, of which there are none here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise MissingName("QuantizedCache: caches hold keys and values in the dtype of the model here.")


class _Generating(Matches):
    def __instancecheck__(cls, one: Any) -> bool:
        if cls.__bases__ != (object,):  # a program's own class
            return super().__instancecheck__(one)
        return isinstance(one, BaseModel) and one.can_generate()


class GenerationMixin(metaclass=_Generating):
    """Every model that generates is an instance."""
