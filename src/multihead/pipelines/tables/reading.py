"""Reading of a question about a table: what it asks for, what it names, and the phrases that mean columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from .cells import Column
from .mentions import CellMention, NumberMention, Span, Vocabulary, find_numbers, unknown_names
from .words import ADJECTIVES, FUNCTION_WORDS, degree, plain, split_words, stem

AUXILIARIES = frozenset(
    "is are was were be been do does did has have had can could will would 's".split()
)  # fmt: skip
PREPOSITIONS = frozenset("of in on at for to from by with per among between during than as".split())
SUMS = frozenset("total sum combined altogether overall".split())
AVERAGES = frozenset("average mean averaged".split())
COUNTED = (("number", "of"), ("count", "of"), ("amount", "of"))
UNSUPPORTED = frozenset(
    """previous next immediately besides except excluding consecutive consecutively both respectively preceding
    following preceded followed nor neither instead without percentage ratio median""".split()
)
UNSUPPORTED_PHRASES = ("other than", "the same", "same number", "not", "apart from", "start with", "starts with",
                       "ends with", "comes after", "comes before", "came after", "came before", "second most",
                       "listed after", "listed before", "each")  # fmt: skip
OTHER_LANGUAGES = frozenset(
    """wie wer wen wem wann wo wohin woher welche welcher welches welchen welchem wieviel wieviele warum nicht kein
    keine keinen que quien quienes cuanto cuantos cuanta cuantas cuando donde cual cuales como combien quel quelle
    quels quelles qui quand ou pourquoi quanto quanti quanta quante chi dove quale quali qual quais onde quem
    hoeveel waar wanneer welk""".split()
)  # question words and negations, without accents
DISTINCT = frozenset("different distinct unique".split())
STANDARD = ("quantity", "name", "person", "customer", "product", "thing")  # phrases that any question may need
LEAST = 0.5  # quality of a mention of a cell that is taken
ATTRIBUTES = {
    "who": "name person", "whom": "name person", "whose": "name person", "when": "date year time",
    "where": "place location city country",
}  # fmt: skip
HOW = {"much": "price cost amount", "often": "times number", **{word: nouns for word, (nouns, _) in ADJECTIVES.items()
                                                               if nouns}}  # fmt: skip


@dataclass(frozen=True)
class Degree:
    """Comparative or superlative of a question: the adjective, its word, and whether it asks for more or less."""

    adjective: str
    position: int
    superlative: bool


class Reading:
    """A question about a table, read without a model.

    Attributes:
        words: of the question. plain: the same in lower case, without accents.
        cells: mentions of cells. numbers: numbers that cells are compared with. unknown: names that the table lacks.
    """

    def __init__(self, question: str, columns: Sequence[Column], vocabulary: Vocabulary) -> None:
        self.question, self.columns = question, columns
        self.words = split_words(question)
        self.plain = [plain(word) for word in self.words]
        self.numbers: list[NumberMention] = [each for each in find_numbers(self.words) if each.operator]
        compared = {n for each in self.numbers for n in range(*each.span)}
        self.cells: list[CellMention] = [
            each for each in vocabulary.find(self.words)
            if each.quality >= LEAST and not compared & set(range(*each.span)) and not self.names_column(each)
        ]  # fmt: skip
        spans = [*(each.span for each in self.cells), *(each.span for each in self.numbers)]
        self.named = {n for span in spans for n in range(*span)}
        self.unknown = unknown_names(self.words, spans, columns)
        self.guessed: list[str] = []

    def add(self, mention: CellMention, text: str) -> None:
        """Add a cell that the question means without naming it."""
        self.cells.append(mention)
        self.named |= set(range(*mention.span))
        self.guessed.append(f"{' '.join(self.words[slice(*mention.span)])!r} is read as {text!r}.")
        for name in ("focus", "rest"):
            self.__dict__.pop(name, None)

    def names_column(self, mention: CellMention) -> bool:
        """Return whether a cell, or a part of one, is the name of another column too, which is then meant."""
        words = {stem(word) for word in self.words[mention.span[0] : mention.span[1]]}
        others = [c for n, c in enumerate(self.columns) if mention.quality < 1 or n != mention.column]
        part = mention.quality < 1
        return any(words <= own if part else words == own for own in (set(map(stem, c.words)) for c in others))

    @cached_property
    def how_many(self) -> Span | None:
        """Words of the thing that is counted: "orders" of "how many orders are there"; None for other questions."""
        text = self.plain
        for number in range(len(text) - 1):
            pair = (text[number], text[number + 1])
            if pair == ("how", "many") or (pair in COUNTED and not self.is_superlative(number - 1)):
                return self.phrase(number + 2)
        if text[:1] == ["count"]:
            return self.phrase(1)
        return None

    def is_superlative(self, number: int) -> bool:
        """Return whether a word is a superlative, as in "the least number of"."""
        kind = degree(self.words[number]) if number >= 0 else None
        return kind is not None and kind[1] == 2

    @cached_property
    def unsupported(self) -> str:
        """Words that ask for more than a query can say, such as "previous" or "other than"; empty if there are none."""
        text = f" {' '.join(self.plain)} "
        for number in range(len(self.plain)):
            if number not in self.named and self.plain[number] in UNSUPPORTED:
                return self.plain[number]
        top = re.search(r" (?:top|first|last|bottom) (\d+|two|three|four|five|ten) ", text)
        return next((phrase for phrase in UNSUPPORTED_PHRASES if f" {phrase} " in text), top[0].strip() if top else "")

    @cached_property
    def other_language(self) -> str:
        """Question word of another language than English; empty if there is none."""
        names = {plain(word) for column in self.columns for word in column.words}
        found = (
            word for number, word in enumerate(self.plain)
            if word in OTHER_LANGUAGES and number not in self.named and word not in names
        )  # fmt: skip
        return next(found, "")

    def phrase(self, start: int) -> Span:
        """Return the noun phrase that begins at a word: up to an auxiliary, a preposition, a verb of the end."""
        while start < len(self.plain) and self.plain[start] in ("the", "a", "an", "of", "all", *DISTINCT, *SUMS):
            start += 1
        end = start
        while end < len(self.plain) and self.plain[end] not in AUXILIARIES | PREPOSITIONS | {"that", "which", "who"}:
            end += 1
        return start, max(end, min(start + 1, len(self.plain)))

    @cached_property
    def wh(self) -> tuple[str, int]:
        """The question word and its position; ("", -1) if there is none."""
        for number, word in enumerate(self.plain):
            if word in ("who", "whom", "whose", "when", "where", "which", "what", "how"):
                return word, number
        return "", -1

    @property
    def asks_of_row(self) -> bool:
        """Return whether the question is "what is the X of ...", so that X must be a column, no word for rows."""
        word, at = self.wh
        return word == "what" and self.plain[at + 1 : at + 2] != [] and self.plain[at + 1] in AUXILIARIES

    @property
    def yes_or_no(self) -> bool:
        return bool(self.plain) and self.plain[0] in AUXILIARIES and self.wh[1] < 0

    @cached_property
    def focus(self) -> list[str]:
        """Phrases that mean the column of the answer, the likeliest first."""
        word, at = self.wh
        if self.how_many is not None:
            return [self.text(self.how_many)]
        if word == "how" and self.plain[at + 1 : at + 2] == ["much"] and (text := self.text(self.phrase(at + 2))):
            return [text]
        if word == "how" and at + 1 < len(self.plain):
            kind = degree(self.words[at + 1])
            return HOW.get(kind[0] if kind else self.plain[at + 1], self.plain[at + 1]).split()
        if word == "where":
            return [*self.way(), *ATTRIBUTES[word].split()]
        if word == "when":
            return ATTRIBUTES[word].split()
        if word in ("which", "what", "who", "whom", "whose"):
            start = at + 1
            if start < len(self.plain) and self.plain[start] in AUXILIARIES:
                start += 1
                verb = start < len(self.plain) and self.plain[start] not in ("the", "a", "an")
                if verb and word != "what":
                    return []
                if self.plain[start - 1] in ("do", "does", "did"):  # "what did Ann order"
                    return []
            elif word == "who":
                return []
            return [text] if (text := self.text(self.phrase(start))) else []
        if not self.yes_or_no:
            return [text] if (text := self.text(self.phrase(self.after_command()))) else []
        return []

    def way(self) -> list[str]:
        """Return names of columns that "where" means with a verb of motion."""
        if set(self.plain) & {"from", "leave", "leaves", "depart", "departs", "start", "starts"}:
            return ["from", "origin"]
        if {stem(word) for word in self.plain} & {
            "go",
            "fly",
            "arriv",
            "land",
            "travel",
            "head",
            "lead",
            "run",
            "sail",
        }:
            return ["to", "destination"]
        return []

    def after_command(self) -> int:
        """Return the position after words such as "show me"."""
        start = 0
        while start < len(self.plain) and self.plain[start] in ("show", "list", "give", "tell", "find", "name", "me"):
            start += 1
        return start

    def text(self, span: Span) -> str:
        """Return the words of a span that are neither named cells nor degrees nor function words."""
        kept = [
            self.words[n] for n in range(*span)
            if n not in self.named and not self.is_function(n) and self.plain[n] not in SUMS | AVERAGES | DISTINCT
        ]  # fmt: skip
        return " ".join(kept)

    def is_function(self, number: int) -> bool:
        """Return whether a word says nothing about a column."""
        kind = degree(self.words[number])
        return self.plain[number] in FUNCTION_WORDS or (kind is not None and kind[1] > 0)

    @cached_property
    def rest(self) -> list[str]:
        """Words and pairs of words outside of named cells, which may mean columns."""
        kept = [n for n in range(len(self.words)) if n not in self.named and not self.is_function(n)]
        single = [self.words[n] for n in kept]
        pairs = [f"{self.words[a]} {self.words[b]}" for a, b in pairwise(kept) if b == a + 1]
        return [*single, *pairs]

    @cached_property
    def degrees(self) -> list[Degree]:
        """Comparatives and superlatives outside of named cells and of comparisons with numbers."""
        found = []
        compared = {n for each in self.numbers for n in range(*each.span)}
        for number, word in enumerate(self.words):
            kind = degree(word)
            if kind is None or kind[1] == 0 or number in compared:
                continue
            if self.plain[number - 1 : number] == ["at"] or (word[:1].isupper() and number > 0):
                continue
            follows = degree(self.words[number + 1]) if number + 1 < len(self.words) else None
            if kind[0] in ("many", "little") and follows and not follows[1]:  # "most expensive", "less old"
                found.append(Degree(f"{'' if kind[0] == 'many' else '-'}{follows[0]}", number, kind[1] == 2))
            else:
                found.append(Degree(kind[0], number, kind[1] == 2))
        return found

    def around(self, span: Span, size: int = 3) -> list[str]:
        """Return words and pairs near a span, the nearest first, that may mean the column of what it names."""
        before = range(max(span[0] - size, 0), span[0])
        after = range(span[1], min(span[1] + size, len(self.words)))
        near = sorted([*before, *after], key=lambda n: min(abs(n - span[0]), abs(n - span[1] + 1)))
        return [self.words[n] for n in near if n not in self.named and not self.is_function(n)]

    def phrases(self) -> list[str]:
        """Return every phrase whose similarity to columns is wanted."""
        attributes = [noun for each in self.degrees for noun in ADJECTIVES[each.adjective.lstrip("-")][0].split()]
        compared = [
            noun for each in self.numbers for n in range(*each.span)
            if (kind := degree(self.words[n])) for noun in ADJECTIVES[kind[0]][0].split()
        ]  # fmt: skip
        persons = ATTRIBUTES.get(self.wh[0], "").split()
        wanted = [*self.focus, *self.rest, *attributes, *compared, *persons, *STANDARD]
        return list(dict.fromkeys(re.sub(r"\s+", " ", text).strip() for text in wanted if text))
