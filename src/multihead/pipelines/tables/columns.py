"""Columns that the words of a question mean: by the column's name, by similarity, by the kind of its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cells import Column, is_years
from .reading import COUNTED, Degree, Reading
from .words import ADJECTIVES, DIMENSIONS, FUNCTION_WORDS, plain, related

Similarity = Callable[[str, int], float]  # of a phrase and the name of a column, by the encoder
SURE = 0.5  # affinity of a phrase and a column from which the phrase means the column
NAMED = 0.75  # affinity from which a phrase names the column
RANKS = frozenset("rank position pos place standing ranking #".split())
ORDINALS = frozenset("first last early late new recent".split())
NUMBERINGS = RANKS | frozenset("no nr number index".split())
ROW_NOUNS = frozenset("people person row entry item record one".split())


class ColumnMatcher:
    """Relates the words of one question to the columns of its table.

    Args:
        similarity: of a phrase and a column's name, from -1 to 1.
    """

    def __init__(self, reading: Reading, columns: Sequence[Column], similarity: Similarity) -> None:
        self.reading, self.columns, self.similarity = reading, columns, similarity
        self.key = key_column(columns)
        self.used: set[int] = set()

    def affinity(self, phrases: Sequence[str], column: int) -> float:
        """Return how likely any of some phrases means a column: 1 for its name, else the encoder's similarity."""
        return max((self.match(text, column) - 0.04 * n for n, text in enumerate(phrases)), default=0.0)

    def match(self, phrase: str, column: int) -> float:
        """Return the affinity of one phrase and a column."""
        words = phrase.split()
        notes = [note for note in self.columns[column].notes if note in map(plain, words) and len(note) > 2]
        return max(self.lexical(words, column), self.similarity(phrase, column), 0.6 if notes else 0.0)

    def lexical(self, words: Sequence[str], column: int) -> float:
        """Return how far words are those of a column's name, from 0 to 1."""
        name = [w for w in self.columns[column].words if plain(w) not in FUNCTION_WORDS] or self.columns[column].words
        if not words or not name:
            return 0.0
        hits = [max(related(word, own) for word in words) for own in name]
        back = [max(related(word, own) for own in name) for word in words]
        return 0.75 * sum(back) / len(back) + 0.25 * sum(hits) / len(hits)

    def best_column(
        self, phrases: Sequence[str], among: Sequence[int], bonus: Callable[[int], float]
    ) -> tuple[int, float]:
        """Return the column with the largest affinity plus bonus, and that sum; (-1, 0.0) if there is none."""
        scored = [(self.affinity(phrases, column) + bonus(column), -column) for column in among]
        best = max(scored, default=(0.0, 1))
        return -best[1], best[0]

    def quantity(self, phrases: Sequence[str]) -> tuple[int, float]:
        """Return the column of numbers that phrases mean, and its affinity; numbers that identify rows are none."""
        return self.best_column(phrases, self.quantities(), lambda column: 0.0)

    def quantities(self) -> list[int]:
        """Return the columns of numbers that can be summed or counted."""
        return [
            n for n, column in enumerate(self.columns)
            if column.kind == "number" and not (n == self.key and column.unique) and not is_years(column)
            and not {plain(word) for word in column.words} & NUMBERINGS
        ]  # fmt: skip

    def names_rows(self, noun: str) -> bool:
        """Return whether a noun means the rows themselves: the name of the key column, or people."""
        if not noun:
            return True
        return any(self.match(word, self.key) >= NAMED or plain(word) in ROW_NOUNS for word in noun.split())

    def measure(self, kind: Degree) -> tuple[int, bool]:
        """Return the column that a comparative or superlative is about, and whether more of it is meant; -1 if none."""
        reading = self.reading
        adjective = kind.adjective.lstrip("-")
        nouns, largest = ADJECTIVES[adjective]
        largest ^= kind.adjective.startswith("-")
        skipped = 2 * (tuple(reading.plain[kind.position + 1 : kind.position + 3]) in COUNTED)  # "the most number of"
        following = [w for n, w in enumerate(reading.words) if kind.position < n - skipped <= kind.position + 2
                     and n not in reading.named and not reading.is_function(n) and plain(w) != adjective]  # fmt: skip
        among = [c for c, column in enumerate(self.columns) if column.ordered and c != self.key]
        direct, score = self.best_column([*following, " ".join(following)], among, lambda c: 0.0)
        if score < NAMED:
            ordinal = adjective in ORDINALS
            bonus = lambda c: self.measure_bonus(adjective, c)  # noqa: E731
            phrases = [*nouns.split(), *(reading.rest if ordinal else [])]
            direct, score = self.best_column(phrases, among, bonus)
            if score < 0.4:
                direct, score = self.best_column(reading.rest, among, bonus)
        if direct < 0 or score < 0.4:
            return -1, largest
        return direct, largest ^ self.flipped(adjective, direct)

    def measure_bonus(self, adjective: str, column: int) -> float:
        """Return what speaks for a column besides its name: the unit of an adjective, dates for "first" and "last"."""
        own = self.columns[column]
        if adjective in DIMENSIONS:
            return 0.35 if own.dimension in DIMENSIONS[adjective] else 0.0
        if adjective in ("old", "young"):
            return 0.4 if self.is_temporal(column) else 0.0
        if adjective not in ORDINALS:
            return 0.0
        return 0.3 if self.is_temporal(column) else -0.2

    def flipped(self, adjective: str, column: int) -> bool:
        """Return whether more means less in a column: the oldest has the smallest year, the best the smallest rank."""
        own = self.columns[column]
        names = {plain(word) for word in own.words}
        if adjective in ("old", "young"):
            return own.kind == "date" or is_years(own)
        if adjective in ("new", "recent"):
            return bool(names & {"age"})
        if adjective in ("good", "bad", "high", "low"):
            return bool(names & RANKS)
        return adjective in ("fast",) and (own.kind == "time" or bool(names & {"time", "duration"}))

    def is_temporal(self, column: int) -> bool:
        return self.columns[column].kind in ("date", "time") or is_years(self.columns[column])


def key_column(columns: Sequence[Column]) -> int:
    """Return the column that names the rows: the first one whose cells differ, numberings and numbers last."""
    named = [
        n for n, column in enumerate(columns) if not {plain(w) for w in column.words} & NUMBERINGS and column.words
    ]
    texts = [n for n in named if not columns[n].ordered]
    if 0 in named and (columns[0].unique or 0 in texts):
        return 0
    unique = [n for n in texts if columns[n].unique]
    return next(iter([*unique, *texts, *named, 0]))
