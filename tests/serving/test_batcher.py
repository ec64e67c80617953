"""The batcher itself: shares of a pass, cancellation, back-pressure, faults."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from multihead.serving.errors import ApiError
from multihead.serving.models.batcher import Batcher


@dataclass(eq=False)
class Doubled:
    """Doubles numbers; passes wait for `go`, and are written down."""

    go: threading.Event = field(default_factory=threading.Event)
    passes: list[list[int]] = field(default_factory=list)
    single = True

    def __call__(self, inputs: Sequence[int]) -> list[int]:
        self.go.wait(10)
        self.passes.append(list(inputs))
        if -1 in inputs:
            raise RuntimeError("poison")
        return [2 * each for each in inputs]


def run(work: Callable[[Batcher], Any], **options: Any) -> Any:
    """Run a coroutine with a batcher of passes of ten tokens."""

    async def main() -> Any:
        batcher = Batcher(torch.device("cpu"), **{"max_queue": 8, **options})
        batcher.stats.budget = 10
        try:
            return await asyncio.wait_for(work(batcher), 20)
        finally:
            await asyncio.to_thread(batcher.close)

    return asyncio.run(main())


async def begun(batcher: Batcher, forward: Doubled, *requests: Sequence[int]) -> list[asyncio.Task[list[int]]]:
    """Return requests of one token an input that all wait while a first pass holds the thread."""
    tasks = [asyncio.ensure_future(batcher.compute(forward, [100], [1]))]
    for inputs in requests:
        await asyncio.sleep(0.01)
        tasks.append(asyncio.ensure_future(batcher.compute(forward, list(inputs), [1] * len(inputs))))
    await asyncio.sleep(0.05)
    return tasks


def test_a_long_request_does_not_keep_short_ones_waiting():
    async def work(batcher: Batcher) -> None:
        forward = Doubled()
        tasks = await begun(batcher, forward, range(40), [50], [51, 52])
        forward.go.set()
        found = await asyncio.gather(*tasks)
        assert found == [[200], [2 * n for n in range(40)], [100], [102, 104]]
        assert {50, 51, 52} <= set(forward.passes[1])
        assert all(len(each) <= 10 for each in forward.passes)
        assert batcher.stats.texts == batcher.stats.tokens == 44
        assert batcher.stats.batches == len(forward.passes) == 6

    run(work)


def test_other_passes_come_in_between():
    async def work(batcher: Batcher) -> None:
        first, second = Doubled(), Doubled()
        second.go.set()
        ended: list[str] = []
        tasks = await begun(batcher, first, range(40))
        other = asyncio.ensure_future(batcher.compute(second, [7], [1]))
        tasks[1].add_done_callback(lambda _: ended.append("long"))
        other.add_done_callback(lambda _: ended.append("short"))
        await asyncio.sleep(0.02)
        first.go.set()
        await asyncio.gather(*tasks, other)
        assert ended == ["short", "long"]

    run(work)


def test_an_input_longer_than_a_pass_is_computed_alone():
    async def work(batcher: Batcher) -> None:
        forward = Doubled()
        forward.go.set()
        assert await batcher.compute(forward, [1, 2, 3], [5, 99, 5]) == [2, 4, 6]
        assert forward.passes == [[2], [1, 3]]

    run(work)


def test_a_fault_ends_its_own_request_only():
    async def work(batcher: Batcher) -> None:
        forward = Doubled()
        tasks = await begun(batcher, forward, [1], [-1], [2])
        forward.go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [found[0], found[1], found[3]] == [[200], [2], [4]]
        assert isinstance(found[2], RuntimeError)

    run(work)


def test_what_is_cancelled_is_not_computed():
    async def work(batcher: Batcher) -> None:
        forward = Doubled()
        tasks = await begun(batcher, forward, range(30), [50])
        tasks[1].cancel()
        await asyncio.sleep(0.02)
        forward.go.set()
        assert await tasks[2] == [100]
        assert forward.passes == [[100], [50]]

    run(work)


def test_a_full_queue_refuses_before_anything_is_done():
    async def work(batcher: Batcher) -> None:
        with batcher.admit(60):
            with batcher.admit(30):
                for characters in (1, 11):  # too many requests, too many characters
                    with pytest.raises(ApiError, match="2 requests wait") as refused, batcher.admit(characters):
                        pass
                    assert refused.value.status == 429
                    assert refused.value.headers["Retry-After"]
            with pytest.raises(ApiError), batcher.admit(50):
                pass
            with batcher.admit(40):
                pass
        with batcher.admit(1000):  # one alone is never too large for the queue
            pass
        assert batcher.stats.waiting == 0

    run(work, max_queue=2, characters=100)


def test_a_closed_batcher_refuses_what_waits():
    async def work(batcher: Batcher) -> None:
        forward = Doubled()
        tasks = await begun(batcher, forward, [1])
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.02)
        forward.go.set()
        await closing
        assert await tasks[0] == [200]
        with pytest.raises(ApiError, match="unloaded"):
            await tasks[1]
        with pytest.raises(ApiError, match="unloaded"):
            await batcher.compute(forward, [1], [1])

    run(work)
