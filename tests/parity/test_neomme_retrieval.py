"""NeoMME's vectors for retrieval beside the reference's."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead

from .cases.exclusive import NEOMME


def test_vectors_of_tokens_and_texts_equal_the_reference(tmp_path):
    torch.manual_seed(0)
    model = transformers.NeoMMEForRetrieval(transformers.NeoMMEConfig(**NEOMME)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    mine = multihead.NeoMMEForRetrieval.from_pretrained(tmp_path)
    ids, mask = torch.randint(7, 90, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 5:], mask[2, :4] = 0, 0  # padding on either side
    with torch.no_grad():
        got, expected = mine(ids, attention_mask=mask), model(ids, attention_mask=mask)
    torch.testing.assert_close(got.embeddings, expected.embeddings)
    torch.testing.assert_close(got.dense_embeddings, expected.dense_embeddings)
    real = mask.bool()
    torch.testing.assert_close(got.last_hidden_state[real], expected.last_hidden_state[real])
    mine.save_pretrained(tmp_path / "again")
    again = multihead.NeoMMEForRetrieval.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        torch.testing.assert_close(again(ids, attention_mask=mask).embeddings, got.embeddings)


def test_options_of_the_reference_s_call_are_refused_by_name():
    sizes = {k: v for k, v in NEOMME.items() if k != "image_token_id"}
    model = multihead.NeoMMEForRetrieval(multihead.NeoMMEConfig(**sizes))
    with pytest.raises(TypeError, match="takes no dense_dim"):
        model(torch.tensor([[8, 9]]), dense_dim=4)
