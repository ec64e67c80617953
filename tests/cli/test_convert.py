"""`multihead convert` of what is more than a transformer: sentence encoders and rerankers."""

from __future__ import annotations

import numpy
import pytest
import sentence_transformers as reference
import torch
import transformers
from click.testing import CliRunner

from multihead import AutoModelForCausalLM, CrossEncoder, SentenceEncoder
from multihead.cli.main import cli
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.kernels.quantization.registry import PRECISIONS

TEXTS = ["The quick brown fox jumps.", "A dog", "the lazy dog doesn't mind " * 9]


def convert(*words):
    result = CliRunner().invoke(cli, ["convert", *map(str, words)])
    if result.exception:
        raise result.exception
    return result.output


@pytest.fixture
def encoder(bert, tmp_path):
    """The first state, a dense layer, length 1; texts are cut after 10 tokens."""
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(1)
    transformer = reference.base.modules.Transformer(str(bert), max_seq_length=10)
    steps = [modules.Pooling(16, pooling_mode="cls"), modules.Dense(16, 6), modules.Normalize()]
    whole = reference.SentenceTransformer(modules=[transformer, *steps], prompts={"query": "find: "})
    whole.save(str(tmp_path / "encoder"), create_model_card=False)
    return tmp_path / "encoder"


def test_a_sentence_encoder_keeps_what_comes_after_its_transformer(encoder, tmp_path):
    convert(encoder, tmp_path / "new", "--max-shard-size", "10KB")
    before, after = reference.SentenceTransformer(str(encoder)), SentenceEncoder.from_pretrained(tmp_path / "new")
    numpy.testing.assert_allclose(after.encode(TEXTS), before.encode(TEXTS), atol=1e-5)
    numpy.testing.assert_allclose(numpy.linalg.norm(after.encode(TEXTS), axis=-1), 1, atol=1e-5)
    assert (after.max_seq_length, after.prompts["query"]) == (10, "find: ")
    theirs = reference.SentenceTransformer(str(tmp_path / "new"))
    numpy.testing.assert_allclose(theirs.encode(TEXTS), before.encode(TEXTS), atol=1e-5)


def test_a_precision_is_that_of_every_step(encoder, tmp_path):
    assert "in bfloat16" in convert(encoder, tmp_path / "half", "--dtype", "bfloat16")
    after = SentenceEncoder.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in after.parameters()} == {torch.bfloat16}


def test_a_sentence_encoder_is_not_made_less_by_a_gguf_file(encoder, tmp_path):
    with pytest.raises(UnsupportedOption, match=r"modules\.json"):
        convert(encoder, tmp_path / "encoder.gguf")
    assert not (tmp_path / "encoder.gguf").exists()


def test_a_reranker_keeps_its_activation_and_its_limit(bert, tmp_path):
    torch.manual_seed(2)
    config = transformers.BertConfig.from_pretrained(bert, num_labels=1)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "plain")
    transformers.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "plain")
    whole = CrossEncoder.from_pretrained(tmp_path / "plain", activation_fn=torch.nn.Tanh())
    whole.max_seq_length = 12
    whole.save_pretrained(tmp_path / "ranker")
    convert(tmp_path / "ranker", tmp_path / "new")
    after = CrossEncoder.from_pretrained(tmp_path / "new")
    pairs = [("dog", text) for text in TEXTS]
    numpy.testing.assert_allclose(after.predict(pairs), whole.predict(pairs), atol=1e-6)
    assert (type(after.activation_fn), after.max_seq_length) == (torch.nn.Tanh, 12)


@pytest.mark.parametrize("precision", [name for name, row in PRECISIONS.items() if not row.needs_file])
def test_weights_prepared_in_a_precision_are_written(llama, precision, tmp_path):
    assert f"in {precision}" in convert(llama, tmp_path / "new", "--precision", precision)
    after, expected = (AutoModelForCausalLM.from_pretrained(x, **o) for x, o in (
        (tmp_path / "new", {}), (llama, {"precision": precision}),
    ))  # fmt: skip
    assert after.prepared == precision
    ids = torch.arange(1, 9)[None]
    assert torch.equal(after(ids).logits, expected(ids).logits)


def test_a_precision_is_written_into_a_folder_alone(llama, tmp_path):
    for words in (("new", "--dtype", "float16"), ("new.gguf",)):
        with pytest.raises(InvalidInput, match="give a folder"):
            convert(llama, tmp_path / words[0], "--precision", "int8", *words[1:])


def test_a_reranker_is_prepared_too(bert, tmp_path):
    config = transformers.BertConfig.from_pretrained(bert, num_labels=1)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "plain")
    transformers.AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "plain")
    CrossEncoder.from_pretrained(tmp_path / "plain").save_pretrained(tmp_path / "ranker")
    convert(tmp_path / "ranker", tmp_path / "new", "--precision", "int8")
    assert CrossEncoder.from_pretrained(tmp_path / "new").model.prepared == "int8"
