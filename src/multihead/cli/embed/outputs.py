"""Output files of embeddings: numpy with its ids, Parquet, JSON lines. Each is written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ...data_files import import_parquet
from ...errors import InvalidInput
from ...files import check_target, replace_file
from ...pipelines.batch_inference.flat_rows import to_cell
from ...pipelines.batch_inference.json_rows import to_json
from ...sentences.quantization import quantize_embeddings
from ...terminal import json_visible
from ..embedding_parts import ADVICE, Part, Parts

RANGED = ("int8", "uint8")


def side_files(output: Path, quantize: str | None, ranges_given: bool) -> dict[str, Path]:
    """Return the files beside an output: ranges of one-byte numbers; ids and errors of rows of an array."""
    side = {}
    if quantize in ("int8", "uint8") and not ranges_given:
        side["ranges"] = output.with_suffix(".ranges.npy")
    if output.suffix == ".npy":
        side |= {name: output.with_suffix(f".{name}.jsonl") for name in ("ids", "errors")}
    return side


def check_outputs(paths: Iterable[Path], overwrite: bool, sources: Sequence[Path | int | None]) -> None:
    """Raise InvalidInput for files that exist already, that are read, or that cannot be written."""
    for path in paths:
        check_target(path, "--output", sources)
        if path.exists() and not overwrite:
            raise InvalidInput(f"{path} exists already. {ADVICE}")


def quantizer(parts: Iterable[Part], precision: str, ranges: Any) -> tuple[Callable[[Any], Any], Any]:
    """Return a function that quantizes vectors, and the ranges it uses, if any.

    Args:
        ranges: those of a file; None takes the ranges of all parts.

    Raises:
        InvalidInput: fewer than two vectors to take the ranges of.
    """
    if precision not in RANGED:
        return lambda vectors: quantize_embeddings(vectors, precision), None
    if ranges is None:
        low, high, count = None, None, 0
        for vectors in (part.vectors for part in parts if len(part.vectors)):
            low = vectors.min(axis=0) if low is None else np.minimum(low, vectors.min(axis=0))
            high = vectors.max(axis=0) if high is None else np.maximum(high, vectors.max(axis=0))
            count += len(vectors)
        if count < 2:
            raise InvalidInput(f"{precision} needs two embeddings or more, whose ranges it divides; or --ranges FILE.")
        ranges = np.stack([low, high])  # type: ignore[list-item]
    return lambda vectors: quantize_embeddings(vectors, precision, ranges), ranges


def write_output(parts: Parts, side: Mapping[str, Path], precision: str, ranges: Any) -> list[Path]:
    """Write the output of all parts, and the files beside it, `side`. Return their paths, the output first.

    Raises:
        InvalidInput: no row has an embedding.
    """
    if not any(len(part.vectors) for part in parts):
        raise InvalidInput(f"No row has an embedding, so {parts.output} is not written.")
    width = next(part.vectors.shape[1] for part in parts)
    convert, ranges = quantizer(parts, precision, ranges)
    path = parts.output
    files: dict[Path, Callable[[Path], object]] = {}
    if "ranges" in side:
        files[side["ranges"]] = lambda new: save_array(new, np.asarray(ranges, np.float32))
    if "ids" in side:
        files[side["ids"]] = lambda new: write_lines(new, ids(parts))
        files[side["errors"]] = lambda new: write_lines(new, errors(parts))
    files[path] = lambda new: WRITERS[path.suffix](new, parts, convert, width)
    with ExitStack() as stack:  # the output is renamed last
        staged = [(stack.enter_context(replace_file(file)), write) for file, write in reversed(files.items())]
        for new, write in staged:
            write(new)
    return list(reversed(files))


def save_array(path: Path, array: Any) -> None:
    """Write an array in numpy's format."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one line of JSON a value."""
    with path.open("wb") as file:
        for value in values:
            file.write(json_visible(to_json(value)).encode() + b"\n")


