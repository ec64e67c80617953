"""Pipelines over 2,000 real sentences and paragraphs, beside sentence-transformers and the reference's pipelines.

python benchmarks/tasks.py --data FOLDER [--runs 3] [--json FILE]

FOLDER holds multi30k, scitldr, sst2 and xquad. Every peer is a process of its own that loads once; the jobs alternate.
Each peer is timed after a run that is not counted. `--worker PEER MODEL` is what this program starts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[list[str]], Any]
EMBEDDING = {  # peer -> texts of a run: the slow ones get a sample, as a rate says the same
    "multihead pipeline float32": None,
    "multihead pipeline bfloat16": None,
    "multihead SentenceEncoder float32": None,
    "multihead SentenceEncoder bfloat16": None,
    "sentence-transformers float32": None,
    "sentence-transformers bfloat16": None,
    "reference pipeline float32, one by one": 200,
    "reference pipeline float32, batches of 32": 200,
    "reference pipeline bfloat16, one by one": 200,
}


def texts(folder: Path, count: int) -> list[str]:
    """Sentences and paragraphs, half of them captions and reviews, the rest abstracts' sentences and paragraphs."""
    draw = random.Random(0)
    captions = (folder / "multi30k" / "val.en").read_text().splitlines()
    reviews = [line.split("\t")[1] for line in (folder / "sst2" / "dev.tsv").read_text().splitlines()[1:]]
    rows = [json.loads(line) for line in (folder / "scitldr" / "dev.jsonl").read_text().splitlines()]
    abstracts, sentences = [" ".join(row["source"]) for row in rows], [s for row in rows for s in row["source"]]
    squad = json.loads((folder / "xquad" / "xquad.en.json").read_text())["data"]
    paragraphs = [p["context"] for article in squad for p in article["paragraphs"]]
    shares = ((captions, 0.3), (reviews, 0.3), (sentences, 0.25), (abstracts, 0.075), (paragraphs, 0.075))
    found = [text for source, share in shares for text in draw.choices(source, k=round(count * share))]
    draw.shuffle(found)
    return found


def worker(peer: str, folder: str) -> Run:
    """What a peer runs."""
    import torch

    dtype = torch.bfloat16 if "bfloat16" in peer else torch.float32
    if peer.startswith("multihead pipeline"):
        from multihead import pipeline

        pipe = pipeline("feature-extraction", folder, dtype=dtype)
        return lambda given: [len(x) for x in pipe(given, return_tensors=True, truncation=True)]
    if peer.startswith("multihead"):
        from multihead import SentenceEncoder

        encoder = SentenceEncoder.from_pretrained(folder, dtype=dtype)
        return lambda given: encoder.encode(given)
    if peer.startswith("sentence-transformers"):
        from sentence_transformers import SentenceTransformer

        other = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})
        return lambda given: other.encode(given, convert_to_numpy=False)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    theirs: Any = transformers.pipeline("feature-extraction", folder, dtype=dtype)
    size = 32 if "batches" in peer else 1
    return lambda given: theirs(given, batch_size=size, return_tensors=True, truncation=True)


def serve(peer: str, folder: str) -> None:
    """Answers each line of texts (JSON) with the seconds that they took."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = worker(peer, folder)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        given = json.loads(line)["texts"]
        began = time.perf_counter()
        run(given)
        print(json.dumps({"seconds": time.perf_counter() - began}), file=out, flush=True)


def main() -> None:
    from multihead import hub
    from multihead.pipelines.defaults import MINILM
    from peers import Worker, record

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--json", help="write the results here")
    chosen = options.parse_args()
    given = texts(chosen.data, chosen.count)
    words = [len(text.split()) for text in given]
    print(f"{len(given)} texts, words: mean {statistics.mean(words):.0f}, median {statistics.median(words):.0f}, "
          f"longest {max(words)}")  # fmt: skip
    folder = str(hub.resolve(MINILM.name))
    peers = {name: Worker(name, [__file__, "--worker", name, folder]) for name in EMBEDDING}
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(chosen.runs + 1):
        for name, peer in peers.items():
            part = given[: EMBEDDING[name] or len(given)]
            seconds = peer.run({"texts": part})["seconds"]
            if number:
                rates[name].append(len(part) / seconds)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    base = medians["sentence-transformers float32"]
    print("\nMiniLM, texts a second; ratio to sentence-transformers in float32")
    for name, median in medians.items():
        spread = f"{min(rates[name]):.0f} to {max(rates[name]):.0f}"
        print(f"  {name:<44} {median:7.0f}   ({spread})   {median / base:6.2f} x")
    record([{"title": "MiniLM", "rates": rates, "median": medians}], chosen.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(*sys.argv[2:4])
    else:
        main()
