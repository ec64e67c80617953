"""`multihead calibrate`: probabilities and thresholds fitted on a file, stored with the model, used by pipelines."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import multihead
from multihead import pipeline
from multihead.errors import InvalidInput, ModelNotFound, UnsupportedOption
from multihead.evaluation.calibrate import best_threshold, folds_of
from multihead.pipelines.calibration import Calibration
from tests.cli.test_tools import run
from tests.evaluation.conftest import TEXTS, lines

DRAW = np.random.default_rng(0)
WORDS = sorted({word for text in TEXTS for word in text.split()})
SAMPLE = [" ".join(DRAW.choice(WORDS, 4)) for _ in range(240)]


@pytest.fixture(scope="module")
def sure(classifier, pipe, tmp_path_factory):
    """Folder of the classifier with logits around 0 whose standard deviation is 6."""
    answers = pipe(SAMPLE, top_k=None, function_to_apply="none")
    names = pipe.label_names
    logits = np.array([[{row["label"]: row["score"] for row in each}[name] for name in names] for each in answers])
    folder = shutil.copytree(classifier, tmp_path_factory.mktemp("sure") / "model")
    model = multihead.AutoModelForSequenceClassification.from_pretrained(classifier)
    last = [module for module in model.head.modules() if hasattr(module, "bias")][-1]
    scale = torch.tensor(6 / logits.std(0), dtype=torch.float32)
    last.bias.data = (last.bias.data - torch.tensor(logits.mean(0), dtype=torch.float32)) * scale
    last.weight.data *= scale[:, None]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sure_pipe(sure):
    return pipeline("text-classification", sure, dtype="float32")


@pytest.fixture(scope="module")
def sample(sure_pipe):
    """Texts whose labels are drawn from the model's probabilities at temperature 3, so that it is too sure."""
    draw = np.random.default_rng(1)
    logits = sure_pipe(SAMPLE, top_k=None, function_to_apply="none")
    rows = []
    for text, answer in zip(SAMPLE, logits, strict=True):
        scores = np.array([row["score"] for row in answer]) / 3
        chances = np.exp(scores - scores.max())
        rows.append({"text": text, "label": answer[draw.choice(3, p=chances / chances.sum())]["label"]})
    return rows


def test_the_temperature_of_the_data_is_found_and_errors_are_cross_validated(sure_pipe, sample):
    result = multihead.calibrate(sure_pipe, sample)
    assert result.calibration.temperature == pytest.approx(3, rel=0.35)
    assert result.after["ece"] < result.before["ece"]
    assert result.after["log_loss"] < result.before["log_loss"]
    assert result.after["accuracy"] == result.before["accuracy"]
    assert result.calibration.facts["rows"] == 240
    again = multihead.calibrate(sure_pipe, sample)
    assert again == result


def test_a_prompted_classifier_is_calibrated_relative_to_its_reference_texts(llama, tmp_path):
    pipe = pipeline("text-classification", llama, dtype="float32", prompt="{text}:", top_k=None)
    scores = pipe(SAMPLE[:60], function_to_apply="none")
    odds = [{row["label"]: row["score"] for row in answer} for answer in scores]
    gaps = np.array([own["POSITIVE"] - own["NEGATIVE"] for own in odds])
    names = ["POSITIVE" if gap > np.median(gaps) else "NEGATIVE" for gap in gaps]
    rows = [{"text": text, "label": name} for text, name in zip(SAMPLE, names, strict=False)]
    assert "accuracy" in multihead.evaluate(pipe, rows).metrics
    result = multihead.calibrate(pipe, rows, bias=True)
    answers = pipe([row["text"] for row in rows], calibration=result.calibration, top_k=1)
    assert np.mean([answer[0]["label"] == row["label"] for answer, row in zip(answers, rows, strict=True)]) > 0.95


def test_a_calibration_stored_with_a_language_model_is_of_its_own_prompts(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "model")
    stored = Calibration(2.0, bias={"NEGATIVE": 3.0, "POSITIVE": -3.0})
    stored.save(folder)
    plain, pipe = (pipeline("text-classification", path, dtype="float32") for path in (llama, folder))
    assert pipe("the dog") == plain("the dog", calibration=stored) != plain("the dog")
    assert pipe("the dog", calibration=False) == plain("the dog", calibration=False)
    own = {"prompt": "{text}:", "labels": {"a": " a", "b": " b"}}
    assert pipe("the dog", **own) == plain("the dog", **own)


def test_folds_share_no_row_and_have_every_label():
    strata = np.array([0] * 40 + [1] * 10)
    parts = folds_of(strata, 5, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(50))
    assert all(set(strata[part]) == {0, 1} for part in parts)


