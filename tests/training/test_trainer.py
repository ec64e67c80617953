"""The Trainer's loop: data that cannot be learned, losses that are no numbers, and all that users may give."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

import multihead
from multihead.errors import InvalidInput, TrainingDiverged, UnsupportedOption
from multihead.training.arguments import TrainingArguments
from multihead.training.callbacks import EarlyStoppingCallback, TrainerCallback
from multihead.training.checkpointing import folders as checkpoints
from multihead.training.optim import sparse_embeddings as tables
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS, examples, losses, same, tiny, trainer, weights


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_ids": [7, 8, 9], "labels": 3}, "[Rr]ow 5.* has the label 3, and the model has 3 labels"),
        ({"input_ids": [7, 8, 9], "labels": -1}, "[Rr]ow 5.* has the label -1"),
        ({"input_ids": [7, 60, 9], "labels": 0}, "[Rr]ow 5.* has the token 60 .* 60 tokens"),
        ({"input_ids": [7, -2, 9], "labels": 0}, "[Rr]ow 5.* has the token -2"),
        ({"input_ids": [7, 8, 9]}, "[Rr]ow 5.* has no labels"),
        ({"labels": 1}, "[Rr]ow 5.* has no input_ids"),
    ],
)
def test_a_wrong_example_is_named_before_anything_is_learned(wrong, message, tmp_path):
    data = examples(8)
    data[5] = wrong
    run = trainer(tmp_path, data)
    before = weights(run.model)
    with pytest.raises(InvalidInput, match=message):
        run.train()
    assert same(weights(run.model), before)
    run = trainer(tmp_path, examples(8), eval_dataset=data)
    with pytest.raises(InvalidInput, match=message):
        run.evaluate()


def test_data_without_labels_cannot_be_learned_but_predicted(tmp_path):
    data = [{"input_ids": e["input_ids"]} for e in examples(8)]
    run = trainer(tmp_path, data)
    with pytest.raises(InvalidInput, match="Examples need labels; they have input_ids"):
        run.train()
    with pytest.raises(InvalidInput, match="Examples need labels"):
        run.evaluate(data)
    found = run.predict(data)
    assert found.predictions.shape == (8, 3)
    assert found.label_ids is None
    assert "test_loss" not in found.metrics
    wanted = run.predict(examples(8))
    assert np.array_equal(found.predictions, wanted.predictions)
    assert wanted.label_ids.tolist() == [e["labels"] for e in examples(8)]


def test_an_empty_example_is_said(tmp_path):
    data = examples(8)
    data[2] = {"input_ids": [], "labels": 0}
    with pytest.raises(InvalidInput, match="row 2 has no token in input_ids"):
        trainer(tmp_path, data).train()


def test_inputs_that_batches_without_padding_do_not_carry_are_named(tmp_path):
    data = [{**e, "position_ids": list(range(len(e["input_ids"])))[::-1]} for e in examples(8)]
    with pytest.raises(InvalidInput, match=r"Examples have position_ids, .* a function as data_collator"):
        trainer(tmp_path, data).train()

    def collate(rows):
        return {k: v for k, v in multihead.DataCollatorWithPadding()(rows).items() if k != "attention_mask"}

    settings = TrainingArguments(tmp_path, **{**SETTINGS, "max_steps": 2, "per_device_train_batch_size": 1})
    Trainer(tiny(), settings, collate, data).train()


class Breaks(TrainerCallback):
    """Makes a weight no number before a step."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step and not hasattr(self, "hook"):
            self.hook = model.head.register_forward_hook(lambda module, given, out: out * float("nan"))


def test_a_loss_that_is_no_number_names_step_and_rows_and_keeps_the_last_good_state(tmp_path):
    run = trainer(tmp_path, callbacks=[Breaks(6)], lr_scheduler_type="constant")
    with pytest.raises(TrainingDiverged) as caught:
        run.train()
    message = str(caught.value)
    order = run.sampler(run.features(run.train_dataset, training=True)).steps(0)[6][0]
    assert "The loss of step 7 is nan" in message
    assert all(f"row {n}" in message.lower() for n in order)
    kept = tmp_path / "checkpoint-6"
    assert str(kept) in message
    checkpoints.verify(kept)
    whole = trainer(tmp_path / "whole", max_steps=6, save_strategy="no", lr_scheduler_type="constant")
    whole.train()
    model = multihead.AutoModelForSequenceClassification.from_pretrained(kept)
    assert same(weights(model), weights(whole.model))
    again = trainer(tmp_path, lr_scheduler_type="constant")
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 48


