"""Process of a `WorkerPool`: reads a job, then tasks, from standard input; answers each on standard output."""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import suppress
from functools import cache
from typing import Any

from .engines import portable, send
from .job import BatchJob, perform


def worker_device(device: Any, number: int) -> Any:
    """Return the device of a worker: with "cuda", one GPU after another."""
    if device != "cuda":
        return None
    import torch

    return f"cuda:{number % max(1, torch.cuda.device_count())}"


def main() -> None:
    """Perform tasks until the input ends."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to standard error
    job: BatchJob
    job, number = pickle.load(source)

    @cache
    def pipe() -> Any:
        return job.recipe.load(worker_device(job.recipe.options.get("device"), number))

    with suppress(BrokenPipeError):
        while True:
            try:
                task = pickle.load(source)
            except EOFError:
                return
            try:
                answer: Any = perform(pipe, job, task)
            except Exception as error:
                answer = portable(error)
            send(target, answer)


if __name__ == "__main__":
    main()
