"""Calls of a tokenizer that version 4 of the reference has and version 5 has not, with a warning that names today's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import warn

if TYPE_CHECKING:
    from .encodings import Encodings


def older(name: str, current: str) -> None:
    """Warn that a name is an older one. Python shows a warning of one place once."""
    warn(f"{name} is the name of an older version; {current} is today's.", FutureWarning)


def current_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call under today's names."""
    found = dict(options)
    if "pad_to_max_length" in found:
        older("pad_to_max_length=True", "padding='max_length'")
        if found.pop("pad_to_max_length"):
            found.setdefault("padding", "max_length")
    return found


class OlderCalls:
    """Older names of a tokenizer's call."""

    _writes_targets = False  # inside `as_target_tokenizer`

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> Encodings:
        """Encode a text or a pair, as the tokenizer's call does."""
        older("encode_plus", "the call tokenizer(text)")
        return self(text, text_pair, **current_options(options))  # type: ignore[operator]

    def batch_encode_plus(self, batch_text_or_text_pairs: Any, **options: Any) -> Encodings:
        """Encode texts or pairs, as the tokenizer's call does."""
        older("batch_encode_plus", "the call tokenizer(texts)")
        return self(batch_text_or_text_pairs, **current_options(options))  # type: ignore[operator]

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[Any]:
        """Encode texts as targets within a block: with the target side's vocabulary or language."""
        older("as_target_tokenizer", "tokenizer(text_target=...)")
        self._writes_targets = True
        try:
            yield self
        finally:
            self._writes_targets = False
