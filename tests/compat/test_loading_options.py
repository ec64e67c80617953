"""Options of from_pretrained and save_pretrained, over both libraries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

import multihead
from multihead.errors import ModelNotFound, UnsupportedOption

TINY = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 10}
IDS = torch.tensor([[1, 2, 3]])
PAIRS = [(multihead, transformers), (transformers, multihead)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**TINY)).eval()
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    return SimpleNamespace(folder=folder, model=model, logits=model(IDS).logits)


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=["to-the-reference", "from-the-reference"])
def test_variants_stand_beside_each_other(one, other, saved, tmp_path):
    model = one.BertForSequenceClassification.from_pretrained(saved.folder)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    model.save_pretrained(tmp_path, variant="old", max_shard_size="2KB")
    found = {path.name for path in tmp_path.iterdir()}
    assert found >= {"model.safetensors", "model.safetensors.index.old.json"}
    assert any(name.startswith("model.old-00001-of-") for name in found)
    classify = other.AutoModelForSequenceClassification
    assert classify.from_pretrained(tmp_path, variant="old").get_input_embeddings().weight.abs().sum() == 0
    torch.testing.assert_close(classify.from_pretrained(tmp_path)(IDS).logits, saved.logits)
    with pytest.raises((ModelNotFound, OSError), match="other"):
        classify.from_pretrained(tmp_path, variant="other")


@pytest.mark.parametrize("name", ["AutoModelForSequenceClassification", "BertForTokenClassification", "AutoModel"])
def test_loading_info_is_the_references(name, saved):
    options = {"output_loading_info": True, "num_labels": 2}
    if name == "AutoModelForSequenceClassification":
        options |= {"num_labels": 5, "ignore_mismatched_sizes": True}
    found, expected = (
        getattr(library, name).from_pretrained(saved.folder, **options)[1] for library in (multihead, transformers)
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert sorted(found[key]) == sorted(expected[key]), key
    if name == "BertForTokenClassification":
        assert found["missing_keys"] == set()  # of the same shape as the file's head


@pytest.mark.parametrize("library", [multihead, transformers], ids=["multihead", "reference"])
def test_tensors_and_configs_of_a_programs_own(library, saved):
    classify, given = library.AutoModelForSequenceClassification, saved.model.state_dict()
    if library is multihead:  # as version 4; the reference takes them without a name alone
        zero = {name: torch.zeros_like(x) for name, x in given.items()}
        assert classify.from_pretrained(saved.folder, state_dict=zero)(IDS).logits.abs().sum() == 0
    config = library.AutoConfig.from_pretrained(saved.folder)
    model = library.BertForSequenceClassification.from_pretrained(None, config=config, state_dict=given)
    torch.testing.assert_close(model(IDS).logits, saved.logits)
    torch.testing.assert_close(
        classify.from_pretrained(saved.folder, config=str(saved.folder))(IDS).logits, saved.logits
    )
    if library is multihead:  # the reference's model shares the memory
        with torch.no_grad():
            model.get_input_embeddings().weight.zero_()
    assert given["bert.embeddings.word_embeddings.weight"].abs().sum() > 0


def test_options_that_change_nothing_and_those_that_are_refused(saved, tmp_path):
    load = multihead.AutoModelForSequenceClassification.from_pretrained
    model = load(
        saved.folder, low_cpu_mem_usage=False, use_safetensors=True, from_tf=False, force_download=False, proxies=None,
        offload_folder="x", weights_only=True, max_memory=None, use_auth_token=None, attn_implementation="eager",
        device_map={"bert": "cpu", "classifier": "cpu"}, torch_dtype=torch.float64, resume_download=None,
        generation_config=multihead.GenerationConfig(max_new_tokens=3),
    )  # fmt: skip
    assert (model.dtype, model.generation_config.max_new_tokens) == (torch.float64, 3)
    wrong = {
        "from_tf": True, "weights_only": False, "max_memory": {0: "1GB"}, "key_mapping": {"a": "b"}, "tp_plan": "auto",
        "attn_implementation": "flash_attention_2", "device_map": {"bert": "cpu", "classifier": "meta"},
    }  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(UnsupportedOption, match=name):
            load(saved.folder, **{name: value})
    model.save_pretrained(tmp_path, save_function=None, is_main_process=False, save_peft_format=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnsupportedOption, match="save_original_format"):
        model.save_pretrained(tmp_path, save_original_format=False)
    class_ = multihead.AutoModel
    assert class_.from_pretrained(saved.folder, add_pooling_layer=False)(IDS).pooler_output is None
    made = class_.from_config(model.config, torch_dtype="bfloat16", attn_implementation="eager")
    assert made.dtype == torch.bfloat16
    assert isinstance(made, nn.Module)
