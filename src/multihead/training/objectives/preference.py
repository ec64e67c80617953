"""Objectives over several texts at once: vectors of sentences, and preferences between answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...adapters.state import is_untrained
from ...errors import UnsupportedOption
from ...heads.losses import IGNORED
from .losses import cross_entropy, sequence_scores
from .packed_batch import Example, Tokens, column, states
from .token import Objective, Part, following

PREFERENCES = ("sigmoid", "hinge", "ipo")
SIMILARITIES = ("contrastive", "cosent", "cosine")


class Sentences(Objective):
    """Vectors of sentences.

    Args:
        model: a `SentenceEncoder`. texts: columns of ids, in order: anchor, positive, negatives; or two sentences.
        loss: "contrastive" brings an anchor near its positive and away from all other texts of the step, on all devices
            and of all accumulated batches (Henderson et al., 2017, arXiv:1705.00652); "cosent" orders pairs by their
            scores (Su, 2022); "cosine" fits scores.
        scale: of cosines, the inverse of a temperature.
    """

    splits = False
    columns = answers = ()

    def __init__(self, model: Any, texts: Sequence[str], loss: str = "contrastive", scale: float = 20.0) -> None:
        super().__init__(model)
        if loss not in SIMILARITIES:
            raise UnsupportedOption(f"loss {loss!r} is none of {', '.join(SIMILARITIES)}.")
        self.texts, self.loss, self.scale = tuple(texts), loss, scale

    def told(self, features: Any = None) -> str:
        return self.loss

    def size(self, example: Example) -> int:
        return sum(len(example[name]) for name in self.texts)

    def vectors(self, batch: Sequence[Example]) -> list[Tensor]:
        """Unit vectors (examples, width) of each column, read in one pass."""
        flat = [{"input_ids": example[name]} for name in self.texts for example in batch]
        hidden, context = states(self.model.model, Tokens.of(flat, self.device))
        found = F.normalize(self.model.vectors(hidden, context.runs).float(), dim=-1)
        return list(found.split(len(batch)))

    @property
    def joint(self) -> bool:  # type: ignore[override]
        return self.loss != "cosine"

    def forward(self, batch: Sequence[Example] | Part, predict: bool = False) -> tuple[Tensor, Any]:
        if isinstance(batch, Part):
            found = torch.stack(self.vectors(batch.examples), 1)
            return found if batch.gradients is None else (found * batch.gradients).sum(), None
        found = torch.stack(self.vectors(batch), 1)
        labels = column(batch, "labels", found.device) if all("labels" in example for example in batch) else None
        likeness = (found[:, 0] * found[:, 1]).sum(-1)
        return self.compared(found, labels), list(likeness.detach().cpu().numpy()) if predict else None

    def compared(self, found: Tensor, labels: Tensor | None) -> Tensor:
        """The sum of losses of vectors (examples, texts, width)."""
        if self.loss == "contrastive":
            scores = found[:, 0] @ found[:, 1:].transpose(0, 1).flatten(0, 1).T * self.scale
            return cross_entropy(scores, torch.arange(len(found), device=scores.device))
        likeness = (found[:, 0] * found[:, 1]).sum(-1)
        assert labels is not None
        if self.loss == "cosine":
            return F.mse_loss(likeness, labels.float(), reduction="sum")
        return cosent(likeness * self.scale, labels) * len(found)

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [example.get("labels", 1.0) for example in batch]


class FoundSentences(Sentences):
    """Over the texts that examples turn out to have, and by their scores where they have any and no loss is named."""

    def __init__(self, model: Any, loss: str | None = None, scale: float = 20.0) -> None:
        super().__init__(model, (), loss or "contrastive", scale)
        self._told = loss is not None

    def told(self, features: Any = None) -> str:
        if self._told or features is None:
            return self.loss
        return "cosent" if "labels" in features.columns else "contrastive"

    def collate(self, examples: Sequence[Example]) -> Any:
        self.texts = tuple(name for name in examples[0] if name.startswith("input_ids"))
        if not self._told:
            self.loss = "cosent" if "labels" in examples[0] else "contrastive"
        return super().collate(examples)

    def size(self, example: Example) -> int:
        return sum(len(value) for name, value in example.items() if name.startswith("input_ids"))


def cosent(scores: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum of exp(scores[i] - scores[j]) over pairs whose labels say that j is the more alike)."""
    gaps = scores[:, None] - scores[None, :]
    wrong = labels[:, None] < labels[None, :]
    flat = gaps.masked_fill(~wrong, float("-inf")).flatten()
    return torch.logsumexp(torch.cat([flat.new_zeros(1), flat]), 0)


