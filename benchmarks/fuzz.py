"""Damaged files of every format, read in worker processes that may crash, hang or eat memory without ending the rest.

python benchmarks/fuzz.py --count 2000 --workers 2 [--format GGUF] [--start 0] [--json results.json] [--keep folder]

What a file gives is "clear" (an error of this library), "same" (the numbers of the good file), "honest" (other
numbers, because the file says other numbers), "different" (other numbers though the file is damaged), "raw" (an error
of Python's or another library's), "crash" (the process ended), "hang" (no answer in --seconds) or "memory" (a refusal
or growth of more than --megabytes). The trial of a number is always the same.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
SERVER = multiprocessing.get_context("forkserver")  # has imported all: a worker starts at once
SERVER.set_forkserver_preload(["tests.fuzz.trials"])


def work(name: str, folder: str, numbers: range, megabytes: int, pipe: Any) -> None:
    """Sends the number of each trial before it, and its outcome after it."""
    import torch
    from tests.fuzz.formats import FORMATS
    from tests.fuzz.trials import Good

    torch.set_num_threads(1)
    good = Good(next(form for form in FORMATS if form.name == name), Path(folder))
    for path in good.contents:
        good.expected(path)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + 3 * megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.dup2(null, 1)
    for number in numbers:
        pipe.send((number, "begin", ""))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome, told = good.trial(number)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > megabytes * 1024 or "more memory than there is" in told or "allocate memory" in told:
            outcome, told = "memory", f"{told} grew by {grown // 1024} MB"
        pipe.send((number, outcome, told))
    pipe.send((numbers.stop, "end", ""))


class Worker:
    """A process for a range of trials of one format, started again behind a trial that ended it."""

    def __init__(self, name: str, folder: Path, numbers: range, megabytes: int) -> None:
        self.name, self.folder, self.numbers, self.megabytes = name, folder, numbers, megabytes
        self.found: list[tuple[int, str, str]] = []
        self.start()

    def start(self) -> None:
        self.pipe, theirs = multiprocessing.Pipe(False)
        arguments = (self.name, str(self.folder), self.numbers, self.megabytes, theirs)
        self.process = SERVER.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.current, self.since = None, time.monotonic()

    def step(self, seconds: float) -> bool:
        """Reads what there is; False once all is done."""
        ended = not self.process.is_alive()
        try:
            while self.pipe.poll(0 if ended else 0.05):
                number, outcome, told = self.pipe.recv()
                self.since = time.monotonic()
                if outcome == "end":
                    self.process.join()
                    return False
                self.current = number if outcome == "begin" else None
                if outcome != "begin":
                    self.found.append((number, outcome, told))
        except EOFError:
            ended = True
        late = time.monotonic() - self.since > (seconds if self.current is not None else 300)
        if not (ended or late):
            return True
        self.process.join(0 if late else 10)
        self.process.kill()
        self.process.join()
        if self.current is None:
            raise SystemExit(f"{self.name}: the worker ended outside of a trial.")
        self.found.append((self.current, "hang" if late else "crash", f"exit code {self.process.exitcode}"))
        self.numbers = range(self.current + 1, self.numbers.stop)
        if not self.numbers:
            return False
        self.start()
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="of trials a format")
    parser.add_argument("--start", type=int, default=0, help="number of the first trial")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--format", action="append", help="of these formats alone")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from tests.fuzz.formats import FORMATS
    from tests.fuzz.trials import counted

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = [form.name for form in FORMATS if not options.format or form.name in options.format]
    results: dict[str, dict[str, int]] = {}
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as room:
        waiting = [(name, Path(room, str(n))) for n, name in enumerate(names)]
        running: list[Worker] = []
        while waiting or running:
            while waiting and len(running) < options.workers:
                name, folder = waiting.pop(0)
                numbers = range(options.start, options.start + options.count)
                running.append(Worker(name, folder, numbers, options.megabytes))
            for worker in [*running]:
                if worker.step(options.seconds):
                    continue
                running.remove(worker)
                counts = collections.Counter(outcome for _, outcome, _ in worker.found)
                results[worker.name] = dict(counts)
                print(f"{worker.name:32} {sum(counts.values()):6} {counted(counts)}", flush=True)
                for number, outcome, told in worker.found:
                    if outcome in ("raw", "crash", "hang", "memory", "different"):
                        bad.append(f"{worker.name} {number} {outcome} {told}")
                        print(f"    {number} {outcome} {told}", flush=True)
    whole = collections.Counter[str]()
    for counts in results.values():
        whole.update(counts)
    print(f"{'all':32} {sum(whole.values()):6} {counted(whole)}")
    if options.json:
        told = {"trials": options.count, "start": options.start, "formats": results, "bad": bad}
        options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
