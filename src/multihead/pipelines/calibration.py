"""Calibration of a classifier: what makes its scores probabilities, fitted on labeled rows and stored with the model.

A calibration is the entry `calibration` of config.json, or of multihead_config.json for an adapter, so that
`save_pretrained` and uploads keep it; other libraries ignore it. It is also a JSON file of its own, which serves models
without a folder and prompts: `pipeline(..., calibration="calibration.json")`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import CONFIG_FILE, read_json, write_json
from ..errors import InvalidInput, ModelNotFound
from ..hub.choice import ADAPTER_CONFIG, ADAPTER_LABELS

ENTRY = "calibration"
ABSTAIN = "unknown"  # label of an answer below its threshold


@dataclass(frozen=True)
class Calibration:
    """Bias-corrected temperature scaling (Alexandari et al., 2020, arXiv:1901.06852) and thresholds of abstention.

    Args:
        temperature: divides logits (Guo et al., 2017, arXiv:1706.04599). Above 1 makes scores less sure.
        bias: label -> number that is added to its logit afterwards; 0 for a label without one.
        thresholds: label -> least probability of an answer with this label; below it the answer is `ABSTAIN`.
        facts: how it was fitted: rows, data, errors before and after. They change nothing.
    """

    temperature: float = 1.0
    bias: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise InvalidInput(f"The temperature of a calibration is a number above 0, not {self.temperature!r}.")
        for name in ("bias", "thresholds", "facts"):
            if not isinstance(getattr(self, name), Mapping):
                raise InvalidInput(f"{name!r} of a calibration maps labels to numbers; it is {getattr(self, name)!r}.")
        for label, value in self.bias.items():
            if not _is_number(value):
                raise InvalidInput(f"The bias of the label {label!r} is a number, not {value!r}.")
        for label, value in self.thresholds.items():
            if not _is_number(value) or not 0 <= value <= 1:
                raise InvalidInput(f"The threshold of the label {label!r} is a number from 0 to 1, not {value!r}.")

    def apply(self, logits: Tensor, labels: Sequence[Any]) -> Tensor:
        """Return calibrated logits.

        Args:
            logits: (..., labels). labels: their names.

        Raises:
            InvalidInput: the calibration has a label that is none of `labels`.
        """
        self.check_labels(labels)
        return logits / self.temperature + logits.new_tensor([self.bias.get(str(label), 0.0) for label in labels])

    def check_labels(self, labels: Sequence[Any]) -> None:
        """Raise InvalidInput if the calibration has a label that is none of `labels`."""
        if other := [label for label in (*self.bias, *self.thresholds) if label not in map(str, labels)]:
            raise InvalidInput(
                f"The calibration has the label {other[0]!r}, and the model has {', '.join(map(repr, labels))}. It was "
                "fitted for other labels: fit it again, or pass calibration=False."
            )

    def accepts(self, label: Any, probability: float) -> bool:
        """Return False if a probability is below the threshold of its label."""
        return probability >= self.thresholds.get(str(label), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of the stored form, without those that change nothing."""
        entries = {"temperature": self.temperature, "bias": dict(self.bias), "thresholds": dict(self.thresholds)}
        return {name: value for name, value in {**entries, "facts": dict(self.facts)}.items() if value != {}}

    @classmethod
    def read(cls, entries: Any, source: str = "The calibration") -> Calibration:
        """Return the calibration of stored entries. Raises InvalidInput, which names the source."""
        names = ("temperature", "bias", "thresholds", "facts")
        if not isinstance(entries, Mapping) or set(entries) - set(names):
            raise InvalidInput(f"{source} is an object with the entries {', '.join(names)}; it is {entries!r:.200}.")
        try:
            return cls(**entries)
        except InvalidInput as error:
            raise InvalidInput(f"{source}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read a calibration from a JSON file, or from the folder of a model or adapter.

        Raises:
            ModelNotFound, CorruptFile: the file. InvalidInput: no calibration is stored there, or one with other
                entries.
        """
        place = Path(path)
        if not place.exists():
            raise ModelNotFound(f"There is no calibration {str(path)!r}: it is a JSON file, or the folder of a model.")
        if not place.is_dir():
            return cls.read(read_json(place), str(place))
        file = _config_file(place)
        found = read_json(file).get(ENTRY) if file.is_file() else None
        if found is None:
            raise InvalidInput(f"{file} holds no calibration.")
        return cls.read(found, f"{ENTRY!r} in {file}")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the calibration to a JSON file, or into the folder of a model or adapter, and return the file.

        Raises:
            InvalidInput: the folder holds no model, or the file cannot be written.
        """
        place = Path(path)
        file = _config_file(place) if place.is_dir() else place
        entries = self.to_dict()
        if place.is_dir():
            entries = {**(read_json(file) if file.is_file() else {}), ENTRY: entries}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, entries)
        except OSError as error:
            raise InvalidInput(f"{file} cannot be written: {error}.") from error
        return file


def _config_file(folder: Path) -> Path:
    """Return the file of a folder that holds the calibration. Raises InvalidInput if the folder holds no model."""
    if (folder / ADAPTER_CONFIG).is_file():
        return folder / ADAPTER_LABELS
    if (folder / CONFIG_FILE).is_file():
        return folder / CONFIG_FILE
    raise InvalidInput(
        f"{folder} is no folder of a model or an adapter: it has no {CONFIG_FILE} and no {ADAPTER_CONFIG}. For a model "
        "without a folder, name a JSON file for the calibration and give it to pipeline(..., calibration=FILE)."
    )


def find_calibration(given: Any, model: Any) -> Calibration | None:
    """Return the calibration that an option stands for.

    Args:
        given: True for the one stored with the model, if any; False or None for none; a `Calibration`, or a file or
            folder with one.

    Raises:
        InvalidInput: it is none of these; as `Calibration.load` does.
    """
    if given is True:
        stored = getattr(model.config, ENTRY, None)
        return None if stored is None else Calibration.read(stored, f"{ENTRY!r} of {model.name_or_path}")
    if given is False or given is None or isinstance(given, Calibration):
        return given or None
    if isinstance(given, (str, os.PathLike)):
        return Calibration.load(given)
    raise InvalidInput(f"calibration is True, False, a Calibration or a file with one, not {given!r:.80}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
