"""From a cold process to the first result, beside the reference and beside the bare libraries.

python benchmarks/startup.py --runs 7
"""

from __future__ import annotations

import argparse

from multihead import hub
from multihead.pipelines.defaults import MINILM, SMOLLM2
from peers import alternating, record, table

CLOCK = "import sys, time; begin = time.perf_counter()\n"
END = "\nprint(time.perf_counter() - begin)"
TEXT = "The children were playing happily in the garden."

BARE = f"""
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
with safe_open(sys.argv[1] + "/model.safetensors", framework="pt") as file:
    tensors = {{name: file.get_tensor(name) for name in file.keys()}}
Tokenizer.from_file(sys.argv[1] + "/tokenizer.json").encode({TEXT!r})
"""
EMBED = f"""
from {{library}} import AutoModel, AutoTokenizer
import torch
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1])
with torch.no_grad():
    model(**tokenizer({TEXT!r}, return_tensors="pt")).last_hidden_state.mean(1).tolist()
"""
SPEAK_OURS = """
import torch
{reset}
from multihead import AutoModelForCausalLM, AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[2]); AutoModelForCausalLM.from_pretrained(sys.argv[2])
"""
SPEAK_REFERENCE = """
import os, torch
{reset}
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, file = os.path.split(sys.argv[2])
AutoTokenizer.from_pretrained(folder, gguf_file=file); AutoModelForCausalLM.from_pretrained(folder, gguf_file=file)
"""
RESET = "begin = time.perf_counter()"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--gguf-runs", type=int, default=3)
    options.add_argument("--json", help="write the results here")
    chosen = options.parse_args()
    arguments = [str(hub.resolve(MINILM.name)), str(hub.resolve(SMOLLM2.name))]

    imports = {"import multihead": "import multihead", "import torch": "import torch"}
    timed = {name: CLOCK + program + END for name, program in imports.items()}
    results = [table("Importing", alternating(timed, arguments, chosen.runs), "import torch")]

    programs = {
        "import torch, read the two files": BARE,
        "multihead: first MiniLM embedding": EMBED.format(library="multihead"),
        "transformers: first MiniLM embedding": EMBED.format(library="transformers"),
    }
    timed = {name: CLOCK + program + END for name, program in programs.items()}
    found = alternating(timed, arguments, chosen.runs)
    results.append(table("A cold process to the first embedding", found, "import torch, read the two files"))

    programs = {
        "multihead: SmolLM2 and tokenizer": SPEAK_OURS.format(reset=RESET),
        "transformers: SmolLM2 and tokenizer": SPEAK_REFERENCE.format(reset=RESET),
    }
    timed = {name: CLOCK + program + END for name, program in programs.items()}
    found = alternating(timed, arguments, chosen.gguf_runs)
    results.append(table("SmolLM2 from GGUF, torch imported already", found, "multihead: SmolLM2 and tokenizer"))
    record(results, chosen.json)


if __name__ == "__main__":
    main()
