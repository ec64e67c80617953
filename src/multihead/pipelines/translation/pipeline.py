"""Pipelines of translation, by encoder-decoders and by language models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

from ...errors import InvalidInput, MultiheadError
from ...generation.config import GenerationConfig
from ...tokenizers.languages import language_frame, language_tokens, name_of
from ..answers import WithNotices
from ..base import PipelineOptions, text_of
from ..catalog import LANGUAGE_PAIR
from ..generation_base import CausalLMPipeline, GenerationOptions, GenerationPipeline, Text2TextPipeline, fill_prompt
from ..splitting import Span, split_sentences, split_to_fit
from ..streaming_batcher import ModelInput, Preprocessed, join_inputs
from .attempts import UnitTranslations, keep_words
from .html_layout import html_passages
from .layout import LAYOUTS, text_passages
from .numbers import lost_numbers
from .protected_words import KnownCharacters, ProtectedWord, find_protected
from .units import Document, Passage, Unit, join_cut_words, make_units

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
        layout: "text" keeps lines, lists, tables, columns and fenced code, and joins hard-wrapped paragraphs for the
            model; "markdown" also keeps links, emphasis and indented code; "html" translates the text between tags.
        protect_words: keeps words that the model's vocabulary cannot spell, addresses, tags, code and {fields}. False
            gives the model each text as it is.
        keep: terms that stay as they are. glossary: term -> its translation. Both match whole words; a term in lower
            case matches every case.
    """

    src_lang: str | None = None
    tgt_lang: str | None = None
    split_sentences: bool = True
    layout: str = "text"
    protect_words: bool = True
    keep: Sequence[str] = ()
    glossary: Mapping[str, str] | None = None

    def check(self) -> None:
        super().check()
        if self.layout not in LAYOUTS:
            raise InvalidInput(f"layout is one of {', '.join(map(repr, LAYOUTS))}, not {self.layout!r}.")
        if isinstance(self.keep, str) or not all(isinstance(term, str) and term.strip() for term in self.keep):
            raise InvalidInput(f"keep is a list of terms, such as ['Acme Cloud'], not {self.keep!r}.")
        if self.glossary is not None and not (
            isinstance(self.glossary, Mapping)
            and all(isinstance(text, str) and text.strip() for pair in self.glossary.items() for text in pair)
        ):
            raise InvalidInput(
                f"glossary maps terms to translations, such as {{'invoice': 'fatura'}}, not {self.glossary!r}."
            )
        if (self.keep or self.glossary) and not self.protects:
            raise InvalidInput("keep and glossary need protect_words, and neither return_tensors nor a streamer.")

    @property
    def protects(self) -> bool:
        """Return whether words are masked: not where the caller wants the tokens themselves."""
        return self.protect_words and not self.return_tensors and self.streamer is None


