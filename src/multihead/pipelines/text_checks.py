"""Texts that say nothing to a model: empty ones, and those whose characters its vocabulary lacks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidInput
from ..tokenizers.tokenizer import Tokenizer

# Letters and symbols without ink: Hangul fillers, the empty braille cell, variation selectors, the combining joiner.
BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u180b\u180c\u180d\u180f") | {
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}
BLANK_CATEGORIES = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))  # control, format, and all kinds of white space
# Format characters with ink: signs around numbers and verses (Prepended_Concatenation_Mark of Unicode).
INKED = frozenset("\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd") | {chr(code) for code in range(0x600, 0x606)}
SPACE_MARK = "\u2581"  # SentencePiece's white space
SHOWN = 5  # unknown words of one notice


class NamedText(NamedTuple):
    """Text of an item that must say something.

    Args:
        name: in messages, such as "query"; empty for the only text.
    """

    name: str
    text: str


@dataclass(frozen=True)
class UnknownWords:
    """Words of a text that a vocabulary lacks.

    Args:
        words: parts of the text that became the unknown token. token: this token. all_unknown: no token is known.
    """

    words: Sequence[str]
    token: str
    all_unknown: bool

    def __str__(self) -> str:
        shown = ", ".join(map(repr, self.words[:SHOWN]))
        more = f" and {len(self.words) - SHOWN} more" if len(self.words) > SHOWN else ""
        return f"{shown}{more}"


def is_empty(text: str) -> bool:
    """Return whether a text has no visible character: none at all, white space, control or zero-width characters."""
    return all(c in BLANK or (unicodedata.category(c) in BLANK_CATEGORIES and c not in INKED) for c in text)


def check_not_empty(texts: Iterable[NamedText]) -> None:
    """Raise InvalidInput, which continues "Input 7", for an empty text."""
    for name, text in texts:
        if is_empty(text):
            raise InvalidInput(f"has an empty {name}." if name else "is empty.")


def has_unknown(ids: Iterable[Sequence[int]], tokenizer: Tokenizer) -> bool:
    """Return whether one of the sequences may hold unknown tokens, or nothing but special tokens."""
    unknown, least = tokenizer.unk_token_id, tokenizer.num_special_tokens_to_add(False)
    return any((unknown is not None and unknown in own) or len(own) <= least for own in ids)


def may_vanish(text: str) -> bool:
    """Return whether a tokenizer may make no token of a text: it has no letter and no digit.

    Beside another text, as in a pair, the number of tokens does not tell. Most normalizers remove U+FFFD, and BERT's
    removes accents that stand alone.
    """
    return not any(map(str.isalnum, text))


def find_unknown(text: str, tokenizer: Tokenizer) -> UnknownWords | None:
    """Return what the vocabulary lacks of a text; None if it lacks nothing."""
    encoding: Any = tokenizer.run([text], words=False, special=False, limits=None)[0]
    unknown = tokenizer.unk_token_id
    if unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id):  # GPT-2's: a token that texts may hold
        unknown = None
    words = [
        text[begin:end]
        for number, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
        if number == unknown
    ]
    if not words and encoding.ids:
        return None
    pairs = zip(encoding.ids, encoding.tokens, strict=True)
    known = any(number != unknown and token.strip(SPACE_MARK) for number, token in pairs)
    return UnknownWords(list(dict.fromkeys(words or [text])), str(tokenizer.unk_token), not known)


def check_known(texts: Sequence[NamedText], ids: Iterable[Sequence[int]], tokenizer: Tokenizer) -> list[str]:
    """Return notices of words that the vocabulary lacks.

    Args:
        ids: of the model inputs that were made of the texts.

    Raises:
        InvalidInput: a text without any token that the model knows. The message continues "Input 7".
    """
    if not texts or not (has_unknown(ids, tokenizer) or any(may_vanish(text) for _, text in texts)):
        return []
    notices = []
    for name, text in texts:
        found = find_unknown(text, tokenizer)
        if found is not None and found.all_unknown:
            where = f" in its {name}" if name else ""
            raise InvalidInput(f"holds no token{where} that the model knows: {text[:80]!r}.")
        if found is not None:
            where = f"{name}: " if name else ""
            notices.append(f"{where}not in the model's vocabulary, and read as {found.token}: {found}")
    return notices
