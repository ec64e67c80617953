"""HTML pages that need no network: a shared style, and templates whose values are escaped."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from .terminal import visible

PLACE = re.compile(r"\{\{(\w+)\}\}")
STYLE = """
  :root { color-scheme: light dark; --paper: #fff; --ink: #23272f; --soft: #6b7280; --line: #d7dbe2; --high: 11,61,145;
    --low: 178,34,34; --pick: #d9480f; }
  @media (prefers-color-scheme: dark) {
    :root { --paper: #14171c; --ink: #e6e8ec; --soft: #9aa3af; --line: #343a44; --high: 126,180,255; --low: 255,138,128;
      --pick: #ffa94d; }
  }
  body { margin: 0; padding: 20px 24px 40px; background: var(--paper); color: var(--ink);
    font: 15px/1.5 system-ui, sans-serif; }
"""
REPORT_STYLE = """
  h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 16px; margin: 26px 0 6px; }
  p { color: var(--soft); margin: 2px 0 8px; max-width: 80ch; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
  th { color: var(--soft); font-weight: 500; } td.n, th.n { text-align: right; }
  .soft { color: var(--soft); } .note { border-left: 3px solid var(--pick); padding: 2px 10px; color: var(--ink); }
"""  # of pages of headings, paragraphs and tables
FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>{{style}}</style>
</head>
<body>
{{body}}
</body>
</html>
"""


class Html(str):
    """Text that is HTML already, so that it is not escaped again."""


def escape(text: Any) -> Html:
    """Return a text as HTML, with control characters visible. HTML stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(visible(str(text))))


def fill_template(template: str, **values: Any) -> str:
    """Replace each `{{name}}` of a template by its value, escaped unless it is `Html`."""
    return PLACE.sub(lambda found: escape(values[found[1]]), template)


def script_json(data: Any) -> Html:
    """Return data as JSON for a script of a page, in which no text can end the script."""
    return Html(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"))


def make_page(title: str, body: str, style: str = "") -> str:
    """Return a page of the shared style.

    Args:
        body: HTML. style: further rules.
    """
    return fill_template(FRAME, title=title, style=Html(STYLE + style), body=Html(body))


def table(header: list[Any], rows: list[list[Any]], css: str = "") -> Html:
    """Return an HTML table; cells are escaped unless they are `Html`, and a cell of `Html` may be a whole `<td>`."""

    def cell(value: Any, tag: str) -> str:
        return value if isinstance(value, Html) and value.startswith("<t") else f"<{tag}>{escape(value)}</{tag}>"

    lines = [f"<tr>{''.join(cell(value, 'td') for value in row)}</tr>" for row in rows]
    head = f"<thead><tr>{''.join(cell(name, 'th') for name in header)}</tr></thead>" if header else ""
    return Html(f'<table class="{css}">{head}<tbody>{"".join(lines)}</tbody></table>')


def number_cell(text: str) -> Html:
    """Return a table cell that is aligned to the right."""
    return Html(f'<td class="n">{escape(text)}</td>')


def number_heading(text: str) -> Html:
    """Return the heading of a column of numbers."""
    return Html(f'<th class="n">{escape(text)}</th>')
