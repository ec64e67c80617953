"""Metrics of classification, regression, similarity, retrieval, preferences and language modelling.

Each function takes predictions and references and returns `{name: value}`. Accuracy, F1, precision, recall and MRR are
in 0..1, correlations in -1..1. `text_metrics` has the metrics of generated text, in 0..100. An undefined value, such
as the correlation with a constant, is NaN.

A Trainer takes any of these functions:

    def compute_metrics(evaluation):
        return metrics.text_classification(evaluation.predictions, evaluation.label_ids)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InvalidInput
from ..optional_packages import optional

Scores = dict[str, float]
IGNORED = -100  # label of tokens that are not scored
ENTITY_PREFIXES = ("B-", "I-", "E-", "S-")


@dataclass
class EvalPrediction:
    """Argument of `compute_metrics`; unpacks as `predictions, labels = evaluation`.

    Args:
        predictions: scores of all rows: an array, or a tuple of arrays.
        label_ids: labels.
        inputs: (rows, tokens), input ids, if `include_for_metrics` contains "inputs".
        losses: (rows,), mean loss of the batch of each row, if `include_for_metrics` contains "loss".
    """

    predictions: Any
    label_ids: Any
    inputs: Any = None
    losses: Any = None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._elements())

    def __getitem__(self, index: int) -> Any:
        elements = self._elements()
        if not 0 <= index < len(elements):
            raise IndexError(f"an evaluation of {len(elements)} parts has no part {index}")
        return elements[index]

    def _elements(self) -> tuple[Any, ...]:
        extra = tuple(part for part in (self.inputs, self.losses) if part is not None)
        return (self.predictions, self.label_ids, *extra)


def text_classification(predictions: Any, references: Any) -> Scores:
    """Compute accuracy and F1 of one label a text, and Matthews' correlation for two labels.

    Args:
        predictions: scores `(texts, labels)`, or labels `(texts,)`.
        references: labels `(texts,)`.

    Returns:
        `accuracy`, `f1` (of label 1 if labels are 0 and 1, else the mean over labels that occur), and
        `matthews_correlation` for two labels.
    """
    scores, expected = _array(predictions), _array(references).reshape(-1)
    width = scores.shape[1] if scores.ndim == 2 else 0
    predicted = scores.argmax(1) if width else scores.reshape(-1)
    _check_pairs(predicted, expected)
    if width == 1 or any((side % 1 != 0).any() for side in (predicted, expected)):
        raise InvalidInput("One number a text is no label; use regression() for numbers.")
    if width and not ((expected >= 0) & (expected < width)).all():
        raise InvalidInput(
            f"References are in {expected.min()}..{expected.max()}, and there are scores of {width} labels."
        )
    two = width == 2 or (not width and set(np.unique([predicted, expected]).tolist()) <= {0, 1})
    learn = _sklearn("text classification")
    result = {
        "accuracy": float(np.mean(predicted == expected)),
        "f1": float(learn.f1_score(expected, predicted, average="binary" if two else "macro", zero_division=0)),
    }
    if two:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one label only: 0 by definition
            result["matthews_correlation"] = float(learn.matthews_corrcoef(expected, predicted))
    return result


def multi_label_classification(predictions: Any, references: Any, threshold: float = 0.5) -> Scores:
    """Compute F1 and exact match of several labels a text.

    Args:
        predictions: logits `(texts, labels)`.
        references: 0 or 1, `(texts, labels)`.
        threshold: smallest probability of a predicted label.

    Returns:
        `f1_micro`, `f1_macro` (a label that neither side has counts 0), and `accuracy`: share of texts whose labels all
        agree.
    """
    scores, expected = _array(predictions), _array(references)
    _check_pairs(scores, expected)
    cut = math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.nan
    if math.isnan(cut) or scores.ndim != 2:
        raise InvalidInput(
            f"Multi-label metrics need scores (texts, labels) and a threshold between 0 and 1, not scores of shape "
            f"{list(scores.shape)} and threshold {threshold}."
        )
    predicted, expected = scores >= cut, expected > 0.5
    learn = _sklearn("multi-label classification")
    labels = [1] if expected.shape[1] == 1 else None  # sklearn reads a single column as two classes
    return {
        "f1_micro": float(learn.f1_score(expected, predicted, labels=labels, average="micro", zero_division=0)),
        "f1_macro": float(learn.f1_score(expected, predicted, labels=labels, average="macro", zero_division=0)),
        "accuracy": float(np.mean((predicted == expected).all(1))),
    }


def regression(predictions: Any, references: Any) -> Scores:
    """Compute correlations and mean squared error of one number a text.

    Args:
        predictions, references: `(texts,)` or `(texts, 1)`.

    Returns:
        `pearson`, `spearman`, `mse`.
    """
    predicted, expected = _array(predictions).reshape(-1), _array(references).reshape(-1)
    _check_pairs(predicted, expected)
    return {**_correlations(predicted, expected), "mse": float(np.mean((predicted - expected) ** 2))}


def token_classification(
    predictions: Any, references: Any, labels: Mapping[int, str] | Sequence[str] | None = None
) -> Scores:
    """Compute precision, recall and F1 of whole entities, and accuracy of tokens (seqeval, which follows conlleval).

    An entity is correct if its type, first and last token are correct. Labels are in IOB2: `B-PER`, `I-PER`, `O`.

    Args:
        predictions: scores `(texts, length, labels)`, label numbers `(texts, length)`, or lists of names.
        references: label numbers, -100 for tokens that are not scored; or lists of names.
        labels: name of each number, `config.id2label`; not needed for lists of names.

    Returns:
        `precision`, `recall`, `f1` and `accuracy`; only `accuracy` if no label is of IOB2 (parts of speech).
    """
    if labels is not None:
        predicted, expected = _label_names(predictions, references, labels)
    else:
        predicted, expected = [list(row) for row in predictions], [list(row) for row in references]
    lengths = [(len(a), len(b)) for a, b in zip(predicted, expected, strict=False)]
    if len(predicted) != len(expected) or any(a != b for a, b in lengths):
        raise InvalidInput("Token classification needs as many predicted labels as there are references, row by row.")
    pairs = [(a, b) for row in zip(predicted, expected, strict=True) for a, b in zip(*row, strict=True)]
    if not pairs:
        raise InvalidInput("There is no token to score: every reference is -100, or there are no rows.")
    if not all(isinstance(name, str) for pair in pairs for name in pair):
        raise InvalidInput("Labels are numbers; pass labels=model.config.id2label, which names them.")
    accuracy = {"accuracy": sum(a == b for a, b in pairs) / len(pairs)}
    names = set(labels.values() if isinstance(labels, Mapping) else labels or ()) | {n for pair in pairs for n in pair}
    if not any(name.startswith(ENTITY_PREFIXES) for name in names):
        return accuracy if names != {"O"} else {"precision": 0.0, "recall": 0.0, "f1": 0.0, **accuracy}
    seqeval = optional("seqeval.metrics", "seqeval", "scoring token classification")
    kinds = ("precision", "recall", "f1")
    return {k: float(getattr(seqeval, f"{k}_score")(expected, predicted, zero_division=0)) for k in kinds} | accuracy


def sentence_similarity(predictions: Any, references: Any) -> Scores:
    """Compute correlations of cosine similarities with reference scores.

    Args:
        predictions: cosines `(pairs,)`, or vectors of both sides `(2, pairs, width)`.
        references: `(pairs,)`.

    Returns:
        `pearson` and `spearman` of the cosines.
    """
    predicted, expected = _array(predictions), _array(references).reshape(-1)
    if predicted.ndim == 3 and len(predicted) == 2:
        lengths = np.linalg.norm(predicted, axis=-1)
        predicted = (predicted[0] * predicted[1]).sum(-1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    _check_pairs(predicted, expected)
    return _correlations(predicted, expected)


def retrieval(predictions: Any, references: Sequence[int | Iterable[int]], k: int = 10) -> Scores:
    """Compute the rank of the relevant document of each query.

    Args:
        predictions: similarities `(queries, documents)`. Ties count against the query.
        references: number of the relevant document of each query, or several numbers, of which the best counts.

    Returns:
        `accuracy@1`, and `mrr@10`: the mean of 1 / rank, 0 beyond rank `k`.
    """
    scores = _array(predictions)
    if scores.ndim != 2 or len(scores) != len(references) or not len(scores):
        raise InvalidInput(
            f"Retrieval needs scores (queries, documents) and a reference for each query, not scores of shape "
            f"{list(scores.shape)} and {len(references)} references."
        )
    ranks = []
    for row, right in zip(scores, references, strict=True):
        relevant = [int(number) for number in (right if isinstance(right, Iterable) else [right])]
        if not relevant or not all(0 <= number < len(row) for number in relevant):
            raise InvalidInput(f"A query's right documents are {relevant}; there are documents 0 to {len(row) - 1}.")
        others = np.delete(row, relevant)
        ranks.append(1 + int((~(others < row[relevant].max())).sum()))
    return {
        "accuracy@1": float(np.mean([rank == 1 for rank in ranks])),
        f"mrr@{k}": float(np.mean([1 / rank if rank <= k else 0.0 for rank in ranks])),
    }


def preference(chosen: Any, rejected: Any) -> Scores:
    """Compute how often the chosen answer has the higher reward.

    Args:
        chosen, rejected: rewards `(pairs,)`. Ties count as wrong.

    Returns:
        `accuracy`, and `margin`: the mean difference of rewards.
    """
    more, less = _array(chosen).reshape(-1), _array(rejected).reshape(-1)
    _check_pairs(more, less)
    return {"accuracy": float(np.mean(more > less)), "margin": float(np.mean(more - less))}


def language_modeling(loss: float, tokens: int) -> Scores:
    """Compute the loss a token and the perplexity of a masked or causal language model.

    Args:
        loss: negative log-likelihood in nats, summed over all scored tokens.
        tokens: number of scored tokens.

    Returns:
        `loss` and `perplexity`, which is infinite if it exceeds a float.
    """
    if tokens < 1:
        raise InvalidInput("Perplexity is a mean over tokens, and no token was scored.")
    mean = float(loss) / int(tokens)
    try:
        return {"loss": mean, "perplexity": math.exp(mean)}
    except OverflowError:
        return {"loss": mean, "perplexity": math.inf}


def _array(values: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Return numbers of numpy, torch (any device and precision) or lists as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInput("Rows of unequal lengths cannot be compared; pad them with -100.") from error
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _check_pairs(predicted: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """Raise InvalidInput unless there is one reference for each prediction, and at least one prediction."""
    if predicted.shape != expected.shape:
        raise InvalidInput(
            f"Predictions of shape {list(predicted.shape)} and references of {list(expected.shape)} differ."
        )
    if not predicted.size:
        raise InvalidInput("There is no row to score.")


def _sklearn(purpose: str) -> Any:
    return optional("sklearn.metrics", "scikit-learn", f"scoring {purpose}")


def _correlations(predicted: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> Scores:
    stats = optional("scipy.stats", "scipy", "a correlation")
    if any(len(np.unique(side)) < 2 or not np.isfinite(side).all() for side in (predicted, expected)):
        return {"pearson": math.nan, "spearman": math.nan}
    return {
        "pearson": float(stats.pearsonr(predicted, expected)[0]),
        "spearman": float(stats.spearmanr(predicted, expected)[0]),
    }


def _label_names(
    predictions: Any, references: Any, labels: Mapping[int, str] | Sequence[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """Return the predicted and the reference names of the scored tokens of each row."""
    predicted, expected = _array(predictions), _array(references)
    predicted = predicted.argmax(-1) if predicted.ndim == 3 else predicted
    if predicted.shape != expected.shape:
        raise InvalidInput(
            f"Predictions of shape {list(predicted.shape)} and references of {list(expected.shape)} differ."
        )
    names = {int(k): v for k, v in (labels.items() if isinstance(labels, Mapping) else enumerate(labels))}
    if unknown := set(np.unique(expected).tolist()) - set(names) - {IGNORED}:
        raise InvalidInput(f"References have label {min(unknown)}, and there are {len(names)} labels.")
    keep = expected != IGNORED
    rows = [(a[k], b[k]) for a, b, k in zip(predicted, expected, keep, strict=True)]
    return [[names[int(i)] for i in a] for a, _ in rows], [[names[int(i)] for i in b] for _, b in rows]
