"""Objectives over several texts of an example: sentence similarity, and preferences between answers."""

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
from ..data.features import Example
from .losses import cross_entropy, sequence_log_probs
from .packed_batch import PackedSequences, hidden_states, stack_column
from .token import JointBatch, Objective, next_labels

PREFERENCES = ("sigmoid", "hinge", "ipo")
SIMILARITIES = ("contrastive", "cosent", "cosine")


class SentenceObjective(Objective):
    """Objective of sentence embeddings.

    Args:
        model: a `SentenceEncoder`. texts: columns of ids, in order: anchor, positive, negatives; or two sentences.
        loss: "contrastive" pulls an anchor to its positive and away from all other texts of the step, on all devices
            and in all accumulated batches (Henderson et al., 2017, arXiv:1705.00652); "cosent" orders pairs by their
            scores (Su, 2022); "cosine" fits cosines to scores.
        scale: factor of the cosines, the inverse temperature.
    """

    splittable = False
    columns = label_columns = ()

    def __init__(self, model: Any, texts: Sequence[str], loss: str = "contrastive", scale: float = 20.0) -> None:
        super().__init__(model)
        if loss not in SIMILARITIES:
            raise UnsupportedOption(f"loss {loss!r} is none of {', '.join(SIMILARITIES)}.")
        self.texts, self.loss, self.scale = tuple(texts), loss, scale

    def describe(self, features: Any = None) -> str:
        return self.loss

    def size(self, example: Example) -> int:
        return sum(len(example[name]) for name in self.texts)

    def vectors(self, batch: Sequence[Example]) -> list[Tensor]:
        """Return unit vectors (examples, width) of each text column, computed in one pass."""
        flat = [{"input_ids": example[name]} for name in self.texts for example in batch]
        hidden, context = hidden_states(self.model.model, PackedSequences.of(flat, self.device))
        vectors = F.normalize(self.model.vectors(hidden, context.runs).float(), dim=-1)
        return list(vectors.split(len(batch)))

    @property
    def joint(self) -> bool:  # type: ignore[override]
        return self.loss != "cosine"

    def forward(self, batch: Sequence[Example] | JointBatch, predict: bool = False) -> tuple[Tensor, Any]:
        if isinstance(batch, JointBatch):
            vectors = torch.stack(self.vectors(batch.examples), 1)  # (examples, texts, width)
            return vectors if batch.gradients is None else (vectors * batch.gradients).sum(), None
        vectors = torch.stack(self.vectors(batch), 1)
        labeled = all("labels" in example for example in batch)
        labels = stack_column(batch, "labels", vectors.device) if labeled else None
        cosines = (vectors[:, 0] * vectors[:, 1]).sum(-1)
        return self.joint_loss(vectors, labels), list(cosines.detach().cpu().numpy()) if predict else None

    def joint_loss(self, vectors: Tensor, labels: Tensor | None) -> Tensor:
        """Return the sum of losses of vectors (examples, texts, width)."""
        if self.loss == "contrastive":
            scores = vectors[:, 0] @ vectors[:, 1:].transpose(0, 1).flatten(0, 1).T * self.scale
            return cross_entropy(scores, torch.arange(len(vectors), device=scores.device))
        cosines = (vectors[:, 0] * vectors[:, 1]).sum(-1)
        assert labels is not None
        if self.loss == "cosine":
            return F.mse_loss(cosines, labels.float(), reduction="sum")
        return cosent(cosines * self.scale, labels) * len(vectors)

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [example.get("labels", 1.0) for example in batch]


class AutoSentenceObjective(SentenceObjective):
    """Objective of sentence embeddings of all text columns. Default loss: "cosent" with scores, else "contrastive"."""

    def __init__(self, model: Any, loss: str | None = None, scale: float = 20.0) -> None:
        super().__init__(model, (), loss or "contrastive", scale)
        self._explicit = loss is not None

    def describe(self, features: Any = None) -> str:
        if self._explicit or features is None:
            return self.loss
        return "cosent" if "labels" in features.columns else "contrastive"

    def collate(self, examples: Sequence[Example]) -> Any:
        self.texts = tuple(name for name in examples[0] if name.startswith("input_ids"))
        if not self._explicit:
            self.loss = "cosent" if "labels" in examples[0] else "contrastive"
        return super().collate(examples)

    def size(self, example: Example) -> int:
        return sum(len(value) for name, value in example.items() if name.startswith("input_ids"))


