"""Inputs whose answers are explained: tokens with their places in the text, and the score that is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidInput, UnsupportedOption, nearest
from ..pipelines.base import ForwardPipeline, Pipeline, text_of, too_long
from ..pipelines.calibration import Calibration
from ..pipelines.question_answering.pipeline import QuestionAnswering
from ..pipelines.text_classification import TextClassification
from ..pipelines.text_generation import TextGeneration
from ..pipelines.zero_shot import ZeroShotClassification
from .targets import LabelTarget, SpanTarget, Target, TokenTarget, places_of

PARTS = ("span", "start", "end")
Place = tuple[int, int, int] | None  # text, first and last character of a token; None for a special token


@dataclass(frozen=True)
class ExplainedInput:
    """One input of a model and the score that is explained.

    Args:
        texts: one text or two. ids, types: of the tokens; types are None where the model reads none.
        names: tokens as text. places: of each token in its text.
        target: the score. title: what the score is of, such as "POSITIVE". kind: of the score, in words.
    """

    texts: tuple[str, ...]
    ids: Sequence[int]
    types: Sequence[int] | None
    names: Sequence[str]
    places: Sequence[Place]
    target: Target
    title: str
    kind: str


def read_input(pipe: Pipeline, item: Any, target: Any, options: Mapping[str, Any]) -> ExplainedInput:
    """Return the input of a pipeline with the score that `target` names.

    Args:
        target: a label; "span", "start" or "end" of an answer; the next token as text. None: the pipeline's answer.

    Raises:
        InvalidInput: an input that the pipeline does not take, or is too long. UnsupportedOption: an unknown target,
            or a pipeline that cannot be explained.
    """
    readers = {
        TextClassification: read_classified, ZeroShotClassification: read_zero_shot, QuestionAnswering: read_question,
        TextGeneration: read_prompt,
    }  # fmt: skip
    for kind, reader in readers.items():
        if isinstance(pipe, kind):
            pipe.resolve_options(**options)
            return reader(pipe, item, target, options)
    raise UnsupportedOption(
        f"{pipe.task} by {type(pipe).__name__} cannot be explained. Explained are text-classification, "
        "zero-shot-classification and question-answering with a trained head, and text-generation."
    )


def read_classified(pipe: Any, item: Any, target: Any, options: Mapping[str, Any]) -> ExplainedInput:
    """Return a text or a pair with the log-odds of a label by the head alone; by default, of the answer."""
    o = pipe.resolve_options(**options)
    names = [str(name) for name in pipe.label_names]
    calibration = replace(o.calibration, thresholds={}) if isinstance(o.calibration, Calibration) else False
    answer = pipe([item], **{**options, "top_k": None, "calibration": calibration})[0]
    label = str(answer[0]["label"]) if target is None else str(target)
    if label not in names:
        raise UnsupportedOption(f"{label!r} is no label of {pipe.model.name_or_path}. {nearest(label, names)}")
    function = pipe.output_function([0.0] * len(names), None if o.function_to_apply == "none" else o.function_to_apply)
    kind = "number" if function == "none" else "log-odds"
    return encoded(pipe, pipe.validate(item, o), LabelTarget(names.index(label), function), label, kind)


def read_zero_shot(pipe: Any, item: Any, target: Any, options: Mapping[str, Any]) -> ExplainedInput:
    """Return a text and the hypothesis of a label with the log-odds of entailment; without a target, of the best."""
    answer = pipe(text_of(item), **options)
    o = pipe.resolve_options(**options)
    label = answer["labels"][0] if target is None else str(target)
    if label not in o.labels:
        raise UnsupportedOption(f"{label!r} is none of the candidate labels. {nearest(label, o.labels)}")
    return encoded(pipe, (item, o.hypothesis(label)), LabelTarget(pipe.entailment), label, "log-odds of entailment")


def encoded(
    pipe: ForwardPipeline, texts: str | tuple[str, str], target: Target, title: str, kind: str
) -> ExplainedInput:
    """Return the tokens of a text or a pair. Raises TextTooLong."""
    encoding = pipe.tokenizer.run([texts], words=False, special=True, limits=None)[0]
    if (error := too_long(len(encoding.ids), pipe.max_positions)) is not None:
        raise type(error)(f"The input {str(error).partition(' or pass ')[0].rstrip(',')}.")
    each = (texts,) if isinstance(texts, str) else texts
    return from_encoding(pipe, encoding, each, target, title, kind)


def from_encoding(
    pipe: ForwardPipeline, encoding: Any, texts: tuple[str, ...], target: Target, title: str, kind: str
) -> ExplainedInput:
    """Return the input of an encoding of the tokenizers library."""
    sides = encoding.sequence_ids
    places: list[Place] = [
        None if side is None or first == last else (side, first, last)
        for side, (first, last) in zip(sides, encoding.offsets, strict=True)
    ]
    types = list(encoding.type_ids) if pipe.reads_token_types else None
    return ExplainedInput(texts, list(encoding.ids), types, list(encoding.tokens), places, target, title, kind)


def read_question(pipe: Any, item: Any, target: Any, options: Mapping[str, Any]) -> ExplainedInput:
    """Return a question and the window of its context that holds the answer, with the log-probability of the answer."""
    part = "span" if target is None else str(target)
    if part not in PARTS:
        raise UnsupportedOption(f"The target of question-answering is one of {', '.join(PARTS)}, not {part!r}.")
    answer = pipe(item, **{**options, "top_k": 1, "handle_impossible_answer": False})
    if not isinstance(answer, Mapping):
        raise InvalidInput("The context has no answer that could be explained.")
    o = pipe.resolve_options(**options)
    pair = pipe.validate(item, o)
    windows = pipe.preprocess([pair], o)[0]
    texts = pair if pipe.context_side else pair[::-1]
    for window in windows:
        found = from_encoding(pipe, window.note, texts, TokenTarget(0), "", "")
        inside = [
            number for number, place in enumerate(found.places)
            if place and place[0] == pipe.context_side and place[1] < answer["end"] and place[2] > answer["start"]
        ]  # fmt: skip
        if inside and found.places[inside[0]][1] <= answer["start"] and found.places[inside[-1]][2] >= answer["end"]:  # type: ignore[index]
            allowed = places_of([place is not None and place[0] == pipe.context_side for place in found.places])
            span = SpanTarget(inside[0], inside[-1], part, allowed)
            title = answer["answer"] if part == "span" else f"{part} of {answer['answer']}"
            return from_encoding(pipe, window.note, texts, span, title, "log-probability")
    raise InvalidInput(f"The answer {answer['answer']!r} is in no single window of the context.")


def read_prompt(pipe: Any, item: Any, target: Any, options: Mapping[str, Any]) -> ExplainedInput:
    """Return a prompt with the log-probability of the next token; without a target, of the likeliest one."""
    text = item if isinstance(item, str) else pipe.tokenizer.apply_chat_template(
        item, tokenize=False, add_generation_prompt=True
    )  # fmt: skip
    special = isinstance(item, str)
    encoding = pipe.tokenizer.run([text_of(text)], words=False, special=special, limits=None)[0]
    if not encoding.ids:
        raise InvalidInput("The prompt has no tokens, so that there is nothing to explain by.")
    if (error := too_long(len(encoding.ids), pipe.context_length)) is not None:
        raise type(error)(f"The prompt {str(error).partition(' or pass ')[0].rstrip(',')}.")
    token = next_token(pipe, encoding.ids) if target is None else target_token(pipe, text, str(target), special)
    places: list[Place] = [
        None if side is None or first == last else (0, first, last)
        for side, (first, last) in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    ]
    return ExplainedInput(
        (text,), list(encoding.ids), None, list(encoding.tokens), places, TokenTarget(token),
        pipe.tokenizer.decode([token]), "log-probability of the next token",
    )  # fmt: skip


def next_token(pipe: Any, ids: Sequence[int]) -> int:
    """Return the likeliest next token."""
    import torch

    with torch.inference_mode():
        return int(pipe.model.run([list(ids)], at=[len(ids) - 1]).scores.float().argmax())


def target_token(pipe: Any, text: str, word: str, special: bool) -> int:
    """Return the first token of a word that follows a text. Raises InvalidInput for a word without tokens."""
    before, whole = (pipe.tokenizer.encode_ids([each], special=special)[0] for each in (text, text + word))
    same = next((n for n, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
    if same >= len(whole) or same < len(before):
        alone = pipe.tokenizer.encode_ids([word], special=False)[0]
        if not alone:
            raise InvalidInput(f"The target {word!r} has no token.")
        return int(alone[0])
    return int(whole[same])
