"""Calibration: fitted on labeled rows, stored with the model, applied by its pipeline, and seen by nobody else."""

from __future__ import annotations

import json
import math

import pytest
import torch
import transformers

import multihead
from multihead import LoraConfig, Trainer, TrainingArguments
from multihead.errors import InvalidInput
from multihead.hub.names import SHIPPED
from multihead.modeling.fill_weights import NewWeights
from multihead.pipelines.calibration import Calibration
from multihead.pipelines.calibration_fit import expected_calibration_error, fit_temperature, fit_thresholds
from tests.adapters import tiny

from .conftest import exact

LABELS = ["bad", "fair", "good"]
TEXTS = ["The fox jumps.", "A dog", "The quick brown fox."]


def sure_rows(temperature, rows=4000):
    """Logits that are `temperature` times those of the true probabilities, and drawn targets."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return true * temperature, torch.multinomial(true.softmax(-1), 1, generator=generator)[:, 0]


def test_the_temperature_and_the_biases_of_drawn_rows_are_found():
    logits, targets = sure_rows(3.0)
    fitted = fit_temperature(logits, targets, LABELS, facts={"data": "drawn"})
    assert fitted.temperature == pytest.approx(3, rel=0.1)
    assert fitted.facts["ece_after"] < 0.03 < 0.2 < fitted.facts["ece_before"]
    assert fitted.facts["data"] == "drawn"
    shift = torch.tensor([1.0, -1.0, 0.0])
    biased = fit_temperature(logits - 3 * shift, targets, LABELS, bias=True)
    assert [biased.bias[label] for label in LABELS] == pytest.approx(shift.tolist(), abs=0.15)


def test_rows_that_a_bias_separates_are_separated_at_the_least_temperature():
    gaps = torch.linspace(0.3, 0.5, 40)
    logits, targets = torch.stack([-gaps, gaps], 1), (gaps > 0.4).long()
    fitted = fit_temperature(logits, targets, ["no", "yes"], bias=True)
    assert (fitted.apply(logits, ["no", "yes"]).argmax(-1) == targets).all()
    assert 0.01 <= fitted.temperature <= 0.05


def test_several_labels_at_once_are_fitted_by_their_sigmoids():
    generator = torch.Generator().manual_seed(1)
    true = torch.randn(4000, 3, generator=generator)
    targets = (torch.rand(4000, 3, generator=generator) < true.sigmoid()).long()
    assert fit_temperature(true * 2, targets, LABELS).temperature == pytest.approx(2, rel=0.1)


def test_rows_that_fit_no_calibration_are_refused():
    logits, targets = sure_rows(1.0, 30)
    for wrong in ((logits[:5], targets[:5]), (logits, targets * 0), (logits, targets[:3]), (logits[:, :2], targets)):
        with pytest.raises(InvalidInput):
            fit_temperature(*wrong, LABELS)


def test_a_threshold_is_the_least_that_is_right_often_enough():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.4, 0.6]])
    targets = torch.tensor([0, 0, 1, 0, 0])
    assert fit_thresholds(probabilities, targets, ["a", "b"], precision=0.75) == pytest.approx({"a": 0.6, "b": 1.0})
    assert fit_thresholds(probabilities, targets, ["a", "b"], precision=0.9)["a"] == pytest.approx(0.8)
    several = torch.tensor([[1, 0], [1, 0], [0, 0], [0, 1], [0, 1]])
    assert fit_thresholds(probabilities, several, ["a", "b"]) == pytest.approx({"a": 0.8, "b": 0.4})


def test_the_error_of_calibration_is_the_gap_between_confidence_and_accuracy():
    assert expected_calibration_error(torch.full((4,), 0.9), torch.tensor([1, 1, 0, 0])) == pytest.approx(0.4)
    assert expected_calibration_error(torch.tensor([1.0, 0.0]), torch.tensor([1, 0])) == 0


def test_a_calibration_stays_with_its_model_and_the_reference_reads_the_folder(classifier, tmp_path):
    plain = exact("text-classification", classifier, top_k=None)
    wanted = plain(TEXTS, function_to_apply="none")
    plain.model.save_pretrained(tmp_path / "a")
    plain.tokenizer.save_pretrained(tmp_path / "a")
    fitted = Calibration(2.0, {"good": 0.5})
    assert fitted.save(tmp_path / "a").name == "config.json"
    assert Calibration.load(tmp_path / "a") == fitted
    exact("text-classification", tmp_path / "a").model.save_pretrained(tmp_path / "b")
    plain.tokenizer.save_pretrained(tmp_path / "b")
    ours = exact("text-classification", tmp_path / "b", top_k=None)
    for answer, logits in zip(ours(TEXTS), wanted, strict=True):
        powers = {row["label"]: math.exp(row["score"] / 2 + 0.5 * (row["label"] == "good")) for row in logits}
        for row in answer:
            assert row["score"] == pytest.approx(powers[row["label"]] / sum(powers.values()), abs=1e-5)
    raw = transformers.pipeline("text-classification", str(tmp_path / "b"), top_k=None)(TEXTS)
    for answer, theirs in zip(ours(TEXTS, calibration=False), raw, strict=True):
        assert {row["label"]: row["score"] for row in answer} == pytest.approx(
            {row["label"]: row["score"] for row in theirs}, abs=1e-5
        )


def test_an_adapter_keeps_its_calibration(bert, tmp_path):
    with pytest.warns(NewWeights):
        model = multihead.AutoModelForSequenceClassification.from_pretrained(bert, id2label=dict(enumerate(LABELS)))
    model.add_adapter(LoraConfig())
    tiny.randomized(model).eval().save_pretrained(tmp_path / "a")
    assert "calibration" not in json.loads((tmp_path / "a" / "multihead_config.json").read_text())
    assert Calibration(1.5).save(tmp_path / "a").name == "multihead_config.json"
    back = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "a")
    back.save_pretrained(tmp_path / "b")
    assert Calibration.load(tmp_path / "b").temperature == 1.5
    assert back.config.id2label == dict(enumerate(LABELS))


def test_the_sentiment_adapter_of_the_package_comes_with_its_calibration():
    assert Calibration.load(SHIPPED / "sentiment-minilm").temperature == pytest.approx(1.52, abs=0.01)


def test_an_answer_below_its_threshold_abstains_and_says_so(classifier, tmp_path):
    Calibration(thresholds=dict.fromkeys(LABELS, 0.99)).save(tmp_path / "c.json")
    pipe = exact("text-classification", classifier, calibration=tmp_path / "c.json")
    answers = pipe(TEXTS)
    assert [answer["label"] for answer in answers] == ["unknown"] * 3
    assert answers.metadata.notices[1].number == 1
    assert "below its threshold 0.990" in answers.metadata.notices[1].text
    assert len(pipe(TEXTS[0], top_k=None)) == 3
    assert all(answer["label"] in LABELS for answer in pipe(TEXTS, calibration=False))
    several = exact("text-classification", classifier, problem_type="multi_label_classification")
    scores = {row["label"]: row["score"] for row in several(TEXTS[0], top_k=None)}
    best = max(scores, key=lambda label: scores[label])
    above = Calibration(
        thresholds={label: score + (-1e-4 if label == best else 1e-4) for label, score in scores.items()}
    )
    assert [row["label"] for row in several(TEXTS[0], top_k=None, calibration=above)] == [best]


def test_other_labels_and_training_take_a_calibration_away(classifier, tmp_path):
    model = multihead.AutoModelForSequenceClassification.from_pretrained(classifier)
    model.config.calibration = Calibration(2.0, {"good": 1.0}).to_dict()
    assert model.config.changed(problem_type="single_label_classification").calibration
    assert model.config.changed(num_labels=2).calibration is None
    assert model.config.changed(id2label={0: "x", 1: "y", 2: "z"}).calibration is None
    rows = [{"input_ids": [2, 5, 3], "labels": 0}, {"input_ids": [2, 6, 3], "labels": 1}]
    trainer = Trainer(model, TrainingArguments(str(tmp_path), max_steps=1, report_to="none"), train_dataset=rows)
    with pytest.warns(UserWarning, match="fitted for its old weights"):
        trainer.train()
    assert model.config.calibration is None


@pytest.mark.parametrize(
    ("entries", "said"),
    [({"temperature": 0}, "above 0"), ({"bias": {"good": "much"}}, "is a number"),
     ({"thresholds": {"good": 2}}, "0 to 1"), ({"heat": 1}, "entries temperature, bias"),
     ({"bias": [1]}, "maps labels"), ({"bias": {"great": 1}}, "'great'")],
)  # fmt: skip
def test_a_calibration_that_cannot_be_applied_is_refused_by_name(classifier, tmp_path, entries, said):
    (tmp_path / "c.json").write_text(json.dumps(entries))
    with pytest.raises(InvalidInput, match=said):
        exact("text-classification", classifier, calibration=str(tmp_path / "c.json"))
    with pytest.raises(InvalidInput, match="no folder of a model"):
        Calibration().save(tmp_path)
