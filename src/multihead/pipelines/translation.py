"""translation: a text in another language, sentence by sentence, laid out as it was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import InvalidInput, MultiheadError
from ..generation.config import GenerationConfig
from ..tokenizers.languages import language_frame, name_of
from .base import Options
from .catalog import LANGUAGE_PAIR
from .splitting import Span, fitting, sentences
from .streaming_batcher import Piece
from .text2text import joined
from .writing import Rewriter, Speaker, Writer, Writing, filled

LENGTH_FACTOR = 2  # a translation has at most this many times its source's tokens,
LENGTH_SPARE = 20  # and so many more
ROOM = 256  # tokens of a sentence where the model sets no limit: what translators are trained with


@dataclass(frozen=True, kw_only=True)
class Translating(Writing):
    """Of translation, beside those of every task that writes.

    Args:
        src_lang, tgt_lang: for models of several languages: codes as the model has them ("eng_Latn", "en_XX"), or "en".
        split_sentences: translates sentence by sentence, what stands between them kept; False gives the model each
            text whole.
    """

    src_lang: str | None = None
    tgt_lang: str | None = None
    split_sentences: bool = True


class Translator(Writer):
    """What both ways of translating share: `[{"translation_text": ...}]`."""

    Options: ClassVar[type[Options]] = Translating
    key = "translation"
    units: ClassVar[bool] = True  # sentences are translated apart; else lines are

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        super().__init__(model, tokenizer, name, **options)
        if (found := LANGUAGE_PAIR.fullmatch(name)) is not None:
            self.defaults = {"src_lang": found[1], "tgt_lang": found[2], **self.defaults}

    def spans(self, text: str, o: Translating) -> list[Span]:
        """What is translated of a text; the rest stays as it is."""
        if not o.split_sentences:
            return [(0, len(text))]
        return fitting(text, sentences(text) if self.units else lines(text), self.most_tokens, self.counted)

    @property
    def most_tokens(self) -> int:
        return ROOM

    def pieces(self, items: Sequence[str], o: Translating) -> list[list[Piece] | MultiheadError]:
        spans = [self.spans(text, o) for text in items]
        flat = iter(self.sources([text[a:b] for text, own in zip(items, spans, strict=True) for a, b in own], o))
        found: list[list[Piece] | MultiheadError] = []
        for own in spans:
            parts = [next(flat) for _ in own]
            pieces = joined(parts)
            placed = zip(pieces, own, strict=True) if not isinstance(pieces, MultiheadError) else ()
            found.append(
                [replace(p, note=span) for p, span in placed] if not isinstance(pieces, MultiheadError) else pieces
            )
        return found

    def sources(self, texts: Sequence[str], o: Translating) -> list[list[Piece] | MultiheadError]:
        """A piece for each text that is translated by itself."""
        raise NotImplementedError

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: Translating) -> list[dict[str, Any]]:
        if len(pieces) == 1 and pieces[0].note == (0, len(item)):
            return [self.record(ids, o) for ids in found[0]]
        if o.return_tensors:
            raise InvalidInput("return_tensors needs split_sentences=False for texts of several sentences.")
        rows = [[self.decoded(ids, o) for ids in rows] for rows in found]
        return [{"translation_text": rebuilt(item, pieces, texts)} for texts in zip(*rows, strict=True)] or [
            {"translation_text": item}
        ]


class Translation(Translator, Rewriter):
    """Translates with an encoder-decoder."""

    def most(self, longest: int) -> int:
        return LENGTH_FACTOR * longest + LENGTH_SPARE

    @property
    def most_tokens(self) -> int:
        return min((self.limit or ROOM) - 8, ROOM)

    def sources(self, texts: Sequence[str], o: Translating) -> list[list[Piece] | MultiheadError]:
        known = language_frame(self.tokenizer, o.src_lang, o.tgt_lang)
        if known.before is None:
            return self.source([known.text + text for text in texts], o)
        ids = self.tokenizer.encode_ids([self.prefix + text for text in texts], special=False)
        return self.sized([[*known.before, *own, *known.after] for own in ids], texts, o)

    def config(self, o: Any, **defaults: Any) -> GenerationConfig:
        first = language_frame(self.tokenizer, o.src_lang, o.tgt_lang).first
        if first is not None and "forced_bos_token_id" not in o.generation:
            return super().config(o, **defaults).changed(forced_bos_token_id=first)
        return super().config(o, **defaults)


class PromptedTranslation(Translator, Speaker):
    """Translates with a language model, a paragraph at a time."""

    prompt_text = "Translate the following text from {source} to {target}. Answer with the translation only.\n\n{text}"
    new_tokens = 512
    units = False

    def sources(self, texts: Sequence[str], o: Translating) -> list[list[Piece] | MultiheadError]:
        if o.tgt_lang is None:
            raise InvalidInput("A language model must be told tgt_lang, or the task be named translation_xx_to_yy.")
        source = name_of(o.src_lang) if o.src_lang else "its language"
        config, prompt = self.settled(o), o.prompt or self.prompt_text
        asked = [self.ask(filled(prompt, source=source, target=name_of(o.tgt_lang), text=text)) for text in texts]
        return [self.fits(ids, config) or [Piece(ids)] for ids in asked]

    def decoded(self, ids: Sequence[int], o: Any) -> str:
        return super().decoded(ids, o).strip()


def lines(text: str) -> list[Span]:
    """(start, end) of each line that says anything, without the white space around it."""
    return [match.span() for match in re.finditer(r"\S(?:.*\S)?", text)]


def rebuilt(text: str, pieces: Sequence[Piece], translated: Sequence[str]) -> str:
    """A text with its sentences replaced; what stands between them stays."""
    parts, place = [], 0
    for piece, words in zip(pieces, translated, strict=True):
        start, end = piece.note
        parts += [text[place:start], words]
        place = end
    return "".join([*parts, text[place:]])
