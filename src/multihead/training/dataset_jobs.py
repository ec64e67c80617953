"""Jobs that read rows: their options, the model of a name, and examples of a source."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from ..adapters.state import make_trainable
from ..data_files import ENDINGS
from ..errors import InvalidInput, UnsupportedOption, nearest, warn
from ..modeling import auto
from ..modeling.fill_weights import NewWeights
from ..nn.embeddings import learned_positions
from ..tokenizers.tokenizer import Tokenizer
from .data.features import Features
from .data.source import is_live
from .jobs import Job
from .objectives.padded_forward import is_own

OF_ROWS = tuple(ending for ending in ENDINGS if ending != ".txt")  # files whose lines are no texts
EXAMPLE_WORDS = 8  # of a text that shows how a trained model is used
LOADING = ("load_in_4bit", "load_in_8bit")  # options of every task, for a model that is given by its name


class TaskJob(Job):
    """A job that reads rows.

    Args:
        options: of the task's data and of what it learns, `own` among them, and of how the model is loaded.
    """

    task: ClassVar[str]
    data: ClassVar[str]  # file in `data`
    auto: ClassVar[str]
    own: ClassVar[tuple[str, ...]] = ()  # options beside those of the data
    answered: ClassVar[bool] = False  # whether rows have a column of answers, without which they may be predicted

    def __init__(self, model: Any, tokenizer: Any, options: Mapping[str, Any], source: Any, **more: Any) -> None:
        if more.get("collator") is not None:
            raise UnsupportedOption(f"data_collator: {self.task} makes its own batches; leave it or the task out.")
        self.given = dict(options)
        self.chosen = {name: options[name] for name in self.own if name in options}
        self.loading = {name: options[name] for name in LOADING if name in options}
        self.options = self._options({k: v for k, v in options.items() if k not in (*self.own, *LOADING)})
        named = isinstance(model, (str, Path))
        tokenizer = getattr(model, "tokenizer", None) if tokenizer is None and not named else tokenizer
        self.tokenizer = auto.AutoTokenizer.from_pretrained(model) if tokenizer is None and named else tokenizer
        if self.tokenizer is None:
            raise InvalidInput(f"{self.task} reads texts: give processing_class=, the model's tokenizer.")
        if not isinstance(self.tokenizer, Tokenizer):
            kind = f"{type(self.tokenizer).__module__.partition('.')[0]}'s {type(self.tokenizer).__name__}"
            raise InvalidInput(f"processing_class is {kind}; a task needs a tokenizer of multihead.AutoTokenizer.")
        self.source = source
        loaded = self.loaded(str(model), source) if named else model
        super().__init__(loaded, self.tokenizer, **more)
        if self.padded and type(self).objective is not Job.objective:
            what = "a forward" if self.loss is None else "compute_loss"
            raise UnsupportedOption(
                f"{what} of your own: {self.task} computes its loss itself and would never call it. Leave it out, or "
                "leave the task out and give tokenized examples, with a data_collator."
            )
        positions = learned_positions(loaded)
        if positions is not None and self.options.positions is None:
            self.options = replace(self.options, positions=positions)

    @property
    def module(self) -> ModuleType:
        return import_module(f".data.{self.data}", __package__)

    def _options(self, given: Mapping[str, Any]) -> Any:
        kind = self.module.Options
        names = [f.name for f in fields(kind)]
        wrong = [name for name in given if name not in names]
        if wrong:
            known = [*names, *self.own, *LOADING]
            raise UnsupportedOption(f"{self.task} has no option {wrong[0]!r}. {nearest(wrong[0], known)}")
        return kind(**given)

    def loaded(self, name: str, source: Any) -> Any:
        """The model of a name, with weights in float32, which small updates need."""
        return self._load(name)

    def _load(self, name: str, **changes: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NewWeights)  # a head that is to be trained is new
            model = getattr(auto, self.auto).from_pretrained(
                name, dtype="float32", ignore_mismatched_sizes=True, **self.loading, **changes
            )
        if model.adapters is not None:  # training goes on with a saved one
            make_trainable(model)
        return model

    @cached_property
    def padded(self) -> bool:
        return self.loss is not None or not is_own(self.model)

    def features(self, source: Any, *, training: bool, answers: bool = True) -> Features:
        if isinstance(source, Features):
            return source
        if is_live(source):
            warn(
                f"A {type(source).__name__} is read once with a task: rows that it makes anew at each use are learned "
                "as they were first. Where they shall change, tokenize them in it and leave the task out."
            )
        return self.prepared(source, answers)

    def prepared(self, source: Any, answers: bool) -> Features:
        """Rows as examples; `answers` as of `features`."""
        more = {"answers": answers} if self.answered else {}
        return self.module.prepare(source, self.tokenizer, self.options, **more)

    def parallel(self, files: Mapping[str, Any]) -> bool:
        return not any(Path(file).suffix.lower() in OF_ROWS for file in files.values())

    def example_input(self, features: Features) -> Any:
        """Return an input for the task's pipeline: the first words of the first example."""
        column = next(name for name in features.ragged if "input_ids" in name)
        text = self.tokenizer.decode(features[0][column], skip_special_tokens=True)
        return " ".join(text.split()[:EXAMPLE_WORDS])
