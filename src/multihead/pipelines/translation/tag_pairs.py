"""Pairs of tags: the beginning and the end of elements of HTML, of links and of emphasis."""

from __future__ import annotations

import re
from collections.abc import Sequence


def pairs_of_tags(tags: Sequence[str]) -> list[tuple[int, int]]:
    """Return the numbers of the tags that begin and end an element, such as `<b>` and `</b>` or `[` and `](page)`."""
    pairs: list[tuple[int, int]] = []
    opened: list[int] = []
    for number, tag in enumerate(tags):
        own = next((place for place in reversed(range(len(opened))) if _closes(tag, tags[opened[place]])), None)
        if own is None:
            opened.append(number)
        else:
            pairs.append((opened[own], number))
            del opened[own:]
    return pairs


def _closes(tag: str, beginning: str) -> bool:
    """Return whether a tag ends an element that another tag began."""
    if tag.startswith("</"):
        name = re.escape(tag[2:].rstrip("> \t\r\n"))
        return re.match(rf"<{name}(?![\w:-])", beginning, re.IGNORECASE) is not None
    if tag.startswith(("](", "][")):
        return beginning in ("[", "![")
    return tag == beginning and tag[:1] in ("*", "_", "~")
