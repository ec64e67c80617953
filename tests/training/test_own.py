"""What callers bring of their own is what is trained: a forward, a module, a loss, columns, data that changes."""

from __future__ import annotations

from itertools import count, islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

import multihead
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.training.arguments import TrainingArguments
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS, examples, losses, same, tiny, weights

datasets = pytest.importorskip("datasets")


def made(folder, model=None, *, kind=Trainer, data=None, more=None, **changes):
    settings = {**SETTINGS, "save_strategy": "no", "max_steps": 3, **changes}
    given = {"train_dataset": examples() if data is None else data, **(more or {})}
    return kind(tiny(0.0) if model is None else model, TrainingArguments(folder, **settings), **given)


class Tripled(multihead.BertForSequenceClassification):
    """A model whose forward gives another loss."""

    def forward(self, weight=None, **inputs):
        found = super().forward(**inputs)
        if found.loss is not None:
            found.loss = found.loss * (3.0 if weight is None else weight.float().mean())
        return found


def test_a_forward_of_ones_own_is_what_is_trained(tmp_path):
    torch.manual_seed(11)
    model = Tripled(tiny(0.0).config)
    model.load_state_dict(tiny(0.0).state_dict())
    run, plain = made(tmp_path, model), made(tmp_path)
    assert run.evaluate(examples(8))["eval_loss"] == pytest.approx(3 * plain.evaluate(examples(8))["eval_loss"])
    run.train()
    plain.train()
    assert losses(run)[0] == pytest.approx(3 * losses(plain)[0], rel=1e-5)
    weighted = made(tmp_path, model, data=[{**e, "weight": 0.0, "idx": 7} for e in examples()])
    weighted.train()
    assert losses(weighted) == [0.0, 0.0, 0.0]


def test_a_hook_on_the_model_is_called(tmp_path):
    model, seen = tiny(), []
    model.register_forward_hook(lambda *given: seen.append(1))
    made(tmp_path, model).train()
    assert len(seen) == 3


class Net(torch.nn.Module):
    """A module that is none of this library's."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.out, self.form = torch.nn.Embedding(60, 8), torch.nn.Linear(8, 3), form

    def forward(self, input_ids, attention_mask=None, labels=None):
        scores = self.out((self.words(input_ids) * attention_mask[..., None]).sum(1) / attention_mask.sum(1, True))
        found = {"logits": scores}
        return self.form(found if labels is None else {"loss": F.cross_entropy(scores, labels), **found})


class Named:
    def __init__(self, found):
        self.loss, self.logits, self.items = found.get("loss"), found["logits"], found.items


@pytest.mark.parametrize("form", [dict, lambda found: tuple(found.values()), Named], ids=["dict", "tuple", "object"])
def test_a_module_that_returns_a_loss_is_trained_saved_and_resumed(form, tmp_path):
    more = {"save_strategy": "steps", "save_steps": 2, "max_steps": 5}
    data = [{**e, "idx": 1} for e in examples()]
    whole = made(tmp_path, Net(form), data=data, **more)
    whole.train()
    own = {**SETTINGS, "max_steps": 5, "save_strategy": "no"}
    theirs = transformers.TrainingArguments(
        tmp_path / "theirs", report_to="none", **{k: v for k, v in own.items() if k != "save_steps"}
    )
    reference = transformers.Trainer(Net(form), theirs, multihead.DataCollatorWithPadding(), examples())
    if form is not Named:  # the reference knows dicts and tuples
        reference.train()
        assert losses(whole) == pytest.approx([e["loss"] for e in reference.state.log_history if "loss" in e], abs=1e-4)
    again = made(tmp_path, Net(form), data=data, **more)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(weights(whole.model), weights(again.model))
    found = whole.predict(examples(6))
    assert found.predictions.shape == (6, 3)
    bare = whole.predict([{"input_ids": e["input_ids"]} for e in examples(6)])
    assert bare.label_ids is None
    assert np.array_equal(bare.predictions, found.predictions)
    whole.save_model(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()


def test_what_has_no_loss_is_refused_and_told_how_to_have_one(tmp_path):
    bare = multihead.BertModel(tiny().config)
    for model, message in ((bare, "BertModel has no loss"), (len, "torch module whose forward returns a loss")):
        with pytest.raises(InvalidInput, match=message):
            made(tmp_path, model)

    def loss(outputs, labels, num_items_in_batch=None):
        return F.cross_entropy(outputs.pooler_output[:, :3], labels)

    assert made(tmp_path, bare, more={"compute_loss_func": loss}).train().global_step == 3


class Base(Trainer):
    """Overrides the loss, and computes the usual one."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def test_the_usual_loss_that_a_subclass_asks_for_is_smoothed_and_ones_own(tmp_path):
    run, plain = (made(tmp_path, kind=kind, label_smoothing_factor=0.3) for kind in (Base, Trainer))
    run.train()
    plain.train()
    assert losses(run) == pytest.approx(losses(plain), rel=1e-5)
    function = {"compute_loss_func": lambda outputs, labels, num_items_in_batch=None: outputs.logits.sum() * 0 + 4.0}
    run = made(tmp_path, kind=Base, more=function)
    run.train()
    assert losses(run) == [4.0, 4.0, 4.0]


