"""`multihead dedupe FILE`: the rows that do not repeat others."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..consoles import screen
from ..errors import InvalidInput, MultiheadError
from .encoders import encoder_options, load_encoder
from .row_output import ENDINGS, check_row_output, row_values, write_rows
from .text_rows import TextRow, read_rows, sentence

if TYPE_CHECKING:
    from rich.console import Console

    from ..retrieval.duplicates import Deduplicated

SHOWN = 8  # groups on a terminal


@click.command(name="dedupe")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--column", metavar="NAME", help="The column of texts.")
@click.option("--id", "id_column", metavar="NAME", help="The column of ids, for --report. Default: the row's number.")
@click.option("--threshold", type=click.FloatRange(min=0, min_open=True), default=0.9, show_default=True,
              help="Cosine from which a row repeats another. Above 1: equal texts only.")  # fmt: skip
@click.option("--keep", type=click.Choice(["first", "last", "longest"]), default="first", show_default=True,
              help="Which of the rows that repeat each other is kept.")  # fmt: skip
@click.option("--ignore-numbers", is_flag=True, help="Rows with different numbers in digits may repeat each other.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Writes the rows that are kept: .jsonl, .csv, .tsv, .txt."
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Writes a line for each row that is left out: .jsonl, .csv."
)
@click.option("--overwrite", is_flag=True, help="Replaces existing files.")
@encoder_options
@click.option("--json", "as_json", is_flag=True, help="Prints JSON on a terminal too.")
def command(path: Path, column: str | None, id_column: str | None, threshold: float, keep: str, ignore_numbers: bool,
            output: Path | None, report: Path | None, overwrite: bool, model: str | None, prompt: str | None,
            prompt_name: str | None, truncate_dim: int | None, no_truncation: bool, precision: str,
            device: str | None, as_json: bool) -> None:  # fmt: skip
    """Leaves out the rows of FILE that repeat others.

    A row repeats a kept one if their texts are equal but for case, white space and Unicode forms, or if the cosine of
    their embeddings is --threshold or more. A row without an embedding is kept and named. The same file and options
    leave out the same rows.

    \b
    Examples:
      multihead dedupe reviews.csv --column review --output kept.csv --report pairs.csv
      multihead dedupe lines.txt --threshold 1.1 --output kept.txt
    """
    check_row_output(output, "--output", overwrite, path, ENDINGS)
    check_row_output(report, "--report", overwrite, path, ENDINGS[:3])
    if output is not None and output == report:
        raise InvalidInput(f"--output and --report are both {output}. Name two files.")
    rows = readable_rows(read_rows((), path, column, id_column), path)
    from ..retrieval.duplicates import deduplicate

    encoder = None if threshold > 1 else load_encoder(model, precision, device)[0]
    before = encoder.prompt_text(prompt_name, prompt) if encoder and (prompt or prompt_name) else None
    found = deduplicate(
        [row.text for row in rows], encoder, threshold=threshold, keep=keep, same_numbers=not ignore_numbers,
        prompt=before, truncate_dim=truncate_dim, truncation=not no_truncation,
    )  # fmt: skip
    log = screen(stderr=True)
    for row, error in found.errors.items():
        log.print(f"Row {rows[row].number} is kept: it {sentence(error)}", style="yellow", soft_wrap=True)
    if output is not None:
        write_rows(output, (row_values(rows[row]) for row in found.kept))
    if report is not None:
        write_rows(report, report_rows(rows, found))
    console = screen()
    if console.is_terminal and not as_json:
        draw(console, rows, found)
    else:
        print(json.dumps(summary(rows, found)))


def readable_rows(rows: Any, path: Path) -> list[TextRow]:
    """Return the rows of a file, and name those that cannot be read. Raises InvalidInput if there are none."""
    log, found = screen(stderr=True), []
    for row in rows:
        if isinstance(row.text, MultiheadError) and not row.values:
            log.print(f"Row {row.number} is left out: it {sentence(row.text)}", style="red", soft_wrap=True)
        else:
            found.append(row)
    if not found:
        raise InvalidInput(f"{path} has no rows.")
    return found


def report_rows(rows: Sequence[TextRow], found: Deduplicated) -> list[dict[str, Any]]:
    """Return a row for each duplicate: its id, that of the kept row, the cosine, both texts."""
    return [
        {
            "row": rows[each.row].number, "id": rows[each.row].id, "kept_row": rows[each.kept].number,
            "kept_id": rows[each.kept].id, "score": round(each.score, 6), "kind": "equal" if each.exact else "near",
            "text": rows[each.row].text, "kept_text": rows[each.kept].text,
        }
        for each in found.duplicates
    ]  # fmt: skip


def summary(rows: Sequence[TextRow], found: Deduplicated) -> dict[str, int]:
    """Return the numbers of rows that are kept and left out."""
    equal = sum(each.exact for each in found.duplicates)
    return {
        "rows": len(rows), "kept": len(found.kept), "equal": equal, "near": len(found.duplicates) - equal,
        "groups": len(found.groups), "without_embedding": len(found.errors),
    }  # fmt: skip


def draw(console: Console, rows: Sequence[TextRow], found: Deduplicated) -> None:
    """Print the largest groups and the numbers of rows."""
    from rich.text import Text

    for kept, group in list(found.groups.items())[:SHOWN]:
        console.print(Text(f"{rows[kept].id}  ", style="dim").append(short(rows[kept].text), style="bold"))
        for each in group[:4]:
            line = Text(f"  {'equal' if each.exact else f'{each.score:.3f}'}  ", style="cyan")
            console.print(
                line.append(f"{rows[each.row].id}  ", style="dim").append(short(rows[each.row].text), style="")
            )
        if len(group) > 4:
            console.print(f"  and {len(group) - 4} more", style="dim")
    numbers = summary(rows, found)
    console.print(
        f"{numbers['rows']} rows: {numbers['kept']} kept, {numbers['equal']} equal to others, {numbers['near']} near "
        f"others, in {numbers['groups']} groups"
    )
    sys.stdout.flush()


def short(text: Any) -> str:
    """Return the beginning of a text as one line."""
    line = " ".join(str(text).split())
    return line if len(line) <= 100 else f"{line[:99]}…"
