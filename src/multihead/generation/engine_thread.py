"""Engine in a thread of its own, to which other threads submit prompts at any time (continuous batching)."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

from ..adapters import state
from ..errors import InvalidInput, MultiheadError, nearest
from ..runtime.turns import turn
from .abandonment import end_call, waking
from .checks import check_causal
from .engine.cache_memory import default_cache_memory
from .engine.saved_cache import load_cache, save_cache
from .engine.saved_prefix import load_prefix, save_prefix
from .engine.scheduler import Engine, EngineStatistics
from .engine_jobs import Box, RelayedListener, Task, aborted, answer, build_job, deliver, end_step, tell
from .engine_request import Ended, EngineRequest, Event, NewToken, PromptRead
from .generate import submit_job
from .hosts import attach_host, detach_host
from .logits.grammar import FORMS
from .prompt_salt import current_salt
from .strategies.base import GenerationJob

__all__ = ["Ended", "EngineRequest", "EngineStopped", "EngineThread", "Event", "NewToken", "PromptRead"]

T = TypeVar("T")
log = logging.getLogger("multihead.generation")
STOPPED = "The engine of this model has stopped and answers no more requests."
ADAPTERS = count()
STALL = 0.15  # seconds that growing texts wait for a part of another prompt


class EngineStopped(MultiheadError, RuntimeError):
    """The engine of a model has ended and answers no more requests."""


_open: WeakSet[EngineThread] = WeakSet()


@atexit.register
def close_engines() -> None:
    """End the engines that are still open: a thread inside native code would abort the interpreter's exit."""
    for engine in list(_open):
        engine.close()


