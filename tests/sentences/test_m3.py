"""BGE-M3's three outputs, beside the reference's states."""

from __future__ import annotations

import pytest
import torch
import transformers
from sentence_transformers.sentence_transformer import modules

from multihead.errors import ModelNotFound
from multihead.sentences.m3 import M3Encoder

from .conftest import SENTENCES

TEXTS = [text for text in SENTENCES if text]


def test_dense_sparse_and_token_vectors(make, tmp_path):
    folder = make([modules.Pooling(16, "cls"), modules.Normalize()])
    with pytest.raises(ModelNotFound, match="colbert_linear"):
        M3Encoder.from_pretrained(folder)
    torch.manual_seed(4)
    heads = {"colbert_linear": torch.nn.Linear(16, 16), "sparse_linear": torch.nn.Linear(16, 1)}
    for name, head in heads.items():
        torch.save(head.state_dict(), folder / f"{name}.pt")
    encoder = M3Encoder.from_pretrained(folder)
    found = encoder.encode_all(TEXTS)
    tokenizer, model = (
        transformers.AutoTokenizer.from_pretrained(folder),
        transformers.AutoModel.from_pretrained(folder),
    )
    for number, text in enumerate(TEXTS):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=encoder.max_seq_length)
        with torch.no_grad():
            states = model.eval()(**inputs).last_hidden_state[0]
            weights = torch.relu(heads["sparse_linear"](states)).flatten().tolist()
            vectors = torch.nn.functional.normalize(heads["colbert_linear"](states[1:]), dim=-1)
        dense = torch.nn.functional.normalize(states[0], dim=-1)
        torch.testing.assert_close(found["dense_vecs"][number], dense, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["colbert_vecs"][number], vectors, rtol=1e-4, atol=1e-5)
        expected: dict[int, float] = {}
        left_out = {tokenizer.cls_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id}
        for token, weight in zip(inputs["input_ids"][0].tolist(), weights, strict=True):
            if token not in left_out and weight > 0:
                expected[token] = max(expected.get(token, 0.0), weight)
        assert found["lexical_weights"][number] == pytest.approx(expected, rel=1e-4)
    one, other = found["lexical_weights"][0], found["lexical_weights"][1]
    shared = sum(one[token] * other[token] for token in set(one) & set(other))
    assert encoder.lexical_score(one, other) == pytest.approx(shared)
    a, b = found["colbert_vecs"][:2]
    assert encoder.token_score(a, b) == pytest.approx(float((a @ b.T).max(1).values.mean()))
    torch.testing.assert_close(encoder.encode_all(TEXTS[0])["dense_vecs"], found["dense_vecs"][0])
