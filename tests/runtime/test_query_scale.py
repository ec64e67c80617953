"""Decode steps of queries that are scaled by their positions: in the kernels up to the first one that is."""

from __future__ import annotations

import pytest
import torch

import multihead
from multihead.kernels.cpu import native
from multihead.runtime.cpu_decode_runner import CpuDecodeRunner


@pytest.mark.skipif(bool(native.why_not()), reason=f"no C++ kernels: {native.why_not()}")
def test_texts_that_grow_past_the_first_scaled_position_equal_those_of_the_layers(monkeypatch):
    rope = {
        "rope_type": "default", "rope_theta": 500.0, "original_max_position_embeddings": 12,
        "llama_4_scaling_beta": 2.0,
    }  # fmt: skip
    torch.manual_seed(0)
    config = multihead.Ministral3Config.read(
        {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16,
         "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope, "pad_token_id": 0,
         "eos_token_id": None, "initializer_range": 0.2}
    )  # fmt: skip
    model = multihead.Ministral3ForCausalLM(config).eval()
    steps = []
    decode = CpuDecodeRunner._decode

    def counted(self, batch):
        found = decode(self, batch)
        steps.append((batch.sequences[0].length, found is not None))
        return found

    monkeypatch.setattr(CpuDecodeRunner, "_decode", counted)
    prompt, texts = torch.tensor([[5, 6, 7]]), {}
    for runner in ("eager", "cpu"):
        model.decode_runner = runner
        texts[runner] = model.generate(prompt, max_new_tokens=30, do_sample=False, eos_token_id=None).tolist()
    assert texts["eager"] == texts["cpu"]
    assert {native for length, native in steps if length < 10} == {True}
    assert {native for length, native in steps if length > 13} == {False}
