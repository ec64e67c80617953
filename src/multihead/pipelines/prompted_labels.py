"""text-classification by a language model: prompts instead of a trained head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from .base import PipelineOptions, text_of, too_long, top_scores
from .calibration import Calibration, find_calibration
from .chat_prompts import ChatPrompt, encode_prompts
from .emoji import name_emoji
from .generation_base import fill_prompt
from .reference_texts import REFERENCE_TEXTS
from .streaming_batcher import ModelInput, Preprocessed, first_error
from .text_checks import NamedText
from .text_classification import BEST, FUNCTIONS, TextClassificationOptions, abstain_below
from .token_scores import ScoredTokens, TokenScorer

BATCH = "batch"
LEAST_BATCH = 8  # inputs whose mean is a calibration
KEPT = 8  # means after the reference texts, each for other words or prompts


class PromptScorer(TokenScorer):
    """Scores words as the model's answer to one or several prompts, relative to their mean after other texts.

    A model prefers some words whatever the text is. Their mean log-probabilities after `reference_texts` are subtracted
    from those after a text, as in contextual calibration (Zhao et al., 2021, arXiv:2102.09690), whose content-free text
    "N/A" misses the boundary between labels by far in small models. The reference texts are fixed, so an answer does
    not depend on the other inputs. With `calibration="batch"` the mean is over the inputs of a window instead (batch
    calibration; Zhou et al., 2023, arXiv:2309.17249).

    Several prompts differ in their preferences; the score is the mean of their calibrated scores.

    Attributes:
        reference_texts: texts that have each label about equally often.
    """

    reference_texts: Sequence[str] = REFERENCE_TEXTS

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        self._baselines: dict[Any, Tensor] = {}
        super().__init__(model, tokenizer, name, **options)

    def prompts_for(self, text: str, o: Any) -> Sequence[str | ChatPrompt]:
        """Return the prompts about a text."""
        raise NotImplementedError

    def words(self, o: Any) -> Sequence[str]:
        """Return the words that may follow the prompts."""
        raise NotImplementedError

    def calibration_of(self, o: Any) -> Any:
        """Return what scores are relative to: True for the reference texts, "batch" for the inputs, False for 0."""
        return True

    def preprocess(self, items: Sequence[str], o: Any) -> list[Preprocessed]:
        """Return each prompt once if each word is one token, else each prompt with each word."""
        words = self.words(o)
        answers = self.tokenizer.encode_ids(list(words), special=False)
        if not all(answers):
            raise InvalidInput(f"{words[answers.index([])]!r} has no tokens to score.")
        prompts = [self.prompts_for(text, o) for text in items]
        flat = [prompt for own in prompts for prompt in own]
        encoded = iter(encode_prompts(self.tokenizer, flat, controls=True))  # which a caller's own prompts may have
        result: list[Preprocessed] = []
        for own in prompts:
            rows = [row for number in range(len(own)) for row in self._word_inputs(next(encoded), answers, number)]
            result.append(too_long(max(len(row.ids) for row in rows), self.max_positions) or rows)
        return result

    def _word_inputs(self, ids: list[int], answers: Sequence[list[int]], prompt: int) -> list[ModelInput]:
        """Return the model inputs that score all answers after a prompt."""
        last = len(ids) - 1
        if all(len(answer) == 1 for answer in answers):
            tokens, count = [answer[0] for answer in answers], len(answers)
            return [ModelInput(ids, note=ScoredTokens([last] * count, tokens, range(count), False, prompt))]
        return [
            ModelInput([*ids, *a[:-1]], note=ScoredTokens(range(last, last + len(a)), a, [number], True, prompt))
            for number, a in enumerate(answers)
        ]

    def forward(self, inputs: Sequence[ModelInput], o: Any) -> list[Any]:
        """Return the log-probabilities of each input's words, less their mean after other texts.

        The score of a word of several tokens is their mean.
        """
        calibration, outputs = self.calibration_of(o), super().forward(inputs, o)
        if calibration is False:
            return outputs
        base = self._batch_means(inputs, outputs, o) if calibration == BATCH else self._baseline(o)
        return [
            output if isinstance(output, MultiheadError) else output - base[each.note.prompt, list(each.note.words)]
            for output, each in zip(outputs, inputs, strict=True)
        ]

    def _batch_means(self, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Tensor:
        """Return the mean scores (prompts, words) of the inputs. Raises InvalidInput for too few."""
        each_input = len(self.prompts_for("", o)) * (len(self.words(o)) if inputs[0].note.single_word else 1)
        answered = sum(not isinstance(output, MultiheadError) for output in outputs)
        if answered < LEAST_BATCH * each_input:
            raise InvalidInput(
                f'calibration="batch" is the mean over the inputs of a call, and needs {LEAST_BATCH} at least. Give a '
                "list of more inputs, or leave the option out."
            )
        return self._means(inputs, outputs, o)

    def _means(self, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Tensor:
        """Return the mean score (prompts, words) of each word after each prompt."""
        shape = (len(self.prompts_for("", o)), len(self.words(o)))
        total, count = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
        for each, output in zip(inputs, outputs, strict=True):
            if not isinstance(output, MultiheadError):
                total[each.note.prompt, list(each.note.words)] += output.double()
                count[each.note.prompt, list(each.note.words)] += 1
        return (total / count).float()

    def _baseline(self, o: Any) -> Tensor:
        """Return the mean score (prompts, words) after the reference texts, which are computed once."""
        words, prompts = tuple(self.words(o)), tuple(self.prompts_for("{text}", o))
        key = (words, prompts, tuple(self.reference_texts), self.weights_state())
        if key not in self._baselines:
            rows = self.preprocess(list(self.reference_texts), o)
            if failed := next((row for row in rows if isinstance(row, MultiheadError)), None):
                raise failed
            flat = [each for row in rows if isinstance(row, list) for each in row]
            outputs = super().forward(flat, o)
            if error := first_error(outputs):
                raise error
            if len(self._baselines) == KEPT:
                self._baselines.clear()
            self._baselines[key] = self._means(flat, outputs, o)
        return self._baselines[key]

    def forward_batch(self, inputs: Sequence[ModelInput], o: Any) -> Sequence[Tensor]:
        """Return the score of each input's words (words,); of a word of several tokens their mean."""
        rows = super().forward_batch(inputs, o)
        return [row.mean()[None] if each.note.single_word else row for row, each in zip(rows, inputs, strict=True)]

    def word_scores(self, outputs: Sequence[Tensor], o: Any) -> Tensor:
        """Return the score of each word (words,) from the outputs of an item: the mean over prompts."""
        return torch.cat(list(outputs)).view(-1, len(self.words(o))).mean(0)


