"""Reads the texts of many requests together, one ragged pass a step.

A request's strategy is a generator: it yields what it wants read, a list of `Read`, and is sent a `Reading` for each.
In between it may append tokens to its branches, fork them, cut them back and close them. The engine knows nothing else
of a strategy, and a strategy nothing of other requests: what comes out does not depend on what else is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence

from ...errors import MemoryFull
from ...nn.cache.block_pool import Budget
from ...nn.cache.store import Store
from ...nn.forward_context import EncoderOutput
from ...nn.modes import evaluating
from .sequence import Branch, Decoder, Read, Reader, Reading

TOKENS = 2048  # most tokens of a pass, unless the last wish needs more at once
BRANCHES = 256  # most branches that run at once

Strategy = Generator[list[Read], list[Reading], None]


class Request:
    """What somebody wants generated.

    Args:
        start: makes the strategy, once the request is admitted.
        size: most tokens of a branch. width: most branches at once.
        seed: what else than tokens decides what is remembered (an encoded source), for sharing.
    """

    def __init__(
        self, engine: Engine, start: Callable[[Request], Strategy], *, size: int, width: int = 1, seed: bytes = b""
    ) -> None:
        self.engine, self.start, self.size, self.width, self.seed = engine, start, size, width, seed
        self.branches: list[Branch] = []
        self.error: BaseException | None = None
        self.done = False
        self.strategy: Strategy | None = None
        self.reads: list[Read] = []
        self.readings: dict[int, Reading] = {}

    def branch(
        self, tokens: Sequence[int], encoder_output: EncoderOutput | None = None, model: Decoder | None = None
    ) -> Branch:
        """A new branch, of which nothing is read; what others have read of the same beginning is found in time.

        Args:
            model: reads it, where that is not the engine's own.
        """
        made = Branch(self, self.engine.reader(model), tokens, encoder_output)
        made.text.expected = self.size
        return made

    def cancel(self) -> None:
        """Ends the request where it stands."""
        self.engine.finish(self)


class Engine:
    """Schedules requests over one model.

    Args:
        memory: bytes for what is remembered; None is without limit.
        tokens: most tokens of a pass. branches: most branches that run at once.
    """

    def __init__(
        self, model: Decoder, *, memory: int | None = None, tokens: int = TOKENS, branches: int = BRANCHES
    ) -> None:
        self.tokens, self.most = tokens, branches
        self.readers = [Reader.of(model, Budget(memory))]
        self.budget = self.readers[0].store.budget
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    @property
    def store(self) -> Store:
        """What is remembered of the model's own texts."""
        return self.readers[0].store

    def reader(self, model: Decoder | None = None) -> Reader:
        """Who reads for a model: the engine's own, or another that helps (a draft)."""
        if model is None:
            return self.readers[0]
        known = next((reader for reader in self.readers if reader.model is model), None)
        if known is None:
            known = Reader(model, self.budget)
            self.readers.append(known)
        return known

    def submit(self, start: Callable[[Request], Strategy], *, size: int, width: int = 1, seed: bytes = b"") -> Request:
        """Queues a request, as `Request` says.

        Raises:
            MemoryFull: it could not be finished with all of the memory.
        """
        need = width * self.store.bytes_for(size)
        if self.budget.total is not None and need > self.budget.total:
            raise MemoryFull(
                f"{width} texts of up to {size} tokens need {need} bytes to be remembered, and the memory has "
                f"{self.budget.total}. Give the engine more memory, or the request a smaller max_new_tokens."
            )
        request = Request(self, start, size=size, width=width, seed=seed)
        self.waiting.append(request)
        return request

    def close(self) -> None:
        """Ends what still runs; the model may keep what was recorded."""
        for request in [*self.running, *self.waiting]:
            self.finish(request)
        self.readers[0].keep()

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def run(self) -> None:
        """Steps until nothing is left to do."""
        while self.busy:
            self.step()

    def step(self) -> None:
        """Admits, reads a pass for each model, and lets the strategies go on; no model draws dropout meanwhile."""
        with evaluating(*(reader.model for reader in self.readers if getattr(reader.model, "training", False))):
            self._step()

    def _step(self) -> None:
        self._admit()
        for reader in self.readers:
            if work := self._chosen(reader):
                for read, reading in reader.read(work):
                    read.branch.request.readings[id(read)] = reading
        for request in list(self.running):
            if request.reads and all(id(read) in request.readings for read in request.reads):
                self._go_on(request, [request.readings[id(read)] for read in request.reads])

    def finish(self, request: Request, error: BaseException | None = None) -> None:
        """Ends a request, and frees all that is remembered of it."""
        if request.done:
            return
        request.done, request.error = True, error
        if request.strategy is not None:
            request.strategy.close()
        for branch in list(request.branches):
            branch.close()
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)

    def _admit(self) -> None:
        """Starts waiting requests, in their order, while there is room."""
        while self.waiting:
            request = self.waiting[0]
            used = sum(max(r.width, len(r.branches)) for r in self.running)
            if self.running and (used + request.width > self.most or not self._fits(request)):
                return
            self.waiting.popleft()
            self.running.append(request)
            if request.strategy is None:
                request.strategy = request.start(request)
                self._go_on(request, None)

    def _fits(self, request: Request) -> bool:
        """Whether what is to be read first has room beside one block more for every running branch.

        States, which cannot be taken away again, are counted for all branches that there will be.
        """
        length = max((len(branch.tokens) for branch in request.branches), default=1)
        running = sum(len(r.branches) for r in self.running)
        states = sum(max(r.width - len(r.branches), 0) for r in [*self.running, request]) * self.store.slot_size
        return self.store.bytes_for(length) + running * self.store.bytes_for(1) + states <= self.store.room

    def _go_on(self, request: Request, readings: list[Reading] | None) -> None:
        """Sends a strategy what it asked for, and notes what it asks for next."""
        assert request.strategy is not None
        request.readings = {}
        try:
            request.reads = next(request.strategy) if readings is None else request.strategy.send(readings)
            if not request.reads:
                raise RuntimeError("A strategy asked for nothing to be read.")
        except StopIteration:
            self.finish(request)
        except Exception as error:
            self.finish(request, error)

    def _chosen(self, reader: Reader) -> list[tuple[Read, int]]:
        """What the next pass reads, and how many tokens of it; short wishes first, then the longest-waiting."""
        wishes = [read for r in self.running for read in r.reads if id(read) not in r.readings]
        wishes = [read for read in wishes if read.branch.reader is reader]
        wishes.sort(key=lambda read: read.branch.left > read.rows)  # stable: order of admission
        work: list[tuple[Read, int]] = []
        free, begun = self.tokens, set[object]()
        for read in wishes:
            if read.branch.request not in self.running:  # it gave its blocks up for one before
                continue
            read.branch.text.turn(len(read.branch.tokens))
            if read.branch.text.length == 0 and read.record is None and reader.store.shares:
                head = read.branch.adopt(read.rows)
                if head in begun:  # read once: the next step finds it remembered
                    continue
                begun |= {head} - {None}
            left = read.branch.left
            part = left if left <= free or (free > 0 and left <= read.rows) else min(free, left - read.rows)
            if part <= 0 or not self._prepared(read.branch, part):
                continue
            work.append((read, part))
            free -= part
        return [(read, part) for read, part in work if read.branch.request in self.running]

    def _prepared(self, branch: Branch, new: int) -> bool:
        """Takes blocks for a branch's next tokens; where there are none, the last request gives up its own."""
        while True:
            try:
                branch.text.prepare(new)
                return True
            except MemoryFull as error:
                last = self.running[-1]
                if last is branch.request:
                    if len(self.running) == 1:
                        self.finish(last, error)
                    else:
                        self._preempt(last)
                    return False
                self._preempt(last)

    def _preempt(self, request: Request) -> None:
        """Puts a request back; its tokens are read again when it is its turn."""
        self.running.remove(request)
        self.waiting.appendleft(request)
        for branch in request.branches:
            branch.restart()
