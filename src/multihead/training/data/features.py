"""Tokenized examples without padding: one flat array a column, with the offset and length of each example."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput
from .source import Rows

Example = Mapping[str, Any]  # features of one example: numpy arrays of ids and labels, numbers
Ints = NDArray[np.integer[Any]]
ARRAY_CODES = {"int8": "b", "int32": "i", "int64": "q"}
NOT_TOKENS = ("token_type_ids", "word_ids")  # columns that end in _ids and hold no token ids


@dataclass(frozen=True)
class Ragged:
    """A column of sequences of unequal lengths.

    Args:
        flat: (numbers,), all sequences. begins, lengths: (examples,), int64, offset and length of each in `flat`.
    """

    flat: Ints
    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, flat: Ints, offsets: NDArray[np.int64]) -> Ragged:
        """Build from sequences stored one after another, with offsets (examples + 1,)."""
        return cls(flat, offsets[:-1], np.diff(offsets))

    def __getitem__(self, index: int) -> Ints:
        begin = self.begins[index]
        return self.flat[begin : begin + self.lengths[index]]

    def subset(self, indices: NDArray[np.int64]) -> Ragged:
        return Ragged(self.flat, self.begins[indices], self.lengths[indices])


class Features(Sequence[Example]):
    """Tokenized examples: `features[7]` is a dict of arrays (tokens,) and of numbers, views of the flat arrays.

    Args:
        ragged: column -> sequences. numbers: column -> (examples, ...).
        row: (examples,), number of the source row; several examples may come from one row.
        rows: the source, for messages. counted: ragged columns whose tokens are counted in `lengths`.
        extras: column -> (examples, ...), read by evaluation but not by the model.
        metadata: facts about the data: `labels` (names), `problem_type`, ...
        notes: sentences on texts that were cut or left out. dropped: ignored columns. read: columns that were read.
    """

    def __init__(
        self, ragged: Mapping[str, Ragged], numbers: Mapping[str, NDArray[Any]] | None = None, *,
        row: NDArray[np.int64], rows: Rows | None = None, counted: Sequence[str] = ("input_ids",),
        extras: Mapping[str, NDArray[Any]] | None = None, metadata: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (), dropped: Sequence[str] = (), read: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.ragged, self.numbers, self.extras = dict(ragged), dict(numbers or {}), dict(extras or {})
        self.row, self.rows, self.counted = row, rows, tuple(counted)
        self.metadata, self.notes, self.dropped = dict(metadata or {}), list(notes), tuple(dropped)
        self.read = tuple(read)

    def __len__(self) -> int:
        return len(self.row)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Features: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        number = range(len(self))[index]
        example: dict[str, Any] = {name: column[number] for name, column in self.ragged.items()}
        return example | {name: column[number] for name, column in self.numbers.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of an example."""
        return (*self.ragged, *self.numbers)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each example (examples,), source and target together."""
        return np.sum([self.ragged[name].lengths for name in self.counted], axis=0, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        runs = [array for c in self.ragged.values() for array in (c.flat, c.begins, c.lengths)]
        arrays = {id(a): a for a in [*runs, *self.numbers.values(), *self.extras.values(), self.row]}
        return sum(a.nbytes for a in arrays.values())

    def subset(self, indices: Iterable[int]) -> Features:
        """Return some of the examples, in this order; the flat arrays are shared."""
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), np.int64)
        return Features(
            {name: column.subset(chosen) for name, column in self.ragged.items()},
            {name: column[chosen] for name, column in self.numbers.items()},
            row=self.row[chosen], rows=self.rows, counted=self.counted,
            extras={name: column[chosen] for name, column in self.extras.items()},
            metadata=self.metadata, notes=self.notes, dropped=self.dropped, read=self.read,
        )  # fmt: skip

    def location(self, index: int) -> str:
        """Return the location of an example's row in its source, for messages."""
        number = int(self.row[index])
        return self.rows.location(number) if self.rows is not None else f"row {number}"

    def check_vocabulary(self, size: int, columns: Sequence[str] | None = None) -> None:
        """Raise InvalidInput, naming the row, for a token id outside the vocabulary.

        Args:
            size: of the vocabulary. columns: columns of token ids; all that end in `_ids` when None.
        """
        for name in columns or [n for n in self.ragged if n.endswith("_ids") and not n.endswith(NOT_TOKENS)]:
            column = self.ragged[name]
            if not column.flat.size or (int(column.flat.max()) < size and int(column.flat.min()) >= 0):
                continue
            for index in range(len(self)):
                run = column[index]
                wrong = run[(run >= size) | (run < 0)]
                if wrong.size:
                    location = self.location(index)
                    raise InvalidInput(
                        f"Vocabulary mismatch: {location} has the token {int(wrong[0])} in {name}, and the model's "
                        f"vocabulary has {size} tokens (0 to {size - 1}). Tokenize with the model's own tokenizer, or "
                        "begin with a model that has these tokens."
                    )

    def __repr__(self) -> str:
        size = f"{len(self):,} examples, {int(self.lengths.sum()):,} tokens"
        return f"<Features of {', '.join(self.columns)}: {size}, {self.nbytes / 2**20:.1f} MiB>"


