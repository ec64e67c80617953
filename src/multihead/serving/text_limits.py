"""Texts that are too long by their beginning: the rest of a huge text is not tokenized."""

from __future__ import annotations

from typing import Any

CHARACTERS = 16  # of a token; few texts have more
SPARE = 256  # tokens at the cut, where a word may be cut too, that the whole text may lack


def beginning(tokenizer: Any, text: str, most: int) -> str:
    """Return the beginning of a text that has more than `most` tokens; the whole text if it may have fewer.

    The first `most` tokens of a beginning are those of the text.
    """
    size = (most + SPARE) * CHARACTERS
    while size < len(text):
        begin = text[:size]
        if len(tokenizer.encode_ids([begin], special=False)[0]) > most + SPARE:
            return begin
        size *= 4  # blanks, or other text that takes few tokens
    return text
