"""Settings that a checkpoint has for decisions, in the reference's file `decision.json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...config import read_json
from ...errors import CacheUnusable, InvalidInput, MultiheadError, UnsupportedConfig
from ...hub.names import resolve
from ...hub.request import Want
from ..calibration import Calibration
from .questions import CHOICE, PREDICATE, SCORE, Question

FILE, TEMPLATE = "decision.json", "decision_template.jinja"
TYPES: Mapping[str, str] = {"noul": PREDICATE, CHOICE: CHOICE, SCORE: SCORE}  # the file's name of a type -> ours
IGNORED = ("sort_choices",)  # of older exports, which the reference ignores too


@dataclass(frozen=True)
class DecisionSettings:
    """Settings of `decision.json`.

    Args:
        labels: type -> tokens that stand for its options, one each. temperature: type -> number that divides scores.
        true_first: order of the options of a predicate.
        sanitize: control tokens in requests are read as plain text.
    """

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    temperature: Mapping[str, float] = field(default_factory=dict)
    true_first: bool = True
    sanitize: bool = True

    def calibration(self, kind: str) -> Calibration | None:
        """Return the calibration of a type of question, if there is one."""
        return Calibration(self.temperature[kind]) if kind in self.temperature else None

    def order(self, question: Question) -> Question:
        """Return a question with its options in the order of the prompt, which is the file's for a predicate."""
        if question.type != PREDICATE:
            return question
        options = sorted(question.options, key=lambda option: bool(option.value) is not self.true_first)
        return replace(question, options=tuple(options))

    @classmethod
    def read(cls, entries: Any, source: str) -> DecisionSettings:
        """Return the settings of a file.

        Raises:
            InvalidInput: entries that are wrong. UnsupportedConfig: entries that are not computed here.
        """
        given = dict(entries) if isinstance(entries, Mapping) else {"": entries}
        for name in IGNORED:
            given.pop(name, None)
        for name in ("chat_template", "adapter"):
            if given.pop(name, None) is not None:
                raise UnsupportedConfig(f"{source} has {name!r}, which decisions do not read here.")
        order = given.pop("noul_options", ["true", "false"])
        labels, temperature = given.pop("labels", {}), given.pop("temperature", {})
        sanitize = given.pop("sanitize_control_tokens", True)
        if given:
            raise UnsupportedConfig(f"{source} has the entry {next(iter(given))!r}, which decisions do not know.")
        if (
            not isinstance(order, list)
            or sorted(map(str, order)) != ["false", "true"]
            or not isinstance(sanitize, bool)
        ):
            raise InvalidInput(f"{source}: noul_options are 'true' and 'false', sanitize_control_tokens true or false.")
        if not all(isinstance(each, Mapping) and set(each) <= set(TYPES) for each in (labels, temperature)):
            raise InvalidInput(f"{source}: labels and temperature have the entries {', '.join(TYPES)}.")
        return cls(
            {TYPES[kind]: read_labels(own, source) for kind, own in labels.items()},
            {TYPES[kind]: Calibration(own).temperature for kind, own in temperature.items()},
            order[0] == "true",
            sanitize,
        )


def read_labels(given: Any, source: str) -> tuple[str, ...]:
    """Return the labels of a type. Raises InvalidInput."""
    if not isinstance(given, list) or not given or not all(isinstance(each, str) and each for each in given):
        raise InvalidInput(f"{source}: labels of a type are a list of tokens, not {given!r:.80}.")
    return tuple(given)


def find_settings(name: str | os.PathLike[str], **download: Any) -> DecisionSettings:
    """Return the settings of a checkpoint; those of none if it has no `decision.json`.

    Raises:
        UnsupportedConfig: settings that are not computed here, such as a template of its own.
    """
    try:
        place = resolve(name, {Want.CONFIG}, **download)
    except CacheUnusable:
        raise
    except MultiheadError:  # a model in memory, without files
        return DecisionSettings()
    folder = place if place.is_dir() else place.parent
    if (folder / TEMPLATE).is_file():
        raise UnsupportedConfig(f"{folder / TEMPLATE}: decisions do not read a template of the checkpoint's own here.")
    file = folder / FILE
    return DecisionSettings.read(read_json(file), str(file)) if file.is_file() else DecisionSettings()
