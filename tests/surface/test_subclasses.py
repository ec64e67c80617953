"""Classes that programs derive from ours, and the names that they reach for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import multihead
from multihead.errors import MultiheadError, UnknownPart, UnsupportedOption
from tests.parity.case import reference
from tests.parity.cases import CASES

ROWS = {case.name: case for case in CASES}


class Tagger(multihead.BertModel):
    """A head of one's own on an encoder, as courses write it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList([nn.Linear(config.hidden_size, 3), nn.LayerNorm(3)])
        self.scale = nn.Parameter(torch.full((3,), 7.0))

    def tags(self, input_ids: torch.Tensor) -> torch.Tensor:
        states = self(input_ids).last_hidden_state
        for layer in self.layers:
            states = layer(states)
        return states * self.scale


class ReferenceTagger(transformers.BertModel):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList([nn.Linear(config.hidden_size, 3), nn.LayerNorm(3)])
        self.scale = nn.Parameter(torch.full((3,), 7.0))
        self.post_init()

    tags = Tagger.tags


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reference(ROWS["bert"], "ForMaskedLM").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


IDS = torch.tensor([[5, 6, 7, 8]])


def test_a_subclass_keeps_the_values_that_it_gave_its_own_parts_and_says_that_they_are_new(folder):
    with pytest.warns(UserWarning, match=r"layers\.0\.weight"):
        model = Tagger.from_pretrained(folder)
    assert model.scale.tolist() == [7.0, 7.0, 7.0]
    assert model.layers[1].weight.tolist() == [1.0, 1.0, 1.0]
    assert not model.training
    plain = multihead.BertModel.from_pretrained(folder)
    assert torch.equal(model(IDS).last_hidden_state, plain(IDS).last_hidden_state)


def test_a_subclass_is_saved_with_its_own_parts_as_the_reference_reads_them(folder, tmp_path):
    with pytest.warns(UserWarning, match="newly initialized"):
        model = Tagger.from_pretrained(folder)
    model.save_pretrained(tmp_path / "saved")
    again = Tagger.from_pretrained(tmp_path / "saved")
    theirs = ReferenceTagger.from_pretrained(tmp_path / "saved").eval()
    wanted = model.tags(IDS)
    assert torch.equal(again.tags(IDS), wanted)
    torch.testing.assert_close(theirs.tags(IDS), wanted, rtol=1e-5, atol=1e-5)


def test_a_part_that_the_saved_subclass_lacks_is_an_error(folder, tmp_path):
    class Wider(Tagger):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.more = nn.Linear(2, 2)

    Wider.__name__ = "Tagger"
    with pytest.warns(UserWarning, match="newly initialized"):
        Tagger.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    with pytest.raises(multihead.errors.CheckpointMismatch, match=r"more\.weight"):
        Wider.from_pretrained(tmp_path / "saved")


def test_buffers_of_own_parts_are_not_left_out_in_silence(folder, tmp_path):
    class Normed(multihead.BertModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.norm = nn.BatchNorm1d(config.hidden_size)

    with pytest.warns(UserWarning, match="newly initialized"):
        model = Normed.from_pretrained(folder)
    assert model.norm.running_var.device.type == "cpu"
    with pytest.raises(UnsupportedOption, match=r"norm\.running_mean"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("name", ["bert", "classifier", "lm_head", "generate_text"])
def test_a_part_under_the_references_name_is_refused_with_ours(folder, name):
    model = multihead.BertModel.from_pretrained(folder)
    assert not hasattr(model, name)
    with pytest.raises(UnknownPart, match="Its parts are backbone") as caught:
        getattr(model, name)
    assert isinstance(caught.value, MultiheadError)
    assert isinstance(caught.value, AttributeError)


@pytest.mark.parametrize("name", ["bert", "llama", "t5", "bart", "gpt2"])
def test_no_family_has_parts_beside_backbone_and_head(name, tmp_path):
    case = ROWS[name]
    reference(case, case.ends[0]).save_pretrained(tmp_path)
    assert getattr(multihead, case.family + case.ends[0]).from_pretrained(tmp_path).own_parts == ()


def test_an_entry_of_a_config_can_be_set_to_what_it_is(folder):
    config = multihead.BertModel.from_pretrained(folder).config
    config.hidden_size = config.hidden_size
    with pytest.raises(UnsupportedOption, match="hidden_size cannot be set"):
        config.hidden_size = config.hidden_size + 1
    with pytest.raises(UnsupportedOption, match="hidden_size cannot be set"):
        config.hidden_size = float(config.hidden_size)
