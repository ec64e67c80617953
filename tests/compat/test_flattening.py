"""Rows of several sequences: `DataCollatorWithFlattening`, and decoders that read its `position_ids`."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead

ROWS = [{"input_ids": [1, 5, 9, 4]}, {"input_ids": [7, 3], "labels": [7, 8]}, {"input_ids": [8, 2, 6, 6, 11]}]
ALL = {"return_flash_attn_kwargs": True, "return_seq_idx": True, "separator_id": -1, "position_ids_start": 2}


@pytest.mark.parametrize("options", [{}, ALL, {"return_position_ids": False}])
def test_a_batch_is_the_references(options):
    for rows in (ROWS[::2], ROWS[1:2]):
        found = multihead.DataCollatorWithFlattening(**options)(rows)
        expected = transformers.DataCollatorWithFlattening(**options)(rows)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert type(found[name]) is type(value)
            torch.testing.assert_close(found[name], value)


def test_a_decoder_reads_a_row_as_several_sequences(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.MistralConfig(vocab_size=20, num_key_value_heads=1, sliding_window=3, **sizes)
    reference = transformers.MistralForCausalLM(config).eval()
    reference.save_pretrained(tmp_path)
    ours = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    batch = multihead.DataCollatorWithFlattening()(ROWS[::2])
    found, expected = ours(**batch), reference(**batch, use_cache=False)
    assert found.past_key_values is None
    torch.testing.assert_close((found.logits, found.loss), (expected.logits, expected.loss))
    alone = torch.cat([ours(torch.tensor([row["input_ids"]])).logits for row in ROWS[::2]], dim=1)
    torch.testing.assert_close(found.logits, alone)
    two = {"input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), "logits_to_keep": 2}
    two["position_ids"] = torch.tensor([[0, 1, 0, 1], [0, 1, 2, 0]])
    torch.testing.assert_close(ours(**two).logits, reference(**two, use_cache=False).logits)
    whole, one = (model(**two, use_cache=True).logits for model in (ours, reference))
    torch.testing.assert_close(whole, one)
    assert not torch.allclose(whole, ours(**two).logits, atol=1e-3)
