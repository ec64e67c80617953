"""fill-mask: the likeliest words for each mask in a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, MultiheadError, UnsupportedTokenizer, warn
from ..tokenizers.tokenizer import Tokenizer
from .base import Options, Reader, rows_of, segments_of, text_of
from .streaming_batcher import Piece


@dataclass(frozen=True, kw_only=True)
class Filling(Options):
    """Of fill-mask.

    Args:
        top_k: words for each mask. targets: a word or words; only these are weighed, others have no share here.
        truncation: reads the beginning of a text that is too long, instead of refusing it.
        tokenizer_kwargs: the reference's way to say `{"truncation": True}`.
    """

    top_k: int = 5
    targets: Any = None
    truncation: bool = False
    tokenizer_kwargs: Any = None

    def check(self) -> None:
        super().check()
        if not isinstance(self.top_k, int) or self.top_k < 1:
            raise InvalidInput(f"top_k is a number of words from 1, not {self.top_k!r}.")
        if set(self.tokenizer_kwargs or {}) - {"truncation"}:
            raise InvalidInput("tokenizer_kwargs takes truncation only.")


class FillMask(Reader):
    """Fills masks: a list of `{"score", "token", "token_str", "sequence"}`; for several masks a list of such lists."""

    auto = "AutoModelForMaskedLM"
    Options: ClassVar[type[Options]] = Filling

    def accept(self, item: Any, o: Filling) -> str:
        text = text_of(item)
        if self.mask[0] not in text:
            raise InvalidInput(f"has no mask: write {self.mask[0]} where words are to be found.")
        return text

    def pieces(self, items: Sequence[str], o: Filling) -> list[list[Piece] | MultiheadError]:
        cut = o.truncation or bool((o.tokenizer_kwargs or {}).get("truncation"))
        found: list[Any] = []
        for pieces in self.encoded(items, cut):
            if isinstance(pieces, list):
                piece = pieces[0]
                places = [place for place, token in enumerate(piece.ids) if token == self.mask[1]]
                lost = InvalidInput("has no mask left once it is cut to the model's length.")
                pieces = [Piece(piece.ids, piece.segments, places)] if places else lost
            found.append(pieces)
        return found

    def read(self, pieces: Sequence[Piece], o: Filling) -> Sequence[Any]:
        """Of each piece the best words of each mask: (scores, tokens), both (masks, top_k)."""
        at = rows_of(pieces, [piece.note for piece in pieces])
        scores = self.model.run([piece.ids for piece in pieces], segments_of(pieces), at).scores
        shares = scores.float().softmax(-1)
        if o.targets is not None:
            wanted = torch.tensor(self.wanted(o.targets), device=shares.device)
            best, order = shares[:, wanted].topk(min(o.top_k, len(wanted)))
            tokens = wanted[order]
        else:
            best, tokens = shares.topk(min(o.top_k, shares.shape[1]))
        counts = [len(piece.note) for piece in pieces]
        return list(zip(best.cpu().split(counts), tokens.cpu().split(counts), strict=True))

    def finish(self, item: str, pieces: Sequence[Piece], found: Sequence[Any], o: Filling) -> Any:
        ids, places, (scores, tokens) = pieces[0].ids, pieces[0].note, found[0]
        rows = []
        for place, values, words in zip(places, scores.tolist(), tokens.tolist(), strict=True):
            row = []
            for score, token in zip(values, words, strict=True):
                text = [*ids[:place], token, *ids[place + 1 :]]
                # other masks are special tokens too, and are kept
                sequence = self.tokenizer.decode(text, skip_special_tokens=len(places) == 1)
                word = self.tokenizer.decode([token])
                row.append({"score": score, "token": token, "token_str": word, "sequence": sequence})
            rows.append(row)
        return rows[0] if len(rows) == 1 else rows

    def together(self, found: list[Any], o: Any) -> Any:
        return found[0] if len(found) == 1 else found

    @property
    def mask(self) -> tuple[str, int]:
        """The mask and its id. Raises UnsupportedTokenizer where there is none."""
        token, number = self.tokenizer.mask_token, self.tokenizer.mask_token_id
        if token is None or number is None:
            raise UnsupportedTokenizer(f"The tokenizer of {self.tokenizer.name_or_path} has no mask token to fill.")
        return token, number

    def wanted(self, targets: Any) -> list[int]:
        """The tokens of target words."""
        return tokens_of([targets] if isinstance(targets, str) else list(targets), self.tokenizer)


class RewrittenMask(FillMask):
    """Fills masks with an encoder-decoder that writes its source again (BART)."""

    auto = "AutoModelForSeq2SeqLM"


def tokens_of(words: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """A token for each word: itself, or the first of its tokens, which is said. Raises InvalidInput for none at all."""
    vocabulary, found = tokenizer.get_vocab(), []
    for word in words:
        token = vocabulary.get(word)
        if token is None:
            ids = tokenizer.encode_ids([word], special=False)[0]
            if not ids:
                continue
            token = ids[0]
            if len(ids) > 1 or tokenizer.decode(ids).strip() != word.strip():
                warn(f"The target {word!r} is no token; {tokenizer.convert_ids_to_tokens(token)!r} is weighed instead.")
        found.append(token)
    if not found:
        raise InvalidInput(f"targets has no word that the tokenizer knows: {list(words)!r}.")
    return list(dict.fromkeys(found))
