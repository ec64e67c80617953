"""Every task from raw rows to a folder that answers: the loss falls, metrics appear, the saved model works."""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch

import multihead
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.nn.own_names import own_parameters
from multihead.pipelines.catalog import TRAINABLE, canonical_training_name
from multihead.training.arguments import TrainingArguments
from multihead.training.callbacks import TrainerCallback
from multihead.training.evaluation import text_metrics
from multihead.training.tasks.registry import job_class
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS, losses, same, weights

ANIMALS, THINGS = (
    ("the fox jumps", "a lazy dog", "the brown fox", "the dog"),
    ("coffee", "a rock", "the rock", "kilograms"),
)
SORTS = [{"text": t, "label": name} for name, side in (("thing", THINGS), ("animal", ANIMALS)) for t in side]
SEVERAL = [
    {"text": t, "label": [*(["fox"] if "fox" in t else []), *(["dog"] if "dog" in t else [])]}
    for t in (*ANIMALS, "the fox and the dog", "a rock")
]
SCORES = [{"text": t, "label": len(t) / 10.0 + 0.05} for t in (*ANIMALS, *THINGS)]
TAGGED = [
    {"tokens": t.split(), "tags": ["B-BEAST" if w in ("fox", "dog") else "O" for w in t.split()]}
    for t in (*ANIMALS, "the rock")
]
CONTEXT = "The quick brown fox jumps over the lazy dog"
ASKED = [
    {"question": q, "context": CONTEXT, "answers": {"text": [a], "answer_start": [CONTEXT.index(a)]}}
    for q, a in (("who jumps", "fox"), ("over the", "dog"), ("quick", "brown"))
]
TEXTS = [{"text": t} for t in ("The quick brown fox jumps over the lazy dog", "the dog doesn't mind at all")]
TURNS = [{"source": s, "target": t} for s, t in (("The fox", "le garçon a mangé"), ("a dog", "une pêche où est-elle"))]
PAIRS = [
    {"anchor": a, "positive": b}
    for a, b in (("the fox", "brown fox"), ("the dog", "lazy dog"), ("coffee", "Kaffee"), ("rock", "kilograms"))
]
GRADED = [
    {"sentence1": a, "sentence2": b, "score": s}
    for a, b, s in (("the fox", "a fox", 0.9), ("the dog", "rock", 0.1), ("dog", "a dog", 0.8), ("fox", "coffee", 0.2))
]
CHOSEN = [
    {"prompt": "The dog ", "chosen": "jumps", "rejected": "is lazy"},
    {"prompt": "A fox ", "chosen": "ran", "rejected": "is"},
]

