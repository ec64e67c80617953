"""Base of the training jobs, which itself trains any model on tokenized examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...adapters.files import CLASSIFIERS
from ...checkpoints.safetensors import write
from ...errors import InvalidInput, warn
from ...heads.losses import IGNORED
from ...modeling.seq2seq import SequenceToSequence
from ...models.common.multimodal import refuse_placeholders
from ...token_batches import batches
from ..data.collators import Collator, padding_collator
from ..data.features import Features
from ..data.labels import is_nameless, is_subset, list_names, names_of
from ..data.source import class_names, is_dataset, is_live
from ..data.tokenized import LABEL_COLUMNS, LiveFeatures, features_of
from ..evaluation.loop import EvaluationResult
from ..objectives.language import objective_with
from ..objectives.packed_batch import token_count
from ..objectives.padded_forward import PaddedObjective, has_own_forward
from ..objectives.token import Objective, objective_of

DERIVED_INPUTS = ("position_ids", "decoder_input_ids")  # packed batches compute these from the sequences
WEIGHTS = "model.safetensors"


class TrainingJob:
    """Training of a model on tokenized examples, with the objective of its head.

    Args:
        collator: makes batches instead of packing examples end to end. loss: computes the loss instead of the model.
        smoothing: label smoothing. keep_columns: a padded batch keeps columns that the model's `forward` ignores.
    """

    name: ClassVar[str | None] = None
    user_options: Mapping[str, Any] = {}

    def __init__(
        self, model: Any, tokenizer: Any = None, *, collator: Any = None, loss: Callable[..., Any] | None = None,
        smoothing: float = 0.0, keep_columns: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.collator = model, tokenizer, collator
        self.loss, self.smoothing, self.keep_columns = loss, smoothing, keep_columns

    def needs_scores(self, arguments: Any) -> bool:
        """Return whether the metrics need scores, not only losses."""
        return False

    @cached_property
    def uses_padding(self) -> bool:
        """True if batches are padded and run through the model's `forward`.

        That is so for a custom collator, a custom loss, a custom `forward` and heads without an objective here.
        """
        custom = self.collator is not None and not isinstance(self.collator, Collator)
        custom = custom or self.loss is not None or not has_own_forward(self.model)
        return custom or objective_of(self.model) is None

    def build_objective(self) -> Objective:
        """Build the module that computes the loss."""
        if self.uses_padding:
            collate = self.collator or padding_collator(self.tokenizer, self.model)
            return PaddedObjective(self.model, collate, self.loss, self.smoothing, keep_columns=self.keep_columns)
        objective = objective_of(self.model, self.smoothing)
        assert objective is not None
        return objective if self.collator is None else objective_with(self.collator, objective)

    def features(self, source: Any, *, training: bool, require_labels: bool = True) -> Any:
        """Return the examples of a source. In training, a source whose rows change is read at each access.

        Args:
            require_labels: rows must have the columns that a loss needs.
        """
        self._check_label_names(source)
        kind = getattr(self.model, "head_type", None)
        if self.uses_padding and (self.collator is not None or kind is None or kind.choices):
            return source
        source_target = kind is not None and kind.auto == "AutoModelForSeq2SeqLM"
        if training and is_live(source):
            return LiveFeatures(source, source_target)
        return features_of(source, source_target=source_target)

    def _check_label_names(self, source: Any) -> None:
        """Raise InvalidInput if a data set numbers the model's labels in another order than the model."""
        if not is_dataset(source) or getattr(getattr(self.model, "head_type", None), "auto", None) not in CLASSIFIERS:
            return
        own = names_of(self.model.config)
        for column, names in class_names(source).items():
            if column not in LABEL_COLUMNS or is_nameless(own) or is_nameless(names):
                continue
            if [name.casefold() for name in names] == [name.casefold() for name in own]:
                continue
            known = f"The column {column} numbers its labels as {list_names(names)}, the model as {list_names(own)}"
            if is_subset(names, own):
                raise InvalidInput(
                    f"{known}. Number them alike, with dataset.align_labels_with_mapping(model.config.label2id, "
                    f"{column!r}), or give the rows as they are with a task, which reads labels by name."
                )
            warn(f"{known}: numbers are taken as they are.")

    def sizes(self, features: Any, *, exact: bool = True) -> np.ndarray[Any, Any]:
        """Return the number of tokens of each example, or 1 for each live example unless `exact`."""
        if isinstance(features, Features):
            return features.lengths
        if not hasattr(features, "__len__"):
            raise InvalidInput(
                f"A {type(features).__name__} has no length. An order that can be resumed needs a data set with len() "
                "and [number]. Or set max_steps, for which enough examples are read."
            )
        if isinstance(features, LiveFeatures) and exact:
            return np.concatenate([features.read(number).lengths for number in range(len(features))])
        numbers = range(len(features)) if exact else ()
        return np.array([_size(features[number]) for number in numbers] or [1] * len(features), dtype=np.int64)

    def location(self, features: Any, number: int) -> str:
        """Return the location of an example's row in its source, for messages."""
        return features.location(number) if isinstance(features, Features) else f"example {number}"

    def is_table(self, source: Mapping[str, Any]) -> bool:
        """Return whether a dict is one data set of columns, not several data sets."""
        if all(isinstance(value, (str, os.PathLike)) for value in source.values()):
            return self.is_parallel(source)
        return all(isinstance(value, (list, np.ndarray)) and not _is_rows(value) for value in source.values())

    def is_parallel(self, files: Mapping[str, Any]) -> bool:
        """Return whether a dict of files is one data set of parallel lines, not one data set a file."""
        return False

    def check(self, features: Any, objective: Objective, *, require_labels: bool = True) -> None:
        """Raise InvalidInput for examples that the model cannot read, or that lack required labels."""
        if isinstance(features, LiveFeatures):
            features.check = lambda one: self.check(one, objective, require_labels=require_labels)
        if not isinstance(features, Features):
            return
        needed = [name for name in objective.columns if require_labels or name not in objective.label_columns]
        missing = [name for name in needed if name not in features.columns]
        if missing:
            raise InvalidInput(
                f"Examples need {', '.join(missing)}; they have {', '.join(features.columns)}. Give rows together "
                "with a task, or examples with these columns."
            )
        self._check_inputs(features)
        tokens = [name for name in features.ragged if name.endswith("input_ids") or name.startswith("input_ids")]
        features.check_vocabulary(self._vocabulary(), tokens)
        config: Any = getattr(self.model, "config", None)
        for name in tokens:
            if getattr(config, "placeholder_token_ids", None):
                refuse_placeholders(config, map(int, np.unique(features.ragged[name].flat)))
            if not features.ragged[name].lengths.all():
                location = features.location(int(np.argmin(features.ragged[name].lengths)))
                raise InvalidInput(f"{location} has no token in {name}. Leave such examples out.")
        self._check_labels(features)

    def _check_inputs(self, features: Features) -> None:
        """Raise InvalidInput for columns that the model's `forward` takes but a packed batch does not carry."""
        own = getattr(getattr(self.model, "architecture", None), "inputs", ())
        inputs = [name for name in (*DERIVED_INPUTS, *own) if name in (*features.columns, *features.dropped)]
        if inputs and not self.uses_padding:
            raise InvalidInput(
                f"Examples have {', '.join(inputs)}, which batches without padding do not carry. Leave it out, or give "
                "a function as data_collator, which makes the arguments of the model's forward."
            )

    def _vocabulary(self) -> int:
        return int(self.model.get_input_embeddings().num_embeddings)

    def _check_labels(self, features: Features) -> None:
        """Raise InvalidInput, naming the row, for a label that the model does not have."""
        if self.uses_padding or "labels" not in features.columns or not hasattr(self.model, "head_type"):
            return
        config = self.model.config
        words = self.model.head_type.auto in ("AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
        count = self.model.vocabulary if words else config.num_labels
        column = features.ragged.get("labels")
        values = column.flat if column is not None else features.numbers["labels"]
        if values.dtype.kind == "f" or (not words and count == 1) or not invalid_labels(values, count).size:
            return
        for number in range(len(features)):
            wrong = invalid_labels(np.atleast_1d(features[number]["labels"]), count)
            if wrong.size:
                advice = "" if words else f"Load it with num_labels={int(values.max()) + 1}, or correct the row."
                raise InvalidInput(
                    f"{features.location(number)} has the label {int(wrong[0])}, and the model has {count} labels (0 "
                    f"to {count - 1}; {IGNORED} is left out). {advice or 'Correct the row.'}"
                )

    def generates(self, arguments: Any) -> bool:
        """Return whether evaluation scores generated texts."""
        return bool(arguments.predict_with_generate) and isinstance(self.model, SequenceToSequence)

    def generate(self, features: Any, arguments: Any, options: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        """Generate the target ids of each source, padded to one length.

        Args:
            options: generation options, which take precedence over the training arguments.
        """
        named = {"max_length": arguments.generation_max_length, "num_beams": arguments.generation_num_beams}
        if options.get("max_new_tokens") is not None:
            del named["max_length"]
        options = {name: value for name, value in {**named, **options}.items() if value is not None}
        outputs: dict[int, list[int]] = {}
        for numbers in batches(self.sizes(features).tolist(), most=32):
            texts = [np.asarray(features[number]["input_ids"]).tolist() for number in numbers]
            outputs |= dict(zip(numbers, self.model.generate(texts, **options).tolist(), strict=True))
        longest = max(map(len, outputs.values()))
        pad = self.model.config.pad_token_id or 0
        return [np.array([*outputs[n], *[pad] * (longest - len(outputs[n]))]) for n in range(len(features))]

    def has_labels(self, features: Any) -> bool:
        """Return whether examples have labels, without which there is no loss."""
        return not isinstance(features, Features) or "labels" in features.columns

    def metrics(self, features: Any, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        """Compute the task's metrics in addition to the loss."""
        return {}

    @property
    def reloads(self) -> bool:
        """True if the model's own files hold all weights that a resumed run needs."""
        return hasattr(self.model, "from_pretrained") and not getattr(self.model, "active_adapters", None)

    def load(self, folder: Path) -> Any:
        """Load the model that `save` wrote."""
        return type(self.model).from_pretrained(folder, dtype=self.model.dtype)

    def save(self, folder: Path) -> None:
        """Write the model and its tokenizer; a module without `save_pretrained` writes its `state_dict`."""
        if hasattr(self.model, "save_pretrained"):
            self.model.save_pretrained(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write({k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}, folder / WEIGHTS)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)


def invalid_labels(labels: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Return the labels outside 0..count - 1, except the ignored label -100."""
    return labels[(labels >= count) | ((labels < 0) & (labels != IGNORED))]


def _size(example: Any) -> int:
    ids = example.get("input_ids") if isinstance(example, Mapping) else None
    return 1 if ids is None else token_count(ids)


def _is_rows(value: Any) -> bool:
    return bool(len(value)) and isinstance(value[0], Mapping)
