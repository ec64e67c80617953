"""Rows as tasks read them: without answers where they are predicted, in parallel files, with scores and labels."""

from __future__ import annotations

import numpy as np
import pytest

import multihead
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.training.arguments import TrainingArguments
from multihead.training.data import sentence_pairs, text_classification
from multihead.training.data.sentence_pairs import SentencePairOptions
from multihead.training.data.text_classification import TextClassificationOptions
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS
from tests.training.test_tasks import ASKED, CHOSEN, PAIRS, SORTS, TAGGED, TEXTS, TURNS


def made(folder, model, data, task, **changes):
    rest = {name: changes.pop(name) for name in ("options", "eval_dataset", "compute_metrics") if name in changes}
    rest |= {name: changes.pop(name) for name in ("kind", "preprocess_logits_for_metrics") if name in changes}
    kind = rest.pop("kind", Trainer)
    settings = {**SETTINGS, "save_strategy": "no", "max_steps": 2, **changes}
    return kind(model, TrainingArguments(folder, **settings), train_dataset=data, task=task, **rest)


@pytest.mark.parametrize(("task", "data", "answer"), [
    ("text-classification", SORTS, "label"),
    ("token-classification", TAGGED, "tags"),
    ("question-answering", ASKED, "answers"),
])  # fmt: skip
def test_rows_without_answers_are_predicted_like_those_with_them(task, data, answer, bert, tmp_path):
    run = made(tmp_path, bert, data, task)
    bare = [{name: value for name, value in row.items() if name != answer} for row in data]
    found, wanted = run.predict(bare), run.predict(data)
    both = zip(found.predictions, wanted.predictions, strict=True)
    assert all(np.array_equal(one, other) for one, other in both)
    assert found.label_ids is None
    assert wanted.label_ids is not None
    assert "test_loss" not in found.metrics
    with pytest.raises(InvalidInput, match="Which column of the data is the"):
        run.evaluate(bare)


@pytest.mark.parametrize(("rows", "bare", "options"), [
    (TURNS, [{"source": row["source"]} for row in TURNS], {}),
    ([{"translation": {"en": r["source"], "fr": r["target"]}} for r in TURNS],
     [{"translation": {"en": r["source"]}} for r in TURNS], {"source_lang": "en", "target_lang": "fr"}),
    ([{"en": r["source"], "fr": r["target"]} for r in TURNS], [{"en": r["source"]} for r in TURNS],
     {"source_lang": "en", "target_lang": "fr"}),
], ids=["columns", "translations", "languages"])  # fmt: skip
def test_sources_without_targets_are_written_and_not_scored(rows, bare, options, marian, tmp_path):
    more = {"options": options, "generation_max_length": 9}
    run = made(tmp_path, marian, rows, "translation", predict_with_generate=True, **more)
    found = run.predict(bare)
    assert np.array_equal(found.predictions, run.predict(rows).predictions)
    assert found.label_ids is None
    assert "test_loss" not in found.metrics
    with pytest.raises(InvalidInput, match=r"no labels.*predict_with_generate"):
        made(tmp_path, marian, rows, "translation", **more).predict(bare)


def parallel(folder, *names):
    for name in names:
        (folder / name).write_text("".join(f"{row['source']}\n" for row in TURNS))
    return [folder / name for name in names]


@pytest.mark.parametrize("names", [("dev.en", "dev.fr"), ("en.txt", "fr.txt")])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_parallel_files_are_one_data_set_to_evaluate_on(names, kind, marian, tmp_path):
    files = dict(zip(("source", "target"), map(kind, parallel(tmp_path, *names)), strict=True))
    run = made(tmp_path, marian, files, "translation", eval_dataset=files, eval_strategy="steps", eval_steps=1)
    run.train()
    rows = [{"source": row["source"], "target": row["source"]} for row in TURNS]
    assert run.evaluate()["eval_loss"] == pytest.approx(run.evaluate(rows)["eval_loss"])


