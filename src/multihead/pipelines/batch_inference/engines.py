"""Engines of batch jobs: what performs tasks. In this process, or in processes of this machine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Queue
from threading import Lock, Thread
from typing import Any, Protocol

from ...errors import InvalidInput, MultiheadError, UnsupportedOption
from .job import BatchJob, Task, answer_part, perform
from .parts import Summary
from .sources import Part

ATTEMPTS = 3  # of a task whose worker dies
PACKAGE_ROOT = Path(__file__).parents[3]


class Engine(Protocol):
    """Performs the tasks of a job, in any order."""

    def run(self, job: BatchJob, tasks: Iterator[Task]) -> Iterator[Summary]:
        """Yield the summary of each task when it is done. Tasks are taken when they can be begun."""
        ...


class InProcess:
    """Engine that performs one task after another.

    Args:
        pipe: loads or returns the pipeline. advance: called after each row.
    """

    def __init__(self, pipe: Callable[[], Any], advance: Callable[[], None]) -> None:
        self.pipe, self.advance = pipe, advance

    def run(self, job: BatchJob, tasks: Iterator[Task]) -> Iterator[Summary]:
        for task in tasks:
            if isinstance(task, Part):
                yield answer_part(self.pipe(), job, task, self.advance)
            else:
                yield perform(self.pipe, job, task)


class WorkerPool:
    """Engine of several processes on this machine, each with a model of its own.

    A worker that dies (killed, out of memory) is replaced, and its task is begun again.

    Args:
        count: of workers. With the device "cuda", they are spread over all GPUs.

    Raises:
        UnsupportedOption: no positive number.
    """

    def __init__(self, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UnsupportedOption(f"workers is a whole number from 1, not {count!r}.")
        self.count = count

    def run(self, job: BatchJob, tasks: Iterator[Task]) -> Iterator[Summary]:
        results: Queue[Summary | BaseException | None] = Queue()
        lock, workers = Lock(), [Worker(job, number, self.count) for number in range(self.count)]

        def take() -> Task | None:
            with lock:  # the source is read by one thread at a time, a part ahead of nothing
                return next(tasks, None)

        def work(worker: Worker) -> None:
            try:
                while (task := take()) is not None:
                    results.put(worker.perform(task))
                results.put(None)
            except BaseException as error:
                results.put(error)

        threads = [Thread(target=work, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                found = results.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    running -= 1
                else:
                    yield found
        finally:
            for worker in workers:
                worker.close()


class Worker:
    """Process that performs the tasks that it is sent, on its standard input, and answers on its standard output.

    It ends when its input does, so that none is left where the process that began it is killed.

    Args:
        number, count: of this worker, of all.
    """

    def __init__(self, job: BatchJob, number: int, count: int) -> None:
        self.job, self.number, self.count = job, number, count
        self.process: subprocess.Popen[bytes] | None = None
        self.is_closed = False

    def start(self) -> subprocess.Popen[bytes]:
        """Begin the process. Its threads are a share of the processors, unless the environment says how many."""
        threads = str(max(1, (os.cpu_count() or 1) // self.count))
        path = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": path}
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment, start_new_session=True,  # Ctrl-C ends the job here, once
        )  # fmt: skip
        send(process.stdin, (self.job, self.number))
        return process

    def perform(self, task: Task) -> Summary:
        """Perform a task. Raises its error, and InvalidInput if the process dies again and again."""
        for _ in range(ATTEMPTS):
            try:
                if self.process is None:
                    self.process = self.start()
                send(self.process.stdin, task)
                answer = pickle.load(self.process.stdout)  # type: ignore[arg-type]
            except (EOFError, BrokenPipeError, pickle.UnpicklingError):
                self.stop()
                if self.is_closed:
                    break
                continue
            if isinstance(answer, BaseException):
                raise answer
            return dict(answer)
        where = f"rows from {task.begin} of {task.name}" if isinstance(task, Part) else task.name
        raise InvalidInput(
            f"The worker of {where} was killed {ATTEMPTS} times, perhaps for want of memory. Take fewer workers, or "
            "smaller parts."
        )

    def stop(self) -> None:
        """End the process, if it runs."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    def close(self) -> None:
        """End the process for good."""
        self.is_closed = True
        process = self.process
        if process is not None:
            process.kill()


def send(pipe: Any, value: Any) -> None:
    """Write a value to a pipe, at once."""
    pickle.dump(value, pipe)
    pipe.flush()


def portable(error: BaseException) -> BaseException:
    """Return an error that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return MultiheadError(f"{type(error).__name__}: {error}")