def test_a_stored_calibration_is_used_and_evaluated(sure, sample, tmp_path):
    folder = shutil.copytree(sure, tmp_path / "model")
    file = lines(tmp_path / "dev.jsonl", sample)
    out = run("calibrate", folder, file, "--thresholds", "--target-precision", 0.4, "--precision", "fp32").output
    assert "temperature" in out
    assert "Stored in" in out
    stored = json.loads((folder / "config.json").read_text())["calibration"]
    assert set(stored["thresholds"]) == {"bad", "fair", "good"}
    pipe = pipeline("text-classification", folder, dtype="float32")
    found = multihead.evaluate(pipe, file)
    assert found.metrics["ece"] < multihead.evaluate(pipe, file, calibration=False).metrics["ece"]
    assert 0 < found.metrics["coverage"] <= 1
    answers = pipe([row["text"] for row in sample])
    taken = [answer["label"] != "unknown" for answer in answers]
    assert found.metrics["coverage"] == pytest.approx(np.mean(taken))
    right = [a["label"] == row["label"] for a, row, ok in zip(answers, sample, taken, strict=True) if ok]
    assert found.metrics["accuracy_answered"] == pytest.approx(np.mean(right))


def test_labels_that_no_answer_can_have_are_named(sure_pipe, sample):
    answers = sure_pipe([row["text"] for row in sample], calibration=False)
    wrong = {"bad": "fair", "fair": "good", "good": "bad"}
    rows = [{**row, "label": wrong[answer["label"]]} for row, answer in zip(sample, answers, strict=True)]
    found = multihead.calibrate(sure_pipe, rows, thresholds=True, precision=1.0, folds=2)
    never = [name for name, least in found.calibration.thresholds.items() if least >= 1]
    assert never
    assert all(repr(name) in note for name in never for note in found.notes if "reaches a precision" in note)
    assert any("reaches a precision of 1" in note for note in found.notes)


def test_the_threshold_of_no_answer_has_the_best_f1():
    draw = np.random.default_rng(2)
    likely = draw.integers(0, 20, 60) / 20
    gains = np.stack([draw.random(60), draw.integers(0, 2, 60)])

    def f1(threshold):
        return np.where(likely >= threshold, gains[0], gains[1]).mean()

    best = max(f1(threshold) for threshold in np.linspace(0, 1.01, 500))
    assert f1(best_threshold(likely, gains)) == pytest.approx(best)


def test_no_answer_is_calibrated_for_a_reader(reader, tmp_path):
    context = "the quick brown fox jumps over the lazy dog"
    rows = [
        {"question": f"{word} ?", "context": context,
         "answers": {"text": ["brown fox"] if n % 2 else [], "answer_start": [10] if n % 2 else []}}
        for n, word in enumerate(["the fox", "a dog", "fox", "dog", "the dog", "a fox", "lazy", "brown", "the", "a"])
    ]  # fmt: skip
    pipe = pipeline("question-answering", reader, dtype="float32")
    result = multihead.calibrate(pipe, rows, folds=2)
    assert set(result.calibration.thresholds) == {"answer"}
    own = tmp_path / "c.json"
    result.calibration.save(own)
    used = multihead.evaluate(pipe, rows, calibration=str(own))
    inputs = [{"question": row["question"], "context": context} for row in rows]
    answers = pipe(inputs, calibration=str(own), handle_impossible_answer=True)
    accepted = [bool(answer["answer"]) for answer in answers]
    assert used.metrics["no_answer_accuracy"] == pytest.approx(100 * np.mean([not ok for ok in accepted[::2]]))
    with pytest.raises(InvalidInput, match="questions without an answer"):
        multihead.calibrate(pipe, rows[1::2])


def test_what_cannot_be_calibrated_is_refused(pipe, llama, classifier, reviews, tmp_path):
    with pytest.raises(UnsupportedOption, match="has no calibration"):
        multihead.calibrate(pipeline("text-generation", llama, dtype="float32"), [{"text": "a"}])
    with pytest.raises(InvalidInput, match="two labels or more"):
        multihead.calibrate(pipe, [{"text": f"{text} {n}", "label": "bad"} for n in range(3) for text in TEXTS])
    with pytest.raises(InvalidInput, match="6 rows or more"):
        multihead.calibrate(pipe, [{"text": "fox", "label": label} for label in ("bad", "fair", "good")])
    with pytest.raises(InvalidInput, match="6 rows that count, too few to leave out one of 5 folds"):
        multihead.calibrate(pipe, [{"text": "fox", "label": label} for label in ("bad", "fair", "good") * 2])
    with pytest.raises(ModelNotFound, match="no calibration 'batch'"):
        pipe("fox", calibration="batch")
    with pytest.raises(InvalidInput, match="folds"):
        multihead.calibrate(pipe, [], folds=1)
    with pytest.raises(InvalidInput, match="no folder"):
        run("calibrate", "org/somewhere", reviews)
