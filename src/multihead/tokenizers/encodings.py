"""The result of a tokenizer's call: a mapping of names to lists or tensors, with the origin of every token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput

if TYPE_CHECKING:
    from tokenizers import Encoding


class Encodings(MutableMapping[str, Any]):
    """Batch of encoded texts; `**encodings` unpacks into a model's arguments.

    Args:
        data: name -> one list a row, or a tensor. encoding: the library's own, one a row.
        tensor_type, prepend_batch_axis: as in `convert_to_tensors`.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Encoding | Sequence[Encoding] | None = None,
        tensor_type: str | None = None,
        prepend_batch_axis: bool = False,
    ) -> None:
        rows: Any = () if encoding is None else encoding
        self.data = dict(data or {})
        self.encodings: list[Encoding] = list(rows) if isinstance(rows, Sequence) else [rows]
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return self.data[key]
        if self.encodings:
            return self.encodings[key]
        if isinstance(key, slice):
            return {name: values[key] for name, values in self.data.items()}
        raise KeyError("Only encodings of texts can be looked up by number.")

    def __getattr__(self, name: str) -> Any:
        if name != "data" and name in self.data:
            return self.data[name]
        raise AttributeError(f"These encodings have {', '.join(self.__dict__.get('data', {}))}; not {name!r}.")

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __setitem__(self, name: str, value: Any) -> None:
        self.data[name] = value

    def __delitem__(self, name: str) -> None:
        del self.data[name]

    def __repr__(self) -> str:
        return repr(self.data)

    @property
    def is_fast(self) -> bool:
        """True for encodings of texts, whose tokens are known."""
        return bool(self.encodings)

    def copy(self) -> Encodings:
        """Return a copy of the mapping."""
        return Encodings(self.data, self.encodings)

    @property
    def n_sequences(self) -> int | None:
        """1 for texts, 2 for pairs, None for encodings that do not come from texts."""
        return self.encodings[0].n_sequences if self.encodings else None

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> Encodings:
        """Convert lists to tensors ("pt") or arrays ("np") in place, and return self.

        Args:
            prepend_batch_axis: makes a batch of one row of every entry first.

        Raises:
            InvalidInput: rows of unlike lengths, or of what are no numbers.
        """
        if tensor_type is not None:
            kind = str(getattr(tensor_type, "value", tensor_type))  # of an enumeration, too
            lists = {
                name: rows for name, rows in self.data.items() if prepend_batch_axis or isinstance(rows, (list, tuple))
            }
            self.data |= to_tensors(
                {name: [rows] if prepend_batch_axis else rows for name, rows in lists.items()}, kind
            )
        return self

    def to(self, device: Any, **options: Any) -> Encodings:
        """Move the tensors to a device in place, and return self."""
        self.data = {k: v.to(device, **options) if hasattr(v, "to") else v for k, v in self.data.items()}
        return self

    def _row(self, row: int) -> Encoding:
        if not self.encodings:
            raise InvalidInput("These encodings do not come from texts, so nothing is known of their words.")
        return self.encodings[row]

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the tokens of a row."""
        return self._row(batch_index).tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return the word index of each token, None for special tokens."""
        return self._row(batch_index).word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return 0 or 1 for tokens of the first or second text of a pair, None for special tokens."""
        return self._row(batch_index).sequence_ids

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the token that holds a character; one number means a character of the first row."""
        row, char = (0, batch_or_char_index) if char_index is None else (batch_or_char_index, char_index)
        return self._row(row).char_to_token(char, sequence_index)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> tuple[int, int] | None:
        """Return (start, end) of a token in its text; None for special tokens."""
        row, token = (0, batch_or_token_index) if token_index is None else (batch_or_token_index, token_index)
        return self._row(row).token_to_chars(token)

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Return 0 or 1 for a token of the first or second text of a pair."""
        row, token = (0, batch_or_token_index) if token_index is None else (batch_or_token_index, token_index)
        return self._row(row).token_to_sequence(token)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Return the word of a token."""
        row, token = (0, batch_or_token_index) if token_index is None else (batch_or_token_index, token_index)
        return self._row(row).token_to_word(token)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> tuple[int, int] | None:
        """Return (first, one past the last) token of a word."""
        row, word = (0, batch_or_word_index) if word_index is None else (batch_or_word_index, word_index)
        return self._row(row).word_to_tokens(word, sequence_index)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> tuple[int, int] | None:
        """Return (start, end) of a word in its text."""
        row, word = (0, batch_or_word_index) if word_index is None else (batch_or_word_index, word_index)
        return self._row(row).word_to_chars(word, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the word that holds a character."""
        row, char = (0, batch_or_char_index) if char_index is None else (batch_or_char_index, char_index)
        return self._row(row).char_to_word(char, sequence_index)


def to_tensors(data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Convert lists of equal length to tensors ("pt") or arrays ("np").

    Raises:
        InvalidInput: rows of unlike lengths or of what are no numbers, or a kind that is not known.
    """
    if kind == "pt":
        import torch

        make: Any = torch.tensor
    elif kind == "np":
        import numpy

        make = numpy.array
    else:
        raise InvalidInput(f"return_tensors is 'pt', 'np' or None, not {kind!r}.")
    out = {}
    for name, rows in data.items():
        lengths = {len(row) for row in rows if isinstance(row, list)}
        if len(lengths) > 1:
            raise InvalidInput(
                f"{name} has rows of {min(lengths)} to {max(lengths)} tokens, which no tensor holds: "
                "pass padding=True, and truncation=True for a limit."
            )
        try:
            made = make(rows)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidInput(f"{name} makes no tensor: {error}. Take it out, or pass return_tensors=None.") from error
        empty = isinstance(rows, list) and rows == [[]] * len(rows)
        out[name] = made if not empty else made.astype("int64") if kind == "np" else made.long()
    return out
