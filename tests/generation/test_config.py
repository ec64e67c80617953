"""GenerationConfig: what files may hold, what a setting must be, and what is written back."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
import transformers

import multihead
from multihead import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
)
from multihead.errors import InvalidInput, ModelNotFound, UnsupportedOption

IDS = torch.tensor([[5, 9, 14, 3]])
FILE = "generation_config.json"


@pytest.fixture
def folder(llama, tmp_path):
    return shutil.copytree(llama, tmp_path / "model")


def entries(folder, **more):
    (folder / FILE).write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1, **more}))


@pytest.mark.parametrize(
    "more",
    [{"temperature": 0.0}, {"temperature": "0.7"}, {"top_k": -1}, {"top_p": 1.5}, {"top_k": 50.0}, {"max_length": 10.0},
     {"max_length": 0}, {"bos_token_id": [1]}, {"bos_token_id": [1, 3]}, {"forced_decoder_ids": [[1, 5]]},
     {"chat_format": "chatml", "max_window_size": 6144}, {"trust_remote_code": True}, {"return_timestamps": False}],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")  # unknown entries, and a classifier's new head
def test_what_the_reference_loads_and_does_not_use_is_no_hindrance(folder, more, tmp_path):
    entries(folder, **more)
    theirs, ours = (kind.from_pretrained(folder) for kind in (transformers.AutoModelForCausalLM, AutoModelForCausalLM))
    assert ours.generate(IDS, max_new_tokens=4).tolist() == theirs.generate(IDS, max_new_tokens=4).tolist()
    ours.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / FILE).read_text())
    assert {name: written[name] for name in more} in (more, {"bos_token_id": 1})
    for kind in (AutoModel, AutoModelForSequenceClassification):
        kind.from_pretrained(folder)


@pytest.mark.parametrize(
    ("more", "options"),
    [({"temperature": 0.0}, {"do_sample": True}), ({"top_k": -1}, {"do_sample": True}), ({"max_length": 0}, {}),
     ({"num_beams": 0}, {}), ({"do_sample": "true"}, {}), ({"eos_token_id": "2"}, {})],
    ids=str,
)  # fmt: skip
def test_a_value_of_a_file_is_refused_once_it_would_matter(folder, more, options):
    entries(folder, **more)
    model, name = AutoModelForCausalLM.from_pretrained(folder), next(iter(more))
    with pytest.raises(InvalidInput, match=f"generation_config.json: {name} must be"):
        model.generate(IDS, **options)
    right = {"temperature": 0.5, "top_k": 3, "max_length": 9, "num_beams": 1, "do_sample": False, "eos_token_id": 2}
    assert model.generate(IDS, **{**options, name: right[name]}).shape[1] > 4
    setattr(model.generation_config, name, right[name])
    assert model.generate(IDS, **options).shape[1] > 4


def test_entries_that_nobody_knows_are_said_where_texts_are_written(folder):
    entries(folder, chat_format="chatml")
    with pytest.warns(UserWarning, match="change nothing: chat_format"):
        AutoModelForCausalLM.from_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoModel.from_pretrained(folder)
    with pytest.raises(UnsupportedOption, match="chat_format"):
        AutoModelForCausalLM.from_pretrained(folder).generate(IDS, chat_format="chatml")


def test_a_field_can_be_set_and_is_checked(llama):
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.generation_config.max_new_tokens = 3
    model.generation_config.use_cache = False  # says nothing of what comes out
    assert model.generate(IDS).shape == (1, 7)
    with pytest.raises(InvalidInput, match="max_new_tokens"):
        model.generation_config.max_new_tokens = 0
    with pytest.raises(UnsupportedOption, match="max_new_tokens"):
        model.generation_config.max_new_token = 4
    with pytest.raises(UnsupportedOption, match="is_assistant"):
        model.generation_config.is_assistant = True
    assert model.generation_config.update(temperature=0.5, colour=3) == {"colour": 3}
    assert (model.generation_config.temperature, model.generation_config.max_new_tokens) == (0.5, 3)


@pytest.mark.parametrize(
    "settings",
    [{"bad_words_ids": [[]]}, {"bad_words_ids": [[3], []]}, {"encoder_no_repeat_ngram_size": -1},
     {"watermarking_config": {"context_width": 0}}, {"watermarking_config": 3},
     {"exponential_decay_length_penalty": (1, "a")}],
    ids=str,
)  # fmt: skip
def test_settings_that_no_text_could_meet_are_refused(settings):
    with pytest.raises(InvalidInput, match=f"{next(iter(settings))}|context_width"):
        GenerationConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"sequence_bias": {(5, 6): -1.0, (3,): 2.0}}, {"watermarking_config": transformers.WatermarkingConfig(bias=2.5)},
     {"watermarking_config": {"bias": 2.0}}, {"eos_token_id": [2, 3], "max_new_tokens": 4}],
    ids=str,
)  # fmt: skip
def test_what_is_written_is_read_by_both_libraries(settings, tmp_path):
    GenerationConfig(**settings).save_pretrained(tmp_path)
    again, theirs = GenerationConfig.from_pretrained(tmp_path), transformers.GenerationConfig.from_pretrained(tmp_path)
    assert not again.uncomputed
    assert again.bias_of_runs == GenerationConfig(**settings).bias_of_runs
    theirs.validate()
    assert GenerationConfig.coerce(theirs).to_dict() == theirs_of(again, theirs)
    assert GenerationConfig.from_dict(again.to_dict(), max_time=3.0).max_time == 3.0


def theirs_of(again, theirs):
    """What the reference fills in of a watermark, in our own config."""
    found = again.to_dict()
    if "watermarking_config" in found:
        found["watermarking_config"] = theirs.watermarking_config.to_dict()
    return found


def test_a_folder_without_a_file_is_said(tmp_path, llama):
    with pytest.raises(ModelNotFound):
        GenerationConfig.from_pretrained(tmp_path)
    GenerationConfig(top_k=3).save_pretrained(tmp_path / "inside")
    assert GenerationConfig.from_pretrained(tmp_path, subfolder="inside", top_p=0.5).to_dict() == {
        "top_k": 3,
        "top_p": 0.5,
    }


@pytest.mark.parametrize("library", [multihead, transformers], ids=["multihead", "reference"])
def test_what_programs_ask_of_a_generation_config(library, tmp_path):
    config = library.GenerationConfig(max_new_tokens=3, do_sample=True, temperature=0.5)
    config.validate()
    config.validate(strict=True)
    assert config.update(top_k=5, other=1) == {"other": 1}
    said = {"max_new_tokens": 3, "do_sample": True, "temperature": 0.5, "top_k": 5}
    assert said.items() <= config.to_diff_dict().items()
    config.to_json_file(tmp_path / "own.json")
    for text in (config.to_json_string(), (tmp_path / "own.json").read_text()):
        assert said.items() <= json.loads(text).items()
    assert "min_p" not in config.to_diff_dict()
    if library is multihead:
        with pytest.raises(UnsupportedOption, match="coffee"):
            library.GenerationConfig.from_dict({"coffee": 1}).validate(strict=True)
