"""zero-shot-classification by a language model, alone or together with a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from ..errors import MultiheadError
from .base import PipelineOptions
from .chat_prompts import ChatPrompt
from .encoders import AUTO, EncoderSlot
from .generation_base import fill_prompt
from .label_similarity import LabelSimilarity
from .prompted_labels import PromptScorer
from .reference_texts import VARIED_TEXTS
from .similarity import SCALE
from .streaming_batcher import ModelInput, Preprocessed
from .token_scores import ScoredTokens
from .zero_shot import ZeroShotOptions, ZeroShotPipeline

PLACE = "\0"  # of the label in a template
# Prompts, weight and temperatures were chosen for SmolLM2-135M and MiniLM on 338 texts in 18 domains
# (benchmarks/quality/data/zero_shot_development.jsonl).
ENCODER_WEIGHT = 0.6 * SCALE  # of cosines beside log-probabilities
TEMPERATURES = {False: 0.6, True: 0.85}  # without and with an encoder


@dataclass(frozen=True, kw_only=True)
class PromptedZeroShotOptions(ZeroShotOptions):
    """Options of zero-shot-classification by a language model.

    Args:
        hypothesis_template: what follows the text, up to `{}`, where the label comes. Default: three prompts of the
            pipeline's own, whose scores are averaged.
        encoder: a `SentenceEncoder` or its name, whose similarities are added to the scores; "auto" is the default
            model of sentence-similarity. It reads the beginning of a long text. None asks the language model alone.
    """

    hypothesis_template: str = ""
    encoder: Any = None

    def check(self) -> None:
        if self.hypothesis_template:
            super().check()
        else:
            replace(self, hypothesis_template="{}").check()


@dataclass(frozen=True)
class ScoredLabels(ScoredTokens):
    """Tokens of labels after a prompt about `text`."""

    text: str = ""


class PromptedZeroShot(ZeroShotPipeline, PromptScorer):
    """Chooses by how likely each label is as the answer to three prompts about the text.

    Attributes:
        prompt_text: what comes before a `hypothesis_template` of the call. reference_texts: texts of all kinds.
    """

    Options: ClassVar[type[PipelineOptions]] = PromptedZeroShotOptions
    prompt_text = '"{text}"\n'
    prompt_texts: Sequence[str | ChatPrompt] = (
        '"{text}"\nIn short, this is',
        ChatPrompt("{text}\n\nHow would you label this text?", "I would label it as"),
        ChatPrompt("{text}\n\nWhat is this text about?", "It is about"),
    )
    reference_texts = VARIED_TEXTS

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        self.encoder = EncoderSlot()
        self._similarity: LabelSimilarity | None = None
        super().__init__(model, tokenizer, name, **options)

    def guard_default(self) -> None:
        """Add the default sentence encoder: where the task's default model cannot be fetched, two small ones answer."""
        self.defaults = {"encoder": AUTO, **self.defaults}
        self.note = f"{self.note}; with a sentence encoder, unless encoder=None" if self.note else self.note

    def prompts_for(self, text: str, o: PromptedZeroShotOptions) -> Sequence[str | ChatPrompt]:
        if not o.hypothesis_template:
            return [
                fill_prompt(prompt, text=text)
                if isinstance(prompt, str)
                else ChatPrompt(fill_prompt(prompt.message, text=text), prompt.begin)
                for prompt in self.prompt_texts
            ]
        return [fill_prompt(self.prompt_text, text=text) + o.hypothesis(PLACE).partition(PLACE)[0].rstrip()]

    def words(self, o: ZeroShotOptions) -> Sequence[str]:
        return [f" {label}" for label in o.labels]

    def preprocess(self, items: Sequence[str], o: PromptedZeroShotOptions) -> list[Preprocessed]:
        return [
            own
            if isinstance(own, MultiheadError)
            else [replace(each, note=ScoredLabels(**vars(each.note), text=item)) for each in own]
            for item, own in zip(items, super().preprocess(items, o), strict=True)
        ]

    def forward(self, inputs: Sequence[ModelInput], o: PromptedZeroShotOptions) -> list[Any]:
        """Return the scores of each input's labels, with the similarities of the encoder if there is one."""
        outputs = super().forward(inputs, o)
        similarity = self.similarity(o)
        if similarity is None:
            return outputs
        texts = list(dict.fromkeys(each.note.text for each in inputs))
        rows = dict(zip(texts, ENCODER_WEIGHT * similarity(texts, o.labels), strict=True))
        return [
            output if isinstance(output, MultiheadError) else output + rows[each.note.text][list(each.note.words)]
            for output, each in zip(outputs, inputs, strict=True)
        ]

    def similarity(self, o: PromptedZeroShotOptions) -> LabelSimilarity | None:
        """Return the similarity to labels by the encoder of a call; None without an encoder."""
        encoder = self.encoder.get(o.encoder, self.device)
        if encoder is None:
            return None
        if self._similarity is None or self._similarity.encoder is not encoder:
            self._similarity = LabelSimilarity(encoder)
        return self._similarity

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Tensor], o: PromptedZeroShotOptions
    ) -> dict[str, Any]:
        scores = self.word_scores(outputs, o)
        if o.alone:
            return self.rank_labels(item, scores.sigmoid(), o)
        temperature = 1.0 if o.hypothesis_template else TEMPERATURES[o.encoder is not None]
        return self.rank_labels(item, (scores / temperature).softmax(-1), o)
