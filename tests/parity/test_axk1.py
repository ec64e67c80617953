"""A.X-K1's files, which lack what the reference saves and hold what nothing reads."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file

import multihead

from .case import batch, reference
from .cases.deepseek_kin import CASES

CASE = next(case for case in CASES if case.name == "axk1")


def test_published_files_of_axk1_lack_corrections_and_have_norms_of_dense_layers(tmp_path):
    model = reference(CASE, "ForCausalLM")
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.zero_()
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    stored = {name: x for name, x in load_file(file).items() if not name.endswith("e_score_correction_bias")}
    assert "model.layers.1.post_mlp_layernorm.weight" in stored
    save_file({**stored, "model.layers.0.post_mlp_layernorm.weight": torch.ones(48)}, file, {"format": "pt"})
    ours, inputs = multihead.AutoModelForCausalLM.from_pretrained(tmp_path), batch(CASE, "ForCausalLM")
    with torch.no_grad():
        expected = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours(**inputs).logits[real], expected[real], atol=2e-5, rtol=2e-5)
