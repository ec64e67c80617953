"""Training of language models: masked, causal and sequence to sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ...errors import UnsupportedOption
from ..data import causal_lm, masked_lm, seq2seq
from ..data.features import Features
from ..data.masked_lm import Masking
from ..evaluation import metrics, text_metrics
from ..evaluation.loop import EvaluationResult
from ..objectives.language import MaskedLMObjective
from ..objectives.token import Objective
from .dataset import DatasetJob


def perplexity(result: EvaluationResult) -> dict[str, float]:
    """Return the perplexity of an evaluation's summed loss."""
    return {"perplexity": metrics.language_modeling(result.loss, int(result.count))["perplexity"]}


class FillMaskTraining(DatasetJob):
    """Masked language modelling (Devlin et al., 2018); `whole_words` masks whole words (Cui et al., 2019)."""

    name = "fill-mask"
    reader: ClassVar = masked_lm
    options_class, auto_class = masked_lm.MaskedLMOptions, "AutoModelForMaskedLM"
    objective_options = ("probability", "hidden", "replaced", "whole_words")

    def is_parallel(self, files: Mapping[str, Any]) -> bool:
        return False  # each line is an example by itself

    def build_objective(self) -> Objective:
        return MaskedLMObjective(self.model, Masking.of(self.tokenizer, **self.objective_kwargs), self.smoothing)

    def metrics(self, features: Any, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        return perplexity(result)

    def example_input(self, features: Features) -> str:
        return f"{super().example_input(features)} {self.tokenizer.mask_token}"


class TextGenerationTraining(DatasetJob):
    """Causal language modelling of texts, of prompts with completions, or of chats."""

    name = "text-generation"
    reader: ClassVar = causal_lm
    options_class, auto_class = causal_lm.CausalLMOptions, "AutoModelForCausalLM"

    def is_parallel(self, files: Mapping[str, Any]) -> bool:
        """Return True for prompts and completions in two files; otherwise each line is an example."""
        named = (self.options.prompt_column, self.options.completion_column)
        return set(files) <= {*named, *causal_lm.PROMPT, *causal_lm.COMPLETION}

    def build_objective(self) -> Objective:
        """Build the module that computes the loss. Raises UnsupportedOption for a model that sees what it predicts."""
        backbone = getattr(self.model, "backbone", None)
        if getattr(backbone, "continues", False) and not getattr(backbone, "causal", True):
            raise UnsupportedOption(
                f"{type(self.model).__name__} reads a text in both directions, so that each token sees the next one, "
                "which it would learn to predict. Train it with a loop of your own, on parts of texts that it reads "
                "(past_key_values) before it predicts."
            )
        return super().build_objective()

    def metrics(self, features: Any, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        return perplexity(result)


class Text2TextTraining(DatasetJob):
    """Sequence to sequence: a target text for each source text."""

    name = "text2text-generation"
    reader: ClassVar = seq2seq
    options_class, auto_class = seq2seq.Seq2SeqOptions, "AutoModelForSeq2SeqLM"
    labels_optional = True
    text_metrics: ClassVar[Sequence[Callable[..., dict[str, float]]]] = (
        text_metrics.translation,
        text_metrics.summarization,
    )

    def metrics(self, features: Features, result: EvaluationResult, arguments: Any) -> dict[str, float]:
        scores = perplexity(result)
        if not self.generates(arguments):
            return scores
        texts = [text.strip() for text in self.tokenizer.batch_decode(result.scores, skip_special_tokens=True)]
        for metric in self.text_metrics:
            scores |= metric(texts, self.references(features))
        return scores

    def references(self, features: Features) -> list[str]:
        """Return the target text of each example."""
        labels = [[token for token in features[n]["labels"].tolist() if token >= 0] for n in range(len(features))]
        return [text.strip() for text in self.tokenizer.batch_decode(labels, skip_special_tokens=True)]


class TranslationTraining(Text2TextTraining):
    """Translation, scored by BLEU and chrF."""

    name = "translation"
    text_metrics = (text_metrics.translation,)


class SummarizationTraining(Text2TextTraining):
    """Summarization, scored by ROUGE."""

    name = "summarization"
    text_metrics = (text_metrics.summarization,)
