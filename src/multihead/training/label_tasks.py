"""Tasks whose rows have labels: which these are, and how those of the data fit those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..checkpoints.key_map import parameter_owners
from ..errors import UnsupportedOption, warn
from ..hub import Want
from ..hub.local import is_adapter
from ..hub.options import DownloadOptions
from ..modeling import auto
from ..modeling.auto_classes import AUTO_CLASSES
from ..nn.weights import initialize_parameter
from .data.features import Features
from .data.labels import REGRESSION, SEVERAL, SINGLE, Labels, alike, is_nameless, known_labels, names_of, shown
from .data.source import Rows
from .dataset_jobs import TaskJob
from .evaluation import metrics
from .evaluation.loop import Seen, stacked

LAST = ("head.out", "head.linear")  # layers that give the scores of labels


class Labeled(TaskJob):
    """A task whose labels come from the training data, or from a model that has some."""

    answered = True
    labels: Labels | None = None

    def loaded(self, name: str, source: Any) -> Any:
        """The model of a name, with its head where that has the labels of the data, by name, else with a new one.

        Raises:
            UnsupportedOption: labels that are given in another order than the checkpoint has the same.
        """
        config = self._stored(name)
        stored = None if config is None else names_of(config)
        found: Labels = self.scores(source, config) or self.module.labels_of(source, self.options)
        self.labels = labels = self._taken(found, stored)
        model = self._load(name, **table(labels), **self.more(labels))
        other = stored is not None and labels.names != stored and not is_nameless(stored)
        if model.adapters is not None and other:
            raise UnsupportedOption(
                f"{name} is an adapter whose head has the labels {shown(stored or ())}, and those to learn are "
                f"{shown(labels.names)}. Begin with its base model."
            )
        if model.adapters is None and (stored is None or other):
            renew(model)
        trained = config is not None and (config.architectures or model.adapters is not None)
        lost = stored is not None and (not is_nameless(stored) or (trained and len(stored) != len(labels.names)))
        if lost and model.new_weights:
            warn(
                f"{name} has a head for {shown(stored or ())}, and the labels to learn are {shown(labels.names)}: its "
                "head is drawn anew."
            )
        return model

    def _stored(self, name: str) -> Any:
        """The config of a checkpoint with a head for this task; None where it has none."""
        config, suffixes = auto.AutoConfig.from_pretrained(name), AUTO_CLASSES[self.auto]
        if is_adapter(DownloadOptions().resolve(name, Want.CONFIG)):
            return config
        heads = [str(own) for own in config.architectures or ()]
        return config if not heads or any(own.endswith(suffixes) for own in heads) else None

    def _taken(self, found: Labels, stored: tuple[str, ...] | None) -> Labels:
        """The labels of the data as the head of a checkpoint has them, where it has them."""
        if stored is None or is_nameless(stored):
            return found
        if found.kind == REGRESSION or len(found.names) == 1:
            return replace(found, names=stored) if len(stored) == len(found.names) == 1 else found
        self._in_order(stored)
        same = len(found.names) == len(stored) if is_nameless(found.names) else alike(found.names, stored)
        if self.options.labels or not same:
            return found
        return replace(known_labels(stored, found.kind), vectors=found.vectors)

    def _in_order(self, own: Sequence[str]) -> None:
        """Raises UnsupportedOption where `labels` gives a model's own labels in another order than its head."""
        given = [str(name).casefold() for name in self.options.labels or ()]
        known = [name.casefold() for name in own]
        if given != known and sorted(given) == sorted(known):
            raise UnsupportedOption(
                f"labels gives the model's labels in another order, and its head has them as {shown(own)}. Leave "
                "labels out: rows are read by name."
            )

    def more(self, labels: Labels) -> dict[str, Any]:
        """More config entries."""
        return {}

    def scores(self, source: Any, config: Any) -> Labels | None:
        """The label of a model whose head has one, where the data scores it; None for classes."""
        return None

    def prepared(self, source: Any, answers: bool) -> Features:
        rows = Rows.of(source)
        if self.labels is None and (answers or self.module.has_labels(rows, self.options)):
            self.labels = self._told(rows)
        return self.module.prepare(rows, self.tokenizer, self.options, self.labels, answers=answers)

    def _told(self, source: Any) -> Labels:
        """The labels of a model that was given: its own names, or those of the data where it has none yet."""
        names = names_of(self.model.config)
        own = not is_nameless(names)
        options = replace(self.options, labels=names) if own and not self.options.labels else self.options
        source = source if self.source is None else self.source
        labels: Labels = self.scores(source, self.model.config) or self.module.labels_of(source, options)
        if len(labels.names) == 1 < len(names) and not labels.vectors and options.problem_type is None:
            labels = self.module.labels_of(source, replace(options, problem_type=SINGLE, labels=names))
        if own:
            self._in_order(names)
        if (not own or len(names) == 1) and len(labels.names) == len(names):
            self.model.config = replace(self.model.config, **table(labels), **self.more(labels))
        return labels


def renew(model: Any) -> None:
    """Draws the layer anew that gives the scores of labels, in place."""
    drawn, count = {*model.new_weights}, model.config.num_labels
    for path, owner, leaf, parameter in parameter_owners(model):
        if path.startswith("head.") and len(parameter) == count and path.rpartition(".")[0].endswith(LAST):
            with torch.no_grad():
                initialize_parameter(owner, leaf, parameter, getattr(model.config, "initializer_range", 0.02))
            where = model.keys.locate(path, model.keys.prefix)
            drawn.update(where[1] if where else [path])
    model.new_weights = tuple(sorted(drawn))


def table(labels: Labels) -> dict[str, Any]:
    """The config's entries of labels."""
    return {
        "id2label": dict(enumerate(labels.names)),
        "label2id": {label: i for i, label in enumerate(labels.names)},
    }


class TextClassification(Labeled):
    """Labels, several labels or a score a text."""

    task, data, auto = "text-classification", "text_classification", "AutoModelForSequenceClassification"

    def scored(self, arguments: Any) -> bool:
        return True

    def more(self, labels: Labels) -> dict[str, Any]:
        return {"problem_type": labels.kind}

    def scores(self, source: Any, config: Any) -> Labels | None:
        names = () if config is None or self.options.labels else names_of(config)
        if len(names) != 1 or not self.module.has_relevance(source, self.options):
            return None
        return Labels(names, REGRESSION if config.problem_type == REGRESSION else SEVERAL)

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        scores, wanted = stacked(seen.scores), stacked(seen.targets)
        kind = self.model.config.problem_type or (self.labels.kind if self.labels else None)
        if kind == REGRESSION:
            return metrics.regression(scores, wanted)
        if kind == SEVERAL and not ((wanted == 0) | (wanted == 1)).all():
            return metrics.regression(1 / (1 + np.exp(-scores)), wanted)
        judge = metrics.multi_label_classification if kind == SEVERAL else metrics.text_classification
        return judge(scores, wanted)


class TokenClassification(Labeled):
    """A tag a word."""

    task, data, auto = "token-classification", "token_classification", "AutoModelForTokenClassification"

    def scored(self, arguments: Any) -> bool:
        return True

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        return metrics.token_classification(stacked(seen.scores), stacked(seen.targets), self.model.config.id2label)
