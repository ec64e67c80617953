"""Commands on files of rows, as several tests of the command line run them."""

from __future__ import annotations

import json

from click.testing import CliRunner

from multihead.cli.main import cli


def call(*words, text=None):
    """Run a command. Errors are raised; an exit status is in the result."""
    result = CliRunner().invoke(cli, [*map(str, words)], input=text)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path, texts):
    """Write {"key", "body", "n"} of each text as JSON lines."""
    path.write_text("".join(json.dumps({"key": f"k{n}", "body": text, "n": n}) + "\n" for n, text in enumerate(texts)))
    return path
