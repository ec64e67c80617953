"""Kimi K2's files, which the reference reads as DeepSeek-V3's alone."""

from __future__ import annotations

import json

import torch

import multihead

from .case import batch, reference
from .cases.experts import CASES


def test_kimi_k2_is_deepseek_v3_under_another_name(tmp_path):
    case = next(case for case in CASES if case.name == "deepseek-v3")
    model = reference(case, "ForCausalLM")
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "kimi_k2"}))
    ours, inputs = multihead.AutoModelForCausalLM.from_pretrained(tmp_path), batch(case, "ForCausalLM")
    assert type(ours).__name__ == "KimiK2ForCausalLM"
    with torch.no_grad():
        expected = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours(**inputs).logits[real], expected[real], atol=2e-5, rtol=2e-5)
