"""Typed questions, their options, and the answers that probabilities give."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .fields import InvalidField, join_path, read_fields, read_list, read_parts, read_text

PREDICATE, CHOICE, SCORE = "predicate", "choice", "score"
FIELDS: Mapping[str, str] = {PREDICATE: "", CHOICE: "choices", SCORE: "levels"}  # type -> field with its options
LEAST, MOST = 2, 255  # options of a choice or a score
MOST_QUESTIONS = 400


@dataclass(frozen=True)
class Option:
    """Possible answer.

    Args:
        value: in answers: the value of a choice, the number of a level from 0, True or False of a predicate.
        text: name that the model reads. description: what it means; empty if the name says it.
    """

    value: str | bool | int
    text: str
    description: str = ""

    @property
    def words(self) -> str:
        """Name and description."""
        return ": ".join(part for part in (self.text, self.description) if part)


@dataclass(frozen=True)
class Question:
    """Question with its options in the order of the prompt.

    Args:
        type: "predicate", "choice" or "score". name: in answers; None without.
    """

    type: str
    instructions: str
    options: tuple[Option, ...]
    name: str | None = None

    def answer(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """Return the answer, from the probability of each option.

        A confidence is 1 for one certain option, and 0 for options that are all as likely.
        """
        named = {"type": self.type, "name": self.name}
        if self.type == PREDICATE:
            true = next(p for option, p in zip(self.options, probabilities, strict=True) if option.value is True)
            return {**named, "probability": true}
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        pairs = list(zip(self.options, probabilities, strict=True))
        if self.type == CHOICE:
            rows = [{"value": option.value, "probability": p} for option, p in pairs]
            confidence = confidence_of_choice(probabilities)
            return {**named, "choice": self.options[best].value, "confidence": confidence, "probabilities": rows}
        levels = [{"label": option.text, "value": option.value, "probability": p} for option, p in pairs]
        score = sum(level * p for level, p in enumerate(probabilities))
        return {**named, "score": score, "confidence": confidence_of_score(probabilities), "probabilities": levels}


def confidence_of_choice(probabilities: Sequence[float]) -> float:
    """Return how far the greatest probability is above an equal share, as a part of what is possible."""
    share = 1 / len(probabilities)
    return 1.0 if share == 1 else max(0.0, (max(probabilities) - share) / (1 - share))


def confidence_of_score(probabilities: Sequence[float]) -> float:
    """Return 1 less the expected distance to the likeliest level, as a part of that of equally likely levels.

    The latter is measured from the middle of the scale.
    """
    count = len(probabilities)
    if count == 1:
        return 1.0
    best = max(range(count), key=probabilities.__getitem__)
    distance = sum(p * abs(level - best) for level, p in enumerate(probabilities))
    uniform = sum(abs(level - (count - 1) / 2) for level in range(count)) / count
    return max(0.0, 1 - distance / uniform)


def read_questions(given: Any, path: str = "questions") -> list[Question]:
    """Return the questions of a request: a list, or its JSON. Raises InvalidField."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except json.JSONDecodeError as error:
            raise InvalidField(f"{path} is a list of questions or its JSON: {error}.", path) from error
    return [read_question(each, f"{path}[{n}]") for n, each in enumerate(read_list(given, path, 1, MOST_QUESTIONS))]


def read_question(given: Any, path: str) -> Question:
    """Return a question. Raises InvalidField."""
    kind = given.get("type") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in FIELDS:
        where = join_path(path, "type")
        raise InvalidField(f"{where} is one of {', '.join(FIELDS)}, not {kind!r:.80}.", where)
    own = FIELDS[kind]
    fields = read_fields(given, path, ("type", "instructions", *([own] if own else [])), ("name",))
    instructions = read_text(read_parts(fields["instructions"], f"{path}.instructions"), f"{path}.instructions")
    name = fields.get("name")
    if name is not None:
        read_text(name, f"{path}.name")
    if kind == PREDICATE:
        options = predicate_options()
    else:
        options = read_choices(fields[own], path) if kind == CHOICE else read_levels(fields[own], path)
    return Question(kind, instructions, options, name)


def predicate_options(true: str = "", false: str = "") -> tuple[Option, ...]:
    """Return the options of a predicate, with their descriptions."""
    return Option(True, "true", true), Option(False, "false", false)


def read_choices(given: Any, path: str) -> tuple[Option, ...]:
    """Return the options of a choice. Raises InvalidField for values that are no texts or booleans, or not unique."""
    options: dict[tuple[type, Any], Option] = {}
    for number, each in enumerate(read_list(given, f"{path}.choices", LEAST, MOST)):
        where = f"{path}.choices[{number}]"
        fields = read_fields(each, where, ("value",), ("description",))
        value = fields["value"]
        if not isinstance(value, bool):
            read_text(value, f"{where}.value")
        key = type(value), value
        if key in options:
            raise InvalidField(f"{where}.value {value!r:.80} is there twice.", f"{where}.value")
        text = str(value).lower() if isinstance(value, bool) else value
        options[key] = Option(value, text, read_description(fields, where))
    return tuple(options.values())


def read_levels(given: Any, path: str) -> tuple[Option, ...]:
    """Return the levels of a score, the lowest first. Raises InvalidField."""
    options: list[Option] = []
    for number, each in enumerate(read_list(given, f"{path}.levels", LEAST, MOST)):
        where = f"{path}.levels[{number}]"
        fields = read_fields(each, where, ("label",), ("description",))
        label = read_text(fields["label"], f"{where}.label")
        if any(option.text == label for option in options):
            raise InvalidField(f"{where}.label {label!r:.80} is there twice.", f"{where}.label")
        options.append(Option(number, label, read_description(fields, where)))
    return tuple(options)


def read_description(fields: Mapping[str, Any], path: str) -> str:
    """Return the description of an option; empty without one. Raises InvalidField."""
    given = fields.get("description")
    return "" if given is None else read_text(given, f"{path}.description", empty=True)
