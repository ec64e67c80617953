"""Progress bars of downloads."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ...consoles import progress


class Downloads:
    """Draws the progress that `hub.resolve` reports; nothing is drawn while nothing is downloaded."""

    def __init__(self, console: Console) -> None:
        self.progress = progress(
            console,
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self.started = False

    def add(self, title: str, size: int) -> Callable[[str, int, int | None], None]:
        """Return a progress callback for one download of about `size` bytes."""
        task = self.progress.add_task(title, total=size, visible=False)

        def show(description: str, done: int, total: int | None) -> None:
            if not self.started:
                self.progress.start()
                self.started = True
            self.progress.update(task, completed=done, total=total or size, visible=True)

        return show

    def __enter__(self) -> Downloads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.started:
            self.progress.stop()