LONGER = {"translated": 70, "text2text": 70, "summarized": 70, "several": 80}
CASES: dict[str, tuple[str, str, Any, dict[str, Any], str, float]] = {
    # name -> task, model, rows, options, a metric, and the least (or most, below 0) that it must reach
    "labels": ("text-classification", "bert", SORTS, {}, "accuracy", 1.0),
    "several": ("text-classification", "bert", SEVERAL, {}, "f1_micro", 0.95),
    "scores": ("text-classification", "bert", SCORES, {}, "pearson", 0.9),
    "tags": ("token-classification", "bert", TAGGED, {}, "f1", 1.0),
    "answers": ("question-answering", "bert", ASKED, {"stride": 4}, "exact_match", 100.0),
    "masked": ("fill-mask", "bert", TEXTS, {"whole_words": True}, "perplexity", -150.0),
    "written": ("text-generation", "llama", TEXTS, {}, "perplexity", -20.0),
    "chosen": ("preference", "llama", CHOSEN, {}, "rewards_accuracy", 1.0),
    "text2text": ("text2text-generation", "marian", TURNS, {}, "perplexity", -30.0),
    "translated": ("translation_en_to_fr", "marian", TURNS, {}, "perplexity", -30.0),
    "summarized": ("summarization", "marian", TURNS, {}, "perplexity", -30.0),
    "paired": ("sentence-similarity", "bert", PAIRS, {}, "loss", -1.0),
    "graded": ("sentence-similarity", "bert", GRADED, {}, "pearson", 0.7),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(bert, llama, marian, tmp_path_factory):
    """Models whose weights are drawn as for a training from scratch, with the fixtures' tokenizers."""
    kinds = {"bert": multihead.BertForMaskedLM, "llama": multihead.LlamaForCausalLM, "marian": multihead.MarianMTModel}
    found = {}
    for (name, kind), place in zip(kinds.items(), (bert, llama, marian), strict=True):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(place, folder, dirs_exist_ok=True)
        names = {"marian": {"init_std": 0.2, "dropout": 0.0}}
        drop = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if name == "bert" else {}
        given = names.get(name, {"initializer_range": 0.2, **drop})
        torch.manual_seed(0)
        kind(multihead.AutoConfig.from_pretrained(place, **given)).save_pretrained(folder)
        found[name] = folder
    return found


def made(folders, place, case, *, named=True, data=None, **changes):
    task, model, rows, options, *_ = CASES[case]
    options = changes.pop("options", options)
    given: Any = folders[model]
    more: dict[str, Any] = {}
    if not named:
        kind = job_class(task).auto_class
        given = getattr(multihead, kind).from_pretrained(given, dtype="float32", **changes.pop("config", {}))
        more["processing_class"] = multihead.AutoTokenizer.from_pretrained(folders[model])
    rest = {k: changes.pop(k) for k in ("peft_config", "callbacks", "compute_metrics", "eval_dataset") if k in changes}
    settings = {
        **SETTINGS,
        "num_train_epochs": LONGER.get(case, 25),
        "learning_rate": 1e-2,
        "save_strategy": "no",
        **changes,
    }
    more = {"eval_dataset": rows, **more, **rest}
    return Trainer(
        given, TrainingArguments(place, **settings), train_dataset=data or rows, task=task, options=options, **more
    )


def test_every_task_is_tried():
    assert {canonical_training_name(case[0]) for case in CASES.values()} == set(TRAINABLE)


@pytest.mark.parametrize("case", CASES)
def test_a_task_learns_from_rows_and_says_how_well(case, folders, tmp_path):
    *_, metric, least = CASES[case]
    run = made(folders, tmp_path, case)
    before = run.evaluate()
    run.train()
    after = run.evaluate()
    assert after["eval_loss"] < 0.7 * before["eval_loss"]
    found = losses(run)
    assert np.mean(found[-5:]) < np.mean(found[:5])
    value = after[f"eval_{metric}"]
    assert value >= least if least > 0 else value <= -least, after
    predicted = run.predict(CASES[case][2])
    assert predicted.metrics["test_loss"] == pytest.approx(after["eval_loss"], rel=1e-5)
    assert len(predicted.predictions) == len(run.features(CASES[case][2], training=False)) or case == "answers"
    run.save_model(tmp_path / "saved")
    check(case, tmp_path / "saved", run)


def check(case, folder, run):
    """The saved folder answers as its task does, with labels by name."""
    task = CASES[case][0].split("_en_")[0]
    if task == "text-classification":
        read = multihead.pipeline(task, str(folder))
        if case == "labels":
            assert [read(row["text"])[0]["label"] for row in SORTS] == [row["label"] for row in SORTS]
        elif case == "several":
            found = {one["label"]: one["score"] for one in read("the fox and the dog", top_k=None)}
            assert found.keys() == {"fox", "dog"}
            assert min(found.values()) > 0.5
        else:
            assert read("a rock")[0]["score"] == pytest.approx(0.65, abs=0.3)
    elif task == "token-classification":
        found = multihead.pipeline(task, str(folder), aggregation_strategy="first")("the lazy dog")
        assert [(one["word"], one["entity_group"]) for one in found] == [("dog", "BEAST")]
    elif task == "question-answering":
        read = multihead.pipeline(task, str(folder))
        assert [read(row, doc_stride=4)["answer"] for row in ASKED] == ["fox", "dog", "brown"]
    elif task == "fill-mask":
        assert multihead.pipeline(task, str(folder))("The quick [MASK] fox")[0]["sequence"]
    elif task in ("text-generation", "preference"):
        model = multihead.AutoModelForCausalLM.from_pretrained(folder)
        assert same(weights(model), weights(run.model))
        if case == "written":
            read = multihead.pipeline(task, str(folder))
            text = read("The quick brown fox", max_new_tokens=4, do_sample=False)[0]["generated_text"]
            assert text.startswith("The quick brown fox ju")
    elif task == "sentence-similarity":
        read = multihead.SentenceEncoder.from_pretrained(folder)
        one, other, far = read.encode(["the fox", "brown fox", "coffee"])
        assert case == "graded" or one @ other > one @ far
    else:
        assert run.tokenizer.batch_decode(
            multihead.AutoModelForSeq2SeqLM.from_pretrained(folder).generate(
                [run.tokenizer.encode("The fox")], max_new_tokens=20
            ), skip_special_tokens=True,
        ) == ["le garçon a mangé"]  # fmt: skip


@pytest.mark.parametrize("case", ["labels", "tags", "answers", "masked", "written", "translated", "graded"])
def test_a_model_may_be_given_itself(case, folders, tmp_path):
    config = {} if case in ("answers", "masked", "written", "translated", "graded") else {"num_labels": 2}
    torch.manual_seed(0)  # of the weights that are drawn anew
    run = made(folders, tmp_path, case, named=False, config=config, num_train_epochs=10)
    before = run.evaluate()["eval_loss"]  # of the same rows: losses of single steps are those of other rows
    run.train()
    assert run.evaluate()["eval_loss"] < before
    if config:
        assert sorted(run.model.config.id2label.values()) == sorted(
            {"labels": ["animal", "thing"], "tags": ["B-BEAST", "O"]}[case]
        )
        run.save_model(tmp_path / "saved")
        found = multihead.AutoConfig.from_pretrained(tmp_path / "saved").id2label
        assert found == run.model.config.id2label


def test_a_models_own_names_of_labels_are_kept(folders, classifier, tmp_path):
    rows = [{"text": t, "label": ("good", "bad")[i % 2]} for i, t in enumerate(ANIMALS)]
    model = multihead.AutoModelForSequenceClassification.from_pretrained(classifier)
    run = Trainer(
        model, TrainingArguments(tmp_path, **SETTINGS), train_dataset=rows, task="text-classification",
        tokenizer=multihead.AutoTokenizer.from_pretrained(classifier),
    )  # fmt: skip
    assert run.features(rows, training=True).numbers["labels"].tolist() == [2, 0, 2, 0]
    assert model.config.id2label == {0: "bad", 1: "fair", 2: "good"}


def test_labels_are_those_of_the_training_data_whatever_is_read_first(folders, tmp_path):
    run = made(folders, tmp_path, "labels", named=False, config={"num_labels": 2})
    found = run.predict([{"text": "a rock", "label": "thing"}])
    assert found.label_ids.tolist() == [1]


def test_several_evaluation_sets_are_told_apart_and_one_chooses_the_best(folders, tmp_path):
    run = made(
        folders, tmp_path, "labels", eval_dataset={"hard": SORTS[::2], "easy": SORTS[1::2]}, eval_strategy="epoch",
        save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="eval_hard_loss", num_train_epochs=3,
        save_total_limit=1,
    )  # fmt: skip
    run.train()
    found = run.evaluate()
    assert {"eval_hard_loss", "eval_easy_loss", "eval_hard_accuracy", "eval_easy_accuracy"} <= found.keys()
    seen = [entry["eval_hard_loss"] for entry in run.state.log_history if "eval_hard_loss" in entry]
    assert found["eval_hard_loss"] == pytest.approx(min(seen), rel=1e-5)


def test_metrics_of_ones_own_see_what_the_reference_shows(folders, tmp_path):
    seen = []

    def measure(prediction):
        seen.append(prediction)
        scores, labels = prediction
        return {"mine": float((scores.argmax(-1) == labels).mean())}

    run = made(folders, tmp_path, "labels", compute_metrics=measure)
    found = run.evaluate()
    assert seen[0].predictions.shape == (8, 2)
    assert seen[0].label_ids.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert found["eval_mine"] == float((seen[0].predictions.argmax(-1) == seen[0].label_ids).mean())
    run = made(folders, tmp_path, "answers", compute_metrics=lambda p: seen.append(p) or {})
    run.evaluate()
    (starts, ends), (first, last) = seen[-1].predictions, seen[-1].label_ids
    windows = len(run.features(ASKED, training=False))
    assert starts.shape == ends.shape == (windows, starts.shape[1])
    assert first.shape == last.shape == (windows,)
    assert (first <= last).all()


def test_answers_are_judged_as_the_pipeline_answers(folders, tmp_path):
    rows = [*ASKED, {"question": "who", "context": "a dog", "answers": {"text": ["a"], "answer_start": [0]}}]
    run = made(folders, tmp_path, "answers", data=ASKED, eval_dataset=rows, num_train_epochs=3)
    run.train()
    found = run.evaluate()
    run.save_model(tmp_path / "saved")
    read = multihead.pipeline("question-answering", str(tmp_path / "saved"), dtype="float32")
    said = [read(row, max_answer_len=30, doc_stride=4)["answer"] for row in rows]
    wanted = text_metrics.question_answering(said, [row["answers"]["text"] for row in rows])
    assert (found["eval_exact_match"], found["eval_f1"]) == pytest.approx((wanted["exact_match"], wanted["f1"]))


def test_what_is_written_is_measured(folders, tmp_path):
    more = {"predict_with_generate": True, "generation_max_length": 32, "num_train_epochs": 70}
    run = made(folders, tmp_path, "translated", **more)
    run.train()
    assert run.evaluate()["eval_bleu"] > 90
    run = made(folders, tmp_path, "summarized", **{**more, "num_train_epochs": 1}, generation_num_beams=2)
    assert {"eval_rouge1", "eval_rougeL"} <= run.evaluate().keys()


def test_metrics_of_ones_own_see_what_is_written(folders, tmp_path):
    seen = []
    run = made(
        folders, tmp_path, "translated", predict_with_generate=True, generation_max_length=9,
        compute_metrics=lambda p: seen.append(p) or {"mine": 1.0},
    )  # fmt: skip
    assert run.evaluate()["eval_mine"] == 1.0
    written, labels = seen[0]
    assert written.dtype.kind == "i"
    assert written.shape == (2, written.shape[1])
    assert written.shape[1] <= 9
    assert [text.strip() for text in run.tokenizer.batch_decode(
        [[token for token in row if token >= 0] for row in labels.tolist()], skip_special_tokens=True
    )] == [row["target"] for row in TURNS]  # fmt: skip
    wanted = run.model.generate([run.tokenizer.encode(row["source"]) for row in TURNS], max_length=9)
    assert np.array_equal(written[:, : wanted.shape[1]], wanted.numpy())
    assert np.array_equal(run.predict(TURNS).predictions, written)


LORA: dict[str, Any] = {"r": 4, "lora_alpha": 16, "lora_dropout": 0.1}


@pytest.mark.parametrize(
    ("case", "targets"), [("labels", ["query", "value"]), ("written", "all-linear"), ("chosen", ["q_proj"])]
)
def test_adapters_learn_are_resumed_exactly_and_saved_alone(case, targets, folders, tmp_path):
    config = multihead.LoraConfig(**LORA, target_modules=targets)
    more = {"peft_config": config, "num_train_epochs": 6, "save_strategy": "steps", "save_steps": 2}
    whole = made(folders, tmp_path / "whole", case, **{**more, "save_strategy": "no"})
    learned = [name for name, p in own_parameters(whole.model) if p.requires_grad]
    assert all("lora" in name or "head" in name for name in learned)
    frozen = {n: w for n, w in weights(whole.model).items() if n not in learned}
    whole.train()
    assert same({n: w for n, w in weights(whole.model).items() if n not in learned}, frozen)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        made(folders, tmp_path / "parts", case, **more, callbacks=[Stop()]).train()
    run = made(folders, tmp_path / "parts", case, **more)
    run.train(resume_from_checkpoint=True)
    assert same(weights(run.model), weights(whole.model))
    run.save_model(tmp_path / "saved")
    assert (tmp_path / "saved" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "saved" / "model.safetensors").exists()


def test_a_quantized_base_learns_through_adapters(folders, tmp_path):
    model = multihead.AutoModelForCausalLM.from_pretrained(folders["llama"], load_in_4bit=True)
    run = Trainer(
        model, TrainingArguments(tmp_path, **{**SETTINGS, "num_train_epochs": 20, "learning_rate": 2e-2}),
        train_dataset=TEXTS, task="text-generation",
        peft_config=multihead.LoraConfig(r=4, target_modules="all-linear"),
        tokenizer=multihead.AutoTokenizer.from_pretrained(folders["llama"]),
    )  # fmt: skip
    run.train()
    found = losses(run)
    assert found[-1] < 0.8 * found[0]


def test_the_perplexity_is_of_the_loss(folders, tmp_path):
    found = made(folders, tmp_path, "written").evaluate()
    assert found["eval_perplexity"] == pytest.approx(math.exp(found["eval_loss"]), rel=1e-5)


def test_words_are_hidden_anew_each_epoch(folders, tmp_path):
    run = made(folders, tmp_path, "masked")
    example = run.features(TEXTS, training=True)[0]
    drawn = [run.objective.prepare_example(example, (3, epoch, 0)) for epoch in (0, 0, 1, 2, 3)]
    assert np.array_equal(drawn[0]["labels"], drawn[1]["labels"])
    assert len({tuple(one["labels"]) for one in drawn}) > 2


def test_what_does_not_fit_a_task_is_refused(folders, tmp_path):
    bert, arguments = folders["bert"], TrainingArguments(tmp_path, **SETTINGS)
    cases: list[tuple[dict[str, Any], str, type[Exception]]] = [
        ({"task": "text-clasification"}, "no task 'text-clasification'.*text-classification", UnsupportedOption),
        ({"task": "text-classification", "options": {"text_colum": "t"}}, "no option 'text_colum'.*text_column",
         UnsupportedOption),
        ({"task": None}, "A model's name alone does not say what to train", InvalidInput),
        ({"task": "fill-mask", "data_collator": len}, "fill-mask makes its own batches", UnsupportedOption),
        ({"task": "sentence-similarity", "options": {"loss": "triplet"}}, "'triplet' is none of", UnsupportedOption),
        ({"task": "text-classification", "train_dataset": [{"words": "a", "label": 1}, {"words": "b", "label": 0}]},
         "words", InvalidInput),
    ]  # fmt: skip
    for changes, message, kind in cases:
        with pytest.raises(kind, match=message):
            Trainer(bert, arguments, **{"train_dataset": SORTS, **changes}).train()
    model = multihead.AutoModel.from_pretrained(bert)
    with pytest.raises(InvalidInput, match="BertModel has no loss of its own; name a task"):
        Trainer(model, arguments, train_dataset=SORTS)
    with pytest.raises(InvalidInput, match="reads texts: give processing_class"):
        Trainer(model, arguments, train_dataset=SORTS, task="text-classification")


def test_an_empty_text_is_named_with_its_row_or_left_out(folders, tmp_path):
    rows = [*SORTS, {"text": "", "label": "thing"}]
    with pytest.raises(InvalidInput, match=r"[Rr]ow 8.*empty"):
        made(folders, tmp_path, "labels", data=rows, num_train_epochs=1).train()
    run = made(folders, tmp_path, "labels", data=rows, num_train_epochs=1, options={"skip_empty": True})
    run.train()
    assert len(run.features(rows, training=True)) == len(SORTS)
