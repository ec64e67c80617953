"""The rooms of the package, the top floor first. `python -m tests.architecture.floors` draws them in docs/house.md."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "multihead"
PAGE = ROOT / "docs" / "house.md"
FLOORS: list[dict[str, str]] = [
    {"__main__": ""},
    {"alias": "programs for the reference, unchanged: `import transformers` means this package"},
    {"cli": "one file or folder a command; render/ draws results on terminals"},
    {"serving": "HTTP server: the interfaces of the field, models by name, batches over requests, a page"},
    {"machine_facts": "processor, memory, kernels, precisions and packages of this machine"},
    {"evaluation": "metrics of pipelines on labeled rows, with intervals; errors, slices, comparisons, calibration"},
    {"compat": "the reference's names: where each lives here, and what lives nowhere else; its submodules"},
    {"training": "Trainer: data, objectives, optimizers, checkpoints, distribution, evaluation, reports"},
    {"attribution": "which words of an input led to an answer: gradients, integrated gradients, leave-one-out"},
    {"pipelines": "one file or folder a task: preprocess, forward, postprocess; catalog.py is the registry of tasks"},
    {"retrieval": "search, deduplication and clustering by embeddings; the folder of an index"},
    {"quantization": "checkpoints in quantized formats: calibration, rounding, reports of what it costs"},
    {"sentences": "sentence encoders and rerankers in the format of sentence-transformers"},
    {"modeling": "PreTrainedModel, Auto classes, loading, saving; padded tensors in, padded outputs out"},
    {"generation": "generate: config, engine (continuous batching), decoding strategies, logits processors"},
    {"token_batches": "batches of token lists by a token budget"},
    {"runtime": "fast paths: the description of layers, fused layers, CPU decode step, CUDA graphs, quantizing"},
    {"adapters": "LoRA adapters in peft's file format"},
    {"models": "one file a family: config, modules, key map, heads; common/ holds what families share"},
    {"heads": "heads, their losses and their output classes"},
    {"tokenizers": "text to ids and back: tokenizer files, padding, chat templates"},
    {"checkpoints": "files to named tensors to parameters: safetensors, torch, GGUF, Marian; key maps; writing"},
    {"nn": "layers, attention variants and the KV cache; nothing here knows a family"},
    {"kernels": "operations of nn on each device (torch, C++ for CPUs, Triton for GPUs); quantized weights"},
    {"native": "the C++ kernels and their build"},
    {"config": "config.json as checked dataclasses", "hub": "model names to local folders: hub, package index, disk"},
    {
        "files": "files that are written whole or not at all",
        "gguf_names": "names of GGUF files: parts of a split model, and files that are no model",
        "data_files": "rows of CSV, JSON, Parquet and text files",
        "consoles": "consoles for commands and training",
        "load_progress": "how far the load of a model is",
        "pages": "HTML pages that need no network",
    },
    {"extensions": "what other installed packages add: families, tasks, formats, backends"},
    {"errors": "every error a user can meet", "terminal": "text that is safe to print on a terminal", "_version": ""},
]
LEVEL = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def drawing() -> str:
    """Return the rooms as text: a line a room, the highest floor first."""
    lines = []
    for floor in FLOORS:
        for room, text in floor.items():
            if text:
                name = f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py"
                lines += textwrap.wrap(text, 118, initial_indent=f"{name:17}", subsequent_indent=" " * 17)
    return "\n".join(lines)


def page() -> str:
    """Return docs/house.md with its first code block replaced by the drawing."""
    before, _, after = PAGE.read_text().split("```", 2)
    return f"{before}```\n{drawing()}\n```{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE} is written.\n")
