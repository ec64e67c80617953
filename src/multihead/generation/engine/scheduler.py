"""Continuous batching: each step runs one forward pass over sequences of many requests.

A request's strategy is a generator: it yields the forward passes that it needs, a list of `ForwardRequest`, and is sent
a `ForwardResult` for each. In between it may append tokens to its sequences, fork them, crop them and close them. The
engine knows nothing else of a strategy, and a strategy nothing of other requests: a request's result does not depend on
what else is in its batches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

from ...adapters.switch import AdapterSwitch
from ...errors import MemoryFull
from ...nn.cache.block_pool import MemoryBudget
from ...nn.cache.store import KVCacheManager
from ...nn.modes import evaluating
from ...runtime.runner import DecoderModel, DecodeRunner
from ...runtime.turns import turn
from .model_runner import ModelRunner
from .sequence import MIN_PREFILL, ForwardRequest, ForwardResult, GenerationSequence, Request, Strategy

T = TypeVar("T")
MAX_TOKENS = 2048  # of one forward pass; a request that needs more in one pass may exceed it
MAX_SEQUENCES = 256  # running sequences
FIRST_PART, MIN_PART = 256, 128  # tokens of a prompt that are read beside growing texts: at first, and at least


class PrefillPace:
    """Size of the parts in which prompts are read beside growing texts, by the measured speed of passes.

    Args:
        most: tokens of a pass. stall: seconds that it may take; None for no limit.
    """

    def __init__(self, most: int, stall: float | None) -> None:
        self.most, self.stall = most, stall
        self.tokens = most if stall is None else min(FIRST_PART, most)

    def add(self, tokens: int, seconds: float) -> None:
        """Note how long a pass over some tokens took."""
        # a small pass costs more a token than a large one, and would make the next part smaller still
        if self.stall is None or tokens < MIN_PART:
            return
        fits = int(self.stall * tokens / max(seconds, 1e-6))
        # at most twice as many: one pass may have been fast by chance
        self.tokens = max(MIN_PART, min(fits, 2 * max(tokens, self.tokens), self.most))


@dataclass
class EngineStatistics:
    """Counts since the engine began.

    Args:
        prefix_queries: prompt tokens of requests whose cache may be shared. prefix_hits: those of them that were.
        preemptions: requests that lost their cache blocks to others. steps: forward passes. tokens: that they read.
    """

    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    steps: int = 0
    tokens: int = 0


class Engine:
    """Schedules requests over one model.

    Args:
        memory: bytes of the KV cache; None for no limit.
        max_tokens: tokens of one forward pass. max_sequences: running sequences.
        stall: seconds that running texts may wait while a part of a prompt is read; None: prompts are read in passes
            of `max_tokens`.
    """

    def __init__(
        self,
        model: DecoderModel,
        *,
        memory: int | None = None,
        max_tokens: int = MAX_TOKENS,
        max_sequences: int = MAX_SEQUENCES,
        stall: float | None = None,
    ) -> None:
        self.max_tokens, self.max_sequences = max_tokens, max_sequences
        self.pace = PrefillPace(max_tokens, stall)
        self.model_runners = [ModelRunner(model, MemoryBudget(memory))]
        self.budget = self.store.budget
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.statistics = EngineStatistics()
        self._switch: AdapterSwitch | None = None
        self._turns: list[str | None] = []  # adapters in the order of their last passes

    @property
    def store(self) -> KVCacheManager:
        """The KV cache of the engine's own model."""
        return self.model_runners[0].store

    def runner(self, model: DecoderModel | None = None) -> DecodeRunner:
        """Return the decode runner of a model: the engine's own, or a draft model."""
        if model is None:
            return self.model_runners[0].runner
        known = next((each for each in self.model_runners if each.model is model), None)
        if known is None:
            known = ModelRunner(model, self.budget)
            self.model_runners.append(known)
        return known.runner

    def submit(
        self,
        start: Callable[[Request], Strategy],
        *,
        max_tokens: int,
        max_sequences: int = 1,
        cache_salt: bytes = b"",
        adapter: str | None = None,
        drafts: Sequence[DecoderModel] = (),
    ) -> Request:
        """Queue a request and return it. The arguments are those of `Request`.

        Args:
            drafts: other models that the request opens a sequence of.

        Raises:
            MemoryFull: the request needs more than the whole KV cache.
        """
        # the most that it can need, so that a request that runs alone always ends
        need = max_sequences * self.store.bytes_for(max_tokens)
        need += sum(self.runner(draft).store.bytes_for(max_tokens) for draft in drafts)
        if self.budget.total is not None and need > self.budget.total:
            raise MemoryFull(
                f"{max_sequences} texts of up to {max_tokens} tokens need {need} bytes of KV cache, and the "
                f"engine has {self.budget.total}. Give the engine more memory, or the request a smaller max_new_tokens."
            )
        request = Request(
            self, start, max_tokens=max_tokens, max_sequences=max_sequences, cache_salt=cache_salt, adapter=adapter
        )
        self.waiting.append(request)
        return request

    def close(self) -> None:
        """End all requests. The model may keep its runner for the next use."""
        for request in [*self.running, *self.waiting]:
            self.finish(request)
        self.model_runners[0].close()

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def cache_usage(self) -> float:
        """Share of the KV cache that sequences use, 0 to 1; 0 without a limit."""
        total, store = self.budget.total, self.store
        idle = sum(pool.size * pool.idle for pool in store.pools.values())
        return (self.budget.used - idle) / total if total else 0.0

    def run(self) -> None:
        """Step until no request is left."""
        while self.busy:
            self.step()

    def step(self) -> None:
        """Admit requests, run a pass for each model, and resume strategies; models are in evaluation mode meanwhile."""
        with turn(), evaluating(*(r.model for r in self.model_runners if getattr(r.model, "training", False))):
            self._step()

    def change_model(self, change: Callable[[], T]) -> T:
        """Call a function that changes the model's layers or adapters; requests go on with the changed model.

        All cached keys and values are dropped, and running texts are read again.
        """
        for request in reversed(list(self.running)):  # so that the oldest becomes the first in the queue again
            self._preempt(request)
        model, total = self.model_runners[0].model, self.budget.total
        try:
            return change()
        finally:
            self.model_runners, self._switch = [ModelRunner(model, MemoryBudget(total))], None
            self.budget = self.store.budget
            for request in self.waiting:
                for sequence in request.sequences:
                    sequence.move()

    def _step(self) -> None:
        self._admit()
        adapter = self._next_adapter()
        with nullcontext() if adapter is None else self._adapters().using(adapter):
            self._forward(adapter)
        for request in list(self.running):  # a copy, since a request that ends leaves the list
            if request.pending and all(id(forward) in request.results for forward in request.pending):
                self._resume(request, [request.results[id(forward)] for forward in request.pending])

    def _next_adapter(self) -> str | None:
        """Return the adapter of the next pass: those of running requests take turns."""
        present = list(dict.fromkeys(request.adapter for request in self.running))
        if len(present) < 2:
            return present[0] if present else None
        self._turns = [name for name in self._turns if name in present]
        chosen = next((name for name in present if name not in self._turns), self._turns[0] if self._turns else None)
        self._turns = [*(name for name in self._turns if name != chosen), chosen]  # the last one had its turn now
        return chosen

    def _adapters(self) -> AdapterSwitch:
        if self._switch is None:
            self._switch = AdapterSwitch(self.model_runners[0].model)
        return self._switch

    def _forward(self, adapter: str | None) -> None:
        """Run the passes of each model over the requests with an adapter."""
        for runner in self.model_runners:
            if work := self._schedule(runner, adapter):
                new = sum(new for _, new in work)
                self.statistics.steps += 1
                self.statistics.tokens += new
                begin = time.perf_counter()
                for forward, result in runner.forward(work):
                    # by identity, since a dataclass with fields that change has no hash
                    forward.sequence.request.results[id(forward)] = result
                self.pace.add(new, time.perf_counter() - begin)

    def finish(self, request: Request, error: BaseException | None = None) -> None:
        """End a request, and free its cache blocks."""
        if request.done:
            return
        request.done, request.error = True, error
        if request.strategy is not None:
            request.strategy.close()
        for sequence in list(request.sequences):
            sequence.close()
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)

    def _admit(self) -> None:
        """Start waiting requests, first come first served, while there is room."""
        while self.waiting:
            request = self.waiting[0]
            # counts what a request may open, so that a strategy never waits for room in the middle
            used = sum(max(r.max_sequences, len(r.sequences)) for r in self.running)
            full = used + request.max_sequences > self.max_sequences
            # a request alone is always admitted, else it could never run
            if self.running and (full or not self._fits(request)):
                return
            self.waiting.popleft()
            self.running.append(request)
            if request.strategy is None:
                # a preempted request comes here again and keeps its strategy
                request.admitted = time.monotonic()
                request.strategy = request.start(request)
                self._resume(request, None)

    def _fits(self, request: Request) -> bool:
        """Return True if blocks are free for the request's prompt and one more block of every running sequence.

        Recurrent states cannot be preempted, so slots are counted for all sequences that the requests may open.
        """
        length = max((len(sequence.tokens) for sequence in request.sequences), default=1)
        running = sum(len(r.sequences) for r in self.running)
        states = sum(max(r.max_sequences - len(r.sequences), 0) for r in [*self.running, request])
        need = self.store.bytes_for(length) + running * self.store.bytes_for(1) + states * self.store.slot_size
        return need <= self.store.free_bytes

    def _resume(self, request: Request, results: list[ForwardResult] | None) -> None:
        """Send a strategy its results, and keep the forward requests that it yields next."""
        assert request.strategy is not None
        request.results = {}
        try:
            request.pending = next(request.strategy) if results is None else request.strategy.send(results)
            if not request.pending:
                raise RuntimeError("A strategy yielded no forward pass.")
            for forward in request.pending:
                forward.sequence.check_unread()
        except StopIteration:
            self.finish(request)
        except Exception as error:
            self.finish(request, error)

    def _schedule(self, model_runner: ModelRunner, adapter: str | None) -> list[tuple[ForwardRequest, int]]:
        """Return the forward requests of the next pass, and how many tokens of each it reads.

        Decode steps and other short requests come first, then prefills, each in order of admission.
        """
        present = [request for request in self.running if request.adapter == adapter]
        pending = [forward for r in present for forward in r.pending if id(forward) not in r.results]
        pending = [forward for forward in pending if forward.sequence.runner is model_runner.runner]
        pending.sort(key=lambda forward: forward.sequence.num_unread > forward.num_rows)  # stable: order of admission
        work: list[tuple[ForwardRequest, int]] = []
        growing = sum(forward.sequence.cached.length > 0 and forward.sequence.num_unread == 1 for forward in pending)
        count, prefixes = len(self.running), set[object]()
        # growing texts are never limited by the pace, and leave all of it to a prompt
        free = min(self.max_tokens, self.pace.tokens + growing) if growing else self.max_tokens
        for forward in pending:
            sequence = forward.sequence
            # preempted for a request before it in this loop; a search of the list for every sequence would be slow
            if len(self.running) < count and sequence.request not in self.running:
                continue
            sequence.cached.set_total(len(sequence.tokens))
            # states of shared tokens would be unknown, and types are read with the whole prompt
            own = (forward.record, sequence.states, sequence.features, sequence.types)
            apart = any(each is not None for each in own)
            if sequence.cached.length == 0 and not apart and model_runner.store.shares:
                prefix = sequence.reuse_prefix(forward.num_rows)
                # another sequence of this pass computes the same prefix; the next step shares its blocks
                if prefix in prefixes:
                    continue
                prefixes |= {prefix} - {None}
                self._count_cached(sequence)
            unread, last = sequence.num_unread, max(forward.num_rows, MIN_PREFILL)
            # a part of a prompt leaves its last tokens, which one pass must read together
            new = unread if unread <= free or (free > 0 and unread <= last) else min(free, unread - last)
            if new <= 0 or not self._reserve(sequence, new):
                continue
            work.append((forward, new))
            free -= new
        if len(self.running) == count:
            return work
        # a request may have been preempted after its sequence was scheduled
        return [(forward, new) for forward, new in work if forward.sequence.request in self.running]

    def _count_cached(self, sequence: GenerationSequence) -> None:
        """Count the prompt tokens that a request shares with earlier ones, once."""
        request = sequence.request
        if request.cached_tokens is None and sequence is request.sequences[0]:
            request.cached_tokens = sequence.cached.length
            self.statistics.prefix_queries += len(sequence.tokens)
            self.statistics.prefix_hits += sequence.cached.length

    def _reserve(self, sequence: GenerationSequence, new: int) -> bool:
        """Take cache blocks for a sequence's next tokens; without a free one, preempt the last request."""
        while True:
            try:
                sequence.cached.prepare(new)
                return True
            except MemoryFull as error:
                last = self.running[-1]  # the one admitted last, so that the oldest request always goes on
                if last is sequence.request:
                    if len(self.running) == 1:
                        self.finish(last, error)
                    else:
                        self._preempt(last)
                    return False
                self._preempt(last)

    def _preempt(self, request: Request) -> None:
        """Move a request back to the queue and free its blocks; its tokens are read again later."""
        self.running.remove(request)
        self.waiting.appendleft(request)  # first in the queue, since it came before those that wait
        self.statistics.preemptions += 1
        for sequence in request.sequences:
            sequence.restart()
