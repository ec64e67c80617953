"""Batches over the requests of a server: model inputs of many requests share forward passes under a token budget."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ...runtime.turns import turn
from ...token_batches import budget
from ..errors import ApiError
from ..request_info import current_request

T = TypeVar("T")
CHARACTERS = 64 << 20  # of all waiting requests: their tokens take about ten times as many bytes
RETRY_AFTER = "1"  # seconds: a queue of passes moves fast


class ForwardPass(Protocol):
    """One way to compute model inputs. Inputs of several requests share a pass if their ForwardPasses are equal."""

    @property
    def single(self) -> bool:
        """True if one call is one pass of the model, so that the batcher may hold the device's turn for it."""
        ...

    def __call__(self, inputs: Sequence[Any], /) -> Sequence[Any]:
        """Return the output of each input."""
        ...


@dataclass
class BatchStats:
    """Work that a batcher has done.

    Args:
        batches: forward passes. texts, tokens: model inputs in them. budget: tokens of a pass at most.
        seconds: time of all passes. waiting: requests that wait or run. characters: of these requests.
    """

    budget: int
    batches: int = 0
    texts: int = 0
    tokens: int = 0
    seconds: float = 0.0
    waiting: int = 0
    characters: int = 0


@dataclass
class Times:
    """Seconds of the parts of a request."""

    tokenization: float = 0.0
    queue: float = 0.0
    inference: float = 0.0


@dataclass(eq=False)
class Job:
    """Model inputs of one request.

    Attributes:
        lengths: tokens of each input. taken: number of inputs that have been in a pass.
        begun: time of the first pass.
    """

    forward: ForwardPass
    inputs: Sequence[Any]
    lengths: Sequence[int]
    future: Future[list[Any]] = field(default_factory=Future)
    outputs: list[Any] = field(default_factory=list)
    taken: int = 0
    begun: float = 0.0

    def take(self, room: int, least: int = 0) -> tuple[int, int]:
        """Take the next inputs that fit `room` tokens, `least` in any case. Returns their number and tokens."""
        first, tokens = self.taken, 0
        while self.taken < len(self.inputs):
            length = self.lengths[self.taken]
            if tokens + length > room and self.taken - first >= least:
                break
            tokens += length
            self.taken += 1
        return self.taken - first, tokens


@dataclass
class Batch:
    """Inputs of one pass: jobs with the number of their inputs, which follow those of the passes before."""

    parts: list[tuple[Job, int]] = field(default_factory=list)
    tokens: int = 0

    @property
    def texts(self) -> int:
        return sum(count for _, count in self.parts)


