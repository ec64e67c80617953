"""Attribution methods: gradient x input, integrated gradients, leave-one-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from ..nn.modes import evaluating
from ..pipelines.base import Pipeline
from .inputs import ExplainedInput
from .targets import SpanTarget, TokenTarget

PARTS, NODES = 4, 8  # parts of the line of integrated gradients at first, and points of each
MOST_STEPS = 1024
TOLERANCE = 0.02  # of completeness: share of the score difference
FLOOR = 1e-3  # score difference below which no share is meaningful
PER_PASS = 1024  # tokens of a pass, whose activations are kept for the gradient
BASELINES = ("mask", "pad", "eos", "zero")


@dataclass(frozen=True)
class Attributions:
    """Values of the tokens.

    Args:
        values: (tokens,), what each token adds to the score. score: of the input. baseline: score without its tokens;
            None for methods without a baseline. steps: points of the path. error: score - baseline - sum of values.
    """

    values: Tensor
    score: float
    baseline: float | None = None
    steps: int = 0
    error: float = 0.0


class Scorer:
    """Scores of a model for changed inputs: by embeddings, with gradients, or by token ids.

    Args:
        pipe: the pipeline. source: the input. baseline: one of `BASELINES`, or None.
    """

    def __init__(self, pipe: Pipeline, source: ExplainedInput, baseline: str | None) -> None:
        self.pipe, self.model, self.source, self.baseline = pipe, pipe.model, source, baseline
        if baseline not in (None, *BASELINES):
            raise UnsupportedOption(f"baseline is one of {', '.join(BASELINES)}, not {baseline!r}.")
        if baseline not in (None, "zero") and self.known_tokens.get(str(baseline)) is None:
            raise UnsupportedOption(f"The tokenizer has no {baseline} token, which baseline={baseline!r} needs.")

    @property
    def known_tokens(self) -> dict[str, int | None]:
        """Tokens that may stand for an absent one, the first choice first."""
        tokenizer = self.pipe.tokenizer
        return {"mask": tokenizer.mask_token_id, "pad": tokenizer.pad_token_id, "eos": tokenizer.eos_token_id}

    @property
    def baseline_token(self) -> int | None:
        """The token whose embedding is the baseline; None for zeros.

        Zeros are the last choice: a model that normalizes its embeddings reads a scaled embedding as the embedding, so
        that its score jumps at 0 and no path leads there.
        """
        if self.baseline is not None:
            return self.known_tokens.get(self.baseline)
        return next((token for token in self.known_tokens.values() if token is not None), None)

    @property
    def placeholder(self) -> int | None:
        """The token in the place of one that is left out; None to remove it."""
        return self.known_tokens["mask"] if self.baseline is None else self.known_tokens.get(self.baseline)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of the tokens and of the baseline (tokens, width). Special tokens are in both."""
        table = self.model.get_input_embeddings()
        ids = torch.tensor(list(self.source.ids), device=self.model.device)
        with torch.no_grad():
            own = table(ids).detach().clone()
            base = torch.zeros_like(own)
            if self.baseline_token is not None:
                base = table(torch.full_like(ids, self.baseline_token)).detach().clone()
        kept = torch.tensor([place is None for place in self.source.places], device=own.device)
        return own, torch.where(kept[:, None], own, base)

    def by_embeddings(self, embeddings: Tensor) -> Tensor:
        """Return the scores (inputs,) of embeddings (inputs, tokens, width)."""
        count, length = embeddings.shape[:2]
        extra: dict[str, Any] = {"logits_to_keep": 1} if isinstance(self.source.target, TokenTarget) else {}
        if self.source.types is not None:
            extra["token_type_ids"] = torch.tensor([list(self.source.types)] * count, device=embeddings.device)
        mask = torch.ones(count, length, dtype=torch.long, device=embeddings.device)
        out = self.model(inputs_embeds=embeddings, attention_mask=mask, **extra)
        if isinstance(self.source.target, SpanTarget):
            return self.source.target.score(torch.stack([out.start_logits, out.end_logits], -1).float())
        logits = out.logits.float()
        return self.source.target.score(logits[:, -1] if isinstance(self.source.target, TokenTarget) else logits)

    def gradients(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores (inputs,) and their gradients (inputs, tokens, width).

        Raises:
            UnsupportedOption: the model was prepared, or has no gradient for another reason.
        """
        if getattr(self.model, "prepared", None):
            raise UnsupportedOption(
                f"A model prepared in {self.model.prepared} has no gradients. Load it without precision= (dtype="
                '"float32"), or use method="leave-one-out", which works with every model.'
            )
        with torch.enable_grad(), evaluating(self.model):
            points = embeddings.detach().requires_grad_(True)
            scores = self.by_embeddings(points)
            if not scores.requires_grad:
                raise UnsupportedOption(
                    f"{self.model.name_or_path} computes without gradients (quantized weights). Load it in float32, or "
                    'use method="leave-one-out", which works with every model.'
                )
            (found,) = torch.autograd.grad(scores.sum(), points)
        return scores.detach(), found

    def by_ids(self, inputs: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None) -> Tensor:
        """Return the scores (inputs,) of token ids. All inputs of a span target have the length of the source."""
        found = []
        size = max(1, PER_PASS // max(map(len, inputs)))
        for begin in range(0, len(inputs), size):
            own = [list(ids) for ids in inputs[begin : begin + size]]
            kinds = None if types is None else [list(row) for row in types[begin : begin + size]]
            with torch.inference_mode(), evaluating(self.model):
                found.append(self.source.target.score(self.head_scores(own, kinds)))
        return torch.cat(found).cpu()

    def head_scores(self, inputs: list[list[int]], types: list[list[int]] | None) -> Tensor:
        """Return the scores of the head: (inputs, labels), (inputs, vocabulary) or (inputs, tokens, 2)."""
        if isinstance(self.source.target, TokenTarget):
            ends = np.cumsum([len(ids) for ids in inputs]) - 1
            return self.model.run(inputs, at=ends.tolist()).scores.float()
        scores = self.model.run(inputs, types).scores.float()
        if isinstance(self.source.target, SpanTarget):
            return scores.reshape(len(inputs), -1, 2)
        return scores


def check_finite(score: float, scorer: Scorer) -> float:
    """Return the score. Raises InvalidInput if it is not a finite number."""
    if not np.isfinite(score):
        raise InvalidInput(f"{scorer.model.name_or_path} computed a score that is not a finite number.")
    return score


def gradient_x_input(scorer: Scorer) -> Attributions:
    """Return the gradient of the score times the embedding, summed over its width (arXiv:1605.01713)."""
    own, _ = scorer.embeddings()
    score, gradient = scorer.gradients(own[None])
    return Attributions((gradient[0] * own).sum(-1).float().cpu(), check_finite(float(score[0]), scorer))


def integrated_gradients(scorer: Scorer, steps: int | None = None) -> Attributions:
    """Return integrated gradients along the line from the baseline (Sundararajan et al., 2017, arXiv:1703.01365).

    The integral is computed by Gauss and Legendre's rule. By completeness, the values add up to the difference of the
    scores of the input and of the baseline.

    Args:
        steps: points of the line. None: parts of the line are halved while their sum differs from the difference of
            their own ends, until the whole is complete to `TOLERANCE`, with `MOST_STEPS` points at most.
    """
    own, base = scorer.embeddings()
    line = Line(scorer, own, base)
    start, score = (check_finite(value, scorer) for value in line.scores([0.0, 1.0]))
    if steps is None:
        values, count = adaptive_integral(line, start, score)
    else:
        values, count = line.integral(0.0, 1.0, steps), steps
    return Attributions(values, score, start, count, score - start - float(values.sum()))


@dataclass(frozen=True)
class Line:
    """The line from a baseline (tokens, width), at 0, to the embeddings of an input, at 1."""

    scorer: Scorer
    own: Tensor
    base: Tensor

    def points(self, places: Sequence[float]) -> Tensor:
        """Return embeddings (places, tokens, width) on the line."""
        shares = torch.tensor(places, dtype=self.own.dtype, device=self.own.device)
        return self.base + shares[:, None, None] * (self.own - self.base)

    def scores(self, places: Sequence[float]) -> list[float]:
        """Return the scores at some places."""
        with torch.no_grad(), evaluating(self.scorer.model):
            found: list[float] = self.scorer.by_embeddings(self.points(places)).tolist()
        return found

    def integral(self, begin: float, end: float, steps: int) -> Tensor:
        """Return what a part of the line adds to the value of each token (tokens,)."""
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        places = begin + (end - begin) * (nodes + 1) / 2
        shares = torch.tensor((end - begin) * weights / 2, dtype=self.own.dtype, device=self.own.device)
        total, size = torch.zeros_like(self.own), max(1, PER_PASS // len(self.own))
        for first in range(0, steps, size):
            _, gradient = self.scorer.gradients(self.points(places[first : first + size].tolist()))
            total += (shares[first : first + size, None, None] * gradient).sum(0)
        return ((self.own - self.base) * total).sum(-1).float().cpu()


def adaptive_integral(line: Line, start: float, score: float) -> tuple[Tensor, int]:
    """Return the values of the tokens and the number of points that they took.

    A score may rise steeply in a short part of the line, as those of language models do. Each part is complete if its
    values add up to the difference of the scores at its ends, so that only the others need more points.
    """
    enough = max(TOLERANCE * abs(score - start), FLOOR)
    ends = np.linspace(0, 1, PARTS + 1).tolist()
    known = [start, *line.scores(ends[1:-1]), score]
    parts = [part_of(line, *pair) for pair in pairwise(zip(ends, known, strict=True))]
    steps = PARTS * NODES
    while sum(abs(part.error) for part in parts) > enough and steps < MOST_STEPS:
        worst = max(parts, key=lambda part: abs(part.error))
        parts.remove(worst)
        middle = (worst.begin[0] + worst.end[0]) / 2
        halfway = (middle, line.scores([middle])[0])
        parts += [part_of(line, worst.begin, halfway), part_of(line, halfway, worst.end)]
        steps += 2 * NODES
    return torch.stack([part.values for part in parts]).sum(0), steps


@dataclass(frozen=True, eq=False)
class Part:
    """Part of a line: place and score of both ends, its values (tokens,), and what they miss of the difference."""

    begin: tuple[float, float]
    end: tuple[float, float]
    values: Tensor
    error: float


def part_of(line: Line, begin: tuple[float, float], end: tuple[float, float]) -> Part:
    """Return the part of a line between two places with their scores."""
    values = line.integral(begin[0], end[0], NODES)
    return Part(begin, end, values, end[1] - begin[1] - float(values.sum()))


def leave_one_out(scorer: Scorer, units: Sequence[Sequence[int]]) -> Attributions:
    """Return what the score loses without each unit (Li et al., 2016, arXiv:1612.08220).

    The tokens of a unit become mask tokens; without a mask token they are left out. Each has an equal part of the
    unit's value.

    Args:
        units: token numbers of each unit.
    """
    source, token = scorer.source, scorer.placeholder
    if token is None and isinstance(source.target, SpanTarget):
        raise UnsupportedOption('The tokenizer has no mask token to put in the place of a word: baseline="pad".')
    inputs, types = [list(source.ids)], [list(source.types or [0] * len(source.ids))]
    for unit in units:
        gone = set(unit)
        if token is None:
            kept = [n for n in range(len(source.ids)) if n not in gone]
            inputs.append([source.ids[n] for n in kept] or [source.ids[0]])
            types.append([types[0][n] for n in kept] or [types[0][0]])
        else:
            inputs.append([token if n in gone else i for n, i in enumerate(source.ids)])
            types.append(types[0])
    scores = scorer.by_ids(inputs, types if source.types is not None else None)
    values = torch.zeros(len(source.ids))
    for unit, score in zip(units, scores[1:].tolist(), strict=True):
        values[list(unit)] = (float(scores[0]) - score) / len(unit)
    return Attributions(values, check_finite(float(scores[0]), scorer))
