"""Side-by-side timing: programs in fresh processes, in alternating runs, with medians and ratios."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "multihead")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


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
