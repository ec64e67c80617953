"""Engine in a thread of its own, to which other threads submit prompts at any time (continuous batching)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import MultiheadError
from ..runtime.turns import turn
from .checks import check_strategies
from .config import GenerationConfig
from .engine.scheduler import Engine
from .engine.sequence import Request
from .generate import check_run, max_length, submit_job
from .logits.grammar import TextGrammar
from .stopping import Continuation
from .strategies.base import Extras, GenerationJob


class EngineStopped(MultiheadError, RuntimeError):
    """The engine of a model has ended and answers no more requests."""


@dataclass(frozen=True)
class NewToken:
    """A token of a continuation.

    Args:
        index: of the continuation (0 to n - 1). token: its id. logprob: of the token; None unless asked for.
        top: the most likely tokens with their log-probabilities, the best first.
    """

    index: int
    token: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class PromptRead:
    """The prompt has been read.

    Args:
        cached_tokens: tokens whose cache an earlier prompt has left.
        logprobs: of each prompt token but the first, where asked for, with the most likely ones: (logprob, top).
    """

    cached_tokens: int
    logprobs: Sequence[tuple[float, Sequence[tuple[int, float]]]] | None = None


@dataclass(frozen=True)
class Ended:
    """All continuations have ended, or the request failed.

    Args:
        results: the continuations. error: instead of them.
    """

    results: Sequence[Continuation] = ()
    error: BaseException | None = None


Event = NewToken | PromptRead | Ended


@dataclass(eq=False)
class EngineRequest:
    """Prompt to continue.

    Args:
        listener: called in the engine's thread with the events of each step; it must not block.
        logprobs: how many of the most likely tokens are told with each token; None for no log-probabilities.
        prompt_logprobs: the same for the prompt's tokens.
        cache_salt: only requests with the same salt share cached prefixes.
    """

    prompt: Sequence[int]
    config: GenerationConfig
    listener: Callable[[Sequence[Event]], None]
    extras: Extras = field(default_factory=Extras)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    cache_salt: bytes = b""
    events: list[Event] = field(default_factory=list, init=False)
    cancelled: bool = field(default=False, init=False)


class EngineThread:
    """Continues the prompts of many threads in shared forward passes.

    Args:
        model: a decoder. memory: bytes of its KV cache; None for no limit. max_sequences: of a decode batch.
    """

    def __init__(self, model: Any, *, memory: int | None = None, max_sequences: int = 64) -> None:
        self.model, self.memory, self.max_sequences = model, memory, max_sequences
        self.error: BaseException | None = None
        self._inbox: queue.SimpleQueue[EngineRequest | None] = queue.SimpleQueue()
        self._active: dict[EngineRequest, tuple[GenerationJob, Request]] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._main, name="multihead-engine", daemon=True)
        self._thread.start()

    def submit(self, request: EngineRequest) -> None:
        """Queue a request. Its errors come as an `Ended` event. Raises EngineStopped."""
        if self._closed.is_set():
            raise EngineStopped("The engine of this model has stopped.")
        self._inbox.put(request)

    def cancel(self, request: EngineRequest) -> None:
        """End a request within one step; its `Ended` event has what was written."""
        request.cancelled = True

    def close(self) -> None:
        """End all requests and the thread."""
        self._closed.set()
        self._inbox.put(None)
        self._thread.join()

    def _main(self) -> None:
        engine = Engine(self.model, memory=self.memory, max_sequences=self.max_sequences)
        while not self._closed.is_set():
            self._receive(engine, wait=not engine.busy)
            with turn():
                engine.step()
            self._deliver()
        engine.close()

    def _receive(self, engine: Engine, wait: bool) -> None:
        while True:
            try:
                request = self._inbox.get(block=wait)
            except queue.Empty:
                break
            if request is None:
                return
            wait = False
            try:
                self._start(engine, request)
            except BaseException as error:
                request.listener([Ended(error=error)])
        for request, (_, running) in list(self._active.items()):
            if request.cancelled and not running.done:
                running.cancel()

    def _start(self, engine: Engine, request: EngineRequest) -> None:
        model, prompt, config = self.model, request.prompt, request.config.computed()
        check_strategies(config, request.extras)
        limit = max_length(model, config, len(prompt), len(prompt))
        check_run(model, [prompt], config, [limit], None)
        grammar = TextGrammar.from_config(config, request.extras.tokenizer, model.vocabulary)
        job = GenerationJob(
            prompt, config, limit, source=list(prompt), extras=request.extras, grammar=grammar, device=model.device,
            on_token=lambda token: request.events.append(NewToken(0, token)), tied=model.config.tie_word_embeddings,
        )  # fmt: skip
        self._active[request] = job, submit_job(engine, job)

    def _deliver(self) -> None:
        for request, (job, running) in list(self._active.items()):
            events, request.events = request.events, []
            if running.done:
                del self._active[request]
                events.append(Ended(job.results, running.error))
            if events:
                request.listener(events)
