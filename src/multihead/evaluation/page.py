"""Report of an evaluation as an HTML page: tables, a reliability diagram, a confusion matrix. It has no script."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..pages import REPORT_STYLE, Html, escape, make_page, number_cell, number_heading, table
from .records import Comparison, EvaluationRecord, ReliabilityBin, Slice

STYLE = f"""{REPORT_STYLE}
  main {{ max-width: 1080px; }}
  .matrix td, .matrix th {{ border: 1px solid var(--line); padding: 5px 9px; text-align: right; }}
  .matrix td.hit {{ outline: 1px solid rgba(var(--high), .7); outline-offset: -2px; }}
  .scroll {{ overflow-x: auto; }} .text {{ max-width: 52ch; overflow-wrap: anywhere; white-space: pre-wrap; }}
  svg {{ display: block; }} svg text {{ fill: var(--soft); font: 11px system-ui, sans-serif; }}
"""
MOST_FAILURES, MOST_COLUMNS = 200, 40
SHOWN = 4  # metrics of a slice
WIDTH, HEIGHT = 340, 300  # of the reliability diagram


def report_page(result: EvaluationRecord) -> str:
    """Return the page of an evaluation."""
    parts = [
        f"<h1>{escape(result.task)}: {escape(result.model)}</h1>",
        f"<p>{escape(result.source)} · {escape(result.summary)} · {escape(result.precision)}</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in result.notes),
        section("Metrics", metric_table(result), interval_caption(result)),
    ]
    if result.comparison is not None:
        parts.append(section("Comparison", comparison_table(result, result.comparison), ""))
    if result.reliability:
        caption = (
            "Bars: share of right answers by confidence; lines: mean confidence. The bars of a calibrated model end at "
            "the lines. Below: number of answers."
        )
        parts.append(section("Calibration", reliability_diagram(result.reliability), caption))
    if result.confusion is not None:
        parts.append(section("Confusion matrix", confusion_table(result), "Rows: right labels. Columns: answers."))
    if result.labels:
        parts.append(section("Labels", label_table(result), ""))
    for column in dict.fromkeys(each.column for each in result.slices):
        own = [each for each in result.slices if each.column == column]
        parts.append(section(f"Slices by {column}", slice_table(own), "Intervals of small slices are wide."))
    if result.errors:
        caption = f"{len(result.errors)} of {result.wrong} wrong answers, the worst first."
        parts.append(section("Worst errors", error_table(result), caption))
    if result.failures:
        parts.append(section("Rows without a score or an answer", failure_table(result), ""))
    return make_page(f"{result.task}: {result.model}", f"<main>{''.join(parts)}</main>", STYLE)


def section(title: str, content: str, caption: str) -> str:
    """Return a section of the page."""
    below = f"<p>{escape(caption)}</p>" if caption else ""
    return f'<section><h2>{escape(title)}</h2>{below}<div class="scroll">{content}</div></section>'


def interval_caption(result: EvaluationRecord) -> str:
    """Return how the intervals were computed."""
    return (
        f"Intervals: {result.confidence:.0%}, bootstrap over rows with {result.resamples:,} resamples, seed "
        f"{result.seed}."
    )


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for people; a dash where it is undefined."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    text = f"{value:.{digits}g}" if abs(value) >= 1000 else f"{value:.{2 if abs(value) >= 10 else 3}f}"
    return text.replace("-", "−")


def between(interval: tuple[float, float] | None) -> str:
    """Return an interval for people."""
    return "–" if interval is None or math.isnan(interval[0]) else f"{number(interval[0])} – {number(interval[1])}"


def metric_table(result: EvaluationRecord) -> Html:
    """Return the metrics with their intervals, as numbers and, where there is a largest value, as bars."""
    rows = []
    for name, value in result.metrics.items():
        interval = result.intervals.get(name)
        rows.append(
            [
                name,
                number_cell(number(value)),
                number_cell(between(interval)),
                interval_bar(value, interval, result.full_scale(name)),
            ]
        )
    return table(["metric", number_heading("value"), number_heading("interval"), ""], rows)


def interval_bar(value: float, interval: tuple[float, float] | None, full: float | None) -> Html:
    """Return a value and its interval as a drawing from 0 to the largest possible value; nothing without one."""
    if interval is None or full is None:
        return Html("<td></td>")
    low, high, middle = (200 * each / full for each in (max(interval[0], 0), interval[1], value))
    return Html(
        '<td><svg width="204" height="18" role="img"><line x1="2" y1="9" x2="202" y2="9" stroke="var(--line)"/>'
        f'<rect x="{2 + low:.1f}" y="5" width="{max(high - low, 1):.1f}" height="8" fill="rgba(var(--high),.45)"/>'
        f'<rect x="{1 + middle:.1f}" y="2" width="2" height="14" fill="rgb(var(--high))"/></svg></td>'
    )


def comparison_table(result: EvaluationRecord, other: Comparison) -> str:
    """Return the differences of two models with their p-values."""
    rows = [
        [each.name, number_cell(number(each.first)), number_cell(number(each.second)), number_cell(signed(each.value)),
         number_cell(between((each.low, each.high))), number_cell(p_value(each.p))]
        for each in other.differences
    ]  # fmt: skip
    names = ["this", "other", "difference", "interval", "p (paired bootstrap)"]
    parts = [f"<p>Other model: {escape(other.model)}. Differences are this model minus the other.</p>",
             table(["metric", *(number_heading(name) for name in names)], rows)]  # fmt: skip
    if other.mcnemar is not None:
        test = other.mcnemar
        parts.append(
            f"<p>Right by this model only: {test.only_first}; by the other only: {test.only_second}. McNemar's exact "
            f"test: p = {p_value(test.p)}.</p>"
        )
    if other.changed:
        cells = [[text_cell(place), text_cell(text), text_cell(one), text_cell(two)] for place, text, one, two in
                 other.changed]  # fmt: skip
        parts.append(table(["row", "text", "this model", "other model"], cells))
    return "".join(parts)


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def p_value(p: float) -> str:
    """Return a p-value; none is smaller than the resamples can tell."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> Html:
    """Return accuracy by confidence as a drawing, with the number of answers below."""
    left, top, most = 44, 10, max(each.count for each in bins)
    parts = [f'<line x1="{left}" y1="{top + HEIGHT}" x2="{left + WIDTH}" y2="{top}" stroke="var(--soft)" '
             'stroke-dasharray="4 4"/>']  # fmt: skip
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, x = top + HEIGHT * (1 - share), left + WIDTH * share
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{share:g}</text>')
        parts.append(f'<text x="{x:.0f}" y="{top + HEIGHT + 74}" text-anchor="middle">{share:g}</text>')
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
    for each in bins:
        x, width = left + WIDTH * each.low, WIDTH * (each.high - each.low) - 2
        height, count = HEIGHT * each.accuracy, 50 * each.count / most
        y = top + HEIGHT * (1 - each.confidence)
        parts.append(
            f"<g><title>{each.count} answers of confidence {each.confidence:.3f}: {each.accuracy:.3f} are right</title>"
            f'<rect x="{x + 1:.1f}" y="{top + HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}" '
            'fill="rgba(var(--high),.55)"/>'
            f'<rect x="{x + 1:.1f}" y="{y - 1:.1f}" width="{width:.1f}" height="2" fill="var(--pick)"/>'
            f'<rect x="{x + 1:.1f}" y="{top + HEIGHT + 58 - count:.1f}" width="{width:.1f}" height="{count:.1f}" '
            'fill="rgba(var(--high),.25)"/></g>'
        )
    parts.append(f'<text x="{left + WIDTH / 2}" y="{top + HEIGHT + 92}" text-anchor="middle">confidence</text>')
    parts.append(f'<text x="12" y="{top + HEIGHT / 2}" text-anchor="middle" '
                 f'transform="rotate(-90 12 {top + HEIGHT / 2})">share of right answers</text>')  # fmt: skip
    return Html(f'<svg width="{left + WIDTH + 20}" height="{top + HEIGHT + 100}" role="img">{"".join(parts)}</svg>')


