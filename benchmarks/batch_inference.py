"""A batch job under random kills: each row once, the same bytes as of a job that nothing disturbs, and its rates.

python benchmarks/batch_inference.py --rows 100000 --kills 5 --workers 2 [--format parquet] [--seed 0]

Makes a tiny BERT classifier and a file of rows with some broken ones. Runs the job in one process, then by workers.
Then it runs the job again and kills, after a random time, a worker or the whole command with SIGKILL, until `kills` are
done. It exits with 1 if any part differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = "the quick brown fox jumps over the lazy dog and does not come back before it is dark".split()


def make_model(folder: Path) -> Path:
    """Write a BERT of two layers for two labels, with its vocabulary."""
    import transformers

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(WORDS))]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, vocab_size=32, num_labels=2
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def make_rows(path: Path, count: int, seed: int) -> None:
    """Write rows of 1 to 60 words; one in 1,000 is no text or no JSON."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for number in range(count):
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, 60)))
            bad = draw.random() < 0.001
            row = {"id": number, "text": None if bad and number % 2 else text}
            file.write("no json\n" if bad and not number % 2 else json.dumps(row) + "\n")


def command(model: Path, rows: Path, output: Path, *more: str) -> list[str]:
    """Return the command of the job."""
    words = ["run", "text-classification", "--file", str(rows), "-m", str(model), "--keep", "id", "--precision", "fp32"]
    return [sys.executable, "-m", "multihead", *words, "--column", "text", "--output", f"{output}/", *more]


def digest(folder: Path) -> dict[str, str]:
    """Return the hash of each part."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("part-*"))}


def children(number: int) -> list[int]:
    """Return the processes that a process has begun (Linux)."""
    found = []
    for path in Path(f"/proc/{number}/task").glob("*/children"):
        found += [int(word) for word in path.read_text().split()]
    return found


def timed(words: list[str]) -> float:
    """Run a command; return its seconds."""
    begin = time.perf_counter()
    subprocess.run(words, check=True)
    return time.perf_counter() - begin


def disturbed(words: list[str], kills: int, longest: float, draw: random.Random) -> list[str]:
    """Run a command until it ends by itself, killing it or a worker `kills` times; return what was killed."""
    done: list[str] = []
    while True:
        process = subprocess.Popen(words)
        while len(done) < kills:
            try:
                process.wait(draw.uniform(0.2, 1) * longest)
                break
            except subprocess.TimeoutExpired:
                workers = children(process.pid)
                if workers and draw.random() < 0.5:
                    os.kill(draw.choice(workers), signal.SIGKILL)
                    done.append("worker")
                    continue
                process.kill()
                process.wait()
                done.append("command")
                break
        if process.wait() == 0:
            return done
        if process.returncode != -signal.SIGKILL:
            sys.exit(f"the command failed with {process.returncode}")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser()
    for name, value in (("rows", 100_000), ("kills", 5), ("workers", 2), ("part-rows", 1024), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--format", default="jsonl")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    draw = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model, rows = make_model(place / "model"), place / "rows.jsonl"
        make_rows(rows, chosen.rows, chosen.seed)
        shape = ("--format", chosen.format, "--part-rows", str(chosen.part_rows))
        alone = timed(command(model, rows, place / "alone", *shape))
        print(f"one process: {alone:.1f} s, {chosen.rows / alone:,.0f} rows/s with loading", flush=True)
        workers = ("--workers", str(chosen.workers))
        pool = timed(command(model, rows, place / "pool", *shape, *workers))
        print(f"{chosen.workers} workers: {pool:.1f} s, {chosen.rows / pool:,.0f} rows/s with loading", flush=True)
        killed = disturbed(command(model, rows, place / "killed", *shape, *workers), chosen.kills, pool, draw)
        print(f"killed: {', '.join(killed)}", flush=True)
        expected = digest(place / "alone")
        manifest = json.loads((place / "killed" / "_manifest.json").read_text())
        same = expected == digest(place / "pool") == digest(place / "killed") and manifest["rows"] == chosen.rows
        print(f"{manifest['rows']:,} rows, {manifest['failed']} failed, {len(expected)} parts: "
              f"{'the same bytes' if same else 'DIFFERENT'}")  # fmt: skip
        sys.exit(not same)


if __name__ == "__main__":
    main()
