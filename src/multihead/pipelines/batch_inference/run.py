"""Batch jobs: answers for all rows of some files, in a folder, by any engine, through any stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...config import read_json, write_json
from ...data_files import import_arrow
from ...errors import InvalidInput, UnsupportedOption
from .engines import Engine, InProcess, WorkerPool
from .job import BatchJob, Recipe, TableTask
from .parts import FORMATS, JobFolder, PartFolder, Summary
from .sources import PART_ROWS, Inputs, Part, Source, cut_parts, find_files, is_several
from .tables import ARROW_ENDINGS

Report = Callable[[Summary], None]  # hears of each part that is answered, also of those of an earlier run


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Options of a batch job, none of which changes an answer.

    Args:
        workers: processes of this machine; None answers in this one.
        format: of the parts: "jsonl", "csv", "tsv", "parquet" or "arrow". Default: that of the first file, or JSON
            lines where that is none of these.
        part_rows: rows of a part at most, the unit of what a stop loses. overwrite: begins anew in a folder of answers.
        strict: ends at the first row that cannot be answered.
    """

    workers: int | None = None
    format: str | None = None
    part_rows: int = PART_ROWS
    overwrite: bool = False
    strict: bool = False

    def check(self) -> None:
        """Raise InvalidInput or UnsupportedOption for values that are not possible."""
        if isinstance(self.part_rows, bool) or not isinstance(self.part_rows, int) or self.part_rows < 1:
            raise InvalidInput(f"part_rows is a whole number from 1, not {self.part_rows!r}.")
        if self.format is not None and self.format not in [ending[1:] for ending in FORMATS]:
            raise UnsupportedOption(f"format is one of {', '.join(e[1:] for e in FORMATS)}, not {self.format!r}.")

    def suffix(self, first: Path) -> str:
        """Return the suffix of the parts."""
        own = first.suffix.lower() if self.format is None else f".{self.format}"
        return own if own in FORMATS else ".jsonl"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Batch job before it is begun.

    Args:
        source: a file, a pattern, a folder, or a list of them. output: the folder of answers.
        recipe: loads the pipeline. pipe: one that is loaded, for jobs of this process.
        varied: answers are lists whose length depends on the text.
        record: what else changes an answer; a stopped job goes on only if it is the same.
        call: options of the call.
    """

    source: Source
    output: Path
    inputs: Inputs
    recipe: Recipe
    options: BatchOptions
    varied: bool
    record: Mapping[str, Any]
    pipe: Callable[[], Any]
    call: Mapping[str, Any] = field(default_factory=dict)

    def run(self, report: Report = lambda _: None, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Answer all rows that are not answered yet. Returns the manifest of the folder.

        Args:
            report: hears of each part. advance: called after each row, where the engine is this process.

        Raises:
            InvalidInput: files or rows that cannot be read, a folder of other answers, a full disk.
        """
        self.options.check()
        engine = self.engine(advance)
        files = find_files(self.source, self.output)
        folder = PartFolder(self.output, self.options.suffix(files[0].path), self.varied, files)
        if folder.format in ARROW_ENDINGS:
            import_arrow(files[0].path.with_suffix(folder.format))
        record = {
            **self.record, "files": [file.name for file in files], "format": folder.format,
            "part_rows": self.options.part_rows,
        }  # fmt: skip
        own = JobFolder(folder, record, self.options.overwrite)
        try:
            if own.manifest is not None:
                return own.manifest
            named = is_several(self.source)
            parts = cut_parts(files, self.inputs, named, self.options.part_rows)
            job = BatchJob(self.recipe, folder, self.options.strict, self.call)
            summaries = answer_all(engine, job, parts, report)
            return own.finish(write_tables(engine, job, summaries))
        finally:
            own.close()

    def engine(self, advance: Callable[[], None]) -> Engine:
        """Return the engine of the job."""
        workers = self.options.workers
        return InProcess(self.pipe, advance) if workers is None else WorkerPool(workers)


def answer_all(engine: Engine, job: BatchJob, parts: Iterator[Part], report: Report) -> list[Summary]:
    """Answer the parts that are not answered yet; return the summaries of all, in the order of the rows."""
    found: list[Summary] = []

    def open_parts() -> Iterator[Part]:
        for part in parts:
            known = job.folder.summary(part)
            if known is None:
                yield part
            else:
                found.append(known)
                report({**known, "known": True})

    for summary in engine.run(job, open_parts()):
        found.append(summary)
        report(summary)
    return sorted(found, key=lambda summary: summary["name"])


def write_tables(engine: Engine, job: BatchJob, summaries: list[Summary]) -> list[Summary]:
    """Write the table of each part, with the columns of all; return the summaries with their sizes and hashes."""
    folder = job.folder
    if folder.format == ".jsonl":
        return summaries
    known = folder.work / "columns.json"  # of a job that was stopped while it wrote tables
    if not known.exists():
        write_json(known, folder.merge_columns(summaries))
    columns = read_json(known)
    written = {each["name"]: each for each in engine.run(job, (TableTask(each["name"], columns) for each in summaries))}
    return [{**each, **written[each["name"]]} for each in summaries]


def record_of(recipe: Recipe, inputs: Inputs, call: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changes an answer of a pipeline."""
    return {
        "task": recipe.task, "model": recipe.model, "columns": list(inputs.columns), "keep": list(inputs.keep),
        "shared": dict(inputs.shared), "options": {**recipe.options, **call},
    }  # fmt: skip


def check_recipe(recipe: Recipe | None, options: BatchOptions) -> None:
    """Raise UnsupportedOption if other processes are asked for, and cannot load the model."""
    if options.workers is not None and recipe is None:
        raise UnsupportedOption(
            "Workers load the model by its name, and this pipeline was made of a model in memory: save it, and make "
            "the pipeline with the name of its folder."
        )