def confusion_table(result: EvaluationRecord) -> Html:
    """Return the confusion matrix, shaded by the share of each row."""
    matrix = result.confusion
    assert matrix is not None
    if len(matrix.columns) > MOST_COLUMNS:
        return confused_pairs(result)
    rows = []
    for label, line in zip(matrix.labels, matrix.counts, strict=True):
        cells = [matrix_cell(count, sum(line), name == label) for name, count in zip(matrix.columns, line, strict=True)]
        rows.append([Html(f"<th>{escape(label)}</th>"), *cells])
    return table(["", *matrix.columns], rows, "matrix")


def matrix_cell(count: int, total: int, hit: bool) -> Html:
    """Return a cell of the confusion matrix: right answers in one color, wrong ones in another."""
    color, shade = "high" if hit else "low", 0.55 * count / max(total, 1)
    return Html(f'<td class="{"hit" if hit else ""}" style="background:rgba(var(--{color}),{shade:.3f})">{count}</td>')


def confused_pairs(result: EvaluationRecord) -> Html:
    """Return the most frequent confusions of a matrix that is too large to draw."""
    matrix = result.confusion
    assert matrix is not None
    pairs = [
        (count, label, name)
        for label, line in zip(matrix.labels, matrix.counts, strict=True)
        for name, count in zip(matrix.columns, line, strict=True)
        if count and name != label
    ]
    rows = [[label, name, number_cell(str(count))] for count, label, name in sorted(pairs, reverse=True)[:MOST_COLUMNS]]
    return table(["right label", "answer", number_heading("rows")], rows)


