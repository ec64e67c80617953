"""On a GPU, beside the reference and what torch.compile makes of it: encoders, one text, many requests.

    python benchmarks/gpu.py [encoders] [decoders] [--runs N] [--json FILE]

Weights are random, of the sizes of BERT base, SmolLM2 135M and TinyLlama 1.1B, in bfloat16; both libraries read the
same folder and begin with lists of ids. Turns alternate; medians are printed, and what share of the GPU's own limits
they reach, which are measured in the same run.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

import multihead
from peers import record

BERT = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 512, "num_labels": 2,
}  # fmt: skip
LLAMAS = {
    "SmolLM2 135M": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
        "tie_word_embeddings": True, "eos_token_id": None,
    },
    "TinyLlama 1.1B": {
        "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
        "tie_word_embeddings": False, "eos_token_id": None,
    },
}  # fmt: skip
NEW = 128  # tokens that a text goes on for


def timed(work: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def alternating(ways: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Seconds of each way, in turns; each is run once before."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, work in ways.items():
            taken = timed(work)
            if number:
                found[name].append(taken)
    return found


def limits() -> dict[str, float]:
    """Bytes and bfloat16 operations a second: a large copy, read and written, and a large product."""
    x = torch.randn(2**28, device="cuda")
    y = torch.empty_like(x)
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    ways = {"copy": lambda: [y.copy_(x) for _ in range(10)], "product": lambda: [a @ b for _ in range(10)]}
    copy, product = (statistics.median(found) / 10 for found in alternating(ways, 5).values())
    return {"bytes/s": 2 * x.numel() * 4 / copy, "FLOP/s": 2 * 8192**3 / product}


def shown(title: str, found: Mapping[str, Sequence[float]], units: float, unit: str, share: float = 0.0) -> Any:
    """Prints medians as units a second and ratios to the first way; `share` is of a limit at one unit a second."""
    medians = {name: statistics.median(times) for name, times in found.items()}
    base = next(iter(medians.values()))
    print(f"\n{title}")
    for name, median in medians.items():
        part = f"   {units / median * share:5.1%} of the limit" if share else ""
        print(f"  {name:<34} {units / median:10,.0f} {unit}/s   {base / median:6.2f} x{part}", flush=True)
    rates = {name: units / median for name, median in medians.items()}
    return {"title": title, "unit": unit, "rates": rates, "runs": {k: list(v) for k, v in found.items()}}


def folder(kind: str, sizes: Mapping[str, Any]) -> Path:
    """A checkpoint with random weights."""
    model = getattr(multihead, kind)(getattr(multihead, kind.replace(KINDS[kind], "Config"))(**sizes)).bfloat16()
    torch.manual_seed(0)
    for parameter in model.to("cuda").parameters():
        torch.nn.init.normal_(parameter, std=0.02) if parameter.ndim > 1 else torch.nn.init.ones_(parameter)
    place = Path(tempfile.mkdtemp())
    model.save_pretrained(place)
    return place


KINDS = {"BertForSequenceClassification": "ForSequenceClassification", "LlamaForCausalLM": "ForCausalLM"}


def encoders(runs: int, most: Mapping[str, float]) -> list[Any]:
    place = folder("BertForSequenceClassification", BERT)
    ours = multihead.BertForSequenceClassification.from_pretrained(place, device="cuda", precision="bf16")
    theirs = transformers.BertForSequenceClassification.from_pretrained(place, dtype=torch.bfloat16).cuda().eval()
    compiled = torch.compile(theirs, dynamic=False)
    draw, results = random.Random(0), []
    weights = sum(p.numel() for name, p in theirs.named_parameters() if "embeddings" not in name)
    natural = [min(max(int(draw.lognormvariate(3.2, 0.8)), 4), 512) for _ in range(2048)]
    for title, lengths, most_tokens in (
        ("1 x 128", [128], 128), ("32 x 128", [128] * 32, 32 * 128), ("256 x 128", [128] * 256, 256 * 128),
        ("2,048 texts of natural lengths", natural, 128 * 128),
    ):  # fmt: skip
        texts = [[draw.randrange(1000, 30000) for _ in range(n)] for n in lengths]
        ordered = sorted(texts, key=len)

        def padded(model: Any, ordered: Any = ordered, tokens: int = most_tokens) -> None:
            with torch.inference_mode():
                for ids, mask in map(batch, grouped(ordered, tokens, padded=True)):
                    model(ids, attention_mask=mask).logits.cpu()

        def ragged(ordered: Any = ordered, tokens: int = most_tokens) -> None:
            with torch.inference_mode():
                for group in grouped(ordered, tokens):
                    ours.run(group).scores.cpu()

        ways: dict[str, Any] = {"reference, bfloat16": lambda: padded(theirs)}
        if len(lengths) <= 32:  # compiling takes long
            ways["reference, compiled"] = lambda: padded(compiled)
        ways["multihead"] = ragged
        share = 2 * weights * sum(lengths) / len(lengths) / most["FLOP/s"]
        results.append(shown(f"BERT base, {title}", alternating(ways, runs), len(lengths), "texts", share))
    one = torch.tensor([texts[-1]], device="cuda")
    with torch.inference_mode():
        apart = (ours(one).logits - theirs(one).logits).abs().max().item()
    print(f"  scores differ by {apart:.4f} at most")
    return results


def batch(texts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Padded ids and their mask on the GPU."""
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    return ids.cuda(), mask.cuda()


