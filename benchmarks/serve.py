"""`multihead serve` beside other servers, in alternating runs: chats, embeddings, and the time to the first answer.

python benchmarks/serve.py chats --data DATA [--llama LLAMA_SERVER] [--openvino PYTHON] [--runs 3] [--json FILE]
python benchmarks/serve.py embeddings --data DATA [--runs 3]
python benchmarks/serve.py overhead --data DATA   # the server beside its own engine in one process
python benchmarks/serve.py start                  # seconds to /ready beside `import torch`

Peers that are not installed are left out and said to be: llama.cpp's server (a path), OpenVINO GenAI behind FastAPI
(the Python that has both), the reference's `transformers serve`, infinity-emb (a path of its own Python),
sentence-transformers behind FastAPI. Every server gets the same model (SmolLM2-135M-Instruct, all-MiniLM-L6-v2), the
same client and the same prompts, which no server has seen before. Texts are greedy and of a fixed number of tokens
where the server can ignore the end token. While one server is measured, the others wait without work. DATA is a folder
with xquad/xquad.en.json.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import queue
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from http_load import LoadResult, run_chats, run_embeddings, run_whole_chats
from multihead import AutoModelForCausalLM, AutoTokenizer, hub
from multihead.pipelines.defaults import MINILM, SMOLLM2
from peers import machine

HERE = Path(__file__).parent
LEVELS = (1, 4, 16, 64)
Chats = Sequence[list[dict[str, str]]]
PROMPT_WORDS, NEW_TOKENS = 90, 64


@dataclass(frozen=True)
class Peer:
    """A server of a benchmark.

    Args:
        command: with {port} in it. health: path that answers 200 once it serves. model: name in requests.
        body: further fields of a request.
    """

    name: str
    command: Sequence[str]
    model: str
    health: str = "/health"
    body: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(peer: Peer, logs: Path) -> Iterator[str]:
    """Start a server; yield its address once it answers. Raises RuntimeError with its log."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    log = logs / f"{peer.name.replace(' ', '-').replace('/', '-')}.log"
    with log.open("w") as out:
        command = [part.format(port=port) for part in peer.command]
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **peer.environment})
    try:
        wait_until_ready(base + peer.health, process, log)
        yield base
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, most: float = 300.0) -> float:
    """Wait until a server answers 200; return the seconds. Raises RuntimeError."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < most:
        if process.poll() is not None:
            raise RuntimeError(f"The server ended: {log.read_text()[-500:]}")
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status == 200:
                    return time.perf_counter() - begin
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{url} did not answer: {log.read_text()[-500:]}")


def contexts(data: Path) -> list[str]:
    """Return paragraphs of natural English."""
    found = json.loads((data / "xquad" / "xquad.en.json").read_text())["data"]
    return [paragraph["context"] for article in found for paragraph in article["paragraphs"]]


class Prompts:
    """Chats that differ from their first words on, so that no server knows a prompt already."""

    def __init__(self, data: Path) -> None:
        self.words = " ".join(contexts(data)).split()
        self.draw = random.Random(0)

    def take(self, count: int) -> list[list[dict[str, str]]]:
        out = []
        for _ in range(count):
            begin = self.draw.randrange(len(self.words) - PROMPT_WORDS)
            text = " ".join(self.words[begin : begin + PROMPT_WORDS])
            out.append([{"role": "user", "content": f"{text}\n\nExplain this text to a child."}])
        return out


def own_chat_peers(arguments: argparse.Namespace) -> list[Peer]:
    """Return our server in each precision."""
    fixed = {"ignore_eos": True, "min_tokens": NEW_TOKENS}
    ours = [sys.executable, "-m", "multihead", "serve", f"smollm2={SMOLLM2.name}", "--port", "{port}"]
    return [
        Peer(f"multihead {precision}", [*ours, "--precision", precision], "smollm2", "/ready", fixed)
        for precision in arguments.precisions
    ]


def chat_peers(arguments: argparse.Namespace, folder: Path) -> list[Peer]:
    """Return the servers of the comparison of chats that are installed.

    Args:
        folder: where their checkpoints are written, which other servers read.
    """
    gguf, peers = hub.resolve(SMOLLM2.name), own_chat_peers(arguments)
    if arguments.llama:
        for name, file in (("q4_1", gguf), ("q8_0", quantized_file(folder))):
            command = [arguments.llama, "-m", str(file), "--port", "{port}", "-np", "64", "-c", str(64 * 512), "-t",
                       str(os.cpu_count()), "--no-ui"]  # fmt: skip
            peers.append(Peer(f"llama.cpp {name}", command, "smollm2", body={"ignore_eos": True}))
    else:
        print("llama.cpp is left out: --llama names no llama-server.")
    if arguments.openvino:
        command = [arguments.openvino, str(HERE / "serve_openvino.py"), str(gguf), "{port}"]
        peers.append(Peer("OpenVINO GenAI q4_1", command, "smollm2", body={"ignore_eos": True}))
    else:
        print("OpenVINO GenAI is left out: --openvino names no Python that has openvino_genai and fastapi.")
    if importlib.util.find_spec("fastapi") and shutil.which("transformers"):
        saved = saved_checkpoint(folder)
        for mode in ((), ("--continuous-batching",)):
            name = "reference continuous" if mode else "reference"
            command = ["transformers", "serve", str(saved), "--port", "{port}", "--dtype", "bfloat16", "--device",
                       "cpu", *mode]  # fmt: skip
            peers.append(Peer(name, command, str(saved), environment={"HF_HUB_OFFLINE": "1"}))
    else:
        print('The reference is left out: pip install "transformers[serving]".')
    return [peer for peer in peers if not arguments.only or any(name in peer.name for name in arguments.only)]


def saved_checkpoint(folder: Path) -> Path:
    """Save SmolLM2 in bfloat16 as the reference reads it."""
    out = folder / "smollm2"
    if not out.exists():
        AutoModelForCausalLM.from_pretrained(SMOLLM2.name, dtype="bfloat16").save_pretrained(out)
        AutoTokenizer.from_pretrained(SMOLLM2.name).save_pretrained(out)
    return out


def quantized_file(folder: Path) -> Path:
    """Save SmolLM2 as a GGUF file in Q8_0."""
    from multihead.modeling.gguf_export import save_gguf

    out = folder / "smollm2-q8_0.gguf"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(SMOLLM2.name), AutoTokenizer.from_pretrained(SMOLLM2.name)
    save_gguf(model, tokenizer, out, "Q8_0")
    return out


def chat_body(peer: Peer, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return a request that every server understands."""
    return {
        "model": peer.model, "messages": list(messages), "max_tokens": NEW_TOKENS, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, **peer.body,
    }  # fmt: skip