@dataclass(frozen=True, kw_only=True)
class PromptedClassificationOptions(TextClassificationOptions):
    """Options of text-classification by a language model.

    Args:
        prompt: with `{text}` in it; one, or several whose scores are averaged.
        labels: label -> the words of the answer that mean it.
        calibration: True compares scores with those after the pipeline's `reference_texts`, and applies a calibration
            that is stored with the model unless the call has prompts or labels of its own; "batch" with their mean
            over the inputs of a window (1,024 at most), which suits inputs with all labels about equally often; False
            with nothing. A `Calibration`, or a file with one, is applied after the reference texts (docs/labels.md).
    """

    prompt: str | Sequence[str] | None = None
    labels: Mapping[str, str] | None = None

    def check(self) -> None:
        super().check()
        own = self.own_prompts
        if own is not None and (
            not isinstance(own, (list, tuple))
            or not own
            or not all(isinstance(prompt, str) and "{text}" in prompt for prompt in own)
        ):
            raise InvalidInput(f"prompt is a text with {{text}} in it, or several; not {self.prompt!r:.80}.")
        given = self.labels
        if given is not None and (
            not isinstance(given, Mapping)
            or not given
            or not all(isinstance(text, str) and text for pair in given.items() for text in pair)
        ):
            raise InvalidInput(
                'labels maps each label to the words of the answer that mean it, such as {"sports": " yes", "other": '
                f'" no"}}; not {given!r:.80}.'
            )

    @property
    def own_prompts(self) -> Sequence[str] | None:
        """The prompts of the call; None for the pipeline's."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class PromptedClassification(PromptScorer):
    """Classifies texts by how likely each label's words are as the model's answer.

    Attributes:
        prompt_texts: the prompts, with `{text}` in them. labels: label -> the words of the answer that mean it.
        temperature: divides the scores after these prompts and for these labels. Fitted for SmolLM2-135M on 300
            sentences of SST-2's train set; another model needs a calibration of its own.
    """

    Options: ClassVar[type[PipelineOptions]] = PromptedClassificationOptions
    prompt_texts: Sequence[str] = (
        "Text: The soup was cold and the waiter ignored us.\nSentiment: negative\n\n"
        "Text: A gripping story, beautifully acted.\nSentiment: positive\n\n"
        "Text: I cannot recommend this camera enough.\nSentiment: positive\n\n"
        "Text: Dull, clumsy and far too long.\nSentiment: negative\n\n"
        "Text: Despite a slow start, it won me over completely.\nSentiment: positive\n\n"
        "Text: It looks pretty, but falls apart after a week.\nSentiment: negative\n\n"
        "Text: {text}\nSentiment:",
        "The soup was cold and the waiter ignored us. => negative\n"
        "A gripping story, beautifully acted. => positive\n"
        "I cannot recommend this camera enough. => positive\n"
        "Dull, clumsy and far too long. => negative\n"
        "{text} =>",
    )
    labels: Mapping[str, str] = {"NEGATIVE": " negative", "POSITIVE": " positive"}
    temperature: float = 0.275

    def resolve_options(self, **options: Any) -> Any:
        o = super().resolve_options(**options)
        if o.calibration is True and o.prompt is None and o.labels is None:
            calibration = find_calibration(True, self.model) or True  # the one stored is of the pipeline's own prompts
        elif o.calibration in (True, False, BATCH) or isinstance(o.calibration, Calibration):
            calibration = o.calibration
        else:
            calibration = find_calibration(o.calibration, self.model) or False
        if isinstance(calibration, Calibration):
            calibration.check_labels(list(o.labels or self.labels))
        return replace(o, calibration=calibration)

    def calibration_of(self, o: PromptedClassificationOptions) -> Any:
        return True if isinstance(o.calibration, Calibration) else o.calibration

    def prompts_for(self, text: str, o: PromptedClassificationOptions) -> Sequence[str]:
        return [fill_prompt(prompt, text=text) for prompt in o.own_prompts or self.prompt_texts]

    def validate(self, item: Any, o: PromptedClassificationOptions) -> str:
        return name_emoji(text_of(item)) if o.emoji_names else text_of(item)

    def texts(self, item: str, o: Any) -> Sequence[NamedText]:
        return [NamedText("", item)]

    def words(self, o: PromptedClassificationOptions) -> Sequence[str]:
        return list((o.labels or self.labels).values())

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: PromptedClassificationOptions
    ) -> Any:
        names, scores = list(o.labels or self.labels), self.word_scores(outputs, o)
        function = o.function_to_apply or ("softmax" if len(names) > 1 else "sigmoid")
        calibration = o.calibration if isinstance(o.calibration, Calibration) and function != "none" else None
        if calibration is not None:
            scores = calibration.apply(scores, names)
        elif o.calibration and function != "none" and o.prompt is None and o.labels is None:
            scores = scores / self.temperature
        values = dict(zip(FUNCTIONS, (scores.sigmoid(), scores.softmax(-1), scores), strict=True))[function]
        labels = [{"label": names[i], "score": score} for i, score in top_scores(values, o.count)]
        if o.top_k != BEST:
            return labels
        return labels[0] if calibration is None else abstain_below(calibration, labels[0])

    def format_single(self, answer: Any, inputs: Any, o: TextClassificationOptions) -> Any:
        return [answer] if o.top_k == BEST else answer
