"""Tasks that a language model answers by a small, visible prompt, where no trained head exists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, MultiheadError
from .base import Options, Reader, ranked, rows_of, too_long
from .question_answering import Questions
from .streaming_batcher import Piece, first_error
from .text_classification import ONE, Labelling
from .writing import LineSpeaker, Rewriter, Writer, Writing, filled
from .zero_shot import Chooser, Choosing


@dataclass(frozen=True)
class Weighed:
    """What is asked of a piece: how likely each token is after its place.

    Args:
        words: numbers of the words that the tokens stand for; with `whole`, all of them make one word.
    """

    places: Sequence[int]
    tokens: Sequence[int]
    words: Sequence[int]
    whole: bool


class Weigher(Reader):
    """Weighs words as the model's answer to a prompt, against what it thinks of them when there is no text.

    That is contextual calibration (Zhao et al., 2021, arXiv:2102.09690): the neutral text's scores are subtracted.
    """

    auto = "AutoModelForCausalLM"
    neutral = "N/A"

    def asked(self, text: str, o: Any) -> str:
        """The prompt about a text."""
        raise NotImplementedError

    def words(self, o: Any) -> Sequence[str]:
        """The words that may follow."""
        raise NotImplementedError

    def pieces(self, items: Sequence[str], o: Any) -> list[list[Piece] | MultiheadError]:
        """The prompt once where each word is one token, else the prompt with each word."""
        words = self.words(o)
        answers = self.tokenizer.encode_ids(list(words), special=False)
        if not all(answers):
            raise InvalidInput(f"{words[answers.index([])]!r} has no tokens to be weighed.")
        numbers = range(len(answers))
        found: list[list[Piece] | MultiheadError] = []
        for ids in self.tokenizer.encode_ids([self.asked(text, o) for text in items]):
            last = len(ids) - 1
            if all(len(answer) == 1 for answer in answers):
                rows = [Piece(ids, note=Weighed([last] * len(answers), [a[0] for a in answers], numbers, False))]
            else:
                rows = [
                    Piece([*ids, *a[:-1]], note=Weighed(range(last, last + len(a)), a, [number], True))
                    for number, a in enumerate(answers)
                ]
            found.append(too_long(max(len(row.ids) for row in rows), self.room) or rows)
        return found

    def compute(self, pieces: Sequence[Piece], o: Any) -> list[Any]:
        """Of each piece its words' log-probabilities (a mean over a word's tokens), less those after no text."""
        blank = self.pieces([self.neutral], o)[0]
        if isinstance(blank, MultiheadError):
            raise blank
        rows = super().compute([*blank, *pieces], o)
        if wrong := first_error(rows[: len(blank)]):
            raise wrong
        base = torch.cat(rows[: len(blank)])
        return [
            row if isinstance(row, MultiheadError) else row - base[list(piece.note.words)]
            for row, piece in zip(rows[len(blank) :], pieces, strict=True)
        ]

    def read(self, pieces: Sequence[Piece], o: Any) -> Sequence[Tensor]:
        at = rows_of(pieces, [piece.note.places for piece in pieces])
        tokens = [token for piece in pieces for token in piece.note.tokens]
        scores = self.model.run([piece.ids for piece in pieces], at=at).scores.float().log_softmax(-1)
        sure = scores[range(len(tokens)), tokens].cpu().split([len(piece.note.tokens) for piece in pieces])
        return [row.mean()[None] if piece.note.whole else row for row, piece in zip(sure, pieces, strict=True)]


@dataclass(frozen=True, kw_only=True)
class PromptedLabelling(Labelling):
    """Of text-classification by a language model.

    Args:
        prompt: with `{text}` in it. labels: label -> the words that stand for it in the answer.
    """

    prompt: str | None = None
    labels: Mapping[str, str] | None = None


class PromptedClassification(Weigher):
    """Classifies texts by how likely each label's words are as the model's answer.

    Attributes:
        prompt_text: the prompt, with `{text}` in it. labels: label -> the words that stand for it in the answer.
    """

    Options: ClassVar[type[Options]] = PromptedLabelling
    prompt_text = (
        'Review: "A gripping story, beautifully acted."\nSentiment: positive\n\n'
        'Review: "Dull, clumsy and far too long."\nSentiment: negative\n\n'
        'Review: "{text}"\nSentiment:'
    )
    labels: Mapping[str, str] = {"NEGATIVE": " negative", "POSITIVE": " positive"}

    def asked(self, text: str, o: PromptedLabelling) -> str:
        return filled(o.prompt or self.prompt_text, text=text)

    def words(self, o: PromptedLabelling) -> Sequence[str]:
        return list((o.labels or self.labels).values())

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: PromptedLabelling) -> Any:
        names, shares = list(o.labels or self.labels), torch.cat(list(found)).softmax(-1)
        best = ranked(shares, 1 if o.top_k == ONE else o.top_k)  # type: ignore[arg-type]
        labels = [{"label": names[i], "score": share} for i, share in best]
        return labels[0] if o.top_k == ONE else labels

    def alone(self, answer: Any, inputs: Any, o: Labelling) -> Any:
        return [answer] if o.top_k == ONE else answer


class PromptedZeroShot(Chooser, Weigher):
    """Chooses by how likely each label is where `hypothesis_template` has its `{}`, after the text."""

    prompt_text = '"{text}"\n'

    def asked(self, text: str, o: Choosing) -> str:
        return filled(self.prompt_text, text=text) + o.hypothesis_template.partition("{}")[0].rstrip()

    def words(self, o: Choosing) -> Sequence[str]:
        return [f" {label}" for label in o.labels]

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: Choosing) -> dict[str, Any]:
        weights = torch.cat(list(found))
        return self.ordered(item, weights.sigmoid() if o.multi_label else weights.softmax(-1), o)


class WrittenAnswers(Questions, Writer):
    """Answers that a model writes: `{"answer"}`, with `start` and `end` in the context where they stand in it."""

    Options: ClassVar[type[Options]] = Writing

    def finish(self, item: tuple[str, str], pieces: Sequence[Piece], found: Sequence[Any], o: Any) -> Any:
        rows = [placed(self.decoded(ids, o), item[1]) for ids in found[0]]
        return rows[0] if len(rows) == 1 else rows


class PromptedAnswers(WrittenAnswers, LineSpeaker):
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
    new_tokens = 32

    def pieces(self, items: Sequence[tuple[str, str]], o: Any) -> list[list[Piece] | MultiheadError]:
        config, prompt = self.settled(o), o.prompt or self.prompt_text
        asked = self.tokenizer.encode_ids([filled(prompt, question=q, context=context) for q, context in items])
        return [self.fits(ids, config) or [Piece(ids)] for ids in asked]


class RewrittenAnswers(WrittenAnswers, Rewriter):
    """Answers questions about a context with an encoder-decoder, asked in T5's words (arXiv:1910.10683, appendix D)."""

    prompt_text = "question: {question} context: {context}"

    def pieces(self, items: Sequence[tuple[str, str]], o: Any) -> list[list[Piece] | MultiheadError]:
        prompt = o.prompt or self.prompt_text
        return self.source([filled(prompt, question=q, context=context) for q, context in items], o)


def placed(text: str, context: str) -> dict[str, Any]:
    """The first line of what was written, and where it stands in the context if it does."""
    answer = text.strip().partition("\n")[0].strip()
    bare = answer.rstrip(".")
    found = re.search(re.escape(bare), context, re.IGNORECASE) if bare else None
    return {"answer": answer, **({"start": found.start(), "end": found.end()} if found else {})}
