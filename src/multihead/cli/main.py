"""`multihead`: one command a file, imported when it is called."""

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
from ..terminal import safe_message

COMMANDS = {  # command -> its module
    "attention": "attention.command",
    "bench": "bench.command",
    "calibrate": "evaluate.calibrate_command",
    "chat": "chat",
    "cluster": "cluster",
    "completion": "completion",
    "convert": "convert",
    "dedupe": "dedupe",
    "demo": "demo",
    "doctor": "doctor.command",
    "embed": "embed.command",
    "evaluate": "evaluate.command",
    "explain": "explain.command",
    "inspect": "inspect_checkpoint",
    "models": "models",
    "pull": "pull",
    "push": "push",
    "quantize": "quantize",
    "run": "run",
    "search": "search.command",
    "serve": "serve",
    "train": "train.command",
}


class Commands(click.Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f".{COMMANDS[cmd_name]}", __package__).command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="multihead")
def cli() -> None:
    """Runs and trains pretrained Transformers for text."""


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line on standard error, without the place in the code."""
    if sys.stderr.isatty():  # a spinner or bar may be drawn on the line
        click.echo("\r\x1b[2K", nl=False, err=True)
    click.secho(f"Note: {safe_message(str(message))}", fg="yellow", err=True)


def show_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error with its traceback, control characters escaped."""
    from traceback import format_exception

    click.echo(safe_message("".join(format_exception(kind, error, trace))), err=True, nl=False)


def main() -> None:
    """Run the command line. Errors of this library and of files become one message and exit status 1."""
    warnings.showwarning = show_warning
    sys.excepthook = show_crash
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        message = StringIO()
        error.show(message)
        click.echo(safe_message(message.getvalue()), err=True, nl=False)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except MultiheadError as error:
        fail(type(error).__name__, str(error))
    except BrokenPipeError:  # the reader of the answers has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        fail(type(error).__name__, f"{where}{error.strerror or error}. Check the path, its rights and the disk.")


def fail(kind: str, message: str) -> NoReturn:
    """Print an error and exit with status 1."""
    click.secho(f"{kind}: ", fg="red", bold=True, nl=False, err=True)
    click.echo(safe_message(message), err=True)
    sys.exit(1)
