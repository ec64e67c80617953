"""What belongs to another library, or fits nothing, is a clear error; what rerankers learn."""

from __future__ import annotations

import datasets
import peft
import pytest
import transformers

import multihead
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.training.arguments import TrainingArguments
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS

ROWS = [{"text": "the fox", "label": "a"}, {"text": "a dog", "label": "b"}]


def made(model, place, rows=ROWS, task="text-classification", **more):
    settings = {**SETTINGS, "max_steps": 2, "save_strategy": "no", **more.pop("settings", {})}
    return Trainer(model, TrainingArguments(place, **settings), train_dataset=rows, task=task, **more)


def test_what_is_of_another_library_is_named(bert, llama, tmp_path):
    with pytest.raises(InvalidInput, match="transformers's BertTokenizer"):
        made(bert, tmp_path, processing_class=transformers.AutoTokenizer.from_pretrained(bert))
    given = transformers.TrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(InvalidInput, match=r"multihead.TrainingArguments"):
        Trainer(bert, given, train_dataset=ROWS, task="text-classification")
    with pytest.raises(InvalidInput, match=r"multihead.LoraConfig, not a peft.LoraConfig"):
        multihead.LlamaForCausalLM.from_pretrained(llama).add_adapter(peft.LoraConfig())


def test_settings_that_fit_nothing_are_refused(bert, tmp_path):
    with pytest.raises(InvalidInput, match="save_strategy"):
        made(bert, tmp_path, settings={"save_strategy": "best", "metric_for_best_model": "loss"})
    with pytest.raises(UnsupportedOption, match="train_sampling_strategy"):
        TrainingArguments(tmp_path, group_by_length=True)
    with pytest.raises(UnsupportedOption, match=r"no 'licence'. Did you mean 'license'"):
        made(bert, tmp_path).create_model_card(licence="mit")


@pytest.mark.parametrize("kind", ["arrow", "pandas"])
def test_a_data_set_in_another_format_is_read(bert, tmp_path, kind):
    data = datasets.Dataset.from_list(ROWS).with_format(kind)
    assert made(bert, tmp_path, data).model.config.id2label == {0: "a", 1: "b"}


def test_a_stream_knows_the_names_of_its_classes(bert, tmp_path):
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])})
    data = datasets.Dataset.from_dict({"text": ["fox", "dog"], "label": [0, 1]}, features=kinds).to_iterable_dataset()
    assert made(bert, tmp_path, data).model.config.id2label == {0: "pos", 1: "neg"}


def test_numbers_of_classes_may_be_floats(classifier, tmp_path):
    model = multihead.BertForSequenceClassification.from_pretrained(classifier)
    tokenizer = multihead.AutoTokenizer.from_pretrained(classifier)
    rows = [{"text": "fox", "label": float(n)} for n in range(3)]
    run = made(model, tmp_path, rows, processing_class=tokenizer)
    assert run.features(rows, training=True).numbers["labels"].tolist() == [0, 1, 2]
    run.train()
    with pytest.raises(InvalidInput, match=r"label 0\.5, which is none of"):
        made(model, tmp_path, [*rows, {"text": "dog", "label": 0.5}], processing_class=tokenizer).train()


def test_an_encoder_brings_its_tokenizer(bert, tmp_path):
    encoder = multihead.SentenceEncoder.from_pretrained(bert)
    rows = [{"anchor": f"the fox {n}", "positive": f"a dog {n}"} for n in range(4)]
    assert made(encoder, tmp_path, rows, "sentence-similarity").processing_class is encoder.tokenizer
