"""Folder of a batch job's answers: parts that are renamed whole, and the manifest of a finished job.

While a job runs, `.work/` holds what is not finished: `done/PART.json` is the summary of a part, `rows/PART.jsonl` are
the rows of a part that becomes a table, `new/` are files that are being written. A part is answered when its rows are
under their name. Names that begin with "." or "_" are none of the data to readers of folders (Spark, pyarrow, pandas).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from ...config import read_json, write_json
from ...errors import InvalidInput, MultiheadError
from ...files import check_folder
from ..answers import Failure
from .columns import KeptRow
from .flat_rows import Columns, columns_of
from .json_rows import output_row
from .output_lock import OutputLock
from .sources import Part, SourceFile
from .tables import ENDINGS, write_table

FORMATS = (".jsonl", *ENDINGS)
RECORD, MANIFEST = "_run.json", "_manifest.json"
ADVICE = "Choose another output, or overwrite it."
Summary = dict[str, Any]  # of a part: name, file, begin, rows, failed, hash of its inputs, columns of its table


@dataclass(frozen=True)
class PartFolder:
    """Files of a batch job.

    Args:
        format: suffix of the parts. varied: answers are lists whose length depends on the text.
        sources: files of inputs.
    """

    folder: Path
    format: str
    varied: bool
    sources: Sequence[SourceFile] = field(default=())

    @property
    def work(self) -> Path:
        return self.folder / ".work"

    def final(self, name: str) -> Path:
        """Return the path of a part's file."""
        return self.folder / (name + self.format)

    def rows(self, name: str) -> Path:
        """Return the path of a part's rows as JSON lines."""
        return self.final(name) if self.format == ".jsonl" else self.work / "rows" / f"{name}.jsonl"

    def done(self, name: str) -> Path:
        """Return the path of a part's summary."""
        return self.work / "done" / f"{name}.json"

    def prepare(self) -> None:
        """Make the folders of a job, without what a killed process left half written."""
        shutil.rmtree(self.work / "new", ignore_errors=True)
        for name in ("new", "rows", "done"):
            (self.work / name).mkdir(parents=True, exist_ok=True)

    def summary(self, part: Part) -> Summary | None:
        """Return the summary of a part that is answered; None if it is not. Raises InvalidInput if its rows changed."""
        if not (self.rows(part.name).exists() or self.final(part.name).exists()):
            return None
        found = read_json(self.done(part.name))
        if found["inputs_sha256"] != hash_items(part.items):
            raise InvalidInput(
                f"{part.name} of {self.folder} answers other rows than {self.sources[part.file].name} now has from row "
                f"{part.begin} on: what is read has changed. {ADVICE}"
            )
        return found

    def write_rows(self, part: Part, answers: Iterator[tuple[Any, Sequence[str]]]) -> Summary:
        """Write the answers of a part, whole or not at all, and return its summary.

        Args:
            answers: the answer or `Failure` of each row, with its notices.

        Raises:
            InvalidInput: nothing can be written, as on a full disk.
        """
        new = self.work / "new" / f"{uuid4().hex}.jsonl"
        failed = 0
        try:
            with new.open("wb") as file:
                for number, (item, (answer, notices)) in enumerate(zip(part.items, answers, strict=True), part.begin):
                    failed += isinstance(answer, Failure)
                    file.write(output_row(number, item, answer, notices).encode() + b"\n")
            found: Summary = {
                "name": part.name, "file": part.file, "begin": part.begin, "rows": len(part.items), "failed": failed,
                "inputs_sha256": hash_items(part.items),
            }  # fmt: skip
            if self.format == ".jsonl":
                found |= fingerprint(new)
            else:
                found["columns"] = columns_of(read_rows(new), read_rows(new), self.varied).state()
            write_json(self.done(part.name), found)
            new.replace(self.rows(part.name))
        except OSError as error:
            new.unlink(missing_ok=True)
            raise write_error(self.folder, error) from error
        return found

    def write_part(self, name: str, state: Mapping[str, Any]) -> Summary:
        """Write the table of a part that is answered, with the columns of all parts; return its size and hash."""
        columns, rows = Columns.of_state(state), self.rows(name)
        new = self.work / "new" / f"{uuid4().hex}{self.format}"
        try:
            if rows.exists():
                write_table(new, read_rows(rows), columns, [source.path for source in self.sources])
                new.replace(self.final(name))
                rows.unlink()
            return {"name": name, **fingerprint(self.final(name))}
        except OSError as error:
            new.unlink(missing_ok=True)
            raise write_error(self.folder, error) from error

    def merge_columns(self, parts: Sequence[Summary]) -> dict[str, Any]:
        """Return the columns that the tables of all parts have."""
        width = max((part["columns"]["width"] for part in parts), default=0)
        merged = Columns(self.varied, width=width)
        for part in parts:
            own = Columns.of_state(part["columns"])
            if 0 < own.width <= 1 < width and self.rows(part["name"]).exists():  # label, where others have label_1
                own = Columns(self.varied, width=width)
                for row in read_rows(self.rows(part["name"])):
                    own.add(row)
            merged.merge(own)
        merged.check()
        return merged.state()


