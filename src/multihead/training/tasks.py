"""The tasks that read rows: a name, what prepares its data, which model it loads, what it learns, how it is judged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from torch import nn

from .. import auto
from ..errors import InvalidInput, UnsupportedOption, nearest, warn
from ..filling import NewWeights
from ..nn.embeddings import LearnedPositions
from ..rows import ENDINGS
from . import metrics, text_metrics
from .answers import answered
from .data.labels import REGRESSION, SEVERAL, Labels
from .data.masked_lm import Masking, mask
from .data.source import Rows, is_live
from .evaluation import Seen, stacked
from .features import Features
from .jobs import Job
from .objectives import Objective, Words
from .padded import is_own
from .pairs import FoundSentences, Preference
from .passes import Example

ALIASES = {
    "sentiment-analysis": "text-classification", "sequence-classification": "text-classification",
    "ner": "token-classification", "extractive-qa": "question-answering", "masked-lm": "fill-mask", "mlm": "fill-mask",
    "causal-lm": "text-generation", "language-modeling": "text-generation", "clm": "text-generation",
    "seq2seq": "text2text-generation", "text2text": "text2text-generation", "contrastive": "sentence-similarity",
    "sentence-embeddings": "sentence-similarity", "dpo": "preference",
}  # fmt: skip
OF_ROWS = tuple(ending for ending in ENDINGS if ending != ".txt")  # files whose lines are no texts
LOADING = ("load_in_4bit", "load_in_8bit")  # options of every task, for a model that is given by its name


class TaskJob(Job):
    """A job that reads rows.

    Args:
        options: of the task's data and of what it learns, `own` among them, and of how the model is loaded.
    """

    task: ClassVar[str]
    data: ClassVar[str]  # file in `data`
    auto: ClassVar[str]
    own: ClassVar[tuple[str, ...]] = ()  # options beside those of the data
    answered: ClassVar[bool] = False  # whether rows have a column of answers, without which they may be predicted

    def __init__(self, model: Any, tokenizer: Any, options: Mapping[str, Any], source: Any, **more: Any) -> None:
        if more.get("collator") is not None:
            raise UnsupportedOption(f"data_collator: {self.task} makes its own batches; leave it or the task out.")
        self.given = dict(options)
        self.chosen = {name: options[name] for name in self.own if name in options}
        self.loading = {name: options[name] for name in LOADING if name in options}
        self.options = self._options({k: v for k, v in options.items() if k not in (*self.own, *LOADING)})
        named = isinstance(model, (str, Path))
        self.tokenizer = auto.AutoTokenizer.from_pretrained(model) if tokenizer is None and named else tokenizer
        if self.tokenizer is None:
            raise InvalidInput(f"{self.task} reads texts: give processing_class=, the model's tokenizer.")
        self.source = source
        loaded = self.loaded(str(model), source) if named else model
        super().__init__(loaded, self.tokenizer, **more)
        if self.padded and type(self).objective is not Job.objective:
            what = "a forward" if self.loss is None else "compute_loss"
            raise UnsupportedOption(
                f"{what} of your own: {self.task} computes its loss itself and would never call it. Leave it out, or "
                "leave the task out and give tokenized examples, with a data_collator."
            )
        positions = [part.count for part in loaded.modules() if isinstance(part, LearnedPositions)]
        if positions and self.options.positions is None:
            self.options = replace(self.options, positions=min(positions))

    @property
    def module(self) -> ModuleType:
        return import_module(f".data.{self.data}", __package__)

    def _options(self, given: Mapping[str, Any]) -> Any:
        kind = self.module.Options
        names = [f.name for f in fields(kind)]
        wrong = [name for name in given if name not in names]
        if wrong:
            known = [*names, *self.own, *LOADING]
            raise UnsupportedOption(f"{self.task} has no option {wrong[0]!r}. {nearest(wrong[0], known)}")
        return kind(**given)

    def loaded(self, name: str, source: Any) -> Any:
        """The model of a name, with weights in float32, which small updates need."""
        return self._load(name)

    def _load(self, name: str, **changes: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NewWeights)  # a head that is to be trained is new
            return getattr(auto, self.auto).from_pretrained(
                name, dtype="float32", ignore_mismatched_sizes=True, **self.loading, **changes
            )

    @cached_property
    def padded(self) -> bool:
        return self.loss is not None or not is_own(self.model)

    def features(self, source: Any, *, training: bool, answers: bool = True) -> Features:
        if isinstance(source, Features):
            return source
        if is_live(source):
            warn(
                f"A {type(source).__name__} is read once with a task: rows that it makes anew at each use are learned "
                "as they were first. Where they shall change, tokenize them in it and leave the task out."
            )
        return self.prepared(source, answers)

    def prepared(self, source: Any, answers: bool) -> Features:
        """Rows as examples; `answers` as of `features`."""
        more = {"answers": answers} if self.answered else {}
        return self.module.prepare(source, self.tokenizer, self.options, **more)

    def parallel(self, files: Mapping[str, Any]) -> bool:
        return not any(Path(file).suffix.lower() in OF_ROWS for file in files.values())


class Labeled(TaskJob):
    """A task whose labels come from the training data, or from a model that has some."""

    answered = True
    labels: Labels | None = None

    def loaded(self, name: str, source: Any) -> Any:
        self.labels = self.module.labels_of(source, self.options)
        return self._load(name, **table(self.labels), **self.more(self.labels))

    def more(self, labels: Labels) -> dict[str, Any]:
        """More config entries."""
        return {}

    def prepared(self, source: Any, answers: bool) -> Features:
        rows = Rows.of(source)
        if self.labels is None and (answers or self.module.has_labels(rows, self.options)):
            self.labels = self._told(rows)
        return self.module.prepare(rows, self.tokenizer, self.options, self.labels, answers=answers)

    def _told(self, source: Any) -> Labels:
        """The labels of a model that was given: its own names, or those of the data where it has none yet."""
        told = self.model.config.id2label or {}
        names = [str(told[i]) for i in sorted(told)]
        own = any(not name.startswith("LABEL_") for name in names)
        options = replace(self.options, labels=names) if own and not self.options.labels else self.options
        labels: Labels = self.module.labels_of(source if self.source is None else self.source, options)
        if not own and len(labels.names) == len(names):
            self.model.config = replace(self.model.config, **table(labels), **self.more(labels))
        return labels


def table(labels: Labels) -> dict[str, Any]:
    """The config's entries of labels."""
    return {
        "id2label": dict(enumerate(labels.names)),
        "label2id": {label: i for i, label in enumerate(labels.names)},
    }