class Own(Trainer):
    calls = 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.calls += 1
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


def glue(rows=24):
    found = datasets.Dataset.from_list([{**e, "sentence": "x", "idx": n} for n, e in enumerate(examples(rows))])
    return found.rename_column("labels", "label")


@pytest.mark.parametrize("collator", [
    None, multihead.DataCollatorWithPadding(), lambda rows: multihead.DataCollatorWithPadding()(rows),
], ids=["none", "ours", "a function"])  # fmt: skip
def test_columns_that_forward_does_not_take_are_left_out_unless_all_are_wanted(collator, tmp_path):
    more = {"data_collator": collator}
    run = made(tmp_path, kind=Own, data=glue(), more=more)
    run.train()
    assert run.calls == 3
    with pytest.raises(TypeError, match="takes no idx"):
        made(tmp_path, kind=Own, data=glue(), more=more, remove_unused_columns=False).train()


def test_a_loss_of_ones_own_is_not_asked_about_rows_without_labels(tmp_path):
    run = made(tmp_path, kind=Own)
    found = run.predict([{"input_ids": e["input_ids"]} for e in examples(8)])
    assert run.calls == 0
    assert found.label_ids is None
    assert "test_loss" not in found.metrics
    assert np.allclose(found.predictions, made(tmp_path).predict(examples(8)).predictions, atol=1e-6)


class Drawn(torch.utils.data.Dataset):
    """Examples that are other ones each time."""

    def __init__(self, size=8, **wrong):
        self.size, self.asked, self.wrong = size, [], wrong

    def __len__(self):
        return self.size

    def __getitem__(self, number):
        self.asked.append(number)
        ids = torch.randint(6, 60, (4 + len(self.asked) % 3,))
        mask = torch.ones(8, dtype=torch.long)
        mask[len(ids) :] = 0
        return {"input_ids": F.pad(ids, (0, 8 - len(ids))), "attention_mask": mask, "labels": number % 3, **self.wrong}


def test_a_data_set_that_draws_anew_is_read_at_each_use_and_without_its_padding(tmp_path):
    data, seen = Drawn(), []
    run = made(tmp_path, data=data, max_steps=-1, num_train_epochs=3)
    prepare_example = run.objective.prepare_example
    run.objective.prepare_example = lambda example, seed: (
        seen.append(example["input_ids"].tolist()) or prepare_example(example, seed)
    )
    run.train()
    assert sorted(data.asked) == sorted([*range(8)] * 3)
    assert len({tuple(ids) for ids in seen}) == 24
    assert all(0 not in ids for ids in seen)
    first, second = run.evaluate(data)["eval_loss"], run.evaluate(data)["eval_loss"]
    assert first != second
    with pytest.raises(InvalidInput, match=r"row .* has the label 9, and the model has 3"):
        made(tmp_path, data=Drawn(labels=9)).train()


def test_a_transform_of_a_data_set_is_computed_at_each_use(tmp_path):
    calls = []

    def draw(batch):
        calls.append(len(batch["sort"]))
        return {"input_ids": [[7 + len(calls), 8, 9]] * len(batch["sort"]), "labels": batch["sort"]}

    data = datasets.Dataset.from_list([{"sort": n % 3} for n in range(8)])
    data.set_transform(draw)
    run = made(tmp_path, data=data, max_steps=6)
    run.train()
    assert sum(calls) == 24
    assert "eval_loss" in run.evaluate(data)


def test_rows_that_change_are_read_once_with_a_task_and_that_is_said(bert, tmp_path):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, number):
            return {"text": "the fox", "label": number % 2}

    run = made(tmp_path, bert, data=Rows(), more={"task": "text-classification"}, num_train_epochs=2)
    with pytest.warns(UserWarning, match="Rows is read once when a task is given"):
        run.train()


def test_a_list_that_has_grown_is_read_again(tmp_path):
    data = examples(8)
    run = made(tmp_path, data=data)
    assert len(run.predict(data).predictions) == 8
    data.append(data[0])
    assert len(run.predict(data).predictions) == 9


