"""Admission: how many sequences of a model may run and wait; the rest is refused before any memory is taken."""

from __future__ import annotations

from .errors import ApiError

RETRY_AFTER = 1  # seconds; a decode batch of short answers turns over in about this time


class Admission:
    """Counts the sequences of a model that run or wait.

    Args:
        running: sequences of a decode batch. waiting: of the queue behind it.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self.limit, self.running = running + waiting, running
        self.held = 0

    @property
    def num_running(self) -> int:
        return min(self.held, self.running)

    @property
    def num_waiting(self) -> int:
        return max(self.held - self.running, 0)

    def enter(self, count: int = 1) -> Slots:
        """Take places for `count` sequences. Raises ApiError (429) if the queue is full."""
        # an idle model takes any request, even one of more sequences than the limit
        if self.held and self.held + count > self.limit:
            raise ApiError(
                f"The queue of this model is full ({self.num_waiting} sequences wait). Try again later.", 429,
                code="queue_full", headers={"Retry-After": str(RETRY_AFTER)},
            )  # fmt: skip
        return Slots(self, count)


class Slots:
    """Places of one request."""

    def __init__(self, admission: Admission, count: int) -> None:
        self._admission, self._count = admission, count
        admission.held += count

    def release(self) -> None:
        """Give the places back; a second call does nothing."""
        self._admission.held -= self._count
        self._count = 0