@dataclass
class FeatureBuilder:
    """Collector of examples that are made chunk by chunk.

    Args:
        ragged: column -> "int8", "int32" or "int64". numbers, extras: column -> dtype.
    """

    ragged: Mapping[str, str]
    numbers: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flat: dict[str, Any] = {name: array(ARRAY_CODES[kind]) for name, kind in self.ragged.items()}
        self.offsets: dict[str, Any] = {name: array("q", [0]) for name in self.ragged}
        self.values: dict[str, list[Any]] = {name: [] for name in (*self.numbers, *self.extras)}
        self.row: Any = array("q")

    def __len__(self) -> int:
        return len(self.row)

    def add(self, row: int, **columns: Any) -> None:
        """Add an example with a value for every column."""
        for name, flat in self.flat.items():
            flat.extend(columns[name])
            self.offsets[name].append(len(flat))
        for name, values in self.values.items():
            values.append(columns[name])
        self.row.append(row)

    def build(self, rows: Rows | None, **fields: Any) -> Features:
        """Return the examples, without a column of token types that are all 0.

        Args:
            fields: further arguments of `Features`.

        Raises:
            InvalidInput: no example was added.
        """
        if not self.row:
            reasons = " ".join(fields.get("notes", ()))
            raise InvalidInput(
                f"Nothing is left to learn from in {rows.name if rows else 'the data'}. {reasons}".rstrip()
            )
        stored: list[NDArray[np.int64]] = []  # columns of equal lengths share one array of offsets
        ragged = {}
        for name, kind in self.ragged.items():
            flat = np.frombuffer(self.flat[name], kind)
            if name == "token_type_ids" and not flat.any():
                continue
            offsets = np.frombuffer(self.offsets[name], np.int64)
            offsets = next((o for o in stored if np.array_equal(o, offsets)), offsets)
            stored.append(offsets)
            ragged[name] = Ragged.of(flat, offsets)
        numbers, extras = (
            {name: np.array(self.values[name], kind) for name, kind in kinds.items()}
            for kinds in (self.numbers, self.extras)
        )
        return Features(ragged, numbers, row=np.frombuffer(self.row, np.int64), rows=rows, extras=extras, **fields)


def split_windows(features: Features, size: int, *, across: bool) -> Features:
    """Split examples into windows of at most `size` tokens; the flat arrays are shared.

    All ragged columns must have equal lengths.

    Args:
        across: a window may hold several texts, one after another; otherwise each text is split by itself.
    """
    first = next(iter(features.ragged.values()))
    total = int(first.lengths.sum())
    offsets = np.concatenate([[0], np.cumsum(first.lengths)])
    if across:
        edges = np.arange(0, total, size, dtype=np.int64)
    else:
        parts = [np.arange(begin, end, size, dtype=np.int64) for begin, end in pairwise(offsets.tolist())]
        edges = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    origin = np.searchsorted(offsets, edges, side="right") - 1
    cuts = np.append(edges, total)
    ragged = {name: Ragged.of(column.flat, cuts) for name, column in features.ragged.items()}
    return Features(
        ragged, row=features.row[origin], rows=features.rows, counted=features.counted, metadata=features.metadata,
        notes=features.notes, dropped=features.dropped, read=features.read,
    )  # fmt: skip
