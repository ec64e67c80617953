"""From a question to a query: columns by words and similarity, conditions by named cells, aggregation by cue words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .columns import NAMED, SURE
from .conditions import ConditionReader
from .mentions import CellMention
from .query import Condition, Query
from .reading import AVERAGES, DISTINCT, HOW, SUMS, Degree
from .words import ADJECTIVES, DIMENSIONS, GENERIC, degree, plain

RELATED = 0.7  # affinity of words that share the beginning of a column's name, such as "directed" and "Director"


@dataclass(frozen=True)
class Parse:
    """Query of a question, or the reason why there is none.

    Args:
        names_nothing: there is no query because the question names no row.
        named: the question has the name of the column that is summed.
    """

    query: Query | None
    reason: str = ""
    names_nothing: bool = False
    named: bool = False


class Parser(ConditionReader):
    """Makes the query of one question."""

    def parse(self) -> Parse:
        """Return the query, or the reason why the table does not answer the question."""
        reading = self.reading
        if reading.other_language:
            return Parse(None, f"Questions must be in English; {reading.other_language!r} is another language.")
        if reading.unknown:
            return Parse(None, f"The table does not name {reading.unknown[0]!r}.")
        if reading.unsupported:
            return Parse(None, f"A query cannot say {reading.unsupported!r}.")
        pair = self.compared_pair()
        if pair is not None:
            return pair
        mentions, compared = self.compared_with_row(self.choose_mentions())
        where = [*compared, *self.cell_conditions(mentions), *self.number_conditions()]
        if None in where:
            return Parse(None, "The table has no column for a comparison of the question.")
        conditions = tuple(each for each in where if each is not None)
        return self.aggregate(conditions, mentions)

    def aggregate(self, where: tuple[Condition, ...], mentions: Sequence[CellMention]) -> Parse:
        """Return the query with the aggregation that the question's words ask for."""
        words = set(self.reading.plain)
        if words & AVERAGES:
            return self.computed("average", where)
        if self.reading.how_many is not None:
            return self.count(where, mentions)
        if self.reading.yes_or_no:
            if len(where) == 2 and (asked := [w for w in where if self.columns[w.column].yes_or_no]):
                rest = tuple(w for w in where if w is not asked[0])  # "does Old Mill have Wi-Fi"
                return Parse(Query(asked[0].column, rest))
            return Parse(None, "Questions that are answered by yes or no must compare two rows.")
        superlative = self.superlative(where)
        if superlative is not None:
            return self.extreme(superlative, where)
        if words & SUMS:
            return self.computed("sum", where)
        return self.look_up(where)

    def computed(self, aggregate: str, where: tuple[Condition, ...]) -> Parse:
        """Return the query for the sum or average of a column of numbers."""
        select, score = self.quantity(self.asked_phrases())
        if select < 0 or score < SURE:
            return Parse(None, "The table has no column of numbers that the question names.")
        return Parse(Query(select, where, aggregate), named=score >= NAMED)

    def asked_phrases(self) -> list[str]:
        """Return phrases that may mean the column of the answer."""
        return [*self.reading.focus, *self.reading.rest]

    def count(self, where: tuple[Condition, ...], mentions: Sequence[CellMention]) -> Parse:
        """Return the query of "how many": a cell, a sum, or the number of rows."""
        reading = self.reading
        noun = reading.text(reading.how_many) if reading.how_many else ""
        counted = [m for m in mentions if reading.how_many and m.span[0] >= reading.how_many[0]
                   and m.span[1] <= reading.how_many[1]]  # fmt: skip
        select, _ = self.quantity([noun] if noun else [])
        free = [c for c in self.quantities() if c not in {w.column for w in where}]
        summed = bool(set(reading.plain) & SUMS)
        if set(reading.plain) & DISTINCT:
            column, own = self.best_column([noun, *reading.rest], range(len(self.columns)), lambda c: 0.0)
            return Parse(Query(column, where, "distinct")) if own >= SURE else self.no_column(noun)
        one_row = any(w.column == self.key and w.operator == "in" and len(w.rows) == 1 for w in where)
        if one_row:  # "how many points do the Blues have"
            column, own = self.best_column([noun, *reading.rest], free, lambda c: 0.0)
            return Parse(Query(column, where)) if own >= SURE else self.no_column(noun)
        names_rows = self.names_rows(noun)
        if counted and summed:
            column, own = self.best_column([*reading.rest, "quantity"], free, lambda c: 0.0)
            if own >= SURE:
                return Parse(Query(column, where, "sum"))
        named = max((self.lexical([word], select) for word in noun.split()), default=0.0) if select >= 0 else 0.0
        if not counted and not names_rows and select in free and named >= NAMED:
            return Parse(Query(select, where, "sum"))
        if summed and not counted and not names_rows:
            column, own = self.best_column(reading.rest, free, lambda c: 0.0)
            if own >= SURE:
                return Parse(Query(column, where, "sum"))
        others = [c for c in range(len(self.columns)) if c != self.key and self.match(noun, c) >= SURE]
        known = names_rows or bool(counted) or bool(others) or self.match(noun, self.key) >= SURE
        select = others[0] if others and not names_rows and not counted else self.key  # cells of a column, or rows
        return Parse(Query(select, where, "count"), "" if known else f"Rows are counted as {noun!r}.")

    def no_column(self, phrase: str) -> Parse:
        """Return the reason that no column is meant."""
        return Parse(None, f"The table has no column for {phrase!r}." if phrase else "The table has no such column.")

    def superlative(self, where: tuple[Condition, ...]) -> Degree | None:
        """Return the superlative that chooses rows, if any; not "first" where a row is named."""
        named = any(w.column == self.key and w.operator == "in" and len(w.rows) == 1 for w in where)
        compared = any(w.operator != "in" for w in where)
        found = [
            each for each in self.reading.degrees
            if each.superlative and not (compared and each.adjective in ("first", "last"))  # "first built in 1880"
        ]  # fmt: skip
        return None if named or not found else found[0]

    def extreme(self, kind: Degree, where: tuple[Condition, ...]) -> Parse:
        """Return the query for rows with the largest or smallest value."""
        by, largest = self.measure(kind)
        if by < 0:
            return Parse(None, f"The table has no column for {self.reading.words[kind.position]!r}.")
        select = self.select_for_extreme(by)
        return Parse(Query(select, where, "max" if largest else "min", by))

    def select_for_extreme(self, by: int) -> int:
        """Return the column that is asked for with an extreme of the column `by`."""
        word, _ = self.reading.wh
        others = [c for c in range(len(self.columns)) if c != by]
        if word == "how":
            chosen, score = self.best_column(self.reading.focus, range(len(self.columns)), lambda c: 0.05 * (c == by))
            return chosen if score >= SURE else by
        if word == "when":
            temporal = [c for c in range(len(self.columns)) if self.is_temporal(c)]
            return self.best_column(self.reading.rest, temporal, lambda c: 0.0)[0] if temporal else by
        if word == "who" or not self.reading.focus:
            chosen, score = self.best_column(self.verbs(), [c for c in others if not self.columns[c].ordered],
                                             lambda c: 0.0)  # fmt: skip
            return chosen if score >= NAMED - 0.1 else self.key
        chosen, score = self.best_column(self.reading.focus, range(len(self.columns)), lambda c: 0.0)
        return chosen if score >= NAMED - 0.1 else self.key

    def verbs(self) -> list[str]:
        """Return the words that may be the verb or noun of a question with "who"."""
        return [text for text in self.reading.rest if " " not in text][:1]

    def look_up(self, where: tuple[Condition, ...]) -> Parse:
        """Return the query for cells of the rows that conditions choose."""
        if not where:
            return Parse(None, "The question names nothing that is in the table.", names_nothing=True)
        given = {w.column for w in where if w.operator == "in"}
        others = [c for c in range(len(self.columns)) if c not in given]
        focus, rest, word = self.reading.focus, self.reading.rest, self.reading.wh[0]
        phrases = [*focus, *rest]
        chosen, score = self.best_column(phrases, others, self.type_bonus)
        missing = self.no_column(" ".join(focus[:1] or rest[:1]))
        if word in ("who", "whom"):
            return self.look_up_person(where, others, bool(focus) and score < SURE)
        if self.key in given or self.reading.asks_of_row or word in ("how", "when", "where"):
            if word == "what" and not focus:
                free = [c for c in others if c != self.key]
                chosen, score = self.best_column([*rest, "product", "thing"], free, self.type_bonus)
            return Parse(Query(chosen, where)) if score >= SURE else missing
        chosen, score = self.best_column(focus, others, lambda c: 0.0)
        return Parse(Query(chosen if score >= NAMED else self.key, where))

    def look_up_person(self, where: tuple[Condition, ...], others: Sequence[int], vague: bool) -> Parse:
        """Return the query of a question with "who": the column of its verb, else the one that names the rows."""
        texts = [c for c in others if not self.columns[c].ordered]
        named, strong = self.best_column(self.verbs(), texts, lambda c: 0.0)
        if strong >= NAMED - 0.1:
            return Parse(Query(named, where))
        if self.key in others and not self.columns[self.key].ordered:
            return Parse(Query(self.key, where))
        person, score = self.best_column(["customer", "person", "name"], texts, lambda c: 0.0)
        return Parse(Query(person, where)) if score >= SURE and not vague else self.no_column("a person")

    def type_bonus(self, column: int) -> float:
        """Return what the question word says about the kind of a column's cells."""
        word, at = self.reading.wh
        own = self.columns[column]
        if word == "when":
            dated = any(map(str.isdigit, "".join(own.cells)))
            return 0.35 if self.is_temporal(column) else 0.1 if dated and own.kind == "text" else -0.4
        if word in ("who", "whom", "where"):
            return -0.5 if own.ordered else 0.05
        if word == "how" and set(self.reading.plain[at + 1 : at + 2]) & {*HOW} and own.kind == "text":
            return -0.4
        kind = degree(self.reading.words[at + 1]) if word == "how" and at + 1 < len(self.reading.words) else None
        return 0.3 if kind and own.dimension in DIMENSIONS.get(kind[0], ()) else 0.0

    def nearest_column(self, query: Query) -> tuple[int, str]:
        """Return the column that a query reads without the question naming it, and the words it was chosen for.

        The column is -1 if the question names it, or asks for rows.
        """
        column = query.by if query.by >= 0 and query.select == self.key else query.select
        if column == self.key or query.aggregate in ("count", "distinct") or self.columns[column].yes_or_no:
            return -1, ""
        phrases = self.naming_phrases(query)
        if any(self.match(text, column) >= NAMED or self.lexical(text.split(), column) >= RELATED for text in phrases):
            return -1, ""
        degrees = [self.reading.words[each.position] for each in self.reading.degrees if query.by >= 0]
        own = [*degrees, *self.reading.focus[:1], *self.reading.rest]
        asked = [text for text in own if text and text in self.reading.question]
        return column, next(iter([*asked, *filter(None, phrases)]), "")

    def naming_phrases(self, query: Query) -> list[str]:
        """Return the phrases of a question of which one must name the column that it asks for."""
        reading, (word, _) = self.reading, self.reading.wh
        focus = reading.focus
        nouns = [noun for each in reading.degrees for noun in ADJECTIVES[each.adjective.lstrip("-")][0].split()]
        if query.by >= 0:
            return [*focus, *reading.rest, *nouns]
        if word in ("which", "what") and focus and query.aggregate == "none":
            own = focus[0].split()  # "customer opened" of "which customer opened", "unit price" of "what is the ..."
            return [*focus, own[0], *(own[-1:] if reading.asks_of_row else [])]
        if word == "how" and reading.rest and focus == HOW["much"].split() and not {*focus} & {*reading.rest}:
            return reading.rest  # "how much does it weigh" is about no price
        return [*focus, *reading.rest] or nouns

    def unexplained(self, query: Query, least: float) -> list[str]:
        """Return the words of the question that no part of a query accounts for."""
        reading = self.reading
        used = {query.select, *(w.column for w in query.where)} | ({query.by} if query.by >= 0 else set())
        asked = set(" ".join([*reading.focus, reading.text(reading.how_many) if reading.how_many else ""]).split())
        found = []
        for n, word in enumerate(reading.words):
            if n in reading.named or reading.is_function(n) or plain(word) in SUMS | AVERAGES | DISTINCT:
                continue
            if word in asked and (query.select == self.key or len(asked) == 1):
                continue
            kind = degree(word)
            meanings = [word, *(ADJECTIVES[kind[0]][0].split() if kind else [])]
            if (
                self.names_rows(word)
                or plain(word) in GENERIC
                or any(self.affinity(meanings, c) >= least for c in used)
            ):
                continue
            found.append(word)
        return found

    def compared_pair(self) -> Parse | None:
        """Return the query of a comparison of two named rows; None if the question has none."""
        reading = self.reading
        comparatives = [each for each in reading.degrees if not each.superlative]
        named = [m for m in self.choose_mentions() if (len(m.rows) == 1 and not self.columns[m.column].ordered)
                 or (len(m.rows) == 1 and m.column == self.key)]  # fmt: skip
        best: dict[int, list[CellMention]] = {}
        for each in named:
            best.setdefault(each.column, []).append(each)
        pair = next((sorted(own, key=lambda m: m.span) for own in best.values() if len(own) == 2), None)
        gap = "difference" in reading.plain
        if not (comparatives or gap) or pair is None:
            return None
        column = pair[0].column
        order = tuple(next(iter(m.rows)) for m in pair)
        if gap:
            by, score = self.quantity([text for text in reading.rest if "difference" not in text])
            return Parse(Query(by, (), "difference", by, order)) if score >= SURE else self.no_column("difference")
        by, more = self.measure(comparatives[0])
        if by < 0:
            return Parse(None, f"The table has no column for {reading.words[comparatives[0].position]!r}.")
        if reading.plain[:2] in (["how", "much"], ["how", "many"]) or reading.wh[0] == "how":
            return Parse(Query(by, (), "difference", by, order))
        if reading.yes_or_no and "or" not in reading.plain:
            return Parse(Query(by, (), "more" if more else "less", by, order))
        rows = frozenset(order)
        return Parse(Query(column, (Condition(column, "in", rows),), "max" if more else "min", by))
