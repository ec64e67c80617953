"""`multihead bench`: speed of models on this machine, by precision, sequence length, batch size and concurrency."""

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
from ...files import check_target, model_files, replace_file
from ...kernels.quantization.registry import PRECISIONS
from ...pipelines.precision import on_cpu
from ..completion import complete_model
from ..models import size as megabytes

if TYPE_CHECKING:
    from .measure import Cell, Sweep

MEASURED = tuple(name for name, row in PRECISIONS.items() if not row.needs_file)
GOOD_SHARE = 0.5  # share of the machine's limit from which on a number is green


def parse_numbers(context: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    """Return whole numbers separated by commas, in rising order. Raises BadParameter."""
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
    help="Measures one precision; may be given several times. Default: all but gguf, which needs a GGUF file.",
)
@click.option(
    "--lengths",
    callback=parse_numbers,
    default="16,32,64,128,256,512",
    show_default=True,
    help="Lengths of one text, in tokens.",
)
@click.option(
    "--batches", callback=parse_numbers, default="1,2,4,8,16,32", show_default=True, help="Numbers of texts at once."
)
@click.option("--tokens", type=click.IntRange(1), default=64, show_default=True, help="Tokens of each of these texts.")
@click.option("--new", type=click.IntRange(1), default=32, show_default=True, help="Tokens to generate for each text.")
@click.option("--beams", type=click.IntRange(1), default=1, show_default=True, help="Beams of encoder-decoders.")
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Runs of each size; the median is shown.",
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True, help="Shortest time of a run."
)
@click.option(
    "--longest",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Leaves out larger sizes once a run takes so many seconds.",
)
@click.option("--device", help='Such as "cuda".')
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Writes all numbers to a file."
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path),
              help="Draws the tables to a file that ends in .svg, .png or .pdf. Needs matplotlib.")  # fmt: skip
def command(
    names: tuple[str, ...], precisions: tuple[str, ...], device: str | None, json_path: Path | None, plot: Path | None,
    **given: Any,
) -> None:  # fmt: skip
    """Measures the speed of models on this machine.

    The tables show it by precision, length of text and texts at once. MODEL is any name that `multihead run` takes;
    default: a small encoder and a small language model. The runs of different precisions alternate. "%" is the share of
    this machine's limit, from its matrix products and memory bandwidth, which are measured first.

    \b
    Examples:
      multihead bench
      multihead bench sentence-transformers/all-MiniLM-L6-v2 --precision bf16 --precision int8
      multihead bench ./llm --batches 1,16,64 --new 64 --json cost.json --plot cost.svg
    """
    from ... import machine_facts as checks
    from ...pipelines.defaults import MINILM, SMOLLM2
    from . import measure as bench

    if plot is not None:
        import_matplotlib()
    for path, option in ((json_path, "--json"), (plot, "--plot")):
        if path is not None:
            check_target(path, option, [file for name in names for file in model_files(name)])
    console = screen()
    settings = bench.Settings(**given)
    with screen(stderr=True).status("Measuring the machine"):
        limits = bench.machine_limits() if on_cpu(device) else {}
    console.print(headline(checks.value_or_error(checks.processor), limits))
    console.print(
        Text(
            f"x: speed relative to {precisions[0]}   %: share of the limit of this machine's products and memory",
            style="dim",
        )
    )
    results = []
    for name in names or (MINILM.name, SMOLLM2.name):
        results.append(measure_model(console, name, tuple(dict.fromkeys(precisions)), device, settings, limits))
    whole = {"machine": checks.facts(), "limits": limits, "settings": vars(settings), "models": results}
    if json_path is not None:
        write_json(json_path, whole)
    if plot is not None:
        draw(results, plot)
        console.print(f"The plot is in {plot}.")


def measure_model(
    console: Console, name: str, precisions: Sequence[str], device: str | None, settings: Any, limits: dict[str, float]
) -> dict[str, Any]:
    """Print the tables of one model and return their numbers."""
    import torch

    from . import measure as bench

    console.print(Text.assemble("\n", (name.partition("#sha256=")[0], "bold cyan")))
    models: dict[str, Any] = {}
    loads: list[dict[str, Any]] = []
    for precision in precisions:
        start = time.perf_counter()
        with screen(stderr=True).status(f"Loading in {precision}"):
            models[precision] = bench.load(name, precision, device)
        size = sum(x.nbytes for x in (*models[precision].parameters(), *models[precision].buffers()))
        loads.append({"precision": precision, "seconds": time.perf_counter() - start, "bytes": size})
    for one in loads:
        console.print(f"{one['precision']:<5}{megabytes(one['bytes']):>9}, loaded in {one['seconds']:.2f} s")
    notes: list[str] = []
    tables = []
    for sweep in bench.sweeps(next(iter(models.values())), settings):
        with torch.inference_mode(), screen(stderr=True).status(sweep.title):
            cells = bench.measure(sweep, models, settings, limits, notes.append)
        console.print(Text(f"\n{sweep.title}: {sweep.unit}", style="italic"))
        console.print(table(sweep, precisions, cells))
        tables.append(sweep_data(sweep, cells))
    for line in notes:
        console.print(Text(line, style="yellow"))
    kind = type(next(iter(models.values()))).__name__
    return {"name": name, "class": kind, "loads": loads, "sweeps": tables, "left_out": notes}


