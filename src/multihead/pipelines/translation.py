"""translation: a text in another language, translated sentence by sentence, with its layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import InvalidInput, MultiheadError
from ..generation.config import GenerationConfig
from ..tokenizers.languages import language_frame, name_of
from .base import PipelineOptions
from .catalog import LANGUAGE_PAIR
from .generation_base import CausalLMPipeline, GenerationOptions, GenerationPipeline, Text2TextPipeline, fill_prompt
from .splitting import Span, split_sentences, split_to_fit
from .streaming_batcher import ModelInput, Preprocessed, join_inputs

LENGTH_FACTOR = 2  # new tokens of a translation at most: this many times its source's tokens,
LENGTH_SPARE = 20  # and so many more
MAX_TOKENS = 256  # of a sentence if the model sets no limit: what translation models are trained with


@dataclass(frozen=True, kw_only=True)
class TranslationOptions(GenerationOptions):
    """Options of translation.

    Args:
        src_lang, tgt_lang: for models of several languages: the model's codes ("eng_Latn", "en_XX"), or "en".
        split_sentences: translates sentence by sentence and keeps what is between them. False translates each text
            whole.
    """

    src_lang: str | None = None
    tgt_lang: str | None = None
    split_sentences: bool = True


class TranslationPipeline(GenerationPipeline):
    """Base of both ways to translate: `[{"translation_text": ...}]`."""

    says_finish_reason = True
    Options: ClassVar[type[PipelineOptions]] = TranslationOptions
    key = "translation"
    by_sentence: ClassVar[bool] = True  # else by line

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        super().__init__(model, tokenizer, name, **options)
        if (pair := LANGUAGE_PAIR.fullmatch(name)) is not None:
            self.defaults = {"src_lang": pair[1], "tgt_lang": pair[2], **self.defaults}

    def spans(self, text: str, o: TranslationOptions) -> list[Span]:
        """Return the spans of a text that are translated; the rest stays as it is."""
        if not o.split_sentences:
            return [(0, len(text))]
        units = split_sentences(text) if self.by_sentence else split_lines(text)
        return split_to_fit(text, units, self.max_span_tokens, self.count_tokens)

    @property
    def max_span_tokens(self) -> int:
        return MAX_TOKENS

    def preprocess(self, items: Sequence[str], o: TranslationOptions) -> list[Preprocessed]:
        spans = [self.spans(text, o) for text in items]
        texts = [text[start:end] for text, own in zip(items, spans, strict=True) for start, end in own]
        flat = iter(self.encode_spans(texts, o))
        result: list[Preprocessed] = []
        for own in spans:
            inputs = join_inputs([next(flat) for _ in own])
            if not isinstance(inputs, MultiheadError):
                inputs = [replace(each, note=span) for each, span in zip(inputs, own, strict=True)]
            result.append(inputs)
        return result

    def encode_spans(self, texts: Sequence[str], o: TranslationOptions) -> list[Preprocessed]:
        """Return one model input for each text that is translated alone."""
        raise NotImplementedError

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TranslationOptions
    ) -> Any:
        if len(inputs) == 1 and inputs[0].note == (0, len(item)):
            return self.finished([self.record(ids, o) for ids in outputs[0]], inputs, outputs, o)
        if o.return_tensors:
            raise InvalidInput("return_tensors needs split_sentences=False for texts of several sentences.")
        texts = [[self.decode(ids, o) for ids in sequences] for sequences in outputs]
        records = [{"translation_text": replace_spans(item, inputs, row)} for row in zip(*texts, strict=True)]
        return self.finished(records or [{"translation_text": item}], inputs, outputs, o)


class Translation(TranslationPipeline, Text2TextPipeline):
    """Translates with an encoder-decoder."""

    def default_new_tokens(self, longest: int) -> int:
        return LENGTH_FACTOR * longest + LENGTH_SPARE

    @property
    def max_span_tokens(self) -> int:
        return min((self.limit or MAX_TOKENS) - 8, MAX_TOKENS)

    def encode_spans(self, texts: Sequence[str], o: TranslationOptions) -> list[Preprocessed]:
        languages = language_frame(self.tokenizer, o.src_lang, o.tgt_lang)
        if languages.before is None:
            return self.encode_sources([languages.text + text for text in texts], o)
        ids = self.tokenizer.encode_ids([self.prefix + text for text in texts], special=False)
        return self.check_lengths([[*languages.before, *own, *languages.after] for own in ids], texts, o)

    def config(self, o: Any, **defaults: Any) -> GenerationConfig:
        first = language_frame(self.tokenizer, o.src_lang, o.tgt_lang).first
        if first is not None and "forced_bos_token_id" not in o.generation:
            return super().config(o, **defaults).changed(forced_bos_token_id=first)
        return super().config(o, **defaults)


class PromptedTranslation(TranslationPipeline, CausalLMPipeline):
    """Translates with a language model, a paragraph at a time."""

    prompt_text = "Translate the following text from {source} to {target}. Answer with the translation only.\n\n{text}"
    new_tokens = 512
    by_sentence = False

    def encode_spans(self, texts: Sequence[str], o: TranslationOptions) -> list[Preprocessed]:
        if o.tgt_lang is None:
            raise InvalidInput("A language model needs tgt_lang, or a task named translation_xx_to_yy.")
        source, target = name_of(o.src_lang) if o.src_lang else "its language", name_of(o.tgt_lang)
        config, prompt = self.full_config(o), o.prompt or self.prompt_text
        prompts = [fill_prompt(prompt, source=source, target=target, text=text) for text in texts]
        return [self.make_input(self.prompt_ids(text), config) for text in prompts]

    def decode(self, ids: Sequence[int], o: Any, prompt: Sequence[int] = ()) -> str:
        return super().decode(ids, o, prompt).strip()


def split_lines(text: str) -> list[Span]:
    """Return (start, end) of each line that is not empty, without the white space around it."""
    return [match.span() for match in re.finditer(r"\S(?:.*\S)?", text)]


def replace_spans(text: str, inputs: Sequence[ModelInput], translations: Sequence[str]) -> str:
    """Return the text with each input's span, its `note`, replaced by its translation."""
    parts, position = [], 0
    for each, translation in zip(inputs, translations, strict=True):
        start, end = each.note
        parts += [text[position:start], translation]
        position = end
    return "".join([*parts, text[position:]])
