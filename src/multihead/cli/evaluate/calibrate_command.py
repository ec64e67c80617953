"""`multihead calibrate MODEL FILE`: fit probabilities and thresholds on a labeled file, stored with the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.padding import Padding
from rich.text import Text

from ...consoles import screen
from ...errors import InvalidInput
from ...files import check_target
from ..completion import complete_model
from ..precision import load_options
from ..precision import option as precision_option
from .command import load_pipeline, split_pair

if TYPE_CHECKING:
    from ...evaluation.calibrate import CalibrationResult

TASKS = ("text-classification", "question-answering")


@click.command(name="calibrate")
@click.argument("model", shell_complete=complete_model)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--task", type=click.Choice(TASKS), help="Default: by the head of the model.")
@click.option("--output", type=click.Path(path_type=Path), help="Writes the calibration to this JSON file instead of "
              "the folder of the model.")  # fmt: skip
@click.option("--bias", is_flag=True, help="Also fits a bias of each label, which may change best labels.")
@click.option("--thresholds", is_flag=True, help="Also fits thresholds: below them the answer is 'unknown'. For texts "
              "with several labels, the thresholds of the best F1.")  # fmt: skip
@click.option("--target-precision", type=float, default=0.9, show_default=True,
              help="With --thresholds: share of the remaining answers that should be right.")  # fmt: skip
@click.option("--column", "columns", multiple=True, metavar="KEY=NAME", help="Such as text=review or label=stars.")
@click.option("--map", "labels", multiple=True, metavar="LABEL=MODEL_LABEL",
              help="Says which label of the model a label of the file means.")  # fmt: skip
@click.option("--folds", type=int, default=5, show_default=True, help="Folds of the cross-validation.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the folds and of the bootstrap.")
@precision_option
@click.option("--device", help='Such as "cuda".')
def command(model: str, path: Path, task: str | None, output: Path | None, bias: bool, thresholds: bool,
            target_precision: float, columns: tuple[str, ...], labels: tuple[str, ...], folds: int, seed: int,
            precision: str, device: str | None) -> None:  # fmt: skip
    """Fits the probabilities of MODEL on the labeled rows of FILE.

    A temperature, and thresholds if wanted, are stored with the model. FILE must hold rows that the model was not
    trained on. The errors after the fit are those of cross-validation: no row is scored by a calibration that was
    fitted on it. A question answerer gets the probability of "no answer" and its threshold of the best F1; FILE then
    needs questions with and without an answer.

    \b
    Examples:
      multihead calibrate ./classifier dev.csv
      multihead calibrate ./classifier dev.csv --thresholds --target-precision 0.95
      multihead calibrate multihead:answers-minilm dev.json --output no_answer.json
    """
    from ...evaluation.calibrate import calibrate
    from ...evaluation.rows import labeled_rows
    from ...training.signals import Signals

    folder = Path(model).expanduser()
    if output is not None:
        check_target(output, "--output", [path])
    elif not folder.is_dir():
        raise InvalidInput(f"{model} is no folder that a calibration could be stored in: name a file with --output.")
    rows = labeled_rows(path)
    pairs = [dict(split_pair(pair, name) for pair in given) for given, name in ((columns, "column"), (labels, "map"))]
    with Signals(at_once=True):
        pipe = load_pipeline(task or task_of(model), model, {**load_options(precision, device), "device": device})
        result = calibrate(
            pipe, rows, columns=pairs[0], label_map=pairs[1], bias=bias, thresholds=thresholds,
            precision=target_precision, folds=folds, seed=seed,
        )  # fmt: skip
    print_result(result)
    file = result.calibration.save(output or folder)
    screen().print(Text(f"Stored in {file}."), soft_wrap=True)
    if output is not None:
        option = json.dumps(str(output))
        screen().print(Text(f"Use it: pipeline(..., calibration={option})", style="dim"), soft_wrap=True)


def task_of(model: str) -> str:
    """Return the task of a model by the head of its checkpoint, or by the modules that its adapter saves."""
    from ...adapters.config import TASK_HEADS
    from ...config import read_json
    from ...hub import Want, resolve
    from ...hub.choice import ADAPTER_CONFIG
    from ...modeling.auto import AutoConfig

    adapter = resolve(model, (Want.CONFIG,)) / ADAPTER_CONFIG
    if adapter.is_file():
        saved = read_json(adapter).get("modules_to_save") or ()
        return TASKS[1] if set(saved) & set(TASK_HEADS["QUESTION_ANS"]) else TASKS[0]
    names = AutoConfig.from_pretrained(model).architectures or [""]
    return TASKS[1] if names[0].endswith("ForQuestionAnswering") else TASKS[0]


def print_result(result: CalibrationResult) -> None:
    """Print the metrics before and after, and what was fitted."""
    from ...evaluation.page import between, number
    from .terminal import plain_table

    console = screen()
    console.print(Text.assemble((result.task, "bold"), "  ", result.model), soft_wrap=True)
    left_out = f", {result.failures:,} left out" if result.failures else ""
    console.print(Text(f"{result.source}: {result.rows:,} rows{left_out}", style="dim"))
    for note in result.notes:
        console.print(Text(f"Note: {note}", style="yellow"))
    table = plain_table("metric", "before", "interval", "after", "interval")
    for name, value in result.after.items():
        before = result.before.get(name)
        table.add_row(
            name, number(before), between(result.intervals_before.get(name)), Text(number(value), style="bold"),
            between(result.intervals_after.get(name)),
        )  # fmt: skip
    console.print(Padding(table, (1, 0, 0, 2)))
    console.print(Text("  after: cross-validated; 95% bootstrap intervals over rows", style="dim"))
    found = result.calibration
    console.print(Text(f"temperature {found.temperature:.3f}"))
    for name, values in (("bias", found.bias), ("thresholds", found.thresholds)):
        if values:
            console.print(Text(f"{name}: " + ", ".join(f"{label} {value:.3f}" for label, value in values.items())))
