"""Reads the texts of many requests together, one ragged pass a step.

A request's strategy is a generator: it yields what it wants read, a list of `Read`, and is sent a `Reading` for each.
In between it may append tokens to its branches, fork them, cut them back and close them. The engine knows nothing else
of a strategy, and a strategy nothing of other requests: what comes out does not depend on what else is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InvalidInput, MemoryFull
from ..kernels.sight import Runs
from ..nn.blocks import Budget
from ..nn.cache import Cache, Store
from ..nn.call import Encoded, Record
from ..nn.memories import Memory

TOKENS = 2048  # most tokens of a pass, unless one wish needs more


class Decoder(Protocol):
    """What this room needs of a model."""

    @property
    def device(self) -> torch.device: ...

    def memories(self) -> list[Memory]:
        """An empty memory a layer."""

    def read(
        self, ids: Tensor, runs: Runs, memory: Cache, wanted: Sequence[int], record: Record | None = None
    ) -> tuple[Tensor, Tensor]:
        """Reads ids (tokens,) into a cache: scores (rows, vocabulary) of what follows, and last states (rows, width).

        Args:
            wanted: a row for each of the last so many tokens of each text. record: gets what is seen on the way.
        """


class Branch:
    """One way that a request's text goes on: its tokens, prompt included, and what is remembered of them."""

    def __init__(self, request: Request, tokens: Sequence[int], encoded: Encoded | None) -> None:
        self.request, self.tokens, self.encoded = request, list(tokens), encoded
        self.text = request.engine.store.begin(request.seed)
        self.twin: Branch | None = None  # goes the same way from another prompt (guidance)
        self.open = True
        request.branches.append(self)

    @property
    def left(self) -> int:
        """Tokens that are still to be read."""
        return len(self.tokens) - self.text.length

    def append(self, *tokens: int) -> None:
        self.tokens.extend(tokens)
        if self.twin is not None:
            self.twin.append(*tokens)

    def fork(self) -> Branch:
        """Another branch with the same tokens; what is remembered is shared until one of them writes."""
        other = object.__new__(Branch)
        other.request, other.tokens, other.encoded = self.request, list(self.tokens), self.encoded
        other.text, other.open = self.text.fork(), True
        other.twin = None if self.twin is None else self.twin.fork()
        self.request.branches.append(other)
        return other

    def crop(self, length: int) -> None:
        """Drops all tokens after the first `length`; what a layer cannot forget is read again."""
        del self.tokens[length:]
        if self.text.length > length:
            try:
                self.text.crop(length)
            except InvalidInput:
                self.restart()

    def restart(self) -> None:
        """Forgets all that is remembered; the tokens are read again."""
        expected = self.text.expected
        self.text.free()
        self.text = self.request.engine.store.begin(self.request.seed)
        self.text.expected = expected

    def close(self) -> None:
        """Ends the branch; its blocks are free."""
        if self.open:
            self.open = False
            self.text.free()
            self.request.branches.remove(self)
            if self.twin is not None:
                self.twin.close()


@dataclass
class Read:
    """A wish: that all tokens of a branch be read, and what follows each of the last `wanted`.

    Args:
        record: is filled by the pass that reads the last of them.
    """

    branch: Branch
    wanted: int = 1
    record: Record | None = None


