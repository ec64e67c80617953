"""From a label's share for each token to entities: which tokens make a word, which words an entity.

Tags are IOB (Ramshaw and Marcus, 1995, arXiv:cmp-lg/9505040): `B-` begins an entity, `I-` goes on with one; a tag
without either goes on too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from ..tokenizers.tokenizer import Tokenizer

Entity = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """The tokens of one window, special ones left out.

    Args:
        shares: (tokens, labels). spans: characters of each in its text. places: of each in the window.
        joined: whether each goes on with the word of the one before.
    """

    words: list[str]
    shares: NDArray[Any]
    spans: list[tuple[int, int]]
    places: list[int]
    joined: list[bool]

    @classmethod
    def of(
        cls, encoding: Any, shares: NDArray[Any], text: str, begins: Sequence[int] | None, tokenizer: Tokenizer
    ) -> Tokens:
        """Of an encoding of the tokenizers library.

        Args:
            begins: where each word begins in the text, for texts that were given as words.
        """
        places = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
        spans, words, joined = [], [], []
        prefix = getattr(tokenizer.backend.model, "continuing_subword_prefix", None)
        for place in places:
            start, end = encoding.offsets[place]
            if begins is not None and encoding.word_ids[place] is not None:
                shift = begins[encoding.word_ids[place]]
                start, end = start + shift, end + shift
            word, seen = encoding.tokens[place], text[start:end]
            if encoding.ids[place] == tokenizer.unk_token_id:
                words.append(seen)
                joined.append(False)
            else:
                words.append(word)
                within = start > 0 and " " not in text[start - 1 : start + 1]
                joined.append(len(word) != len(seen) if prefix else within)
            spans.append((start, end))
        return cls(words, shares[places], spans, places, joined)


def found(
    tokens: Tokens,
    names: Mapping[int, str],
    tokenizer: Tokenizer,
    strategy: str,
    *,
    skip: AbstractSet[str] = frozenset(),
) -> list[Entity]:
    """What a window holds, by an aggregation strategy; tokens with labels in `skip` may be left out already."""
    if strategy == "none":
        return each(tokens, names, skip)
    units = each(tokens, names) if strategy == "simple" else whole_words(tokens, names, tokenizer, strategy)
    return grouped(units, tokenizer)


def each(tokens: Tokens, names: Mapping[int, str], skip: AbstractSet[str] = frozenset()) -> list[Entity]:
    """Every token with its likeliest label."""
    if not tokens.words:
        return []
    best = tokens.shares.argmax(-1)
    return [
        {
            "entity": names[label],
            "score": float(tokens.shares[i, label]),
            "index": tokens.places[i],
            "word": tokens.words[i],
            "start": tokens.spans[i][0],
            "end": tokens.spans[i][1],
        }
        for i, label in enumerate(best.tolist())
        if names[label] not in skip
    ]


def whole_words(tokens: Tokens, names: Mapping[int, str], tokenizer: Tokenizer, strategy: str) -> list[Entity]:
    """Every word with one label."""
    words: list[list[int]] = []
    for place, goes_on in enumerate(tokens.joined):
        if goes_on and words:
            words[-1].append(place)
        else:
            words.append([place])
    units = []
    for word in words:
        shares = tokens.shares[word]
        if strategy == "average":
            one = shares.mean(0)
        else:
            one = shares[0] if strategy == "first" else shares[int(shares.max(-1).argmax())]
        label = int(one.argmax())
        units.append(
            {
                "entity": names[label],
                "score": float(one[label]),
                "word": tokenizer.convert_tokens_to_string([tokens.words[i] for i in word]),
                "start": tokens.spans[word[0]][0],
                "end": tokens.spans[word[-1]][1],
            }
        )
    return units


def grouped(units: Sequence[Entity], tokenizer: Tokenizer) -> list[Entity]:
    """Neighbours with one tag as one entity, unless the later one begins another."""
    groups: list[list[Entity]] = []
    for unit in units:
        begins = unit["entity"].startswith("B-")
        if groups and tag(unit["entity"]) == tag(groups[-1][-1]["entity"]) and not begins:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return [
        {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(numpy.mean([unit["score"] for unit in group])),
            "word": tokenizer.convert_tokens_to_string([unit["word"] for unit in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }
        for group in groups
    ]


def tag(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def merged(known: Sequence[Entity]) -> list[Entity]:
    """Entities of windows that overlap: of two in one place the longer stays, or the surer."""
    kept: list[Entity] = []
    for entity in sorted(known, key=lambda one: one["start"]):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
            continue
        length, old = entity["end"] - entity["start"], kept[-1]["end"] - kept[-1]["start"]
        if length > old or (length == old and entity["score"] > kept[-1]["score"]):
            kept[-1] = entity
    return kept
