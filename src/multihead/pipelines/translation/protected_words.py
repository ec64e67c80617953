"""Words that a translation keeps: unknown to the model's vocabulary, code and addresses, terms that the call names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ...tokenizers.languages import language_tokens, target_in_source
from .signs import FOLDED, foldable

if TYPE_CHECKING:
    from ...tokenizers.core import TokenizerCore

TAG = re.compile(r"</?[A-Za-z][^<>\n]*>|<!--.*?-->|&(?:#\d+|#x[\da-fA-F]+|[A-Za-z]\w*);")  # of HTML, and entities
COPIED = re.compile(  # what no translator may change, known to the vocabulary or not
    r"""
      (?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))              # `code` of Markdown
    | (?P<emoji>[\u2600-\u27bf\U0001f000-\U0001faff][\ufe0f\u200d\u2600-\u27bf\U0001f000-\U0001faff]*)
    | (?P<address>(?:https?|ftps?|file)://[^\s<>"“”«»]+|mailto:[^\s<>"]+|www\.[^\s<>"“”«»]+
        |[\w.+-]+@[\w-]+(?:\.[\w-]+)+)                                   # URLs and e-mail addresses
    | (?P<field>\{\{[^{}\n]+\}\}|\$?\{[^{}\s]*\}|(?<![\d%])%(?:\(\w+\)|\d+\$)?[-+0\#]?\d*(?:\.\d+)?[sdifgxr](?!\w))
    | (?P<name>(?<![\w@\#])[@\#]\w[\w.-]*\w|(?<![\w/.:~])(?:[A-Za-z]:\\|~?/|\./|\.\./)[\w.\\/~$-]*\w
        |(?<![\w/.:~-])[\w-][\w.-]*(?:/[\w.-]+)*/[\w.-]*\w\.[a-z][a-z\d]{0,4}\b # docs/page.html
        |\b\w+_\w[\w.]*\b|\b[\w.]+\(\)|\b[A-Z]\w*(?:\+[A-Z]\w*)+\b)         # paths, names in code, keys
    """,
    re.VERBOSE,
)
END_MARKS = ".,;:!?…)]}\"'”’»"  # at the end of a run, signs of the sentence and not of the word
BEGIN_MARKS = "([{\"'“‘«„‚¿¡"
UNSEGMENTED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")  # scripts without spaces
ALTERED = frozenset(("<super>", "<sub>", "<fraction>", "<circle>"))  # decompositions that change a number
GAP = re.compile(r"[ \u00a0]?[-–—−]?[ \u00a0]?")  # between words that are protected as one
NUMBER_BEFORE = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*[ \u00a0]?\Z")
NUMBER_AFTER = re.compile(r"[ \u00a0]?\d+(?:[.,]\d+)*(?!\w)")
LETTER_BEFORE = re.compile(r"(?<![\w.,'’])[^\W\d_] ?\Z")
LETTER_AFTER = re.compile(r" ?[^\W\d_](?![\w'’])")
ARROWS = "←→↑↓↔"  # mathematical signs to Unicode
LONGEST_NUMBER = 40  # characters
ORDINALS = "ªº"  # of Portuguese, Spanish and Italian: translators know them as letters


@dataclass(frozen=True)
class ProtectedWord:
    """Part of a text that a translation keeps.

    Args:
        start, end: its place in the text. source: its text. target: what the translation has in its place.
        unknown: the vocabulary cannot spell it, or must not: the model sees a placeholder in its place. Otherwise the
            model sees the word, and a placeholder only after it changed the word.
        markup: a tag, whose order among other tags is kept.
    """

    start: int
    end: int
    source: str
    target: str
    unknown: bool = False
    markup: bool = False

    def cut(self, start: int, end: int) -> ProtectedWord:
        """Return the part of the word in a span of the text, with places counted from the span's start."""
        a, b = max(self.start, start), min(self.end, end)
        part = self.source[a - self.start : b - self.start]
        target = self.target if (a, b) == (self.start, self.end) else part
        return replace(self, start=a - start, end=b - start, source=part, target=target)


class KnownCharacters:
    """Characters that a tokenizer can spell. Each is tried once."""

    def __init__(self, tokenizer: TokenizerCore) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, bool] = {}
        added = {token.content for token in tokenizer.backend.get_added_tokens_decoder().values()}
        languages = language_tokens(tokenizer)
        self._tokens = any_of(added | set(languages.values()))
        self._targets = any_of(languages.values() if target_in_source(languages) else ())

    def split_target(self, text: str) -> tuple[str, str]:
        """Return the token before a text that names the target language, such as ">>fr<< ", and the rest."""
        match = re.match(rf"\s*(?:{self._targets.pattern})\s*", text)
        return (match[0], text[match.end() :]) if match else ("", text)

    def without_tokens(self, text: str) -> str:
        """Return a text with spaces in place of the tokens that it spells out, such as ">>fr<<"."""
        return self._tokens.sub(lambda match: " " * len(match[0]), text)

    def unknown(self, text: str) -> set[str]:
        """Return the characters of a text that the tokenizer cannot spell, or spells as another number ("²" as "2")."""
        if self.tokenizer.unk_token_id is None:
            return set()
        signs = set(text)
        new = sorted(sign for sign in signs - self._known.keys() if not sign.isspace())
        if new:
            for sign, ids in zip(new, self.tokenizer.encode_ids(new, special=False), strict=True):
                self._known[sign] = self.tokenizer.unk_token_id not in ids and not self._is_altered(sign, ids)
        return {sign for sign in signs if not self._known.get(sign, True)}

    def folded(self, text: str) -> frozenset[str]:
        """Return the unknown typographic signs of a text whose plain signs are known."""
        signs = {sign for sign in self.unknown(text) if sign in FOLDED}
        plain = self.unknown("".join(FOLDED[sign] for sign in signs))
        return frozenset(sign for sign in signs if FOLDED[sign] not in plain)

    def _is_altered(self, sign: str, ids: Sequence[int]) -> bool:
        """Return whether the tokenizer's normalizer replaces a sign by one of another meaning, such as "½" by "1/2"."""
        kind = unicodedata.decomposition(sign).split(" ")[0]
        if kind not in ALTERED or sign in ORDINALS:
            return False
        plain = unicodedata.normalize("NFKC", sign)
        return list(ids) == self.tokenizer.encode_ids([plain], special=False)[0]


def find_protected(
    text: str,
    known: KnownCharacters,
    keep: Iterable[str] = (),
    glossary: Mapping[str, str] | None = None,
    markup: Sequence[tuple[int, int]] = (),
) -> list[ProtectedWord]:
    """Return the protected words of a text in their order, without overlaps.

    Args:
        keep: terms that stay as they are. glossary: term -> its translation. Both match whole words; a term in lower
            case matches every case. markup: (start, end) of parts that are layout, not text.
    """
    found = [as_it_is(text, *span, unknown=True, markup=True) for span in markup]
    found += [as_it_is(text, *match.span(), markup=True) for match in TAG.finditer(text)]
    found += find_terms(text, {**{term: term for term in keep}, **(glossary or {})}, frozenset(keep))
    text, whole = known.without_tokens(blank_out(text, found)), text
    copied = [as_it_is(whole, *trim_address(match)) for match in COPIED.finditer(text)]
    unknown = known.unknown(text)
    if unknown:
        copied += [as_it_is(whole, *span) for span in find_unknown(text, unknown, known.folded(text))]
    found = without_overlaps(found + join_overlaps(whole, copied))
    unknown = known.unknown(whole)
    words = [replace(word, unknown=word.unknown or not unknown.isdisjoint(word.source)) for word in found]
    return merge_neighbours(whole, [with_number(whole, word) for word in words])


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern of any of some texts, longer ones first."""
    return re.compile("|".join(map(re.escape, sorted({*texts} - {""}, key=len, reverse=True))) or "(?!)")


def blank_out(text: str, words: Sequence[ProtectedWord]) -> str:
    """Return a text with spaces in place of words that are found already."""
    return blank(text, [(word.start, word.end) for word in words])


def blank(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text with spaces in some spans."""
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def as_it_is(text: str, start: int, end: int, *, unknown: bool = False, markup: bool = False) -> ProtectedWord:
    """Return a span of a text as a word that is its own translation."""
    return ProtectedWord(start, end, text[start:end], text[start:end], unknown, markup)


def join_overlaps(text: str, words: Sequence[ProtectedWord]) -> list[ProtectedWord]:
    """Return words in their order, those that overlap as one."""
    joined: list[ProtectedWord] = []
    for word in sorted(words, key=lambda word: (word.start, -word.end)):
        last = joined[-1] if joined else None
        if last is not None and word.start < last.end:
            joined[-1] = as_it_is(text, last.start, max(last.end, word.end), markup=last.markup and word.markup)
        else:
            joined.append(word)
    return joined


def trim_address(match: re.Match[str]) -> tuple[int, int]:
    """Return the span of a match, an address without the punctuation of the sentence after it."""
    start, end = match.span()
    if match["address"] is not None:
        end = start + len(match[0].rstrip(".,;:!?…'\"”’»"))
        if match[0][: end - start].endswith(")") and "(" not in match[0]:
            end -= 1
    return start, end


def find_terms(text: str, terms: Mapping[str, str], kept: frozenset[str] = frozenset()) -> list[ProtectedWord]:
    """Return the places of terms in a text, longer terms first; a capital letter of the text is kept."""
    found = []
    for term in sorted(terms, key=len, reverse=True):
        flags = re.IGNORECASE if term == term.lower() else re.RegexFlag(0)
        for match in re.finditer(rf"(?<!\w){re.escape(term)}(?!\w)", text, flags):
            target = match[0] if term in kept else terms[term]
            if match[0][:1].isupper() and term[:1].islower() and term not in kept:
                target = target[:1].upper() + target[1:]
            found.append(ProtectedWord(*match.span(), match[0], target))
    return found


def find_unknown(text: str, unknown: set[str], folded: frozenset[str]) -> list[tuple[int, int]]:
    """Return the spans of words that hold unknown characters, without the punctuation around them."""
    return [
        (match.start() + start, match.start() + end)
        for match in re.finditer(r"\S+", text)
        if not unknown.isdisjoint(match[0])
        for start, end in runs_of(match[0], unknown, folded)
    ]


def runs_of(word: str, unknown: set[str], folded: frozenset[str]) -> list[tuple[int, int]]:
    """Return the spans of a run of characters without spaces that stand or fall together with an unknown character."""
    masked = [sign in unknown and not (sign in folded and foldable(word, index)) for index, sign in enumerate(word)]
    spans: list[tuple[int, int]] = []
    for begin, end in parts_of(word):
        inside = [index for index in range(begin, end) if masked[index]]
        if not inside:
            continue
        while begin < inside[0] and word[begin] in BEGIN_MARKS:
            begin += 1
        while end > inside[-1] + 1 and word[end - 1] in END_MARKS:
            end -= 1
        if spans and spans[-1][1] == begin:
            begin = spans.pop()[0]
        spans.append((begin, end))
    return spans


def parts_of(word: str) -> list[tuple[int, int]]:
    """Return the parts of a run that are protected separately.

    A run is cut around letters of scripts without spaces, at quotes and apostrophes, and before or after a hyphen with
    a plain lower-case word on its other side ("β-carotene").
    """
    cuts = {0, len(word)}
    for index, sign in enumerate(word):
        if is_unsegmented(sign) or sign in "'’\"“”„«»":
            cuts |= {index, index + 1}
    for match in re.finditer(r"(?:(?<=-)|(?<=^))[a-z]{3,}(?=-|[.,;:!?]*$)", word):
        before = match.start() > 0 and word[match.start() - 1] == "-"
        if before:
            cuts.add(match.start() - 1)
        elif word[match.end() : match.end() + 1] == "-":
            cuts.add(match.end() + 1)
    places = sorted(cuts)
    return list(pairwise(places))


def is_unsegmented(sign: str) -> bool:
    """Return whether a letter is of a script that writes no spaces between words."""
    return sign > "\u0dff" and sign.isalpha() and unicodedata.name(sign, "").startswith(UNSEGMENTED)


def without_overlaps(words: Sequence[ProtectedWord]) -> list[ProtectedWord]:
    """Return words in their order in the text; of two in one place the one listed first stays whole."""
    taken: list[ProtectedWord] = []
    for word in words:
        free = [(word.start, word.end)]
        for own in taken:
            free = [
                span for a, b in free for span in ((a, min(b, own.start)), (max(a, own.end), b)) if span[0] < span[1]
            ]
        if free == [(word.start, word.end)]:
            taken.append(word)
        elif word.source == word.target:  # parts of a term of the call have no translation
            taken += [replace(word.cut(a, b), start=a, end=b) for a, b in free]
    return sorted(taken, key=lambda word: word.start)


def with_number(text: str, word: ProtectedWord) -> ProtectedWord:
    """Return an unknown sign without letters, such as "€", with the number beside it, which models drop too."""
    if not word.unknown or word.markup or word.source != word.target or any(sign.isalnum() for sign in word.source):
        return word
    relation = any(unicodedata.category(sign) == "Sm" and sign not in ARROWS for sign in word.source)
    before = NUMBER_BEFORE.search(text, max(word.start - LONGEST_NUMBER, 0), word.start)
    after = NUMBER_AFTER.match(text, word.end) if before is None or relation else None
    if relation:  # "a ≠ b": the letters are no words
        before = before or LETTER_BEFORE.search(text, max(word.start - LONGEST_NUMBER, 0), word.start)
        after = after or LETTER_AFTER.match(text, word.end)
    start, end = before.start() if before else word.start, after.end() if after else word.end
    return as_it_is(text, start, end, unknown=True)


def merge_neighbours(text: str, words: Sequence[ProtectedWord]) -> list[ProtectedWord]:
    """Return the words, unknown ones with no more than a space or a dash between them as one."""
    merged: list[ProtectedWord] = []
    for word in words:
        last = merged[-1] if merged else None
        if last is not None and word.start < last.end:  # both took the number between them
            word = replace(word.cut(last.end, word.end), start=last.end, end=word.end)
        if last is None or not (last.unknown and word.unknown) or last.markup or word.markup:
            merged.append(word)
            continue
        gap = text[last.end : word.start]
        if GAP.fullmatch(gap) is None or last.source != last.target or word.source != word.target:
            merged.append(word)
            continue
        source = last.source + gap + word.source
        merged[-1] = replace(last, end=word.end, source=source, target=source)
    return merged