def measure_chats(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all servers at all levels of concurrency, in turns."""
    prompts, found = Prompts(arguments.data), dict[str, dict[int, list[LoadResult]]]()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        bases: dict[str, str] = {}
        peers = chat_peers(arguments, folder)
        for peer in peers:
            bases[peer.name] = stack.enter_context(running(peer, folder))
            bodies = [chat_body(peer, messages) for messages in prompts.take(2)]
            asyncio.run(run_chats(bases[peer.name], bodies, 2))  # warm
        for turn in range(arguments.runs):
            for level in arguments.levels:
                chats = prompts.take(max(level, 3) if level < 64 else level)
                for peer in peers if turn % 2 == 0 else reversed(peers):
                    bodies = [chat_body(peer, messages) for messages in chats]
                    time.sleep(arguments.pause)
                    result = asyncio.run(run_chats(bases[peer.name], bodies, level))
                    found.setdefault(peer.name, {}).setdefault(level, []).append(result)
                    print(f"{turn} {level:3} {peer.name:24} {result}", flush=True)
    return summary(found)


def summary(found: Mapping[str, Mapping[int, Sequence[LoadResult]]]) -> dict[str, Any]:
    """Return medians, and ratios to the first peer that is not ours, by level."""
    out: dict[str, Any] = {}
    for name, levels in found.items():
        for level, results in levels.items():
            out.setdefault(name, {})[str(level)] = {
                "tokens_per_second": statistics.median(r.rate for r in results),
                "first_token": statistics.median(r.first for r in results),
                "between_tokens": statistics.median(r.between for r in results),
                "failures": sum(r.failures for r in results),
            }
    bases = [name for name in out if not name.startswith("multihead")]
    for own in (name for name in out if name.startswith("multihead")):
        for base in bases:
            for level, row in out[own].items():
                other = out[base][level]
                ratio = row["tokens_per_second"] / other["tokens_per_second"]
                sooner = other["first_token"] / row["first_token"]
                print(f"{own} / {base}, {level} chats: {ratio:.2f} x tokens/s, first token {sooner:.2f} x sooner")
                row[f"ratio to {base}"] = ratio
    return out


def measure_overhead(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare tokens a second over HTTP, in streams and whole, with those of the engine alone, in turns.

    The engine alone has the same arrivals: as many callers in this process, of which each sends its next prompt when
    its last one has ended. `generate` of all prompts, whose texts begin and end together, is a second measure.
    The client computes on the same cores. Processor seconds a token tell what the server itself adds to its engine.
    """
    from multihead.generation.generate import generate_tokens
    from multihead.pipelines.pipeline import pipeline

    precision, prompts = arguments.precisions[0], Prompts(arguments.data)
    pipe: Any = pipeline("text-generation", SMOLLM2.name, precision=precision)
    config = pipe.model.generation_config.changed(max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None)
    peer = own_chat_peers(arguments)[0]
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, running(peer, Path(name)) as base:

        def stream(chats: Chats, level: int) -> int:
            return asyncio.run(run_chats(base, [chat_body(peer, chat) for chat in chats], level)).tokens

        def whole(chats: Chats, level: int) -> int:
            return asyncio.run(run_whole_chats(base, [chat_body(peer, chat) for chat in chats], level))

        def engine(chats: Chats, level: int) -> int:
            return continue_chats(pipe, chats, config, level)

        def together(chats: Chats, level: int) -> int:
            return sum(map(len, generate_tokens(pipe.model, [pipe.chat_ids(c) for c in chats], config, together=level)))

        for level in arguments.levels:
            loads = {"engine": engine, "generate": together, "streams": stream, "whole": whole}
            rows: dict[str, list[tuple[float, float]]] = {load: [] for load in loads}
            for turn in range(arguments.runs + 1):
                for load, run in loads.items():
                    time.sleep(arguments.pause)
                    own = load in ("engine", "generate")
                    row = rate_and_cost(partial(run, prompts.take(4 * level), level), base, own)
                    if turn:  # the first one warms all
                        rows[load].append(row)
            out[str(level)] = overhead_row(level, rows)
    return out


def continue_chats(pipe: Any, chats: Chats, config: Any, level: int) -> int:
    """Continue chats by an engine thread, `level` callers at a time; return the number of tokens."""
    from multihead.generation.engine_thread import Ended, EngineRequest, EngineThread

    waiting, ended, engine, tokens = list(reversed(chats)), queue.SimpleQueue[int](), EngineThread(pipe.model), 0

    def listen(events: Sequence[Any]) -> None:
        for event in events:
            if isinstance(event, Ended):
                ended.put(sum(map(len, event.results)))

    try:
        for number in range(len(chats) + level):
            tokens += ended.get() if number >= level else 0
            if waiting:
                engine.submit(EngineRequest(pipe.chat_ids(waiting.pop()), config, listen))
    finally:
        engine.close()
    return tokens


def rate_and_cost(run: Callable[[], int], base: str, own: bool) -> tuple[float, float]:
    """Return tokens a second, and seconds of processor time a token: of this process, or of the server."""
    begin, used = time.perf_counter(), time.process_time() if own else processor_seconds(base)
    tokens = run()
    seconds, now = time.perf_counter() - begin, time.process_time() if own else processor_seconds(base)
    return tokens / seconds, (now - used) / tokens


def overhead_row(level: int, rows: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Return medians of each load, and its median ratios to the engine alone; print them."""
    out: dict[str, Any] = {}
    for load, row in rows.items():
        base = rows["engine"]
        out[load] = {
            "tokens_per_second": statistics.median(rate for rate, _ in row),
            "ratio": statistics.median(rate / other for (rate, _), (other, _) in zip(row, base, strict=True)),
            "processor_milliseconds": 1e3 * statistics.median(cost for _, cost in row),
            "ratio of processor time": statistics.median(c / o for (_, c), (_, o) in zip(row, base, strict=True)),
        }
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in out[load].items())
        print(f"{level:3} chats, {load:8}: {numbers}", flush=True)
    return out


def processor_seconds(base: str) -> float:
    """Return the processor time that a server of ours has used."""
    with urllib.request.urlopen(base + "/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total "))


def embedding_peers(arguments: argparse.Namespace) -> list[Peer]:
    """Return the servers of the comparison of embeddings that are installed."""
    folder = str(hub.resolve(MINILM.name))
    ours = [sys.executable, "-m", "multihead", "serve", f"minilm={MINILM.name}", "--port", "{port}"]
    peers = [
        Peer(f"multihead {precision}", [*ours, "--precision", precision], "minilm", "/ready")
        for precision in arguments.precisions
    ]
    if importlib.util.find_spec("fastapi") and importlib.util.find_spec("sentence_transformers"):
        command = [sys.executable, str(HERE / "serve_sentence_transformers.py"), folder, "{port}"]
        peers.append(Peer("sentence-transformers behind FastAPI", command, "minilm"))
    if arguments.infinity:
        command = [arguments.infinity, "v2", "--model-id", folder, "--served-model-name", "minilm", "--port", "{port}",
                   "--url-prefix", "/v1", "--device", "cpu", "--engine", "torch", "--no-bettertransformer"]  # fmt: skip
        peers.append(Peer("infinity-emb", command, "minilm"))
    return [peer for peer in peers if not arguments.only or any(name in peer.name for name in arguments.only)]


def measure_embeddings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure texts a second of all servers: one text a request from many clients, and batches of 32."""
    texts = [text for context in contexts(arguments.data) for text in context.split(". ") if len(text) > 20]
    draw, found = random.Random(0), dict[str, dict[str, list[float]]]()
    shapes = {"1 text, 16 clients": (1, 16, 200), "32 texts, 4 clients": (32, 4, 16)}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        peers = embedding_peers(arguments)
        bases = {peer.name: stack.enter_context(running(peer, Path(name))) for peer in peers}
        for turn in range(arguments.runs + 1):
            for shape, (size, clients, count) in shapes.items():
                batches = [draw.sample(texts, size) for _ in range(count)]
                for peer in peers:
                    time.sleep(arguments.pause)
                    rate = asyncio.run(run_embeddings(bases[peer.name], peer.model, batches, clients))
                    if turn:
                        found.setdefault(peer.name, {}).setdefault(shape, []).append(rate)
                        print(f"{turn} {shape:20} {peer.name:40} {rate:8.1f} texts/s", flush=True)
    return {name: {shape: statistics.median(rates) for shape, rates in row.items()} for name, row in found.items()}


def measure_start(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare the command until /ready with `import torch`, in turns: seconds, and seconds of processor time."""
    command = [sys.executable, "-m", "multihead", "serve", f"smollm2={SMOLLM2.name}", "--port", "{port}"]
    peer = Peer("multihead", command, "smollm2", "/ready")
    rows: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        with running(peer, Path(name)):  # writes the compiled modules
            pass
        for _ in range(arguments.runs):
            begin, before = time.perf_counter(), child_seconds()
            subprocess.run([sys.executable, "-c", "import torch"], check=True)
            alone, own = time.perf_counter() - begin, child_seconds() - before
            begin, before = time.perf_counter(), child_seconds()
            with running(peer, Path(name)):
                ready = time.perf_counter() - begin
            rows.append((alone, ready, own, child_seconds() - before))
    names = ("import torch", "ready", "import torch, processor", "ready and end, processor")
    out = {name: statistics.median(row[place] for row in rows) for place, name in enumerate(names)}
    out["ratio"] = statistics.median(row[1] / row[0] for row in rows)
    out["seconds over import torch"] = statistics.median(row[1] - row[0] for row in rows)
    print(", ".join(f"{name} {value:.2f}" for name, value in out.items()))
    return out


def child_seconds() -> float:
    """Return the processor time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


JOBS: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "chats": measure_chats, "embeddings": measure_embeddings, "overhead": measure_overhead, "start": measure_start,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS))
    parser.add_argument("--precisions", nargs="+", default=["int4", "int8", "bf16"])
    parser.add_argument("--only", nargs="+", help="Parts of names of peers.")
    parser.add_argument("--llama", help="Path of llama-server.")
    parser.add_argument("--openvino", help="Python that has openvino_genai, fastapi and uvicorn.")
    parser.add_argument("--infinity", help="Path of infinity_emb.")
    parser.add_argument("--pause", type=float, default=1.0, help="Seconds before each run.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = {"job": arguments.job, "machine": machine(), "results": JOBS[arguments.job](arguments)}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
