"""`multihead bench`: what a model costs on this machine, by precision, length, batch and concurrency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...config import write_json
from ...consoles import screen
from ...errors import InvalidInput
from ...files import check_target, held, replacing
from ...kernels.quantization.registry import PRECISIONS
from ..completion import complete_model
from ..models import size as megabytes
from ..precision import on_cpu

if TYPE_CHECKING:
    from .measure import Cell, Sweep

MEASURED = tuple(name for name, row in PRECISIONS.items() if not row.needs_file)
WELL = 0.5  # share of a limit from which on it is green


def numbers(context: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    """Numbers with commas between them, rising. Raises BadParameter."""
    try:
        found = tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{value!r} must be whole numbers with commas between them, such as 16,128.") from None
    if found[0] < 1:
        raise click.BadParameter(f"{value!r} must be numbers from 1 on.")
    return found


@click.command(name="bench")
@click.argument("names", metavar="[MODEL]...", nargs=-1, shell_complete=complete_model)
@click.option(
    "--precision",
    "-p",
    "precisions",
    multiple=True,
    type=click.Choice(list(PRECISIONS)),
    default=MEASURED,
    help="One to measure; may be given several times. All but gguf, which keeps a file's codes, without it.",
)
@click.option(
    "--lengths", callback=numbers, default="16,32,64,128,256,512", show_default=True, help="Tokens of one text."
)
@click.option("--batches", callback=numbers, default="1,2,4,8,16,32", show_default=True, help="Texts at once.")
@click.option("--tokens", type=click.IntRange(1), default=64, show_default=True, help="Of each of these texts.")
@click.option(
    "--new", type=click.IntRange(1), default=32, show_default=True, help="Tokens that are written for a text."
)
@click.option("--beams", type=click.IntRange(1), default=1, show_default=True, help="Of encoder-decoders.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Turns; their median is shown.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True, help="Of a turn, at least."
)
@click.option(
    "--longest",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Seconds of a run from which on larger ones are left out.",
)
@click.option("--device", help='Such as "cuda".')
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Writes all of it here.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path),
              help="Draws it here: a file that ends in .svg, .png or .pdf. Needs matplotlib.")  # fmt: skip
def command(
    names: tuple[str, ...], precisions: tuple[str, ...], device: str | None, json_path: Path | None, plot: Path | None,
    **given: Any,
) -> None:  # fmt: skip
    """Measures what models cost here: by precision, length of text, texts at once.

    MODEL is what `multihead run` takes; without one, a small encoder and a small language model are measured.
    Precisions take alternating turns. "%" is the share of what this machine's products and memory, measured first,
    would allow.

    \b
    Examples:
      multihead bench
      multihead bench sentence-transformers/all-MiniLM-L6-v2 --precision bf16 --precision int8
      multihead bench ./llm --batches 1,16,64 --new 64 --json cost.json --plot cost.svg
    """
    from ...pipelines.defaults import MINILM, SMOLLM2
    from ..doctor import checks as machine
    from . import measure as costs

    if plot is not None:
        plots()
    for path, option in ((json_path, "--json"), (plot, "--plot")):
        if path is not None:
            check_target(path, option, [file for name in names for file in held(name)])
    console = screen()
    settings = costs.Settings(**given)
    with screen(stderr=True).status("Measuring the machine"):
        limits = costs.machine_limits() if on_cpu(device) else {}
    console.print(headline(machine.told(machine.processor), limits))
    console.print(
        Text(f"x: times {precisions[0]}   %: of what this machine's products and memory would allow", style="dim")
    )
    found = []
    for name in names or (MINILM.name, SMOLLM2.name):
        found.append(measured(console, name, tuple(dict.fromkeys(precisions)), device, settings, limits))
    whole = {"machine": machine.facts(), "limits": limits, "settings": vars(settings), "models": found}
    if json_path is not None:
        write_json(json_path, whole)
    if plot is not None:
        draw(found, plot)
        console.print(f"drawn to {plot}")


def measured(
    console: Console, name: str, precisions: Sequence[str], device: str | None, settings: Any, limits: dict[str, float]
) -> dict[str, Any]:
    """One model's tables, as they are found; gives them as data."""
    import torch

    from . import measure as costs

    console.print(Text.assemble("\n", (name, "bold cyan")))
    models: dict[str, Any] = {}
    loads: list[dict[str, Any]] = []
    for precision in precisions:
        began = time.perf_counter()
        with screen(stderr=True).status(f"Loading in {precision}"):
            models[precision] = costs.loaded(name, precision, device)
        held = sum(x.nbytes for x in (*models[precision].parameters(), *models[precision].buffers()))
        loads.append({"precision": precision, "seconds": time.perf_counter() - began, "bytes": held})
    for one in loads:
        console.print(f"{one['precision']:<5}{megabytes(one['bytes']):>9}, loaded in {one['seconds']:.2f} s")
    said: list[str] = []
    found = []
    for sweep in costs.sweeps(next(iter(models.values())), settings):
        with torch.inference_mode(), screen(stderr=True).status(sweep.title):
            cells = costs.measure(sweep, models, settings, limits, said.append)
        console.print(Text(f"\n{sweep.title}: {sweep.unit}", style="italic"))
        console.print(table(sweep, precisions, cells))
        found.append(data(sweep, cells))
    for line in said:
        console.print(Text(line, style="yellow"))
    kind = type(next(iter(models.values()))).__name__
    return {"name": name, "class": kind, "loads": loads, "sweeps": found, "left_out": said}