class EngineThread:
    """Continues the prompts of many threads in shared forward passes.

    `generate` and pipelines of the same model, called in other threads, run in these passes too.

    Args:
        model: a model that writes. memory: bytes of its KV cache; None for a part of what the machine has free.
        max_sequences: of a decode batch.

    Attributes:
        adapters: those that requests may name, with their names in the model.
        error: what ended the engine; None while it runs. last_step: when it last finished a step, in seconds of
            `time.monotonic`.
    """

    def __init__(self, model: Any, *, memory: int | None = None, max_sequences: int = 64) -> None:
        self.model, self.max_sequences = model, max_sequences
        self.memory = default_cache_memory(model.device) if memory is None else memory
        self.error: BaseException | None = None
        self.adapters: dict[str, str] = {}
        self.last_step = time.monotonic()
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._tasks: dict[object, Task] = {}
        self._mutex = threading.Lock()  # of `_closed`: nothing enters the inbox after its last reader has gone
        self._closed = self._ends = False
        self._engine: Engine | None = None
        self._compilers = ThreadPoolExecutor(
            2, thread_name_prefix="multihead-grammar"
        )  # starts no thread before its use
        self.thread = threading.Thread(target=self._main, name="multihead-engine", daemon=True)
        self.thread.start()
        _open.add(self)
        attach_host(model, self)

    @property
    def alive(self) -> bool:
        """True while requests are answered."""
        return self.error is None and self.thread.is_alive() and not self._closed

    @property
    def busy(self) -> bool:
        """True if there is a request."""
        return bool(self._tasks) or not self._inbox.empty()

    @property
    def stalled(self) -> float:
        """Seconds since the last step of an engine that has requests; 0 for one without."""
        return time.monotonic() - self.last_step if self.busy else 0.0

    @property
    def running(self) -> int:
        """Requests that are read or continued now."""
        return 0 if self._engine is None else len(self._engine.running)

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return self._inbox.qsize() + (0 if self._engine is None else len(self._engine.waiting))

    @property
    def statistics(self) -> EngineStatistics:
        """Counts since the engine began."""
        return EngineStatistics() if self._engine is None else self._engine.statistics

    @property
    def cache_usage(self) -> float:
        """Share of the KV cache that running requests use, 0 to 1; 0 without a limit."""
        return 0.0 if self._engine is None else self._engine.cache_usage

    def submit(self, request: EngineRequest) -> None:
        """Queue a request. Its errors come as an `Ended` event. Raises EngineStopped."""
        if any(getattr(request.config, form) is not None for form in FORMS):
            # compiling a grammar may take long, and texts that grow must not wait for it
            self._compilers.submit(self._prepare, request)
        else:
            self._put(partial(self._start, request))

    def cancel(self, request: EngineRequest) -> None:
        """End a request within one step; its `Ended` event has what was written, with the reason "abort"."""
        request.cancelled = True
        self._inbox.put(partial(self._cancel, request))

    def run_jobs(self, jobs: Sequence[GenerationJob]) -> list[BaseException | None]:
        """Run jobs to their end, and return the error of each. Their listeners are called in the calling thread.

        Raises:
            EngineStopped: the engine ended before them. Abandoned: nobody waits for them (`abandonment.Abandonment`).
        """
        box: Box = queue.SimpleQueue()
        keys = [object() for _ in jobs]
        try:
            with waking(lambda: box.put(end_call)):
                return self._run_jobs(jobs, keys, box)
        except BaseException:  # of a streamer, an interrupt or an abandonment: nobody waits for the jobs any more
            for key in keys:
                self._inbox.put(partial(self._cancel, key))
            raise

    def _run_jobs(self, jobs: Sequence[GenerationJob], keys: Sequence[object], box: Box) -> list[BaseException | None]:
        errors: list[BaseException | None] = [None] * len(jobs)
        sent = left = 0
        while sent < len(jobs) or left:
            # a call with many jobs leaves room for requests that come after it
            while sent < len(jobs) and left < max(self.max_sequences // 2, 1):
                self._send(keys[sent], jobs[sent], box, sent)
                sent, left = sent + 1, left + 1
            told = box.get()
            if isinstance(told, tuple):
                errors[told[0]], left = told[1], left - 1
            else:
                told()
        return errors

    def _send(self, key: object, job: GenerationJob, box: Box, number: int) -> None:
        """Queue a job of `run_jobs`."""
        if job.listener is not None:
            job.listener = RelayedListener(job.listener, box)
        self._put(partial(self._submit_job, key, job, box, number, current_salt()))

    def load_adapter(self, name: str, source: str | os.PathLike[str]) -> None:
        """Load a LoRA adapter for requests that name it; the model itself computes as before.

        Texts that grow wait for it, and are read again.

        Raises:
            InvalidInput: the name is taken. What `model.load_adapter` raises.
        """
        if name in self.adapters:
            raise InvalidInput(f"There is an adapter {name!r} already; unload it first.")
        own = f"served_{next(ADAPTERS)}"  # a name in the model has no dots
        self._call(lambda engine: engine.change_model(partial(add_adapter, self.model, own, source)))
        self.adapters[name] = own

    def unload_adapter(self, name: str) -> None:
        """Remove an adapter. Requests that use it fail. Raises InvalidInput without such an adapter."""
        own = self._adapter(name)
        del self.adapters[name]
        self._call(lambda engine: engine.change_model(partial(self._remove_adapter, own)))

    def _adapter(self, name: str) -> str:
        """Return an adapter's name in the model."""
        if name not in self.adapters:
            raise InvalidInput(f"There is no adapter {name!r}. {nearest(name, self.adapters)}")
        return self.adapters[name]

    def save_prompt(self, tokens: Sequence[int], path: str | os.PathLike[str], cache_salt: bytes = b"") -> int:
        """Write the cache of a prompt's beginning to a file, for a later process; return its number of tokens.

        Raises:
            InvalidInput: nothing of it is cached. UnsupportedOption: the model keeps recurrent states.
        """
        return self._call(lambda engine: save_prefix(engine.runner(), tokens, Path(path), cache_salt))

    def load_prompt(self, path: str | os.PathLike[str], cache_salt: bytes = b"") -> int:
        """Load what `save_prompt` has written; return its number of tokens. Prompts that begin so need not read them.

        Raises:
            InvalidInput: a file of another model, precision, version or salt. CorruptFile, ModelNotFound: the file.
            MemoryFull: it is larger than the cache. UnsupportedOption: the model keeps recurrent states.
        """
        return self._call(lambda engine: load_prefix(engine.runner(), Path(path), cache_salt))

    def save_cache(self, path: str | os.PathLike[str]) -> int:
        """Write all cached beginnings of prompts to a file; return the number of blocks. Raises as `save_prompt`."""
        return self._call(lambda engine: save_cache(engine.runner(), Path(path)))

    def load_cache(self, path: str | os.PathLike[str]) -> int:
        """Load what `save_cache` has written, as far as it has room; return the number of blocks.

        Raises:
            InvalidInput, CorruptFile, ModelNotFound, UnsupportedOption: as `load_prompt`.
        """
        return self._call(lambda engine: load_cache(engine.runner(), Path(path)))

    def _call(self, action: Callable[[Engine], T]) -> T:
        """Call a function between two steps, in the engine's thread; return its result. Raises its error."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                with turn():
                    done.set_result(action(self._running_engine))
            except BaseException as error:
                done.set_exception(error)

        self._put(run)
        return done.result()

    def close(self, *, drain: bool = False, timeout: float | None = None) -> None:
        """End all requests and the thread.

        Args:
            drain: accepts no new request, and lets the others end first. timeout: seconds that they have for it.
        """
        with self._mutex:
            self._closed = True
            self._ends = self._ends or not drain
        self._inbox.put(lambda: None)
        if drain:
            self.thread.join(timeout)
            self._ends = True
        self.thread.join()

    def _put(self, action: Callable[[], object]) -> None:
        """Let the engine's thread call a function between two steps. Raises EngineStopped."""
        with self._mutex:
            if self._closed:
                raise EngineStopped(STOPPED) from self.error
            self._inbox.put(action)

    def _put_or_call(self, action: Callable[[], object]) -> None:
        """Call a function in the engine's thread, or in this one where that has ended."""
        try:
            self._put(action)
        except EngineStopped:
            action()

    # What follows runs in the engine's thread.

    def _main(self) -> None:
        try:
            self._engine = engine = Engine(
                self.model, memory=self.memory, max_sequences=self.max_sequences, stall=STALL
            )  # fmt: skip
            while not self._ends and not (self._closed and not self.busy):
                self._receive(wait=not engine.busy and not self._tasks)
                engine.step()
                self.last_step = time.monotonic()
                self._notify()
        except BaseException as error:  # whatever it is, nobody may wait for ever
            self.error = error
            log.exception("The engine of %s has failed and ends all of its requests.", type(self.model).__name__)
        finally:
            detach_host(self.model, self)
            self._end_all()

    def _receive(self, wait: bool) -> None:
        """Call what other threads have put in the inbox; wait for the first where nothing else is to do."""
        try:
            while True:
                self._inbox.get(block=wait)()
                self.last_step, wait = time.monotonic(), False
        except queue.Empty:
            return

    def _prepare(self, request: EngineRequest) -> None:
        """Build the job of a request; called in a thread that may take its time."""
        try:
            job = self._build(request)
            self._put(lambda: self._submit(request, job))
        except Exception as error:
            fault = error
            self._put_or_call(lambda: tell(request, [Ended(error=fault)]))

    def _build(self, request: EngineRequest) -> GenerationJob:
        return build_job(self.model, request, self._longest)

    @cached_property
    def _longest(self) -> int | None:
        """Positions that the model has learned. Raises UnsupportedConfig for a model that reads both ways."""
        check_causal(self.model)  # slow, as it looks at every layer
        longest: int | None = self.model.max_positions
        return longest

    def _start(self, request: EngineRequest) -> None:
        try:
            self._submit(request, self._build(request))
        except Exception as error:
            tell(request, [Ended(error=error)])

    def _submit(self, request: EngineRequest, job: GenerationJob) -> None:
        if request.cancelled:
            self._cancel(request)
            return
        try:
            adapter = None if request.adapter is None else self._adapter(request.adapter)
            running = submit_job(self._running_engine, job, request.cache_salt, adapter)
        except Exception as error:
            tell(request, [Ended(error=error)])
            return
        self._tasks[request] = Task(job, running, partial(deliver, request))

    def _submit_job(self, key: object, job: GenerationJob, box: Box, number: int, salt: bytes) -> None:
        try:
            running = submit_job(self._running_engine, job, salt)
        except Exception as error:
            box.put((number, error))
            return
        self._tasks[key] = Task(job, running, partial(answer, box, number))

    def _remove_adapter(self, own: str) -> None:
        for task in self._tasks.values():
            if task.running.adapter == own and not task.running.done:
                error = InvalidInput("The adapter of this request has been unloaded.")
                self._running_engine.finish(task.running, error)
        self.model.delete_adapter(own)

    @property
    def _running_engine(self) -> Engine:
        if self._engine is None:
            raise EngineStopped(STOPPED) from self.error
        return self._engine

    def _cancel(self, key: object) -> None:
        """End a task now, with what it has written."""
        task = self._tasks.get(key)
        if task is not None and not task.running.done:
            task.running.cancel()
            task.job.results = aborted(task.job.results, task.job.config)
        elif task is None and isinstance(key, EngineRequest) and not key.ended:  # it never came so far
            tell(key, [Ended(aborted([], key.config))])

    def _notify(self) -> None:
        """Tell the owners of all tasks what the last step brought."""
        tasks = list(self._tasks.items())
        for key, task in tasks:
            ended = task.running.done
            heard = task.notify(task)
            if ended:
                del self._tasks[key]
            elif not heard:
                self._cancel(key)  # the next step tells its end
        end_step(key for key, _ in tasks)

    def _end_all(self) -> None:
        """End all requests, those of the inbox too, since the engine ends."""
        with self._mutex:
            self._closed = True
        engine, self._engine = self._engine, None
        for task in self._tasks.values():
            if not task.running.done:
                task.running.done, task.running.error = True, EngineStopped(STOPPED)
                task.running.error.__cause__ = self.error
            task.notify(task)
        end_step(self._tasks)
        self._tasks.clear()
        self._receive(wait=False)
        if engine is not None and self.error is None:
            engine.close()


def add_adapter(model: Any, name: str, source: str | os.PathLike[str]) -> None:
    """Load an adapter that is not active."""
    before = () if model.adapters is None else model.adapters.active
    model.load_adapter(source, name)
    state.activate(model, before)
