"""Checkpoints with layers that predict further tokens, under the names that published files have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..parity.case import reference
from ..parity.cases import CASES

ROWS = {case.name: case for case in CASES}
DEEPSEEK = {"word": "enorm", "state": "hnorm", "join": "eh_proj", "out": "shared_head.norm"}
QWEN = {"word": "pre_fc_norm_embedding", "state": "pre_fc_norm_hidden", "join": "fc", "out": "norm"}
AFTER = ("model.layers.{n}.", "model.layers.{n}.{part}", DEEPSEEK)
MTP = ("mtp.layers.{i}.", "mtp.{part}", QWEN)
# case -> a name in the layer to copy, (name of a layer, of another part, parts), entries of config.json
FORMS = {
    "deepseek-v3": ("mlp.experts", *AFTER, {}),
    "deepseek-v3.2": ("mlp.experts", *AFTER, {}),
    "glm4-moe": ("mlp.experts", *AFTER, {}),
    "glm4-moe-lite": ("mlp.experts", *AFTER, {}),
    "hy-v3": ("mlp.experts", *AFTER[:2], {**DEEPSEEK, "out": "final_layernorm"}, {}),
    "bailing-hybrid": ("attention.kv_a_proj", *AFTER[:2], {**DEEPSEEK, "out": "final_layernorm"}, {}),
    "qwen3-next": ("self_attn.q_proj", *MTP, {}),
    "qwen3.5": ("self_attn.q_proj", *MTP, {}),
    "qwen3.5-moe": ("self_attn.q_proj", *MTP, {}),
    "mellum": ("mlp.experts", *MTP, {"mtp_layer_types": ["full_attention"]}),
    "exaone-moe": ("mlp.gate_proj", *MTP, {}),
    "mimo-v2-flash": (
        "attention_sink_bias", "model.mtp.layers.{i}.", "model.mtp.layers.{i}.{part}",
        {**DEEPSEEK, "out": "final_layernorm"}, {},
    ),
    "ernie4.5-moe": (
        "mlp.gate_proj", "model.mtp_block.{i}.", "model.{part}.{i}",
        {"word": "mtp_emb_norm", "state": "mtp_hidden_norm", "join": "mtp_linear_proj"}, {},
    ),
    "nemotron-h": (
        "mixer.q_proj", "mtp.layers.0.", "mtp.layers.0.{part}", {**DEEPSEEK, "out": "final_layernorm"},
        {"mtp_layers_block_type": ["full_attention"]},
    ),
}  # fmt: skip


def drawn(shape: tuple[int, ...]) -> torch.Tensor:
    """A random matrix, or a random gain."""
    return torch.randn(shape) * 0.25 + (len(shape) == 1) * 0.5


def write(name: str, folder: Path, count: int = 1) -> None:
    """Write a checkpoint of a case, with `count` predictors of random weights."""
    holds, layer, other, parts, entries = FORMS[name]
    reference(ROWS[name], "ForCausalLM").save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_nextn_predict_layers": count, "architectures": None, **entries}
    (folder / "config.json").write_text(json.dumps(config))
    numbers = [int(found[1]) for key in tensors if (found := re.search(r"layers\.(\d+)\.", key)) and holds in key]
    source, width = max(numbers), config["hidden_size"]
    torch.manual_seed(7)
    for i in range(count):
        names = {"n": config.get("num_hidden_layers", 0) + i, "i": i}
        for key in [key for key in tensors if re.match(rf"(model|backbone)\.layers\.{source}\.", key)]:
            rest = re.sub(r"^\w+\.layers\.\d+\.", "", key)
            tensors[layer.format(**names) + rest] = drawn(tensors[key].shape)
        for part, end in parts.items():
            shape = (width, 2 * width) if part == "join" else (width,)
            tensors[other.format(part=end, **names) + ".weight"] = drawn(shape)
    save_file(tensors, path, {"format": "pt"})
