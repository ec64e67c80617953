"""From a folder to a model and back: what loads, what is an error, what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multihead
from multihead import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from multihead.errors import (
    CheckpointMismatch,
    CorruptFile,
    ModelNotFound,
    MultiheadError,
    NetworkUnavailable,
    UnknownModel,
    UnsafeFile,
    UnsupportedConfig,
    UnsupportedOption,
)
from multihead.modeling.fill_weights import NewWeights
from tests.hub_server import HubServer


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "model"))


def edit(folder: Path, **entries: Any) -> None:
    config = {**json.loads((folder / "config.json").read_text()), **entries}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def store(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: x.contiguous() for name, x in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[2, 9, 14, 3]]))[0]


# What fits


def test_old_names_of_tensors_and_absent_prefixes_are_known(bert, copy):
    expected = scores(AutoModelForMaskedLM.from_pretrained(bert))
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in weights(copy).items()}  # fmt: skip
    assert any("gamma" in name for name in old)
    store(copy, old)
    assert torch.equal(scores(AutoModelForMaskedLM.from_pretrained(copy)), expected)
    states = scores(AutoModel.from_pretrained(bert))
    store(copy, {k.removeprefix("bert."): v for k, v in weights(bert).items() if k.startswith("bert.")})
    assert torch.equal(scores(AutoModel.from_pretrained(copy)), states)


def test_shards_and_pickles_give_the_same_numbers_as_one_file(bert, copy):
    model = transformers.BertForMaskedLM.from_pretrained(bert)
    expected = scores(AutoModelForMaskedLM.from_pretrained(bert))
    (copy / "model.safetensors").unlink()
    model.save_pretrained(copy, max_shard_size="10KB")
    assert len(list(copy.glob("*.safetensors"))) > 2
    assert torch.equal(scores(AutoModelForMaskedLM.from_pretrained(copy)), expected)
    for path in copy.glob("model*"):
        path.unlink()
    for zipped in (True, False):
        torch.save(model.state_dict(), copy / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert torch.equal(scores(AutoModelForMaskedLM.from_pretrained(copy)), expected)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, torch.bfloat16),
        ({"dtype": "auto"}, torch.bfloat16),
        ({"dtype": "float32"}, torch.float32),
        ({"dtype": torch.float16}, torch.float16),
        ({"torch_dtype": "fp32"}, torch.float32),
        ({"torch_dtype": torch.float64, "device_map": "cpu"}, torch.float64),
    ],
    ids=str,
)
def test_the_dtype_is_the_checkpoints_unless_asked_for(copy, options, kind):
    transformers.BertForMaskedLM.from_pretrained(copy, dtype=torch.bfloat16).save_pretrained(copy)
    model = AutoModelForMaskedLM.from_pretrained(copy, **options)
    assert model.dtype == kind
    assert {p.dtype for p in model.parameters()} == {kind}
    assert not model.training


def test_a_head_that_the_checkpoint_lacks_is_made_and_reported_once_by_name(bert):
    with pytest.warns(NewWeights) as found:
        model = AutoModelForTokenClassification.from_pretrained(bert, num_labels=5)
    assert len(found) == 1
    assert "classifier.weight" in str(found[0].message)
    assert found[0].filename == __file__
    assert scores(model).shape == (1, 4, 5)
    assert model.config.id2label[4] == "LABEL_4"
    body = AutoModelForMaskedLM.from_pretrained(bert).backbone.state_dict()
    assert all(torch.equal(value, body[name]) for name, value in model.backbone.state_dict().items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoModelForMaskedLM.from_pretrained(bert)
        AutoModel.from_pretrained(bert)


def test_a_head_of_other_labels_needs_consent(classifier):
    with pytest.raises(CheckpointMismatch, match="ignore_mismatched_sizes=True") as found:
        AutoModelForSequenceClassification.from_pretrained(classifier, num_labels=7)
    assert found.value.misshapen == {
        "head.out.weight (classifier.weight)": ((7, 16), (3, 16)),
        "head.out.bias (classifier.bias)": ((7,), (3,)),
    }
    with pytest.warns(NewWeights, match=r"classifier\.weight"):
        model = AutoModelForSequenceClassification.from_pretrained(
            classifier, num_labels=7, ignore_mismatched_sizes=True
        )
    assert scores(model).shape == (1, 7)


def test_entries_of_the_config_can_be_changed_on_the_way(classifier):
    labels = {0: "a", 1: "b", 2: "c"}
    model = AutoModelForSequenceClassification.from_pretrained(classifier, id2label=labels, hidden_dropout_prob=0.0)
    assert model.config.id2label == labels
    assert model.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert AutoConfig.from_pretrained(classifier, problem_type="regression").problem_type == "regression"


def test_a_familys_own_class_reads_a_config_that_names_no_family(bert, copy):
    edit(copy, model_type=...)
    with pytest.raises(UnknownModel, match="BertModel"):
        AutoModelForMaskedLM.from_pretrained(copy)
    model = multihead.BertForMaskedLM.from_pretrained(copy)
    assert torch.equal(scores(model), scores(AutoModelForMaskedLM.from_pretrained(bert)))


def test_a_model_from_a_config_alone_has_fresh_weights():
    config = AutoConfig.for_model("bert", hidden_size=32, num_attention_heads=2, num_hidden_layers=1, vocab_size=200)
    model = AutoModel.from_config(config)
    weight = model.backbone.layers[0].ffn.step.up.weight
    assert abs(weight.std().item() - config.initializer_range) < 0.005
    assert torch.equal(model.backbone.layers[0].ffn.after.weight, torch.ones(32))
    assert scores(model).isfinite().all()


def test_everything_comes_over_the_network_when_it_is_on_a_hub(bert, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        server.add("org/tiny", {p.name: p for p in bert.iterdir()})
        model = AutoModelForMaskedLM.from_pretrained("org/tiny")
        tokenizer = AutoTokenizer.from_pretrained("org/tiny")
        assert torch.equal(scores(model), scores(AutoModelForMaskedLM.from_pretrained(bert)))
        assert tokenizer("a fox").input_ids == AutoTokenizer.from_pretrained(bert)("a fox").input_ids
        with pytest.raises(ModelNotFound, match="org/none"):
            AutoModel.from_pretrained("org/none")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(NetworkUnavailable, match="org/other"):
        AutoModel.from_pretrained("org/other")
    assert AutoModel.from_pretrained("org/tiny", local_files_only=True).name_or_path == "org/tiny"


# What does not fit


def test_all_tensors_that_do_not_fit_are_in_one_error(copy):
    tensors = weights(copy)
    del tensors["bert.encoder.layer.0.attention.self.query.weight"]
    del tensors["bert.encoder.layer.1.attention.self.query.weight"]
    del tensors["cls.predictions.bias"]
    tensors["bert.encoder.layer.0.output.dense.weight"] = torch.zeros(3, 3)
    tensors["bert.encoder.layer.2.output.dense.weight"] = torch.zeros(16, 24)
    tensors["bert.surprise"] = torch.zeros(2)
    store(copy, tensors)
    with pytest.raises(CheckpointMismatch) as found:
        AutoModelForMaskedLM.from_pretrained(copy)
    assert len(found.value.missing) == 3
    assert sorted(found.value.unexpected) == ["bert.encoder.layer.2.output.dense.weight", "bert.surprise"]
    assert list(found.value.misshapen.values()) == [((16, 24), (3, 3))]
    said = str(found.value)
    assert str(copy) in said
    assert "attention.step.q.weight (bert.encoder.layer.*.attention.self.query.weight)  (* = 0 to 1)" in said
    for name in ("cls.predictions.bias", "bert.surprise", "[16, 24]", "[3, 3]"):
        assert name in said


@pytest.mark.parametrize(
    ("entries", "error", "said"),
    [
        ({"model_type": "bertt"}, UnknownModel, "'bert'"),
        ({"model_type": "lama"}, UnknownModel, "'llama'"),
        ({"model_type": ...}, UnknownModel, "model_type"),
        ({"model_type": 7}, UnknownModel, "model_type"),
        ({"hidden_size": "16"}, UnsupportedConfig, "hidden_size"),
        ({"hidden_size": 0}, UnsupportedConfig, "hidden_size"),
        ({"hidden_size": 15}, UnsupportedConfig, "15"),
        ({"hidden_size": None}, CheckpointMismatch, "768"),
        ({"num_hidden_layers": -1}, UnsupportedConfig, "num_hidden_layers"),
        ({"num_hidden_layers": 10**12}, UnsupportedConfig, "num_hidden_layers"),
        ({"num_hidden_layers": 2.5}, UnsupportedConfig, "num_hidden_layers"),
        ({"num_hidden_layers": 1}, CheckpointMismatch, r"encoder\.layer\.1"),
        ({"num_hidden_layers": 3}, CheckpointMismatch, r"encoder\.layer\.2"),
        ({"vocab_size": True}, UnsupportedConfig, "vocab_size"),
        ({"vocab_size": 11}, CheckpointMismatch, "word_embeddings"),
        ({"layer_norm_eps": "small"}, UnsupportedConfig, "layer_norm_eps"),
        ({"hidden_act": "wiggle"}, UnsupportedConfig, "wiggle"),
        ({"position_embedding_type": "relative_key"}, UnsupportedConfig, "relative_key"),
        ({"id2label": {"a": "b"}}, UnsupportedConfig, "id2label"),
        ({"dtype": "float3"}, UnsupportedOption, "float3"),
    ],
    ids=str,
)
def test_a_config_that_is_wrong_is_named(copy, entries, error, said):
    edit(copy, **entries)
    with pytest.raises(error, match=said):
        AutoModelForMaskedLM.from_pretrained(copy)


def test_entries_that_change_nothing_here_are_said_and_kept(copy, tmp_path):
    edit(copy, use_wormhole=True)
    with pytest.warns(UserWarning, match="use_wormhole"):
        model = AutoModelForMaskedLM.from_pretrained(copy)
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["use_wormhole"] is True


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil-was-here",)


def test_a_pickle_that_wants_to_run_code_does_not(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (copy / "model.safetensors").unlink()
    torch.save({"bert.pooler": Evil()}, copy / "pytorch_model.bin")
    with pytest.raises(UnsafeFile, match=r"pytorch_model\.bin"):
        AutoModel.from_pretrained(copy)
    assert not (tmp_path / "evil-was-here").exists()


def test_files_that_are_broken_or_absent_are_named(copy, tmp_path):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        AutoModel.from_pretrained(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="safetensors"):
        AutoModel.from_pretrained(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"config\.json"):
        AutoConfig.from_pretrained(copy)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        for door in (AutoModel, AutoConfig, AutoTokenizer):
            with pytest.raises(ModelNotFound, match=folder.name):
                door.from_pretrained(folder)
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 40)
    with pytest.raises(CorruptFile, match=r"m\.gguf"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trust_remote_code": True}, "never runs code"),
        ({"num_label": 3}, "num_label"),
        ({"dtype": "int3"}, "int3"),
        ({"device": "warp"}, "warp"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device_map": {"": "cpu", "head": "meta"}}, "device_map"),
        ({"attn_implementation": "magic"}, "magic"),
        ({"use_safetensors": False}, "use_safetensors"),
        ({"quantization_config": {}}, "quantization_config"),
    ],
    ids=str,
)
def test_an_option_without_meaning_is_refused_by_name(bert, options, said):
    with pytest.raises(UnsupportedOption, match=said):
        AutoModelForMaskedLM.from_pretrained(bert, **options)


def test_an_auto_class_that_the_family_has_no_head_for_says_which_it_has(bert):
    with pytest.raises(UnknownModel, match="BertForMaskedLM"):
        AutoModelForSeq2SeqLM.from_pretrained(bert)
    with pytest.raises(TypeError, match=r"AutoModel\.from_pretrained"):
        AutoModel()
    with pytest.raises(MultiheadError, match="LlamaConfig"):
        multihead.BertModel(multihead.LlamaConfig())


# Memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_loading_takes_the_checkpoints_size_and_no_second_copy(tmp_path, kind):
    config = multihead.BertConfig(vocab_size=20_000, hidden_size=512, num_attention_heads=8, num_hidden_layers=6)
    model = multihead.BertModel(config)
    model.save_pretrained(tmp_path)
    if kind == "bin":
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    size = sum(p.numel() * 4 for p in model.parameters())
    largest = max(p.numel() * 4 for p in model.parameters())
    code = f"""
        import re, torch, safetensors, multihead
        from multihead import AutoModel, BertConfig, BertModel
        BertModel(BertConfig(vocab_size=9, hidden_size=8, num_attention_heads=1, num_hidden_layers=1))
        import multihead.checkpoints.folder, multihead.modeling.loading
        peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
        before = peak()
        model = AutoModel.from_pretrained({str(tmp_path)!r})
        total = sum(p.sum().item() for p in model.parameters())  # every page is touched
        print(peak() - before)
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, env=environment
    )
    assert size * 0.5 < int(done.stdout) < size + largest + 24e6


