"""text2text-generation: a text for a text. summarization: a shorter one, for documents of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InvalidInput, MultiheadError
from .base import Options
from .splitting import sections
from .streaming_batcher import Piece
from .writing import Rewriter, Speaker, Writer, Writing, filled


@dataclass(frozen=True, kw_only=True)
class Summarizing(Writing):
    """Of summarization, beside those of every task that writes.

    Args:
        section_tokens: tokens of a section, for documents that are longer; what the model reads, when left out.
        overlap: sentences that a section shares with the one before.
    """

    section_tokens: int | None = None
    overlap: int = 1

    def check(self) -> None:
        super().check()
        if self.section_tokens is not None and (not isinstance(self.section_tokens, int) or self.section_tokens < 8):
            raise InvalidInput(f"section_tokens is a whole number from 8, not {self.section_tokens!r}.")
        if not isinstance(self.overlap, int) or self.overlap < 0:
            raise InvalidInput(f"overlap is a number of sentences, not {self.overlap!r}.")


class Records(Writer):
    """What a task gives that writes one text for each piece: `[{"..._text": ...}]`, a record a returned sequence."""

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: Any) -> list[dict[str, Any]]:
        return [self.record(ids, o) for ids in found[0]]


class Text2Text(Records, Rewriter):
    """Writes a text for a text with an encoder-decoder."""

    def pieces(self, items: Sequence[str], o: Any) -> list[list[Piece] | MultiheadError]:
        return self.source(items, o)


class PromptedText2Text(Records, Speaker):
    """Writes a text for a text with a language model, which is asked for it as it stands."""

    prompt_text = "{text}"

    def pieces(self, items: Sequence[str], o: Any) -> list[list[Piece] | MultiheadError]:
        config = self.settled(o)
        prompts = [self.ask(filled(o.prompt or self.prompt_text, text=text)) for text in items]
        return [self.fits(ids, config) or [Piece(ids)] for ids in prompts]


class Sectioned(Writer):
    """Summaries of documents of any length: those of their sections, one after another."""

    Options: ClassVar[type[Options]] = Summarizing
    key = "summary"

    def most_tokens(self, o: Summarizing) -> int | None:
        """Tokens of a section at most; None for no limit."""
        raise NotImplementedError

    def texts(self, text: str, o: Summarizing) -> list[str]:
        """The sections of a text, or the text itself where it fits."""
        most = self.most_tokens(o)
        if most is None or o.truncation or self.counted([text])[0] <= most:
            return [text]
        return sections(text, most, self.counted, o.overlap)

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: Summarizing) -> list[dict[str, Any]]:
        if len(pieces) == 1:
            return [self.record(ids, o) for ids in found[0]]
        if o.return_tensors:
            raise InvalidInput("return_tensors needs texts that fit the model whole; this one was read by sections.")
        return [
            {"summary_text": " ".join(self.decoded(ids, o).strip() for ids in rows)}
            for rows in zip(*found, strict=True)
        ]


class Summarization(Sectioned, Rewriter):
    """Summarizes with an encoder-decoder: `[{"summary_text": ...}]`."""

    def most_tokens(self, o: Summarizing) -> int | None:
        if o.section_tokens is not None or self.limit is None:
            return o.section_tokens
        framed = self.tokenizer.num_special_tokens_to_add(False) + self.counted([self.prefix])[0]
        return max(self.limit - framed - 8, 8)  # sentences apart may have a token more than together

    def pieces(self, items: Sequence[str], o: Summarizing) -> list[list[Piece] | MultiheadError]:
        return [joined(self.source(self.texts(text, o), o)) for text in items]


class PromptedSummarization(Sectioned, Speaker):
    """Summarizes in a sentence with a language model: `[{"summary_text": ...}]`."""

    prompt_text = "Summarize the following text in one short sentence.\n\n{text}"
    new_tokens = 96

    def most_tokens(self, o: Summarizing) -> int | None:
        if o.section_tokens is not None or self.room is None:
            return o.section_tokens
        asked = len(self.ask(o.prompt or self.prompt_text))
        return max(self.room - (self.settled(o).max_new_tokens or 1) - asked - 8, 8)

    def pieces(self, items: Sequence[str], o: Summarizing) -> list[list[Piece] | MultiheadError]:
        return [joined([self.asked(text, o) for text in self.texts(text, o)]) for text in items]

    def asked(self, text: str, o: Summarizing) -> list[Piece] | MultiheadError:
        config, room = self.settled(o), self.most_tokens(o)
        if o.truncation and room is not None:
            found = self.tokenizer.run([text], words=False, special=False, limits=None)[0]
            text = text[: found.offsets[room - 1][1]] if len(found) > room else text
        ids = self.ask(filled(o.prompt or self.prompt_text, text=text))
        return self.fits(ids, config) or [Piece(ids)]

    def decoded(self, ids: Sequence[int], o: Any) -> str:
        return super().decoded(ids, o).strip()


def joined(found: Sequence[list[Piece] | MultiheadError]) -> list[Piece] | MultiheadError:
    """The pieces of all, or the first error."""
    pieces: list[Piece] = []
    for part in found:
        if isinstance(part, MultiheadError):
            return part
        pieces += part
    return pieces
