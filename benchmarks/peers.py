"""Side-by-side timing: programs in processes of their own, in alternating runs, with medians and ratios."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from multihead.machine_facts import processor

# An installed package has its modules compiled; with this setting, processes would compile those of a checkout anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "multihead")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"cpu": processor(), "cores": os.cpu_count(), "python": platform.python_version(), **versions}


class PeerFailed(Exception):
    """A peer's process ended; says how."""


class Worker:
    """A peer in a process of its own: a program that says "ready" and answers each job, a line of JSON, with another.

    Args:
        environment: beside this process's own. log: where its standard error goes; None for nowhere.
        pause: seconds before a job: threads of the one before spin for some time.

    Raises:
        PeerFailed: it ended.
    """

    def __init__(
        self, name: str, program: Sequence[str], environment: Mapping[str, str] = {}, log: Path | None = None,
        pause: float = 0.0,
    ) -> None:  # fmt: skip
        self.name, self.log, self.pause = name, log, pause
        with open(log or os.devnull, "w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
            )  # fmt: skip
        self._line("ready")

    def _line(self, start: str) -> str:
        """The next line that begins so; what libraries print is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        told = self.log.read_text().strip().splitlines() if self.log else []
        why = f": {told[-1][:300]}" if told else ""
        raise PeerFailed(f"{self.name} ended with exit status {self.process.wait()}{why}")

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What the peer says of a job."""
        assert self.process.stdin is not None
        time.sleep(self.pause)
        with suppress(BrokenPipeError):  # `_line` says why
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        return dict(json.loads(self._line("{")))

    def close(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def seconds(program: str, arguments: Sequence[str]) -> float:
    """The seconds that a program prints as its last line, run in a fresh process."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"A program failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.strip().splitlines()[-1])


def alternating(programs: Mapping[str, str], arguments: Sequence[str], runs: int) -> dict[str, list[float]]:
    """Seconds of each program, one run of each in turn; a first round warms the disk cache and is dropped."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(runs + 1):
        for name, program in programs.items():
            taken = seconds(program, arguments)
            if number:
                found[name].append(taken)
    return found


def table(title: str, found: Mapping[str, Sequence[float]], base: str) -> dict[str, Any]:
    """Prints medians and their ratios to `base`; gives them as data."""
    medians = {name: statistics.median(times) for name, times in found.items()}
    print(f"\n{title}")
    for name, median in medians.items():
        spread = f"{min(found[name]):.3f} to {max(found[name]):.3f}"
        print(f"  {name:<44} {median:7.3f} s   ({spread})   {median / medians[base]:6.2f} x")
    return {"title": title, "base": base, "median_s": medians, "runs": {k: list(v) for k, v in found.items()}}


def record(results: Sequence[Mapping[str, Any]], path: str | None) -> None:
    """Prints the machine; writes everything as JSON where a path is given."""
    told = machine()
    print("\n" + ", ".join(f"{name} {value}" for name, value in told.items()))
    if path:
        Path(path).write_text(json.dumps({"machine": told, "results": list(results)}, indent=2) + "\n")
