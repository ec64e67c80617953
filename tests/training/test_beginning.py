"""What a run begins with: weights that can learn, an adapter that goes on, the reference of a preference."""

from __future__ import annotations

import pytest
import torch

import multihead
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.nn.own_names import own_parameters
from multihead.training.arguments import TrainingArguments
from multihead.training.objectives.preference import PreferenceObjective
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS, tiny, trainer, weights

CHOSEN = [{"prompt": "The dog ", "chosen": "jumps", "rejected": "is lazy"}] * 4
TEXTS = [{"text": "the fox jumps"}, {"text": "a lazy dog"}]


def made(model, place, rows, task, **more):
    settings = {**SETTINGS, "max_steps": 2, "save_strategy": "no", "learning_rate": 1e-2}
    return Trainer(model, TrainingArguments(place, **settings), train_dataset=rows, task=task, **more)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("settings", [{}, {"bf16": True}, {"fp16": True}])
def test_weights_in_halves_learn_in_float32(kind, settings, tmp_path):
    model = tiny().to(getattr(torch, kind))
    with pytest.warns(UserWarning, match=f"weights are {kind}, too coarse"):
        run = trainer(tmp_path, model=model, max_steps=3, learning_rate=1e-6, save_strategy="no", **settings)
    before = weights(run.model)
    run.train()
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    moved = sum(int((p != before[name]).sum()) for name, p in own_parameters(run.model))
    assert moved > 0.5 * sum(p.numel() for p in model.head.parameters())


def test_a_frozen_base_in_halves_stays_beside_an_adapter(llama, tmp_path):
    model = multihead.LlamaForCausalLM.from_pretrained(llama, dtype="bfloat16")
    more = {
        "processing_class": multihead.AutoTokenizer.from_pretrained(llama),
        "peft_config": multihead.LoraConfig(r=2),
    }
    run = made(model, tmp_path, TEXTS, "text-generation", **more)
    kinds = {p.requires_grad: p.dtype for p in run.model.parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}


def test_training_goes_on_with_a_saved_adapter(llama, tmp_path):
    first = made(llama, tmp_path / "a", TEXTS, "text-generation", peft_config=multihead.LoraConfig(r=2))
    first.train()
    first.save_model()
    again = made(tmp_path / "a", tmp_path / "b", TEXTS, "text-generation")
    before = weights(again.model)
    assert before.keys() == weights(first.model).keys()
    assert all(torch.equal(p, before[name]) for name, p in own_parameters(first.model))
    again.train()
    moved = {name for name, p in own_parameters(again.model) if not torch.equal(p, before[name])}
    assert moved
    assert all(".lora." in name for name in moved)
    with pytest.raises(InvalidInput, match=r"has an adapter.*Leave peft_config out"):
        made(tmp_path / "a", tmp_path / "b", TEXTS, "text-generation", peft_config=multihead.LoraConfig(r=2))


def test_training_goes_on_with_a_saved_adapter_and_its_head(classifier, tmp_path):
    rows = [{"text": "fox", "label": name} for name in "abc"]
    with pytest.warns(UserWarning, match="newly initialized"):
        first = made(classifier, tmp_path / "a", rows, "text-classification", peft_config=multihead.LoraConfig(r=2))
    first.train()
    first.save_model()
    again = made(tmp_path / "a", tmp_path / "b", rows[::-1], "text-classification")
    assert again.model.config.id2label == first.model.config.id2label
    assert torch.equal(again.model.head.out.weight, first.model.head.out.weight)
    again.train()
    assert not torch.equal(again.model.head.out.weight, first.model.head.out.weight)
    with pytest.raises(UnsupportedOption, match="adapter whose head has the labels 'a', 'b', 'c'"):
        made(
            tmp_path / "a", tmp_path / "b", [{**row, "label": row["label"] * 2} for row in rows], "text-classification"
        )


def test_a_model_of_which_nothing_learns_is_refused(llama, tmp_path):
    first = made(llama, tmp_path / "a", TEXTS, "text-generation", peft_config=multihead.LoraConfig(r=2))
    first.save_model()
    model = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    run = made(model, tmp_path, TEXTS, "text-generation", processing_class=first.processing_class)
    with pytest.raises(InvalidInput, match="is_trainable=True"):
        run.train()


def sums(objective, model, run):
    """What the reference says of the rows."""
    features = run.features(run.train_dataset, training=True)
    sides = [{"input_ids": features[0]["chosen_input_ids"], "labels": features[0]["chosen_labels"]}]
    with torch.no_grad():
        return objective._reference_log_probs(sides), objective._log_probs(model, sides)


def test_the_reference_of_a_trained_adapter_is_the_model_with_it(llama, tmp_path):
    new = made(llama, tmp_path / "a", CHOSEN, "preference", peft_config=multihead.LoraConfig(r=2))
    assert new.objective.adapted
    new.train()
    new.save_model()
    run = made(tmp_path / "a", tmp_path / "b", CHOSEN, "preference")
    assert isinstance(run.objective, PreferenceObjective)
    before, now = sums(run.objective, run.model.eval(), run)
    assert torch.equal(before, now)
    with run.model.adapters_disabled():
        assert not torch.equal(before, sums(run.objective, run.model, run)[1])
    frozen = {id(p) for p in run.model.parameters() if not p.requires_grad}
    assert frozen <= {id(p) for p in run.objective._reference[0].parameters()}, "the base is not copied"
    run.train()
    assert torch.equal(sums(run.objective, run.model, run)[0], before)