def cosent(scores: Tensor, labels: Tensor) -> Tensor:
    """Return log(1 + sum of exp(scores[i] - scores[j])) over all pairs with labels[i] < labels[j]."""
    gaps = scores[:, None] - scores[None, :]
    ordered = labels[:, None] < labels[None, :]
    flat = gaps.masked_fill(~ordered, float("-inf")).flatten()
    return torch.logsumexp(torch.cat([flat.new_zeros(1), flat]), 0)


class PreferenceObjective(Objective):
    """Direct preference optimization (Rafailov et al., 2023, arXiv:2305.18290).

    Args:
        beta: weight of the divergence from the reference model. kind: "sigmoid", "hinge" (arXiv:2305.10425) or "ipo"
            (arXiv:2310.12036). smoothing: assumed share of wrong preferences.
        reference: the reference model. Default: a copy of the model before training, or the model without its
            adapters if they are new and so change nothing yet.
    """

    columns = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
    label_columns = ("chosen_labels", "rejected_labels")

    def __init__(
        self, model: Any, *, beta: float = 0.1, kind: str = "sigmoid", smoothing: float = 0.0, reference: Any = None
    ) -> None:  # fmt: skip
        super().__init__(model, smoothing)
        if kind not in PREFERENCES:
            raise UnsupportedOption(f"loss {kind!r} is none of {', '.join(PREFERENCES)}.")
        self.beta, self.kind = beta, kind
        self.adapted = reference is None and bool(getattr(model, "active_adapters", None)) and is_untrained(model)
        other = None if self.adapted else reference if reference is not None else _copy(model)
        # in a list, so that torch does not register the reference as a submodule
        self._reference: list[nn.Module] = [] if other is None else [other.requires_grad_(False).eval()]

    def describe(self, features: Any = None) -> str:
        return f"preference ({self.kind}), beta {self.beta:g}"

    def size(self, example: Example) -> int:
        return len(example["chosen_input_ids"]) + len(example["rejected_input_ids"])

    def forward(self, batch: Sequence[Example], predict: bool = False) -> tuple[Tensor, Any]:
        sides = [
            {"input_ids": example[f"{side}_input_ids"], "labels": np.asarray(example[f"{side}_labels"])}
            for side in ("chosen", "rejected")
            for example in batch
        ]
        own, reference = self._log_probs(self.model, sides), self._reference_log_probs(sides)
        rewards = self.beta * (own - reference)
        chosen, rejected = rewards.split(len(batch))
        losses = self._losses(chosen - rejected, sides)
        scores = torch.stack([chosen, rejected], -1).detach().cpu().numpy()
        return losses.sum(), list(scores) if predict else None

    def _losses(self, margin: Tensor, sides: Sequence[Example]) -> Tensor:
        if self.kind == "hinge":
            return F.relu(1 - margin)
        if self.kind == "ipo":
            return (margin / self.beta - 1 / (2 * self.beta)) ** 2
        return -F.logsigmoid(margin) * (1 - self.smoothing) - F.logsigmoid(-margin) * self.smoothing

    def _reference_log_probs(self, sides: Sequence[Example]) -> Tensor:
        with torch.no_grad():
            if not self.adapted:
                other = self._reference[0].to(self.device)
                return self._log_probs(other, sides)
            training = self.model.training
            with self.model.adapters_disabled():
                log_probs = self._log_probs(self.model.eval(), sides)
            self.model.train(training)
            return log_probs

    def _log_probs(self, model: Any, sides: Sequence[Example]) -> Tensor:
        """Return the log-probability of each answer given its prompt (sequences,); the mean a token for "ipo"."""
        tokens = PackedSequences.of(sides, self.device)
        hidden, context = hidden_states(model, tokens)
        labels = next_labels((side["labels"] for side in sides), self.device)
        log_probs = sequence_log_probs(model.score_states, hidden, labels, context.runs)
        return log_probs / _answer_tokens(sides, log_probs.device) if self.kind == "ipo" else log_probs

    def targets(self, batch: Sequence[Example]) -> list[Any]:
        return [0 for _ in batch]


def _copy(model: Any) -> Any:
    """Copy a model; frozen parameters are shared."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters() if not p.requires_grad})


def _answer_tokens(sides: Sequence[Example], device: torch.device) -> Tensor:
    """Return the number of labeled tokens of each answer (sequences,), at least 1."""
    counts = [int((side["labels"][1:] != IGNORED).sum()) for side in sides]
    return torch.tensor(counts, device=device).clamp(min=1)
