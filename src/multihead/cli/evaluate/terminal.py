"""Report of an evaluation on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...evaluation.page import between, number, p_value, signed
from ...evaluation.records import Comparison, EvaluationRecord, Slice
from ...evaluation.scorers.base import Confusion

BAR = 24  # characters of a full bar
MOST_LABELS = 12  # of a confusion matrix
MOST_FAILURES = 5
SHOWN = 3  # metrics of a slice
WIDE = 110  # columns of a terminal
TEXT = 100  # characters of a text


def print_report(console: Console, result: EvaluationRecord) -> None:
    """Print all parts of an evaluation."""
    console.print(Text.assemble((result.task, "bold"), "  ", result.model, (f"  {result.precision}", "dim")))
    console.print(Text(f"{result.source}: {result.summary}", style="dim"))
    for note in result.notes:
        console.print(Text(f"Note: {note}", style="yellow"))
    show(console, "", metric_table(result))
    console.print(Text(f"  {result.confidence:.0%} bootstrap intervals over rows, {result.resamples:,} resamples, seed "
                       f"{result.seed}", style="dim"))  # fmt: skip
    if result.comparison is not None:
        show(console, f"Difference to {result.comparison.model}", comparison_table(result.comparison))
    if result.confusion is not None and len(result.confusion.columns) <= MOST_LABELS:
        show(console, "Confusion (rows: right labels; columns: answers)", confusion_table(result.confusion))
    if result.labels and (result.confusion is None or len(result.confusion.columns) > 2):
        show(console, "Labels", label_table(result))
    for column in dict.fromkeys(each.column for each in result.slices):
        own = [each for each in result.slices if each.column == column]
        show(console, f"Slices by {column}", slice_table(own, console.width))
    if result.errors:
        title = f"Worst errors ({len(result.errors)} of {result.wrong} wrong answers)"
        show(console, title, error_list(result))
    print_failures(console, result)


def show(console: Console, title: str, content: RenderableType) -> None:
    """Print a part of the report with its title."""
    console.print()
    if title:
        console.print(Text(title, style="bold"))
    console.print(Padding(content, (0, 0, 0, 2)))


def plain_table(*names: str, text: int = 1) -> Table:
    """Return a table without lines; all columns but the first `text` ones are numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place < text else "right", overflow="fold")
    return table


def metric_table(result: EvaluationRecord) -> Table:
    """Return metrics, intervals and bars."""
    table = plain_table("metric", "value", "interval", "")
    table.columns[-1].justify = "left"
    for name, value in result.metrics.items():
        interval = result.intervals.get(name)
        table.add_row(
            name, Text(number(value), style="bold"), between(interval), bar(interval, result.full_scale(name))
        )
    return table


def bar(interval: tuple[float, float] | None, full: float | None) -> Text:
    """Return an interval as a bar whose lighter part is its width; empty without a largest possible value."""
    if interval is None or full is None:
        return Text("")
    low, high = (round(BAR * max(0.0, each) / full) for each in interval)
    return Text.assemble(("█" * low, "cyan"), ("▒" * (high - low), "cyan"), ("·" * (BAR - high), "dim"))


def comparison_table(other: Comparison) -> RenderableType:
    """Return the differences of two models."""
    table = plain_table("metric", "this", "other", "difference", "interval", "p")
    for each in other.differences:
        sure = not math.isnan(each.low) and (each.low > 0 or each.high < 0)
        table.add_row(
            each.name, number(each.first), number(each.second), Text(signed(each.value), style="bold" if sure else ""),
            between((each.low, each.high)), p_value(each.p),
        )  # fmt: skip
    if other.mcnemar is None:
        return table
    test = other.mcnemar
    words = (
        f"right by this model only: {test.only_first}; by the other only: {test.only_second}; McNemar's exact test: "
        f"p = {p_value(test.p)}"
    )
    return Group(table, Text(words, style="dim"))


def confusion_table(matrix: Confusion) -> Table:
    """Return the confusion matrix; right answers are bold."""
    table = plain_table("", *matrix.columns)
    for label, line in zip(matrix.labels, matrix.counts, strict=True):
        cells = [
            Text(f"{count:,}", style="bold green" if name == label else "red" if count else "dim")
            for name, count in zip(matrix.columns, line, strict=True)
        ]
        table.add_row(Text(label), *cells)
    return table


def label_table(result: EvaluationRecord) -> Table:
    """Return precision, recall and F1 of each label."""
    table = plain_table("label", "precision", "recall", "F1", "rows")
    for each in result.labels:
        table.add_row(
            Text(each.label), number(each.precision), number(each.recall), number(each.f1), f"{each.support:,}"
        )
    return table


def slice_table(slices: Sequence[Slice], width: int) -> Table:
    """Return the first metrics of each slice with their intervals."""
    names = list(slices[0].metrics)[: SHOWN if width >= WIDE else 2]
    table = plain_table("", "rows", *names)
    for each in slices:
        cells = [
            Text.assemble(number(each.metrics[name]), ("  " + between(each.intervals.get(name)), "dim"))
            for name in names
        ]
        table.add_row(Text(each.value), f"{each.count:,}", *cells)
    return table


def error_list(result: EvaluationRecord) -> Group:
    """Return the worst answers: the text, then the right and the given answer."""
    lines = []
    for each in result.errors:
        sure = "" if each.confidence is None else f"  {each.confidence:.3f}"
        lines.append(Text.assemble((f"{each.location}  ", "dim"), one_line(each.text)))
        right = Text.assemble(("right: ", "dim"), (one_line(each.expected), "green"), "  ")
        given = Text.assemble(("answer: ", "dim"), (one_line(each.given), "red"), (sure, "dim"))
        lines.append(Text.assemble("    ", right if each.expected else "", given))
    return Group(*lines)


def print_failures(console: Console, result: EvaluationRecord) -> None:
    """Print the first rows that are not scored or not answered."""
    if not result.failures:
        return
    console.print()
    console.print(Text(f"{len(result.failures):,} rows without a score or an answer", style="bold red"))
    for each in result.failures[:MOST_FAILURES]:
        console.print(Text.assemble((f"  {each.location}: ", "dim"), each.reason))
    if len(result.failures) > MOST_FAILURES:
        console.print(Text(f"  and {len(result.failures) - MOST_FAILURES:,} more (--output report.html or .json)"))


def one_line(text: str) -> str:
    """Return a text in one line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT else line[: TEXT - 1] + "…"