class Preference(Objective):
    """Direct preference optimization (Rafailov et al., 2023, arXiv:2305.18290).

    Args:
        beta: how strongly the model is held near its reference. kind: "sigmoid", "hinge" (arXiv:2305.10425) or "ipo"
            (arXiv:2310.12036). smoothing: the share of preferences that are taken for wrong.
        reference: the model that it is held near; the model as it is now, when left out. That is the model without its
            adapters where these change nothing yet.
    """

    columns = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
    answers = ("chosen_labels", "rejected_labels")

    def __init__(
        self, model: Any, *, beta: float = 0.1, kind: str = "sigmoid", smoothing: float = 0.0, reference: Any = None
    ) -> None:  # fmt: skip
        super().__init__(model, smoothing)
        if kind not in PREFERENCES:
            raise UnsupportedOption(f"loss {kind!r} is none of {', '.join(PREFERENCES)}.")
        self.beta, self.kind = beta, kind
        self.adapted = reference is None and bool(getattr(model, "active_adapters", None)) and is_untrained(model)
        other = None if self.adapted else reference if reference is not None else _as_it_is(model)
        self._reference: list[nn.Module] = [] if other is None else [other.requires_grad_(False).eval()]  # no child

    def told(self, features: Any = None) -> str:
        return f"preference ({self.kind}), beta {self.beta:g}"

    def size(self, example: Example) -> int:
        return len(example["chosen_input_ids"]) + len(example["rejected_input_ids"])

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        sides = [
            {"input_ids": example[f"{side}_input_ids"], "labels": np.asarray(example[f"{side}_labels"])}
            for side in ("chosen", "rejected")
            for example in batch
        ]
        own, before = self._scores(self.model, sides), self._before(sides)
        rewards = self.beta * (own - before)
        chosen, rejected = rewards.split(len(batch))
        losses = self._losses(chosen - rejected, sides)
        found = torch.stack([chosen, rejected], -1).detach().cpu().numpy()
        return losses.sum(), list(found) if predict else None

    def _losses(self, margin: Tensor, sides: Sequence[Example]) -> Tensor:
        if self.kind == "hinge":
            return F.relu(1 - margin)
        if self.kind == "ipo":
            return (margin / self.beta - 1 / (2 * self.beta)) ** 2
        return -F.logsigmoid(margin) * (1 - self.smoothing) - F.logsigmoid(-margin) * self.smoothing

    def _before(self, sides: Sequence[Example]) -> Tensor:
        with torch.no_grad():
            if not self.adapted:
                other = self._reference[0].to(self.device)
                return self._scores(other, sides)
            learns = self.model.training
            with self.model.adapters_disabled():
                found = self._scores(self.model.eval(), sides)
            self.model.train(learns)
            return found

    def _scores(self, model: Any, sides: Sequence[Example]) -> Tensor:
        """(texts,): log-probability of each answer given its prompt; its mean a token for "ipo"."""
        tokens = Tokens.of(sides, self.device)
        hidden, context = states(model, tokens)
        labels = following((side["labels"] for side in sides), self.device)
        found = sequence_scores(model.score, hidden, labels, context.runs)
        return found / _answered(sides, found.device) if self.kind == "ipo" else found

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [0 for _ in batch]


def _as_it_is(model: Any) -> Any:
    """A copy of a model that shares what does not learn."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters() if not p.requires_grad})


def _answered(sides: Sequence[Example], device: torch.device) -> Tensor:
    counts = [int((side["labels"][1:] != IGNORED).sum()) for side in sides]
    return torch.tensor(counts, device=device).clamp(min=1)
