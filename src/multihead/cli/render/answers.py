"""Answers of pipelines on a terminal: the functions that `Task.renderer` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...pipelines.catalog import get_task

COLORS = ("cyan", "magenta", "green", "yellow", "blue", "red")
BAR_WIDTH = 24  # characters of a full bar
Renderer = Callable[[Console, Any, Any], None]


def render(console: Console, task: str, item: Any, answer: Any) -> None:
    """Print one answer with the renderer of its task."""
    renderer_of(task)(console, item, answer)


def renderer_of(task: str) -> Renderer:
    """Return the function that the task's entry names: one of this file, or "file.function" in `pipelines`."""
    file, _, name = get_task(task).renderer.rpartition(".")
    module = import_module(f"...pipelines.{file}" if file else __name__, __package__)
    renderer: Renderer = getattr(module, name)
    return renderer


def score_bars(console: Console, rows: list[tuple[str, float]], title: str = "") -> None:
    """Print names with scores and bars. A full bar is 1, or the largest absolute score if that is more."""
    if title:
        console.print(Text(title, style="dim"))
    top = max([1.0, *(abs(score) for _, score in rows)])
    table = Table.grid(padding=(0, 1))
    for name, score in rows:
        bar = "█" * round(BAR_WIDTH * max(score, 0.0) / top)
        table.add_row(Text(f"{score:6.3f}"), Text(f"{bar:<{BAR_WIDTH}}", style="cyan"), Text(name))
    console.print(Padding(table, (0, 0, 0, 2)))


def labels(console: Console, item: Any, answer: Any) -> None:
    """Print the labels of a text or a pair with bars."""
    text = item if isinstance(item, str) else " / ".join(map(str, item.values()))
    rows = answer if isinstance(answer, list) else [answer]
    score_bars(console, [(row["label"], row["score"]) for row in rows], text)


def ranked_labels(console: Console, item: Any, answer: Mapping[str, Any]) -> None:
    """Print candidate labels with bars, the likeliest first."""
    score_bars(console, list(zip(answer["labels"], answer["scores"], strict=True)), answer["sequence"])


def decisions(console: Console, item: Any, answer: Mapping[str, Any]) -> None:
    """Print the input, then each question's answer with the probabilities of its options."""
    given = item["input"]
    console.print(Text(given if isinstance(given, str) else str(given[-1].get("content", "")), style="dim"))
    for number, row in enumerate(answer["answers"], 1):
        name = row["name"] or f"question {number}"
        if row["type"] == "predicate":
            score_bars(console, [("true", row["probability"])], name)
            continue
        best = row["choice"] if row["type"] == "choice" else f"{row['score']:.2f}"
        rows = [(str(each.get("label") or each["value"]), each["probability"]) for each in row["probabilities"]]
        score_bars(console, rows, f"{name}: {best} (confidence {row['confidence']:.2f})")


def entities(console: Console, item: Any, answer: list[dict[str, Any]]) -> None:
    """Print the text with its entities in the color of their label, then one line an entity."""
    text = Text(item if isinstance(item, str) else " ".join(item))
    names = list(dict.fromkeys(str(row.get("entity_group", row.get("entity"))) for row in answer))
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    table = Table.grid(padding=(0, 2))
    for row in answer:
        name = str(row.get("entity_group", row.get("entity")))
        text.stylize(f"bold {colors[name]} reverse", row["start"], row["end"])
        table.add_row(f"{row['score']:.3f}", Text(name, style=colors[name]), Text(str(row["word"])))
    console.print(text)
    console.print(Padding(table, (0, 0, 0, 2)))


def answers(console: Console, item: Any, answer: Any) -> None:
    """Print the question and its answers, each with the context around it."""
    console.print(Text(str(item.get("question", item.get("query", ""))), style="dim"))
    for row in answer if isinstance(answer, list) else [answer]:
        score = f"{row['score']:.3f} " if "score" in row else ""
        line = Text.assemble(("→ ", "cyan"), (score, "dim"), (row["answer"] or "(no answer)", "bold"))
        if "start" in row and row["answer"]:
            line.append("   " + excerpt(item["context"], row["start"], row["end"]), style="dim")
        console.print(line)


def quotations(console: Console, item: Any, answer: Mapping[str, Any]) -> None:
    """Print a question, its answer and the sentences of the documents that it is from."""
    console.print(Text(str(item.get("question", "") if isinstance(item, Mapping) else item), style="dim"))
    line = (("→ ", "cyan"), (f"{answer['score']:.3f} ", "dim"), (answer["answer"] or "(no answer)", "bold"))
    console.print(Text.assemble(*line))
    for source in answer["sources"]:
        quote = " ".join(source["text"].split())
        place = f"{source['document']}, {source['start']}-{source['end']}"
        console.print(Padding(Text.assemble((f"“{quote}” ", ""), (place, "dim")), (0, 0, 0, 2)))


def excerpt(text: str, start: int, end: int, margin: int = 30) -> str:
    """Return a span in brackets with `margin` characters on each side, in one line."""
    before, after = text[max(start - margin, 0) : start], text[end : end + margin]
    return " ".join(f"…{before}[{text[start:end]}]{after}…".split())


def masks(console: Console, item: str, answer: Any) -> None:
    """Print the suggested words of each mask with bars."""
    rows = answer if answer and isinstance(answer[0], list) else [answer]
    for number, words in enumerate(rows, 1):
        title = item if len(rows) == 1 else f"{item}   (mask {number})"
        score_bars(console, [(f"{row['token_str']}   {row['sequence']}", row["score"]) for row in words], title)


def texts(console: Console, item: Any, answer: Any) -> None:
    """Print generated texts; of a conversation, the last message."""
    for row in answer if isinstance(answer, list) else [answer]:
        text = next(iter(row.values()))
        if isinstance(text, list):
            text = text[-1]["content"]
        console.print(Text(str(text)))
        if row.get("finish_reason") == "length":
            console.print(Text("(cut at its limit of tokens or time; max_new_tokens allows more)", style="dim"))


def similarities(console: Console, item: Mapping[str, Any], answer: list[float]) -> None:
    """Print the compared sentences with bars, the most similar first."""
    rows = sorted(zip(item["sentences"], answer, strict=True), key=lambda row: -row[1])
    score_bars(console, rows, item["source_sentence"])


def ranking(console: Console, item: Mapping[str, Any], answer: list[dict[str, Any]]) -> None:
    """Print ranked documents with bars."""
    rows = [(row.get("text", f"document {row['corpus_id']}"), row["score"]) for row in answer]
    score_bars(console, rows, item["query"])


def features(console: Console, item: str, answer: Any) -> None:
    """Print the text, the shape of its hidden states and the first numbers."""
    rows = answer[0]
    console.print(Text(item, style="dim"))
    first = "  ".join(f"{x:+.3f}" for x in rows[0][:6])
    console.print(f"  {len(rows)} tokens x {len(rows[0])} numbers; the first: {first} …")
