"""Sentence encoders give the reference's vectors, and save what the reference reads."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import sys

import numpy as np
import pytest
import sentence_transformers as reference
import torch
import transformers
from sentence_transformers.sentence_transformer import modules

import multihead
from multihead import SentenceEncoder
from multihead.errors import InvalidInput, TextTooLong, UnsupportedOption
from multihead.sentences.modules import ACTIVATIONS, LEGACY
from multihead.sentences.pooling import MODES
from tests.conftest import saved
from tests.tokenizers import folders

from .conftest import SENTENCES, changed

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
PROMPTS = {"query": "the question: ", "passage": "a dog "}


def same(folder, back=None, **options):
    """Ours, after comparing its vectors with the reference's, and with those of what ours saves."""
    theirs = reference.SentenceTransformer(str(folder), device="cpu")
    ours = SentenceEncoder.from_pretrained(folder)
    expected = theirs.encode(SENTENCES, **options)
    got = ours.encode(SENTENCES, **options)
    np.testing.assert_allclose(got, expected, **CLOSE)
    assert got.dtype == expected.dtype
    assert got.shape == (len(SENTENCES), ours.get_sentence_embedding_dimension()) or "truncate_dim" in options
    if back is not None:
        ours.save_pretrained(back)
        again = reference.SentenceTransformer(str(back), device="cpu")
        np.testing.assert_allclose(again.encode(SENTENCES, **options), expected, **CLOSE)
        assert again.max_seq_length == theirs.max_seq_length == ours.max_seq_length
        assert (again.prompts, again.default_prompt_name) == (theirs.prompts, theirs.default_prompt_name)
        assert again.similarity_fn_name == theirs.similarity_fn_name
        np.testing.assert_allclose(SentenceEncoder.from_pretrained(back).encode(SENTENCES, **options), got, **CLOSE)
    return ours


@pytest.mark.parametrize(
    "mode", [*MODES, ("cls", "max", "mean"), ("mean", "cls"), ("lasttoken", "weightedmean")], ids=str
)
def test_every_pooling(make, mode, tmp_path):
    same(make([modules.Pooling(16, mode)]), tmp_path / "back")


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_may_be_left_out_of_the_pooling(make, mode, tmp_path):
    folder = make([modules.Pooling(16, mode, include_prompt=False)], prompts=PROMPTS)
    same(folder, tmp_path / "back", prompt_name="passage")
    same(folder, prompt="the lazy ")
    same(folder)


@pytest.mark.parametrize("mode", MODES)
def test_the_switches_of_older_folders(make, mode):
    folder = make([modules.Pooling(16)])
    switches = {name: key == mode for name, key in LEGACY.items()}
    entries = {"embedding_dimension": None, "pooling_mode": None, "word_embedding_dimension": 16}
    changed(folder / "1_Pooling" / "config.json", **entries, **switches)
    same(folder)
    assert SentenceEncoder.from_pretrained(folder).steps[0].modes == (mode,)


