"""Names that published files of models with a delta rule have, where the reference writes others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import multihead

from .case import batch, reference
from .cases.delta import CASES

ROWS = {case.name: case for case in CASES}
FILE = "model.safetensors"


def as_published(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The text model inside of a multimodal file, with stacked experts, a tower and a head that predicts further."""
    count = len({name.split(".")[5] for name in tensors if name.startswith("model.layers.0.mlp.experts.")})
    out = {"mtp.fc.weight": torch.ones(2, 4), "model.visual.pos_embed.weight": torch.ones(3, 2)}
    for name, tensor in tensors.items():
        stem, found, rest = name.partition(".experts.")
        if not found:
            out[name.replace("model.", "model.language_model.", 1)] = tensor
        elif rest == "0.gate_proj.weight":
            each = [[tensors[f"{stem}.experts.{n}.{k}_proj.weight"] for k in ("gate", "up", "down")]
                    for n in range(count)]  # fmt: skip
            inner = stem.replace("model.", "model.language_model.", 1)
            out[f"{inner}.experts.gate_up_proj"] = torch.stack([torch.cat(one[:2]) for one in each])
            out[f"{inner}.experts.down_proj"] = torch.stack([one[2] for one in each])
    return {name: tensor.contiguous() for name, tensor in out.items()}


@pytest.mark.parametrize("name", ["qwen3.5", "qwen3.5-moe"])
def test_the_text_model_of_a_multimodal_file_is_found(name: str, tmp_path: Path):
    model: Any = reference(ROWS[name], "ForCausalLM")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / FILE)
    plain = {name.replace("language_model.", ""): tensor for name, tensor in tensors.items()}
    published = as_published(plain)
    assert name.endswith("moe") == any(key.endswith("gate_up_proj") for key in published)
    save_file(published, tmp_path / FILE, {"format": "pt"})
    inputs = batch(ROWS[name], "ForCausalLM")
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected, got = (each(**inputs).logits[real] for each in
                         (model, multihead.AutoModelForCausalLM.from_pretrained(tmp_path)))  # fmt: skip
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
