"""The tasks that read rows: a name, what prepares its data, which model it loads, what it learns, how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from ..adapters.state import make_trainable
from ..errors import InvalidInput, UnsupportedOption
from ..pipelines.catalog import TRAINABLE, canonical_training_name
from .data.features import Features
from .data.labels import Labels
from .data.masked_lm import Masking, mask
from .data.question_answering import Questions
from .data.source import Rows
from .dataset_jobs import EXAMPLE_WORDS, TaskJob
from .evaluation import metrics, text_metrics
from .evaluation.loop import Seen
from .evaluation.squad import answered
from .jobs import Job
from .objectives.packed_batch import Example
from .objectives.padded_forward import is_own
from .objectives.preference import FoundSentences, Preference
from .objectives.token import Objective, Words


class QuestionAnswering(TaskJob):
    """The span of a context that answers a question."""

    task, data, auto = "question-answering", "question_answering", "AutoModelForQuestionAnswering"
    answered = True

    def scored(self, arguments: Any) -> bool:
        return True

    def metrics(self, features: Features, seen: Seen, arguments: Any) -> dict[str, float]:
        return answered(features, seen.scores, self.tokenizer, self.options)

    def example_input(self, features: Features) -> dict[str, str]:
        example = Questions.of(features.rows, self.options)[0]
        return {"question": example.question, "context": " ".join(example.context.split()[: 3 * EXAMPLE_WORDS])}


class Masked(Words):
    """Words of a text that are hidden anew each time it is read."""

    columns = ("input_ids", "word_ids")

    def __init__(self, model: Any, masking: Masking, smoothing: float = 0.0) -> None:
        super().__init__(model, smoothing)
        self.masking = masking

    def ready(self, example: Example, seed: tuple[int, int, int]) -> Example:
        ids, labels = mask(example, seed, self.masking)
        return {**example, "input_ids": ids, "labels": labels}


class FillMask(TaskJob):
    """Hidden words (Devlin et al., 2018), whole ones where `whole_words` says so (Cui et al., 2019)."""

    task, data, auto = "fill-mask", "masked_lm", "AutoModelForMaskedLM"
    own = ("probability", "hidden", "replaced", "whole_words")

    def parallel(self, files: Mapping[str, Any]) -> bool:
        return False  # a line is an example by itself

    def objective(self) -> Objective:
        return Masked(self.model, Masking.of(self.tokenizer, **self.chosen), self.smoothing)

    def example_input(self, features: Features) -> str:
        return f"{super().example_input(features)} {self.tokenizer.mask_token}"

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        return {"perplexity": metrics.language_modeling(seen.loss, int(seen.count))["perplexity"]}


class TextGeneration(TaskJob):
    """The next word: of texts, of completions, of what an assistant says."""

    task, data, auto = "text-generation", "causal_lm", "AutoModelForCausalLM"

    def parallel(self, files: Mapping[str, Any]) -> bool:
        told = (self.options.prompt_column, self.options.completion_column)
        return set(files) <= {*told, *self.module.PROMPT, *self.module.COMPLETION}  # else a line is an example

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        return {"perplexity": metrics.language_modeling(seen.loss, int(seen.count))["perplexity"]}


class Text2Text(TaskJob):
    """A text of another text."""

    task, data, auto = "text2text-generation", "seq2seq", "AutoModelForSeq2SeqLM"
    answered = True
    judges: ClassVar[Sequence[Callable[..., dict[str, float]]]] = (
        text_metrics.translation,
        text_metrics.summarization,
    )

    def metrics(self, features: Features, seen: Seen, arguments: Any) -> dict[str, float]:
        found = {"perplexity": metrics.language_modeling(seen.loss, int(seen.count))["perplexity"]}
        if not self.writes(arguments):
            return found
        said = [text.strip() for text in self.tokenizer.batch_decode(seen.scores, skip_special_tokens=True)]
        for judge in self.judges:
            found |= judge(said, self.references(features))
        return found

    def references(self, features: Features) -> list[str]:
        labels = [[token for token in features[n]["labels"].tolist() if token >= 0] for n in range(len(features))]
        return [text.strip() for text in self.tokenizer.batch_decode(labels, skip_special_tokens=True)]


class Translation(Text2Text):
    """A text in another language."""

    task, judges = "translation", (text_metrics.translation,)


class Summarization(Text2Text):
    """A shorter text."""

    task, judges = "summarization", (text_metrics.summarization,)


class SentenceSimilarity(TaskJob):
    """Vectors of sentences: pairs that belong together, or pairs with scores."""

    task, data, auto = "sentence-similarity", "sentence_pairs", "SentenceEncoder"
    own = ("loss", "scale")
    labels: Labels | None = None

    def scored(self, arguments: Any) -> bool:
        return True

    def loaded(self, name: str, source: Any) -> Any:
        from ..sentences.encoder import SentenceEncoder

        encoder = SentenceEncoder.from_pretrained(name, dtype="float32", **self.loading)
        if encoder.model.adapters is not None:
            make_trainable(encoder.model)
        return encoder

    def features(self, source: Any, *, training: bool, answers: bool = True) -> Features:
        found = super().features(source, training=training, answers=answers)
        if training:
            self._check_learned(found)
        return found

    def _check_learned(self, features: Features) -> None:
        """Raises InvalidInput for scores that the loss does not read, or that say nothing."""
        name, scored = self.chosen.get("loss"), "labels" in features.columns
        texts = sum(column.startswith("input_ids") for column in features.columns)
        advice = "leave it out with ignore_columns=[...]"
        if scored and name == "contrastive":
            raise InvalidInput(
                "loss 'contrastive' brings the texts of every row together, whatever its score: keep the rows that "
                f"belong together and {advice}, or take 'cosent'."
            )
        if not scored and name not in (None, "contrastive"):
            raise InvalidInput(f"loss {name!r} needs a column of scores; there are {', '.join(features.read)}.")
        if not scored:
            return
        if texts > 2:
            raise InvalidInput(
                f"Rows have {texts} texts and a score, which orders pairs: the further texts would not be read. Leave "
                "them out, or the score: ignore_columns=[...]."
            )
        values = features.numbers["labels"]
        if name != "cosine" and values.size and values.min() == values.max():
            raise InvalidInput(
                f"All rows have the score {float(values[0]):g}, so that there is nothing to order. Where all are pairs "
                f"that belong together, {advice}; 'cosine' fits scores."
            )

    def prepared(self, source: Any, answers: bool) -> Features:
        rows = Rows.of(source)
        for known in (rows if source is self.source else self.source, rows):
            if self.labels is None and known is not None and not isinstance(known, Features):
                self.labels = self.module.labels_of(known, self.options)
        return self.module.prepare(rows, self.tokenizer, self.options, self.labels)

    def objective(self) -> Objective:
        return FoundSentences(self.model, **self.chosen)

    def example_input(self, features: Features) -> dict[str, Any]:
        text = super().example_input(features)
        return {"source_sentence": text, "sentences": ["A first sentence.", "A second one."]}

    def metrics(self, features: Features, seen: Seen, arguments: Any) -> dict[str, float]:
        if "labels" not in features.columns:
            return {}
        return metrics.sentence_similarity(np.asarray(seen.scores), np.asarray(seen.targets, dtype=np.float64))

    @property
    def reloads(self) -> bool:
        return False

    def _vocabulary(self) -> int:
        return int(self.model.model.get_input_embeddings().num_embeddings)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


class Preferring(TaskJob):
    """Which of two answers is better."""

    task, data, auto = "preference", "preference", "AutoModelForCausalLM"
    own = ("beta", "loss", "reference")

    def scored(self, arguments: Any) -> bool:
        return True

    def objective(self) -> Objective:
        named = {"beta": "beta", "loss": "kind", "reference": "reference"}
        options = {named[name]: value for name, value in self.chosen.items()}
        return Preference(self.model, smoothing=self.smoothing, **options)

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        rewards = np.asarray(seen.scores)
        found = metrics.preference(rewards[:, 0], rewards[:, 1])
        return {f"rewards_{name}": value for name, value in found.items()}


def job_of(model: Any, task: str | None, options: Mapping[str, Any], tokenizer: Any, data: Any, **more: Any) -> Job:
    """The job of a task, or of a model's own kind where data is tokenized.

    Raises:
        UnsupportedOption: no such task, or an option that it has not.
    """
    if task is None:
        if options:
            raise UnsupportedOption(f"options {', '.join(options)} belong to a task; name it: task=...")
        if isinstance(model, (str, Path)):
            raise InvalidInput(f"A model's name alone says not what to train; name a task: {', '.join(TRAINABLE)}.")
        headless = (
            hasattr(model, "head_type") and not model.head_type.labels and is_own(model) and more.get("loss") is None
        )
        if headless or not isinstance(model, nn.Module):
            raise InvalidInput(
                f"A {type(model).__name__} has no loss of its own; name a task, one of {', '.join(TRAINABLE)}, load "
                "the model with a head, or give a torch module whose forward returns a loss."
            )
        return Job(model, tokenizer, **more)
    return job_class(task)(model, tokenizer, options, data, **more)


def job_class(task: str) -> type[TaskJob]:
    """Return the class that trains a task, by the task's name or an alias. Raises UnsupportedOption."""
    module, _, name = TRAINABLE[canonical_training_name(task)].job.partition(".")
    found: type[TaskJob] = getattr(import_module(f".{module}", __package__), name)
    return found
