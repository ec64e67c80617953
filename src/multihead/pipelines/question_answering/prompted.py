"""Tasks that a language model answers by a short prompt, without a trained head."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from ...errors import InvalidInput, MultiheadError
from ..answers import WithNotices
from ..base import PipelineOptions
from ..generation_base import GenerationOptions, GenerationPipeline, SingleLinePipeline, Text2TextPipeline, fill_prompt
from ..streaming_batcher import ModelInput, Preprocessed
from .passages import MOST, choose_passages, split_passages
from .pipeline import QuestionContextPipeline

SPARE = 8  # tokens that a prompt may have more than its parts, and special tokens


@dataclass(frozen=True, kw_only=True)
class GeneratedAnswersOptions(GenerationOptions):
    """Options of question-answering by a model that generates.

    Args:
        context_tokens: tokens of a context that the model reads at most; of a longer one it reads the passages that
            have most words of the question. Default: as many as the model reads.
    """

    context_tokens: int | None = None

    def check(self) -> None:
        super().check()
        most = self.context_tokens
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise InvalidInput(f"context_tokens is a whole number from 1, not {most!r}.")


class ContextPart(NamedTuple):
    """Part of a context that a model reads: its text, the passages (start, end) that it is made of, and their number
    in the whole context.
    """

    text: str
    spans: Sequence[tuple[int, int]]
    passages: int


class GeneratedAnswers(QuestionContextPipeline, GenerationPipeline):
    """Answers that a model generates: `{"answer"}`, with `start` and `end` if the context has the same words."""

    Options: ClassVar[type[PipelineOptions]] = GeneratedAnswersOptions
    prompt_text: str

    def prompt_limit(self, o: Any) -> int | None:
        """Return the tokens of a prompt at most; None if the model sets no limit."""
        raise NotImplementedError

    def parts(self, items: Sequence[tuple[str, str]], o: GeneratedAnswersOptions) -> list[ContextPart]:
        """Return what the model reads of each context: all of it, or the passages that fit the question best."""
        limit, prompt = self.prompt_limit(o), self.prefix + (o.prompt or self.prompt_text)
        own = self.count_tokens([fill_prompt(prompt, question=question, context="") for question, _ in items])
        sizes = self.count_tokens([context for _, context in items])
        parts = []
        for (question, context), taken, size in zip(items, own, sizes, strict=True):
            rooms = [n for n in (o.context_tokens, None if limit is None else limit - taken - SPARE) if n is not None]
            room = min(rooms, default=size)
            whole = size <= room or room < 1  # without room for a context, the question is too long
            part = ContextPart(context, [(0, len(context))], 1)
            parts.append(part if whole else self.best_part(question, context, room))
        return parts

    def best_part(self, question: str, context: str, room: int) -> ContextPart:
        """Return the passages of a context that fit a question best and have at most `room` tokens together."""
        spans = split_passages(context, max(min(MOST, 2 * room), 1))
        sizes = self.count_tokens([context[a:b].strip() + "\n" for a, b in spans])
        chosen = [spans[n] for n in choose_passages(question, context, sizes, spans, room)]
        return ContextPart("\n".join(context[a:b].strip() for a, b in chosen), chosen, len(spans))

    def postprocess(self, item: tuple[str, str], inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Any:
        part: ContextPart = inputs[0].note
        answers = [locate_answer(self.decode(ids, o), item[1], part.spans) for ids in outputs[0]]
        record = answers[0] if len(answers) == 1 else answers
        if len(part.spans) == part.passages:
            return record
        read = f"{len(part.spans)} of {part.passages}"
        return WithNotices(record, [f"The context is longer than the model reads: {read} passages were read."])


class PromptedAnswers(GeneratedAnswers, SingleLinePipeline):
    """Answers questions about a context in a few words, by a prompt with worked examples."""

    prompt_text = (
        "Text: Marie Curie was born in Warsaw in 1867. She moved to Paris, where she discovered radium together with "
        "her husband Pierre, and won two Nobel Prizes.\n"
        "Question: Where was Curie born?\nAnswer: Warsaw\n"
        "Question: Who discovered radium with her?\nAnswer: her husband Pierre\n"
        "Question: How many Nobel Prizes did she win?\nAnswer: two\n"
        "Question: What did she discover?\nAnswer: radium\n\n"
        "Text: The Eiffel Tower in Paris was finished in 1889 by the company of Gustave Eiffel. It is 330 metres "
        "tall.\n"
        "Question: When was the tower finished?\nAnswer: 1889\n"
        "Question: Whose company built it?\nAnswer: the company of Gustave Eiffel\n"
        "Question: How tall is it?\nAnswer: 330 metres\n\n"
        "Text: {context}\nQuestion: {question}\nAnswer:"
    )
    new_tokens = 32

    def prompt_limit(self, o: Any) -> int | None:
        limits = [n for n in (self.context_length, self.model.max_positions) if n is not None]
        return min(limits) - (self.full_config(o).max_new_tokens or 1) if limits else None

    def preprocess(self, items: Sequence[tuple[str, str]], o: Any) -> list[Preprocessed]:
        config, prompt, parts = self.full_config(o), o.prompt or self.prompt_text, self.parts(items, o)
        texts = [fill_prompt(prompt, question=q, context=part.text) for (q, _), part in zip(items, parts, strict=True)]
        return with_notes(
            [self.make_input(ids, config) for ids in self.tokenizer.encode_ids(texts, controls=False)], parts
        )


class Text2TextAnswers(GeneratedAnswers, Text2TextPipeline):
    """Answers with an encoder-decoder, in the prompt format of T5 (arXiv:1910.10683, appendix D)."""

    prompt_text = "question: {question} context: {context}"

    def prompt_limit(self, o: Any) -> int | None:
        return None if o.truncation else self.limit

    def preprocess(self, items: Sequence[tuple[str, str]], o: Any) -> list[Preprocessed]:
        prompt, parts = o.prompt or self.prompt_text, self.parts(items, o)
        texts = [fill_prompt(prompt, question=q, context=part.text) for (q, _), part in zip(items, parts, strict=True)]
        return with_notes(self.encode_sources(texts, o), parts)


def with_notes(inputs: Sequence[Preprocessed], notes: Sequence[Any]) -> list[Preprocessed]:
    """Return the model inputs of each item with the item's note; errors unchanged."""
    return [
        own if isinstance(own, MultiheadError) else [replace(each, note=note) for each in own]
        for own, note in zip(inputs, notes, strict=True)
    ]


def locate_answer(text: str, context: str, spans: Sequence[tuple[int, int]] | None = None) -> dict[str, Any]:
    """Return the first line of a generated text, with its place in the context if it is there.

    Args:
        spans: passages (start, end) of the context that the model read. Default: all of it.
    """
    answer = text.strip().partition("\n")[0].strip()
    words = re.compile(re.escape(answer.rstrip(".")), re.IGNORECASE)
    matches = (words.search(context, *span) for span in spans or [(0, len(context))])
    match = next((match for match in matches if match), None) if words.pattern else None
    return {"answer": answer, **({"start": match.start(), "end": match.end()} if match else {})}
