"""An adapter's folder is enough: its base model, its labels and a tokenizer come with it."""

from __future__ import annotations

import warnings

import peft
import pytest
import torch
import transformers

import multihead
from multihead import LoraConfig
from multihead.errors import InvalidInput, ModelNotFound
from multihead.hub import Want
from multihead.hub.choice import choose
from multihead.modeling.fill_weights import NewWeights
from tests.adapters import tiny

NAMES = {0: "bad", 1: "fair", 2: "good"}
IDS = torch.tensor([[2, 5, 6, 3]])


def trained(base, folder, **options):
    """A classifier over a masked language model, whose new head and adapter have been trained."""
    with pytest.warns(NewWeights):
        model = multihead.AutoModelForSequenceClassification.from_pretrained(base, id2label=NAMES)
    model.add_adapter(LoraConfig(**options))
    tiny.randomized(model).eval().save_pretrained(folder)
    return model


def test_a_new_head_is_trained_saved_and_loaded_with_its_labels(bert, tmp_path):
    model = trained(bert, tmp_path / "adapter")
    assert model.adapters.configs["default"].modules_to_save == ["bert.pooler.dense", "classifier"]
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "multihead_config.json"
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert back.config.id2label == NAMES
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    assert torch.equal(back(IDS).logits, model(IDS).logits)
    assert multihead.AutoConfig.from_pretrained(tmp_path / "adapter").id2label == NAMES


def test_peft_reads_the_new_head(bert, tmp_path):
    model = trained(bert, tmp_path / "adapter", task_type="SEQ_CLS")
    base = transformers.BertForSequenceClassification.from_pretrained(bert, num_labels=3)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, rtol=1e-5, atol=1e-5)


def test_a_folder_of_peft_takes_its_labels_from_the_caller(bert, tmp_path):
    base = transformers.BertForSequenceClassification.from_pretrained(bert, num_labels=3)
    config = peft.LoraConfig(task_type="SEQ_CLS", modules_to_save=["pooler"], target_modules=["query"])
    theirs = peft.get_peft_model(base, config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3)
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, rtol=1e-5, atol=1e-5)


def test_what_neither_base_nor_adapter_has_is_told(bert, tmp_path):
    base = transformers.BertForSequenceClassification.from_pretrained(bert, num_labels=3)
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    with pytest.warns(NewWeights, match="no weights for bert.pooler.dense.bias, bert.pooler.dense.weight; "):
        multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3)


def test_a_head_replaces_one_of_another_size(classifier, tmp_path):
    model = multihead.AutoModelForSequenceClassification.from_pretrained(classifier, num_labels=5,
                                                                         ignore_mismatched_sizes=True)  # fmt: skip
    model.add_adapter(LoraConfig())
    tiny.randomized(model).save_pretrained(tmp_path / "adapter")
    back = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert torch.equal(back(IDS).logits, model.eval()(IDS).logits)


def test_the_tokenizer_is_the_folders_own_or_the_bases(bert, tmp_path):
    trained(bert, tmp_path / "adapter")
    tokenizer = multihead.AutoTokenizer.from_pretrained(tmp_path / "adapter")
    assert len(tokenizer) == len(multihead.AutoTokenizer.from_pretrained(bert))
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path / "adapter")
    assert len(multihead.AutoTokenizer.from_pretrained(tmp_path / "adapter")) == len(tokenizer)


def test_pipelines_take_an_adapter(bert, tmp_path):
    trained(bert, tmp_path / "adapter")
    answer = multihead.pipeline("text-classification", model=str(tmp_path / "adapter"))("a b")
    assert answer[0]["label"] in NAMES.values()


def test_several_adapters_lie_beside_each_other(bert, tmp_path):
    model = multihead.AutoModelForMaskedLM.from_pretrained(bert)
    for name in ("default", "other"):
        model.add_adapter(LoraConfig(), name)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert (tmp_path / "other" / "adapter_model.safetensors").is_file()


def test_models_and_adapters_do_not_share_a_folder(bert, tmp_path):
    model = multihead.AutoModelForMaskedLM.from_pretrained(bert)
    model.save_pretrained(tmp_path / "model")
    model.add_adapter(LoraConfig())
    with pytest.raises(InvalidInput, match="holds a whole model"):
        model.save_pretrained(tmp_path / "model")
    model.save_pretrained(tmp_path / "adapter")
    model.merge_adapters()
    with pytest.raises(InvalidInput, match="holds an adapter"):
        model.save_pretrained(tmp_path / "adapter")


def test_an_adapter_without_a_base_is_loaded_by_hand(bert, tmp_path):
    model = multihead.AutoModelForMaskedLM.from_pretrained(bert)
    model.name_or_path = ""
    model.add_adapter(LoraConfig())
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelNotFound, match="load_adapter"):
        multihead.AutoModelForMaskedLM.from_pretrained(tmp_path)
    multihead.AutoModelForMaskedLM.from_pretrained(bert).load_adapter(tmp_path)


def test_the_files_of_an_adapter_are_those_that_are_fetched():
    names = ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "tokenizer.json", "README.md"]
    for want in ({Want.CONFIG, Want.WEIGHTS}, {Want.TOKENIZER}):
        choice = choose(names, want, None, "it")
        weights = ("adapter_model.safetensors",) if Want.WEIGHTS in want else ()
        assert choice.cores == (*weights, "adapter_config.json")
        assert choice.companions == ("tokenizer.json",)
    assert (
        "adapter_config.json"
        not in choose([*names, "model.safetensors", "config.json"], {Want.WEIGHTS}, None, "").cores
    )
    with pytest.raises(ModelNotFound, match=r"adapter_model\.safetensors"):
        choose(["adapter_config.json"], {Want.WEIGHTS}, None, "it")


@pytest.mark.parametrize("precision", [None, "fp32", "int8"])
def test_answers_name_the_adapter_that_changed_the_model(bert, tmp_path, precision):
    trained(bert, tmp_path / "adapter")
    model = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter", precision=precision)
    tokenizer = multihead.AutoTokenizer.from_pretrained(bert)
    told = multihead.pipeline("text-classification", model=model, tokenizer=tokenizer)(["a fox"]).metadata
    assert (told.model, told.adapter) == (str(bert), str(tmp_path / "adapter"))


def test_answers_name_no_adapter_that_is_switched_off_or_taken_out(bert, tmp_path):
    trained(bert, tmp_path / "adapter")
    model = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    model.add_adapter(LoraConfig(), "fresh")
    assert model.adapter_sources == ("fresh",)
    model.set_adapter(["default", "fresh"])
    assert model.adapter_sources == (str(tmp_path / "adapter"), "fresh")
    with model.adapters_disabled():
        assert model.adapter_sources == ()
    model.delete_adapter("fresh")
    model.merge_adapters()
    assert model.adapter_sources == (str(tmp_path / "adapter"),)
    assert multihead.AutoModelForMaskedLM.from_pretrained(bert).adapter_sources == ()
