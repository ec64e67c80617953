"""How good a model's answers are, in the measures of each task: labels, numbers, vectors, rankings, preferences.

A function a task: predictions and references in, `{name: value}` out. Shares (accuracy, F1, precision, recall, MRR)
lie in 0..1, correlations in -1..1. Text that is written has its own file, `text_metrics.py`, and the scales of its
field. A value that is not defined (a correlation with a constant) is NaN.

A Trainer takes any of them:

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
IGNORED = -100  # the label of what is not scored
ENTITY = ("B-", "I-", "E-", "S-")


@dataclass
class EvalPrediction:
    """What `compute_metrics` gets of an evaluation; unpacks as `predictions, labels = evaluation`.

    Args:
        predictions: what the model said of every row: an array, or a tuple of them.
        label_ids: what was to be said.
        inputs: (rows, tokens), the ids that the model read, where `include_for_metrics` asks for "inputs".
        losses: (rows,), of each row the mean loss of its batch, where it asks for "loss".
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
    """Accuracy and F1 of one label a text; Matthews' correlation too for two labels.

    Args:
        predictions: scores `(texts, labels)`, or labels `(texts,)`.
        references: labels `(texts,)`.

    Returns:
        `accuracy`, `f1` (of label 1 where labels are 0 and 1, else the mean over labels that occur), and
        `matthews_correlation` for two labels.
    """
    scores, wanted = _array(predictions), _array(references).reshape(-1)
    width = scores.shape[1] if scores.ndim == 2 else 0
    found = scores.argmax(1) if width else scores.reshape(-1)
    _paired(found, wanted)
    if width == 1 or any((side % 1 != 0).any() for side in (found, wanted)):
        raise InvalidInput("One number a text is no choice of a label; regression() compares numbers.")
    if width and not ((wanted >= 0) & (wanted < width)).all():
        raise InvalidInput(f"References lie in {wanted.min()}..{wanted.max()}, and there are scores of {width} labels.")
    two = width == 2 or (not width and set(np.unique([found, wanted]).tolist()) <= {0, 1})
    learn = _learn("text classification")
    result = {
        "accuracy": float(np.mean(found == wanted)),
        "f1": float(learn.f1_score(wanted, found, average="binary" if two else "macro", zero_division=0)),
    }
    if two:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one label only: 0 by definition
            result["matthews_correlation"] = float(learn.matthews_corrcoef(wanted, found))
    return result


def multi_label_classification(predictions: Any, references: Any, threshold: float = 0.5) -> Scores:
    """F1 and exact agreement of any number of labels a text.

    Args:
        predictions: scores before the sigmoid (logits), `(texts, labels)`.
        references: 0 or 1, `(texts, labels)`.
        threshold: the least probability with which a label is given.

    Returns:
        `f1_micro`, `f1_macro` (a label that neither side has counts 0), and `accuracy`: texts whose labels all agree.
    """
    scores, wanted = _array(predictions), _array(references)
    _paired(scores, wanted)
    cut = math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.nan
    if math.isnan(cut) or scores.ndim != 2:
        raise InvalidInput(
            f"Labels are given by scores (texts, labels) and a threshold between 0 and 1, not by scores of shape "
            f"{list(scores.shape)} and threshold {threshold}."
        )
    found, wanted = scores >= cut, wanted > 0.5
    learn = _learn("multi-label classification")
    judged = [1] if wanted.shape[1] == 1 else None  # sklearn takes a single column for two classes
    return {
        "f1_micro": float(learn.f1_score(wanted, found, labels=judged, average="micro", zero_division=0)),
        "f1_macro": float(learn.f1_score(wanted, found, labels=judged, average="macro", zero_division=0)),
        "accuracy": float(np.mean((found == wanted).all(1))),
    }


def regression(predictions: Any, references: Any) -> Scores:
    """Correlations and squared error of a number a text.

    Args:
        predictions, references: `(texts,)` or `(texts, 1)`.

    Returns:
        `pearson`, `spearman`, `mse`.
    """
    found, wanted = _array(predictions).reshape(-1), _array(references).reshape(-1)
    _paired(found, wanted)
    return {**_correlations(found, wanted), "mse": float(np.mean((found - wanted) ** 2))}


def token_classification(
    predictions: Any, references: Any, labels: Mapping[int, str] | Sequence[str] | None = None
) -> Scores:
    """Precision, recall and F1 of whole entities, accuracy of tokens (seqeval, as conlleval counts).

    An entity is right when its kind, first and last token are. Labels are in IOB2: `B-PER`, `I-PER`, `O`. Where no
    label is of that form (parts of speech), only `accuracy` is there.

    Args:
        predictions: scores `(texts, length, labels)`, numbers of labels `(texts, length)`, or lists of names.
        references: numbers of labels, -100 where a token is not scored; or lists of names.
        labels: the name of each number, `config.id2label`; not needed for lists of names.

    Returns:
        `precision`, `recall`, `f1`, `accuracy`.
    """
    if labels is not None:
        found, wanted = _named(predictions, references, labels)
    else:
        found, wanted = [list(row) for row in predictions], [list(row) for row in references]
    lengths = [(len(a), len(b)) for a, b in zip(found, wanted, strict=False)]
    if len(found) != len(wanted) or any(a != b for a, b in lengths):
        raise InvalidInput("Token classification needs as many predicted labels as there are references, row by row.")
    pairs = [(a, b) for row in zip(found, wanted, strict=True) for a, b in zip(*row, strict=True)]
    if not pairs:
        raise InvalidInput("There is no token to score: every reference is -100, or there are no rows.")
    if not all(isinstance(name, str) for pair in pairs for name in pair):
        raise InvalidInput("Labels are numbers; pass labels=model.config.id2label, which names them.")
    accuracy = {"accuracy": sum(a == b for a, b in pairs) / len(pairs)}
    names = set(labels.values() if isinstance(labels, Mapping) else labels or ()) | {n for pair in pairs for n in pair}
    if not any(name.startswith(ENTITY) for name in names):
        return accuracy if names != {"O"} else {"precision": 0.0, "recall": 0.0, "f1": 0.0, **accuracy}
    seqeval = optional("seqeval.metrics", "seqeval", "scoring token classification")
    kinds = ("precision", "recall", "f1")
    return {k: float(getattr(seqeval, f"{k}_score")(wanted, found, zero_division=0)) for k in kinds} | accuracy


