"""summarization: a shorter text, written by an encoder-decoder or a language model, for documents of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ...errors import InvalidInput
from ...generation.config import GenerationConfig
from ...generation.strategies.base import Extras
from ...tokenizers.languages import name_of
from ..answers import WithNotices
from ..base import Pipeline, PipelineOptions
from ..generation_base import (
    CausalLMPipeline,
    GenerationOptions,
    GenerationPipeline,
    Text2TextPipeline,
    TokenLists,
    fill_prompt,
)
from ..splitting import split_sections
from ..streaming_batcher import ModelInput, Preprocessed, join_inputs
from ..text_checks import NamedText
from .faithfulness import invented
from .hard_wraps import join_wrapped_lines
from .language import guess_language, language_differs
from .length import SummaryLength, count_words, ends_sentence

LEFT_OUT = "the document is too long: the summary leaves out its last sections"
MAX_PASSES = 4  # over the summaries of sections
# Where a model wrote no whole sentence (most often a loop) or too many words, the first of these samples without fault.
RETRY: Mapping[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "num_return_sequences": 8,
                            "num_beams": 1, "seed": 0}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SummaryOptions(PipelineOptions):
    """Options of all ways to summarize.

    Args:
        sentences: of the summary at most. max_words: of the summary at most.
    """

    sentences: int | None = None
    max_words: int | None = None

    def check(self) -> None:
        super().check()
        for name in ("sentences", "max_words"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInput(f"{name} is a whole number from 1, or None; not {value!r}.")

    @property
    def length(self) -> SummaryLength:
        return SummaryLength(self.sentences, self.max_words)


@dataclass(frozen=True, kw_only=True)
class SummarizationOptions(SummaryOptions, GenerationOptions):
    """Options of summaries that a model writes.

    Args:
        section_tokens: tokens of a section, for longer documents. Default: what the model reads.
        overlap: sentences that a section shares with the one before.
        combine: what becomes of the summaries of sections: "summarize" reads them again for one summary; "join" writes
            them one after another.
        whole_sentences: cuts a summary back to its last whole sentence. Default: if a length is asked for.
    """

    section_tokens: int | None = None
    overlap: int = 1
    combine: str = "summarize"
    whole_sentences: bool | None = None

    def check(self) -> None:
        super().check()
        if self.section_tokens is not None and (not isinstance(self.section_tokens, int) or self.section_tokens < 8):
            raise InvalidInput(f"section_tokens is a whole number from 8, not {self.section_tokens!r}.")
        if isinstance(self.overlap, bool) or not isinstance(self.overlap, int) or self.overlap < 0:
            raise InvalidInput(f"overlap is a number of sentences, not {self.overlap!r}.")
        if self.combine not in ("summarize", "join"):
            raise InvalidInput(f'combine is "summarize" or "join", not {self.combine!r}.')


class SummaryPipeline(Pipeline):
    """Base of all ways to summarize: texts that have nothing to summarize."""

    def length(self, o: Any) -> SummaryLength:
        """Return the length that a call asks for."""
        found: SummaryLength = o.length
        return found

    def texts(self, item: str, o: Any) -> Sequence[NamedText]:
        return [NamedText("", item)]

    def short_answer(self, text: str, **more: str) -> WithNotices:
        """Return a text that is as short as its summary would be; `more` are further keys of its record."""
        return WithNotices(
            [{"summary_text": text, **more}], ["the text is as short as a summary and is returned as it is"]
        )


@dataclass
class Document:
    """Text that is read by sections.

    Attributes:
        sections: texts that the model reads. final: sequences that summarize all of them, if a second pass wrote them.
        is_cut: the summaries of sections did not become short, and only the first ones were read in the end.
    """

    sections: list[str]
    final: TokenLists | None = None
    is_cut: bool = False


class WrittenSummaries(SummaryPipeline, GenerationPipeline):
    """Base of summaries that a model writes, of a long document by its sections."""

    Options: ClassVar[type[PipelineOptions]] = SummarizationOptions
    key = "summary"
    says_finish_reason = True

    def max_section_tokens(self, o: SummarizationOptions) -> int | None:
        """Return the tokens of a section at most; None for no limit."""
        raise NotImplementedError

    def encode_sections(self, sections: Sequence[str], o: SummarizationOptions) -> list[Preprocessed]:
        """Return one model input for each section."""
        raise NotImplementedError

    def split(self, text: str, o: SummarizationOptions) -> list[str]:
        """Return the sections of a text, or the text itself if it fits."""
        most = self.max_section_tokens(o)
        if most is None or o.truncation or self.count_tokens([text])[0] <= most:
            return [text]
        return split_sections(text, most, self.count_tokens, o.overlap)

    def preprocess(self, items: Sequence[str], o: SummarizationOptions) -> list[Preprocessed]:
        """Return the model inputs of each text: one a section, none if it is as short as its summary."""
        return [[] if self.length(o).holds(text) else self.encode_document(text, o) for text in items]

    def encode_document(self, text: str, o: SummarizationOptions) -> Preprocessed:
        """Return the model inputs of a text, which share its `Document` as note."""
        document = Document(self.split(text, o))
        inputs = join_inputs(self.encode_sections(document.sections, o))
        return [replace(each, note=document) for each in inputs] if isinstance(inputs, list) else inputs

    def extras(self, o: SummarizationOptions) -> Extras:
        """Return arguments of `generate` that end a summary as soon as it has the length asked for."""
        length = self.length(o)
        return super().extras(o) if length.is_open else replace(super().extras(o), text_stop=length.is_reached)

    def write(self, inputs: Sequence[ModelInput], o: SummarizationOptions) -> list[TokenLists]:
        """Return the generated sequences of each input."""
        return list(super().forward(inputs, o))

    def forward(self, inputs: Sequence[ModelInput], o: SummarizationOptions) -> list[TokenLists]:
        """Return the generated sequences of each section; of documents of several, summarize their summaries too."""
        if o.combine == "join" or o.return_tensors:
            return self.write(inputs, o)
        single = len(inputs) > 1 and len({id(each.note) for each in inputs}) == 1
        outputs = self.write(inputs, replace(o, streamer=None) if single else o)  # a streamer gets the last pass
        documents: dict[int, tuple[Document, list[str]]] = {}
        for each, sequences in zip(inputs, outputs, strict=True):
            if len(each.note.sections) > 1:
                summary = self.finish(sequences[0], each, o)[0]
                documents.setdefault(id(each.note), (each.note, []))[1].append(summary.strip())
        for document, summaries in documents.values():
            document.final, document.is_cut = self.combine(summaries, o)
        return outputs

    def combine(self, summaries: Sequence[str], o: SummarizationOptions) -> tuple[TokenLists, bool]:
        """Return sequences that summarize the summaries of sections, and whether some of these were left out.

        Summaries that are too long together are summarized by sections again.
        """
        text = " ".join(summaries)
        for last in (*[False] * (MAX_PASSES - 1), True):
            sections = self.split(text, o)
            inputs = join_inputs(self.encode_sections(sections[:1] if last else sections, o))
            if not isinstance(inputs, list):
                raise inputs
            inputs = [replace(each, note=Document([text])) for each in inputs]
            outputs = self.write(inputs, o if len(inputs) == 1 else replace(o, streamer=None))
            if len(outputs) == 1:
                return outputs[0], len(sections) > 1
            text = " ".join(self.finish(own[0], each, o)[0] for own, each in zip(outputs, inputs, strict=True))
        raise AssertionError("The last pass has one section.")

    def finish(self, ids: Sequence[int], each: ModelInput, o: SummarizationOptions) -> tuple[str, list[str]]:
        """Return the text of a generated summary and what a user must know about it."""
        config, length = self.full_config(o), self.length(o)
        ended = bool(ids) and ids[-1] in config.ends and getattr(ids, "finish_reason", "stop") == "stop"
        text = self.decode(ids, o, each.ids)
        if self.cuts(o):
            text, notice = length.cut(text, ended=ended)
            return text, [notice] if notice else []
        if ended or ends_sentence(text):
            return text, []
        return text, ["the summary ends in the middle of a sentence: whole_sentences=True leaves that out"]

    def cuts(self, o: SummarizationOptions) -> bool:
        """Return whether a summary is cut back to whole sentences."""
        return not self.length(o).is_open if o.whole_sentences is None else o.whole_sentences

    def full_config(self, o: Any) -> GenerationConfig:
        """Return the generation config of a call."""
        raise NotImplementedError

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: SummarizationOptions
    ) -> Any:
        if not inputs:
            reason = {"finish_reason": "stop"} if o.return_finish_reason else {}
            return self.short_answer(item, **reason)
        document: Document = inputs[0].note
        if document.final is not None:
            inputs, outputs = inputs[:1], [document.final]
        if o.return_tensors:
            if len(inputs) > 1:
                raise InvalidInput(
                    "return_tensors needs texts that fit the model whole; this one was read by sections."
                )
            return self.finished([self.record(ids, o) for ids in outputs[0]], inputs, outputs, o)
        records, notices = [], [LEFT_OUT] if document.is_cut else []
        for parts in zip(*outputs, strict=True):
            done = [self.finish(ids, each, o) for ids, each in zip(parts, inputs, strict=True)]
            summary = " ".join(text.strip() for text, _ in done) if len(done) > 1 else done[0][0]
            records.append({"summary_text": summary})
            notices += [notice for _, own in done for notice in own] + summary_notices(summary, item)
        answer = self.finished(records, inputs, outputs, o)
        if isinstance(answer, WithNotices):
            answer, notices = answer.answer, [*answer.notices, *notices]
        return WithNotices(answer, list(dict.fromkeys(notices))) if notices else answer


class Summarization(WrittenSummaries, Text2TextPipeline):
    """Summarizes with an encoder-decoder: `[{"summary_text": ...}]`."""

    def max_section_tokens(self, o: SummarizationOptions) -> int | None:
        if o.section_tokens is not None or self.limit is None:
            return o.section_tokens
        frame = self.tokenizer.num_special_tokens_to_add(False) + self.count_tokens([self.prefix])[0]
        return max(self.limit - frame - 8, 8)  # sentences have a few more tokens together than alone

    def encode_sections(self, sections: Sequence[str], o: SummarizationOptions) -> list[Preprocessed]:
        return self.encode_sources(sections, o)

    def full_config(self, o: Any) -> GenerationConfig:
        return self.config(o, max_new_tokens=self.default_new_tokens(0))


class PromptedSummarization(WrittenSummaries, CausalLMPipeline):
    """Summarizes with a language model, in one sentence unless a call asks for more: `[{"summary_text": ...}]`.

    Attributes:
        prompt_text: the prompt, with `{text}` in it, and `{length}` for the length that a call asks for.
    """

    prompt_text = "Summarize the following text in {length}.\n\n{text}"
    new_tokens = 128

    def length(self, o: SummarizationOptions) -> SummaryLength:
        """Return the length that a call asks for: one sentence, unless the prompt is another and says its own."""
        default = 1 if o.length.is_open and "{length}" in (o.prompt or self.prompt_text) else o.sentences
        return SummaryLength(default, o.max_words)

    def full_config(self, o: Any) -> GenerationConfig:
        """Return the generation config of a call, with room for every sentence that it asks for."""
        config = CausalLMPipeline.full_config(self, o)
        own = self.config(o)
        if own.max_new_tokens is None and own.max_length is None:
            length = self.length(o)
            wanted = max(length.sentences or 1, (length.max_words or 0) // 30 + 1)
            config = config.changed(max_new_tokens=self.new_tokens * wanted)
        return config

    def max_section_tokens(self, o: SummarizationOptions) -> int | None:
        if o.section_tokens is not None or self.context_length is None:
            return o.section_tokens
        prompt = len(self.prompt_ids(o.prompt or self.prompt_text))
        return max(self.context_length - (self.full_config(o).max_new_tokens or 1) - prompt - 8, 8)

    def preprocess(self, items: Sequence[str], o: SummarizationOptions) -> list[Preprocessed]:
        return super().preprocess([join_wrapped_lines(text) for text in items], o)

    def encode_sections(self, sections: Sequence[str], o: SummarizationOptions) -> list[Preprocessed]:
        return [self.encode_section(text, o) for text in sections]

    def encode_section(self, text: str, o: SummarizationOptions) -> Preprocessed:
        """Return the prompt with one section as model input."""
        config, most = self.full_config(o), self.max_section_tokens(o)
        if o.truncation and most is not None:
            encoding = self.tokenizer.run([text], words=False, special=False, limits=None)[0]
            text = text[: encoding.offsets[most - 1][1]] if len(encoding) > most else text
        return self.make_input(self.prompt_ids(self.request(text, o)), config)

    def request(self, text: str, o: SummarizationOptions) -> str:
        """Return the prompt for a text, which names the text's language if that is not English."""
        length, language = self.length(o).request(), guess_language(text)
        if language not in (None, "en"):
            length += f" in {name_of(str(language))}"
        return fill_prompt(o.prompt or self.prompt_text, text=text, length=length)

    def write(self, inputs: Sequence[ModelInput], o: SummarizationOptions) -> list[TokenLists]:
        """Return the generated sequences; one that cannot be cut to the length asked for is written again."""
        outputs, config = super().write(inputs, o), self.full_config(o)
        if (
            not self.cuts(o)
            or o.streamer is not None
            or config.do_sample
            or config.num_return_sequences not in (None, 1)
        ):
            return outputs
        other = replace(o, generation={**o.generation, **RETRY})
        for number, each in enumerate(inputs):
            if self.finish(outputs[number][0], each, o)[1]:  # alone, so that a batch changes no answer
                candidates = super().write([each], other)[0]
                outputs[number] = [
                    next((ids for ids in candidates if not self.finish(ids, each, o)[1]), outputs[number][0])
                ]
        return outputs

    def decode(self, ids: Sequence[int], o: Any, prompt: Sequence[int] = ()) -> str:
        return super().decode(ids, o, prompt).strip()


def summary_notices(summary: str, text: str) -> list[str]:
    """Return what a comparison of a summary with its text finds: invented words, another language, no gain."""
    notices = []
    if unknown := invented(summary, text):
        notices.append(f"not in the text: {', '.join(unknown)}")
    if differs := language_differs(summary, text):
        notices.append(differs)
    if count_words(summary) > count_words(text):
        notices.append("the summary is longer than the text")
    return notices
