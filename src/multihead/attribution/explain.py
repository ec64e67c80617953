"""`explain(pipe, text)`: which words of an input led to an answer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InvalidInput, UnsupportedOption
from ..files import export_text
from ..pipelines.base import Pipeline
from .inputs import ExplainedInput, read_input
from .methods import (
    FLOOR,
    TOLERANCE,
    Attributions,
    Scorer,
    gradient_x_input,
    integrated_gradients,
    leave_one_out,
)
from .page import explanation_page

METHODS = ("integrated-gradients", "gradient-x-input", "leave-one-out")
LEVELS = ("word", "token")
# Words, single signs, and single characters of scripts without spaces: kana, Chinese characters, Thai, Lao, Khmer.
WORD = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff"
                  r"\u3400-\u9fff]+|[^\w\s]")  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Word or token with its attribution.

    Args:
        text: as it is in the input. value: positive where it speaks for the target, negative where against it.
        source: number of its text, 0 or 1. start, end: characters of it; all -1 for a special token.
    """

    text: str
    value: float
    source: int = -1
    start: int = -1
    end: int = -1


@dataclass(frozen=True)
class Explanation:
    """Result of `explain`.

    Args:
        target: label, answer or token that is explained. kind: of the score, such as "log-odds". score: of the input.
        baseline: score of the input without its words; None for methods without one.
        pieces: words or tokens in their order; special tokens last.
        error: score less baseline less the sum of all values, for integrated gradients. steps: points of their path.
    """

    task: str
    model: str
    method: str
    level: str
    texts: tuple[str, ...]
    target: str
    kind: str
    score: float
    pieces: Sequence[Piece]
    baseline: float | None = None
    error: float | None = None
    steps: int = 0
    notes: Sequence[str] = field(default_factory=tuple)

    def __repr__(self) -> str:
        top = sorted(self.words, key=lambda piece: -abs(piece.value))[:5]
        shown = ", ".join(f"{piece.text} {piece.value:+.2f}" for piece in top)
        return f"<{self.method} for {self.target!r} ({self.kind} {self.score:.2f}): {shown}>"

    @property
    def words(self) -> list[Piece]:
        """The pieces that are in the input, without special tokens."""
        return [piece for piece in self.pieces if piece.source >= 0]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the explanation as JSON, and write it to a file if one is named."""
        return export_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return a page that needs no network, and write it to a file if one is named."""
        return export_text(explanation_page(asdict(self)), path)


def explain(
    pipe: Pipeline, inputs: Any, method: str = METHODS[0], *, target: str | None = None, level: str = "word",
    steps: int | None = None, baseline: str | None = None, **options: Any,
) -> Explanation:  # fmt: skip
    """Return what each word of an input adds to a score of the model.

    Args:
        pipe: text-classification, zero-shot-classification or question-answering with a trained head, or
            text-generation.
        inputs: one input of the pipeline.
        method: "integrated-gradients", "gradient-x-input" or "leave-one-out". Gradients need a model as loaded, not
            one prepared or quantized.
        target: a label; "span", "start" or "end" of an answer; the next token. None: the pipeline's own answer.
        level: "word" or "token". steps: points of integrated gradients; None: until the sum is complete.
        baseline: what stands for absent words: "mask", "pad", "eos" or "zero". None: the first of these that the
            tokenizer has; leave-one-out without a mask token leaves words out.
        options: of calls of the pipeline, such as `candidate_labels`.

    Raises:
        InvalidInput: an input that the pipeline does not take, or is too long.
        UnsupportedOption: an unknown method, target or option; a model without gradients.
    """
    for name, value, known in (("method", method, METHODS), ("level", level, LEVELS)):
        if value not in known:
            raise UnsupportedOption(f"{name} is one of {', '.join(known)}, not {value!r}.")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 10_000):
        raise InvalidInput(f"steps is a whole number from 1 to 10,000, not {steps!r}.")
    if steps is not None and method != METHODS[0]:
        raise UnsupportedOption(f"steps has no effect on {method}.")
    source = read_input(pipe, inputs, target, options)
    scorer = Scorer(pipe, source, baseline)
    units, names = units_of(source, level)
    if method == METHODS[0]:
        found = integrated_gradients(scorer, steps)
    elif method == METHODS[1]:
        found = gradient_x_input(scorer)
    else:
        found = leave_one_out(scorer, units)
    pieces = [
        Piece(text, float(found.values[list(unit)].sum()), *place)
        for unit, (text, place) in zip(units, names, strict=True)
    ]
    specials = [n for n, place in enumerate(source.places) if place is None]
    if method != METHODS[2]:  # without a special token a model reads something it was not trained on
        pieces += [Piece(source.names[n], float(found.values[n])) for n in specials]
    return Explanation(
        pipe.task, str(pipe.model.name_or_path).partition("#sha256=")[0], method, level, source.texts, source.title,
        source.kind, found.score, pieces, found.baseline, found.error if method == METHODS[0] else None, found.steps,
        notes_of(found),
    )  # fmt: skip


def notes_of(found: Attributions) -> tuple[str, ...]:
    """Return a note if integrated gradients do not add up to the score difference."""
    if found.baseline is None or abs(found.error) <= max(TOLERANCE * abs(found.score - found.baseline), FLOOR):
        return ()
    return (
        f"The attributions add up to {found.score - found.baseline - found.error:.3f}, and the score differs by "
        f"{found.score - found.baseline:.3f}: {found.steps} steps are too few. Take more, or a larger dtype.",
    )


def units_of(source: ExplainedInput, level: str) -> tuple[list[list[int]], list[tuple[str, tuple[int, int, int]]]]:
    """Return the token numbers of each word or token, and its text with its place.

    A token belongs to the word in which its first character that is no space lies.
    """
    words = [[match.span() for match in WORD.finditer(text)] for text in source.texts]
    units: list[list[int]] = []
    spans: list[tuple[int, int, int]] = []
    last: Any = None
    for number, place in enumerate(source.places):
        if place is None:
            continue
        side, first, end = place
        text = source.texts[side][first:end]
        first += len(text) - len(text.lstrip()) if text.strip() else 0
        word = next((span for span in words[side] if span[0] <= first < span[1]), None) if level == "word" else None
        if word is not None and (side, word) == last:
            units[-1].append(number)
            spans[-1] = (side, spans[-1][1], max(spans[-1][2], end))
        else:
            units.append([number])
            spans.append((side, first, end))
        last = None if word is None else (side, word)
    return units, [(source.texts[side][first:end], (side, first, end)) for side, first, end in spans]
