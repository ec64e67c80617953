"""Tasks with labels: which labels the data has, and how they map to the labels of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from ...checkpoints.key_map import parameter_owners
from ...errors import UnsupportedOption, warn
from ...hub import Want
from ...hub.local import is_adapter
from ...hub.options import DownloadOptions
from ...modeling import auto
from ...modeling.auto_classes import AUTO_CLASSES
from ...nn.weights import initialize_parameter
from ..data import text_classification, token_classification
from ..data.features import Features
from ..data.labels import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    Labels,
    is_nameless,
    is_subset,
    labels_from_names,
    list_names,
    names_of,
)
from ..data.source import Rows
from ..evaluation import metrics
from ..evaluation.loop import EvaluationResult, stack_arrays
from .dataset import DatasetJob

SCORE_LAYERS = ("head.out", "head.linear")  # layers that compute the scores of labels


class LabelJob(DatasetJob):
    """A task whose labels come from the training data, or from a model that already has labels."""

    labels_optional = True
    labels: Labels | None = None

    def load_model(self, name: str, source: Any) -> Any:
        """Load the model; keep its head if the head has the labels of the data by name, else draw a new head.

        Raises:
            UnsupportedOption: the option `labels` gives the checkpoint's labels in another order.
        """
        config = self._stored_config(name)
        stored = None if config is None else names_of(config)
        labels: Labels = self.score_labels(source, config) or self.reader.labels_of(source, self.options)
        self.labels = labels = self._in_head_order(labels, stored)
        model = self._load_pretrained(name, **label_entries(labels), **self.config_entries(labels))
        other = stored is not None and labels.names != stored and not is_nameless(stored)
        if model.adapters is not None and other:
            raise UnsupportedOption(
                f"{name} is an adapter whose head has the labels {list_names(stored or ())}, and those to learn are "
                f"{list_names(labels.names)}. Begin with its base model."
            )
        if model.adapters is None and (stored is None or other):
            reset_head(model)
        trained = config is not None and (config.architectures or model.adapters is not None)
        lost = stored is not None and (not is_nameless(stored) or (trained and len(stored) != len(labels.names)))
        if lost and model.new_weights:
            warn(
                f"{name} has a head for {list_names(stored or ())}, and the labels to learn are "
                f"{list_names(labels.names)}: its head is newly initialized."
            )
        return model

    def _stored_config(self, name: str) -> Any:
        """Return the config of a checkpoint with a head for this task; None for another head."""
        config, suffixes = auto.AutoConfig.from_pretrained(name), AUTO_CLASSES[self.auto_class]
        if is_adapter(DownloadOptions().resolve(name, Want.CONFIG)):
            return config
        heads = [str(head) for head in config.architectures or ()]
        return config if not heads or any(head.endswith(suffixes) for head in heads) else None

    def _in_head_order(self, labels: Labels, stored: tuple[str, ...] | None) -> Labels:
        """Return the labels of the data in the order of the checkpoint's head, if the head has them."""
        if stored is None or is_nameless(stored):
            return labels
        if labels.kind == REGRESSION or len(labels.names) == 1:
            return replace(labels, names=stored) if len(stored) == len(labels.names) == 1 else labels
        self._check_order(stored)
        same = len(labels.names) == len(stored) if is_nameless(labels.names) else is_subset(labels.names, stored)
        if self.options.labels or not same:
            return labels
        return replace(labels_from_names(stored, labels.kind), multi_hot=labels.multi_hot)

    def _check_order(self, stored: Sequence[str]) -> None:
        """Raise UnsupportedOption if the option `labels` reorders the labels of the model's head."""
        names = [str(name).casefold() for name in self.options.labels or ()]
        known = [name.casefold() for name in stored]
        if names != known and sorted(names) == sorted(known):
            raise UnsupportedOption(
                f"labels gives the model's labels in another order, and its head has them as {list_names(stored)}. "
                "Leave labels out: rows are read by name."
            )

    def config_entries(self, labels: Labels) -> dict[str, Any]:
        """Return further config entries for the labels."""
        return {}

    def score_labels(self, source: Any, config: Any) -> Labels | None:
        """Return the single label of a head with one output, if the data holds its scores; None for classes."""
        return None

    def prepare_features(self, source: Any, require_labels: bool) -> Features:
        rows = Rows.of(source)
        if self.labels is None and (require_labels or self.reader.has_labels(rows, self.options)):
            self.labels = self._model_labels(rows)
        features: Features = self.reader.prepare(
            rows, self.tokenizer, self.options, self.labels, require_labels=require_labels
        )
        return features

    def _model_labels(self, source: Any) -> Labels:
        """Return the labels of a model that the caller built: its own names, or the names in the data."""
        names = names_of(self.model.config)
        named = not is_nameless(names)
        options = replace(self.options, labels=names) if named and not self.options.labels else self.options
        source = source if self.source is None else self.source
        labels: Labels = self.score_labels(source, self.model.config) or self.reader.labels_of(source, options)
        if len(labels.names) == 1 < len(names) and not labels.multi_hot and options.problem_type is None:
            labels = self.reader.labels_of(source, replace(options, problem_type=SINGLE_LABEL, labels=names))
        if named:
            self._check_order(names)
        if (not named or len(names) == 1) and len(labels.names) == len(names):
            entries = {**label_entries(labels), **self.config_entries(labels)}
            self.model.config = replace(self.model.config, **entries)
        return labels


