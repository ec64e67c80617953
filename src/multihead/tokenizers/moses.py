"""Moses' words (Koehn et al., 2007) and their byte pairs, for FSMT, XLM, FlauBERT and BioGPT.

sacremoses normalizes punctuation, finds the words and joins them again. Its rules are long lists of exceptions a
language, so that it is a dependency of these tokenizers and no part of this library.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from tokenizers import NormalizedString, Regex, Tokenizer, decoders, pre_tokenizers

from ..errors import UnsupportedTokenizer
from .defaults import ROLES
from .frames import set_special_tokens
from .parts import BuiltTokenizer, Settings, register_special_tokens, role_tokens, whole_words
from .words import SplitterAdapter, SubwordCodes

END = "</w>"  # of a word's last piece
HYPHEN = ("@-@", "-")  # Moses' mark of one inside a word, and what it stands for
ALL = Regex(r"\A[\s\S]+\z")
Vocab = Mapping[str, int]
Merges = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Rules:
    """How a class reads words.

    Args:
        lang: the language of texts. written: the language of decoded texts, None where words are joined by spaces.
        translated: hyphens inside words are cut out, and characters of XML escaped, as translation models need.
        raw: punctuation and characters of control stay as they are written.
        lower: small letters. plain: and no accents, both in each word. quotes: French texts' older quotation marks.
    """

    lang: str
    written: str | None = None
    translated: bool = False
    raw: bool = False
    lower: bool = False
    plain: bool = False
    quotes: bool = False


def load_sacremoses() -> ModuleType:
    """Import sacremoses. Raises UnsupportedTokenizer where it is missing."""
    try:
        import sacremoses
    except ModuleNotFoundError as error:
        raise UnsupportedTokenizer(
            'This tokenizer finds words with sacremoses: python -m pip install "multihead[moses]".'
        ) from error
    return sacremoses


@dataclass
class Moses(SplitterAdapter):
    """Word splitter: Moses' words, each cut to byte pairs whose last ends with `</w>`."""

    merges: Merges
    rules: Rules
    in_json: bool = field(init=False, repr=False, default=False)
    codes: SubwordCodes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.codes = SubwordCodes(self.merges)

    def attach(self, backend: Tokenizer) -> None:
        moses, lang = load_sacremoses(), self.rules.lang
        self._normalizer = moses.MosesPunctNormalizer(lang=lang, pre_replace_unicode_punct=True)
        self._splitter = moses.MosesTokenizer(lang=lang)
        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(self)
        backend.decoder = decoders.Decoder.custom(MosesDecoder(self.rules.written))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_normalizer", "_splitter")}

    def cut(self, _: int, text: NormalizedString) -> list[NormalizedString]:
        whole, found, place = str(text), [], 0
        for word in self.words(whole):
            begin, place = self.span(whole, word, place)
            exact = whole[begin:place] == word
            for number, piece in enumerate(pieces := self.codes.pieces(word)):
                part = text[begin : begin + len(piece)] if exact else text[begin:place]
                begin += len(piece) if exact else 0
                if part is None:
                    continue
                if not exact:
                    part.replace(ALL, piece)
                if number == len(pieces) - 1:
                    part.append(END)
                found.append(part)
        return found

    def words(self, text: str) -> list[str]:
        """Return the words of a text, normalized."""
        rules = self.rules
        if rules.quotes:
            text = unicodedata.normalize("NFC", text.replace("``", '"').replace("''", '"'))
        if not rules.raw:
            text = self._normalizer.normalize(text.lower() if rules.lower else text)
            text = "".join(letter for letter in text if not unicodedata.category(letter).startswith("C"))
        options = {"aggressive_dash_splits": rules.translated, "escape": rules.translated}
        words = self._splitter.tokenize(text, return_str=False, **options)
        return [word for word in (without_accents(words) if rules.plain else words) if word]

    def span(self, text: str, word: str, place: int) -> tuple[int, int]:
        """Return the characters that a word stands for: its own next ones, or one where it was changed."""
        word = HYPHEN[1] if word == HYPHEN[0] else html.unescape(word) if self.rules.translated else word
        first = next((at for at in range(place, len(text)) if not text[at].isspace()), max(len(text) - 1, 0))
        found = text.find(word, first, first + len(word) + 8)
        return (first, first + 1) if found < 0 else (found, found + len(word))


