"""Tasks that an instruction-tuned language model answers by a small, visible prompt, where no trained head exists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import InvalidInput
from .language import LanguageTask, filled
from .task import texts_of


class PromptedClassification(LanguageTask):
    """Classifies texts by how likely each label is as the model's answer.

    What the model thinks of each label after an empty text is subtracted (Zhao et al., 2021, arXiv:2102.09690).

    Attributes:
        prompt_text: the prompt, with `{text}` in it.
        labels: label -> the words that stand for it in the answer.
    """

    prompt_text = (
        'Review: "A gripping story, beautifully acted."\nSentiment: positive\n\n'
        'Review: "Dull, clumsy and far too long."\nSentiment: negative\n\n'
        'Review: "{text}"\nSentiment:'
    )
    labels: Mapping[str, str] = {"NEGATIVE": " negative", "POSITIVE": " positive"}

    def __call__(self, inputs: str | Sequence[str], *, top_k: int | None = 1) -> Any:
        """`[{"label": ..., "score": ...}]` for each text; all labels with top_k=None, as lists for several texts."""
        texts, single = texts_of(inputs)
        neutral = self._scores("N/A")
        answers = []
        for text in texts:
            p = (self._scores(text) - neutral).softmax(-1).tolist()
            ranked = sorted(zip(self.labels, p, strict=True), key=lambda pair: -pair[1])[:top_k]
            answers.append([{"label": label, "score": score} for label, score in ranked])
        if top_k == 1:
            return [answer[0] for answer in answers]
        return answers[0] if single else answers

    def _scores(self, text: str) -> torch.Tensor:
        prompt, *answers = self.tokenizer.encode_ids([filled(self.prompt_text, text=text), *self.labels.values()])
        return torch.tensor(self.likelihoods(prompt, answers))


class PromptedSummarization(LanguageTask):
    """Summarizes texts in a sentence or two."""

    prompt_text = "Summarize the following text in one short sentence.\n\n{text}"

    def __call__(self, inputs: str | Sequence[str], **options: Any) -> list[dict[str, str]]:
        """`[{"summary_text": ...}]`, in the inputs' order; `options` are fields of GenerationConfig."""
        texts, _ = texts_of(inputs)
        prompts = [self.prompt([{"role": "user", "content": filled(self.prompt_text, text=t)}]) for t in texts]
        return [{"summary_text": text.strip()} for text in self.complete(prompts, **{"max_new_tokens": 96, **options})]


class PromptedAnswers(LanguageTask):
    """Answers questions about a context in a few words, after worked examples of the kinds of questions."""

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

    def __call__(
        self,
        inputs: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        *,
        question: str | None = None,
        context: str | None = None,
        **options: Any,
    ) -> Any:
        """`{"answer": ...}`; with `start` and `end` in the context where the answer stands there word for word.

        Raises:
            InvalidInput: no question or no context.
        """
        pairs = inputs if inputs is not None else {"question": question, "context": context}
        single = isinstance(pairs, Mapping)
        asked = [pairs] if isinstance(pairs, Mapping) else list(pairs)
        prompts = self.tokenizer.encode_ids([self._prompt(pair) for pair in asked])
        written = self.complete(prompts, **{"max_new_tokens": 32, **options}, ends=self._line_ends())
        answers = [placed(text, str(pair["context"])) for text, pair in zip(written, asked, strict=True)]
        return answers[0] if single else answers

    def _prompt(self, pair: Mapping[str, Any]) -> str:
        question, context = pair.get("question"), pair.get("context")
        if not isinstance(question, str) or not isinstance(context, str):
            raise InvalidInput('question-answering needs {"question": "...", "context": "..."}.')
        return filled(self.prompt_text, question=question, context=context)

    def _line_ends(self) -> set[int]:
        """Tokens that end a line: an answer is one."""
        ids = self.tokenizer.encode_ids(["\n", "\n\n"], special=False)
        return {text[0] for text in ids if len(text) == 1}


def placed(text: str, context: str) -> dict[str, Any]:
    """The first line of what was written, and where it stands in the context if it does."""
    answer = text.strip().partition("\n")[0].strip()
    bare = answer.rstrip(".")
    found = re.search(re.escape(bare), context, re.IGNORECASE) if bare else None
    return {"answer": answer, **({"start": found.start(), "end": found.end()} if found else {})}
