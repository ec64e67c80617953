"""The registry of tasks: one entry each, read by `pipeline`, commands, training, docs and tests. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import UnsupportedOption, nearest
from ..extensions import Registry
from .defaults import ANSWERS, MINILM, SENTIMENT, SMOLLM2, TRANSLATORS
from .task import Input, Mode, ModelPipeline, RequiredOption, Task, TrainingTask

LANGUAGE_PAIR = re.compile(r"translation_(\w+?)_to_(\w+)")

OWN: Mapping[str, Task] = {
    "text-classification": Task(
        summary="Labels a text or a pair of texts, such as positive or negative.",
        accepts='text, `{"text", "text_pair"}`',
        pipelines={
            "SequenceClassification": ModelPipeline("text_classification.TextClassification", "a sequence classifier"),
            "CausalLM": ModelPipeline(
                "prompted_labels.PromptedClassification", "a language model that scores label words"
            ),
        },
        hub="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        offline=SENTIMENT,
        renderer="labels",
        aliases=("sentiment-analysis",),
        pair=("text", "text_pair"),
        training=TrainingTask(
            "labels.TextClassificationTraining",
            metrics=("accuracy", "f1"),
            aliases=("sequence-classification",),
            packages=("sklearn", "scipy"),
        ),
    ),
    "zero-shot-classification": Task(
        summary="Chooses among labels that the call gives.",
        accepts="text, `candidate_labels`",
        pipelines={
            "SequenceClassification": ModelPipeline("zero_shot.ZeroShotClassification", "natural language inference"),
            "CausalLM": ModelPipeline("prompted_zero_shot.PromptedZeroShot", "a language model"),
            "Model": ModelPipeline("similarity.EmbeddedZeroShot", "a sentence encoder"),
        },
        hub="facebook/bart-large-mnli",
        offline=SMOLLM2,
        renderer="ranked_labels",
        required=(
            RequiredOption(
                "candidate_labels",
                "labels",
                "For zero-shot-classification: labels, separated by commas.",
                example="sport,politics",
            ),
        ),
    ),
    "decision": Task(
        summary="Answers typed questions with a probability for each possible answer.",
        accepts='`{"input", "questions"}`',
        pipelines={
            "CausalLM": ModelPipeline("decision.prompted.PromptedDecision", "a language model"),
            "SequenceClassification": ModelPipeline(
                "decision.encoders.JudgedDecision", "natural language inference, or a reranker"
            ),
            "Model": ModelPipeline("decision.encoders.EmbeddedDecision", "a sentence encoder"),
        },
        hub="HuggingFaceTB/SmolLM2-360M-Instruct",
        offline=MINILM,
        renderer="decisions",
        inputs=(
            Input("input"),
            Input(
                "questions",
                flag="questions",
                help="For decision: the questions, as JSON; the texts, or a column of a file, are inputs.",
            ),
        ),
    ),
    "token-classification": Task(
        summary="Finds entities in a text: names of people, places, organizations.",
        accepts="text, words",
        pipelines={
            "TokenClassification": ModelPipeline("token_classification.TokenClassification", "a token classifier")
        },
        hub="dslim/bert-base-NER",
        offline=None,
        renderer="entities",
        varied=True,
        aliases=("ner",),
        training=TrainingTask(
            "labels.TokenClassificationTraining",
            metrics=("precision", "recall", "f1", "accuracy"),
            packages=("seqeval",),
        ),
    ),
    "question-answering": Task(
        summary="Answers a question from a context.",
        accepts='`{"question", "context"}`',
        pipelines={
            "QuestionAnswering": ModelPipeline("question_answering.pipeline.QuestionAnswering", "a span head"),
            "Seq2SeqLM": ModelPipeline("question_answering.prompted.Text2TextAnswers", "an encoder-decoder"),
            "CausalLM": ModelPipeline("question_answering.prompted.PromptedAnswers", "a language model"),
        },
        hub="distilbert/distilbert-base-cased-distilled-squad",
        offline=ANSWERS,
        renderer="answers",
        inputs=(
            Input(
                "question",
                flag="question",
                help="For question-answering: one question; the texts, or a column of a file, are contexts.",
            ),
            Input("context"),
        ),
        training=TrainingTask(
            "question_answering.QuestionAnsweringTraining", metrics=("exact_match", "f1"), aliases=("extractive-qa",)
        ),
    ),
    "retrieval-augmented-generation": Task(
        summary="Answers a question from documents, with quotations.",
        accepts='question, `{"question", "documents"}`',
        pipelines={
            "QuestionAnswering": ModelPipeline("question_answering.rag.ExtractiveAnswers", "a span head"),
            "CausalLM": ModelPipeline("question_answering.rag.GeneratedFromDocuments", "a language model"),
        },
        hub="distilbert/distilbert-base-cased-distilled-squad",
        offline=ANSWERS,
        renderer="quotations",
        aliases=("rag",),
        inputs=(
            Input(
                "question",
                flag="question",
                help="For retrieval-augmented-generation: the question; the texts or rows are documents.",
            ),
            Input("documents", takes="table"),
        ),
    ),
    "table-question-answering": Task(
        summary="Answers a question from a table.",
        accepts='`{"table", "query"}`',
        pipelines={
            "Seq2SeqLM": ModelPipeline("tables.pipeline.TableQuestionAnswering", "TAPEX"),
            "TableQuestionAnswering": ModelPipeline("tables.chosen_cells.ChosenCells", "TAPAS"),
            "CausalLM": ModelPipeline("tables.pipeline.PromptedTableQuestionAnswering", "a language model"),
            "Model": ModelPipeline("tables.pipeline.EncodedTableQuestions", "a sentence encoder"),
        },
        hub="microsoft/tapex-base-finetuned-wtq",
        offline=MINILM,
        renderer="answers",
        inputs=(
            Input("table", takes="table"),
            Input("query", flag="query", help="For table-question-answering: the question; --file is the table."),
        ),
    ),
    "fill-mask": Task(
        summary="Suggests words for each mask in a text.",
        accepts="text with masks",
        pipelines={
            "MaskedLM": ModelPipeline("fill_mask.FillMask", "a masked language model"),
            "Seq2SeqLM": ModelPipeline("fill_mask.Text2TextFillMask", "BART"),
        },
        hub="distilbert/distilroberta-base",
        offline=None,
        renderer="masks",
        training=TrainingTask("language.FillMaskTraining", metrics=("perplexity",), aliases=("masked-lm", "mlm")),
    ),
    "summarization": Task(
        summary="Summarizes a text of any length.",
        accepts="text of any length",
        pipelines={
            "Seq2SeqLM": ModelPipeline("summarization.pipeline.Summarization", "an encoder-decoder"),
            "CausalLM": ModelPipeline("summarization.pipeline.PromptedSummarization", "a language model"),
        },
        hub="sshleifer/distilbart-cnn-12-6",
        offline=SMOLLM2,
        renderer="texts",
        modes={
            "extractive": Mode(
                pipelines={
                    "Model": ModelPipeline("summarization.extractive.ExtractiveSummarization", "a sentence encoder")
                },
                hub="sentence-transformers/all-MiniLM-L6-v2",
                offline=MINILM,
            )
        },
        training=TrainingTask(
            "language.SummarizationTraining",
            metrics=("perplexity",),
            text_metrics=("rouge",),
            text_packages=("rouge_score",),
        ),
    ),
    "translation": Task(
        summary="Translates a text; translation_en_to_pt names the languages.",
        accepts="text",
        pipelines={
            "Seq2SeqLM": ModelPipeline("translation.pipeline.Translation", "an encoder-decoder"),
            "CausalLM": ModelPipeline("translation.pipeline.PromptedTranslation", "a language model"),
        },
        hub="google-t5/t5-small",
        offline=TRANSLATORS["en", "pt"],
        renderer="texts",
        language_pairs=True,
        training=TrainingTask(
            "language.TranslationTraining",
            metrics=("perplexity",),
            text_metrics=("bleu", "chrf"),
            text_packages=("sacrebleu",),
        ),
    ),
    "text2text-generation": Task(
        summary="Generates a text from a text.",
        accepts="text",
        pipelines={
            "Seq2SeqLM": ModelPipeline("text2text.Text2TextGeneration", "an encoder-decoder"),
            "CausalLM": ModelPipeline("text2text.PromptedText2TextGeneration", "a language model"),
        },
        hub="google/flan-t5-base",
        offline=SMOLLM2,
        renderer="texts",
        training=TrainingTask(
            "language.Text2TextTraining",
            metrics=("perplexity",),
            text_metrics=("bleu", "chrf", "rouge"),
            aliases=("seq2seq", "text2text"),
            text_packages=("sacrebleu", "rouge_score"),
        ),
    ),
    "text-generation": Task(
        summary="Continues a text or a conversation.",
        accepts="text, conversation",
        pipelines={"CausalLM": ModelPipeline("text_generation.TextGeneration", "a language model")},
        hub="HuggingFaceTB/SmolLM2-360M-Instruct",
        offline=SMOLLM2,
        renderer="texts",
        training=TrainingTask(
            "language.TextGenerationTraining",
            metrics=("perplexity",),
            aliases=("causal-lm", "language-modeling", "clm"),
        ),
    ),
    "feature-extraction": Task(
        summary="Returns the hidden states of a text, one vector a token.",
        accepts="text",
        pipelines={"Model": ModelPipeline("feature_extraction.FeatureExtraction", "any model")},
        hub="sentence-transformers/all-MiniLM-L6-v2",
        offline=MINILM,
        renderer="features",
        aliases=("embedding",),
    ),
    "sentence-similarity": Task(
        summary="Compares a sentence with other sentences.",
        accepts='`{"source_sentence", "sentences"}`',
        pipelines={"Model": ModelPipeline("similarity.SentenceSimilarity", "a sentence encoder, or any model")},
        hub="sentence-transformers/all-MiniLM-L6-v2",
        offline=MINILM,
        renderer="similarities",
        inputs=(
            Input(
                "source_sentence",
                flag="source",
                help="For sentence-similarity: one sentence; the texts, or a column of a file, are compared with it.",
            ),
            Input("sentences", takes="texts"),
        ),
        training=TrainingTask(
            "sentence_similarity.SentenceSimilarityTraining",
            metrics=("pearson", "spearman"),
            aliases=("contrastive", "sentence-embeddings"),
            packages=("scipy",),
        ),
    ),
    "text-ranking": Task(
        summary="Ranks documents by how well they match a query.",
        accepts='`{"query", "documents"}`',
        pipelines={
            "SequenceClassification": ModelPipeline("similarity.CrossRanking", "a cross-encoder"),
            "Model": ModelPipeline("similarity.TextRanking", "a sentence encoder"),
        },
        hub="cross-encoder/ms-marco-MiniLM-L6-v2",
        offline=MINILM,
        renderer="ranking",
        varied=True,
        aliases=("rerank",),
        inputs=(
            Input("query", flag="query", help="For text-ranking: the query; the texts are documents."),
            Input("documents", takes="texts"),
        ),
    ),
}
TASKS: Mapping[str, Task] = Registry("tasks", OWN, lambda found: isinstance(found, Task))
TRAINABLE: Mapping[str, TrainingTask] = {
    **{name: task.training for name, task in TASKS.items() if task.training is not None},
    "preference": TrainingTask(
        "preference.PreferenceTraining",
        metrics=("rewards_accuracy", "rewards_margin"),
        aliases=("dpo",),
        pipeline="text-generation",
    ),
}
ALIASES: Mapping[str, str] = {alias: name for name, task in TASKS.items() for alias in task.aliases}
TRAINING_ALIASES: Mapping[str, str] = {
    **{alias: name for alias, name in ALIASES.items() if name in TRAINABLE},
    **{alias: name for name, task in TRAINABLE.items() for alias in task.aliases},
}


def canonical_name(task: str) -> str:
    """Return the name of the task that a name, an alias or `translation_xx_to_yy` means. Raises UnsupportedOption."""
    name = "translation" if LANGUAGE_PAIR.fullmatch(task) else ALIASES.get(task, task)
    if name not in TASKS:
        raise UnsupportedOption(f"The task {task!r} is not known. {nearest(task, [*TASKS, *ALIASES])}")
    return name


def get_task(task: str) -> Task:
    """Return the entry of a task by its name or an alias. Raises UnsupportedOption."""
    return TASKS[canonical_name(task)]


def canonical_training_name(task: str) -> str:
    """Return the name of the task to train that a name or an alias means. Raises UnsupportedOption."""
    name = "translation" if task.startswith("translation_") else TRAINING_ALIASES.get(task, task)
    if name not in TRAINABLE:
        raise UnsupportedOption(f"There is no task {task!r} to train. {nearest(task, [*TRAINABLE, *TRAINING_ALIASES])}")
    return name