def test_files_of_rows_are_several_data_sets_and_so_are_texts_by_themselves(marian, llama, tmp_path):
    tables = {}
    for name in ("dev_a", "dev_b"):
        tables[name] = tmp_path / f"{name}.tsv"
        tables[name].write_text("source\ttarget\nthe fox\tun garçon\n")
    found = made(tmp_path, marian, TURNS, "translation", eval_dataset=tables).evaluate()
    assert {"eval_dev_a_loss", "eval_dev_b_loss"} <= found.keys()
    texts = dict(zip(("dev_a", "dev_b"), parallel(tmp_path, "a.txt", "b.txt"), strict=True))
    found = made(tmp_path, llama, TEXTS, "text-generation", eval_dataset=texts).evaluate()
    assert {"eval_dev_a_loss", "eval_dev_b_loss"} <= found.keys()
    turns = dict(zip(("prompt", "completion"), texts.values(), strict=True))
    assert "eval_loss" in made(tmp_path, llama, TEXTS, "text-generation", eval_dataset=turns).evaluate()


@pytest.mark.parametrize(("task", "model", "data"), [
    ("fill-mask", "bert", TEXTS), ("sentence-similarity", "bert", PAIRS), ("preference", "llama", CHOSEN),
])  # fmt: skip
def test_a_loss_of_ones_own_that_a_task_would_never_call_is_refused(task, model, data, request, tmp_path):
    class Own(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            raise AssertionError

    folder = request.getfixturevalue(model)
    with pytest.raises(UnsupportedOption, match=f"compute_loss of your own: {task} computes its loss itself"):
        made(tmp_path, folder, data, task, kind=Own)


def test_options_of_generation_are_given_with_a_call_or_refused_by_name(marian, tmp_path):
    run = made(tmp_path, marian, TURNS, "translation", predict_with_generate=True, generation_max_length=5)
    assert run.predict(TURNS).predictions.shape[1] <= 5
    longer = run.predict(TURNS, max_length=12, num_beams=2).predictions
    ids = [run.tokenizer.encode(row["source"]) for row in TURNS]
    assert np.array_equal(longer, run.model.generate(ids, max_length=12, num_beams=2).numpy())
    assert run.predict(TURNS, max_new_tokens=11).predictions.shape[1] > 5
    assert "eval_bleu" in run.evaluate(TURNS, max_length=8, num_beams=2)
    with pytest.raises(UnsupportedOption, match="num_beans"):
        run.evaluate(TURNS, num_beans=2)
    plain = made(tmp_path, marian, TURNS, "translation")
    for call in (plain.evaluate, plain.predict):
        with pytest.raises(UnsupportedOption, match=r"max_length, num_beams: .*predict_with_generate=True"):
            call(TURNS, max_length=8, num_beams=2)


def test_reduced_scores_need_metrics_of_ones_own(bert, tmp_path):
    reduce = {"preprocess_logits_for_metrics": lambda scores, labels: scores.argmax(-1)}
    run = made(tmp_path, bert, SORTS, "text-classification", eval_dataset=SORTS, **reduce)
    with pytest.raises(UnsupportedOption, match=r"preprocess_logits_for_metrics.*compute_metrics"):
        run.evaluate()
    measure = {"compute_metrics": lambda p: {"n": p.predictions.ndim}}
    own = made(tmp_path, bert, SORTS, "text-classification", **measure, **reduce)
    assert own.evaluate(SORTS)["eval_n"] == 1


@pytest.fixture
def tokenizer(bert):
    return multihead.AutoTokenizer.from_pretrained(bert)


def graded(*scores):
    return [{"sentence1": "the fox", "sentence2": "a fox", "score": score} for score in scores]


@pytest.mark.parametrize("scores", [(5, 2, 4), ("5", "2", "4"), (5.0, 2, 4)])
def test_whole_numbers_between_sentences_are_scores(scores, tokenizer):
    found = sentence_pairs.prepare(graded(*scores), tokenizer, SentencePairOptions())
    assert found.numbers["labels"].tolist() == [5.0, 2.0, 4.0]
    assert found.metadata["problem_type"] == "regression"
    single = SentencePairOptions(problem_type="single_label_classification")
    with pytest.raises(InvalidInput, match="has classes"):
        sentence_pairs.prepare(graded(*scores), tokenizer, single)


@pytest.mark.parametrize(("column", "values"), [
    ("gold_label", ["entailment", "contradiction"]), ("Quality", [1, 0]), ("entailment_judgment", ["NEUTRAL"] * 2),
])  # fmt: skip
def test_what_judges_two_sentences_is_not_left_out_in_silence(column, values, tokenizer):
    rows = [{"sentence1": "the fox", "sentence2": "a fox", "pair_ID": 7, column: value} for value in values]
    with pytest.raises(InvalidInput, match=f"has the column {column} in addition to sentence1, sentence2"):
        sentence_pairs.prepare(rows, tokenizer, SentencePairOptions())
    found = sentence_pairs.prepare(rows, tokenizer, SentencePairOptions(ignore_columns=[column]))
    assert "labels" not in found.columns
    anchored = [{"anchor": row["sentence1"], "positive": row["sentence2"], column: row[column]} for row in rows]
    assert len(sentence_pairs.prepare(anchored, tokenizer, SentencePairOptions())) == 2


@pytest.mark.parametrize(("column", "values", "scores"), [
    ("relatedness_score", [4.5, 1.0], [4.5, 1.0]), ("is_duplicate", [True, False], [1.0, 0.0]),
])  # fmt: skip
def test_scores_of_known_data_sets_are_read(column, values, scores, tokenizer):
    rows = [{"question1": "the fox", "question2": "a fox", column: value} for value in values]
    assert sentence_pairs.prepare(rows, tokenizer, SentencePairOptions()).numbers["labels"].tolist() == scores


def test_classes_that_a_table_made_floats_are_no_scores(tokenizer):
    rows = [{"premise": "the fox", "hypothesis": "a fox", "label": value} for value in (0.0, 2.0, 1.0)]
    with pytest.raises(InvalidInput, match="has classes"):
        sentence_pairs.prepare(rows, tokenizer, SentencePairOptions())
    for row, value in zip(rows, (0.5, 2.0, 1.0), strict=True):
        row["label"] = value
    assert len(sentence_pairs.prepare(rows, tokenizer, SentencePairOptions())) == 3


def test_rows_marked_as_without_a_label_are_no_class_of_their_own(tokenizer):
    rows = [{"text": "a fox", "label": value} for value in (0, 1, 2, -1)]
    with pytest.raises(InvalidInput, match="-1, which marks rows without a label"):
        text_classification.prepare(rows, tokenizer, TextClassificationOptions())
    named = TextClassificationOptions(labels=["-1", "0", "1", "2"])
    assert text_classification.prepare(rows, tokenizer, named).numbers["labels"].tolist() == [1, 2, 3, 0]
    graded_ = text_classification.prepare([rows[0], rows[1], rows[3]], tokenizer, TextClassificationOptions())
    assert graded_.metadata["labels"] == ("-1", "0", "1")


def test_labels_of_an_evaluation_are_numbered_as_in_training(bert, tmp_path):
    with pytest.raises(InvalidInput, match="has classes, such as 'unlike'"):
        made(tmp_path, bert, graded("unlike", "alike", "same"), "sentence-similarity").train()
    run = made(tmp_path, bert, graded("unlike", "alike", "same"), "text-classification")
    assert run.features(graded("unlike", "same"), training=False).numbers["labels"].tolist() == [2, 1]
    assert run.features(graded("same"), training=False).numbers["labels"].tolist() == [1]
    run = made(tmp_path, bert, graded(0, 5, 3), "sentence-similarity")
    assert run.features(graded(3), training=False).numbers["labels"].tolist() == [3.0]


@pytest.mark.parametrize("column", ["score", "similarity", "similarity_score"])
@pytest.mark.parametrize("scores", [(0, 5, 3), (0.0, 5.0, 3.0), ("0", "5", "3")])
def test_scores_train_an_encoder_and_an_evaluation_reads_them_the_same_way(column, scores, bert, tmp_path):
    def named(*found):
        return [{"sentence1": "the fox", "sentence2": f"a fox {n}", column: score} for n, score in enumerate(found)]

    run = made(tmp_path, bert, named(*scores), "sentence-similarity")
    assert run.features(named(scores[2]), training=False).numbers["labels"].tolist() == [3.0]
    assert np.isfinite(run.train().training_loss)


def test_pairs_with_scores_judge_an_encoder_that_learned_from_triplets(bert, tmp_path):
    rows = [{**row, "negative": "a rock"} for row in PAIRS]
    run = made(tmp_path, bert, rows, "sentence-similarity", eval_dataset=graded(0.1, 0.9))
    run.train()
    assert "eval_spearman" in run.evaluate()
