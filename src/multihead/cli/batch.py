"""`multihead run` on several files, or into a folder: batch jobs of a pipeline, with their progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..consoles import progress, screen
from ..errors import MultiheadError, UnsupportedOption
from ..pipelines.batch_inference.job import Recipe
from ..pipelines.batch_inference.run import Batch, BatchOptions
from ..pipelines.batch_inference.sources import Inputs, estimate_rows, file_items, find_files, is_several
from ..pipelines.catalog import get_task

if TYPE_CHECKING:
    from rich.console import Console

    from ..pipelines.answers import Metadata

LINE_SECONDS = 30.0  # between lines of progress where no bar is drawn


def folder_of(output: str | None, files: Sequence[str], asked: Sequence[str]) -> Path | None:
    """Return the folder of a batch job; None for a run whose output is a file.

    Args:
        asked: options on the command line that only batch jobs have.

    Raises:
        UnsupportedOption, InvalidInput: options that contradict each other.
    """
    is_folder = output is not None and (output.endswith("/") or Path(output).is_dir())
    several = len(files) > 1 or any(map(is_several, files))
    why = f"--{asked[0].replace('_', '-')}" if asked else "a --file that names several files"
    if (asked or several) and not is_folder:
        raise UnsupportedOption(f"{why} needs a folder for the answers: --output NAME/ with a slash at its end.")
    if is_folder and not files:
        raise UnsupportedOption(f"--output {output} is a folder, and only the rows of a --file go into one.")
    return Path(output) if is_folder and output is not None else None


def inputs_of_all(files: Sequence[str], inputs: Inputs) -> Iterator[Any]:
    """Yield the inputs of all rows of some files."""
    found = find_files(list(files) if len(files) > 1 else files[0])
    named = len(files) > 1 or is_several(files[0])
    return chain.from_iterable(file_items(file, inputs, named) for file in found)


def run_batch(batch: Batch) -> None:
    """Run a batch job and tell how far it is. Exits with 1 if no row could be answered."""
    from ..training.signals import Signals

    log = screen(stderr=True)
    with Signals(at_once=True), BatchProgress(log, batch) as shown:
        try:
            manifest = batch.run(shown.report, shown.advance)
        except (KeyboardInterrupt, SystemExit, MultiheadError):
            if batch.output.is_dir():
                text = f"\nStopped. {shown.known + shown.done:,} rows are in finished parts of {batch.output}. "
                log.print(text + "The same command goes on there.", soft_wrap=True)
            raise
    rows, failed = manifest["rows"], manifest["failed"]
    if log.is_terminal or failed:
        text = f"{rows:,} rows in {len(manifest['parts'])} parts of {batch.output}"
        log.print(text + (f" · {failed:,} not answered, see the column error" if failed else ""), soft_wrap=True)
    if rows == failed and rows:
        sys.exit(1)


class BatchProgress:
    """Rows, rows a second and time left: a bar on a terminal, else a line from time to time.

    Attributes:
        known: rows that were answered before. done: rows of parts that are answered now.
    """

    def __init__(self, log: Console, batch: Batch) -> None:
        self.log, self.batch = log, batch
        self.known = self.done = self.ahead = 0
        self.total: int | None = None

    def __enter__(self) -> BatchProgress:
        self.begin = self.said = time.monotonic()
        self.total = estimate_rows(find_files(self.batch.source, self.batch.output))
        self.bar = progress(self.log, *columns(), transient=True) if self.log.is_terminal else None
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(self.batch.recipe.task, total=self.total, rate="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self) -> None:
        """Count a row of a part that is not finished."""
        self.ahead += 1
        self.show()

    def report(self, summary: Mapping[str, Any]) -> None:
        """Count the rows of a part."""
        if summary.get("known"):
            self.known += summary["rows"]
        else:
            self.done, self.ahead = self.done + summary["rows"], 0
        self.show()

    def show(self) -> None:
        """Draw the bar, or print a line if it is time for one."""
        now, new = time.monotonic(), self.done + self.ahead
        rate = new / max(now - self.begin, 1e-9)
        if self.bar is not None:
            self.bar.update(self.task, completed=self.known + new, rate=f"{rate:,.0f} rows/s")
        elif now - self.said >= LINE_SECONDS:
            self.said = now
            self.log.print(progress_line(self.known + new, self.total, rate), soft_wrap=True)


def columns() -> list[Any]:
    """Return the columns of the bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}", markup=False)
    return [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), rate,
            TimeRemainingColumn()]  # fmt: skip


def progress_line(rows: int, total: int | None, rate: float) -> str:
    """Return how far a job is."""
    of = "" if total is None else f" of about {total:,}"
    left = "" if total is None or not rate else f", about {duration((total - rows) / rate)} left"
    return f"{rows:,}{of} rows, {rate:,.0f} rows/s{left}"


def duration(seconds: float) -> str:
    """Return a number of seconds as a person says it."""
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{max(seconds, 0):.0f} s"


def tell_estimate(files: Sequence[str], metadata: Metadata) -> None:
    """Print how long all rows of some files would take at the rate of a few."""
    log, rows, seconds = screen(stderr=True), metadata.inputs, metadata.seconds
    total = estimate_rows(find_files(list(files) if len(files) > 1 else files[0])) if files else None
    rate = rows / seconds if seconds and rows else 0.0
    of = "" if total is None or not rate else f"; about {total:,} rows take {duration(total / rate)}"
    log.print(f"Dry run: {rows} rows in {seconds:.2f} s, {rate:,.1f} rows/s{of}. Nothing was written.", soft_wrap=True)


def make_recipe(task: str, model: str | None, options: Mapping[str, Any]) -> Recipe:
    """Return the arguments of `pipeline` that a command names."""
    return Recipe(task, model, {name: value for name, value in options.items() if value is not None})


def make_batch(
    files: Sequence[str],
    folder: Path,
    inputs: Inputs,
    options: Mapping[str, Any],
    recipe: Recipe,
    record: Mapping[str, Any],
) -> Batch:
    """Return the batch job of a command. `options`: of `BatchOptions`."""
    return Batch(
        source=list(files) if len(files) > 1 else files[0], output=folder, inputs=inputs, recipe=recipe,
        options=BatchOptions(**options), varied=get_task(recipe.task).varied, record=record, pipe=cache(recipe.load),
    )  # fmt: skip
