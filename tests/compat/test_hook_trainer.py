"""Trainer classes that override inner hooks, as other libraries do: the reference's losses and metrics."""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader

import multihead
from multihead.compat.hook_trainer.hooks import UNCALLED
from multihead.errors import InvalidInput, UnsupportedOption
from tests.compat import tiny_models

ROWS = [{"input_ids": [1, 2, 3 + n % 4], "attention_mask": [1, 1, 1], "labels": n % 2} for n in range(8)]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hooks")
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=9, **SIZES, **STILL)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def hooked(module):
    """Return a Trainer class that notes its hooks, and its arguments: a dataclass of its own, as in the libraries."""

    @dataclass
    class Arguments(module.TrainingArguments):
        scale: float = field(default=1.0)
        bf16: bool | None = field(default=None)

        def __post_init__(self):
            self.bf16 = bool(self.bf16)
            super().__post_init__()
            assert self.parallel_mode == module.training_args.ParallelMode.NOT_PARALLEL

    class Base(module.Trainer, ABC):
        def note(self, name):
            self.noted = [*getattr(self, "noted", []), name]

    class Mine(Base):
        def get_train_dataloader(self):
            self.note("get_train_dataloader")
            rows = DataLoader(
                self.train_dataset, batch_size=self.args.train_batch_size, collate_fn=self.data_collator,
                num_workers=self.args.dataloader_num_workers, pin_memory=self.args.dataloader_pin_memory,
            )  # fmt: skip
            return self.accelerator.prepare(rows)

        def training_step(self, *args, **kwargs):
            self.note("training_step")
            return super().training_step(*args, **kwargs)

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            return (loss * self.args.scale, outputs) if return_outputs else loss * self.args.scale

        def get_optimizer_cls_and_kwargs(self, args, model=None):
            kind, options = super().get_optimizer_cls_and_kwargs(args, model)
            return kind, options | {"weight_decay": 0.1}

        def evaluation_loop(self, *args, **kwargs):
            self.note("evaluation_loop")
            output = super().evaluation_loop(*args, **kwargs)
            output.metrics["eval_mine"] = 1.0
            return output

        def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
            inputs = self._prepare_inputs(inputs)
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
            return loss.mean().detach(), outputs.logits, inputs["labels"]

        def log(self, logs, start_time=None):
            super().log({**logs, "noted": len(self.noted)}, start_time)

    return Arguments, Mine


def accuracy(found):
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def trainer(module, checkpoint, folder, **settings):
    arguments, kind = hooked(module)
    args = arguments(
        output_dir=str(folder), per_device_train_batch_size=2, learning_rate=1e-2, logging_steps=1, report_to="none",
        use_cpu=True, scale=2.0, disable_tqdm=True, **settings,
    )  # fmt: skip
    model = module.BertForSequenceClassification.from_pretrained(checkpoint)
    return kind(
        model=model, args=args, train_dataset=ROWS, eval_dataset=ROWS, compute_metrics=accuracy,
        data_collator=module.default_data_collator,
    )  # fmt: skip


def numbers(history):
    kept = ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy", "eval_mine", "epoch", "step", "noted")
    return [{name: value for name, value in one.items() if name in kept} for one in history]