def grouped(texts: Sequence[Sequence[int]], tokens: int, padded: bool = False) -> list[list[Sequence[int]]]:
    """Groups of at most so many tokens, counted with what fills texts up to the longest where `padded`."""
    found: list[list[Sequence[int]]] = [[]]
    longest = held = 0
    for text in texts:
        longest, held = max(longest, len(text)), held + len(text)
        if found[-1] and (longest * (len(found[-1]) + 1) if padded else held) > tokens:
            found.append([])
            longest = held = len(text)
        found[-1].append(text)
    return found


def decoders(runs: int, most: Mapping[str, float]) -> list[Any]:
    results = []
    for name, sizes in LLAMAS.items():
        place = folder("LlamaForCausalLM", sizes)
        ours = multihead.LlamaForCausalLM.from_pretrained(place, device="cuda", precision="bf16")
        theirs = transformers.LlamaForCausalLM.from_pretrained(place, dtype=torch.bfloat16).cuda().eval()
        held = sum(p.numel() for p in theirs.parameters()) * 2
        results += continued(name, ours, theirs, runs, held / most["bytes/s"])
        del ours, theirs
        gc.collect()
        torch.cuda.empty_cache()
    return results


def continued(name: str, ours: Any, theirs: Any, runs: int, share: float) -> list[Any]:
    draw, results = random.Random(0), []
    vocabulary = theirs.config.vocab_size
    options: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    for count in (1, 64, 256):
        lengths = [64] if count == 1 else [draw.randrange(16, 192) for _ in range(count)]
        texts = [[draw.randrange(10, vocabulary) for _ in range(n)] for n in lengths]
        longest = max(lengths)
        ids = torch.tensor([[0] * (longest - len(t)) + t for t in texts], device="cuda")
        mask = torch.tensor([[0] * (longest - len(t)) + [1] * len(t) for t in texts], device="cuda")
        ways: dict[str, Any] = {
            "reference, bfloat16": lambda i=ids, m=mask: theirs.generate(i, attention_mask=m, **options),
        }
        if count == 1 and "Smol" in name:  # compiling takes minutes
            ways["reference, static and compiled"] = lambda i=ids, m=mask: theirs.generate(
                i, attention_mask=m, cache_implementation="static", **options
            )
        ways["multihead"] = lambda t=texts: ours.generate(t, **options)
        found = alternating(ways, runs)
        title = f"{name}, {count} request{'s' * (count > 1)}, {NEW} new tokens each"
        results.append(shown(title, found, count * NEW, "tokens", share if count == 1 else 0.0))
    with torch.inference_mode():
        one = torch.tensor([texts[-1]], device="cuda")
        apart = (ours(one).logits.float() - theirs(one).logits.float()).abs().max().item()
    print(f"  scores differ by {apart:.4f} at most, of {theirs(one).logits.abs().max().item():.2f}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", default=["encoders", "decoders"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json")
    given = parser.parse_args()
    most = limits()
    print(
        f"{torch.cuda.get_device_name()}: {most['bytes/s'] / 1e12:.2f} TB/s, {most['FLOP/s'] / 1e12:.0f} TFLOP/s in "
        "bfloat16"
    )
    results: list[Any] = [{"title": "limits", "gpu": torch.cuda.get_device_name(), **most}]
    for name in given.which:
        results += {"encoders": encoders, "decoders": decoders}[name](given.runs, most)
        record(results, given.json)  # what was measured before anything fails


if __name__ == "__main__":
    main()
