"""Encoders beside the reference, ONNX Runtime, OpenVINO and sentence-transformers, in alternating runs.

python benchmarks/encoders.py --data FOLDER [--runs 5] [--only 1x16 natural] [--peers multihead openvino] [--json FILE]

FOLDER holds multi30k, scitldr, sst2 and xquad. BERT of the base size has random weights, MiniLM its own. Each peer is a
process that loads once and takes its turn, with as many threads as there are cores; the first turn is not counted, and
its answers are compared with the reference's in float32. What the machine reaches is measured in the same turns.
Peers that are not installed or do not start are left out and said to be.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoder_peers import CALIBRATION, THREADS, sentence_limit
from multihead import AutoTokenizer, hub
from multihead.pipelines.defaults import MINILM
from peers import PeerFailed, Worker, record
from tasks import texts as sentences

HERE = Path(__file__).parent
PAUSE = 0.3  # seconds before a turn: threads of the one before spin for some time
SHOWN = 32  # texts whose answers are compared
REFERENCE, ROOFLINE = "reference fp32", "roofline"
STEPS = {  # peer -> the files that it needs
    "onnxruntime fp32": ("onnx",),
    "onnxruntime int8": ("onnx", "onnx int8"),
    "openvino fp32": ("openvino",),
    "openvino bf16": ("openvino",),
    "openvino int8": ("openvino", "openvino int8"),
}
NEEDS = {  # peer's first word -> packages
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("openvino", "nncf"),
    "sentence-transformers": ("sentence_transformers",),
    "reference": ("transformers",),
    "pipeline": ("transformers",),
}
FIXED = ("1x16", "1x128", "32x128")  # texts by tokens of each
CASES = (*FIXED, "natural", "minilm")
CLASSIFIERS = (
    "multihead fp32", "multihead bf16", "multihead int8", REFERENCE, "reference bf16", "reference bf16 compiled",
    *STEPS,
)  # fmt: skip
ENCODERS = (
    "SentenceEncoder fp32", "SentenceEncoder bf16", "SentenceEncoder int8", "sentence-transformers fp32",
    "sentence-transformers bf16", "pipeline fp32",
)  # fmt: skip
OURS = {"multihead": "multihead", "SentenceEncoder": "multihead"}


def worker(peer: str, folder: str, room: Path) -> Worker:
    program = [str(HERE / "encoder_peers.py"), peer, folder]
    return Worker(peer, program, environment(room), room / f"{peer}.log", PAUSE)


def environment(room: Path) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "true",
        "TORCHINDUCTOR_CACHE_DIR": str(room / "inductor"),
    }  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        texts: lists of ids, or strings. lengths: tokens of each. fixed: they have one length, known ahead.
        compared: the peer whose answers are the right ones. base: of the ratios.
        parts: peer -> texts of a turn, for slow ones.
    """

    title: str
    folder: str
    peers: Sequence[str]
    texts: Sequence[Any]
    lengths: Sequence[int]
    base: str
    fixed: bool = False
    parts: Mapping[str, int] = field(default_factory=dict)

    def job(self, peer: str, seconds: float) -> dict[str, Any]:
        part = self.parts.get(peer, len(self.texts))
        return {"texts": self.texts[:part], "fixed": self.fixed, "seconds": seconds, "shown": SHOWN}

    def operations(self, peer: str) -> float:
        """Of a text, on average: products with the layers' matrices and attention, of real tokens only."""
        config = json.loads((Path(self.folder) / "config.json").read_text())
        width, inner, layers = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
        lengths = self.lengths[: self.parts.get(peer, len(self.texts))]
        matrices = layers * (4 * width * width + 2 * width * inner)
        return statistics.mean(2 * matrices * n + 4 * layers * width * n * n for n in lengths)


