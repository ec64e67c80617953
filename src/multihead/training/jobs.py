"""What a Trainer trains: how rows become examples, what is learned of them, how it is judged and saved.

`Job` takes examples that are tokenized already. The tasks that read rows are in `tasks.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters.files import CLASSIFIERS
from ..checkpoints.safetensors import write
from ..errors import InvalidInput, warn
from ..heads.losses import IGNORED
from ..modeling.seq2seq import SequenceToSequence
from ..token_batches import batches
from .data.collators import Collator, padded
from .data.features import Features
from .data.labels import alike, is_nameless, names_of, shown
from .data.source import classes_of, is_dataset, is_live
from .data.tokenized import LABELS, Live
from .evaluation.loop import Seen
from .objectives.packed_batch import length
from .objectives.padded_forward import Padded, is_own
from .objectives.token import Objective, objective_of

OWN = ("position_ids", "decoder_input_ids")  # inputs that are told by the texts themselves here
WEIGHTS = "model.safetensors"


class Job:
    """Training for what the model's kind is made for.

    Args:
        collator: makes batches instead of packing examples end to end. loss: computes the loss instead of the model.
        smoothing: of labels. everything: a padded batch keeps columns that the model's `forward` does not take.
    """

    def __init__(
        self, model: Any, tokenizer: Any = None, *, collator: Any = None, loss: Callable[..., Any] | None = None,
        smoothing: float = 0.0, everything: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.collator = model, tokenizer, collator
        self.loss, self.smoothing, self.everything = loss, smoothing, everything

    def scored(self, arguments: Any) -> bool:
        """Whether metrics need scores, not only losses."""
        return False

    @cached_property
    def padded(self) -> bool:
        """Whether batches are padded, for what only the model's `forward` computes: a caller's batch, loss or model."""
        own = self.collator is not None and not isinstance(self.collator, Collator)
        return own or self.loss is not None or not is_own(self.model) or objective_of(self.model) is None

    def objective(self) -> Objective:
        """What is learned."""
        if self.padded:
            collate = self.collator or padded(self.tokenizer, self.model)
            return Padded(self.model, collate, self.loss, self.smoothing, everything=self.everything)
        found = objective_of(self.model, self.smoothing)
        assert found is not None
        return found if self.collator is None else self.collator.dressed(found)

    def features(self, source: Any, *, training: bool, answers: bool = True) -> Any:
        """Examples of a source; those that it draws anew at each use are read at each use of training.

        Args:
            answers: whether rows must have what a loss needs.
        """
        self._check_names(source)
        kind = getattr(self.model, "head_type", None)
        if self.padded and (self.collator is not None or kind is None or kind.choices):
            return source
        source_target = kind is not None and kind.auto == "AutoModelForSeq2SeqLM"
        if training and is_live(source):
            return Live(source, source_target)
        return Features.of(source, source_target=source_target)

    def _check_names(self, source: Any) -> None:
        """Raises InvalidInput where a data set numbers the model's labels in another order than the model."""
        if not is_dataset(source) or getattr(getattr(self.model, "head_type", None), "auto", None) not in CLASSIFIERS:
            return
        own = names_of(self.model.config)
        for column, names in classes_of(source).items():
            if column not in LABELS or is_nameless(own) or is_nameless(names):
                continue
            if [name.casefold() for name in names] == [name.casefold() for name in own]:
                continue
            known = f"The column {column} numbers its labels as {shown(names)}, the model as {shown(own)}"
            if alike(names, own):
                raise InvalidInput(
                    f"{known}. Number them alike, with dataset.align_labels_with_mapping(model.config.label2id, "
                    f"{column!r}), or give the rows as they are with a task, which reads labels by name."
                )
            warn(f"{known}: numbers are taken as they are.")

    def sizes(self, features: Any, *, exact: bool = True) -> np.ndarray[Any, Any]:
        """Tokens of each example; 1 each where they need not be `exact` and examples are read at each use."""
        if isinstance(features, Features):
            return features.lengths
        if not hasattr(features, "__len__"):
            raise InvalidInput(
                f"A {type(features).__name__} does not tell how many examples it has: an order that can be resumed "
                "needs a data set with len() and [number]. Or say max_steps, for which enough of them are read."
            )
        if isinstance(features, Live) and exact:
            return np.concatenate([features.read(number).lengths for number in range(len(features))])
        numbers = range(len(features)) if exact else ()
        return np.array([_size(features[number]) for number in numbers] or [1] * len(features), dtype=np.int64)

    def where(self, features: Any, number: int) -> str:
        """Where an example's row stands, for messages."""
        return features.where(number) if isinstance(features, Features) else f"example {number}"

    def is_table(self, source: Mapping[str, Any]) -> bool:
        """Whether a dict is one data set of columns, not several data sets."""
        if all(isinstance(value, (str, os.PathLike)) for value in source.values()):
            return self.parallel(source)
        return all(isinstance(value, (list, np.ndarray)) and not _rows(value) for value in source.values())

    def parallel(self, files: Mapping[str, Any]) -> bool:
        """Whether a dict of files is one data set whose lines belong together, not a data set a file."""
        return False

    def check(self, features: Any, objective: Objective, *, learned: bool = True) -> None:
        """Raises InvalidInput for examples that the model cannot read or (`learned`) learn from."""
        if isinstance(features, Live):
            features.check = lambda one: self.check(one, objective, learned=learned)  # each, when it is read
        if not isinstance(features, Features):
            return
        needed = [name for name in objective.columns if learned or name not in objective.answers]
        lacking = [name for name in needed if name not in features.columns]
        if lacking:
            raise InvalidInput(
                f"Examples need {', '.join(lacking)}; they have {', '.join(features.columns)}. Give rows together "
                "with a task, or examples with these columns."
            )
        self._check_inputs(features)
        tokens = [name for name in features.ragged if name.endswith("input_ids") or name.startswith("input_ids")]
        features.check_vocabulary(self._vocabulary(), tokens)
        for name in tokens:
            if not features.ragged[name].lengths.all():
                where = features.where(int(np.argmin(features.ragged[name].lengths)))
                raise InvalidInput(f"{where} has no token in {name}. Leave such examples out.")
        self._check_labels(features)

    def _check_inputs(self, features: Features) -> None:
        """Raises InvalidInput for columns that the model's `forward` takes and packed batches do not carry."""
        own = getattr(getattr(self.model, "architecture", None), "inputs", ())
        given = [name for name in (*OWN, *own) if name in (*features.columns, *features.dropped)]
        if given and not self.padded:
            raise InvalidInput(
                f"Examples have {', '.join(given)}, which batches without padding do not carry. Leave it out, or give "
                "a function as data_collator, which makes the arguments of the model's forward."
            )

    def _vocabulary(self) -> int:
        return int(self.model.get_input_embeddings().num_embeddings)

    def _check_labels(self, features: Features) -> None:
        """Raises InvalidInput for a label that the model has not, with its row."""
        if self.padded or "labels" not in features.columns or not hasattr(self.model, "head_type"):
            return
        config = self.model.config
        words = self.model.head_type.auto in ("AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
        count = self.model.vocabulary if words else config.num_labels
        column = features.ragged.get("labels")
        values = column.flat if column is not None else features.numbers["labels"]
        if values.dtype.kind == "f" or (not words and count == 1) or not outside(values, count).size:
            return
        for number in range(len(features)):
            wrong = outside(np.atleast_1d(features[number]["labels"]), count)
            if wrong.size:
                advice = "" if words else f"Load it with num_labels={int(values.max()) + 1}, or mend the row."
                raise InvalidInput(
                    f"{features.where(number)} has the label {int(wrong[0])}, and the model has {count} labels (0 to "
                    f"{count - 1}; {IGNORED} is left out). {advice or 'Mend the row.'}"
                )

    def writes(self, arguments: Any) -> bool:
        """Whether what the model writes is judged, instead of its scores."""
        return bool(arguments.predict_with_generate) and isinstance(self.model, SequenceToSequence)

    def written(self, features: Any, arguments: Any, given: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        """The ids that the model writes for each source, filled up to one length.

        Args:
            given: options of generation, before those of the settings.
        """
        named = {"max_length": arguments.generation_max_length, "num_beams": arguments.generation_num_beams}
        if given.get("max_new_tokens") is not None:
            del named["max_length"]
        options = {name: value for name, value in {**named, **given}.items() if value is not None}
        found: dict[int, list[int]] = {}
        for numbers in batches(self.sizes(features).tolist(), most=32):
            texts = [np.asarray(features[number]["input_ids"]).tolist() for number in numbers]
            found |= dict(zip(numbers, self.model.generate(texts, **options).tolist(), strict=True))
        longest = max(map(len, found.values()))
        pad = self.model.config.pad_token_id or 0
        return [np.array([*found[n], *[pad] * (longest - len(found[n]))]) for n in range(len(features))]

    def answered_in(self, features: Any) -> bool:
        """Whether examples have targets, without which what the model writes has no loss."""
        return not isinstance(features, Features) or "labels" in features.columns

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        """How good the model is, beside its loss."""
        return {}

    @property
    def reloads(self) -> bool:
        """Whether the model's own files are all that its weights are restored from."""
        return hasattr(self.model, "from_pretrained") and not getattr(self.model, "active_adapters", None)

    def load(self, folder: Path) -> Any:
        """The model that `save` wrote."""
        return type(self.model).from_pretrained(folder, dtype=self.model.dtype)

    def save(self, folder: Path) -> None:
        """Writes the model and its tokenizer; of a module that has no files of its own its `state_dict`."""
        if hasattr(self.model, "save_pretrained"):
            self.model.save_pretrained(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write({k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}, folder / WEIGHTS)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)


def outside(labels: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """The labels that are none of 0 to count - 1, nor left out."""
    return labels[(labels >= count) | ((labels < 0) & (labels != IGNORED))]


def _size(example: Any) -> int:
    ids = example.get("input_ids") if isinstance(example, Mapping) else None
    return 1 if ids is None else length(ids)


def _rows(value: Any) -> bool:
    return bool(len(value)) and isinstance(value[0], Mapping)