class Spoils(TrainerCallback):
    """Makes a weight no number after a step."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 7:
            with torch.no_grad():
                model.head.out.bias.fill_(float("inf"))


def test_weights_that_are_no_numbers_are_never_kept_as_a_good_state(tmp_path):
    run = trainer(tmp_path, callbacks=[Spoils()])
    with pytest.raises(TrainingDiverged, match=r"step 8.*not finite.*last good state is .*checkpoint-5"):
        run.train()
    assert [path.name for path in run.checkpoints.all()] == ["checkpoint-5"]
    run = trainer(tmp_path / "other", callbacks=[Spoils()], save_strategy="no")
    with pytest.raises(TrainingDiverged, match="there is no earlier checkpoint"):
        run.train()


def test_half_precision_with_scaled_gradients_learns_and_resumes(tmp_path):
    more = {"fp16": True, "max_steps": 14, "lr_scheduler_type": "constant"}
    whole = trainer(tmp_path / "whole", model=tiny(0.0), **more, save_strategy="no")
    whole.train()
    plain = trainer(tmp_path / "plain", model=tiny(0.0), **{**more, "fp16": False}, save_strategy="no")
    plain.train()
    assert losses(whole) == pytest.approx(losses(plain), abs=5e-3)
    assert losses(whole) != losses(plain)
    trainer(tmp_path / "parts", model=tiny(0.0), **{**more, "max_steps": 7}, save_steps=7).train()
    run = trainer(tmp_path / "parts", model=tiny(0.0), **more)
    run.train(resume_from_checkpoint=True)
    assert same(weights(run.model), weights(whole.model))


def by_sum(outputs, labels, num_items_in_batch=None):
    """As the reference's users write it, so that accumulation is exact."""
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


def by_mean(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs.logits, labels)


@pytest.mark.parametrize("function", [by_sum, by_mean])
def test_a_loss_of_ones_own_is_exact_over_accumulated_batches(function, tmp_path):
    found = []
    for size, steps in ((10, 1), (3, 4)):
        settings = {**SETTINGS, "per_device_train_batch_size": size, "gradient_accumulation_steps": steps,
                    "save_strategy": "no", "num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.5}  # fmt: skip
        run = Trainer(
            tiny(dropout=0.0).double(), TrainingArguments(tmp_path, **settings), train_dataset=examples(10),
            compute_loss_func=function,
        )  # fmt: skip
        run.train()
        found.append((losses(run), weights(run.model)))
    plain = trainer(
        tmp_path, examples(10), tiny(dropout=0.0).double(), per_device_train_batch_size=10, num_train_epochs=1,
        save_strategy="no", optim="sgd", learning_rate=0.5,
    )  # fmt: skip
    plain.train()
    for seen, own in found:
        assert seen == pytest.approx(losses(plain), rel=1e-5)
        for name, weight in weights(plain.model).items():
            torch.testing.assert_close(own[name], weight, rtol=1e-5, atol=1e-7, msg=name)


class Numbers(torch.utils.data.Dataset):
    """A data set that makes its examples and never says where it ends."""

    def __len__(self):
        return 30

    def __getitem__(self, number):
        return {"ids": torch.tensor([6 + number % 3, 9, 10]), "sort": number % 3}


def collate(rows):
    return {"input_ids": torch.stack([row["ids"] for row in rows]), "labels": torch.tensor([r["sort"] for r in rows])}


def test_a_torch_data_set_and_a_collator_of_ones_own_are_enough(tmp_path):
    with pytest.raises(InvalidInput, match=r"takes none of ids, sort.*remove_unused_columns=False"):
        Trainer(tiny(), TrainingArguments(tmp_path, **SETTINGS), collate, Numbers()).train()
    own = {"num_train_epochs": 6, "learning_rate": 1e-2, "remove_unused_columns": False}
    settings = TrainingArguments(tmp_path, **{**SETTINGS, **own})
    run = Trainer(tiny(), settings, collate, Numbers(), Numbers())
    run.train()
    found = losses(run)
    assert np.mean(found[-4:]) < 0.7 * np.mean(found[:4])
    predicted = run.predict(Numbers())
    assert (predicted.predictions.argmax(-1) == predicted.label_ids).mean() > 0.9
    assert predicted.label_ids.tolist() == [n % 3 for n in range(30)]


def test_a_stream_is_refused_since_no_order_can_be_drawn(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(examples(5))

    with pytest.raises(InvalidInput, match="Stream"):
        Trainer(tiny(), TrainingArguments(tmp_path, **SETTINGS), collate, Stream()).train()


def warmed(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))


def test_an_optimizer_and_a_schedule_of_ones_own_are_used(tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
            seen.append(optimizer.param_groups[0]["lr"])

    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9)
    run = Trainer(
        model, TrainingArguments(tmp_path, **{**SETTINGS, "max_steps": 6}), train_dataset=examples(),
        optimizers=(optimizer, warmed(optimizer)), callbacks=[Watch()],
    )  # fmt: skip
    before = weights(model)
    run.train()
    assert run.optimizer is optimizer
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4])
    assert not same(weights(model), before)
    other = torch.optim.SGD(model.parameters(), lr=0.4)
    with pytest.raises(UnsupportedOption, match="StepLR is no LambdaLR"):
        Trainer(
            model, TrainingArguments(tmp_path, **SETTINGS), train_dataset=examples(),
            optimizers=(other, torch.optim.lr_scheduler.StepLR(other, 1)),
        ).train()  # fmt: skip


