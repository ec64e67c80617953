"""Entities from label probabilities of tokens: tokens are joined to words, words to entities.

Tags are IOB (Ramshaw and Marcus, 1995, arXiv:cmp-lg/9505040): `B-` begins an entity, `I-` continues one. A tag without
a prefix continues one too.
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
class WindowTokens:
    """Tokens of one window without special tokens.

    Args:
        words: text of each token. probabilities: (tokens, labels). spans: characters of each token in the text.
        positions: of each token in the window. continues: whether each token belongs to the word of the one before.
    """

    words: list[str]
    probabilities: NDArray[Any]
    spans: list[tuple[int, int]]
    positions: list[int]
    continues: list[bool]

    @classmethod
    def of(
        cls,
        encoding: Any,
        probabilities: NDArray[Any],
        text: str,
        begins: Sequence[int] | None,
        tokenizer: Tokenizer,
    ) -> WindowTokens:
        """Read the tokens of an encoding of the tokenizers library.

        Args:
            begins: start of each word in the text, for inputs that are lists of words.
        """
        positions = [position for position, special in enumerate(encoding.special_tokens_mask) if not special]
        spans, words, continues = [], [], []
        prefix = getattr(tokenizer.backend.model, "continuing_subword_prefix", None)
        for position in positions:
            start, end = encoding.offsets[position]
            if begins is not None and encoding.word_ids[position] is not None:
                shift = begins[encoding.word_ids[position]]
                start, end = start + shift, end + shift
            word, surface = encoding.tokens[position], text[start:end]
            if encoding.ids[position] == tokenizer.unk_token_id:
                words.append(surface)
                continues.append(False)
            else:
                words.append(word)
                within = start > 0 and " " not in text[start - 1 : start + 1]
                continues.append(len(word) != len(surface) if prefix else within)
            spans.append((start, end))
        return cls(words, probabilities[positions], spans, positions, continues)


def find_entities(
    tokens: WindowTokens,
    names: Mapping[int, str],
    tokenizer: Tokenizer,
    strategy: str,
    *,
    skip: AbstractSet[str] = frozenset(),
) -> list[Entity]:
    """Return the entities of a window by an aggregation strategy. Tokens with labels in `skip` may be left out."""
    if strategy == "none":
        return token_entities(tokens, names, skip)
    is_simple = strategy == "simple"
    units = token_entities(tokens, names) if is_simple else word_entities(tokens, names, tokenizer, strategy)
    return merge_neighbours(units, tokenizer)


def token_entities(
    tokens: WindowTokens, names: Mapping[int, str], skip: AbstractSet[str] = frozenset()
) -> list[Entity]:
    """Return every token with its likeliest label."""
    if not tokens.words:
        return []
    best = tokens.probabilities.argmax(-1)
    return [
        {
            "entity": names[label],
            "score": float(tokens.probabilities[i, label]),
            "index": tokens.positions[i],
            "word": tokens.words[i],
            "start": tokens.spans[i][0],
            "end": tokens.spans[i][1],
        }
        for i, label in enumerate(best.tolist())
        if names[label] not in skip
    ]


def word_entities(tokens: WindowTokens, names: Mapping[int, str], tokenizer: Tokenizer, strategy: str) -> list[Entity]:
    """Return every word with one label: that of its first token, of the mean, or of the surest token."""
    words: list[list[int]] = []
    for index, continues in enumerate(tokens.continues):
        if continues and words:
            words[-1].append(index)
        else:
            words.append([index])
    units = []
    for word in words:
        rows = tokens.probabilities[word]  # (tokens of the word, labels)
        if strategy == "average":
            row = rows.mean(0)
        else:
            row = rows[0] if strategy == "first" else rows[int(rows.max(-1).argmax())]
        label = int(row.argmax())
        units.append(
            {
                "entity": names[label],
                "score": float(row[label]),
                "word": tokenizer.convert_tokens_to_string([tokens.words[i] for i in word]),
                "start": tokens.spans[word[0]][0],
                "end": tokens.spans[word[-1]][1],
            }
        )
    return units


def merge_neighbours(units: Sequence[Entity], tokenizer: Tokenizer) -> list[Entity]:
    """Merge neighbours with the same tag, unless the later one begins an entity."""
    groups: list[list[Entity]] = []
    for unit in units:
        begins = unit["entity"].startswith("B-")
        if groups and tag_of(unit["entity"]) == tag_of(groups[-1][-1]["entity"]) and not begins:
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


def tag_of(label: str) -> str:
    """Return a label without its IOB prefix."""
    return label[2:] if label.startswith(("B-", "I-")) else label


def resolve_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Return the entities of overlapping windows; of two that overlap, the longer one, or the one with more score."""
    result: list[Entity] = []
    for entity in sorted(entities, key=lambda each: each["start"]):
        if not result or not result[-1]["start"] <= entity["start"] < result[-1]["end"]:
            result.append(entity)
            continue
        length, old = entity["end"] - entity["start"], result[-1]["end"] - result[-1]["start"]
        if length > old or (length == old and entity["score"] > result[-1]["score"]):
            result[-1] = entity
    return result