@dataclass(frozen=True)
class Reading:
    """What a wish gave: scores (wanted, vocabulary) of what follows, float32, and last states (wanted, width)."""

    scores: Tensor
    states: Tensor


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

    def branch(self, tokens: Sequence[int], encoded: Encoded | None = None) -> Branch:
        """A new branch, of which nothing is read but what other requests have read of the same beginning."""
        made = Branch(self, tokens, encoded)
        made.text.expected = self.size
        made.text.adopt(made.tokens)
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

    def __init__(self, model: Decoder, *, memory: int | None = None, tokens: int = TOKENS, branches: int = 256) -> None:
        self.model, self.tokens, self.most = model, tokens, branches
        probe = None if memory is None else self._probe()
        self.store = Store(model.memories(), Budget(memory), probe)
        if self.store.bound:
            raise InvalidInput("This family remembers its last tokens alone and cannot continue texts here.")
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._joined: tuple[list[Encoded | None], Encoded] | None = None

    def submit(self, start: Callable[[Request], Strategy], *, size: int, width: int = 1, seed: bytes = b"") -> Request:
        """Queues a request, as `Request` says.

        Raises:
            MemoryFull: it could not be finished with all of the memory.
        """
        need = width * self.store.bytes_for(size)
        if self.store.budget.total is not None and need > self.store.budget.total:
            raise MemoryFull(
                f"{width} texts of up to {size} tokens need {need} bytes to be remembered, and the memory has "
                f"{self.store.budget.total}. Give the engine more memory, or the request a smaller max_new_tokens."
            )
        request = Request(self, start, size=size, width=width, seed=seed)
        self.waiting.append(request)
        return request

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def run(self) -> None:
        """Steps until nothing is left to do."""
        while self.busy:
            self.step()

    def step(self) -> None:
        """Admits, reads one pass, and lets the strategies go on."""
        self._admit()
        work = self._chosen()
        if not work:
            return
        for read, reading in self._read(work):
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
        """Whether what is to be read first has room beside one block more for every running branch."""
        length = max((len(branch.tokens) for branch in request.branches), default=1)
        running = sum(len(r.branches) for r in self.running)
        return self.store.bytes_for(length) + running * self.store.bytes_for(1) <= self.store.room

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

    def _chosen(self) -> list[tuple[Read, int]]:
        """What the next pass reads, and how many tokens of it; short wishes first, then the longest-waiting."""
        wishes = [read for r in self.running for read in r.reads if id(read) not in r.readings]
        wishes.sort(key=lambda read: read.branch.left > read.wanted)  # stable: order of admission
        work: list[tuple[Read, int]] = []
        free = self.tokens
        for read in wishes:
            left = read.branch.left
            part = left if left <= free or (not work and left <= read.wanted) else min(free, left - read.wanted)
            if part <= 0 or read.branch.request.done or not self._prepared(read.branch, part, work):
                continue
            work.append((read, part))
            free -= part
        return [(read, part) for read, part in work if read.branch.request in self.running]

    def _prepared(self, branch: Branch, new: int, work: list[tuple[Read, int]]) -> bool:
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

    def _read(self, work: list[tuple[Read, int]]) -> Iterator[tuple[Read, Reading]]:
        """One pass; what it gave for each wish that is read to its end."""
        parts = [read.branch.tokens[read.branch.text.length :][:new] for read, new in work]
        wanted = [read.wanted if new == read.branch.left else 0 for read, new in work]
        cache = Cache(self.store, [read.branch.text for read, _ in work], self._source(work))
        runs = Runs.of(tuple(map(len, parts)))
        ids = torch.tensor([token for part in parts for token in part], device=self.model.device)
        record = Record(hidden=[], attentions=[], cross_attentions=[]) if any(r.record for r, _ in work) else None
        with torch.inference_mode():
            scores, states = self.model.read(ids, runs, cache, wanted, record)
        scores = scores.float()
        row = 0
        for text, (read, _) in enumerate(work):
            read.branch.text.publish(read.branch.tokens)
            if wanted[text]:
                rows = slice(row, row + wanted[text])
                if read.record is not None and record is not None:
                    copied(record, read.record, runs, text)
                yield read, Reading(scores[rows], states[rows])
                row += wanted[text]

    def _source(self, work: list[tuple[Read, int]]) -> Encoded | None:
        """The encoded sources of a pass as one, kept while the same ones come."""
        parts = [read.branch.encoded for read, _ in work]
        if parts[0] is None:
            return None
        known = self._joined
        if known is None or list(map(id, known[0])) != list(map(id, parts)):
            self._joined = known = parts, Encoded.joined([part for part in parts if part is not None])
        return known[1]

    def _probe(self) -> Store:
        """A store that has read one token, for the sizes of what is remembered."""
        store = Store(self.model.memories())
        ids = torch.zeros(1, dtype=torch.long, device=self.model.device)
        with torch.inference_mode():
            self.model.read(ids, Runs.of((1,)), Cache(store, [store.begin()]), [0], None)
        return store


def copied(seen: Record, wish: Record, runs: Runs, text: int) -> None:
    """One text's share of what a pass showed."""
    begin = runs.begins[text]
    rows = slice(begin, begin + runs.lengths[text])
    if wish.hidden is not None and seen.hidden is not None:
        wish.hidden.extend(x[rows] for x in seen.hidden)
    for mine, all_ in ((wish.attentions, seen.attentions), (wish.cross_attentions, seen.cross_attentions)):
        if mine is not None and all_ is not None:
            mine.extend([layer[text]] for layer in all_)
