"""Python word splitters for rules that the library lacks: subword codes, MeCab, jieba.

Such a part cannot be written into tokenizer.json, and is put into a tokenizer again after it was copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from tokenizers import NormalizedString, PreTokenizedString, Tokenizer, decoders, normalizers, pre_tokenizers

from ..errors import UnsupportedTokenizer
from .guards import Lock

LONGEST = 100  # characters of a word that word pieces are looked up for, as BERT's
CACHE_SIZE = 20_000  # words whose pieces are remembered


class WordSplitter(Protocol):
    """Word splitter in Python.

    Args:
        in_json: the class's readers know to put it in when they read tokenizer.json.
    """

    in_json: bool

    def attach(self, backend: Tokenizer) -> None:
        """Install the word splitter in the library's tokenizer."""


def detach_splitter(backend: Tokenizer) -> None:
    """Replace the Python code by BERT's rules, so that the tokenizer can be serialized."""
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(prefix="##")


class SplitterAdapter:
    """Adapter that the library calls with each stretch of text."""

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(self.cut)

    def cut(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        raise NotImplementedError


@dataclass
class SubwordCodes(SplitterAdapter):
    """Subword codes (Sennrich et al., 2016, arXiv:1508.07909): `@@` ends a piece inside a word.

    Args:
        merges: pairs of pieces, the first merged first; `</w>` ends a word.
        small: BlenderbotSmall's words: without capitals, cut at punctuation, line breaks as `__newln__`.
    """

    merges: Sequence[tuple[str, ...]]
    small: bool = False
    in_json: bool = field(init=False, repr=False, default=False)
    ranks: dict[tuple[str, ...], int] = field(init=False, repr=False)
    known: dict[str, list[str]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}

    def attach(self, backend: Tokenizer) -> None:
        if self.small:
            backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(self)
        backend.decoder = decoders.Decoder.custom(CodeDecoder())

    def cut(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        whole, found = str(text), []
        for begin, end in self.spans(whole):
            word = whole[begin:end]
            pieces = self.pieces("__newln__" if self.small and word == "\n" else word)
            for number, piece in enumerate(pieces):
                size = end - begin if word == "\n" and self.small else len(piece)
                part = text[begin : begin + size]
                if part is None:
                    continue
                if self.small and word == "\n":
                    part.replace("\n", piece)
                else:
                    begin += size
                if number < len(pieces) - 1:
                    part.append("@@")
                found.append(part)
        return found

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Return the offsets of words."""
        for match in re.finditer(r"\S+\n?", text):
            if not self.small:
                yield match.span()
                continue
            for part in re.finditer(r"'|\n|[.,!?()][^.,!?()'\n]*|[^.,!?()'\n]+", match.group()):
                yield match.start() + part.start(), match.start() + part.end()

    def pieces(self, word: str) -> list[str]:
        """Return the pieces of a word, without marks."""
        if word in self.known:
            return self.known[word]
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            ranked = [(self.ranks.get(pair, len(self.ranks)), pair) for pair in pairwise(parts)]
            rank, (first, second) = min(ranked, key=lambda each: each[0])
            if rank == len(self.ranks):
                break
            merged: list[str] = []
            for part in parts:
                if merged and merged[-1] == first and part == second:
                    merged[-1] = first + second
                else:
                    merged.append(part)
            parts = merged
        found = [*parts[:-1], parts[-1][: -len("</w>")]]
        if len(self.known) < CACHE_SIZE:
            self.known[word] = found
        return found


class CodeDecoder:
    """Decoder that joins pieces of `SubwordCodes`."""

    def decode_chain(self, tokens: Sequence[str]) -> list[str]:
        return [" ".join(tokens).replace("@@ ", "").strip()]


@dataclass
class Mecab(SplitterAdapter):
    """Japanese words by MeCab (Kudo et al., 2004), for Japanese BERT vocabularies.

    Args:
        dictionary: "ipadic", "unidic_lite", "unidic", None for MeCab's own.
        normalize: characters by their NFKC form. lower: without capitals, after words are cut.
        characters: each is a token.
    """

    dictionary: str | None = "unidic_lite"
    normalize: bool = True
    lower: bool = False
    characters: bool = False
    in_json: bool = field(init=False, repr=False, default=False)
    tagger: Any = field(init=False, repr=False, default=None)
    lock: Lock = field(init=False, repr=False, default_factory=Lock)

    def attach(self, backend: Tokenizer) -> None:
        self.tagger = self.load_tagger()
        if self.normalize:
            backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(self)
        backend.decoder = decoders.WordPiece(prefix="##", cleanup=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"tagger": None}

    def load_tagger(self) -> Any:
        """Build MeCab with its dictionary. Raises UnsupportedTokenizer where one is missing."""
        how = 'python -m pip install "multihead[japanese]"'
        try:
            import fugashi
        except ModuleNotFoundError as error:
            raise UnsupportedTokenizer(f"This tokenizer finds Japanese words with MeCab: {how}.") from error
        options = ""
        if self.dictionary is not None:
            if self.dictionary not in ("ipadic", "unidic_lite", "unidic"):
                raise UnsupportedTokenizer(
                    f"mecab_dic is 'ipadic', 'unidic_lite', 'unidic' or null, not {self.dictionary!r}."
                )
            try:
                folder = Path(__import__(self.dictionary).DICDIR)
            except ModuleNotFoundError as error:
                raise UnsupportedTokenizer(
                    f"This tokenizer needs MeCab's dictionary {self.dictionary}: {how}, or python -m pip install "
                    f"{self.dictionary.replace('_', '-')}."
                ) from error
            options = f'-d "{folder}" -r "{folder / "mecabrc"}"'
        return fugashi.GenericTagger(options)

    def cut(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        whole, place, found = str(text), 0, []
        with self.lock:  # the next text's words would take the place of these
            words = [each.surface for each in self.tagger(whole)]
        for word in words:
            begin = whole.index(word, place)
            place = begin + len(word)
            if self.characters:
                found += [part for edge in range(begin, place) for part in self.parts(text[edge : edge + 1])]
            elif not word.isspace():
                found += self.parts(text[begin:place])
        return found

    def parts(self, word: NormalizedString | None) -> list[NormalizedString]:
        """Lowercase a word where requested, and normalize characters to NFKC."""
        if word is None:
            return []
        if self.lower:
            word.lowercase()
        if not self.characters:
            return [word]
        word.nfkc()
        single = [word[place : place + 1] for place in range(len(str(word)))]
        return [part for part in single if part is not None]


def jieba_words() -> Any:
    """Return jieba's function (text, hmm) -> (word, begin, end)s. Raises UnsupportedTokenizer without jieba."""
    try:
        import rjieba
    except ModuleNotFoundError as error:
        raise UnsupportedTokenizer(
            'This tokenizer finds Chinese words with jieba: python -m pip install "multihead[chinese]".'
        ) from error
    return rjieba.tokenize


@dataclass
class JiebaPieces(SplitterAdapter):
    """Chinese words by jieba, each cut to the longest pieces in the vocabulary from its left, for CPM-Ant.

    Args:
        vocab: the pieces. A character outside of them is a piece too.
        written: texts that are one unknown piece each: the names of tokens that stand for other texts.
    """

    vocab: Mapping[str, int]
    written: tuple[str, ...]
    in_json: bool = field(init=False, repr=False, default=False)

    def attach(self, backend: Tokenizer) -> None:
        self._tokenize = jieba_words()
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.PreTokenizer.custom(self), decoders.Fuse()

    def __getstate__(self) -> dict[str, Any]:
        return {"vocab": self.vocab, "written": self.written, "in_json": self.in_json}

    def cut(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        string, spans, begin = str(text), list[tuple[int, int]](), 0
        names = [match.span() for match in re.finditer("|".join(map(re.escape, self.written)), string)]
        for start, stop in [*names, (len(string), len(string))]:
            for _word, first, last in self._tokenize(string[begin:start], hmm=False):
                spans += self._pieces(string, begin + first, begin + last)
            spans += [(start, stop)] if stop > start else []
            begin = stop
        return [part for one, other in spans if (part := text[one:other]) is not None]

    def _pieces(self, text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the begins and ends of the pieces of a word."""
        if end - begin > 2 * LONGEST:  # in which the reference looks up no piece
            yield begin, end
            return
        while begin < end:
            stop = next((stop for stop in range(end, begin, -1) if text[begin:stop] in self.vocab), begin + 1)
            yield begin, stop
            begin = stop


@dataclass
class Jieba(SplitterAdapter):
    """Chinese words by jieba, split to characters outside the vocabulary, for RoFormer (Su et al., 2021).

    Args:
        vocab: words that stay whole.
    """

    vocab: Mapping[str, int]
    in_json: bool = field(init=False, repr=False, default=True)

    def attach(self, backend: Tokenizer) -> None:
        self._tokenize = jieba_words()
        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"vocab": self.vocab, "in_json": self.in_json}

    def cut(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        rules = normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
        )
        found = []
        for word, begin, end in self._tokenize(str(text), hmm=False):
            if word in self.vocab:
                found.append(text[begin:end])
                continue
            for part in rules.normalize_str(word).split():
                found.append(text[begin : begin + len(part)])
                begin += len(part)
        return [part for part in found if part is not None]