class Batcher:
    """Computes the model inputs of many requests in shared forward passes, in a thread of its own.

    Requests that can share a pass get equal shares of its tokens; what some of them leave goes to the first ones. A
    request whose inputs did not all fit waits behind the others. So a long request does not keep short ones waiting.

    Args:
        device: of the model (torch.device). max_queue: requests that wait at most. characters: of their texts at most.
    """

    def __init__(self, device: Any, *, max_queue: int, characters: int = CHARACTERS) -> None:
        self.max_queue, self.characters = max_queue, characters
        self.stats = BatchStats(budget(device))
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="multihead-tokenize")
        self._thread = threading.Thread(target=self._main, name="multihead-batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """True while requests are computed."""
        return self._thread.is_alive()

    @contextmanager
    def admit(self, characters: int) -> Iterator[None]:
        """Count a request while it waits and runs. Raises ApiError if too many do."""
        stats = self.stats
        full = stats.waiting >= self.max_queue or (stats.waiting and stats.characters + characters > self.characters)
        if full:
            raise ApiError(
                f"{stats.waiting} requests wait for this model already. Try again later.", 429, code="queue_full",
                headers={"Retry-After": RETRY_AFTER},
            )  # fmt: skip
        stats.waiting += 1
        stats.characters += characters
        try:
            yield
        finally:
            stats.waiting -= 1
            stats.characters -= characters

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return the result of tokenization and the like, computed in a thread."""
        return await asyncio.wrap_future(self._pool.submit(work))

    async def compute(
        self, forward: ForwardPass, inputs: Sequence[Any], lengths: Sequence[int], times: Times | None = None
    ) -> list[Any]:
        """Return the output of each input. Raises what the forward pass raises; cancelling leaves out what remains."""
        if not inputs:
            return []
        if (request := current_request()) is not None:
            request.prompt_tokens += sum(lengths)
        # longest first, as `token_batches.batches` does: sequences of a pass have similar lengths
        order = sorted(range(len(inputs)), key=lambda number: -lengths[number])
        job = Job(forward, [inputs[number] for number in order], [lengths[number] for number in order])
        start = time.perf_counter()
        with self._changed:
            if self._closed:
                raise unloaded()
            self._jobs.append(job)
            self._changed.notify()
        found = await asyncio.wrap_future(job.future)
        if times is not None:
            times.queue = job.begun - start
            times.inference = time.perf_counter() - job.begun
        outputs: list[Any] = [None] * len(inputs)
        for number, output in zip(order, found, strict=True):
            outputs[number] = output
        return outputs

    def close(self) -> None:
        """End the threads; requests that wait fail."""
        self._refuse_all()
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _refuse_all(self) -> None:
        with self._changed:
            self._closed = True
            left, self._jobs = self._jobs, []
            self._changed.notify()
        for job in left:
            settle(job, error=unloaded())

    def _main(self) -> None:
        try:
            while (forward := self._wait()) is not None:
                # The batch is filled when the device is free, so that requests that came meanwhile are in it.
                with turn() if forward.single else nullcontext():
                    batch = self._fill()
                    if batch.parts:
                        self._run(batch)
        finally:
            self._refuse_all()  # no request may wait for a thread that has ended

    def _wait(self) -> ForwardPass | None:
        """Return how the next batch is computed, or None at the end."""
        with self._changed:
            while not self._closed:
                self._jobs = [job for job in self._jobs if not job.future.cancelled()]
                if self._jobs:
                    return self._jobs[0].forward
                self._changed.wait()
        return None

    def _fill(self) -> Batch:
        """Take the inputs of the next pass: those of the first job, and of all that can share its pass."""
        batch = Batch()
        with self._changed:
            jobs = [job for job in self._jobs if not job.future.cancelled()]
            if not jobs:
                return batch
            sharing = [job for job in jobs if job.forward == jobs[0].forward]
            share = self.stats.budget // len(sharing)
            counts = dict.fromkeys(sharing, 0)
            for room in (share, self.stats.budget):
                for job in sharing:
                    count, tokens = job.take(min(room, self.stats.budget - batch.tokens), least=not batch.tokens)
                    counts[job] += count
                    batch.tokens += tokens
            batch.parts = [(job, count) for job, count in counts.items() if count]
            served = {job for job, _ in batch.parts}
            unfinished = [job for job, _ in batch.parts if job.taken < len(job.inputs)]
            self._jobs = [*(job for job in jobs if job not in served), *unfinished]
        return batch

    def _run(self, batch: Batch) -> None:
        begin = time.perf_counter()
        for job, _ in batch.parts:
            job.begun = job.begun or begin
        self._forward(batch.parts)
        stats = self.stats
        stats.batches += 1
        stats.texts += batch.texts
        stats.tokens += batch.tokens
        stats.seconds += time.perf_counter() - begin

    def _forward(self, parts: Sequence[tuple[Job, int]]) -> None:
        """Compute a pass. If it fails for several jobs, each is computed alone, so that one fails alone."""
        inputs = [each for job, count in parts for each in job.inputs[job.taken - count : job.taken]]
        try:
            outputs = list(parts[0][0].forward(inputs))
        except Exception as error:
            if len(parts) > 1:
                for part in parts:
                    self._forward([part])
                return
            self._fail(parts[0][0], error)
            return
        begin = 0
        for job, count in parts:
            job.outputs += outputs[begin : begin + count]
            begin += count
            if len(job.outputs) == len(job.inputs):
                settle(job)

    def _fail(self, job: Job, error: Exception) -> None:
        with self._changed:
            self._jobs = [each for each in self._jobs if each is not job]
        settle(job, error=error)


def settle(job: Job, error: Exception | None = None) -> None:
    """Give a job's request its outputs or its error, if it still waits."""
    if job.future.done() or not job.future.set_running_or_notify_cancel():
        return
    if error is not None:
        job.future.set_exception(error)
    else:
        job.future.set_result(job.outputs)


def unloaded() -> ApiError:
    return ApiError(
        "The model has been unloaded. Send the request again.", 503, code="model_unloaded",
        headers={"Retry-After": RETRY_AFTER},
    )  # fmt: skip
