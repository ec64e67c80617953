"""Answers as a person reads them on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ... import consoles
from ...pipelines.answers import Metadata
from ...pipelines.catalog import named

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
BAR = 24  # characters of a full bar


def show(console: Console, task: str, item: Any, answer: Any) -> None:
    """One answer."""
    DRAWN[named(task)](console, item, answer)


def scored(console: Console, rows: list[tuple[str, float]], head: str = "") -> None:
    """Names with their scores and bars; bars are of shares, or of the largest score where there are larger ones."""
    if head:
        console.print(Text(head, style="dim"))
    top = max([1.0, *(abs(score) for _, score in rows)])
    table = Table.grid(padding=(0, 1))
    for name, score in rows:
        bar = "█" * round(BAR * max(score, 0.0) / top)
        table.add_row(Text(f"{score:6.3f}"), Text(f"{bar:<{BAR}}", style="cyan"), Text(name))
    console.print(Padding(table, (0, 0, 0, 2)))


def labels(console: Console, item: Any, answer: Any) -> None:
    text = item if isinstance(item, str) else " / ".join(map(str, item.values()))
    rows = answer if isinstance(answer, list) else [answer]
    scored(console, [(row["label"], row["score"]) for row in rows], text)


def chosen(console: Console, item: Any, answer: Mapping[str, Any]) -> None:
    scored(console, list(zip(answer["labels"], answer["scores"], strict=True)), answer["sequence"])


def entities(console: Console, item: Any, answer: list[dict[str, Any]]) -> None:
    """The text with what was found in it coloured by its label, and named once."""
    text = Text(item if isinstance(item, str) else " ".join(item))
    names = list(dict.fromkeys(str(row.get("entity_group", row.get("entity"))) for row in answer))
    for row in answer:
        colour = COLOURS[names.index(str(row.get("entity_group", row.get("entity")))) % len(COLOURS)]
        text.stylize(f"bold {colour} reverse", row["start"], row["end"])
    console.print(text)
    table = Table.grid(padding=(0, 2))
    for row in answer:
        name = str(row.get("entity_group", row.get("entity")))
        table.add_row(
            f"{row['score']:.3f}", Text(name, style=COLOURS[names.index(name) % len(COLOURS)]), Text(str(row["word"]))
        )
    console.print(Padding(table, (0, 0, 0, 2)))


def answers(console: Console, item: Any, answer: Any) -> None:
    """Answers, each where it stands in the context."""
    console.print(Text(str(item.get("question", item.get("query", ""))), style="dim"))
    for row in answer if isinstance(answer, list) else [answer]:
        sure = f"{row['score']:.3f} " if "score" in row else ""
        told = Text.assemble(("→ ", "cyan"), (sure, "dim"), (row["answer"] or "(no answer)", "bold"))
        if "start" in row and row["answer"]:
            context = item["context"]
            told.append("   " + around(context, row["start"], row["end"]), style="dim")
        console.print(told)


def around(text: str, start: int, end: int, room: int = 30) -> str:
    """What stands around a span, in one line."""
    before, after = text[max(start - room, 0) : start], text[end : end + room]
    return " ".join(f"…{before}[{text[start:end]}]{after}…".split())


def filled(console: Console, item: str, answer: Any) -> None:
    masks = answer if answer and isinstance(answer[0], list) else [answer]
    for number, mask in enumerate(masks, 1):
        head = item if len(masks) == 1 else f"{item}   (mask {number})"
        scored(console, [(f"{row['token_str']}   {row['sequence']}", row["score"]) for row in mask], head)


def written(console: Console, item: Any, answer: Any) -> None:
    for row in answer if isinstance(answer, list) else [answer]:
        text = next(iter(row.values()))
        if isinstance(text, list):
            text = text[-1]["content"]
        console.print(Text(str(text)))


def alike(console: Console, item: Mapping[str, Any], answer: list[float]) -> None:
    pairs = sorted(zip(item["sentences"], answer, strict=True), key=lambda pair: -pair[1])
    scored(console, pairs, item["source_sentence"])


def ranked(console: Console, item: Mapping[str, Any], answer: list[dict[str, Any]]) -> None:
    scored(console, [(row.get("text", f"document {row['corpus_id']}"), row["score"]) for row in answer], item["query"])


def features(console: Console, item: str, answer: Any) -> None:
    rows = answer[0]
    console.print(Text(item, style="dim"))
    first = "  ".join(f"{x:+.3f}" for x in rows[0][:6])
    console.print(f"  {len(rows)} tokens x {len(rows[0])} numbers; the first: {first} …")


DRAWN: Mapping[str, Callable[[Console, Any, Any], None]] = {
    "text-classification": labels,
    "zero-shot-classification": chosen,
    "token-classification": entities,
    "question-answering": answers,
    "table-question-answering": answers,
    "fill-mask": filled,
    "summarization": written,
    "translation": written,
    "text-generation": written,
    "text2text-generation": written,
    "sentence-similarity": alike,
    "text-ranking": ranked,
    "feature-extraction": features,
}


@contextmanager
def progress(console: Console, title: str, begin: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """Counts rows on stderr while they are answered, unless nobody reads it."""
    if quiet:
        yield lambda: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with consoles.progress(console, *columns, transient=True) as bar:
        work = bar.add_task(title, total=None, completed=begin)
        yield lambda: bar.advance(work)


def footer(console: Console, told: Metadata, failed: int, output: Path | None) -> None:
    """What was done, by what, how fast; on a terminal only, unless something failed."""
    if not console.is_terminal and not failed:
        return
    rate = f"{told.inputs / told.seconds:,.1f}/s" if told.seconds else ""
    answered = f"{told.inputs} answered in {told.seconds:.2f} s ({rate})"
    model = told.model.partition("#sha256=")[0] + (f" with {told.adapter}" if told.adapter else "")
    parts: list[Any] = [model, told.precision, told.device, answered, f"{told.tokens:,} tokens read"]
    if failed:
        parts.append((f"{failed} not answered", "red"))
    if output is not None:
        parts.append(f"in {output}")
    console.print(Text(" · ", style="dim").join(map(Text.assemble, parts)))