def test_of_a_stream_without_an_end_a_run_reads_what_its_steps_need_in_order(tmp_path):
    read = []

    def stream():
        for number in count():
            read.append(number)
            yield {"input_ids": [7 + number, 8], "labels": number % 3}

    seen = []
    run = made(tmp_path, data=stream(), max_steps=4, gradient_accumulation_steps=2)
    prepare_example = run.objective.prepare_example
    run.objective.prepare_example = lambda example, seed: (
        seen.append(int(example["input_ids"][0]) - 7) or prepare_example(example, seed)
    )
    run.train()
    assert read == seen == [*range(32)]
    ended = made(tmp_path, data=islice(iter(examples(99)), 10), max_steps=7)
    ended.train()
    assert ended.state.global_step == 7


def test_of_a_stream_of_rows_more_are_read_where_several_make_an_example(llama, tmp_path):
    rows = ({"text": f"the fox {number}"} for number in count())
    run = made(
        tmp_path, llama, data=rows, max_steps=4, per_device_train_batch_size=2,
        more={"task": "text-generation", "options": {"packing": "blocks", "max_length": 32}},
    )  # fmt: skip
    assert len(run.features(run.train_dataset, training=True)) >= 8
    assert run.train().global_step == 4
    assert run.state.epoch <= 1


@pytest.mark.parametrize("data", [examples(10), Drawn(10)], ids=["packed", "live"])
def test_scores_are_reduced_batch_by_batch_for_evaluation_and_prediction(data, tmp_path):
    shapes = []

    def reduce(scores, labels):
        shapes.append((tuple(scores.shape), tuple(labels.shape)))
        return scores.argmax(-1)

    run = made(tmp_path, more={
        "preprocess_logits_for_metrics": reduce, "compute_metrics": lambda p: {"size": p.predictions.size},
    }, max_tokens_per_pass=40)  # fmt: skip
    assert run.evaluate(data)["eval_size"] == 10
    assert len(shapes) > 1
    assert sum(scores[0] for scores, _ in shapes) == 10
    assert run.predict(data).predictions.shape == (10,)


def test_reduced_scores_of_words_keep_the_lengths_of_their_texts(tmp_path):
    torch.manual_seed(0)
    model = multihead.BertForTokenClassification(tiny().config)
    data = [{"input_ids": [7, 8, 9, 10][:n], "labels": [1] * n} for n in (2, 4, 3)]
    run = made(tmp_path, model, more={"preprocess_logits_for_metrics": lambda scores, labels: scores.argmax(-1)})
    found, raw = run.predict(data).predictions, made(tmp_path, model).predict(data).predictions
    assert np.array_equal(found, np.where(raw[..., 0] == -100, -100, raw.argmax(-1)))


def test_metrics_get_the_inputs_and_losses_that_settings_ask_for(tmp_path):
    def kept(found):
        def measure(prediction):
            found.append((prediction.inputs, prediction.losses))
            return {}

        return measure

    ours, theirs = [], []
    data = [{"input_ids": [7, 8, 9 + n], "labels": n % 3} for n in range(6)]
    asked = {"include_for_metrics": ["inputs", "loss"]}
    for folder, own in (
        ("packed", {}),
        ("padded", {"data_collator": lambda r: multihead.DataCollatorWithPadding()(r)}),
    ):
        made(tmp_path / folder, more={"compute_metrics": kept(ours), **own}, **asked).evaluate(data)
    torch.manual_seed(11)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**tiny().config.to_dict()))
    arguments = transformers.TrainingArguments(tmp_path, report_to="none", use_cpu=True, **asked)
    collate = multihead.DataCollatorWithPadding()
    transformers.Trainer(model, arguments, collate, eval_dataset=data, compute_metrics=kept(theirs)).evaluate()
    for inputs, lost in ours:
        assert np.array_equal(inputs, theirs[0][0])
        assert lost.shape == theirs[0][1].shape == (6,)
    assert np.mean(ours[0][1]) == pytest.approx(made(tmp_path).evaluate(data)["eval_loss"], rel=1e-5)
    none = []
    made(tmp_path, more={"compute_metrics": kept(none)}).evaluate(data)
    assert none == [(None, None)]
    with pytest.raises(UnsupportedOption, match="include_for_metrics 'input' is none of inputs, loss"):
        made(tmp_path, more={"compute_metrics": kept(none)}, include_for_metrics=["input"]).evaluate(data)


def test_inputs_of_several_texts_are_refused_by_name(bert, tmp_path):
    rows = [{"anchor": "the fox", "positive": "a fox"}, {"anchor": "the dog", "positive": "a dog"}]
    more = {"task": "sentence-similarity", "compute_metrics": lambda p: {}}
    run = made(tmp_path, bert, data=rows, more=more, include_for_metrics=["inputs"])
    with pytest.raises(UnsupportedOption, match=r"include_for_metrics 'inputs'.*input_ids_0, input_ids_1"):
        run.evaluate(rows)
