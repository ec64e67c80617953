"""Late-interaction encoders give the reference's vectors and scores, and save what the reference reads."""

from __future__ import annotations

import json
import string

import numpy as np
import pytest
import sentence_transformers as reference
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer import modules

import multihead
from multihead.errors import InvalidInput, UnsupportedConfig

from .conftest import SENTENCES, changed

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
QUERIES = ["A dog", "the quick fox jumps over the lazy dog and the fox", "who?"]
LEVEL = {"module_input_name": "token_embeddings"}


@pytest.fixture
def written(bert, tmp_path):
    def made(skiplist=(), **options):
        torch.manual_seed(1)
        transformer = reference.base.modules.Transformer(str(bert), **options)
        dense = modules.Dense(16, 8, bias=False, activation_function=torch.nn.Identity(), **LEVEL)
        torch.nn.init.normal_(dense.linear.weight, std=0.3)
        steps = [transformer, dense, MultiVectorMask(list(skiplist)), modules.Normalize(**LEVEL)]
        model = reference.MultiVectorEncoder(modules=steps, prompts={"query": "the ", "document": "dog "})
        model.save(str(tmp_path / "written"), create_model_card=False)
        return tmp_path / "written"

    return made


def same(folder, back=None):
    theirs = reference.MultiVectorEncoder(str(folder), device="cpu")
    ours = multihead.MultiVectorEncoder.from_pretrained(folder)
    found = {}
    for encode, texts in (("encode_query", QUERIES), ("encode_document", SENTENCES), ("encode", SENTENCES)):
        expected, got = (getattr(encoder, encode)(texts) for encoder in (theirs, ours))
        assert [tuple(x.shape) for x in got] == [tuple(x.shape) for x in expected]
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
        found[encode] = got
    queries, documents = found["encode_query"], [x for x in found["encode_document"] if len(x)]
    for name in ("maxsim", "meanmaxsim"):
        ours.similarity_fn_name = theirs.similarity_fn_name = name
        scores = ours.similarity(queries, documents)
        torch.testing.assert_close(scores, theirs.similarity(queries, documents), **CLOSE)
        pairs = ours.similarity_pairwise(queries, documents[:3])
        torch.testing.assert_close(pairs, scores.diagonal()[:3], **CLOSE)
    if back is not None:
        ours.save_pretrained(back)
        again = reference.MultiVectorEncoder(str(back), device="cpu")
        for one, other in zip(again.encode_query(QUERIES), queries, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
        for one, other in zip(again.encode_document(SENTENCES), found["encode_document"], strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
    return ours


@pytest.mark.parametrize("expansion", [
    None,
    {"strategy": "fixed", "length": 9},
    {"strategy": "fixed", "length": 9, "attend": True},
    {"strategy": "min", "length": 9, "token": "dog"},
], ids=["plain", "fixed", "attend", "min"])  # fmt: skip
def test_queries_are_expanded(written, expansion, tmp_path):
    same(written(query_expansion=expansion), tmp_path / "back")


def test_lengths_and_words_that_documents_lose(written, tmp_path):
    same(written(skiplist=[".", "dog", "no-such-word"], query_length=6, document_length=12), tmp_path / "back")


def test_a_folder_of_pylate(written):
    folder = written()
    rows = json.loads((folder / "modules.json").read_text())[:2]
    rows[1]["type"] = "pylate.models.Dense.Dense"
    (folder / "modules.json").write_text(json.dumps(rows))
    changed(folder / "1_Dense" / "config.json", module_input_name=None, module_output_name=None)
    entries = {"query_prefix": "[MASK] ", "document_prefix": "the ", "query_length": 11, "document_length": 13,
               "attend_to_expansion_tokens": False, "skiplist_words": list(string.punctuation)}  # fmt: skip
    changed(folder / "config_sentence_transformers.json", model_type="ColBERT", similarity_fn_name="MaxSim",
            prompts={}, **entries)  # fmt: skip
    same(folder)
    changed(folder / "config_sentence_transformers.json", do_query_expansion=False, skiplist_words=None)
    same(folder)


def test_a_folder_of_stanfords_colbert(bert, tmp_path):
    model = multihead.AutoModel.from_pretrained(bert)
    multihead.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    torch.manual_seed(2)
    save_file({**tensors, "linear.weight": torch.randn(8, 16) * 0.3}, tmp_path / "model.safetensors")
    changed(tmp_path / "config.json", architectures=["HF_ColBERT"])
    words = multihead.AutoTokenizer.from_pretrained(tmp_path).get_vocab()
    marker = next(word for word in words if word.isalpha() and len(word) > 2)
    known = {"query_maxlen": 8, "doc_maxlen": 10, "query_token_id": marker, "doc_token_id": "[MASK]"}
    (tmp_path / "artifact.metadata").write_text(json.dumps(known))
    same(tmp_path)


def test_a_search(written):
    ours = multihead.MultiVectorEncoder.from_pretrained(written())
    found = ours.rank("A dog", [*SENTENCES[:2], "dog"], top_k=2)
    scores = ours.similarity([ours.encode_query("A dog")], ours.encode_document([*SENTENCES[:2], "dog"]))[0]
    assert [row["corpus_id"] for row in found] == scores.argsort(descending=True)[:2].tolist()
    one = ours.encode_document("dog", convert_to_numpy=True, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(one, axis=-1), 1, rtol=1e-5)
    with pytest.raises(InvalidInput, match="task"):
        ours.encode("a", task="answer")


def test_other_folders_are_refused(written, encoder, bert):
    with pytest.raises(UnsupportedConfig, match="MultiVectorEncoder"):
        multihead.SentenceEncoder.from_pretrained(written())
    with pytest.raises(UnsupportedConfig):
        multihead.MultiVectorEncoder.from_pretrained(encoder)
    with pytest.raises(UnsupportedConfig, match="no vectors of tokens"):
        multihead.MultiVectorEncoder.from_pretrained(bert)