def without_accents(words: Sequence[str]) -> Iterator[str]:
    """Yield words in small letters, without marks."""
    text = unicodedata.normalize("NFD", " ".join(words).lower())
    return iter("".join(letter for letter in text if unicodedata.category(letter) != "Mn").lower().split(" "))


@dataclass
class MosesDecoder:
    """Decoder that joins pieces to words, and words to a text of a language."""

    lang: str | None

    def decode_chain(self, tokens: Sequence[str]) -> list[str]:
        text = "".join(token.replace(" ", "").replace(END, " ") for token in tokens)
        if self.lang is None:
            return [text.strip()]
        return [load_sacremoses().MosesDetokenizer(lang=self.lang).detokenize(text.split())]


def moses(vocab: Vocab, merges: Merges, special: dict[str, str], settings: Settings, rules: Rules) -> BuiltTokenizer:
    """Build a tokenizer of Moses' words."""
    backend = Tokenizer(whole_words(vocab, special["unk_token"]))
    words = Moses([tuple(merge) for merge in merges], rules)
    words.attach(backend)
    return replace(register_special_tokens(backend, special, settings), words=words)


def fsmt(source: Vocab, target: Vocab, merges: Merges, settings: Settings) -> tuple[BuiltTokenizer, BuiltTokenizer]:
    """Build the source and the target of FSMT (Ng et al., 2019, arXiv:1907.06616).

    Raises:
        UnsupportedTokenizer: `langs` does not name two languages.
    """
    langs = settings.get("langs")
    if not isinstance(langs, (list, tuple)) or len(langs) != 2 or not all(isinstance(lang, str) for lang in langs):
        raise UnsupportedTokenizer(f"langs names the languages of source and target, as ['en', 'ru']; not {langs!r}.")
    special, lower = role_tokens(settings, **ROLES["FSMT"]), bool(settings.get("do_lower_case", False))
    sides = []
    for vocab, lang in zip((source, target), langs, strict=True):
        built = moses(vocab, merges, special, settings, Rules(lang, langs[1], translated=True, lower=lower))
        sep = special["sep_token"]
        set_special_tokens(built.backend, f"$A {sep}", f"$A {sep} $B {sep}", [sep])
        sides.append(built)
    return sides[0], sides[1]


def xlm(vocab: Vocab, merges: Merges, settings: Settings, rules: Rules | None = None) -> BuiltTokenizer:
    """XLM (Lample and Conneau, 2019, arXiv:1901.07291): English words, as the reference's calls read every text."""
    plain = bool(settings.get("do_lowercase_and_remove_accent", True))
    special = role_tokens(settings, **ROLES["XLM"])
    built = moses(vocab, merges, special, settings, rules or Rules("en", plain=plain))
    more = [token for token in (f"<special{number}>" for number in range(10)) if token not in special.values()]
    listed = settings.get("additional_special_tokens")
    built = replace(built, more=tuple(more if listed is None else ()))
    built.backend.add_special_tokens(list(built.more))
    bos, sep = special["bos_token"], special["sep_token"]
    set_special_tokens(built.backend, f"{bos} $A {sep}", f"{bos} $A {sep} $B:1 {sep}:1", [bos, sep])
    return built


def flaubert(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    """FlauBERT (Le et al., 2020, arXiv:1912.05372)."""
    lower = bool(settings.get("do_lowercase", False))
    return xlm(vocab, merges, settings, Rules("fr", lower=lower, quotes=True))


def biogpt(vocab: Vocab, merges: Merges, settings: Settings) -> BuiltTokenizer:
    """BioGPT (Luo et al., 2022, arXiv:2210.10341): a text begins with </s>."""
    special = role_tokens(settings, **ROLES["BioGpt"])
    built = moses(vocab, merges, special, settings, Rules("en", "en", translated=True, raw=True))
    sep = special["sep_token"]
    set_special_tokens(built.backend, f"{sep} $A", f"{sep} $A {sep} $B", [sep])
    return built