def test_a_schedule_of_the_references_is_used(tmp_path):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 2, 6)
    run = Trainer(
        model, TrainingArguments(tmp_path, **{**SETTINGS, "max_steps": 6}), train_dataset=examples(),
        optimizers=(optimizer, schedule),
    )  # fmt: skip
    run.train()
    rates = [entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.3, 0.2, 0.1])


def test_each_group_follows_its_own_factor_and_the_schedule_goes_along(tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
            seen.append([group["lr"] for group in optimizer.param_groups])

        def on_step_end(self, args, state, control, lr_scheduler=None, **kwargs):
            seen.append(lr_scheduler.get_last_lr())
            assert lr_scheduler.last_epoch == state.global_step

    def made(steps, folder):
        model = tiny()
        parts = [{"params": model.backbone.parameters(), "lr": 0.1}, {"params": model.head.parameters(), "lr": 0.4}]
        optimizer = torch.optim.SGD(parts)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda step: 1.0, lambda step: 0.5**step])
        return Trainer(
            model, TrainingArguments(folder, **{**SETTINGS, "max_steps": steps, "save_steps": 2}), None, examples(),
            optimizers=(optimizer, schedule), callbacks=[Watch()],
        )  # fmt: skip

    run = made(3, tmp_path)
    run.train()
    assert np.allclose(seen, [[0.1, 0.4], [0.1, 0.2], [0.1, 0.2], [0.1, 0.1], [0.1, 0.1], [0.1, 0.05]])
    assert run.lr_scheduler.get_last_lr() == seen[-1]
    seen.clear()
    made(4, tmp_path).train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    assert np.allclose(seen[0], [0.1, 0.1])