class TextClassification(Labeled):
    """Labels, several labels or a score a text."""

    task, data, auto = "text-classification", "text_classification", "AutoModelForSequenceClassification"

    def scored(self, arguments: Any) -> bool:
        return True

    def more(self, labels: Labels) -> dict[str, Any]:
        return {"problem_type": labels.kind}

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        scores, wanted = stacked(seen.scores), stacked(seen.targets)
        kind = self.model.config.problem_type or (self.labels.kind if self.labels else None)
        if kind == REGRESSION:
            return metrics.regression(scores, wanted)
        judge = metrics.multi_label_classification if kind == SEVERAL else metrics.text_classification
        return judge(scores, wanted)


class TokenClassification(Labeled):
    """A tag a word."""

    task, data, auto = "token-classification", "token_classification", "AutoModelForTokenClassification"

    def scored(self, arguments: Any) -> bool:
        return True

    def metrics(self, features: Any, seen: Seen, arguments: Any) -> dict[str, float]:
        return metrics.token_classification(stacked(seen.scores), stacked(seen.targets), self.model.config.id2label)


class QuestionAnswering(TaskJob):
    """The span of a context that answers a question."""

    task, data, auto = "question-answering", "question_answering", "AutoModelForQuestionAnswering"
    answered = True

    def scored(self, arguments: Any) -> bool:
        return True

    def metrics(self, features: Features, seen: Seen, arguments: Any) -> dict[str, float]:
        return answered(features, seen.scores, self.tokenizer, self.options)


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

        return SentenceEncoder.from_pretrained(name, dtype="float32", **self.loading)

    def prepared(self, source: Any, answers: bool) -> Features:
        rows = Rows.of(source)
        for known in (rows if source is self.source else self.source, rows):
            if self.labels is None and known is not None and not isinstance(known, Features):
                self.labels = self.module.labels_of(known, self.options)
        return self.module.prepare(rows, self.tokenizer, self.options, self.labels)

    def objective(self) -> Objective:
        return FoundSentences(self.model, **self.chosen)

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


TASKS: Mapping[str, type[TaskJob]] = {
    kind.task: kind
    for kind in (
        TextClassification, TokenClassification, QuestionAnswering, FillMask, TextGeneration, Text2Text, Translation,
        Summarization, SentenceSimilarity, Preferring,
    )
}  # fmt: skip


def job_of(model: Any, task: str | None, options: Mapping[str, Any], tokenizer: Any, data: Any, **more: Any) -> Job:
    """The job of a task, or of a model's own kind where data is tokenized.

    Raises:
        UnsupportedOption: no such task, or an option that it has not.
    """
    if task is None:
        if options:
            raise UnsupportedOption(f"options {', '.join(options)} belong to a task; name it: task=...")
        if isinstance(model, (str, Path)):
            raise InvalidInput(f"A model's name alone says not what to train; name a task: {', '.join(TASKS)}.")
        headless = hasattr(model, "kind") and not model.kind.labels and is_own(model) and more.get("loss") is None
        if headless or not isinstance(model, nn.Module):
            raise InvalidInput(
                f"A {type(model).__name__} has no loss of its own; name a task, one of {', '.join(TASKS)}, load the "
                "model with a head, or give a torch module whose forward returns a loss."
            )
        return Job(model, tokenizer, **more)
    name = ALIASES.get(task, task)
    name = "translation" if name.startswith("translation_") else name
    if name not in TASKS:
        raise UnsupportedOption(f"There is no task {task!r} to train. {nearest(task, [*TASKS, *ALIASES])}")
    return TASKS[name](model, tokenizer, options, data, **more)