class JobFolder:
    """Lock and record of a batch job's folder.

    Args:
        record: everything that changes an answer; a job goes on only if it is the same.

    Attributes:
        manifest: of a job that is finished; None if rows may be missing.

    Raises:
        InvalidInput: another job, or something else, is in the folder; it cannot be written; it is locked.
    """

    def __init__(self, parts: PartFolder, record: Mapping[str, Any], overwrite: bool) -> None:
        self.parts, folder = parts, parts.folder
        self.record = json.loads(json.dumps(record, default=str))
        self.manifest: dict[str, Any] | None = None
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"{folder} is a file; the answers to several files go into a folder.")
        check_folder(folder)
        self.lock = OutputLock(folder)
        try:
            self._open(overwrite)
        except BaseException:
            self.lock.release()
            raise

    def _open(self, overwrite: bool) -> None:
        folder = self.parts.folder
        own = (folder / RECORD).exists()
        if not own and any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty, and not of a run that goes on. Choose another output.")
        if own and overwrite:
            for path in (*folder.glob("part-*"), folder / MANIFEST, folder / RECORD):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.parts.work, ignore_errors=True)
            own = False
        if own:
            known = read_json(folder / RECORD)
            if other := [name for name in {**known, **self.record} if known.get(name) != self.record.get(name)]:
                raise InvalidInput(f"{folder} was made by a run that differs in {' and '.join(other)}. {ADVICE}")
            if (folder / MANIFEST).exists():
                self.manifest = self._check_sources(read_json(folder / MANIFEST))
                shutil.rmtree(self.parts.work, ignore_errors=True)
                return
        self.parts.prepare()
        write_json(folder / RECORD, self.record)

    def _check_sources(self, manifest: dict[str, Any]) -> dict[str, Any]:
        sizes = {file["name"]: file["bytes"] for file in manifest["files"]}
        for source in self.parts.sources:
            if source.path.stat().st_size != sizes.get(source.name):
                raise InvalidInput(f"{self.parts.folder} is finished, but {source.path} has changed since. {ADVICE}")
        return manifest

    def finish(self, summaries: Sequence[Summary]) -> dict[str, Any]:
        """Write the manifest, which says that all rows are there, and remove what is no longer needed."""
        parts = [{k: v for k, v in each.items() if k != "columns"} for each in summaries]
        files = [
            {"name": source.name, "bytes": source.path.stat().st_size,
             "rows": sum(part["rows"] for part in parts if part["file"] == number)}
            for number, source in enumerate(self.parts.sources)
        ]  # fmt: skip
        manifest = {
            "rows": sum(part["rows"] for part in parts), "failed": sum(part["failed"] for part in parts),
            "format": self.parts.format, "files": files, "parts": parts, "run": self.record,
        }  # fmt: skip
        try:
            write_json(self.parts.folder / MANIFEST, manifest)
        except OSError as error:
            raise write_error(self.parts.folder, error) from error
        shutil.rmtree(self.parts.work, ignore_errors=True)
        return manifest

    def close(self) -> None:
        """Release the lock."""
        self.lock.release()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of JSON lines."""
    with path.open("rb") as file:
        yield from map(json.loads, file)


def fingerprint(path: Path) -> dict[str, Any]:
    """Return the size and hash of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _digest(file: Any) -> Any:
    """Return the hash of an open file (Python 3.10 has no file_digest)."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest


def hash_items(items: Sequence[Any]) -> str:
    """Return a hash of rows: of their inputs, kept columns and errors."""
    digest = hashlib.sha256()
    for item in items:
        kept = item.kept if isinstance(item, KeptRow) else {}
        own = item.input if isinstance(item, KeptRow) else item
        digest.update(repr((str(own) if isinstance(own, MultiheadError) else own, kept)).encode("utf-8", "replace"))
        digest.update(b"\n")
    return digest.hexdigest()


def write_error(folder: Path, error: OSError) -> InvalidInput:
    """Return the error for answers that cannot be written."""
    return InvalidInput(
        f"{folder} cannot be written: {error.strerror or error}. The parts that are finished are there; make room, and "
        "the same command goes on after them."
    )
