"""Measures equal scikit-learn, scipy, seqeval and sacrebleu, also for repeated rows; intervals cover the truth."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as learn

from multihead.errors import InvalidInput
from multihead.evaluation import measures as ours
from multihead.evaluation.resampling import (
    McNemar,
    Resampling,
    differences,
    intervals,
    mcnemar,
    point,
    wilson,
)
from multihead.evaluation.scorers.generated import corpus_measure
from multihead.evaluation.scorers.tokens import score_tags
from multihead.pipelines import calibration_fit
from multihead.training.evaluation import metrics, text_metrics


@pytest.fixture
def draw():
    return np.random.default_rng(3)


def repeated(draw, count):
    """Numbers of draws of a resample, as weights (1, rows), and the numbers of its rows."""
    weights = draw.integers(0, 4, count)
    return weights[None].astype(float), np.repeat(np.arange(count), weights)


@pytest.mark.parametrize("labels", [2, 5])
def test_label_measures_equal_scikit_learn_on_resamples(draw, labels):
    expected, predicted = draw.integers(0, labels, 90), draw.integers(0, labels, 90)
    weights, rows = repeated(draw, 90)
    found = {m.name: m.values(weights)[0] for m in ours.label_measures(predicted, expected, labels)}
    right, given = expected[rows], predicted[rows]
    assert found["accuracy"] == pytest.approx(learn.accuracy_score(right, given))
    assert found["f1_macro"] == pytest.approx(learn.f1_score(right, given, average="macro"))
    assert found["matthews_correlation"] == pytest.approx(learn.matthews_corrcoef(right, given))


def test_a_case_without_an_answer_is_wrong():
    found = {m.name: point(m, np.arange(4), 4) for m in ours.label_measures(np.array([0, 1, -1, 1]),
                                                                            np.array([0, 1, 0, 1]), 2)}  # fmt: skip
    assert found["accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)


def test_rank_measures_equal_scikit_learn_and_scipy_on_resamples_with_ties(draw):
    scores, hits = draw.integers(0, 12, 80) / 12, draw.integers(0, 2, 80)
    weights, rows = repeated(draw, 80)
    auroc = ours.Auroc("auroc", scores=scores, positive=hits == 1).values(weights)[0]
    assert auroc == pytest.approx(learn.roc_auc_score(hits[rows], scores[rows]))
    other = draw.integers(0, 5, 80) + scores
    pearson, spearman = (
        ours.Correlation("r", first=scores, second=other, ranks=ranks).values(weights)[0] for ranks in (False, True)
    )
    assert pearson == pytest.approx(stats.pearsonr(scores[rows], other[rows])[0])
    assert spearman == pytest.approx(stats.spearmanr(scores[rows], other[rows])[0])


def test_undefined_measures_are_nan():
    one_class = ours.Auroc("auroc", scores=np.array([0.1, 0.9]), positive=np.array([True, True]))
    assert math.isnan(point(one_class, np.arange(2), 2))
    constant = ours.Correlation("r", first=np.array([0.3, 0.3, 0.3]), second=np.array([1.0, 2.0, 3.0]))
    assert math.isnan(point(constant, np.arange(3), 3))
    assert intervals([one_class], np.arange(2), 2, Resampling())["auroc"] == pytest.approx((math.nan, math.nan),
                                                                                          nan_ok=True)  # fmt: skip


def test_calibration_error_equals_that_of_the_fit(draw):
    import torch

    confidence, correct = draw.random(300), draw.integers(0, 2, 300)
    measure = ours.calibration_measure(confidence, correct.astype(float))
    expected = calibration_fit.expected_calibration_error(torch.tensor(confidence), torch.tensor(correct))
    assert point(measure, np.arange(300), 300) == pytest.approx(expected)


def test_entities_equal_seqeval(draw):
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    given, right = ([[names[n] for n in draw.integers(0, 5, 9)] for _ in range(20)] for _ in range(2))
    scored = score_tags(given, right, names)
    found = {m.name: point(m, np.arange(20), 20) for m in scored.measures}
    assert found == pytest.approx(metrics.token_classification(given, right))


def test_corpus_metrics_equal_sacrebleu_on_resamples():
    random.seed(1)
    words = "the cat sat on a warm mat and looked at the old dog".split()
    given, right = ([" ".join(random.choices(words, k=9)) for _ in range(12)] for _ in range(2))
    rows = [0, 0, 3, 5, 5, 5, 8, 11]
    weights = np.bincount(rows, minlength=12)[None].astype(float)
    expected = text_metrics.translation([given[n] for n in rows], [right[n] for n in rows])
    for statistics in text_metrics.translation_statistics(given, right):
        assert corpus_measure(statistics).values(weights)[0] == pytest.approx(expected[statistics.name])


def test_discounted_gain_equals_scikit_learn(draw):
    grades, scores = draw.integers(0, 4, 20), draw.random(20)
    order = np.argsort(-scores)
    found = ours.discounted_gain(grades[order].tolist(), 10) / ours.discounted_gain(sorted(grades)[::-1], 10)
    assert found == pytest.approx(learn.ndcg_score([grades], [scores], k=10))


def test_repetition_counts_repeated_4_grams():
    assert text_metrics.repetition("a b c d e") == 0
    assert text_metrics.repetition("a b a b a b a b") == pytest.approx(3 / 5)
    assert math.isnan(text_metrics.repetition("too short"))


def test_intervals_are_seeded_and_hold_the_estimate(draw):
    measure = ours.Mean("accuracy", bounds=(0.0, 1.0), rows=draw.integers(0, 2, 60).astype(float))
    rows = np.arange(60)
    first, again, other = (intervals([measure], rows, 60, Resampling(seed=seed))["accuracy"] for seed in (0, 0, 1))
    assert first == again != other
    assert first[0] < point(measure, rows, 60) < first[1]
    wide = intervals([measure], rows, 60, Resampling(confidence=0.99))["accuracy"]
    assert wide[0] < first[0] < first[1] < wide[1]


def test_intervals_cover_the_truth_on_simulated_data():
    draw = np.random.default_rng(0)
    covered, runs = {"accuracy": 0, "auroc": 0, "ece": 0, "calibrated": 0}, 150
    for run in range(runs):
        chance = draw.uniform(0.5, 1.0, 300)  # of a right answer; a model that is 0.05 too sure
        correct = (draw.random(300) < chance).astype(float)
        positive = draw.integers(0, 2, 300)
        scores = positive + draw.normal(0, 1, 300)
        sure = np.minimum(chance + 0.05, 1.0)
        found = intervals(
            [ours.Mean("accuracy", bounds=(0.0, 1.0), rows=correct),
             ours.Auroc("auroc", scores=scores, positive=positive == 1),
             ours.calibration_measure(sure, correct)],
            np.arange(300), 300, Resampling(resamples=200, seed=run),
        )  # fmt: skip
        calibrated = ours.calibration_measure(chance, correct)
        covered["calibrated"] += intervals([calibrated], np.arange(300), 300, Resampling(200, run))["ece"][0] == 0
        for name, truth in (("accuracy", 0.75), ("auroc", stats.norm.cdf(1 / math.sqrt(2))), ("ece", 0.0475)):
            covered[name] += found[name][0] <= truth <= found[name][1]
    assert all(0.88 <= count / runs <= 1 for count in covered.values()), covered


def test_groups_are_drawn_whole():
    values = np.repeat([0.0, 1.0], 100)  # two groups of 100 equal rows: 2 independent values, not 200
    measure = ours.Mean("accuracy", bounds=(0.0, 1.0), rows=values)
    alone = intervals([measure], np.arange(200), 200, Resampling())["accuracy"]
    grouped = intervals([measure], np.arange(200), 200, Resampling(), np.repeat([0, 1], 100))["accuracy"]
    assert alone[1] - alone[0] < 0.2
    assert grouped == (0.0, 1.0)
    (single,) = intervals([measure], np.arange(100), 200, Resampling(), np.repeat([0, 1], 100)).values()
    assert np.isnan(single).all()  # one group has no spread, and is not certain


def test_a_share_without_spread_has_wilsons_interval():
    measure = ours.Mean("accuracy", bounds=(0.0, 1.0), rows=np.ones(20))
    low, high = intervals([measure], np.arange(20), 20, Resampling())["accuracy"]
    expected = stats.binomtest(20, 20).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert wilson(0.3, 50, 0.9) == pytest.approx(tuple(stats.binomtest(15, 50).proportion_ci(0.9, method="wilson")))


def test_paired_differences_find_what_unpaired_intervals_cannot(draw):
    hard = draw.random(400) < 0.5
    second = (~hard).astype(float)
    first = second.copy()
    first[np.nonzero(hard)[0][:14]] = 1  # better on 14 rows, worse on none
    one, other = (ours.Mean("accuracy", rows=rows) for rows in (first, second))
    (found,) = differences([one], [other], 400, Resampling())
    assert found.value == pytest.approx(14 / 400)
    assert 0 < found.low < found.high < 0.1
    assert found.p < 0.01
    assert mcnemar(first, second) == McNemar(14, 0, pytest.approx(2 * 0.5**14))
    (same,) = differences([one], [one], 400, Resampling())
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_p_values_of_equal_models_are_uniform():
    draw = np.random.default_rng(5)
    small = 0
    for run in range(120):
        one, other = (ours.Mean("m", rows=(draw.random(80) < 0.6).astype(float)) for _ in range(2))
        small += differences([one], [other], 80, Resampling(resamples=200, seed=run))[0].p < 0.1
    assert 2 <= small <= 24


def test_mcnemar_equals_the_binomial_test():
    first, second = np.array([1, 1, 1, 0, 0, 1, 0, 1.0]), np.array([0, 0, 1, 0, 1, 0, 0, math.nan])
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (3, 1)
    assert found.p == pytest.approx(stats.binomtest(1, 4).pvalue)


@pytest.mark.parametrize("wrong", [{"resamples": 10}, {"resamples": True}, {"seed": -1}, {"confidence": 1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Resampling(**wrong).check()
