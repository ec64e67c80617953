"""Texts and bytes of single tokens, which may be parts of a character."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..tokenizers.ranks import LETTERS

BYTES = {letter: byte for byte, letter in LETTERS.items()}  # GPT-2's letters for bytes


class TokenTexts:
    """Tokens of a tokenizer as bytes.

    Attributes:
        special: tokens that are no text: those with a role, and those that the tokenizer's file calls special.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.backend.get_added_tokens_decoder()
        self._letters = "ByteLevel" in repr(tokenizer.backend.decoder)
        own = {number for number, token in self._added.items() if token.special}
        self.special = frozenset(own | {number for number in tokenizer.all_special_ids if number is not None})
        self.bytes = lru_cache(maxsize=100_000)(self._bytes)

    def _bytes(self, token: int) -> bytes:
        """Return the bytes that a token stands for."""
        if token in self._added:
            return str(self._added[token].content).encode()
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:  # a row of the embedding table without a token
            return b""
        if self._letters:
            if all(letter in BYTES for letter in piece):
                return bytes(BYTES[letter] for letter in piece)
            return str(piece).encode()
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return str(piece).replace("\u2581", " ").encode()

    def text(self, token: int) -> str:
        """Return the text of a token, with a replacement character for each part of a character."""
        return self.bytes(token).decode(errors="replace")

    def key(self, token: int) -> str:
        """Return the text of a token, or OpenAI's `bytes:\\xe2\\x80` for one that is no text of its own."""
        found = self.bytes(token)
        try:
            return found.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)
