"""Quality of answers: every task on real data, with intervals, beside baselines and the reference.

    python -m benchmarks.quality --data FOLDER [--only TASK ...] [--count N] [--reference N] [--json FILE]

FOLDER holds sst2, sentence_polarity, xquad, subjqa, scitldr and multi30k, and perhaps squad (SQuAD's dev-v1.1.json).
The models are those of the package index, which are small. Scores are those of the field, with 95 % intervals of a
bootstrap over rows. The reference has the same prompts and weights in float32 and answers the first `--reference` rows,
because it takes them one by one.

A file of this folder measures one task: `measure(report)`.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path

from .report import Report

TASKS = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "__main__", "report", "reference")
)


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--count", type=int, default=10_000, help="rows of each set at most")
    options.add_argument("--reference", type=int, default=0, help="rows that the reference answers too; 0 for none")
    options.add_argument("--only", nargs="*", choices=TASKS, default=TASKS, metavar="TASK", help=", ".join(TASKS))
    options.add_argument("--json", type=Path, help="write the scores here")
    chosen = options.parse_args()
    report = Report(chosen.data, chosen.count, chosen.reference)
    for name in chosen.only:
        start = time.perf_counter()
        import_module(f".{name}", __package__).measure(report)
        print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
    report.close(chosen.json)


if __name__ == "__main__":
    main()