def difference(rows: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    """The largest difference of any number."""
    pairs = [(x, y) for row, other in zip(rows, right, strict=False) for x, y in zip(row, other, strict=True)]
    return max(abs(x - y) for x, y in pairs)


class Measurement:
    """A case's turns: speeds of each peer in texts a second, answers, and what the machine reaches."""

    def __init__(self, case: Case, room: Path) -> None:
        self.case, self.room = case, room
        self.workers: list[Worker] = []
        self.rows: dict[str, list[list[float]]] = {}
        self.speeds: dict[str, list[float]] = {}
        self.reached: dict[str, list[float]] = {}

    def start(self) -> None:
        """Loads every peer and lets it run once; those that fail are said and left out."""
        for peer in dict.fromkeys([self.case.base, *self.case.peers]):  # answers are compared with the base's
            try:
                started = worker(peer, self.case.folder, self.room)
                self.rows[peer] = started.run(self.case.job(peer, 0.0))["rows"]
            except PeerFailed as failure:
                print(f"Left out: {failure}", flush=True)
                continue
            if peer in self.case.peers:
                self.workers.append(started)
            else:
                started.close()

    def turns(self, runs: int, seconds: float) -> None:
        roofline = worker(ROOFLINE, "", self.room)
        for _ in range(runs):
            for name, value in roofline.run({}).items():
                self.reached.setdefault(name, []).append(value)
            for each in self.workers:
                job = self.case.job(each.name, seconds)
                done = each.run(job)
                speed = len(job["texts"]) * done["passes"] / done["seconds"]
                self.speeds.setdefault(each.name, []).append(speed)
        for each in [roofline, *self.workers]:
            each.close()

    def result(self) -> dict[str, Any]:
        """Prints the table; gives it as data."""
        case, right = self.case, self.rows.get(self.case.base)
        reached = {name: statistics.median(found) for name, found in self.reached.items()}
        medians = {name: statistics.median(found) for name, found in self.speeds.items()}
        self.headline(reached)
        peers: dict[str, Any] = {}
        for name, median in sorted(medians.items(), key=lambda item: -item[1]):
            peak = reached.get(name.split()[1])
            peers[name] = {
                "median": median,
                "runs": self.speeds[name],
                "ratio": median / medians[case.base] if case.base in medians else None,
                "share": median * case.operations(name) / peak if peak else None,
                "difference": difference(self.rows[name], right) if right else None,
            }
            print(line(name, peers[name]), flush=True)
        lengths = list(case.lengths)
        return {"title": case.title, "base": case.base, "lengths": lengths, "roofline": reached, "peers": peers}

    def headline(self, reached: Mapping[str, float]) -> None:
        right = self.rows.get(self.case.base)
        print(f"\n{self.case.title} (texts a second; ratios and differences to {self.case.base})")
        kinds = [f"{name} {reached[name] / 1e9:.0f}" for name in ("fp32", "bf16", "int8") if name in reached]
        if "bytes" in reached:
            print(f"  The machine: {', '.join(kinds)} GFLOP/s; reads {reached['bytes'] / 1e9:.1f} GB/s")
        if right:
            low, high = min(map(min, right)), max(map(max, right))
            apart = statistics.mean(statistics.pstdev(column) for column in zip(*right, strict=True))
            print(f"  Right answers: {low:.3f} to {high:.3f}, deviation from text to text {apart:.3f}")
        print(f"  {'':<28}{'median':>9}   {'spread':<20}{'ratio':>7}{'share':>8}{'difference':>12}")


def line(name: str, found: Mapping[str, Any]) -> str:
    spread = f"({min(found['runs']):.1f} to {max(found['runs']):.1f})"
    ratio = "" if found["ratio"] is None else f"{found['ratio']:.2f}"
    share = "" if found["share"] is None else f"{100 * found['share']:.0f}%"
    apart = "" if found["difference"] is None else f"{found['difference']:.1e}"
    return f"  {name:<28}{found['median']:>9.1f}   {spread:<20}{ratio:>7}{share:>8}{apart:>12}"


def natural(folder: Path, tokenizer: Any, count: int) -> list[list[int]]:
    """Ids of review sentences and, a third of all, abstracts, from 5 to 300 tokens."""
    reviews = [row.split("\t")[1] for row in (folder / "sst2" / "dev.tsv").read_text().splitlines()[1:]]
    rows = [json.loads(row) for row in (folder / "scitldr" / "dev.jsonl").read_text().splitlines()]
    draw = random.Random(0)
    found = []
    for source, share in ((reviews, count - count // 3), ([" ".join(row["source"]) for row in rows], count // 3)):
        fit = [ids for ids in tokenizer.encode_ids(source) if 5 <= len(ids) <= 300]
        found += draw.sample(fit, share)
    draw.shuffle(found)
    return found


def cut(texts: Sequence[Sequence[int]], rows: int, length: int) -> list[list[int]]:
    """Real text, laid end to end and cut into rows of one length, each with the special tokens of a text."""
    first, last = texts[0][0], texts[0][-1]
    stream = [token for text in texts for token in text[1:-1]]
    stream *= 1 + rows * length // len(stream)
    size = length - 2
    return [[first, *stream[size * i : size * (i + 1)], last] for i in range(rows)]


def cases(bert: str, minilm: str, data: Path, quick: bool, fixed: Sequence[str] = FIXED) -> dict[str, Case]:
    tokenizer = AutoTokenizer.from_pretrained(minilm)  # its words are BERT's
    drawn = natural(data, tokenizer, 32 if quick else 136)
    texts, calibration = (drawn[:24], drawn[24:]) if quick else (drawn[:96], drawn[96:])
    (Path(bert) / CALIBRATION).write_text(json.dumps(calibration))
    found = {}
    for name in fixed:
        rows, length = map(int, name.split("x"))
        ids, title = cut(texts, rows, length), f"BERT base, {rows} x {length} tokens"
        found[name] = Case(title, bert, CLASSIFIERS, ids, [length] * rows, REFERENCE, fixed=True)
    plain = [peer for peer in CLASSIFIERS if "compiled" not in peer]
    title = f"BERT base, {len(texts)} texts of natural lengths"
    found["natural"] = Case(title, bert, plain, texts, [len(text) for text in texts], REFERENCE)
    given = sentences(data, 48 if quick else 2000)
    limit = sentence_limit(minilm)
    lengths = [min(limit, len(ids)) for ids in tokenizer.encode_ids(given)]
    title = f"MiniLM, vectors of {len(given)} texts"
    found["minilm"] = Case(
        title, minilm, ENCODERS, given, lengths, "sentence-transformers fp32", parts={"pipeline fp32": 200}
    )  # fmt: skip
    return found


def prepare(step: str, folder: Path, room: Path) -> bool:
    """Writes what peers need, in a process of its own; whether that went well."""
    command = [sys.executable, str(HERE / "encoder_peers.py"), "--prepare", step, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment(room)})
    if done.returncode:
        print(f"Preparing {step} failed: {(done.stderr.strip().splitlines() or [''])[-1][:300]}", flush=True)
    return not done.returncode


def ready(peers: Sequence[str], folder: Path, room: Path) -> list[str]:
    """The peers that are installed and whose files could be made."""
    absent = {peer for peer in peers if any(not importlib.util.find_spec(p) for p in NEEDS.get(peer.split()[0], ()))}
    if absent:
        print(f"Not installed, left out: {', '.join(sorted(absent))}")
    there = [peer for peer in peers if peer not in absent]
    made = {step: prepare(step, folder, room) for step in dict.fromkeys(s for p in there for s in STEPS.get(p, ()))}
    return [peer for peer in there if all(made[step] for step in STEPS.get(peer, ()))]


def versions() -> dict[str, str]:
    found = {}
    for name in ("sentence-transformers", "onnx", "onnxruntime", "openvino", "nncf"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def wanted(peer: str, names: Sequence[str] | None) -> bool:
    """Whether any of the names is the peer's, or a part of it."""
    told = f"{OURS.get(peer.split()[0], '')} {peer}"
    return not names or any(name in told for name in names)


def case_name(text: str) -> str:
    rows, by, length = text.partition("x")
    if text in CASES or (by and rows.isdigit() and length.isdigit() and int(rows) and 3 <= int(length) <= 512):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(CASES)}, nor texts x tokens such as 4x64")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument(
        "--only", nargs="*", type=case_name, help="comparisons: natural, minilm, or texts x tokens such as 4x64"
    )
    options.add_argument("--peers", nargs="*", help="names of peers, or parts of them")
    options.add_argument("--seconds", type=float, default=1.0, help="of a turn, at least; and at least one pass")
    options.add_argument("--quick", action="store_true", help="few texts and one pass a turn, to see that all runs")
    options.add_argument("--json", help="write the results here")
    chosen = options.parse_args()
    minilm = str(hub.resolve(MINILM.name))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        room, bert = Path(place), Path(place) / "bert"
        bert.mkdir()
        if not prepare("weights", bert, room):
            raise SystemExit("BERT's weights could not be made.")
        fixed = [name for name in chosen.only or FIXED if name not in CASES or name in FIXED]
        all_cases = cases(str(bert), minilm, chosen.data, chosen.quick, fixed)
        picked = {name: case for name, case in all_cases.items() if not chosen.only or name in chosen.only}
        asked = [peer for case in picked.values() for peer in case.peers if wanted(peer, chosen.peers)]
        there = ready(list(dict.fromkeys(asked)), bert, room)
        for case in picked.values():
            part = [peer for peer in case.peers if peer in there]
            measured = Measurement(Case(**{**case.__dict__, "peers": part}), room)
            measured.start()
            measured.turns(chosen.runs, 0.0 if chosen.quick else chosen.seconds)
            results.append(measured.result())
    results.append({"title": "Versions", "threads": THREADS, **versions()})
    print("\n" + ", ".join(f"{name} {value}" for name, value in [("threads", THREADS), *versions().items()]))
    record(results, chosen.json)


if __name__ == "__main__":
    main()
