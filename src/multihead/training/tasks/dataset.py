"""Base of the training jobs that read rows: reader options, loading a model by name, and examples of a source."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from ...adapters.state import make_trainable
from ...data_files import ENDINGS
from ...errors import InvalidInput, UnsupportedOption, nearest, warn
from ...modeling import auto
from ...modeling.fill_weights import NewWeights
from ...nn.embeddings import learned_positions
from ...tokenizers.tokenizer import Tokenizer
from ..data.columns import ReaderOptions
from ..data.features import Features
from ..data.source import is_live
from ..objectives.padded_forward import has_own_forward
from .base import TrainingJob

TABLE_ENDINGS = tuple(ending for ending in ENDINGS if ending != ".txt")  # files of rows with columns
EXAMPLE_WORDS = 8  # words of the text that shows how to use the trained model
LOADING_OPTIONS = ("load_in_4bit", "load_in_8bit")  # options of every task, for a model that is given by name


class DatasetJob(TrainingJob):
    """A training job that reads rows; the base of the job of each task.

    Class attributes:
        name: name of the task in `pipelines.catalog.TRAINABLE`, whose entry names this class.
        reader: module of `training.data` whose `prepare` makes features. options_class: the reader's options.
        auto_class: Auto class that loads a model by name.
        objective_options: options of the objective, in addition to those of the reader.
        labels_optional: whether rows without labels can be read for prediction.

    Args:
        options: options of the reader, of the objective and of loading.
    """

    name: ClassVar[str]
    reader: ClassVar[ModuleType]
    options_class: ClassVar[type[ReaderOptions]]
    auto_class: ClassVar[str]
    objective_options: ClassVar[tuple[str, ...]] = ()
    labels_optional: ClassVar[bool] = False

    def __init__(self, model: Any, tokenizer: Any, options: Mapping[str, Any], source: Any, **settings: Any) -> None:
        if settings.get("collator") is not None:
            raise UnsupportedOption(f"data_collator: {self.name} makes its own batches; leave it or the task out.")
        self.user_options = dict(options)
        self.objective_kwargs = {name: options[name] for name in self.objective_options if name in options}
        self.loading_kwargs = {name: options[name] for name in LOADING_OPTIONS if name in options}
        others = (*self.objective_options, *LOADING_OPTIONS)
        self.options = self._reader_options({k: v for k, v in options.items() if k not in others})
        named = isinstance(model, (str, Path))
        tokenizer = getattr(model, "tokenizer", None) if tokenizer is None and not named else tokenizer
        self.tokenizer = auto.AutoTokenizer.from_pretrained(model) if tokenizer is None and named else tokenizer
        if self.tokenizer is None:
            raise InvalidInput(f"{self.name} reads texts: give processing_class=, the model's tokenizer.")
        if not isinstance(self.tokenizer, Tokenizer):
            kind = f"{type(self.tokenizer).__module__.partition('.')[0]}'s {type(self.tokenizer).__name__}"
            raise InvalidInput(f"processing_class is {kind}; a task needs a tokenizer of multihead.AutoTokenizer.")
        self.source = source
        model = self.load_model(str(model), source) if named else model
        super().__init__(model, self.tokenizer, **settings)
        if self.uses_padding and type(self).build_objective is not TrainingJob.build_objective:
            what = "a forward" if self.loss is None else "compute_loss"
            raise UnsupportedOption(
                f"{what} of your own: {self.name} computes its loss itself and would never call it. Leave it out, or "
                "leave the task out and give tokenized examples, with a data_collator."
            )
        positions = learned_positions(model)
        if positions is not None and self.options.positions is None:
            self.options = replace(self.options, positions=positions)

    def _reader_options(self, options: Mapping[str, Any]) -> Any:
        names = [f.name for f in fields(self.options_class)]
        unknown = [name for name in options if name not in names]
        if unknown:
            known = [*names, *self.objective_options, *LOADING_OPTIONS]
            raise UnsupportedOption(f"{self.name} has no option {unknown[0]!r}. {nearest(unknown[0], known)}")
        return self.options_class(**options)

    def load_model(self, name: str, source: Any) -> Any:
        """Load the model with float32 weights, which small updates need."""
        return self._load_pretrained(name)

    def _load_pretrained(self, name: str, **config: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NewWeights)  # a head that is to be trained may be new
            model = getattr(auto, self.auto_class).from_pretrained(
                name, dtype="float32", ignore_mismatched_sizes=True, **self.loading_kwargs, **config
            )
        if model.adapters is not None:  # training of a saved adapter continues
            make_trainable(model)
        return model

    @cached_property
    def uses_padding(self) -> bool:
        return self.loss is not None or not has_own_forward(self.model)

    def features(self, source: Any, *, training: bool, require_labels: bool = True) -> Features:
        if isinstance(source, Features):
            return source
        if is_live(source):
            warn(
                f"A {type(source).__name__} is read once when a task is given, so rows that change at each access keep "
                "their first values. To train on changing rows, tokenize them in the data set and leave the task out."
            )
        return self.prepare_features(source, require_labels)

    def prepare_features(self, source: Any, require_labels: bool) -> Features:
        """Tokenize rows into features; see `features`."""
        options = {"require_labels": require_labels} if self.labels_optional else {}
        features: Features = self.reader.prepare(source, self.tokenizer, self.options, **options)
        return features

    def is_parallel(self, files: Mapping[str, Any]) -> bool:
        return not any(Path(file).suffix.lower() in TABLE_ENDINGS for file in files.values())

    def example_input(self, features: Features) -> Any:
        """Return an input for the pipeline of the task: the first words of the first example."""
        column = next(name for name in features.ragged if "input_ids" in name)
        text = self.tokenizer.decode(features[0][column], skip_special_tokens=True)
        return " ".join(text.split()[:EXAMPLE_WORDS])
