"""What a model says of the same input is the same each time, whatever mode training left it in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import multihead
from multihead.training.arguments import TrainingArguments
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS

IDS = torch.tensor([[5, 6, 7, 8]])


def dropping(kind, folder, **more):
    """A model in training mode, of which a part of what it computes is dropped."""
    drop = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5} if "bert" in folder.name else {}
    model = getattr(multihead, kind).from_pretrained(folder, **drop, **more)
    if not drop:
        model.add_adapter(multihead.LoraConfig(r=2, lora_dropout=0.5, init_lora_weights=False))
    return model.train()


def tokenizer(folder):
    return multihead.AutoTokenizer.from_pretrained(folder)


def encoded(folder):
    encoder = multihead.SentenceEncoder(dropping("BertModel", folder), tokenizer(folder)).train()
    return encoder, lambda: encoder.encode(["the fox jumps"])


def ranked(folder):
    encoder = multihead.CrossEncoder(dropping("BertForSequenceClassification", folder, num_labels=1), tokenizer(folder))
    encoder.train()
    return encoder, lambda: [row["score"] for row in encoder.rank("fox", ["the dog", "a rock"])]


def piped(folder):
    pipe = multihead.pipeline("fill-mask", dropping("BertForMaskedLM", folder), tokenizer=tokenizer(folder))
    pipe.model.train()
    return pipe.model, lambda: [row["score"] for row in pipe("the [MASK] fox")]


def similar(folder):
    encoder = multihead.SentenceEncoder(dropping("BertModel", folder), tokenizer(folder))
    pipe = multihead.pipeline("feature-extraction", dropping("BertModel", folder), tokenizer=encoder.tokenizer)
    pipe.model.train()
    return pipe.model, lambda: pipe("the fox")


@pytest.mark.parametrize("made", [encoded, ranked, piped, similar])
def test_encoders_draw_no_dropout_and_keep_their_mode(made, bert):
    model, said = made(bert)
    assert model.training
    assert np.array_equal(np.asarray(said()), np.asarray(said()))
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 2}, {"penalty_alpha": 0.6, "top_k": 3}, {"prompt_lookup_num_tokens": 2}]
)
def test_generation_draws_no_dropout_and_keeps_its_mode(llama, options):
    model = dropping("LlamaForCausalLM", llama)
    texts = [model.generate(IDS, max_new_tokens=12, do_sample=False, **options).tolist() for _ in range(3)]
    assert texts[0] == texts[1] == texts[2]
    assert model.training
    assert texts[0] == model.eval().generate(IDS, max_new_tokens=12, do_sample=False, **options).tolist()


def test_a_pass_in_training_mode_draws_dropout_as_the_references_does(bert):
    model = dropping("BertModel", bert)
    assert not torch.equal(model(IDS).last_hidden_state, model(IDS).last_hidden_state)


def test_training_ends_in_evaluation_mode(bert, tmp_path):
    rows = [{"text": text, "label": label} for text, label in (("the fox", "a"), ("a dog", "b"))]
    arguments = TrainingArguments(tmp_path, **{**SETTINGS, "max_steps": 2, "save_strategy": "no"})
    run = Trainer(bert, arguments, train_dataset=rows, task="text-classification")
    run.train()
    assert not any(part.training for part in run.model.modules())
