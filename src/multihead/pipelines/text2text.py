"""text2text-generation: a text from a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .generation_base import CausalLMPipeline, GenerationPipeline, Text2TextPipeline, fill_prompt
from .streaming_batcher import ModelInput, Preprocessed


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
