"""A bar for work that lasts: on a terminal, after a moment, and nowhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

PATIENCE = 2.0  # seconds before a bar appears


def shown(answers: Iterator[Any], total: int | None, asked: bool | None, title: str) -> Iterator[Any]:
    """The same answers, with a bar on stderr while they come.

    Args:
        total: how many there will be; None where nobody knows. asked: True draws at once, False never, None when the
            work lasts longer than `PATIENCE` and stderr is a terminal.
    """
    if asked is False or (asked is None and not sys.stderr.isatty()):
        yield from answers
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from ..consoles import progress, screen

    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = progress(screen(stderr=True), *columns)
    work = bar.add_task(title, total=total)
    began, started, count = time.perf_counter(), False, 0
    try:
        for answer in answers:
            count += 1
            if not started and (asked or time.perf_counter() - began > PATIENCE):
                bar.start()
                started = True
            if started:
                bar.update(work, completed=count)
            yield answer
    finally:
        if started:
            bar.stop()