def reset_head(model: Any) -> None:
    """Initialize again, in place, the layer that computes the scores of labels."""
    new, count = {*model.new_weights}, model.config.num_labels
    for path, owner, leaf, parameter in parameter_owners(model):
        if path.startswith("head.") and len(parameter) == count and path.rpartition(".")[0].endswith(SCORE_LAYERS):
            with torch.no_grad():
                initialize_parameter(owner, leaf, parameter, getattr(model.config, "initializer_range", 0.02))
            location = model.keys.locate(path, model.keys.prefix)
            new.update(location[1] if location else [path])
    model.new_weights = tuple(sorted(new))


def label_entries(labels: Labels) -> dict[str, Any]:
    """Return the config entries `id2label` and `label2id`."""
    return {
        "id2label": dict(enumerate(labels.names)),
        "label2id": {label: i for i, label in enumerate(labels.names)},
    }


class TextClassificationTraining(LabelJob):
    """Text classification: one label, several labels or a score for each text."""

    name = "text-classification"
    reader: ClassVar = text_classification
    options_class, auto_class = text_classification.TextClassificationOptions, "AutoModelForSequenceClassification"

    def needs_scores(self, arguments: Any) -> bool:
        return True

    def config_entries(self, labels: Labels) -> dict[str, Any]:
        return {"problem_type": labels.kind}

    def score_labels(self, source: Any, config: Any) -> Labels | None:
        names = () if config is None or self.options.labels else names_of(config)
        if len(names) != 1 or not text_classification.has_relevance(source, self.options):
            return None
        return Labels(names, REGRESSION if config.problem_type == REGRESSION else MULTI_LABEL)

    def metrics(self, features: Any, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        scores, targets = stack_arrays(result.scores), stack_arrays(result.targets)
        kind = self.model.config.problem_type or (self.labels.kind if self.labels else None)
        if kind == REGRESSION:
            return metrics.regression(scores, targets)
        if kind == MULTI_LABEL and not ((targets == 0) | (targets == 1)).all():
            return metrics.regression(1 / (1 + np.exp(-scores)), targets)
        metric = metrics.multi_label_classification if kind == MULTI_LABEL else metrics.text_classification
        return metric(scores, targets)


class TokenClassificationTraining(LabelJob):
    """Token classification: one tag for each word."""

    name = "token-classification"
    reader: ClassVar = token_classification
    options_class, auto_class = token_classification.TokenClassificationOptions, "AutoModelForTokenClassification"

    def needs_scores(self, arguments: Any) -> bool:
        return True

    def metrics(self, features: Any, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        scores, targets = stack_arrays(result.scores), stack_arrays(result.targets)
        return metrics.token_classification(scores, targets, self.model.config.id2label)
