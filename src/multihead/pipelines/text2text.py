"""text2text-generation: a text from a text. summarization: a shorter text, for documents of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InvalidInput
from .base import PipelineOptions
from .generation_base import CausalLMPipeline, GenerationOptions, GenerationPipeline, Text2TextPipeline, fill_prompt
from .splitting import split_sections
from .streaming_batcher import ModelInput, Preprocessed, join_inputs


@dataclass(frozen=True, kw_only=True)
class SummarizationOptions(GenerationOptions):
    """Options of summarization.

    Args:
        section_tokens: tokens of a section, for longer documents. Default: what the model reads.
        overlap: sentences that a section shares with the one before.
    """

    section_tokens: int | None = None
    overlap: int = 1

    def check(self) -> None:
        super().check()
        if self.section_tokens is not None and (not isinstance(self.section_tokens, int) or self.section_tokens < 8):
            raise InvalidInput(f"section_tokens is a whole number from 8, not {self.section_tokens!r}.")
        if not isinstance(self.overlap, int) or self.overlap < 0:
            raise InvalidInput(f"overlap is a number of sentences, not {self.overlap!r}.")


class SingleInputPipeline(GenerationPipeline):
    """Base of tasks with one model input a text: `[{"..._text": ...}]`, a record a returned sequence."""

    says_finish_reason = True

    def postprocess(self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Any:
        return self.finished([self.record(ids, o) for ids in outputs[0]], inputs, outputs, o)


class Text2TextGeneration(SingleInputPipeline, Text2TextPipeline):
    """Generates a text from a text with an encoder-decoder."""

    def preprocess(self, items: Sequence[str], o: Any) -> list[Preprocessed]:
        return self.encode_sources(items, o)


class PromptedText2TextGeneration(SingleInputPipeline, CausalLMPipeline):
    """Generates a text from a text with a language model; the text itself is the prompt."""

    prompt_text = "{text}"

    def preprocess(self, items: Sequence[str], o: Any) -> list[Preprocessed]:
        config = self.full_config(o)
        prompts = [self.prompt_ids(fill_prompt(o.prompt or self.prompt_text, text=text)) for text in items]
        return [self.make_input(ids, config) for ids in prompts]


class SectionPipeline(GenerationPipeline):
    """Base of summarization: a long document's summary is the summaries of its sections, joined."""

    says_finish_reason = True
    Options: ClassVar[type[PipelineOptions]] = SummarizationOptions
    key = "summary"

    def max_section_tokens(self, o: SummarizationOptions) -> int | None:
        """Return the tokens of a section at most; None for no limit."""
        raise NotImplementedError

    def split(self, text: str, o: SummarizationOptions) -> list[str]:
        """Return the sections of a text, or the text itself if it fits."""
        most = self.max_section_tokens(o)
        if most is None or o.truncation or self.count_tokens([text])[0] <= most:
            return [text]
        return split_sections(text, most, self.count_tokens, o.overlap)

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: SummarizationOptions
    ) -> Any:
        if len(inputs) == 1:
            return self.finished([self.record(ids, o) for ids in outputs[0]], inputs, outputs, o)
        if o.return_tensors:
            raise InvalidInput("return_tensors needs texts that fit the model whole; this one was read by sections.")
        records = [
            {"summary_text": " ".join(self.decode(ids, o).strip() for ids in sections)}
            for sections in zip(*outputs, strict=True)
        ]
        return self.finished(records, inputs, outputs, o)


class Summarization(SectionPipeline, Text2TextPipeline):
    """Summarizes with an encoder-decoder: `[{"summary_text": ...}]`."""

    def max_section_tokens(self, o: SummarizationOptions) -> int | None:
        if o.section_tokens is not None or self.limit is None:
            return o.section_tokens
        frame = self.tokenizer.num_special_tokens_to_add(False) + self.count_tokens([self.prefix])[0]
        return max(self.limit - frame - 8, 8)  # sentences have a few more tokens together than alone

    def preprocess(self, items: Sequence[str], o: SummarizationOptions) -> list[Preprocessed]:
        return [join_inputs(self.encode_sources(self.split(text, o), o)) for text in items]


class PromptedSummarization(SectionPipeline, CausalLMPipeline):
    """Summarizes in one sentence with a language model: `[{"summary_text": ...}]`."""

    prompt_text = "Summarize the following text in one short sentence.\n\n{text}"
    new_tokens = 96

    def max_section_tokens(self, o: SummarizationOptions) -> int | None:
        if o.section_tokens is not None or self.context_length is None:
            return o.section_tokens
        prompt = len(self.prompt_ids(o.prompt or self.prompt_text))
        return max(self.context_length - (self.full_config(o).max_new_tokens or 1) - prompt - 8, 8)

    def preprocess(self, items: Sequence[str], o: SummarizationOptions) -> list[Preprocessed]:
        return [join_inputs([self.encode_section(text, o) for text in self.split(document, o)]) for document in items]

    def encode_section(self, text: str, o: SummarizationOptions) -> Preprocessed:
        """Return the prompt with one section as model input."""
        config, most = self.full_config(o), self.max_section_tokens(o)
        if o.truncation and most is not None:
            encoding = self.tokenizer.run([text], words=False, special=False, limits=None)[0]
            text = text[: encoding.offsets[most - 1][1]] if len(encoding) > most else text
        return self.make_input(self.prompt_ids(fill_prompt(o.prompt or self.prompt_text, text=text)), config)

    def decode(self, ids: Sequence[int], o: Any, prompt: Sequence[int] = ()) -> str:
        return super().decode(ids, o, prompt).strip()