def headline(processor: Any, limits: dict[str, float]) -> Text:
    """The machine and what it reaches."""
    told = processor if isinstance(processor, str) else "unknown processor"
    rates = [
        f"{name} {limits[name] / 1e9:.0f}"
        for name in dict.fromkeys(row.arithmetic for row in PRECISIONS.values())
        if name in limits
    ]
    if not rates:
        return Text(told, style="bold")
    reads = f"; memory is read at {limits['bytes'] / 1e9:.1f} GB/s"
    return Text.assemble((told, "bold"), f"\nproducts of {', '.join(rates)} GFLOP/s{reads}")


def table(sweep: Sweep, precisions: Sequence[str], cells: Sequence[Cell]) -> Table:
    """Sizes down, precisions across: the rate, its ratio to the first precision's, the share of the limit."""
    drawn = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column(sweep.size, justify="right", style="cyan")
    for precision in precisions:
        for name in (precision, "x", "%"):
            if name != "x" or precision != precisions[0]:
                drawn.add_column(name, justify="right", no_wrap=True)
    for count in dict.fromkeys(cell.size for cell in cells):
        here = {cell.precision: cell for cell in cells if cell.size == count}
        row: list[str | Text] = [f"{count:,}"]
        for precision in precisions:
            row += shown(here.get(precision), here.get(precisions[0]), precision == precisions[0])
        drawn.add_row(*row)
    return drawn


def shown(cell: Cell | None, base: Cell | None, first: bool) -> list[str | Text]:
    if cell is None:
        return [""] * (2 if first else 3)
    share = None if cell.limit is None else cell.median / cell.limit
    ratio = Text("" if base is None else f"{cell.median / base.median:.2f}", style="bold")
    known = Text("" if share is None else f"{100 * share:.0f}", style="green" if share and share >= WELL else "dim")
    return [rounded(cell.median), known] if first else [rounded(cell.median), ratio, known]


def rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def data(sweep: Sweep, cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "name": sweep.name, "title": sweep.title, "size": sweep.size, "unit": sweep.unit,
        "cells": [{**vars(cell), "median": cell.median} for cell in cells],
    }  # fmt: skip


def plots() -> Any:
    """matplotlib. Raises InvalidInput where it is not installed."""
    try:
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError as error:
        raise InvalidInput(
            'A plot needs matplotlib: python -m pip install "multihead[pictures]". --json writes the numbers.'
        ) from error
    return matplotlib


def draw(models: Sequence[dict[str, Any]], path: Path) -> None:
    """A row a model, a panel a sweep, a line a precision; both axes are logarithmic, dotted lines are the limits."""
    rows, columns = len(models), max(len(model["sweeps"]) for model in models)
    page = plots().figure.Figure(figsize=(4.6 * columns, 3.9 * rows), layout="constrained")
    parts = [page] if rows == 1 else page.subfigures(rows)
    for part, model in zip(parts, models, strict=True):
        part.suptitle(f"{short(model['name'])}, {model['class']}", fontsize=11, x=0.01, ha="left", weight="bold")
        panels = part.subplots(1, columns, squeeze=False)[0]
        for panel in panels[len(model["sweeps"]) :]:
            panel.axis("off")
        for panel, sweep in zip(panels, model["sweeps"], strict=False):
            if sweep["cells"]:
                _panel(panel, sweep)
    try:
        with replacing(path) as new:
            page.savefig(new)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be drawn: {error}") from error


def short(name: str) -> str:
    """What a person calls a model: its package, or the last part of its path."""
    if name.startswith("pypi:"):
        return name.removeprefix("pypi:").partition("==")[0]
    return name.rstrip("/").rsplit("/", 1)[-1]


def _panel(panel: Any, sweep: dict[str, Any]) -> None:
    for number, precision in enumerate(dict.fromkeys(cell["precision"] for cell in sweep["cells"])):
        cells = [cell for cell in sweep["cells"] if cell["precision"] == precision]
        sizes = [cell["size"] for cell in cells]
        panel.plot(sizes, [cell["median"] for cell in cells], "o-", color=f"C{number}", ms=4, label=precision)
        if all(cell["limit"] for cell in cells):
            panel.plot(sizes, [cell["limit"] for cell in cells], ":", color=f"C{number}", lw=1)
    scaled(panel, sorted({cell["size"] for cell in sweep["cells"]}), sweep["size"], sweep["unit"])
    panel.set_title(sweep["title"], fontsize=9, loc="left")
    panel.legend(fontsize=8)


def scaled(panel: Any, sizes: Sequence[int], across: str, up: str) -> None:
    """Gives a panel logarithmic axes with plain numbers, a tick for each size."""
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.yaxis.set_major_locator(plots().ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:,g}")
    panel.minorticks_off()
    panel.grid(visible=True, which="major", alpha=0.3)
    panel.set_xlabel(across)
    panel.set_ylabel(up)
