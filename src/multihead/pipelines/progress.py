"""Progress bar of long calls: on a terminal only, and only after a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

PATIENCE = 2.0  # seconds before a bar appears


def with_progress(answers: Iterator[Any], total: int | None, progress: bool | None, title: str) -> Iterator[Any]:
    """Yield the same answers and draw a bar on standard error.

    Args:
        total: number of answers; None if unknown.
        progress: True draws at once, False never. None draws after `PATIENCE` seconds if standard error is a terminal.
    """
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield from answers
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from .. import consoles

    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = consoles.progress(consoles.screen(stderr=True), *columns)
    work = bar.add_task(title, total=total)
    start, drawn, count = time.perf_counter(), False, 0
    try:
        for answer in answers:
            count += 1
            if not drawn and (progress or time.perf_counter() - start > PATIENCE):
                bar.start()
                drawn = True
            if drawn:
                bar.update(work, completed=count)
            yield answer
    finally:
        if drawn:
            bar.stop()
