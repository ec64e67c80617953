"""The tasks there are: what answers each by the kind of model, and their default models. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UnsupportedOption, nearest
from .defaults import ANSWERS, MINILM, REACTIONS, SENTIMENT, SMOLLM2, TRANSLATORS, Default

TASK = re.compile(r"translation_(\w+?)_to_(\w+)")
Kinds = Mapping[str, str]  # kind of model, by the end of its Auto class -> "file.Class" that answers with it


@dataclass(frozen=True)
class Entry:
    """What answers a task, by the kind of model; the first kind is what a task's own model is.

    Args:
        hub: the default on the Hugging Face hub. offline: the one that the package index carries, if any.
    """

    kinds: Kinds
    hub: str
    offline: Default | None


TASKS: Mapping[str, Entry] = {
    "text-classification": Entry(
        {
            "SequenceClassification": "text_classification.TextClassification",
            "CausalLM": "prompted.PromptedClassification",
        },
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        SENTIMENT,
    ),
    "zero-shot-classification": Entry(
        {
            "SequenceClassification": "zero_shot.ZeroShotClassification",
            "CausalLM": "prompted.PromptedZeroShot",
            "Model": "similarity.EmbeddedZeroShot",
        },
        "facebook/bart-large-mnli",
        MINILM,
    ),
    "token-classification": Entry(
        {"TokenClassification": "token_classification.TokenClassification"}, "dslim/bert-base-NER", None
    ),
    "question-answering": Entry(
        {
            "QuestionAnswering": "question_answering.QuestionAnswering",
            "Seq2SeqLM": "prompted.RewrittenAnswers",
            "CausalLM": "prompted.PromptedAnswers",
        },
        "distilbert/distilbert-base-cased-distilled-squad",
        ANSWERS,
    ),
    "table-question-answering": Entry(
        {"Seq2SeqLM": "tables.TableQuestionAnswering", "CausalLM": "tables.PromptedTableQuestionAnswering"},
        "microsoft/tapex-base-finetuned-wtq",
        SMOLLM2,
    ),
    "fill-mask": Entry(
        {"MaskedLM": "fill_mask.FillMask", "Seq2SeqLM": "fill_mask.RewrittenMask"},
        "distilbert/distilroberta-base",
        REACTIONS,
    ),
    "summarization": Entry(
        {"Seq2SeqLM": "text2text.Summarization", "CausalLM": "text2text.PromptedSummarization"},
        "sshleifer/distilbart-cnn-12-6",
        SMOLLM2,
    ),
    "translation": Entry(
        {"Seq2SeqLM": "translation.Translation", "CausalLM": "translation.PromptedTranslation"},
        "google-t5/t5-small",
        TRANSLATORS["en", "pt"],
    ),
    "text2text-generation": Entry(
        {"Seq2SeqLM": "text2text.Text2Text", "CausalLM": "text2text.PromptedText2Text"}, "google/flan-t5-base", SMOLLM2
    ),
    "text-generation": Entry(
        {"CausalLM": "text_generation.TextGeneration"}, "HuggingFaceTB/SmolLM2-360M-Instruct", SMOLLM2
    ),
    "feature-extraction": Entry(
        {"Model": "feature_extraction.FeatureExtraction"}, "sentence-transformers/all-MiniLM-L6-v2", MINILM
    ),
    "sentence-similarity": Entry(
        {"Model": "similarity.SentenceSimilarity"}, "sentence-transformers/all-MiniLM-L6-v2", MINILM
    ),
    "text-ranking": Entry(
        {"SequenceClassification": "similarity.CrossRanking", "Model": "similarity.TextRanking"},
        "cross-encoder/ms-marco-MiniLM-L6-v2",
        MINILM,
    ),
}
ALIASES = {
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "embedding": "feature-extraction",
    "rerank": "text-ranking",
}


def named(task: str) -> str:
    """The task that a name, an alias or `translation_xx_to_yy` means. Raises UnsupportedOption."""
    name = "translation" if TASK.fullmatch(task) else ALIASES.get(task, task)
    if name not in TASKS:
        raise UnsupportedOption(f"The task {task!r} is not known. {nearest(task, [*TASKS, *ALIASES])}")
    return name


def entry_of(task: str) -> Entry:
    """The entry of a task. Raises UnsupportedOption."""
    return TASKS[named(task)]
