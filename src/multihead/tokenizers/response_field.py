"""Fields of a response template and the markers around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UnsupportedOption


@dataclass(frozen=True)
class Anchor:
    """A marker: some texts, or a pattern of the `regex` library.

    Attributes:
        certain: a match at the end of the text so far cannot become longer.
    """

    pattern: Any
    certain: bool
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResponseField:
    """A field of the message; without `open`, it holds what stands outside of the others."""

    name: str
    open: Anchor | None
    close: Anchor | None
    content: str
    content_args: Mapping[str, Any]
    repeats: bool
    join: str | None
    optional: bool
    transform: Any
    transform_each: bool


def regex_library() -> Any:
    """Return the `regex` library, which matches markers that have arrived in part. Raises UnsupportedOption."""
    try:
        import regex
    except ImportError as error:
        raise UnsupportedOption('Response templates need the regex library: pip install "multihead[serve]".') from error
    return regex
