"""The count of rows while a command runs, and the summary at its end. Both go to standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ... import consoles
from ...pipelines.answers import Metadata


@contextmanager
def row_counter(console: Console, title: str, first: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that counts one more row on a bar; the bar starts at `first`, and none is drawn if `quiet`."""
    if quiet:
        yield lambda: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with consoles.progress(console, *columns, transient=True) as bar:
        work = bar.add_task(title, total=None, completed=first)
        yield lambda: bar.advance(work)


def summary(console: Console, metadata: Metadata, failed: int, output: Path | None) -> None:
    """Print the model, precision, device, rate and failures, unless no row failed and the console is no terminal."""
    if not console.is_terminal and not failed:
        return
    rate = f"{metadata.inputs / metadata.seconds:,.1f}/s" if metadata.seconds else ""
    answered = f"{metadata.inputs} answered in {metadata.seconds:.2f} s ({rate})"
    model = metadata.model.partition("#sha256=")[0] + (f" with {metadata.adapter}" if metadata.adapter else "")
    parts: list[Any] = [model, metadata.precision, metadata.device, answered, f"{metadata.tokens:,} tokens read"]
    if failed:
        parts.append((f"{failed} not answered", "red"))
    if output is not None:
        parts.append(f"in {output}")
    console.print(Text(" · ", style="dim").join(map(Text.assemble, parts)))
