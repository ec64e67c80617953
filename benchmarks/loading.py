"""Loading a Llama of a billion random parameters in bfloat16, beside the reference: seconds and peak memory.

python benchmarks/loading.py --runs 5
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from multihead import LlamaConfig, LlamaForCausalLM
from peers import alternating, record, table

LOAD = """
import re, sys, time
import torch
from {library} import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
{warm}
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
before, begin = peak(), time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
total = sum(p.view(torch.int16)[::2048].sum().item() for p in map(torch.flatten, model.parameters()))  # every page
{result}
"""
# A tiny model first, so that imports are not counted.
WARM = "LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, num_attention_heads=1, num_hidden_layers=1))"
SECONDS, PEAK = "print(time.perf_counter() - begin)", "print((peak() - before) / 1e9)"


def checkpoint(folder: Path) -> int:
    """Writes the checkpoint; gives its parameters' bytes."""
    config = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=20, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return 2 * model.num_parameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="where to write the numbers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = checkpoint(Path(folder))
        results = []
        for result, title in ((SECONDS, "seconds"), (PEAK, f"peak GB (printed as s), weights {size / 1e9:.3f} GB")):
            programs = {
                library: LOAD.format(library=library, warm=WARM, result=result)
                for library in ("multihead", "transformers")
            }
            results.append(table(f"Loading: {title}", alternating(programs, [folder], options.runs), "multihead"))
        print(f"\nmultihead's peak is {results[1]['median_s']['multihead'] / (size / 1e9):.3f} of the weights' size")
    record(results, options.json)


if __name__ == "__main__":
    main()
