"""Passages of HTML: the text of each block with its inline tags. Code, scripts, comments and attributes stay."""

from __future__ import annotations

import html
import re

from .units import Passage

TAG = re.compile(
    r"<!--.*?-->|<[!?][^>]*>|<(?P<close>/?)(?P<name>[A-Za-z][\w:-]*)(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>", re.DOTALL
)
INLINE = frozenset(
    """a abbr acronym b bdi bdo big cite del dfn em font i img ins kbd label mark q s samp small span strike strong sub
    sup tt u var wbr code""".split()
)
SKIPPED = frozenset("script style pre textarea svg math template head noscript".split())
COPIED = frozenset("code kbd samp var tt".split())  # inline elements whose text stays
KEPT_BY_ATTRIBUTE = re.compile(r"\btranslate\s*=\s*[\"']?no\b|\bclass\s*=\s*[\"'][^\"']*\bnotranslate\b")


def html_passages(text: str) -> list[Passage]:
    """Return the passages of HTML in their order; titles in the head are passages too."""
    passages: list[Passage] = []
    begin = position = 0
    tags: list[tuple[int, int]] = []
    while (match := TAG.search(text, position)) is not None:
        name = (match["name"] or "").lower()
        end = match.end()
        opens = bool(name) and not match["close"] and not match[0].endswith("/>")
        if opens and (name in SKIPPED - {"head"} or name in COPIED or KEPT_BY_ATTRIBUTE.search(match[0])):
            end = element_end(text, name, end)
        if name in INLINE or (not name and match[0].startswith("<!--")):
            tags.append((match.start(), end))
        else:
            passages += block_passage(text, begin, match.start(), tags)
            begin, tags = end, []
        position = end
    return passages + block_passage(text, begin, len(text), tags)


def element_end(text: str, name: str, start: int) -> int:
    """Return the place after an element's closing tag; elements of the same name may be inside it."""
    depth = 1
    for match in re.finditer(rf"<(/?){re.escape(name)}\b[^>]*>", text[start:], re.IGNORECASE):
        depth += -1 if match[1] else 0 if match[0].endswith("/>") else 1
        if depth == 0:
            return start + match.end()
    return len(text)


def block_passage(text: str, start: int, end: int, tags: list[tuple[int, int]]) -> list[Passage]:
    """Return the text of a block as one passage, entities as characters; none if it has no letters or digits."""
    tags = [span for span in tags if start <= span[0] and span[1] <= end]
    while tags and not text[start : tags[0][0]].strip():  # tags before and after the text stay outside
        start = tags.pop(0)[1]
    while tags and not text[tags[-1][1] : end].strip():
        end = tags.pop()[0]
    pieces: list[str] = []
    markup: list[tuple[int, int]] = []
    length = 0
    position = start
    for tag_start, tag_end in [*tags, (end, end)]:
        piece = re.sub(r"[ \t\r\n\f]+", " ", html.unescape(text[position:tag_start]))
        tag = text[tag_start:tag_end]
        pieces += [piece, tag]
        length += len(piece)
        if tag:
            markup.append((length, length + len(tag)))
        length += len(tag)
        position = tag_end
    own = "".join(pieces)
    plain = "".join(pieces[::2])
    if not any(sign.isalnum() for sign in plain):
        return []
    left = len(own) - len(own.lstrip())
    core = own.strip()
    outer = text[start:end]
    begin = start + len(outer) - len(outer.lstrip())
    markup = [(a - left, b - left) for a, b in markup]
    return [Passage(begin, start + len(outer.rstrip()), core, markup=markup, escape=True)]
