"""Tokenized examples without padding: a flat array a column, and where each example lies in it."""

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

Ints = NDArray[np.integer[Any]]
CODES = {"int8": "b", "int32": "i", "int64": "q"}
SPECIAL = ("token_type_ids", "word_ids")  # columns that end in _ids and hold no tokens


@dataclass(frozen=True)
class Ragged:
    """A column of runs of numbers.

    Args:
        flat: (numbers,), all runs. begins, lengths: (examples,), int64, of each run in `flat`.
    """

    flat: Ints
    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, flat: Ints, offsets: NDArray[np.int64]) -> Ragged:
        """Runs one after another; offsets (examples + 1,)."""
        return cls(flat, offsets[:-1], np.diff(offsets))

    def __getitem__(self, index: int) -> Ints:
        begin = self.begins[index]
        return self.flat[begin : begin + self.lengths[index]]

    def subset(self, indices: NDArray[np.int64]) -> Ragged:
        return Ragged(self.flat, self.begins[indices], self.lengths[indices])


class Features(Sequence[Mapping[str, Any]]):
    """Examples as a model reads them: `features[7]` is a dict of arrays (tokens,) and of numbers, views of the store.

    Args:
        ragged: column -> runs. numbers: column -> (examples, ...).
        row: (examples,), the number of the row that each comes from; several examples may come from one.
        rows: the source, for messages. counted: ragged columns whose tokens are counted in `lengths`.
        extras: column -> (examples, ...), of what evaluation needs and no model reads.
        facts: what a model must know of the data: `labels` (names), `problem_type`, ...
        notes: sentences on what was cut or left out. dropped: columns that were not taken over. read: those that were.
    """

    def __init__(
        self, ragged: Mapping[str, Ragged], numbers: Mapping[str, NDArray[Any]] | None = None, *,
        row: NDArray[np.int64], rows: Rows | None = None, counted: Sequence[str] = ("input_ids",),
        extras: Mapping[str, NDArray[Any]] | None = None, facts: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (), dropped: Sequence[str] = (), read: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.ragged, self.numbers, self.extras = dict(ragged), dict(numbers or {}), dict(extras or {})
        self.row, self.rows, self.counted = row, rows, tuple(counted)
        self.facts, self.notes, self.dropped = dict(facts or {}), list(notes), tuple(dropped)
        self.read = tuple(read)

    @classmethod
    def of(cls, examples: Any, accepts: Sequence[str] | None = None, *, source_target: bool = False) -> Features:
        """Of examples that are tokenized already; see `tokenized.features_of`."""
        from .tokenized import features_of

        return examples if isinstance(examples, Features) else features_of(examples, accepts, source_target)

    def __len__(self) -> int:
        return len(self.row)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Features: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        place = range(len(self))[index]
        found: dict[str, Any] = {name: column[place] for name, column in self.ragged.items()}
        return found | {name: column[place] for name, column in self.numbers.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """What an example has."""
        return (*self.ragged, *self.numbers)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(examples,): tokens of each, source and target together."""
        return np.sum([self.ragged[name].lengths for name in self.counted], axis=0, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        runs = [array for c in self.ragged.values() for array in (c.flat, c.begins, c.lengths)]
        arrays = {id(a): a for a in [*runs, *self.numbers.values(), *self.extras.values(), self.row]}
        return sum(a.nbytes for a in arrays.values())

    def subset(self, indices: Iterable[int]) -> Features:
        """Some of the examples, in this order; the store is shared."""
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), np.int64)
        return Features(
            {name: column.subset(chosen) for name, column in self.ragged.items()},
            {name: column[chosen] for name, column in self.numbers.items()},
            row=self.row[chosen], rows=self.rows, counted=self.counted,
            extras={name: column[chosen] for name, column in self.extras.items()},
            facts=self.facts, notes=self.notes, dropped=self.dropped, read=self.read,
        )  # fmt: skip

    def where(self, index: int) -> str:
        """Where the row of an example stands, for messages."""
        number = int(self.row[index])
        return self.rows.where(number) if self.rows is not None else f"row {number}"

    def check_vocabulary(self, size: int, columns: Sequence[str] | None = None) -> None:
        """Raises InvalidInput where a token is none of a model's vocabulary.

        Args:
            size: of the vocabulary. columns: of token ids; those that end in `_ids`, when left out.
        """
        for name in columns or [n for n in self.ragged if n.endswith("_ids") and not n.endswith(SPECIAL)]:
            column = self.ragged[name]
            if not column.flat.size or (int(column.flat.max()) < size and int(column.flat.min()) >= 0):
                continue
            for index in range(len(self)):
                run = column[index]
                wrong = run[(run >= size) | (run < 0)]
                if wrong.size:
                    where = self.where(index)
                    raise InvalidInput(
                        f"Vocabulary mismatch: {where} has the token {int(wrong[0])} in {name}, and the model's "
                        f"vocabulary has {size} tokens (0 to {size - 1}). Tokenize with the model's own tokenizer, or "
                        "begin with a model that has these tokens."
                    )

    def __repr__(self) -> str:
        size = f"{len(self):,} examples, {int(self.lengths.sum()):,} tokens"
        return f"<Features of {', '.join(self.columns)}: {size}, {self.nbytes / 2**20:.1f} MiB>"


@dataclass
class Builder:
    """Examples as they are made, chunk by chunk.

    Args:
        ragged: column -> "int8", "int32" or "int64". numbers, extras: column -> dtype.
    """

    ragged: Mapping[str, str]
    numbers: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flat: dict[str, Any] = {name: array(CODES[kind]) for name, kind in self.ragged.items()}
        self.offsets: dict[str, Any] = {name: array("q", [0]) for name in self.ragged}
        self.values: dict[str, list[Any]] = {name: [] for name in (*self.numbers, *self.extras)}
        self.row: Any = array("q")

    def __len__(self) -> int:
        return len(self.row)

    def add(self, row: int, **columns: Any) -> None:
        """An example; every column must be given."""
        for name, flat in self.flat.items():
            flat.extend(columns[name])
            self.offsets[name].append(len(flat))
        for name, values in self.values.items():
            values.append(columns[name])
        self.row.append(row)

    def done(self, rows: Rows | None, **more: Any) -> Features:
        """The examples; a column of token types that are all 0 is left out. `more` as of `Features`.

        Raises:
            InvalidInput: no example was added.
        """
        if not self.row:
            reasons = " ".join(more.get("notes", ()))
            raise InvalidInput(
                f"Nothing is left to learn from in {rows.name if rows else 'the data'}. {reasons}".rstrip()
            )
        kept: dict[bytes, NDArray[np.int64]] = {}
        ragged = {}
        for name, kind in self.ragged.items():
            flat = np.frombuffer(self.flat[name], kind)
            if name == "token_type_ids" and not flat.any():
                continue
            offsets = np.frombuffer(self.offsets[name], np.int64)
            same = next((o for o in kept.values() if np.array_equal(o, offsets)), offsets)
            kept[name.encode()] = same
            ragged[name] = Ragged.of(flat, same)
        numbers, extras = (
            {name: np.array(self.values[name], kind) for name, kind in kinds.items()}
            for kinds in (self.numbers, self.extras)
        )
        return Features(ragged, numbers, row=np.frombuffer(self.row, np.int64), rows=rows, extras=extras, **more)


def in_windows(features: Features, size: int, *, across: bool) -> Features:
    """The same tokens in runs of at most `size`, of columns whose runs are alike; the store is shared.

    Args:
        across: a run may hold several texts, one after another; else each text is cut by itself.
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
        ragged, row=features.row[origin], rows=features.rows, counted=features.counted, facts=features.facts,
        notes=features.notes, dropped=features.dropped, read=features.read,
    )  # fmt: skip