def test_several_switches_keep_the_formats_order(make):
    folder = make([modules.Pooling(16)])
    switches = {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    changed(folder / "1_Pooling" / "config.json", pooling_mode=None, **switches)
    assert same(folder).steps[0].modes == ("cls", "mean", "lasttoken")
    changed(folder / "1_Pooling" / "config.json", **dict.fromkeys(switches, False))
    assert same(folder).steps[0].modes == ("mean",)


@pytest.mark.parametrize("kind", [transformers.T5EncoderModel, transformers.T5ForConditionalGeneration])
def test_the_encoder_of_a_model_that_also_writes(kind, tmp_path):
    folders.wordpiece(tmp_path)
    words = len(transformers.AutoTokenizer.from_pretrained(tmp_path))
    config = transformers.T5Config(vocab_size=words, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    saved(kind, config, tmp_path)
    steps = [modules.Pooling(16), modules.Dense(16, 6, bias=False, activation_function=None), modules.Normalize()]
    transformer = reference.base.modules.Transformer(str(tmp_path))
    reference.SentenceTransformer(modules=[transformer, *steps]).save(str(tmp_path / "made"), create_model_card=False)
    same(tmp_path / "made", tmp_path / "back")


@pytest.mark.parametrize("window", [5, 6])
def test_an_encoder_like_embedding_gemma(window, tmp_path):
    """Both directions, a window to either side, two dense layers without bias, prompts that count."""
    folders.wordpiece(tmp_path)
    words = len(transformers.AutoTokenizer.from_pretrained(tmp_path))
    config = transformers.Gemma3TextConfig(
        vocab_size=words, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, sliding_window=window, use_bidirectional_attention=True, pad_token_id=0,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    )  # fmt: skip
    saved(transformers.Gemma3TextModel, config, tmp_path)
    changed(tmp_path / "config.json", sliding_window=window)  # the reference writes an even one
    widths = [modules.Dense(a, b, bias=False, activation_function=torch.nn.Identity()) for a, b in ((16, 40), (40, 16))]
    steps = [modules.Pooling(16, "mean"), *widths, modules.Normalize()]
    transformer = reference.base.modules.Transformer(str(tmp_path))
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    whole = reference.SentenceTransformer(modules=[transformer, *steps], prompts=prompts)
    whole.save(str(tmp_path / "made"), create_model_card=False)
    for name in (None, "query", "document"):
        same(tmp_path / "made", tmp_path / "back", prompt_name=name)


@pytest.mark.parametrize(
    "steps",
    [
        [modules.Dense(16, 6)],
        [modules.Dense(16, 6, bias=False, activation_function=None), modules.Normalize()],
        [modules.Dense(16, 16, use_residual=True, activation_function=torch.nn.GELU())],
        [modules.Dense(16, 6, use_residual=True), modules.LayerNorm(6), modules.Dense(6, 5), modules.Normalize()],
    ],
    ids=["dense", "bare", "residual", "many"],
)
def test_steps_after_the_pooling(make, steps, tmp_path):
    same(make([modules.Pooling(16), *steps]), tmp_path / "back")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(make, name, tmp_path):
    dense = modules.Dense(16, 6, activation_function=getattr(torch.nn, name)())
    same(make([modules.Pooling(16), dense]), tmp_path / "back")


def test_a_dense_layer_in_torchs_format(encoder):
    import safetensors.torch

    folder = encoder / "2_Dense"
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    same(encoder)


def test_a_plain_checkpoint_gives_the_mean(bert, llama):
    same(bert)
    ours = SentenceEncoder.from_pretrained(llama)
    assert ours.steps[0].modes == ("lasttoken",)
    theirs = reference.SentenceTransformer(str(llama), device="cpu")
    theirs.tokenizer.pad_token = theirs.tokenizer.eos_token = theirs.tokenizer.convert_ids_to_tokens(1)
    texts = [text for text in SENTENCES if text]
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), **CLOSE)


def test_how_texts_are_read(encoder, tmp_path):
    changed(encoder / "sentence_bert_config.json", max_seq_length=7, do_lower_case=True)
    ours = same(encoder, tmp_path / "back")
    assert ours.max_seq_length == 7
    assert ours.tokenize(SENTENCES)["input_ids"].shape == (6, 7)
    theirs = reference.SentenceTransformer(str(encoder), device="cpu")
    theirs.max_seq_length = ours.max_seq_length = 5
    np.testing.assert_allclose(ours.encode(SENTENCES), theirs.encode(SENTENCES), **CLOSE)
    with pytest.raises(TextTooLong, match="Input 0"):
        ours.encode(SENTENCES, truncation=False)
    ours.max_seq_length = 1
    with pytest.raises(InvalidInput, match="no room"):
        ours.encode("dog")
    with pytest.raises(InvalidInput, match="max_seq_length"):
        ours.max_seq_length = 0


def test_the_transformer_in_a_folder_of_its_own(encoder, tmp_path):
    home = encoder / "0_Transformer"
    home.mkdir()
    for path in [
        p
        for p in encoder.iterdir()
        if p.is_file() and p.name not in ("modules.json", "config_sentence_transformers.json")
    ]:
        path.rename(home / path.name)
    rows = json.loads((encoder / "modules.json").read_text())
    rows[0]["path"] = "0_Transformer"
    (encoder / "modules.json").write_text(json.dumps(rows))
    same(encoder, tmp_path / "back")


def test_prompts(make, tmp_path):
    folder = make([modules.Pooling(16)], prompts=PROMPTS, default_prompt_name="query")
    ours = same(folder, tmp_path / "back")
    theirs = reference.SentenceTransformer(str(folder), device="cpu")
    for name in ("query", "passage", "document"):
        np.testing.assert_allclose(
            ours.encode("dog", prompt_name=name), theirs.encode("dog", prompt_name=name), **CLOSE
        )
    for one, other in ((ours.encode_query, theirs.encode_query), (ours.encode_document, theirs.encode_document)):
        np.testing.assert_allclose(one(SENTENCES), other(SENTENCES), **CLOSE)
    np.testing.assert_allclose(ours.encode("dog", prompt="x "), ours.encode("x dog", prompt=""), **CLOSE)
    assert SentenceEncoder.from_pretrained(folder, prompts={"query": "?"}).prompts["query"] == "?"
    for wrong in ({"prompt_name": "passag"}, {"prompt_name": "query", "prompt": "x"}, {"prompt": 1}):
        with pytest.raises(InvalidInput, match=r"prompt|passage"):
            ours.encode("dog", **wrong)


