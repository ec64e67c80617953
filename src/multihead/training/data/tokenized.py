"""Features of tokenized examples, as data sets for the Transformers Trainer hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput, nearest, warn
from .features import FeatureBuilder, Features, Ragged
from .source import Rows

LABEL_COLUMNS = ("labels", "label", "label_ids")  # names of the label column; the first that exists is used
MASKS = ("attention_mask", "decoder_attention_mask")
LARGEST_ID = 2**31 - 1
POSITIONS = ("start_positions", "end_positions")


def features_of(examples: Any, columns: Sequence[str] | None = None, *, source_target: bool = False) -> Features:
    """Build features from examples with `input_ids`; padding is removed according to `attention_mask`.

    Args:
        examples: `Features`, returned as they are, or any source of `Rows.of` with lists, arrays or tensors.
        columns: columns to keep; all numeric columns when None. `Features.dropped` lists the others.
        source_target: labels are a target sequence of its own, as for encoder-decoders, not a label for each token.

    Raises:
        InvalidInput: `input_ids` is missing, or columns do not fit each other.
    """
    if isinstance(examples, Features):
        return examples
    rows = Rows.of(examples)
    if "input_ids" not in rows.columns:
        raise InvalidInput(
            f"Examples need input_ids; these have {', '.join(rows.columns) or 'no columns'}. Give the rows together "
            "with a tokenizer and a task, or tokenize them first."
        )
    builder: FeatureBuilder | None = None
    kinds: dict[str, str] = {}
    for begin, chunk in rows.chunks():
        for number, raw in enumerate(chunk, begin):
            names = rename_labels(raw)
            values = {names[name]: array_of(value) for name, value in raw.items() if name in names}
            if builder is None:
                kinds = {name: kind_of(v) for name, v in values.items() if is_kept(name, v, columns)}
                ragged = {name: "int32" for name, kind in kinds.items() if kind == "ragged"}
                builder = FeatureBuilder(ragged, {name: kind for name, kind in kinds.items() if kind != "ragged"})
            builder.add(number, **unpadded(values, kinds, rows.subject(number), source_target))
    assert builder is not None, "rows are never empty"
    used, names = {*kinds, *MASKS}, rename_labels(rows.columns)
    dropped = [name for name in rows.columns if names.get(name) not in used]
    if unread := [name for name in rows.columns if name not in names]:
        warn(f"Examples have several columns of labels; only labels is read, not {', '.join(map(str, unread))}.")
    both = "labels" in builder.ragged and source_target
    return builder.build(rows, counted=("input_ids", "labels") if both else ("input_ids",), dropped=dropped)


class LiveFeatures:
    """Examples of a data set that computes them at each access; padding is removed.

    Args:
        source: data set with a length and [number]. source_target: see `features_of`.

    Attributes:
        check: called with each example that is read, as `Features` of one example.
    """

    def __init__(self, source: Any, source_target: bool) -> None:
        self.source, self.source_target = source, source_target
        self.check: Callable[[Features], None] = lambda example: None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> dict[str, Any]:
        example = self.read(number)
        self.check(example)
        return example[0]

    def read(self, number: int) -> Features:
        """Read one example as `Features`. Raises InvalidInput if its columns do not fit each other."""
        raw = self.source[number]
        if not isinstance(raw, Mapping) or "input_ids" not in raw:
            has = ", ".join(raw) if isinstance(raw, Mapping) else f"those of {type(raw).__name__}"
            raise InvalidInput(f"Row {number} has no input_ids; it has {has or 'no columns'}. Tokenize it first.")
        names = rename_labels(raw)
        values = {str(names[name]): array_of(value) for name, value in raw.items() if name in names}
        kinds = {name: kind_of(value) for name, value in values.items() if is_kept(name, value, None)}
        example = unpadded(values, kinds, f"Row {number}", self.source_target)
        ragged = {name: np.asarray(example[name], np.int32) for name, kind in kinds.items() if kind == "ragged"}
        numbers = {name: np.asarray(example[name], kind)[None] for name, kind in kinds.items() if kind != "ragged"}
        both = self.source_target and "labels" in ragged
        return Features(
            {name: Ragged.of(ids, np.array([0, len(ids)])) for name, ids in ragged.items()}, numbers,
            row=np.array([number]), counted=("input_ids", "labels") if both else ("input_ids",),
            dropped=[name for name in values if name not in (*kinds, *MASKS)],
        )  # fmt: skip


def rename_labels(names: Iterable[str]) -> dict[str, str]:
    """Map column names to internal names: the first label column becomes `labels`, other label columns are omitted."""
    known = list(names)
    first = next((name for name in LABEL_COLUMNS if name in known), None)
    return {name: "labels" if name == first else name for name in known if name == first or name not in LABEL_COLUMNS}


def array_of(value: Any) -> NDArray[Any] | None:
    """Return a value as an array; None for a value that is not numeric."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None
    if array.size == 0 and array.ndim == 1:
        return array.astype(np.int64)
    return array if array.dtype.kind in "iufb" else None


def is_kept(name: str, value: NDArray[Any] | None, columns: Sequence[str] | None) -> bool:
    """Return whether a column becomes a feature."""
    if name in MASKS or value is None or value.ndim > 1:
        return name == "input_ids"
    return columns is None or name in (*columns, "input_ids", "labels")


def kind_of(value: NDArray[Any] | None) -> str:
    """Return "ragged" for a sequence of integers, else the dtype of a number or of a float vector."""
    if value is None or (value.ndim and value.dtype.kind != "f"):
        return "ragged"
    return "float32" if value.dtype.kind == "f" else "int64"


def unpadded(
    values: Mapping[str, NDArray[Any] | None], kinds: Mapping[str, str], location: str, source_target: bool
) -> dict[str, Any]:
    """Return the columns of an example without padding. Raises InvalidInput if they do not fit each other."""
    for name, kind in kinds.items():
        value = values.get(name)
        if name not in values:
            raise InvalidInput(f"{location} has no {name}, which the first has. {nearest(name, values)}")
        if value is None or value.ndim > 1 or (kind == "ragged") != (kind_of(value) == "ragged"):
            raise InvalidInput(f"{location} has {name} that is neither a sequence of ids nor of the first row's kind.")
    example: dict[str, Any] = {name: values[name] for name in kinds}
    length = len(example["input_ids"])
    same = [n for n, k in kinds.items() if k == "ragged" and not (source_target and n == "labels")]
    same = [name for name in same if not name.startswith("decoder_")]
    for name in same:
        if len(example[name]) != length:
            raise InvalidInput(f"{location} has {length} input_ids and {len(example[name])} {name}.")
    mask = values.get("attention_mask")
    if mask is not None:
        if mask.shape != (length,):
            raise InvalidInput(f"{location} has {length} input_ids and an attention_mask of {list(mask.shape)}.")
        real = mask != 0
        if not real.all():
            example |= {name: example[name][real] for name in same}
            padding = np.concatenate([[0], np.cumsum(~real)])  # padding tokens before each position
            example |= {
                name: example[name] - padding[np.clip(example[name], 0, length)] for name in POSITIONS if name in kinds
            }
    if source_target and "labels" in kinds:
        learned = np.flatnonzero(example["labels"] != -100)
        example["labels"] = example["labels"][: learned[-1] + 1 if len(learned) else 0]
    for name, ids in example.items():
        if kinds[name] == "ragged" and len(ids) and int(abs(ids).max()) > LARGEST_ID:
            raise InvalidInput(f"{location} has {int(abs(ids).max())} in {name}, which is no token or label.")
    return {name: v.tolist() if kinds[name] == "ragged" else v for name, v in example.items()}
