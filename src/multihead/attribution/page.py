"""Explanation of an answer as an HTML page: the words of the input, colored. It has no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..pages import REPORT_STYLE, Html, escape, make_page, number_cell, number_heading, table

STYLE = f"""{REPORT_STYLE}
  main {{ max-width: 900px; }}
  .words {{ font-size: 19px; line-height: 2.1; max-width: none; white-space: pre-wrap; overflow-wrap: anywhere;
    color: var(--ink); }}
  .words span {{ border-radius: 4px; padding: 2px 1px; }}
"""
SHOWN = 25  # words of the table


def explanation_page(found: Mapping[str, Any]) -> str:
    """Return the page of an explanation, given as a dict."""
    pieces, texts = found["pieces"], found["texts"]
    parts = [
        f"<h1>{escape(found['target'])}</h1>",
        f"<p>{escape(found['task'])} · {escape(found['model'])} · {escape(found['method'])}</p>",
        f"<p>{escape(summary(found))}</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in found["notes"]),
        '<p><span style="background:rgba(var(--high),.4)">&nbsp;speaks for it&nbsp;</span> '
        '<span style="background:rgba(var(--low),.4)">&nbsp;speaks against it&nbsp;</span></p>',
    ]
    most = max((abs(piece["value"]) for piece in pieces if piece["source"] >= 0), default=0.0) or 1.0
    for number, text in enumerate(texts):
        own = [piece for piece in pieces if piece["source"] == number]
        parts.append(f'<p class="words">{colored(text, own, most)}</p>')
    rows = sorted((piece for piece in pieces), key=lambda piece: -abs(piece["value"]))[:SHOWN]
    parts += [
        "<h2>Largest values</h2>",
        table([found["level"], number_heading("value"), ""], [value_row(row, most) for row in rows]),
    ]
    return make_page(f"{found['target']}: {texts[0][:60]}", f"<main>{''.join(parts)}</main>", STYLE)


def summary(found: Mapping[str, Any]) -> str:
    """Return the score, its baseline and the completeness of an explanation in words."""
    parts = [f"{found['kind']} {found['score']:.3f}"]
    if found["baseline"] is not None:
        total = sum(piece["value"] for piece in found["pieces"])
        parts.append(f"without its words {found['baseline']:.3f}")
        parts.append(f"the values add up to {total:.3f} (missing {found['error']:.4f}, {found['steps']} steps)")
    return "; ".join(parts)


def colored(text: str, pieces: Sequence[Mapping[str, Any]], most: float) -> Html:
    """Return a text whose words have the color of their value."""
    parts: list[str] = []
    place = 0
    for piece in pieces:
        if piece["start"] < place:  # tokens of one character, such as parts of an emoji
            continue
        color, share = "high" if piece["value"] > 0 else "low", min(abs(piece["value"]) / most, 1)
        parts.append(escape(text[place : piece["start"]]))
        parts.append(
            f'<span title="{piece["value"]:+.3f}" style="background:rgba(var(--{color}),{0.65 * share:.3f})">'
            f"{escape(text[piece['start'] : piece['end']])}</span>"
        )
        place = piece["end"]
    return Html("".join([*parts, escape(text[place:])]))


def value_row(piece: Mapping[str, Any], most: float) -> list[Any]:
    """Return a row of the table of values, with a bar to the left or right."""
    value = piece["value"]
    width = 110 * min(abs(value) / most, 1)
    color, begin = ("high", 120) if value > 0 else ("low", 120 - width)
    drawing = (
        f'<td><svg width="240" height="14" role="img"><line x1="120" x2="120" y1="0" y2="14" stroke="var(--line)"/>'
        f'<rect x="{begin:.1f}" y="2" width="{width:.1f}" height="10" fill="rgba(var(--{color}),.6)"/></svg></td>'
    )
    name = piece["text"] if piece["source"] >= 0 else f"{piece['text']} (special token)"
    return [name, number_cell(f"{value:+.3f}"), Html(drawing)]