class TranslationPipeline(GenerationPipeline):
    """Base of both ways to translate: `[{"translation_text": ...}]`."""

    says_finish_reason = True
    Options: ClassVar[type[PipelineOptions]] = TranslationOptions
    key = "translation"
    by_sentence: ClassVar[bool] = True  # else by line

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        pair = LANGUAGE_PAIR.fullmatch(name)
        self.pair = pair.groups() if pair else ()
        super().__init__(model, tokenizer, name, **options)
        self.defaults = {**dict(zip(("src_lang", "tgt_lang"), self.pair, strict=False)), **self.defaults}

    @cached_property
    def known_characters(self) -> KnownCharacters:
        return KnownCharacters(self.tokenizer)

    def check_pair(self, source: str | None, target: str | None) -> None:
        """Raise InvalidInput for other languages than those of a model of one pair."""

    @property
    def max_unit_tokens(self) -> int:
        """Tokens of a unit at most; a longer sentence is split."""
        return MAX_TOKENS

    def validate(self, item: Any, o: TranslationOptions) -> Document:
        lead, text = self.known_characters.split_target(text_of(item))
        passages = passages_of(text, o.layout) if o.split_sentences else [Passage(0, len(text), text)]
        for passage in passages:
            passage.units = self.units(passage, o, lead)
        return Document(text, passages)

    def units(self, passage: Passage, o: TranslationOptions, lead: str = "") -> list[Unit]:
        """Return the units of a passage, each with the token `lead` before it; the rest stays as it is."""
        text = passage.text
        folded = self.known_characters.folded(text)
        words = find_protected(text, self.known_characters, o.keep, o.glossary, passage.markup)
        spans = self.unit_spans(text, words if o.protects else (), o)
        return make_units(text, spans, words, folded, lead, bare=not o.protects)

    def unit_spans(self, text: str, words: Sequence[ProtectedWord], o: TranslationOptions) -> list[Span]:
        """Return the spans of a passage that are translated at once, none of which cuts a protected word."""
        if not o.split_sentences:
            return [(0, len(text))]
        spans = join_cut_words(split_sentences(text) if self.by_sentence else split_lines(text), words)
        return split_to_fit(text, spans, self.max_unit_tokens, self.count_tokens)

    def preprocess(self, items: Sequence[Document], o: TranslationOptions) -> list[Preprocessed]:
        units = [[unit for unit in document.units if unit.has_text] for document in items]
        texts = [unit.masked(0).text if o.protects else unit.lead + unit.text for own in units for unit in own]
        flat = iter(self.encode_units(texts, o))
        result: list[Preprocessed] = []
        for own in units:
            inputs = join_inputs([next(flat) for _ in own])
            if not isinstance(inputs, MultiheadError):
                inputs = [replace(each, note=unit) for each, unit in zip(inputs, own, strict=True)]
            result.append(inputs)
        return result

    def encode_units(self, texts: Sequence[str], o: TranslationOptions) -> list[Preprocessed]:
        """Return one model input for each text that is translated alone."""
        raise NotImplementedError

    def forward(self, inputs: Sequence[ModelInput], o: TranslationOptions) -> list[Any]:
        """Return the generated sequences of each unit, or its `UnitTranslations` if it has protected words."""
        outputs: list[Any] = list(super().forward(inputs, o))
        numbers = [n for n, each in enumerate(inputs) if each.note.words or each.note.folded] if o.protects else []
        if numbers:
            units = [inputs[number].note for number in numbers]
            first = [[self.decode(ids, o) for ids in outputs[number]] for number in numbers]
            kept = keep_words(units, first, partial(self.translate_texts, o=o), parts=self.by_sentence)
            for number, found in zip(numbers, kept, strict=True):
                outputs[number] = replace(found, sequences=outputs[number])
        return outputs

    def translate_texts(self, texts: Sequence[str], o: TranslationOptions) -> list[list[str] | None]:
        """Return the translations of each text, None for one that is too long."""
        encoded = self.encode_units(texts, o)
        inputs = [each[0] for each in encoded if not isinstance(each, MultiheadError)]
        outputs = iter(super().forward(inputs, o) if inputs else [])
        return [
            None if isinstance(each, MultiheadError) else [self.decode(ids, o) for ids in next(outputs)]
            for each in encoded
        ]

    def postprocess(
        self, item: Document, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: TranslationOptions
    ) -> Any:
        if o.return_tensors:
            if len(inputs) == 1 and inputs[0].note.text == item.text:
                return self.finished([self.record(ids, o) for ids in outputs[0]], inputs, outputs, o)
            raise InvalidInput("return_tensors needs split_sentences=False for texts of several sentences.")
        found = [self.unit_translations(each, output, o) for each, output in zip(inputs, outputs, strict=True)]
        rows = list(zip(*(each.texts for each in found), strict=True)) if found else [()] * self.returned_texts(o)
        records = [{"translation_text": render(item, row)} for row in rows]
        answer = self.finished(records, inputs, [each.sequences for each in found], o)
        notices = [notice for each in found for notice in each.notices]
        chosen = o.generation_config is not None or {"max_new_tokens", "max_length"} & o.generation.keys()
        if not chosen and any(ids.finish_reason == "length" for each in found for ids in each.sequences):
            notices.append("was translated until the limit of new tokens: the translation lacks an end, or repeats.")
        return with_more_notices(answer, notices)

    def returned_texts(self, o: TranslationOptions) -> int:
        """Return the number of translations of one text."""
        return self.config(o).num_return_sequences or 1

    def unit_translations(self, each: ModelInput, output: Any, o: TranslationOptions) -> UnitTranslations:
        """Return the translations of a unit; its notices name unknown words and numbers that they lack."""
        found = output
        if not isinstance(output, UnitTranslations):
            found = UnitTranslations([self.decode(ids, o) for ids in output], sequences=output)
            unknown = [word.source for word in each.note.words if word.unknown]
            if lost := [word for word in unknown if not all(word in text for text in found.texts)]:
                words = ", ".join(map(repr, dict.fromkeys(lost)))
                found.notices.append(f"has words that the vocabulary cannot spell and its translation lacks: {words}.")
        numbers = [number for text in found.texts for number in lost_numbers(each.note.text, text)]
        if numbers:
            found.notices.append(f"has numbers that its translation lacks: {', '.join(dict.fromkeys(numbers))}.")
        return found


