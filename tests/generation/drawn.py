"""Models whose weights anybody can draw again, and what the reference's version 4.49 continued prompts with.

For each parameter in the order of the names, from one generator of seed 7: normal numbers times 0.5, gains plus 1.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from multihead import AutoModelForCausalLM, AutoModelForSeq2SeqLM

MODELS = json.loads((Path(__file__).parent / "retired_strategies.json").read_text())["models"]


def write(model, folder):
    """Config and weights of one entry of such a file."""
    draw, weights = torch.Generator().manual_seed(7), {}
    for key in sorted(model["shapes"]):
        x = torch.randn(model["shapes"][key], generator=draw) * 0.5
        weights[key] = x + 1 if x.ndim == 1 and key.endswith("weight") else x
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model["config"]))


def drawn(name, folder):
    """One of `MODELS`, by way of a folder."""
    model = MODELS[name]
    write(model, folder)
    kind = AutoModelForSeq2SeqLM if model["config"].get("is_encoder_decoder") else AutoModelForCausalLM
    return kind.from_pretrained(folder)
