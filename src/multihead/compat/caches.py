"""Caches that a program makes, `past_key_values=DynamicCache()`, and the classes of those that a model returns."""

from __future__ import annotations

from typing import Any

from ..errors import MissingName, UnsupportedOption
from ..modeling.base_model import BaseModel
from ..modeling.own_model import Matches
from ..nn.cache.store import BatchCache


class _Caches(type):
    """A program's own cache is an instance of its class, and what a model returns is one of both sides' classes."""

    def __instancecheck__(cls, one: Any) -> bool:
        if not isinstance(one, BatchCache):
            return super().__instancecheck__(one)
        sided = one.encoder_output is not None
        return {"DynamicCache": not sided, "EncoderDecoderCache": sided}.get(cls.__name__, cls.__name__ == "Cache")


class Cache(metaclass=_Caches):
    """The keys, values and states of a batch. It is empty until a model's first pass with it as `past_key_values`."""

    cache: BatchCache | None = None

    def of_model(self, model: Any, rows: int) -> BatchCache:
        """Return the cache that passes of a model fill; a new one for the first pass, of `rows` texts."""
        if self.cache is None:
            self.cache = model.new_cache(rows)
        return self.cache

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the cached tokens of the longest text."""
        return 0 if self.cache is None else self.cache.get_seq_length()

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
        self.cache = None


class DynamicCache(Cache):
    """A cache that grows with its texts, as all do here.

    Args:
        config: of the model; nothing is read of it, since the model makes its cache.
    """

    def __init__(self, ddp_cache_data: Any = None, config: Any = None, **options: Any) -> None:
        wrong = [name for name, value in {"ddp_cache_data": ddp_cache_data, **options}.items() if value]
        if wrong:
            raise UnsupportedOption(f"DynamicCache: {', '.join(wrong)} is not done here; leave it out.")


class EncoderDecoderCache(Cache):
    """A cache of an encoder-decoder.

    Args:
        caches: empty caches of both sides; the model makes its own.
    """

    def __init__(self, *caches: Any) -> None:
        if any(cache.get_seq_length() for cache in caches):
            raise UnsupportedOption("EncoderDecoderCache: a cache of one side that holds tokens is not taken over.")


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