def test_the_schedule_of_the_settings_tells_its_rates_too(tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, lr_scheduler=None, **kwargs):
            seen.append(lr_scheduler.get_last_lr()[0])

    run = trainer(tmp_path, max_steps=4, save_strategy="no", callbacks=[Watch()])
    run.train()
    assert seen == pytest.approx([1.5e-3, 1e-3, 5e-4, 0.0])
    rates = [entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([2e-3, 1.5e-3, 1e-3, 5e-4])


def test_a_schedule_of_another_optimizer_is_refused(tmp_path):
    model = tiny()
    one, other = (torch.optim.SGD(model.parameters(), lr=0.4) for _ in range(2))
    settings = TrainingArguments(tmp_path, **SETTINGS)
    with pytest.raises(UnsupportedOption, match="belongs to another optimizer, a SGD"):
        Trainer(model, settings, train_dataset=examples(), optimizers=(one, warmed(other))).train()


class Looks(TrainerCallback):
    """Notes what gradients and weights are at each moment of a step."""

    def __init__(self):
        self.seen, self.norms, self.moved = [], [], []

    def note(self, name, model, state):
        assert not any(p.grad is not None and p.grad.is_sparse for p in model.parameters())
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        self.seen.append(name)
        self.norms.append(float(torch.cat(gradients).norm()) if gradients else 0.0)
        self.moved.append(model.head.out.weight.detach().clone())

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.note("begin", model, state)

    def on_substep_end(self, args, state, control, model=None, **kwargs):
        self.note("sub", model, state)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.note("pre", model, state)

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.note("step", model, state)
        assert state.global_step == 0, "the step is counted when it is done"

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.note("end", model, state)


@pytest.mark.parametrize("settings", [{}, {"max_tokens_per_pass": 20}, {"fp16": True}], ids=str)
def test_callbacks_see_gradients_grow_be_clipped_and_used(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MIN_ROWS", 30)
    looks = Looks()
    run = trainer(
        tmp_path, max_steps=1, gradient_accumulation_steps=3, max_grad_norm=0.05, save_strategy="no", callbacks=[looks],
        **settings,
    )  # fmt: skip
    run.train()
    assert looks.seen == ["begin", "sub", "sub", "pre", "step", "end"]
    assert looks.norms[0] == looks.norms[-1] == 0.0
    assert looks.norms[3] == looks.norms[4] == pytest.approx(0.05, rel=1e-3)
    assert 0 < looks.norms[1] != looks.norms[2] > 0
    before, after = looks.moved[0], looks.moved[-1]
    assert all(torch.equal(weight, before) for weight in looks.moved[:4])
    assert all(torch.equal(weight, after) for weight in looks.moved[4:])
    assert not torch.equal(before, after)


def test_a_model_may_be_made_by_a_function(tmp_path):
    settings = {**SETTINGS, "save_strategy": "no"}
    one = Trainer(args=TrainingArguments(tmp_path, **settings), model_init=tiny, train_dataset=examples())
    one.train()
    other = trainer(tmp_path, save_strategy="no")
    other.train()
    assert same(weights(one.model), weights(other.model))
    with pytest.raises(InvalidInput, match="either model or model_init"):
        Trainer(tiny(), TrainingArguments(tmp_path, **settings), model_init=tiny)


def test_a_model_is_made_anew_at_each_training(tmp_path):
    made = []

    def build(trial):
        made.append(trial)
        return tiny()

    settings = TrainingArguments(tmp_path, **{**SETTINGS, "save_strategy": "no", "max_steps": 3})
    run = Trainer(args=settings, model_init=build, train_dataset=examples(), peft_config=multihead.LoraConfig(r=2))
    run.train()
    first, learned = losses(run), weights(run.model)
    run.train()
    assert losses(run) == first
    assert same(weights(run.model), learned)
    assert made == [None] * 3
    seen = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            seen.append(model)

    run.add_callback(Watch())
    run.train()
    assert seen == [run.model]


@pytest.mark.parametrize(
    ("build", "message"),
    [(lambda: None, "returned None"), (lambda trial, more: tiny(), "takes 2 arguments")],
)
def test_a_function_that_makes_no_model_is_refused(build, message, tmp_path):
    with pytest.raises(InvalidInput, match=message):
        Trainer(args=TrainingArguments(tmp_path, **SETTINGS), model_init=build)
    optimizer = torch.optim.SGD(tiny().parameters())
    with pytest.raises(InvalidInput, match="override create_optimizer"):
        Trainer(args=TrainingArguments(tmp_path, **SETTINGS), model_init=tiny, optimizers=(optimizer, None))


def test_evaluations_without_data_are_refused_at_once(tmp_path):
    with pytest.raises(InvalidInput, match=r"eval_strategy = 'epoch' evaluates.*give eval_dataset"):
        trainer(tmp_path, eval_strategy="epoch")

    class Asks(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_evaluate = True

    with pytest.raises(InvalidInput, match="give eval_dataset"):
        trainer(tmp_path, callbacks=[Asks()], save_strategy="no").train()


def test_what_a_collator_draws_follows_the_seed(tmp_path):
    def dropped(rows):
        kept = [{**row, "input_ids": [i if random.random() > 0.3 else 5 for i in row["input_ids"]]} for row in rows]
        kept = [{**row, "input_ids": [i - int(np.random.rand() > 0.5) for i in row["input_ids"]]} for row in kept]
        return multihead.DataCollatorWithPadding()(kept)

    def run(folder, **changes):
        given = TrainingArguments(folder, **{**SETTINGS, "save_steps": 3, "max_steps": 6, **changes})
        made = Trainer(tiny(), given, dropped, examples())
        made.train(resume_from_checkpoint=changes.get("resume_from_checkpoint"))
        return losses(made)

    first = run(tmp_path / "one")
    assert first == run(tmp_path / "two")
    assert first != run(tmp_path / "three", seed=4)
    assert run(tmp_path / "one", resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-3")) == first


def test_metrics_are_printed_and_written_for_scripts(tmp_path, capsys):
    run = trainer(tmp_path / "out", max_steps=2, save_strategy="no", eval_dataset=examples(8))
    trained = run.train().metrics
    run.log_metrics("train", {**trained, "train_runtime": 3723.456, "train_samples": 96, "train_loss": np.float32(1.5)})
    lines = capsys.readouterr().out.splitlines()
    assert lines[-6] == "***** train metrics *****"
    assert [line.split() for line in lines[-5:]][:3] == [
        ["train_loss", "=", "1.5"], ["train_runtime", "=", "1:02:03.45"], ["train_samples", "=", "96"],
    ]  # fmt: skip
    assert len({line.index("=") for line in lines[-5:]}) == len({len(line) for line in lines[-5:]}) == 1
    run.save_metrics("train", trained)
    judged = run.evaluate()
    run.save_metrics("eval", {**judged, "eval_loss": np.float32(0.5)})
    run.save_metrics("test", {"test_loss": 1.0}, combined=False)

    def read(name):
        return json.loads((tmp_path / "out" / f"{name}_results.json").read_text())

    assert read("train") == trained
    assert read("test") == {"test_loss": 1.0}
    assert read("all") == {**trained, **judged, "eval_loss": 0.5}
    assert run.is_world_process_zero()
    assert run.is_local_process_zero()


class Events(TrainerCallback):
    def __init__(self, **stops):
        self.seen, self.stops = [], stops

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda args, state, control, **kwargs: self.told(name, state, control)
        return super().__getattribute__(name)

    def told(self, name, state, control):
        self.seen.append(name)
        for what, step in self.stops.items():
            if name == "on_step_end" and state.global_step == step:
                setattr(control, f"should_{what}_stop", True)


def test_callbacks_hear_everything_in_order_and_may_stop(tmp_path):
    events = Events(training=3)
    run = trainer(
        tmp_path, callbacks=[events], eval_dataset=examples(6), eval_on_start=True, save_strategy="no", logging_steps=2
    )
    assert run.train().global_step == 3
    found = [name for name in events.seen if name != "on_prediction_step"]
    assert found[:6] == [
        "on_init_end", "on_train_begin", "on_log", "on_evaluate", "on_epoch_begin", "on_step_begin",
    ]  # fmt: skip
    assert found.count("on_step_end") == found.count("on_optimizer_step") == 3
    assert found[-2:] == ["on_log", "on_train_end"]
    first = next(entry for entry in run.state.log_history if "eval_loss" in entry)
    assert first["step"] == 0
    logged = [(entry["step"], entry["loss"]) for entry in run.state.log_history if "loss" in entry]
    assert [step for step, _ in logged] == [2, 3]


def test_stopping_an_epoch_goes_on_with_the_next(tmp_path):
    events = Events(epoch=3)
    run = trainer(tmp_path, callbacks=[events], save_strategy="no")
    run.train()
    assert run.state.global_step == run.state.max_steps == 48
    assert events.seen.count("on_epoch_begin") == 3


@pytest.mark.parametrize(("steps", "epochs"), [(5, 5 / 24), (24, 1.0), (60, 2.5)])
def test_max_steps_stands_over_epochs(steps, epochs, tmp_path):
    run = trainer(tmp_path, max_steps=steps, save_strategy="no")
    found = run.train()
    assert found.global_step == steps
    assert run.state.epoch == pytest.approx(epochs)
    assert len(losses(run)) == steps
    assert found.training_loss == pytest.approx(np.mean(losses(run)))
    last = [e["learning_rate"] for e in run.state.log_history if "learning_rate" in e]
    assert last[-1] == pytest.approx(2e-3 / steps)


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 12), (1.25, 30), (3, 72)])
def test_parts_of_epochs_are_whole_steps(epochs, steps, tmp_path):
    assert trainer(tmp_path, num_train_epochs=epochs, save_strategy="no").train().global_step == steps


def test_logged_losses_are_means_since_the_last_report(tmp_path):
    each = trainer(tmp_path, save_strategy="no")
    each.train()
    some = trainer(tmp_path, save_strategy="no", logging_steps=5)
    some.train()
    found, wanted = losses(some), losses(each)
    assert found == pytest.approx([np.mean(wanted[n : n + 5]) for n in range(0, 48, 5)])
    assert {"grad_norm", "learning_rate", "epoch", "step"} <= some.state.log_history[0].keys()


def test_averaged_weights_are_evaluated_and_saved_and_the_run_goes_on_with_its_own(tmp_path):
    plain = trainer(tmp_path / "plain", save_strategy="no")
    plain.train()
    run = trainer(
        tmp_path, ema_decay=0.9, eval_dataset=examples(20, seed=5), eval_strategy="steps", eval_steps=7, save_steps=24
    )
    run.train()
    assert same(weights(run.model), weights(plain.model)), "averages change what is learned"
    run.save_model(tmp_path / "saved")
    stored = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    averages = run.average.weights
    assert all(torch.allclose(weight, averages[name]) for name, weight in weights(stored).items())
    assert not same(weights(stored), weights(run.model))
    own = trainer(tmp_path / "own", model=stored, eval_dataset=examples(20, seed=5)).evaluate()["eval_loss"]
    assert run.evaluate()["eval_loss"] == pytest.approx(own, rel=1e-5)


def test_a_run_stops_early_where_nothing_gets_better_and_the_best_is_loaded(tmp_path):
    run = trainer(
        tmp_path, eval_dataset=examples(20, seed=5), eval_strategy="steps", eval_steps=4, save_steps=4,
        load_best_model_at_end=True, metric_for_best_model="eval_loss", learning_rate=0.05, num_train_epochs=10.0,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )  # fmt: skip
    run.train()
    seen = [e["eval_loss"] for e in run.state.log_history if "eval_loss" in e]
    assert run.state.global_step < run.state.max_steps
    best = int(np.argmin(seen))
    assert len(seen) == best + 3
    assert run.evaluate()["eval_loss"] == pytest.approx(seen[best], rel=1e-5)
    assert Path(run.state.best_model_checkpoint).name == f"checkpoint-{4 * (best + 1)}"


def test_a_subclass_may_make_its_own_optimizer(tmp_path):
    class Own(Trainer):
        def create_optimizer(self):
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
            return self.optimizer

    run = Own(tiny(), TrainingArguments(tmp_path, **{**SETTINGS, "max_steps": 3}), train_dataset=examples())
    run.train()
    assert type(run.optimizer) is torch.optim.Adam


def test_evaluation_in_parts_is_evaluation_at_once(tmp_path):
    data = examples(30, seed=9)
    found = [
        trainer(tmp_path, max_tokens_per_pass=budget, compute_metrics=lambda p: {"sum": float(p.predictions.sum())})
        .evaluate(data)
        for budget in (None, 40, 1)
    ]  # fmt: skip
    for one in found[1:]:
        for name in ("eval_loss", "eval_sum"):
            assert one[name] == pytest.approx(found[0][name], rel=1e-5)


@pytest.mark.parametrize(("chosen", "precision"), [(True, "high"), (False, "highest")])
def test_tf32_sets_how_float32_matrices_are_multiplied(chosen, precision, tmp_path):
    before = torch.get_float32_matmul_precision()
    try:
        trainer(tmp_path, tf32=chosen)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
