"""`multihead doctor`: what this machine has, and what computes on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ... import machine_facts as checks
from ...consoles import screen
from ...kernels.quantization.registry import PRECISIONS
from ...terminal import json_visible
from ..models import size

Parts = Mapping[str, Callable[[Any], Mapping[str, Text]]]
Tables = Mapping[str, Callable[[Any], Table]]


@click.command(name="doctor")
@click.option("--build", is_flag=True, help="Compiles the C++ kernels first. The exit status is 1 if that fails.")
@click.option("--json", "as_json", is_flag=True, help="Prints one JSON object.")
def command(build: bool, as_json: bool) -> None:
    """Shows what this machine has, and its measured speed.

    The report names versions, processor, kernels, precisions and optional packages.

    \b
    Examples:
      multihead doctor
      multihead doctor --build
      multihead doctor --json | jq .kernels
    """
    console = screen()
    built = build_kernels(console, as_json) if build else None
    with screen(stderr=True).status("Checking and measuring"):
        found = {**checks.facts(), "speeds": checks.value_or_error(checks.speeds)}
    if as_json:
        print(json_visible(json.dumps({**found, "build": built} if build else found, ensure_ascii=False, indent=2)))
    else:
        show(console, found)
    if built is not None and not built.startswith("built"):
        sys.exit(1)


def build_kernels(console: Console, quiet: bool) -> str:
    """Compile the kernels. Returns the result as a sentence."""
    from ...native.build import HERE, attempt

    try:
        with screen(stderr=True).status("Compiling the kernels"):
            result = attempt()
    except OSError as error:
        result = f"not built: {HERE} cannot be written ({error.strerror or error})"
    if not quiet:
        good = result.startswith("built")
        console.print(Text(f"kernels {result}", style="green" if good else "red"))
        if not good:
            console.print(Text(checks.advice(result), style="yellow"))
    return result


LABELS = {"decoding": "decode runner"}  # part -> label of its row, where it has another name


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print all facts. A part that failed is one red row."""
    parts: Parts = {
        "versions": versions,
        "machine": machine,
        "torch": torch_features,
        "kernels": kernels,
        "decoding": decoding,
        "memory": memory,
    }
    grid = Table.grid(padding=(0, 2))
    for name, rows in parts.items():
        lines = {LABELS.get(name, name): error_text(found[name])} if failed(found[name]) else rows(found[name])
        for title, text in lines.items():
            grid.add_row(title, text)
    console.print(grid)
    tables: Tables = {"precisions": precisions, "packages": packages, "speeds": speeds}
    for name, table in tables.items():
        part = Text.assemble(name, "  ", error_text(found[name])) if failed(found[name]) else table(found[name])
        console.print(part)


def failed(value: Any) -> bool:
    """Return whether a check has an error instead of a value."""
    return isinstance(value, Mapping) and "error" in value


def error_text(value: Mapping[str, Any]) -> Text:
    """Return the error of a check in red."""
    return Text(str(value["error"]), style="red")


def value_text(value: Any) -> Text:
    """Return a value, or its error."""
    return error_text(value) if failed(value) else Text("unknown" if value is None else str(value))


def yes_or_no(value: Any) -> Text:
    """Return yes, no or the error."""
    if value is None or failed(value):
        return value_text(value)
    return Text("yes", style="green") if value else Text("no", style="dim")


def versions(value: Mapping[str, Any]) -> dict[str, Text]:
    return {name: value_text(version) for name, version in value.items()}


def machine(value: Mapping[str, Any]) -> dict[str, Text]:
    cores = f"{value['cores']}"
    if value["usable_cores"] != value["cores"]:
        cores += f", of which this process may use {value['usable_cores']}"
    memory = value["memory"]
    rows = {
        "system": value_text(value["system"]),
        "processor": value_text(value["processor"]),
        "cores": Text.assemble(cores, "; torch's threads: ", value_text(value["threads"])),
        "memory": error_text(memory) if failed(memory) else Text(size(memory)),
    }
    if value["settings"]:
        rows["environment"] = Text("  ".join(f"{name}={text}" for name, text in value["settings"].items()))
    return rows