def label_table(result: EvaluationRecord) -> Html:
    """Return precision, recall and F1 of each label."""
    names = ["precision", "recall", "F1", "rows"]
    rows = [
        [each.label, *(number_cell(number(value)) for value in (each.precision, each.recall, each.f1)),
         number_cell(f"{each.support:,}")]
        for each in result.labels
    ]  # fmt: skip
    return table(["label", *(number_heading(name) for name in names)], rows)


def slice_table(slices: Sequence[Slice]) -> Html:
    """Return the first metrics of each slice with their intervals."""
    names = list(slices[0].metrics)[:SHOWN]
    rows = [
        [each.value, number_cell(f"{each.count:,}"), *(
            Html(f'<td class="n">{number(each.metrics[name])} <span class="soft">{between(each.intervals.get(name))}'
                 "</span></td>")
            for name in names
        )]
        for each in slices
    ]  # fmt: skip
    return table(["slice", number_heading("rows"), *(number_heading(n) for n in names)],
                 rows)  # fmt: skip


def error_table(result: EvaluationRecord) -> Html:
    """Return the worst answers."""
    rows = [
        [Html(f'<td class="soft">{escape(each.location)}</td>'), text_cell(each.text), text_cell(each.expected),
         text_cell(each.given), number_cell(number(each.confidence))]
        for each in result.errors
    ]  # fmt: skip
    return table(["row", "text", "right", "answer", number_heading("confidence")], rows)


def failure_table(result: EvaluationRecord) -> str:
    """Return the rows that are not scored or not answered."""
    kinds = {"file": "not read", "reference": "not scored", "answer": "not answered"}
    rows = [[Html(f'<td class="soft">{escape(each.location)}</td>'), kinds[each.stage], text_cell(each.reason)]
            for each in result.failures[:MOST_FAILURES]]  # fmt: skip
    more = len(result.failures) - len(rows)
    return table(["row", "", "reason"], rows) + (f"<p>And {more:,} more.</p>" if more > 0 else "")


def text_cell(text: str) -> Html:
    """Return a table cell of a text of any length."""
    return Html(f'<td class="text">{escape(text if len(text) <= 600 else text[:597] + "...")}</td>')