def sentence_similarity(predictions: Any, references: Any) -> Scores:
    """How similarities follow those that people gave.

    Args:
        predictions: cosines `(pairs,)`, or vectors of both sides `(2, pairs, width)`.
        references: `(pairs,)`.

    Returns:
        `pearson` and `spearman` of the cosines.
    """
    found, wanted = _array(predictions), _array(references).reshape(-1)
    if found.ndim == 3 and len(found) == 2:
        lengths = np.linalg.norm(found, axis=-1)
        found = (found[0] * found[1]).sum(-1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    _paired(found, wanted)
    return _correlations(found, wanted)


def retrieval(predictions: Any, references: Sequence[int | Iterable[int]], k: int = 10) -> Scores:
    """Where the right document stands among all, for each query.

    Args:
        predictions: similarities `(queries, documents)`. Equal ones count against the query.
        references: for each query the right document's place, or several, of which the best one counts.

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
        places = [int(place) for place in (right if isinstance(right, Iterable) else [right])]
        if not places or not all(0 <= place < len(row) for place in places):
            raise InvalidInput(f"A query's right documents are {places}; there are documents 0 to {len(row) - 1}.")
        others = np.delete(row, places)
        ranks.append(1 + int((~(others < row[places].max())).sum()))
    return {
        "accuracy@1": float(np.mean([rank == 1 for rank in ranks])),
        f"mrr@{k}": float(np.mean([1 / rank if rank <= k else 0.0 for rank in ranks])),
    }


def preference(chosen: Any, rejected: Any) -> Scores:
    """Whether the chosen answer is rewarded more than the rejected one.

    Args:
        chosen, rejected: rewards `(pairs,)`. Equal ones count as wrong.

    Returns:
        `accuracy`, and `margin`: the mean difference of rewards.
    """
    more, less = _array(chosen).reshape(-1), _array(rejected).reshape(-1)
    _paired(more, less)
    return {"accuracy": float(np.mean(more > less)), "margin": float(np.mean(more - less))}


def language_modeling(loss: float, tokens: int) -> Scores:
    """Loss a token and its exponential, of masked and causal language models.

    Args:
        loss: negative log-likelihood in nats, summed over all scored tokens.
        tokens: their number.

    Returns:
        `loss` and `perplexity`, which is infinite where it is too large for a float.
    """
    if tokens < 1:
        raise InvalidInput("Perplexity is a mean over tokens, and none was scored.")
    mean = float(loss) / int(tokens)
    try:
        return {"loss": mean, "perplexity": math.exp(mean)}
    except OverflowError:
        return {"loss": mean, "perplexity": math.inf}


def _array(values: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers as a numpy array, from numpy, torch (any device, any precision) or lists."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInput("Rows of different lengths cannot be compared; pad them with -100.") from error
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _paired(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    """Raises InvalidInput unless there is one reference for each prediction, and at least one."""
    if found.shape != wanted.shape:
        raise InvalidInput(f"Predictions of shape {list(found.shape)} and references of {list(wanted.shape)} differ.")
    if not found.size:
        raise InvalidInput("There is no row to score.")


def _learn(purpose: str) -> Any:
    return optional("sklearn.metrics", "scikit-learn", f"scoring {purpose}")


def _correlations(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> Scores:
    stats = optional("scipy.stats", "scipy", "a correlation")
    if any(len(np.unique(side)) < 2 or not np.isfinite(side).all() for side in (found, wanted)):
        return {"pearson": math.nan, "spearman": math.nan}
    return {"pearson": float(stats.pearsonr(found, wanted)[0]), "spearman": float(stats.spearmanr(found, wanted)[0])}


def _named(
    predictions: Any, references: Any, labels: Mapping[int, str] | Sequence[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """Names of the labels at the tokens that are scored."""
    found, wanted = _array(predictions), _array(references)
    found = found.argmax(-1) if found.ndim == 3 else found
    if found.shape != wanted.shape:
        raise InvalidInput(f"Predictions of shape {list(found.shape)} and references of {list(wanted.shape)} differ.")
    names = {int(k): v for k, v in (labels.items() if isinstance(labels, Mapping) else enumerate(labels))}
    if unknown := set(np.unique(wanted).tolist()) - set(names) - {IGNORED}:
        raise InvalidInput(f"References have label {min(unknown)}, and there are {len(names)} labels.")
    keep = wanted != IGNORED
    rows = [(a[k], b[k]) for a, b, k in zip(found, wanted, keep, strict=True)]
    return [[names[int(i)] for i in a] for a, _ in rows], [[names[int(i)] for i in b] for _, b in rows]