def test_losses_and_metrics_are_the_references(checkpoint, tmp_path):
    settings = {"num_train_epochs": 2, "eval_strategy": "epoch", "save_strategy": "no", "weight_decay": 0.1}
    runs = [trainer(module, checkpoint, tmp_path / module.__name__, **settings) for module in (transformers, multihead)]
    for run in runs:
        run.train()
    found, expected = (numbers(run.state.log_history) for run in reversed(runs))
    assert [set(one) for one in found] == [set(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert runs[1].noted == runs[0].noted
    scores = [run.predict(ROWS).predictions for run in runs]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


def test_a_run_resumes_where_it_stopped(checkpoint, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    whole = trainer(multihead, checkpoint, tmp_path, **settings)
    whole.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    again = trainer(multihead, checkpoint, tmp_path, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for one, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    (tmp_path / "checkpoint-2" / "optimizer.pt").write_bytes(b"x")
    with pytest.raises(multihead.MultiheadError, match=r"optimizer\.pt"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_any_module_trains(tmp_path, accumulation):
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x, y=None):
            out = self.layer(x)
            return {"loss": (out - y).square().mean(), "out": out}

    rows = [{"x": [float(n), 1.0], "y": [2.0 * n]} for n in range(6)]

    def run(module):
        class Mine(module.Trainer):
            def create_scheduler(self, num_training_steps, optimizer=None):
                self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 0.5**step)
                return self.lr_scheduler

        torch.manual_seed(0)
        args = module.TrainingArguments(
            output_dir=str(tmp_path), max_steps=3, learning_rate=0.1, logging_steps=1, report_to="none", use_cpu=True,
            save_strategy="no", disable_tqdm=True, optim="sgd", gradient_accumulation_steps=accumulation,
            per_device_train_batch_size=2,
        )  # fmt: skip
        made = Mine(model=Line(), args=args, train_dataset=rows)
        made.train()
        return [one["loss"] for one in made.state.log_history if "loss" in one]

    assert run(multihead) == pytest.approx(run(transformers), rel=1e-5)


@pytest.mark.parametrize("name", sorted(UNCALLED))
def test_a_hook_that_is_never_called_is_an_error(name):
    with pytest.raises(UnsupportedOption, match=rf"Mine\.{name} is a hook that no Trainer here calls"):
        type("Mine", (multihead.Trainer,), {name: lambda self: None})


def test_a_plain_class_keeps_the_packed_loop():
    class Mine(multihead.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return model(**inputs).loss

    assert not hasattr(Mine, "get_train_dataloader")


def test_settings_that_the_loop_does_not_compute_are_errors(checkpoint, tmp_path):
    with pytest.raises(UnsupportedOption, match="neftune_noise_alpha"):
        trainer(multihead, checkpoint, tmp_path, neftune_noise_alpha=5.0)
    with pytest.raises(UnsupportedOption, match="ema_decay"):
        trainer(multihead, checkpoint, tmp_path, ema_decay=0.9)
    arguments, kind = hooked(multihead)
    with pytest.raises(InvalidInput, match="eval_dataset"):
        kind(model=nn.Linear(1, 1), args=arguments(eval_strategy="steps"), train_dataset=ROWS)


def test_a_dataclass_of_ones_own_has_the_other_settings():
    arguments, _ = hooked(multihead)
    names = {entry.name for entry in fields(arguments)}
    reference = {entry.name for entry in fields(transformers.TrainingArguments)}
    assert {"dataloader_num_workers", "accelerator_config", "label_names", "scale"} <= names
    assert not {name for name in reference if name.startswith("dataloader_")} - names
    made = arguments(output_dir="x", dataloader_num_workers=2, warmup_steps=0.5)
    assert made.dataloader_num_workers == 2
    assert made.get_warmup_steps(10) == 5
    assert math.isclose(made.to_dict()["scale"], 1.0)
    plain = multihead.TrainingArguments(output_dir="x")
    assert plain.dataloader_num_workers == 0
    assert "dataloader_num_workers" not in plain.to_dict()


def test_the_packed_loop_refuses_settings_of_a_dataclass_that_it_does_not_compute():
    arguments, _ = hooked(multihead)
    args = arguments(output_dir="x", neftune_noise_alpha=5.0)
    with pytest.raises(UnsupportedOption, match="neftune_noise_alpha"):
        multihead.Trainer(model=nn.Linear(1, 1), args=args, train_dataset=ROWS)


def test_parts_that_libraries_ask_a_model_for():
    """The calls of trl's trainers and of langchain: the model without its head, gradients of states, pipelines."""
    config = {"vocab_size": 9, "num_key_value_heads": 2, **SIZES}
    torch.manual_seed(0)
    model = multihead.LlamaForCausalLM(multihead.LlamaConfig(**config)).eval()
    ids = torch.tensor([[1, 2, 3]])
    states = model.base_model(ids, use_cache=False).last_hidden_state
    head = model.get_output_embeddings()
    torch.testing.assert_close(states @ head.weight.T, model(ids).logits)
    assert head.bias is None
    assert multihead.BertModel(multihead.BertConfig(vocab_size=9, **SIZES)).base_model.config.vocab_size == 9
    model.requires_grad_(False)
    assert not model(ids).logits.requires_grad
    model.enable_input_require_grads()
    model.enable_input_require_grads()
    assert model(ids).logits.requires_grad
    model.disable_input_require_grads()
    assert not model(ids).logits.requires_grad
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"
    assert "_attn_implementation" not in model.config.to_dict()


def test_inputs_of_a_pipeline_by_name(tmp_path):
    tiny_models.main(tmp_path)
    pipe = multihead.pipeline("text-generation", model=tmp_path / "llama")
    assert pipe.model.config._name_or_path == str(tmp_path / "llama")
    pipe.model.save_pretrained(tmp_path / "again")
    assert str(tmp_path) not in (tmp_path / "again" / "config.json").read_text()
    options = {"max_new_tokens": 3, "do_sample": False}
    assert pipe(text_inputs="the film", **options) == pipe("the film", **options)
    with pytest.raises(InvalidInput, match="without inputs"):
        pipe(**options)
