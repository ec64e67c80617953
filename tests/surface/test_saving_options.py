"""`save_pretrained` as accelerate's recipes and the reference's scripts call it."""

from __future__ import annotations

import os

import pytest
import torch

from multihead import AutoModelForSequenceClassification
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.nn.own_names import own_parameters


@pytest.fixture
def model(classifier):
    return AutoModelForSequenceClassification.from_pretrained(classifier, dtype="float32")


def test_one_process_writes_and_a_function_to_write_with_is_not_needed(model, tmp_path):
    model.save_pretrained(tmp_path / "none", is_main_process=False, save_function=torch.save)
    assert not (tmp_path / "none").exists()
    model.save_pretrained(tmp_path / "one", is_main_process=True, save_function=torch.save, push_to_hub=False)
    assert "model.safetensors" in os.listdir(tmp_path / "one")
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "one")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), found.parameters(), strict=True))


def test_weights_that_are_given_are_those_that_are_written(model, tmp_path):
    weights = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=weights, max_shard_size="10KB")
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert found.config.id2label == model.config.id2label
    assert all(torch.equal(tensor + 1, found.get_parameter(name)) for name, tensor in own_parameters(model))
    name = next(iter(weights))
    for wrong in ({}, {**weights, name: torch.zeros(3)}, {**weights, "other": torch.zeros(3)}):
        with pytest.raises(InvalidInput, match="state_dict does not hold"):
            model.save_pretrained(tmp_path / "wrong", state_dict=wrong)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("option", [{"safe_serialization": False}, {"save_original_format": False}])
def test_what_is_not_done_is_refused_before_anything_is_written(model, tmp_path, option):
    with pytest.raises(UnsupportedOption, match=next(iter(option))):
        model.save_pretrained(tmp_path / "a", **option)
    assert not (tmp_path / "a").exists()
