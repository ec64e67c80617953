"""`multihead doctor`: what this machine has, and which path computes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...consoles import screen
from ...kernels.quantization.registry import PRECISIONS
from ...terminal import json_visible
from ..models import size
from . import checks as machine

Parts = Mapping[str, Callable[[Any], Mapping[str, Text]]]
Tables = Mapping[str, Callable[[Any], Table]]


@click.command(name="doctor")
@click.option("--build", is_flag=True, help="Compiles the C++ kernels first; exit status 1 where that fails.")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def command(build: bool, as_json: bool) -> None:
    """Shows versions, processor, kernels, precisions, optional packages and measured speeds.

    \b
    Examples:
      multihead doctor
      multihead doctor --build
      multihead doctor --json | jq .kernels
    """
    console = screen()
    said = built(console, as_json) if build else None
    with screen(stderr=True).status("Looking and measuring"):
        found = {**machine.facts(), "speeds": machine.told(machine.speeds)}
    if as_json:
        print(json_visible(json.dumps({**found, "build": said} if build else found, ensure_ascii=False, indent=2)))
    else:
        show(console, found)
    if said is not None and not said.startswith("built"):
        sys.exit(1)


def built(console: Console, quiet: bool) -> str:
    """Compiles the kernels; what came of it, in words."""
    from ...native.build import HERE, attempt

    try:
        with screen(stderr=True).status("Compiling the kernels"):
            said = attempt()
    except OSError as error:
        said = f"not built: {HERE} cannot be written ({error.strerror or error})"
    if not quiet:
        good = said.startswith("built")
        console.print(Text(f"kernels {said}", style="green" if good else "red"))
        if not good:
            console.print(Text(machine.advice(said), style="yellow"))
    return said


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Draws all of it; a part that could not be found out is one red row."""
    parts: Parts = {
        "versions": versions,
        "machine": this_machine,
        "torch": torch_sees,
        "kernels": kernels,
        "decoding": decoding,
        "memory": memory,
    }
    grid = Table.grid(padding=(0, 2))
    for name, rows in parts.items():
        lines = {name: wrong(found[name])} if failed(found[name]) else rows(found[name])
        for title, text in lines.items():
            grid.add_row(title, text)
    console.print(grid)
    tables: Tables = {"precisions": precisions, "packages": packages, "speeds": speeds}
    for name, table in tables.items():
        drawn = Text.assemble(name, "  ", wrong(found[name])) if failed(found[name]) else table(found[name])
        console.print(drawn)


def failed(value: Any) -> bool:
    return isinstance(value, Mapping) and "error" in value


def wrong(value: Mapping[str, Any]) -> Text:
    return Text(str(value["error"]), style="red")


def plain(value: Any) -> Text:
    """A value, or what went wrong with it."""
    return wrong(value) if failed(value) else Text("unknown" if value is None else str(value))


def mark(value: Any) -> Text:
    """Yes, no or what went wrong."""
    if value is None or failed(value):
        return plain(value)
    return Text("yes", style="green") if value else Text("no", style="dim")


def versions(value: Mapping[str, Any]) -> dict[str, Text]:
    return {name: plain(version) for name, version in value.items()}


def this_machine(value: Mapping[str, Any]) -> dict[str, Text]:
    cores = f"{value['cores']}"
    if value["usable_cores"] != value["cores"]:
        cores += f", of which this process may use {value['usable_cores']}"
    memory = value["memory"]
    rows = {
        "system": plain(value["system"]),
        "processor": plain(value["processor"]),
        "cores": Text.assemble(cores, "; torch's threads: ", plain(value["threads"])),
        "memory": wrong(memory) if failed(memory) else Text(size(memory)),
    }
    if value["settings"]:
        rows["environment"] = Text("  ".join(f"{name}={text}" for name, text in value["settings"].items()))
    return rows


def torch_sees(value: Mapping[str, Any]) -> dict[str, Text]:
    flags = Text("  ").join(Text.assemble(name, " ", mark(seen)) for name, seen in value.items() if name != "CUDA")
    devices = value["CUDA"]
    return {
        "torch sees": flags,
        "CUDA devices": wrong(devices) if failed(devices) else Text(", ".join(devices) or "none"),
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
    """The decode runner that is set, and with "auto" those that a model is offered, in this order."""
    setting, unavailable = value["setting"], value["unavailable"]
    if reason := unavailable.get(setting):
        return {"decode runner": Text.assemble((f"{setting}: {reason}", "yellow"))}
    offered = " or ".join(name for name, reason in unavailable.items() if not reason)
    return {"decode runner": Text(f"{setting}: {offered}" if setting == "auto" else setting, style="green")}


def memory(value: Mapping[str, Any]) -> dict[str, Text]:
    kept = Text("kept for the next pass", style="green")
    return {"freed memory": kept if value["kept"] else Text(f"given back to the system: {value['reason']}")}


def precisions(value: Mapping[str, Any]) -> Table:
    table = drawn(f'precision="auto" is {value["auto"]} here', "precision", "products by", "states in")
    for name, each in value["each"].items():
        table.add_row(name, Text(each["by"], style="yellow" if "slow" in each["by"] else ""), each["states"])
    return table


def packages(value: list[dict[str, Any]]) -> Table:
    table = drawn("optional packages", "package", "version", "what for", "extra")
    for each in value:
        version = Text("missing", style="yellow") if each["version"] is None else plain(each["version"])
        table.add_row(each["name"], version, each["purpose"], each["extra"])
    if missing := list(dict.fromkeys(each["extra"] for each in value if each["version"] is None)):
        table.caption = Text(f'python -m pip install "multihead[{",".join(missing)}]"')
        table.caption_justify = "left"
    return table


def speeds(value: Mapping[str, Any]) -> Table:
    rows, inputs, outputs = machine.ROWS, machine.INPUTS, machine.OUTPUTS
    table = drawn(f"speed of a product with a {inputs} x {outputs} weight, now", "precision", "by")
    for name in (f"{rows} rows, GFLOP/s", "one row, GB/s", "one row, µs"):
        table.add_column(name, justify="right")
    table.caption = "One row reads every weight once; here they may lie in the processor's cache."
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
    """Three figures, or all that are before the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def drawn(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", border_style="cyan")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
