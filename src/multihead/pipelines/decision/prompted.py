"""decision by a language model: the probability of each option's label, or of its words, after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import InvalidInput, MultiheadError, UnsupportedConfig
from ..base import PipelineOptions, too_long
from ..calibration import Calibration
from ..chat_prompts import encode_prompts, prompt_ids
from ..reference_texts import VARIED_TEXTS
from ..streaming_batcher import ModelInput, Preprocessed, first_error
from ..token_scores import ScoredTokens, TokenScorer
from .pipeline import DecisionOptions, DecisionPipeline
from .prompts import LETTERS, YES_NO, example_messages, label_prompt, predicate_prompt, word_prompts
from .questions import PREDICATE, Question
from .state import DecisionInput

LABELS, WORDS = "labels", "words"
KEPT = 256  # questions whose mean scores after the reference texts are kept
# Divides scores by words. Fitted for SmolLM2-135M on texts of 18 kinds; another model needs a calibration of its own.
TEMPERATURE = 0.45


@dataclass(frozen=True, kw_only=True)
class PromptedDecisionOptions(DecisionOptions):
    """Options of decision by a language model.

    Args:
        scoring: "labels" asks for the letter of an option, or Yes or No, as the reference does. "words" scores the
            words of each option as the answer, relative to their mean after other texts, and Yes and No after eight
            examples. Default: "labels" where the checkpoint has labels of its own; else "words".
    """

    scoring: str | None = None

    def check(self) -> None:
        super().check()
        if self.scoring not in (None, LABELS, WORDS):
            raise InvalidInput(f"scoring is {LABELS!r}, {WORDS!r} or None, not {self.scoring!r}.")


@dataclass(frozen=True)
class ScoredOptions(ScoredTokens):
    """Tokens of options of a question; `words` are numbers of options.

    Args:
        question: number of the question in its request. asked: the question, if its scores are relative.
    """

    question: int = 0
    asked: Question | None = None


class PromptedDecision(DecisionPipeline, TokenScorer):
    """Decides by one prompt or two a question. What all prompts of a request share, the input first, is read once.

    A model prefers some words whatever the text is. Their mean log-probabilities after `reference_texts` are subtracted
    from those after the input, as in contextual calibration (Zhao et al., 2021, arXiv:2102.09690).
    """

    Options: ClassVar[type[PipelineOptions]] = PromptedDecisionOptions
    reference_texts: Sequence[str] = VARIED_TEXTS[::2]

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        self._baselines: dict[Any, Tensor] = {}
        super().__init__(model, tokenizer, name, **options)

    def preprocess(self, items: Sequence[DecisionInput], o: PromptedDecisionOptions) -> list[Preprocessed]:
        return [self._item_inputs(item, o) for item in items]

    def _item_inputs(self, item: DecisionInput, o: PromptedDecisionOptions) -> Preprocessed:
        """Return the model inputs of all questions, or the error of the first that has none."""
        try:
            inputs = [
                each
                for number, question in enumerate(item.questions)
                for each in self.question_inputs(item.state, number, question, o)
            ]
        except MultiheadError as error:
            return error
        return too_long(max(len(each.ids) for each in inputs), self.max_positions) or inputs

    def question_inputs(
        self, state: str, number: int, question: Question, o: PromptedDecisionOptions
    ) -> list[ModelInput]:
        """Return the model inputs of a question. Raises InvalidInput, UnsupportedConfig, ChatTemplateError."""
        if question.type == PREDICATE or not self.by_words(question, o):
            ids, labels = self.labeled_prompt(state, question, o)
            tokens, count = self.label_tokens(labels), len(labels)
            note = ScoredOptions([len(ids) - 1] * count, tokens, range(count), False, question=number)
            return [ModelInput(ids, note=note)]
        answers = self.tokenizer.encode_ids([f" {option.words}" for option in question.options], special=False)
        if not all(answers):
            raise InvalidInput(f"has an option without tokens: {question.options[answers.index([])].words!r}.")
        inputs = []
        for prompt, ids in enumerate(encode_prompts(self.tokenizer, word_prompts(state, question))):
            last = len(ids) - 1
            for option, answer in enumerate(answers):
                places = range(last, last + len(answer))
                note = ScoredOptions(places, answer, [option], True, prompt, number, question)
                inputs.append(ModelInput([*ids, *answer[:-1]], note=note))
        return inputs

    def labeled_prompt(
        self, state: str, question: Question, o: PromptedDecisionOptions
    ) -> tuple[list[int], tuple[str, ...]]:
        """Return the ids of the prompt that a label answers, and the labels of the question's options."""
        if not self.by_words(question, o):
            labels = self.labels(question)
            text = label_prompt(state, question, labels)
            return prompt_ids(self.tokenizer, text, enable_thinking=False), labels
        labels = tuple(YES_NO[0] if option.value is True else YES_NO[1] for option in question.options)
        text = predicate_prompt(state, question)
        return prompt_ids(self.tokenizer, text, example_messages(), enable_thinking=False), labels

    def by_words(self, question: Question, o: PromptedDecisionOptions) -> bool:
        """Return whether options are scored by their words, and a predicate by Yes and No after examples."""
        if o.scoring == LABELS:
            return False
        return o.scoring == WORDS or question.type not in self.settings.labels

    def labels(self, question: Question) -> tuple[str, ...]:
        """Return the labels of a question's options. Raises InvalidInput for more options than labels."""
        own = self.settings.labels.get(question.type) or (YES_NO if question.type == PREDICATE else LETTERS)
        if len(own) < len(question.options):
            raise InvalidInput(
                f"has a question with {len(question.options)} options, and there are {len(own)} labels: "
                f"scoring={WORDS!r} needs no labels."
            )
        return own[: len(question.options)]

    def label_tokens(self, labels: Sequence[str]) -> list[int]:
        """Return the token of each label. Raises UnsupportedConfig if they are no distinct, single tokens."""
        ids = self.tokenizer.encode_ids(list(labels), special=False)
        tokens = [own[0] for own in ids if len(own) == 1 and own[0] != self.tokenizer.unk_token_id]
        if len(set(tokens)) < len(labels):
            raise UnsupportedConfig(
                f"The labels {', '.join(labels)} are no distinct, single tokens of {self.model.name_or_path}; "
                f"scoring={WORDS!r} needs none."
            )
        return tokens

    def forward(self, inputs: Sequence[ModelInput], o: PromptedDecisionOptions) -> list[Any]:
        """Return the scores of each input's options, relative to their mean after other texts if scored by words."""
        outputs = [
            output if isinstance(output, MultiheadError) or not each.note.single_word else output.mean()[None]
            for output, each in zip(super().forward(inputs, o), inputs, strict=True)
        ]
        asked = {each.note.asked: None for each in inputs if each.note.asked is not None}
        base = self._means(list(asked), o)
        return [
            output
            if isinstance(output, MultiheadError) or each.note.asked is None
            else output - base[each.note.asked][each.note.prompt, list(each.note.words)]
            for output, each in zip(outputs, inputs, strict=True)
        ]

    def _means(self, questions: Sequence[Question], o: PromptedDecisionOptions) -> dict[Question, Tensor]:
        """Return the mean score (prompts, options) of each question's options after the reference texts."""
        state = self.weights_state(), tuple(self.reference_texts)
        keys = {question: (replace(question, name=None), *state) for question in questions}
        found = {question: self._baselines[key] for question, key in keys.items() if key in self._baselines}
        missing = [question for question in questions if question not in found]
        if missing:
            found |= dict(zip(missing, self._compute_means(missing, o), strict=True))
            if len(self._baselines) + len(missing) > KEPT:
                self._baselines.clear()
            self._baselines |= {keys[question]: found[question] for question in missing[:KEPT]}
        return found

    def _compute_means(self, questions: Sequence[Question], o: PromptedDecisionOptions) -> list[Tensor]:
        """Return the means of questions. Raises the error of a reference text that has no scores."""
        inputs = [
            each
            for text in self.reference_texts
            for number, question in enumerate(questions)
            for each in self.question_inputs(text, number, question, replace(o, scoring=WORDS))
        ]
        outputs = super().forward(inputs, o)
        if error := first_error(outputs):
            raise error
        means = [torch.zeros(2, len(question.options)) for question in questions]  # (prompts, options)
        for each, output in zip(inputs, outputs, strict=True):
            means[each.note.question][each.note.prompt, each.note.words[0]] += output.mean()
        return [mean / len(self.reference_texts) for mean in means]

    def scores(
        self, item: DecisionInput, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: PromptedDecisionOptions
    ) -> list[Tensor]:
        found: list[list[Tensor]] = [[] for _ in item.questions]
        for each, output in zip(inputs, outputs, strict=True):
            found[each.note.question].append(output)
        return [
            torch.cat(own).view(-1, len(question.options)).mean(0)
            for own, question in zip(found, item.questions, strict=True)
        ]

    def calibration(self, question: Question, o: PromptedDecisionOptions) -> Calibration | None:
        if o.calibration is True and self.by_words(question, o):
            return None if question.type == PREDICATE else Calibration(TEMPERATURE)
        return super().calibration(question, o)
