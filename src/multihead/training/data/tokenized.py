"""Features of examples that are tokenized already, as users of the reference's Trainer have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput, nearest, warn
from .features import Builder, Features, Ragged
from .source import Rows

LABELS = ("labels", "label", "label_ids")  # what labels are called; the first of them that is there counts
MASKS = ("attention_mask", "decoder_attention_mask")
LARGEST = 2**31 - 1
POSITIONS = ("start_positions", "end_positions")


def features_of(examples: Any, accepts: Sequence[str] | None, source_target: bool) -> Features:
    """Of examples with `input_ids`; padding is taken out by their `attention_mask`.

    Args:
        examples: any source of `Rows.of`; values are lists, arrays or tensors.
        accepts: columns to take over; all that are numeric, when left out. What is not taken over is in `dropped`.
        source_target: labels are a target of its own, as of encoder-decoders, not a label for each token.

    Raises:
        InvalidInput: no `input_ids`, or columns that do not fit each other.
    """
    rows = Rows.of(examples)
    if "input_ids" not in rows.columns:
        raise InvalidInput(
            f"Examples need input_ids; these have {', '.join(rows.columns) or 'no columns'}. Give the rows together "
            "with a tokenizer and a task, or tokenize them first."
        )
    builder: Builder | None = None
    kinds: dict[str, str] = {}
    for begin, chunk in rows.chunks():
        for number, raw in enumerate(chunk, begin):
            names = renamed(raw)
            values = {names[name]: array_of(value) for name, value in raw.items() if name in names}
            if builder is None:
                kinds = {name: kind_of(v) for name, v in values.items() if wanted(name, v, accepts)}
                ragged = {name: "int32" for name, kind in kinds.items() if kind == "ragged"}
                builder = Builder(ragged, {name: kind for name, kind in kinds.items() if kind != "ragged"})
            builder.add(number, **fitted(values, kinds, rows.at(number), source_target))
    assert builder is not None, "rows are never empty"
    taken, names = {*kinds, *MASKS}, renamed(rows.columns)
    dropped = [name for name in rows.columns if names.get(name) not in taken]
    if unread := [name for name in rows.columns if name not in names]:
        warn(f"Examples have several columns of labels; {', '.join(map(str, unread))} is not read, labels is.")
    runs = "labels" in builder.ragged and source_target
    return builder.done(rows, counted=("input_ids", "labels") if runs else ("input_ids",), dropped=dropped)


class Live:
    """Examples of a data set that makes them anew, read when they are asked for and without padding, as `Features`.

    Args:
        source: with a length and [number]. source_target: as of `features_of`.
        check: is told of each example that is read, as `Features` of one.
    """

    def __init__(self, source: Any, source_target: bool) -> None:
        self.source, self.source_target = source, source_target
        self.check: Callable[[Features], None] = lambda one: None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> dict[str, Any]:
        one = self.read(number)
        self.check(one)
        return one[0]

    def read(self, number: int) -> Features:
        """An example, as `Features` of one. Raises InvalidInput where its columns do not fit each other."""
        raw = self.source[number]
        if not isinstance(raw, Mapping) or "input_ids" not in raw:
            has = ", ".join(raw) if isinstance(raw, Mapping) else f"those of {type(raw).__name__}"
            raise InvalidInput(f"Row {number} has no input_ids; it has {has or 'no columns'}. Tokenize it first.")
        names = renamed(raw)
        values = {str(names[name]): array_of(value) for name, value in raw.items() if name in names}
        kinds = {name: kind_of(value) for name, value in values.items() if wanted(name, value, None)}
        found = fitted(values, kinds, f"Row {number}", self.source_target)
        ragged = {name: np.asarray(found[name], np.int32) for name, kind in kinds.items() if kind == "ragged"}
        numbers = {name: np.asarray(found[name], kind)[None] for name, kind in kinds.items() if kind != "ragged"}
        both = self.source_target and "labels" in ragged
        return Features(
            {name: Ragged.of(run, np.array([0, len(run)])) for name, run in ragged.items()}, numbers,
            row=np.array([number]), counted=("input_ids", "labels") if both else ("input_ids",),
            dropped=[name for name in values if name not in (*kinds, *MASKS)],
        )  # fmt: skip


def renamed(names: Iterable[str]) -> dict[str, str]:
    """What each column is called here; those of labels that another one stands before are left out."""
    known = list(names)
    first = next((name for name in LABELS if name in known), None)
    return {name: "labels" if name == first else name for name in known if name == first or name not in LABELS}


def array_of(value: Any) -> NDArray[Any] | None:
    """A value as an array; None for what is not numeric."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        found = np.asarray(value)
    except (ValueError, TypeError):
        return None
    if found.size == 0 and found.ndim == 1:
        return found.astype(np.int64)
    return found if found.dtype.kind in "iufb" else None


def wanted(name: str, value: NDArray[Any] | None, accepts: Sequence[str] | None) -> bool:
    if name in MASKS or value is None or value.ndim > 1:
        return name == "input_ids"
    return accepts is None or name in (*accepts, "input_ids", "labels")


def kind_of(value: NDArray[Any] | None) -> str:
    """ "ragged" for runs of whole numbers, else the dtype of a number or of a vector an example."""
    if value is None or (value.ndim and value.dtype.kind != "f"):
        return "ragged"
    return "float32" if value.dtype.kind == "f" else "int64"


def fitted(
    values: Mapping[str, NDArray[Any] | None], kinds: Mapping[str, str], where: str, source_target: bool
) -> dict[str, Any]:
    """The columns of the example at `where`, without padding. Raises InvalidInput where they do not fit."""
    for name, kind in kinds.items():
        value = values.get(name)
        if name not in values:
            raise InvalidInput(f"{where} has no {name}, which the first has. {nearest(name, values)}")
        if value is None or value.ndim > 1 or (kind == "ragged") != (kind_of(value) == "ragged"):
            raise InvalidInput(f"{where} has {name} of another kind than a run of ids or the first row's.")
    found: dict[str, Any] = {name: values[name] for name in kinds}
    length = len(found["input_ids"])
    same = [n for n, k in kinds.items() if k == "ragged" and not (source_target and n == "labels")]
    same = [name for name in same if not name.startswith("decoder_")]
    for name in same:
        if len(found[name]) != length:
            raise InvalidInput(f"{where} has {length} input_ids and {len(found[name])} {name}.")
    mask = values.get("attention_mask")
    if mask is not None:
        if mask.shape != (length,):
            raise InvalidInput(f"{where} has {length} input_ids and an attention_mask of {list(mask.shape)}.")
        real = mask != 0
        if not real.all():
            found |= {name: found[name][real] for name in same}
            before = np.concatenate([[0], np.cumsum(~real)])
            found |= {
                name: found[name] - before[np.clip(found[name], 0, length)] for name in POSITIONS if name in kinds
            }
    if source_target and "labels" in kinds:
        learned = np.flatnonzero(found["labels"] != -100)
        found["labels"] = found["labels"][: learned[-1] + 1 if len(learned) else 0]
    for name, run in found.items():
        if kinds[name] == "ragged" and len(run) and int(abs(run).max()) > LARGEST:
            raise InvalidInput(f"{where} has {int(abs(run).max())} in {name}, which is no token or label.")
    return {name: v.tolist() if kinds[name] == "ragged" else v for name, v in found.items()}
