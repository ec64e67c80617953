"""config.json: typed under its own names, refusing by name what is not computed, dropping nothing."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead import AutoModel, BertConfig, LlamaConfig, MarianConfig
from multihead.config import Config, read_json
from multihead.errors import (
    CorruptFile,
    InvalidInput,
    ModelNotFound,
    MultiheadError,
    UnknownModel,
    UnsupportedConfig,
    UnsupportedOption,
)
from multihead.models.common.registry import parse_config


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("hidden_size", "768"),
        ("hidden_size", 7.5),
        ("num_hidden_layers", True),
        ("hidden_dropout_prob", "0.1"),
        ("position_embedding_type", "relative_key"),
        ("add_cross_attention", True),
        ("problem_type", "guessing"),
        ("eos_token_id", [1, "2"]),
    ],
)
def test_an_entry_of_a_wrong_type_or_value_is_refused_by_name(entry, value):
    with pytest.raises(UnsupportedConfig, match=entry):
        parse_config({"model_type": "bert", entry: value})


def test_an_unknown_family_is_refused_with_the_nearest_names():
    with pytest.raises(UnknownModel, match="'bert'"):
        parse_config({"model_type": "brt"})
    with pytest.raises(UnknownModel, match="model_type"):
        parse_config({"hidden_size": 3})
    with pytest.raises(UnknownModel):
        parse_config({"model_type": 7})


def test_unknown_entries_are_kept_reported_and_written_back():
    config = parse_config({"model_type": "bert", "hidden_size": 12, "speed": "fast", "transformers_version": "4"})
    assert config.unknown == ("speed",)
    assert config.speed == "fast"
    assert config.to_dict()["speed"] == "fast"
    assert parse_config(config.to_dict()) == config


def test_labels_follow_their_names_and_a_new_number_drops_them():
    config = parse_config({"model_type": "bert", "id2label": {"0": "no", "1": "yes", "2": "maybe"}})
    assert (config.num_labels, config.id2label[2], config.label2id["yes"]) == (3, "maybe", 1)
    assert config.changed(num_labels=3).id2label[2] == "maybe"
    assert config.changed(num_labels=2).id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert BertConfig(num_labels=4).id2label[3] == "LABEL_3"


def test_older_spellings_of_rotary_settings_become_todays():
    old = parse_config({"model_type": "llama", "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert old.rope_parameters == {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    assert parse_config({"model_type": "llama"}).rope_parameters["rope_theta"] == 10000.0
    assert parse_config({"model_type": "llama", "rope_scaling": None}).rope_parameters["rope_type"] == "default"


def test_a_scaling_that_is_not_computed_is_refused_when_the_model_is_built():

    for rope in ({"rope_type": "spiral"}, {"rope_type": "linear"}):
        config = parse_config(
            {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "rope_parameters": rope}
        )
        with pytest.raises(UnsupportedConfig, match="rope"):
            AutoModel.from_config(config)


def test_sizes_that_contradict_each_other_are_refused():
    with pytest.raises(UnsupportedConfig, match="6 attention heads cannot share 4 key heads"):
        AutoModel.from_config(LlamaConfig(hidden_size=12, num_attention_heads=6, num_key_value_heads=4))
    with pytest.raises(UnsupportedConfig, match="width of 10 cannot be shared evenly by 4"):
        AutoModel.from_config(BertConfig(hidden_size=10, num_attention_heads=4))
    with pytest.raises(UnsupportedConfig, match="num_attention_heads"):
        LlamaConfig(hidden_size=10, num_attention_heads=4)


def test_names_that_users_know_lead_to_a_familys_own_entry():
    assert MarianConfig(d_model=64).hidden_size == 64
    assert parse_config({"model_type": "marian", "hidden_size": 64}).d_model == 64
    with pytest.raises(AttributeError, match="colour"):
        _ = BertConfig().colour


VALUES = [None, True, -1, 0, 7, 2.5, "7", "gelu", [], [3], [None], {}, {"0": "no"}, {"a": 1}, {"rope_theta": "x"}]
ENTRIES = [
    "hidden_size",
    "layer_norm_eps",
    "hidden_act",
    "id2label",
    "label2id",
    "extra",
    "x",
    "eos_token_id",
    "num_labels",
]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ENTRIES), st.sampled_from(VALUES)))
def test_any_json_gives_a_config_or_one_of_our_errors(entries):
    try:
        config = parse_config({"model_type": "bert", **entries})
    except MultiheadError:
        return
    assert isinstance(config, Config)


def test_a_saved_config_reads_back_equal(tmp_path):
    config = BertConfig(num_labels=3, hidden_size=12, extra={"speed": "fast"})
    config.save_pretrained(tmp_path / "new")
    assert parse_config(read_json(tmp_path / "new" / "config.json")) == config
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["config.json"]


def test_a_config_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(InvalidInput):
        BertConfig(extra={"thing": object()}).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[1]", "nonsense", "\x00"])
def test_a_broken_file_is_one_clear_error(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(CorruptFile, match=r"config\.json"):
        read_json(path)
    with pytest.raises(ModelNotFound, match=r"other\.json"):
        read_json(tmp_path / "other.json")


def test_what_layers_are_built_from_cannot_be_changed_in_place():
    with pytest.raises(UnsupportedOption, match=r"from_pretrained\(\.\.\., hidden_size=3\)"):
        BertConfig().hidden_size = 3
    assert json.loads(json.dumps(BertConfig().to_dict()))["hidden_size"] == 768