def headline(processor: Any, limits: dict[str, float]) -> Text:
    """Return the name of the processor and its measured limits."""
    name = processor if isinstance(processor, str) else "unknown processor"
    kinds = dict.fromkeys(row.arithmetic for row in PRECISIONS.values())
    rates = [f"{kind} {limits[kind] / 1e9:.0f}" for kind in kinds if kind in limits]
    if not rates:
        return Text(name, style="bold")
    reads = f"; memory reads at {limits['bytes'] / 1e9:.1f} GB/s"
    return Text.assemble((name, "bold"), f"\nmatrix products: {', '.join(rates)} GFLOP/s{reads}")


def table(sweep: Sweep, precisions: Sequence[str], cells: Sequence[Cell]) -> Table:
    """Return a table with a row a size and three columns a precision: rate, ratio to the first, share of the limit."""
    result = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    result.add_column(sweep.size, justify="right", style="cyan")
    for precision in precisions:
        for name in (precision, "x", "%"):
            if name != "x" or precision != precisions[0]:
                result.add_column(name, justify="right", no_wrap=True)
    for count in dict.fromkeys(cell.size for cell in cells):
        here = {cell.precision: cell for cell in cells if cell.size == count}
        row: list[str | Text] = [f"{count:,}"]
        for precision in precisions:
            row += cell_texts(here.get(precision), here.get(precisions[0]), precision == precisions[0])
        result.add_row(*row)
    return result


def cell_texts(cell: Cell | None, base: Cell | None, first: bool) -> list[str | Text]:
    if cell is None:
        return [""] * (2 if first else 3)
    share = None if cell.limit is None else cell.median / cell.limit
    ratio = Text("" if base is None else f"{cell.median / base.median:.2f}", style="bold")
    percent = Text(
        "" if share is None else f"{100 * share:.0f}", style="green" if share and share >= GOOD_SHARE else "dim"
    )
    return [rounded(cell.median), percent] if first else [rounded(cell.median), ratio, percent]


def rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def sweep_data(sweep: Sweep, cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "name": sweep.name, "title": sweep.title, "size": sweep.size, "unit": sweep.unit,
        "cells": [{**vars(cell), "median": cell.median} for cell in cells],
    }  # fmt: skip


def import_matplotlib() -> Any:
    """Return matplotlib. Raises InvalidInput if it is not installed."""
    try:
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError as error:
        raise InvalidInput(
            'A plot needs matplotlib: python -m pip install "multihead[pictures]". --json writes the numbers.'
        ) from error
    return matplotlib


def draw(models: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a row a model, a panel a sweep, a line a precision. Axes are logarithmic, dotted lines are the limits."""
    rows, columns = len(models), max(len(model["sweeps"]) for model in models)
    page = import_matplotlib().figure.Figure(figsize=(4.6 * columns, 3.9 * rows), layout="constrained")
    parts = [page] if rows == 1 else page.subfigures(rows)
    for part, model in zip(parts, models, strict=True):
        part.suptitle(f"{short_name(model['name'])}, {model['class']}", fontsize=11, x=0.01, ha="left", weight="bold")
        panels = part.subplots(1, columns, squeeze=False)[0]
        for panel in panels[len(model["sweeps"]) :]:
            panel.axis("off")
        for panel, sweep in zip(panels, model["sweeps"], strict=False):
            if sweep["cells"]:
                _panel(panel, sweep)
    try:
        with replace_file(path) as new:
            page.savefig(new)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be drawn: {error}") from error


def short_name(name: str) -> str:
    """Return a short name of a model: its package, or the last part of its path."""
    if name.startswith("pypi:"):
        return name.removeprefix("pypi:").partition("==")[0]
    return name.rstrip("/").rsplit("/", 1)[-1]


def _panel(panel: Any, sweep: dict[str, Any]) -> None:
    """Draw one sweep: a line a precision, dotted lines for the limits."""
    for number, precision in enumerate(dict.fromkeys(cell["precision"] for cell in sweep["cells"])):
        cells = [cell for cell in sweep["cells"] if cell["precision"] == precision]
        sizes = [cell["size"] for cell in cells]
        panel.plot(sizes, [cell["median"] for cell in cells], "o-", color=f"C{number}", ms=4, label=precision)
        if all(cell["limit"] for cell in cells):
            panel.plot(sizes, [cell["limit"] for cell in cells], ":", color=f"C{number}", lw=1)
    set_axes(panel, sorted({cell["size"] for cell in sweep["cells"]}), sweep["size"], sweep["unit"])
    panel.set_title(sweep["title"], fontsize=9, loc="left")
    panel.legend(fontsize=8)


def set_axes(panel: Any, sizes: Sequence[int], across: str, up: str) -> None:
    """Give a panel logarithmic axes with plain numbers and a tick for each size."""
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.yaxis.set_major_locator(import_matplotlib().ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:,g}")
    panel.minorticks_off()
    panel.grid(visible=True, which="major", alpha=0.3)
    panel.set_xlabel(across)
    panel.set_ylabel(up)
