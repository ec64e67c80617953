"""Tasks that a language model answers by a short prompt, without a trained head."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from .base import ForwardPipeline, PipelineOptions, packed_positions, too_long, top_scores
from .generation_base import GenerationOptions, GenerationPipeline, SingleLinePipeline, Text2TextPipeline, fill_prompt
from .question_answering import QuestionContextPipeline
from .streaming_batcher import ModelInput, Preprocessed, first_error
from .text_classification import BEST, TextClassificationOptions
from .zero_shot import ZeroShotOptions, ZeroShotPipeline


@dataclass(frozen=True)
class ScoredTokens:
    """Tokens of a model input whose log-probabilities are wanted: `tokens[i]` after `positions[i]`.

    Args:
        words: numbers of the words that the tokens are. single_word: all tokens are one word.
    """

    positions: Sequence[int]
    tokens: Sequence[int]
    words: Sequence[int]
    single_word: bool


class PromptScorer(ForwardPipeline):
    """Scores words as the model's answer to a prompt, relative to their scores after a neutral text.

    This is contextual calibration (Zhao et al., 2021, arXiv:2102.09690).
    """

    auto = "AutoModelForCausalLM"
    neutral = "N/A"

    def prompt_for(self, text: str, o: Any) -> str:
        """Return the prompt about a text."""
        raise NotImplementedError

    def words(self, o: Any) -> Sequence[str]:
        """Return the words that may follow the prompt."""
        raise NotImplementedError

    def preprocess(self, items: Sequence[str], o: Any) -> list[Preprocessed]:
        """Return the prompt once if each word is one token, else the prompt with each word."""
        words = self.words(o)
        answers = self.tokenizer.encode_ids(list(words), special=False)
        if not all(answers):
            raise InvalidInput(f"{words[answers.index([])]!r} has no tokens to score.")
        result: list[Preprocessed] = []
        for ids in self.tokenizer.encode_ids([self.prompt_for(text, o) for text in items]):
            last = len(ids) - 1
            if all(len(answer) == 1 for answer in answers):
                count = len(answers)
                note = ScoredTokens([last] * count, [answer[0] for answer in answers], range(count), False)
                rows = [ModelInput(ids, note=note)]
            else:
                rows = [
                    ModelInput([*ids, *a[:-1]], note=ScoredTokens(range(last, last + len(a)), a, [number], True))
                    for number, a in enumerate(answers)
                ]
            result.append(too_long(max(len(row.ids) for row in rows), self.max_positions) or rows)
        return result

    def forward(self, inputs: Sequence[ModelInput], o: Any) -> list[Any]:
        """Return the log-probabilities of each input's words, less those after the neutral text.

        The score of a word of several tokens is their mean.
        """
        neutral = self.preprocess([self.neutral], o)[0]
        if isinstance(neutral, MultiheadError):
            raise neutral
        outputs = super().forward([*neutral, *inputs], o)
        if error := first_error(outputs[: len(neutral)]):
            raise error
        base = torch.cat(outputs[: len(neutral)])  # (words,)
        return [
            output if isinstance(output, MultiheadError) else output - base[list(each.note.words)]
            for output, each in zip(outputs[len(neutral) :], inputs, strict=True)
        ]

    def forward_batch(self, inputs: Sequence[ModelInput], o: Any) -> Sequence[Tensor]:
        at = packed_positions(inputs, [each.note.positions for each in inputs])
        tokens = [token for each in inputs for token in each.note.tokens]
        scores = self.model.run([each.ids for each in inputs], at=at).scores.float().log_softmax(-1)
        rows = scores[range(len(tokens)), tokens].cpu().split([len(each.note.tokens) for each in inputs])
        return [row.mean()[None] if each.note.single_word else row for row, each in zip(rows, inputs, strict=True)]


@dataclass(frozen=True, kw_only=True)
class PromptedClassificationOptions(TextClassificationOptions):
    """Options of text-classification by a language model.

    Args:
        prompt: with `{text}` in it. labels: label -> the words of the answer that mean it.
    """

    prompt: str | None = None
    labels: Mapping[str, str] | None = None


class PromptedClassification(PromptScorer):
    """Classifies texts by how likely each label's words are as the model's answer.

    Attributes:
        prompt_text: the prompt, with `{text}` in it. labels: label -> the words of the answer that mean it.
    """

    Options: ClassVar[type[PipelineOptions]] = PromptedClassificationOptions
    prompt_text = (
        'Review: "A gripping story, beautifully acted."\nSentiment: positive\n\n'
        'Review: "Dull, clumsy and far too long."\nSentiment: negative\n\n'
        'Review: "{text}"\nSentiment:'
    )
    labels: Mapping[str, str] = {"NEGATIVE": " negative", "POSITIVE": " positive"}

    def prompt_for(self, text: str, o: PromptedClassificationOptions) -> str:
        return fill_prompt(o.prompt or self.prompt_text, text=text)

    def words(self, o: PromptedClassificationOptions) -> Sequence[str]:
        return list((o.labels or self.labels).values())

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: PromptedClassificationOptions
    ) -> Any:
        names, probabilities = list(o.labels or self.labels), torch.cat(list(outputs)).softmax(-1)
        labels = [{"label": names[i], "score": score} for i, score in top_scores(probabilities, o.count)]
        return labels[0] if o.top_k == BEST else labels

    def format_single(self, answer: Any, inputs: Any, o: TextClassificationOptions) -> Any:
        return [answer] if o.top_k == BEST else answer


class PromptedZeroShot(ZeroShotPipeline, PromptScorer):
    """Chooses by how likely each label is in the place of `hypothesis_template`'s `{}`, after the text."""

    prompt_text = '"{text}"\n'

    def prompt_for(self, text: str, o: ZeroShotOptions) -> str:
        return fill_prompt(self.prompt_text, text=text) + o.hypothesis_template.partition("{}")[0].rstrip()

    def words(self, o: ZeroShotOptions) -> Sequence[str]:
        return [f" {label}" for label in o.labels]

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: ZeroShotOptions
    ) -> dict[str, Any]:
        scores = torch.cat(list(outputs))
        return self.rank_labels(item, scores.sigmoid() if o.multi_label else scores.softmax(-1), o)