def ids(parts: Parts) -> Iterator[Any]:
    """Yield the ids of rows with a vector."""
    return (row["id"] for part in parts for row in part.rows if "error" not in row)


def errors(parts: Parts) -> Iterator[Mapping[str, Any]]:
    """Yield the rows without a vector."""
    return (row for part in parts for row in part.rows if "error" in row)


def write_npy(path: Path, parts: Parts, convert: Callable[[Any], Any], width: int) -> None:
    """Write an array (rows with a vector, width) in numpy's format."""
    sample = convert(np.zeros((1, width), np.float32))
    rows = sum(len(part.vectors) for part in parts)
    out = np.lib.format.open_memmap(path, "w+", sample.dtype, (rows, sample.shape[1]))
    begin = 0
    for part in parts:
        out[begin : begin + len(part.vectors)] = convert(part.vectors)
        begin += len(part.vectors)
    out.flush()


def write_jsonl(path: Path, parts: Parts, convert: Callable[[Any], Any], width: int) -> None:
    """Write a line of JSON a row: "row", "id" and "embedding", or "error"."""
    with path.open("wb") as file:
        for part in parts:
            for line in json_lines(part, convert):
                file.write(line.encode() + b"\n")


def json_lines(part: Part, convert: Callable[[Any], Any]) -> Iterator[str]:
    """Yield the line of each row of a part."""
    vectors = iter(convert(part.vectors))
    for row in part.rows:
        line = json_visible(to_json(row))
        yield line if "error" in row else f'{line[:-1]}, "embedding": [{numbers(next(vectors))}]}}'


def numbers(vector: Any) -> str:
    """Return numbers separated by commas; nine digits give a float32 back."""
    form = "%.9g" if vector.dtype.kind == "f" else "%d"
    return ", ".join([form % value for value in vector.tolist()])


def write_parquet(path: Path, parts: Parts, convert: Callable[[Any], Any], width: int) -> None:
    """Write a table of row, id, embedding (a list of fixed size, null for a row without one) and error."""
    parquet = import_parquet(path)
    import pyarrow as pa

    sample = convert(np.zeros((1, width), np.float32))
    embedding = pa.list_(pa.from_numpy_dtype(sample.dtype), sample.shape[1])
    whole = all(is_int64(row["id"]) for part in parts for row in part.rows)
    id_type = pa.int64() if whole else pa.string()
    schema = pa.schema([("row", pa.int64()), ("id", id_type), ("embedding", embedding), ("error", pa.string())])
    with parquet.ParquetWriter(path, schema) as writer:
        for part in parts:
            writer.write_table(arrow_table(part, convert, schema))


def is_int64(value: Any) -> bool:
    """Return whether a value is a whole number that 64 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def arrow_table(part: Part, convert: Callable[[Any], Any], schema: Any) -> Any:
    """Return the rows of a part as an Arrow table."""
    import pyarrow as pa

    codes = convert(part.vectors)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1])
    order, number = [], 0
    for row in part.rows:
        order.append(None if "error" in row else number)
        number += "error" not in row
    own = [row["id"] for row in part.rows]
    texts = schema.field("id").type == pa.string()
    columns = [
        pa.array([row["row"] for row in part.rows], pa.int64()),
        pa.array([to_cell(one if isinstance(one, str) else to_json(one)) for one in own] if texts else own,
                 schema.field("id").type),
        vectors.take(pa.array(order, pa.int64())) if number else pa.nulls(len(order), schema.field("embedding").type),
        pa.array([row.get("error") for row in part.rows], pa.string()),
    ]  # fmt: skip
    return pa.Table.from_arrays(columns, schema=schema)


WRITERS: Mapping[str, Callable[[Path, Parts, Callable[[Any], Any], int], None]] = {
    ".npy": write_npy,
    ".parquet": write_parquet,
    ".jsonl": write_jsonl,
}
