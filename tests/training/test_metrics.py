"""Scores agree with the libraries of the field, with published values, and at the edges."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from transformers import EvalPrediction as Reference

from multihead.errors import InvalidInput, UnsupportedOption
from multihead.training import metrics, text_metrics
from multihead.training.evaluation.metrics import EvalPrediction

NAMES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}


@pytest.mark.parametrize("extra", [{}, {"inputs": 3}, {"losses": 4}, {"inputs": 3, "losses": 4}])
def test_an_evaluation_unpacks_as_the_references(extra):
    ours, theirs = EvalPrediction(1, 2, **extra), Reference(1, 2, **extra)
    assert tuple(ours) == tuple(theirs)
    assert (ours.predictions, ours.label_ids, ours.inputs, ours.losses) == (1, 2, extra.get("inputs"), theirs.losses)
    assert ours[1] == theirs[1] == 2
    with pytest.raises(IndexError):
        ours[-1]
    with pytest.raises(IndexError):
        ours[len(tuple(theirs))]


def test_two_labels_are_scored_by_the_second_one():
    scores = np.array([[2.0, 1], [0, 1], [0, 3], [1, 0]])
    found = metrics.text_classification(scores, [0, 1, 0, 1])
    assert found == {"accuracy": 0.5, "f1": 0.5, "matthews_correlation": 0.0}
    assert metrics.text_classification([0, 1, 1, 0], [0, 1, 0, 1]) == found
    assert (
        metrics.text_classification(torch.tensor(scores, requires_grad=True).bfloat16(), torch.tensor([0, 1, 0, 1]))
        == found
    )


def test_more_labels_are_scored_by_their_mean():
    found, wanted = [0, 1, 2, 2, 1, 0], [0, 2, 2, 1, 1, 0]
    scores = metrics.text_classification(np.eye(4)[found], wanted)
    assert scores == {"accuracy": pytest.approx(4 / 6), "f1": sklearn.f1_score(wanted, found, average="macro")}


def test_one_label_alone_and_all_wrong_have_scores():
    assert metrics.text_classification([0, 0], [0, 0]) == {"accuracy": 1.0, "f1": 0.0, "matthews_correlation": 0.0}
    assert metrics.text_classification([1, 0], [0, 1]) == {"accuracy": 0.0, "f1": 0.0, "matthews_correlation": -1.0}


def test_any_number_of_labels_a_text():
    scores = np.array([[3.0, -1, -2], [-1, 2, -3], [1, 1, -1]])
    wanted = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0]])
    found = metrics.multi_label_classification(scores, wanted)
    assert found == {
        "f1_micro": sklearn.f1_score(wanted, scores > 0, average="micro"),
        "f1_macro": sklearn.f1_score(wanted, scores > 0, average="macro", zero_division=0),
        "accuracy": pytest.approx(1 / 3),
    }
    strict = metrics.multi_label_classification(scores, wanted, threshold=0.9)
    assert strict["f1_micro"] == pytest.approx(2 / 5)  # only the score of 3 has a probability of 0.9
    with pytest.raises(InvalidInput, match="threshold"):
        metrics.multi_label_classification(scores, wanted, threshold=1.0)


def test_a_single_label_is_judged_by_itself_and_not_by_its_absence():
    found = metrics.multi_label_classification([[2.0], [-1], [3], [-3]], [[1], [1], [0], [0]])
    assert found == {"f1_micro": 0.5, "f1_macro": 0.5, "accuracy": 0.5}
    found = metrics.multi_label_classification([[2.0], [-1], [-3], [-3]], [[1], [1], [0], [0]])
    assert found["f1_micro"] == pytest.approx(2 / 3)  # of both classes it would be 3 of 4


def test_numbers_are_scored_by_correlations_and_squared_error():
    found = metrics.regression([[1.0], [2], [3], [10]], [2.0, 4, 6, 8])
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, 10], [2, 4, 6, 8])[0, 1])
    assert (found["spearman"], found["mse"]) == (pytest.approx(1.0), pytest.approx((1 + 4 + 9 + 4) / 4))


@pytest.mark.parametrize("predictions", [[1.0, 1.0, 1.0], [1.0, math.nan, 2.0]])
def test_a_correlation_with_a_constant_is_not_defined(predictions):
    found = metrics.regression(predictions, [1.0, 2.0, 3.0])
    assert math.isnan(found["pearson"])
    assert math.isnan(found["spearman"])


def test_entities_are_right_as_a_whole():
    wanted = [[1, 2, 0, 3, -100], [0, 1, -100, -100, -100]]
    found = [[1, 2, 0, 1, 4], [0, 1, 2, 2, 2]]
    scores = metrics.token_classification(np.eye(5)[found], wanted, NAMES)
    assert scores == {"precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3),
                      "accuracy": pytest.approx(5 / 6)}  # fmt: skip
    names = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER"]], [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-PER"]]
    assert metrics.token_classification(names[1], names[0]) == scores


def test_an_entity_that_is_too_short_is_wrong_and_its_tokens_are_not():
    found = metrics.token_classification([["B-PER", "O"]], [["B-PER", "I-PER"]])
    assert found == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 0.5}


def test_texts_without_entities_score_nothing_without_a_warning(recwarn):
    found = metrics.token_classification(np.zeros((1, 3), int), [[0, 0, -100]], NAMES)
    assert found == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 1.0}
    assert not recwarn.list


def test_labels_that_name_no_entities_have_an_accuracy_only():
    assert metrics.token_classification([["NOUN", "VERB"]], [["NOUN", "NOUN"]]) == {"accuracy": 0.5}


def test_vectors_are_compared_by_their_cosines():
    first = np.array([[1.0, 0], [1, 0], [1, 0]])
    second = np.array([[5.0, 0], [1, 1], [0, 2]])
    by_vectors = metrics.sentence_similarity((first, second), [5.0, 3, 0])
    assert by_vectors == pytest.approx(metrics.sentence_similarity([1, math.sqrt(0.5), 0], [5.0, 3, 0]))
    assert by_vectors["spearman"] == pytest.approx(1.0)
    assert by_vectors["pearson"] < 1


def test_a_ranking_is_scored_by_its_first_right_document():
    scores = np.array([[0.9, 0.1, 0.2], [0.9, 0.8, 0.1], [0.3, 0.2, 0.1]])
    found = metrics.retrieval(scores, [0, 1, [2, 1]])
    assert found == {"accuracy@1": pytest.approx(1 / 3), "mrr@10": pytest.approx((1 + 1 / 2 + 1 / 2) / 3)}
    assert metrics.retrieval(scores, [0, 1, 2], k=2)["mrr@2"] == pytest.approx((1 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_a_ranking_that_tells_nothing_apart_is_not_a_good_one(value):
    assert metrics.retrieval(np.full((2, 4), value), [0, 3]) == {"accuracy@1": 0.0, "mrr@10": 0.25}


def test_preferences_are_right_when_the_chosen_answer_has_more():
    found = metrics.preference([1.0, 0.5, 2.0], [0.0, 0.5, 3.0])
    assert found == {"accuracy": pytest.approx(1 / 3), "margin": pytest.approx(0.0)}


def test_perplexity_is_the_exponential_of_the_mean_loss():
    assert metrics.language_modeling(10 * math.log(7), 10) == {
        "loss": pytest.approx(math.log(7)), "perplexity": pytest.approx(7)
    }  # fmt: skip
    assert metrics.language_modeling(1e6, 10)["perplexity"] == math.inf
    assert math.isnan(metrics.language_modeling(math.nan, 10)["perplexity"])
    with pytest.raises(InvalidInput, match="no token was scored"):
        metrics.language_modeling(0.0, 0)


# Scores by the official script, evaluate-v2.0.py, worked out by its rules.
@pytest.mark.parametrize(
    ("said", "right", "exact", "f1"),
    [
        ("The Eiffel Tower!", ["Eiffel tower"], 100, 100),
        ("in Paris, France", ["Paris"], 0, 50),
        ("Paris", ["London", "Paris France"], 0, 200 / 3),
        ("paris paris", ["paris"], 0, 200 / 3),
        ("", [], 100, 100),
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("the", [], 100, 100),
        ("", [""], 100, 100),
        ("", ["the", "Paris"], 0, 0),
        ("co-operate", "cooperate", 100, 100),
        ("1976", {"text": ["1976"], "answer_start": [3]}, 100, 100),
    ],
)
def test_answers_are_compared_as_squad_does(said, right, exact, f1):
    found = text_metrics.question_answering([said], [right])
    assert found == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_questions_without_an_answer_are_told_apart():
    found = text_metrics.question_answering(["Paris", "in Rome", "", "Oslo"], ["Paris", "Rome", [], []])
    assert found == {
        "exact_match": 50, "f1": pytest.approx((100 + 200 / 3 + 100) / 4), "has_answer_exact_match": 50,
        "has_answer_f1": pytest.approx((100 + 200 / 3) / 2), "no_answer_accuracy": 50,
    }  # fmt: skip


def test_translations_are_scored_by_sacrebleu_over_all_texts():
    import sacrebleu

    said = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
    one = ["The dog bit the man.", "It was not surprising.", "The man had just bitten him."]
    two = ["The dog had bit the man.", None, "The man had bitten the dog."]
    found = text_metrics.translation(said, [[a, b] if b else a for a, b in zip(one, two, strict=True)])
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(said, [one, two]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [one, two]).score)
    assert 0 < found["bleu"] < 100
    assert text_metrics.translation(one, one) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}


def test_a_language_without_spaces_is_split_as_asked():
    said, right = ["我爱北京天安门和长城"], ["我爱北京天安门与长城"]
    assert text_metrics.translation(said, right)["bleu"] < 1
    assert text_metrics.translation(said, right, tokenize="zh")["bleu"] > 50


def test_a_translation_without_a_reference_is_refused():
    with pytest.raises(InvalidInput, match="no reference"):
        text_metrics.translation(["a", "b"], [["a"], []])


def test_summaries_are_scored_by_rouge():
    found = text_metrics.summarization(["the cat sat"], ["the cat sat down"])
    assert found["rouge1"] == pytest.approx(100 * 2 * 3 / 7)
    assert found["rouge2"] == pytest.approx(100 * 2 * 2 / 5)
    assert found["rougeL"] == found["rougeLsum"] == found["rouge1"]
    assert text_metrics.summarization(["cats running"], ["cat runs"])["rouge1"] == 100
    assert text_metrics.summarization(["cats running"], ["cat runs"], stemmer=False)["rouge1"] == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\r"])
def test_sentences_on_lines_of_their_own_may_change_places(end):
    said, right = f"b c d{end}a x", f"a x{end}b c d"
    found = text_metrics.summarization([said], [right])
    assert found["rougeLsum"] == 100
    assert found["rougeL"] == pytest.approx(60)


def test_of_several_summaries_the_best_counts_and_an_empty_one_scores_nothing():
    found = text_metrics.summarization(["a cat", ""], [["a dog", "a cat"], "a cow"])
    assert found == {"rouge1": 50, "rouge2": 50, "rougeL": 50, "rougeLsum": 50}


def test_rouge_in_other_alphabets_needs_words():
    said = ["мама мыла раму"]
    assert text_metrics.summarization(said, said)["rouge1"] == 0
    assert text_metrics.summarization(said, said, words=str.split)["rouge1"] == 100


@pytest.mark.parametrize(
    ("measure", "predictions", "references"),
    [
        (metrics.text_classification, [], []),
        (metrics.text_classification, [0, 1], [0]),
        (metrics.text_classification, [[0.3], [0.2]], [0, 1]),
        (metrics.text_classification, [[0.3, 0.1]], [2]),
        (metrics.text_classification, [0.3, 0.2], [0, 1]),
        (metrics.multi_label_classification, [[1.0, 0]], [[1, 0], [0, 1]]),
        (metrics.regression, [], []),
        (metrics.token_classification, [[1, 2]], [[1, 2]]),
        (metrics.token_classification, [["O"]], [["O", "O"]]),
        (metrics.token_classification, [], []),
        (metrics.sentence_similarity, [1.0, 2.0], [1.0]),
        (metrics.retrieval, [[1.0, 0.5]], [2]),
        (metrics.retrieval, [[1.0, 0.5]], [[]]),
        (metrics.retrieval, np.zeros((0, 3)), []),
        (metrics.preference, [], []),
        (text_metrics.question_answering, [], []),
        (text_metrics.question_answering, ["a"], []),
        (text_metrics.translation, "a text", ["a text"]),
        (text_metrics.summarization, [], []),
    ],
)
def test_what_cannot_be_scored_is_refused(measure, predictions, references):
    with pytest.raises(InvalidInput):
        measure(predictions, references)


def test_a_label_without_a_name_is_refused():
    with pytest.raises(InvalidInput, match="label 9"):
        metrics.token_classification([[0, 1]], [[0, 9]], NAMES)
    with pytest.raises(InvalidInput, match="-100"):
        metrics.token_classification([[0]], [[-100]], NAMES)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("sklearn.metrics", lambda: metrics.text_classification([0], [0])),
        ("scipy.stats", lambda: metrics.regression([0.0], [0.0])),
        ("seqeval.metrics", lambda: metrics.token_classification([["B-A"]], [["B-A"]])),
        ("sacrebleu.metrics.bleu", lambda: text_metrics.translation(["a"], ["a"])),
        ("rouge_score.rouge_scorer", lambda: text_metrics.summarization(["a"], ["a"])),
    ],
)
def test_a_library_that_is_not_there_is_an_error_that_says_how_to_get_it(monkeypatch, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedOption, match=r'python -m pip install "multihead\[train\]"'):
        call()
