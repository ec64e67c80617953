"""What a folder holds once a model was saved into it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import multihead
from multihead import AutoModelForCausalLM, AutoModelForSequenceClassification
from multihead.errors import InvalidInput, ModelNotFound, UnsupportedOption
from multihead.modeling.saving import shard_bytes
from tests.parity.case import reference
from tests.parity.cases import CASES

ROWS = {case.name: case for case in CASES}
GENERATION = "generation_config.json"


@pytest.fixture
def speaker(tmp_path: Path) -> Path:
    """A folder of a model with generation_config.json."""
    model = reference(ROWS["gpt2"], "LMHeadModel")
    model.generation_config = transformers.GenerationConfig(temperature=0.3, do_sample=True, eos_token_id=5)
    model.save_pretrained(tmp_path / "speaker")
    return tmp_path / "speaker"


def plain(eos: int) -> multihead.PreTrainedModel:
    """A fresh model whose config alone says how it ends."""
    config = multihead.AutoConfig.for_model("gpt2", n_embd=12, n_head=2, n_layer=1, vocab_size=20, eos_token_id=eos)
    return AutoModelForCausalLM.from_config(config)


def test_how_an_earlier_model_generated_is_forgotten(speaker):
    assert AutoModelForCausalLM.from_pretrained(speaker).generation_config.temperature == 0.3
    plain(9).save_pretrained(speaker)
    again = AutoModelForCausalLM.from_pretrained(speaker).generation_config
    assert (again.temperature, again.eos_token_id) == (None, 9)
    assert transformers.AutoModelForCausalLM.from_pretrained(speaker).generation_config.eos_token_id == 9


def test_a_classifier_leaves_no_word_of_generation(speaker, classifier):
    AutoModelForSequenceClassification.from_pretrained(classifier).save_pretrained(speaker)
    assert not (speaker / GENERATION).exists()


def test_what_was_loaded_or_set_is_written(speaker, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(speaker)
    model.save_pretrained(speaker)
    assert AutoModelForCausalLM.from_pretrained(speaker).generation_config.temperature == 0.3
    model = plain(9)
    model.generation_config = model.generation_config.changed(top_k=4)
    model.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.top_k == 4


@pytest.mark.parametrize(
    ("size", "expected"),
    [("5GB", 5 * 10**9), ("0.5GB", 5 * 10**8), ("1TB", 10**12), ("1.5 mib", 3 * 2**19), ("200 KB", 200_000), (7, 7)],
)
def test_sizes_of_shards_are_read_as_people_write_them(size, expected):
    assert shard_bytes(size) == expected


@pytest.mark.parametrize("size", ["5XB", "GB", "-1GB", "1..5GB", "5"])
def test_other_sizes_are_refused(size):
    with pytest.raises(InvalidInput, match=r"5GB"):
        shard_bytes(size)


# What is no folder of weights, and no precision of them


@pytest.mark.parametrize("name", ["config.json", "notes.txt"])
def test_a_file_without_weights_is_called_so(bert, tmp_path, name):
    (tmp_path / name).write_text((bert / "config.json").read_text())
    with pytest.raises(ModelNotFound, match=rf"holds no weights. Give its folder, {tmp_path}"):
        multihead.AutoModel.from_pretrained(tmp_path / name)


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64, "int8"])
def test_a_dtype_that_no_state_has_is_refused(bert, kind):
    with pytest.raises(UnsupportedOption, match="is none of auto, float32"):
        multihead.AutoModel.from_pretrained(bert, dtype=kind)