class Translation(TranslationPipeline, Text2TextPipeline):
    """Translates with an encoder-decoder."""

    def default_new_tokens(self, longest: int) -> int:
        return LENGTH_FACTOR * longest + LENGTH_SPARE

    @property
    def max_unit_tokens(self) -> int:
        return min((self.limit or MAX_TOKENS) - 8, MAX_TOKENS)

    def resolve_options(self, **options: Any) -> TranslationOptions:
        """Return the options of a call. Raises InvalidInput for other languages than those of a model of one pair."""
        o: TranslationOptions = super().resolve_options(**options)
        self.check_pair(o.src_lang, o.tgt_lang)
        return o

    def check_pair(self, source: str | None, target: str | None) -> None:
        languages = {"src_lang": source, "tgt_lang": target}
        for (name, given), own in zip(languages.items(), self.pair or (None, None), strict=True):
            same = own is not None and given is not None and re.split(r"[-_]", given)[0].casefold() == own.casefold()
            if given is not None and not same and not language_tokens(self.tokenizer):
                raise InvalidInput(
                    f"{name}={given!r} has no effect: {self.task} has a model without languages to choose from. "
                    f"Make a pipeline for the pair, such as translation_xx_to_{given}, with a model of it."
                )

    def encode_units(self, texts: Sequence[str], o: TranslationOptions) -> list[Preprocessed]:
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

    def encode_units(self, texts: Sequence[str], o: TranslationOptions) -> list[Preprocessed]:
        if o.tgt_lang is None:
            raise InvalidInput("A language model needs tgt_lang, or a task named translation_xx_to_yy.")
        source, target = name_of(o.src_lang) if o.src_lang else "its language", name_of(o.tgt_lang)
        config, prompt = self.full_config(o), o.prompt or self.prompt_text
        prompts = [fill_prompt(prompt, source=source, target=target, text=text) for text in texts]
        return [self.make_input(self.prompt_ids(text), config) for text in prompts]

    def decode(self, ids: Sequence[int], o: Any, prompt: Sequence[int] = ()) -> str:
        return super().decode(ids, o, prompt).strip()


def passages_of(text: str, layout: str) -> list[Passage]:
    """Return the passages of a text in one of `LAYOUTS`."""
    return html_passages(text) if layout == "html" else text_passages(text, markdown=layout == "markdown")


def split_lines(text: str) -> list[Span]:
    """Return (start, end) of each line that is not empty, without the white space around it."""
    return [match.span() for match in re.finditer(r"\S(?:.*\S)?", text)]


def with_more_notices(answer: Any, notices: Sequence[str]) -> Any:
    """Return an answer of `postprocess` with further notices."""
    if not notices:
        return answer
    if isinstance(answer, WithNotices):
        return WithNotices(answer.answer, [*notices, *answer.notices])
    return WithNotices(answer, notices)


def render(document: Document, translations: Sequence[str]) -> str:
    """Return a document with the translations of its units that have text; the others keep theirs."""
    own = iter(translations)
    passages = []
    for passage in document.passages:
        texts = [unit.frame(next(own) if unit.has_text else unit.with_targets()) for unit in passage.units]
        passages.append(passage.render(texts))
    return document.render(passages)