class GeneratedAnswers(QuestionContextPipeline, GenerationPipeline):
    """Answers that a model generates: `{"answer"}`, with `start` and `end` if the context has the same words."""

    Options: ClassVar[type[PipelineOptions]] = GenerationOptions

    def postprocess(self, item: tuple[str, str], inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any) -> Any:
        answers = [locate_answer(self.decode(ids, o), item[1]) for ids in outputs[0]]
        return answers[0] if len(answers) == 1 else answers


class PromptedAnswers(GeneratedAnswers, SingleLinePipeline):
    """Answers questions about a context in a few words, by a prompt with worked examples."""

    prompt_text = (
        "Text: Marie Curie was born in Warsaw in 1867. She moved to Paris, where she discovered radium together with "
        "her husband Pierre, and won two Nobel Prizes.\n"
        "Question: Where was Curie born?\nAnswer: Warsaw\n"
        "Question: Who discovered radium with her?\nAnswer: her husband Pierre\n"
        "Question: How many Nobel Prizes did she win?\nAnswer: two\n"
        "Question: What did she discover?\nAnswer: radium\n\n"
        "Text: The Eiffel Tower in Paris was finished in 1889 by the company of Gustave Eiffel. It is 330 metres "
        "tall.\n"
        "Question: When was the tower finished?\nAnswer: 1889\n"
        "Question: Whose company built it?\nAnswer: the company of Gustave Eiffel\n"
        "Question: How tall is it?\nAnswer: 330 metres\n\n"
        "Text: {context}\nQuestion: {question}\nAnswer:"
    )
    new_tokens = 32

    def preprocess(self, items: Sequence[tuple[str, str]], o: Any) -> list[Preprocessed]:
        config, prompt = self.full_config(o), o.prompt or self.prompt_text
        prompts = [fill_prompt(prompt, question=question, context=context) for question, context in items]
        return [self.make_input(ids, config) for ids in self.tokenizer.encode_ids(prompts)]


class Text2TextAnswers(GeneratedAnswers, Text2TextPipeline):
    """Answers with an encoder-decoder, in the prompt format of T5 (arXiv:1910.10683, appendix D)."""

    prompt_text = "question: {question} context: {context}"

    def preprocess(self, items: Sequence[tuple[str, str]], o: Any) -> list[Preprocessed]:
        prompt = o.prompt or self.prompt_text
        return self.encode_sources([fill_prompt(prompt, question=q, context=context) for q, context in items], o)


def locate_answer(text: str, context: str) -> dict[str, Any]:
    """Return the first line of a generated text, with its place in the context if it is there."""
    answer = text.strip().partition("\n")[0].strip()
    words = answer.rstrip(".")
    match = re.search(re.escape(words), context, re.IGNORECASE) if words else None
    return {"answer": answer, **({"start": match.start(), "end": match.end()} if match else {})}
