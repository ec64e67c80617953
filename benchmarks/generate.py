"""Generation beside the reference, its continuous batching, CTranslate2 and llama.cpp, in alternating runs.

python benchmarks/generate.py --runs 3 [--only many] [--json results.json]

Peers that are not installed are left out and said to be. Each peer is a process that loads once and takes its turn;
texts never end by themselves, so that all make as many tokens. Prompts are natural text, cut at lengths drawn once.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multihead import AutoModelForCausalLM, AutoTokenizer, hub
from multihead.cli import demo_texts as samples
from multihead.modeling.gguf_export import save_gguf
from multihead.pipelines.defaults import SMOLLM2
from peers import Worker, record

HERE = Path(__file__).parent
TEXT = " ".join([*samples.REVIEWS, *samples.SENTENCES, samples.ARTICLE, *samples.QUESTIONS, *samples.CANDIDATES])


def worker(peer: str, folder: str, precision: str) -> Worker:
    program = [str(HERE / "workers.py"), peer, folder, precision]
    return Worker(f"{peer} {precision}", program, {"TOKENIZERS_PARALLELISM": "false"})


def speed(worker: Worker, job: Mapping[str, Any]) -> float:
    """Tokens a second."""
    done = worker.run(job)
    return float(done["tokens"] / done["seconds"])


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        peers: (peer, folder or file, precision). base: of the ratios, a peer's name and precision.
        new: tokens for each prompt. counted: what the numbers count.
    """

    title: str
    peers: Sequence[tuple[str, str, str]]
    prompts: Sequence[Sequence[int]]
    new: Sequence[int]
    base: str
    beams: int = 1
    counted: str = "new tokens"
    slow: frozenset[str] = field(default_factory=frozenset)  # peers that run once, since they take minutes

    def measure(self, runs: int) -> dict[str, Any]:
        job = {"prompts": self.prompts, "new": self.new, "beams": self.beams}
        short = {"prompts": self.prompts[:1], "new": [2], "beams": self.beams}
        workers = [worker(*peer) for peer in self.peers]
        found: dict[str, list[float]] = {each.name: [] for each in workers}
        scale = sum(map(len, self.prompts)) / sum(self.new) if self.counted == "prompt tokens" else 1.0
        for each in workers:
            each.run(short)
        for number in range(runs):
            for each in workers:
                if not number or each.name not in self.slow:
                    found[each.name].append(speed(each, job) * scale)
        for each in workers:
            each.close()
        medians = {name: statistics.median(speeds) for name, speeds in found.items()}
        print(f"\n{self.title} ({self.counted} a second; ratios to {self.base})")
        for name, median in sorted(medians.items(), key=lambda item: -item[1]):
            spread = f"{min(found[name]):.0f} to {max(found[name]):.0f}"
            print(f"  {name:<34} {median:8.1f}   ({spread})   {median / medians[self.base]:6.2f} x", flush=True)
        return {"title": self.title, "base": self.base, "counted": self.counted, "median": medians, "runs": found}


def marian(folder: Path) -> None:
    """Random weights of Marian's base sizes, as the reference saves them, and CTranslate2's copy."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=32_000, d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
        decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048, max_position_embeddings=512,
        scale_embedding=True, eos_token_id=3, forced_eos_token_id=None, pad_token_id=0, decoder_start_token_id=0,
        bos_token_id=None,
    )  # fmt: skip
    model = MarianMTModel(config).eval()
    model.generation_config.bad_words_ids = None
    model.save_pretrained(folder)
    if importlib.util.find_spec("ctranslate2"):
        copied(model, folder / "ctranslate2")


def copied(model: Any, folder: Path) -> None:
    """The model in CTranslate2's format; token i is called ti."""
    from ctranslate2.converters.transformers import MarianMTLoader

    loader = MarianMTLoader()
    words = ["</s>" if i == 3 else "<unk>" if i == 1 else f"t{i}" for i in range(1, 32_000)]  # padding has no row there

    class Words:
        unk_token, eos_token, pad_token, bos_token = "<unk>", "</s>", "<pad>", "<s>"

    loader.get_vocabulary = lambda model, tokenizer: list(words)
    spec = loader.get_model_spec(model)
    loader.set_config(spec.config, model, Words())
    spec.config.add_source_eos = False
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.validate()
    spec.optimize()
    folder.mkdir()
    spec.save(str(folder))


def lengths(count: int, low: int, high: int, seed: int) -> list[int]:
    """Lengths as texts have them: many short, a few long."""
    draw = random.Random(seed)
    return [min(high, max(low, round(draw.lognormvariate(0.0, 0.7) * (low * high) ** 0.5))) for _ in range(count)]


