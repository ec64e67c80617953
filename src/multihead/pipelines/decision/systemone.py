"""Requests and answers of System One, the reference's `/v1/systemone`: `{"model", "state", "questions"}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .fields import InvalidField, join_path, read_fields, write_json
from .questions import CHOICE, MOST, PREDICATE, SCORE, Option, Question, predicate_options
from .state import DecisionInput

MOST_QUESTIONS = 64
TYPES: Mapping[str, str] = {"noul": PREDICATE, "choice": CHOICE, "score": SCORE}
NAMES: Mapping[str, str] = {name: kind for kind, name in TYPES.items()}


@dataclass(frozen=True)
class SystemOneRequest:
    """Request that was read.

    Args:
        model: name, if the request has one. input: for the pipeline, with scoring="letters".
        legends: name of each score -> its levels as they were given.
    """

    model: str | None
    input: DecisionInput
    legends: Mapping[str, Mapping[str, Any]]

    def answer(self, answers: Sequence[Mapping[str, Any]], input_tokens: int) -> dict[str, Any]:
        """Return the response.

        Args:
            answers: of the pipeline. input_tokens: of all prompts (`answer.metadata.tokens`).
        """
        named = {str(each["name"]): self._answer(each) for each in answers}
        usage = {"input_tokens": input_tokens, "output_tokens": 0}
        return {"model": self.model, "answers": named, "usage": usage}

    def _answer(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return one answer of the pipeline in System One's shape."""
        kind = {"type": NAMES[given["type"]]}
        if given["type"] == PREDICATE:
            return {**kind, "noul": given["probability"]}
        rows = {str(row["value"]): row["probability"] for row in given["probabilities"]}
        if given["type"] == CHOICE:
            return {**kind, "choice": given["choice"], "confidence": given["confidence"], "probabilities": rows}
        legend = dict(self.legends[str(given["name"])])
        return {**kind, "score": given["score"], "legend": legend, "confidence": given["confidence"],
                "probabilities": rows}  # fmt: skip


def read_request(given: Any) -> SystemOneRequest:
    """Return a request. Raises InvalidField, which names an unknown, missing or wrong field."""
    fields = read_fields(given, "", ("state", "questions"), ("model", "assets"))
    model, questions = fields.get("model"), fields["questions"]
    if model is not None and not isinstance(model, str):
        raise InvalidField(f"model is a name (a string), not {model!r:.80}.", "model")
    if fields.get("assets"):
        raise InvalidField("assets are images, which no model of this pipeline reads.", "assets")
    if not isinstance(questions, Mapping) or not 1 <= len(questions) <= MOST_QUESTIONS:
        raise InvalidField(f"questions maps 1 to {MOST_QUESTIONS} names to questions.", "questions")
    read = [read_question(str(name), each) for name, each in questions.items()]
    legends = {
        str(name): {str(level): text for level, text in enumerate(each["criteria"])}
        for name, each in questions.items()
        if each["type"] == "score"
    }
    state = fields["state"]
    if not isinstance(state, (str, Mapping, list)):
        raise InvalidField(f"state is a text, an object or a list, not {state!r:.80}.", "state")
    return SystemOneRequest(model, DecisionInput(content_text(state, "state"), read), legends)


def read_question(name: str, given: Any) -> Question:
    """Return a question. Raises InvalidField."""
    path = f"questions.{name}"
    kind = given.get("type") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in TYPES:
        where = join_path(path, "type")
        raise InvalidField(f"{where} is one of {', '.join(TYPES)}, not {kind!r:.80}.", where)
    needed = ("type",) if kind == "noul" else ("type", "criteria")
    fields = read_fields(given, path, needed, ("instructions", *(["criteria"] if kind == "noul" else [])))
    where, criteria = f"{path}.criteria", fields.get("criteria")
    options: tuple[Option, ...]
    if kind == "noul":
        named = {} if criteria is None else read_fields(criteria, where, (), ("true", "false"))
        options = predicate_options(*(content_text(named.get(key), f"{where}.{key}") for key in ("true", "false")))
    elif kind == "choice":
        if not isinstance(criteria, Mapping) or not 1 <= len(criteria) <= MOST:
            raise InvalidField(f"{where} maps 1 to {MOST} choices to their descriptions or null.", where)
        options = tuple(
            Option(str(key), str(key), content_text(text, f"{where}.{key}")) for key, text in criteria.items()
        )
    else:
        if not isinstance(criteria, list) or not 1 <= len(criteria) <= MOST or None in criteria:
            raise InvalidField(f"{where} is a list of 1 to {MOST} levels, the lowest first.", where)
        options = tuple(Option(n, "", content_text(text, f"{where}[{n}]")) for n, text in enumerate(criteria))
    instructions = content_text(fields.get("instructions"), f"{path}.instructions")
    return Question(TYPES[kind], instructions, options, name)


def content_text(value: Any, path: str) -> str:
    """Return a text as it is, an object or a list as JSON, and null as an empty text. Raises InvalidField."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, (Mapping, list)):
        raise InvalidField(f"{path} is a text, an object or a list, not {value!r:.80}.", path)
    return write_json(value, path)
