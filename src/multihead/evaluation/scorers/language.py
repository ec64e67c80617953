"""Scorers of text-generation (perplexity, repetition) and fill-mask (rank of the right word, pseudo-perplexity)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ...errors import InvalidInput, MultiheadError
from ...generation.checks import check_one_by_one
from ...nn.modes import evaluating
from ...pipelines.answers import Failure
from ...pipelines.base import Pipeline, too_long
from ...training.data.columns import find_column, require_column, require_text
from ...training.data.source import Row
from ...training.evaluation.text_metrics import repetition
from ..measures import UNIT, Array, Mean, Measure, OfSums, divide, means
from .base import Case, ScoredCases, Scorer
from .generated import generated_text

TEXT = ("text", "sentence", "content", "document")
PROMPT = ("prompt", "question", "instruction", "input")
COMPLETION = ("completion", "response", "answer", "output", "target")
TARGET = ("target", "label", "answer", "word")
INFINITE = (0.0, math.inf)
MASKED = 64  # masked copies of a text in one pass


class Likelihood(NamedTuple):
    """Negative log-likelihood of a text in nats, and the numbers of its scored tokens and of its bytes."""

    nats: float
    tokens: int
    bytes: int


class LanguageScorer(Scorer):
    """Scores a language model by the perplexity of texts, or of completions of prompts.

    Rows that have a prompt alone are continued, and the repetition of what the model writes is measured.
    """

    keys = ("text", "prompt", "completion")

    def prepare(self) -> None:
        self.text_column = find_column(self.rows, self.columns.get("text"), TEXT, "text_column")
        self.prompt = find_column(self.rows, self.columns.get("prompt"), PROMPT, "prompt_column")
        self.completion = find_column(self.rows, self.columns.get("completion"), COMPLETION, "completion_column")
        if self.prompt is None:
            self.text_column = require_column(self.rows, self.columns.get("text"), TEXT, "text_column")
        self.generates = self.prompt is not None and self.completion is None
        check_one_by_one(self.pipe.model, perplexity=not self.generates)

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        if self.prompt is None:
            return require_text(self.rows, number, row, self.text_column or ""), None
        prompt = require_text(self.rows, number, row, self.prompt)
        if self.completion is None:
            return prompt, None
        return (prompt, require_text(self.rows, number, row, self.completion)), None

    def text(self, case: Case) -> str:
        return case.input if isinstance(case.input, str) else " → ".join(case.input)

    def answers(self, inputs: Sequence[Any]) -> Iterator[Any]:
        if self.generates:
            self.options["return_full_text"] = False
            return super().answers(inputs)
        return (likelihood_or_failure(self.pipe, number, item) for number, item in enumerate(inputs))

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        if not self.generates:
            return score_likelihoods([case.answer for case in cases])
        texts = [generated_text(case.answer, case.input) for case in cases]
        repeated = np.array([repetition(text) for text in texts])
        words = np.array([len(text.split()) for text in texts], dtype=float)
        measures: list[Measure] = [
            Mean("repetition_4", bounds=UNIT, rows=repeated), Mean("words", bounds=INFINITE, rows=words)
        ]  # fmt: skip
        return ScoredCases(
            measures, np.where(repeated > 0, repeated, np.nan), [""] * len(cases), [text or "(empty)" for text in texts]
        )


def likelihood_or_failure(pipe: Pipeline, number: int, item: str | tuple[str, str]) -> Any:
    """Return the likelihood of a text, or of a completion after its prompt; a failure where there is none."""
    try:
        return likelihood(pipe, item) if isinstance(item, str) else likelihood(pipe, *item)
    except MultiheadError as error:
        return Failure(number, error)


def likelihood(pipe: Pipeline, text: str, completion: str | None = None) -> Likelihood:
    """Return the likelihood of a text, or of a completion after a prompt.

    A longer text than the model reads is cut into windows that share half of their tokens; each token is scored once,
    with at least half a window before it.
    """
    ids = pipe.tokenizer.encode_ids([text + (completion or "")])[0]
    start = 1 if completion is None else max(1, shared_prefix(ids, pipe.tokenizer.encode_ids([text])[0]))
    if start >= len(ids):
        raise InvalidInput("has no token that follows another, so that there is nothing to score.")
    context = getattr(pipe, "context_length", None) or len(ids)
    first, begin, nats = start, max(start - context // 2, 0) if start >= context else 0, 0.0
    while first < len(ids):
        end = min(begin + context, len(ids))
        own = ids[begin:end]
        with torch.inference_mode(), evaluating(pipe.model):
            at = list(range(first - 1 - begin, len(own) - 1))
            scores = pipe.model.run([own], at=at).scores.float().log_softmax(-1)
        targets = torch.tensor(own[first - begin :], device=scores.device)
        nats -= float(scores.gather(-1, targets[:, None]).sum())
        first, begin = end, max(end - context // 2, 0)
    if not math.isfinite(nats):
        raise InvalidInput("has a likelihood that is not a finite number. Check the checkpoint's weights.")
    return Likelihood(nats, len(ids) - start, len((text if completion is None else completion).encode()))


def shared_prefix(ids: Sequence[int], others: Sequence[int]) -> int:
    """Return the number of first ids that two lists share."""
    return next((n for n, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), min(len(ids), len(others)))


def score_likelihoods(rows: Sequence[Likelihood | None]) -> ScoredCases:
    """Score texts by perplexity and by bits a byte, which does not depend on the tokenizer."""
    statistics = np.array([(0.0, 0.0, 0.0) if row is None else row for row in rows], dtype=float)
    measures: list[Measure] = [
        OfSums("perplexity", bounds=INFINITE, statistics=statistics, function=perplexity),
        OfSums("bits_per_byte", bounds=INFINITE, statistics=statistics, function=bits_per_byte),
    ]
    loss = divide(statistics[:, 0], statistics[:, 1])
    shown = ["(failed)" if np.isnan(nats) else f"{math.exp(min(nats, 700)):.4g} a token" for nats in loss]
    return ScoredCases(measures, loss, [""] * len(rows), shown)


def perplexity(sums: Array) -> Array:
    """Return the exponential of the loss a token."""
    with np.errstate(over="ignore"):
        return np.exp(divide(sums[:, 0], sums[:, 1]))


def bits_per_byte(sums: Array) -> Array:
    """Return the loss a byte in bits."""
    return divide(sums[:, 0] / math.log(2), sums[:, 2])


class MaskScorer(Scorer):
    """Scores a masked language model by the rank of the right word of each mask.

    Without a column of right words, texts are scored by pseudo-perplexity: each token is masked in turn (Salazar et
    al., 2020, arXiv:1910.14659).
    """

    keys = ("text", "target")

    def prepare(self) -> None:
        self.text_column = require_column(self.rows, self.columns.get("text"), TEXT, "text_column")
        self.target = find_column(self.rows, self.columns.get("target"), TARGET, "target_column")
        if self.target is not None:
            self.options.setdefault("top_k", 10)

    def read(self, number: int, row: Row) -> tuple[Any, Any]:
        text = require_text(self.rows, number, row, self.text_column)
        if self.target is None:
            return text, None
        mask = self.pipe.mask[0]  # type: ignore[attr-defined]
        if (text or "").count(mask) != 1:
            raise InvalidInput(f"{self.rows.subject(number)} must have one {mask} in {self.text_column}.")
        return text, require_text(self.rows, number, row, self.target)

    def answers(self, inputs: Sequence[Any]) -> Iterator[Any]:
        if self.target is not None:
            return super().answers(inputs)
        return (pseudo_likelihood(self.pipe, number, text) for number, text in enumerate(inputs))

    def score(self, cases: Sequence[Case]) -> ScoredCases:
        if self.target is None:
            scored = score_likelihoods([case.answer for case in cases])
            scored.measures = [
                OfSums(
                    "pseudo_perplexity", bounds=INFINITE, statistics=scored.measures[0].statistics,  # type: ignore[attr-defined]
                    function=perplexity,
                )
            ]  # fmt: skip
            return scored
        ranks = np.array([word_rank(case.answer, case.reference) for case in cases])
        best = ["(failed)" if case.answer is None else str(case.answer[0]["token_str"]).strip() for case in cases]
        sure = np.array([np.nan if case.answer is None else case.answer[0]["score"] for case in cases], dtype=float)
        measures = means(
            1.0, **{"accuracy": ranks == 1, "accuracy@5": ranks <= 5, "mrr@10": np.where(ranks <= 10, 1 / ranks, 0.0)}
        )
        return ScoredCases(
            measures, np.where(ranks == 1, np.nan, np.nan_to_num(sure)), [case.reference for case in cases], best,
            (ranks == 1).astype(float), sure,
        )  # fmt: skip


def word_rank(answer: Any, right: str) -> float:
    """Return the rank of the right word among the suggestions, infinite if it is none of them."""
    words = [str(row["token_str"]).strip() for row in answer or ()]
    return float(words.index(right.strip()) + 1) if right.strip() in words else math.inf


def pseudo_likelihood(pipe: Any, number: int, text: str) -> Any:
    """Return the pseudo-likelihood of a text under a masked language model, or its failure."""
    encoding = pipe.tokenizer.run([text], words=False, special=True, limits=None)[0]
    ids, mask = list(encoding.ids), pipe.mask[1]
    if (error := too_long(len(ids), pipe.max_positions)) is not None:
        return Failure(number, error)
    places = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    nats = 0.0
    for begin in range(0, len(places), MASKED):
        own = places[begin : begin + MASKED]
        copies = [[*ids[:place], mask, *ids[place + 1 :]] for place in own]
        at = [n * len(ids) + place for n, place in enumerate(own)]
        with torch.inference_mode(), evaluating(pipe.model):
            scores = pipe.model.run(copies, at=at).scores.float().log_softmax(-1)
        nats -= float(scores[range(len(own)), [ids[place] for place in own]].sum())
    if not places or not math.isfinite(nats):
        return Failure(number, InvalidInput("has no tokens whose likelihood is a finite number."))
    return Likelihood(nats, len(places), len(text.encode()))