def test_outputs_have_the_references_shapes(encoder):
    ours, theirs = SentenceEncoder.from_pretrained(encoder), reference.SentenceTransformer(str(encoder), device="cpu")
    for given in ("dog", SENTENCES, tuple(SENTENCES), []):
        for options in (
            {},
            {"convert_to_tensor": True},
            {"convert_to_numpy": False},
            {"output_value": "token_embeddings"},
        ):
            got, expected = ours.encode(given, **options), theirs.encode(given, **options)
            assert type(got) is type(expected)
            assert len(got) == len(expected)
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(np.asarray(one), np.asarray(other), **CLOSE)
    same(encoder, truncate_dim=4, normalize_embeddings=True)
    short = SentenceEncoder.from_pretrained(encoder, truncate_dim=3)
    assert short.get_sentence_embedding_dimension() == short.encode("dog").shape[0] == 3
    for width in (0, -3, True, 2.0):
        with pytest.raises(InvalidInput, match="truncate_dim is a whole number from 1"):
            ours.encode("dog", truncate_dim=width)
    for wrong in ({"output_value": "x"}, {"precision": "int8"}):
        with pytest.raises(UnsupportedOption):
            ours.encode("dog", **wrong)
    for wrong in (None, 3, [None], [["a", "b"]]):
        with pytest.raises(InvalidInput):
            ours.encode(wrong)


def test_batches_change_nothing(encoder, capsys):
    ours = SentenceEncoder.from_pretrained(encoder)
    alone = np.stack([ours.encode(text) for text in SENTENCES])
    for options in ({}, {"batch_size": 1}, {"batch_size": 4, "show_progress_bar": True}, {"token_budget": 10}):
        np.testing.assert_allclose(ours.encode(SENTENCES, **options), alone, **CLOSE)
    assert "Batches" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="batch_size"):
        ours.encode(SENTENCES, batch_size=0)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities(make, name, tmp_path):
    folder = make([modules.Pooling(16)], similarity_fn_name=name)
    ours, theirs = same(folder, tmp_path / "back"), reference.SentenceTransformer(str(folder), device="cpu")
    assert ours.similarity_fn_name == name
    a, b = np.random.default_rng(0).normal(size=(2, 5, 16)).astype(np.float32)
    for one, other in ((a, b), (torch.tensor(a), torch.tensor(b)), (list(a), list(map(torch.tensor, b))), (a[0], b)):
        torch.testing.assert_close(ours.similarity(one, other), theirs.similarity(one, other), **CLOSE)
    torch.testing.assert_close(ours.similarity_pairwise(a, b), theirs.similarity_pairwise(a, b), **CLOSE)
    for wrong in (a[:, :3], "x", None, a[None]):
        with pytest.raises(InvalidInput):
            ours.similarity(a, wrong)


def test_encoders_are_pickled_and_copied(encoder):
    ours = SentenceEncoder.from_pretrained(encoder)
    for again in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        np.testing.assert_array_equal(again.encode(SENTENCES), ours.encode(SENTENCES))


def test_half_precision(encoder):
    changed(encoder / "sentence_bert_config.json", model_args={"dtype": "float16", "trust_remote_code": True})
    assert SentenceEncoder.from_pretrained(encoder).dtype == torch.float16
    changed(encoder / "sentence_bert_config.json", model_args=None)
    ours = SentenceEncoder.from_pretrained(encoder, dtype="bfloat16")
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16}
    got = ours.encode(SENTENCES)
    assert got.dtype == np.float32
    theirs = reference.SentenceTransformer(str(encoder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    exact = SentenceEncoder.from_pretrained(encoder).encode(SENTENCES)
    assert np.abs(got - exact).max() <= 1.5 * np.abs(theirs.encode(SENTENCES) - exact).max() + 1e-3


def test_prepared_encoders_give_nearly_the_same_vectors_and_are_saved(encoder, tmp_path):
    exact = SentenceEncoder.from_pretrained(encoder).encode(SENTENCES)
    changed(encoder / "sentence_bert_config.json", model_args={"dtype": "float16"})
    ours = SentenceEncoder.from_pretrained(encoder, precision="int8")
    assert ours.model.prepared == "int8"
    assert ours.dtype is not torch.float16
    got = ours.encode(SENTENCES)
    assert (got * exact).sum(1).min() > 0.98
    ours.save_pretrained(tmp_path / "prepared")
    again = SentenceEncoder.from_pretrained(tmp_path / "prepared")
    assert again.model.prepared == "int8"
    np.testing.assert_array_equal(again.encode(SENTENCES), got)


def test_names_resolve():
    assert multihead.SentenceEncoder is SentenceEncoder
    assert "CrossEncoder" in dir(multihead)


def test_the_former_name_of_the_modules_still_imports(monkeypatch):
    monkeypatch.delitem(sys.modules, "multihead.sentences.steps", raising=False)  # a module warns once a process
    with pytest.warns(DeprecationWarning, match="sentences.modules"):
        steps = importlib.import_module("multihead.sentences.steps")
    assert (steps.Normalize.__module__, steps.Pooling.__module__) == ("multihead.sentences.modules",) * 2
