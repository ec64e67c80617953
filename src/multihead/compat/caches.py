"""Names of caches: what a model returns as `past_key_values` is an instance of them."""

from __future__ import annotations

from typing import Any

from ..errors import MissingName
from ..modeling.pretrained import PreTrainedModel
from ..nn.cache.store import BatchCache


class _Caches(type):
    """Any cache that a model returns is an instance."""

    def __instancecheck__(cls, one: Any) -> bool:
        return isinstance(one, BatchCache)


class Cache(metaclass=_Caches):
    """The keys, values and states of a batch. A model makes it, with `use_cache=True`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise MissingName(
            f"{type(self).__name__} is not made by a program here: a model makes its cache. Leave past_key_values out "
            "of the first pass, with use_cache=True, and pass what that returns to the next one."
        )


class DynamicCache(Cache):
    """A cache that grows with its texts, as all do here."""


class EncoderDecoderCache(Cache):
    """A cache of both sides of an encoder-decoder."""


class _None(type):
    def __instancecheck__(cls, one: Any) -> bool:
        return False


class StaticCache(metaclass=_None):
    """A cache of a fixed length, of which there are none here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise MissingName("StaticCache: caches grow here in blocks; `model.generate` needs none given.")


class QuantizedCache(metaclass=_None):
    """A cache of fewer bits, of which there are none here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise MissingName("QuantizedCache: caches hold keys and values in the dtype of the model here.")


class _Generating(type):
    def __instancecheck__(cls, one: Any) -> bool:
        return isinstance(one, PreTrainedModel) and one.can_generate()


class GenerationMixin(metaclass=_Generating):
    """Every model that generates is an instance."""