def cases(smol: str, gguf: str, base: str) -> dict[str, Case]:
    tokenizer = AutoTokenizer.from_pretrained(smol)
    ids = tokenizer.encode_ids([TEXT], special=False)[0] * 20

    def prompts(sizes: Sequence[int]) -> list[list[int]]:
        return [ids[17 * i : 17 * i + size] for i, size in enumerate(sizes)]

    def words(sizes: Sequence[int]) -> list[list[int]]:
        draw = random.Random(5)
        return [[draw.randrange(4, 32_000) for _ in range(size - 1)] + [3] for size in sizes]

    ours = [("multihead", smol, precision) for precision in ("float32", "bfloat16", "bf16", "int8", "int4")]
    alone = [("reference-alone", smol, "float32"), ("reference-alone", smol, "bfloat16")]
    many = [*ours, alone[0], ("reference-padded", smol, "float32"), ("reference-continuous", smol, "float32")]
    llama = [("llama.cpp", gguf, "q4_1"), ("llama.cpp", f"{smol}-q8_0.gguf", "q8_0")]
    both = [("multihead", base, precision) for precision in ("float32", "bf16", "int8")]
    fast = [*both[1:], ("ctranslate2", base, "int8")]
    cells = {
        f"{'beam' if beams > 1 else 'greedy'}-{count}": Case(
            f"Marian's base size, {count} sources, {f'beam {beams}' if beams > 1 else 'greedy'}", fast,
            words(lengths(count, 8, 60, count)), [32] * count, "ctranslate2 int8", beams=beams,
        )
        for beams in (1, 4) for count in (1, 16, 64)
    }  # fmt: skip
    others = [("reference-padded", base, "float32"), ("reference-padded", base, "bfloat16"),
              ("ctranslate2", base, "float32"), ("ctranslate2", base, "int8")]  # fmt: skip
    shared = [ids[:512] + ids[600 + 9 * i : 620 + 13 * i] for i in range(16)]
    lone = "reference-alone float32"
    slow = frozenset([lone, "reference-continuous float32"])
    return {
        "decode": Case("SmolLM2, one text of 64 tokens goes on", [*ours, *alone, *llama], prompts([64]), [64], lone),
        "prefill": Case(
            "SmolLM2, a prompt of 1,024 tokens is read", [*ours, *alone, *llama], prompts([1024]), [1], lone,
            counted="prompt tokens",
        ),
        "many": Case(
            "SmolLM2, 16 requests of mixed lengths", many, prompts(lengths(16, 16, 256, 1)), lengths(16, 16, 128, 2),
            lone, slow=slow,
        ),
        "more": Case(
            "SmolLM2, 64 requests of mixed lengths", many, prompts(lengths(64, 16, 256, 3)), lengths(64, 16, 128, 4),
            lone, slow=slow,
        ),
        "shared": Case(
            "SmolLM2, 16 requests with 512 tokens in common", many, shared, [32] * 16, lone, slow=slow
        ),
        "beams": Case(
            "Marian's base size, 16 sources, beam 4", [*both, *others], words(lengths(16, 8, 60, 6)), [32] * 16,
            "reference-padded float32", beams=4,
        ),
        "greedy": Case(
            "Marian's base size, one source, greedy", [*both, *others], words([24]), [32], "reference-padded float32"
        ),
        **cells,
    }  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--only", nargs="*", help="names of comparisons")
    options.add_argument("--json", help="write the results here")
    chosen = options.parse_args()
    gguf = str(hub.resolve(SMOLLM2.name))
    with tempfile.TemporaryDirectory() as room:
        smol, base = Path(room) / "smol", Path(room) / "marian"
        model, tokenizer = (kind.from_pretrained(SMOLLM2.name) for kind in (AutoModelForCausalLM, AutoTokenizer))
        model.save_pretrained(smol)
        tokenizer.save_pretrained(smol)
        save_gguf(model, tokenizer, Path(f"{smol}-q8_0.gguf"), "Q8_0")
        marian(base)
        absent = {"llama.cpp" if name == "llama_cpp" else name for name in ("llama_cpp", "ctranslate2")
                  if not importlib.util.find_spec(name)}  # fmt: skip
        if absent:
            print(f"Not installed, left out: {', '.join(sorted(absent))}")
        results = []
        for name, case in cases(str(smol), gguf, str(base)).items():
            if not chosen.only or name in chosen.only:
                there = [peer for peer in case.peers if peer[0] not in absent]
                results.append(Case(**{**case.__dict__, "peers": there}).measure(chosen.runs))
    record(results, chosen.json)


if __name__ == "__main__":
    main()