# And back


def test_a_model_saves_over_the_folder_that_it_was_loaded_from(copy):
    model = AutoModelForMaskedLM.from_pretrained(copy)
    expected = scores(model)
    with torch.no_grad():
        model.head.bias.add_(1.0)
    model.save_pretrained(copy)
    assert torch.allclose(scores(model), expected + 1.0, atol=1e-5)
    assert torch.allclose(scores(AutoModelForMaskedLM.from_pretrained(copy)), expected + 1.0, atol=1e-5)
    assert torch.allclose(scores(transformers.BertForMaskedLM.from_pretrained(copy)), expected + 1.0, atol=1e-4)


def test_shards_that_we_write_are_read_by_the_reference_and_by_us(bert, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(bert)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(scores(AutoModelForMaskedLM.from_pretrained(tmp_path)), scores(model))
    assert torch.allclose(scores(transformers.BertForMaskedLM.from_pretrained(tmp_path)), scores(model), atol=1e-4)
    model.save_pretrained(tmp_path)  # in one file now: the shards must not linger
    assert [p.name for p in tmp_path.glob("model*")] == ["model.safetensors"]
    with pytest.raises(MultiheadError, match="5XB"):
        model.save_pretrained(tmp_path, max_shard_size="5XB")


def test_a_save_that_fails_leaves_what_was_there(copy, monkeypatch):
    model = AutoModelForMaskedLM.from_pretrained(copy)
    before = {p.name: p.read_bytes() for p in copy.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with torch.no_grad():
        model.head.bias.add_(1.0)
    with pytest.raises(MultiheadError, match="No space left"):
        model.save_pretrained(copy)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before
    with pytest.raises(MultiheadError, match="is a file"):
        model.save_pretrained(copy / "config.json")


def test_a_quantized_models_numbers_survive_a_save(marian, tmp_path):
    model = AutoModelForSeq2SeqLM.from_pretrained(marian)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
