"""Conditions of a query: cells that a question names, and numbers, dates and rows that cells are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from .cells import UNITS, Column, is_years
from .columns import NAMED, ColumnMatcher
from .mentions import CellMention, NumberMention
from .query import Condition
from .words import ADJECTIVES, degree, plain


class ConditionReader(ColumnMatcher):
    """Finds the conditions of one question."""

    def choose_mentions(self) -> list[CellMention]:
        """Return one mention of a cell for each place of the question: the longest, in the likeliest column."""
        taken: set[int] = set()
        chosen: list[CellMention] = []
        for mention in sorted(self.reading.cells, key=self.mention_score, reverse=True):
            span = set(range(*mention.span))
            if span & taken:
                continue
            taken |= span
            chosen.append(mention)
        return chosen

    def mention_score(self, mention: CellMention) -> float:
        """Return how likely a mention is meant: its length, its quality, and the words near it."""
        column = mention.column
        words = self.reading.plain
        near = self.affinity(self.reading.around(mention.span), column)
        before = words[mention.span[0] - 1 : mention.span[0]]
        name = [plain(word) for word in self.columns[column].words]
        adjacent = 0.5 if before and before[0] in name else 0.0
        length = mention.span[1] - mention.span[0]
        return 2.0 * length + mention.quality + near + adjacent + (0.2 if column == self.key else 0.0)

    def cell_conditions(self, mentions: Sequence[CellMention]) -> list[Condition | None]:
        """Return the conditions of mentions; those of one column are one, which any of them fulfils."""
        rows: dict[int, frozenset[int]] = {}
        for each in mentions:
            rows[each.column] = rows.get(each.column, frozenset()) | each.rows
        return [Condition(column, "in", own) for column, own in rows.items()]

    def number_conditions(self) -> list[Condition | None]:
        """Return the conditions of numbers; None for one that no column has."""
        return [self.number_condition(each) for each in self.reading.numbers]

    def number_condition(self, number: NumberMention) -> Condition | None:
        """Return the condition of a number on the column that words near it mean; None if there is none."""
        phrases = self.number_phrases(number)
        allowed = [c for c, column in enumerate(self.columns) if column.ordered and self.comparable(number, column)]
        if not allowed:
            return None
        chosen, score = self.best_column(phrases, allowed, lambda c: self.number_bonus(number, self.columns[c]))
        if score < (NAMED if number.operator == "=" else 0.35):
            return None
        column = self.columns[chosen]
        operator = number.operator
        adjectives = [kind[0] for n in range(*number.span) if (kind := degree(self.reading.words[n]))]
        if adjectives and adjectives[0] in ("old", "young") and (column.kind == "date" or is_years(column)):
            operator = {">": "<", "<": ">"}.get(operator, operator)
        return Condition(chosen, operator, value=self.scaled(number, column, operator))

    def number_phrases(self, number: NumberMention) -> list[str]:
        """Return phrases that mean the column of a comparison."""
        adjectives = [
            noun for n in range(*number.span) if (kind := degree(self.reading.words[n]))
            for noun in ADJECTIVES[kind[0]][0].split()
        ]  # fmt: skip
        return [*self.reading.around(number.span), *adjectives]

    def comparable(self, number: NumberMention, column: Column) -> bool:
        """Return whether the cells of a column can be compared with a number or date of the question."""
        if number.text == "date":
            return column.kind == "date"
        year = 1000 <= number.value <= 2100 and number.value == int(number.value) and number.factor == 1
        return column.kind == "number" or (column.kind == "date" and year)

    def number_bonus(self, number: NumberMention, column: Column) -> float:
        """Return what speaks for a column besides its name: years, units, and values of the same size."""
        bonus = 0.0
        temporal = any(w in self.reading.plain[number.span[0] : number.span[1]] for w in ("after", "before", "since"))
        if temporal:
            bonus += 0.5 if column.kind == "date" or is_years(column) else -0.2
        if number.unit and column.unit:
            bonus += 0.5 if UNITS[number.unit][0] == UNITS[column.unit][0] else -0.3
        text = " ".join(self.reading.words[number.span[0] : number.span[1]])
        signs = {sign for sign in "€$£¥%" if sign in text}
        own = {sign for sign in "€$£¥%" if any(sign in cell for cell in column.cells)}
        if signs:
            bonus += 0.4 if signs & own else -0.3
        values = [abs(value) for value in column.values if value is not None]
        if column.kind == "number" and values:
            value = abs(number.value * number.factor / column.scale)
            bonus += 0.15 if min(values) <= value <= max(values) else 0.0
        return bonus

    def scaled(self, number: NumberMention, column: Column, operator: str) -> float:
        """Return the value of a number in the column's own scale and unit; of a year, the day that begins it."""
        if column.kind == "date" and number.text != "date":
            year = int(number.value) + (operator in (">", "<="))
            return float(date(year, 1, 1).toordinal()) - (0.5 if operator in (">", "<=") else 0.0)
        value = number.value * (number.factor / column.scale if number.factor != 1 else 1.0)
        if number.unit and column.unit and UNITS[number.unit][0] == UNITS[column.unit][0]:
            value *= UNITS[number.unit][1] / UNITS[column.unit][1]
        return value

    def compared_with_row(self, mentions: list[CellMention]) -> tuple[list[CellMention], list[Condition | None]]:
        """Return the mentions and conditions where rows are compared with one row, as in "older than Ann"."""
        reading = self.reading
        for mention in mentions:
            start = mention.span[0]
            than = "than" in reading.plain[max(start - 2, 0) : start]
            kinds = [d for d in reading.degrees if not d.superlative and d.position < start]
            if than and kinds and len(mention.rows) == 1:
                by, more = self.measure(kinds[-1])
                value = self.columns[by].values[next(iter(mention.rows))] if by >= 0 else None
                if value is None:
                    return mentions, [None]
                rest = [each for each in mentions if each is not mention]
                return rest, [Condition(by, ">" if more else "<", value=value)]
        return mentions, []