def torch_features(value: Mapping[str, Any]) -> dict[str, Text]:
    flags = Text("  ").join(
        Text.assemble(name, " ", yes_or_no(found)) for name, found in value.items() if name != "CUDA"
    )
    devices = value["CUDA"]
    return {
        "torch sees": flags,
        "CUDA devices": error_text(devices) if failed(devices) else Text(", ".join(devices) or "none"),
    }


def kernels(value: Mapping[str, Any]) -> dict[str, Text]:
    rows: dict[str, Text] = {}
    if value["level"] is None:
        after = [f"; {value['advice']}"] if value["advice"] else []
        rows["C++ kernels"] = Text.assemble((value["reason"], "yellow"), *after)
    else:
        threads = ("torch's own", "green") if value["shares_threads"] else ("started for every product, slow", "yellow")
        rows["C++ kernels"] = Text.assemble((value["level"], "green"), (f"  {value['built']}", "dim"))
        rows["their threads"] = Text.assemble(threads)
    rows["GPU programs"] = Text("in use", style="green") if value["gpu"] else Text(f"none: {value['gpu_reason']}")
    return rows


def decoding(value: Mapping[str, Any]) -> dict[str, Text]:
    """Return the decode runner that is set, and with "auto" those that a model is offered, in this order."""
    setting, unavailable = value["setting"], value["unavailable"]
    if reason := unavailable.get(setting):
        return {"decode runner": Text.assemble((f"{setting}: {reason}", "yellow"))}
    offered = " or ".join(name for name, reason in unavailable.items() if not reason)
    return {"decode runner": Text(f"{setting}: {offered}" if setting == "auto" else setting, style="green")}


def memory(value: Mapping[str, Any]) -> dict[str, Text]:
    retained = Text("kept for the next pass", style="green")
    return {"freed memory": retained if value["kept"] else Text(f"given back to the system: {value['reason']}")}


def precisions(value: Mapping[str, Any]) -> Table:
    table = new_table(f'precision="auto" is {value["auto"]} here', "precision", "products by", "states in")
    for name, each in value["each"].items():
        table.add_row(name, Text(each["by"], style="yellow" if "slow" in each["by"] else ""), each["states"])
    return table


def packages(value: list[dict[str, Any]]) -> Table:
    table = new_table("optional packages", "package", "version", "what for", "extra")
    for each in value:
        version = Text("missing", style="yellow") if each["version"] is None else value_text(each["version"])
        table.add_row(each["name"], version, each["purpose"], each["extra"])
    if missing := list(dict.fromkeys(each["extra"] for each in value if each["version"] is None)):
        table.caption = Text(f'python -m pip install "multihead[{",".join(missing)}]"')
        table.caption_justify = "left"
    return table


def speeds(value: Mapping[str, Any]) -> Table:
    rows, inputs, outputs = checks.ROWS, checks.INPUTS, checks.OUTPUTS
    table = new_table(f"speed of a product with a {inputs} x {outputs} weight, now", "precision", "by")
    for name in (f"{rows} rows, GFLOP/s", "one row, GB/s", "one row, µs"):
        table.add_column(name, justify="right")
    table.caption = "One row reads every weight once; here they may be in the processor's cache."
    table.caption_justify = "left"
    for name, paths in value.items():
        for path, speed in paths.items():
            by = (
                "definition in torch"
                if path == "torch" and name in PRECISIONS and PRECISIONS[name].is_quantized
                else path
            )
            numbers = speed["gflops"], speed["gigabytes"], speed["microseconds"]
            table.add_row(name, by, *("no time left" if n is None else figures(n) for n in numbers))
    return table


def figures(number: float) -> str:
    """Return three significant figures, or all before the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", border_style="cyan")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
