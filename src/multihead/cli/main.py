"""`multihead`: one command a file, loaded when it is called."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from io import StringIO
from types import TracebackType
from typing import NoReturn

import click

from .._version import __version__
from ..errors import MultiheadError
from ..terminal import shown

COMMANDS = {  # command -> the module that holds it
    "attention": "attention.command",
    "bench": "bench.command",
    "chat": "chat",
    "completion": "completion",
    "convert": "convert",
    "demo": "demo",
    "doctor": "doctor.command",
    "inspect": "inspect_checkpoint",
    "models": "models",
    "run": "run",
    "train": "train.command",
}


class Commands(click.Group):
    """Finds each command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f".{COMMANDS[cmd_name]}", __package__).command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="multihead")
def cli() -> None:
    """Pretrained Transformers for language."""


def noted(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line on stderr, without the place in our code."""
    click.secho(f"Note: {shown(str(message))}", fg="yellow", err=True)


def crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An error that is none of ours, with where it came from; what it quotes moves no cursor."""
    from traceback import format_exception

    click.echo(shown("".join(format_exception(kind, error, trace))), err=True, nl=False)


def main() -> None:
    """Runs the command line; errors of our own tree and of files become one clear message and exit status 1."""
    warnings.showwarning = noted
    sys.excepthook = crashed
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        said = StringIO()
        error.show(said)
        click.echo(shown(said.getvalue()), err=True, nl=False)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except MultiheadError as error:
        refused(type(error).__name__, str(error))
    except BrokenPipeError:  # whoever read the answers has enough of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        refused(type(error).__name__, f"{where}{error.strerror or error}. Check the path, its rights and the disk.")


def refused(kind: str, message: str) -> NoReturn:
    """Says what was wrong; ends with exit status 1."""
    click.secho(f"{kind}: ", fg="red", bold=True, nl=False, err=True)
    click.echo(shown(message), err=True)
    sys.exit(1)
