"""The --precision option of commands that run models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..kernels.quantization.registry import PRECISIONS
from ..pipelines.precision import load_options as load_options

DTYPES = ("float16",)  # choices that are a dtype and no precision
CHOICES = ("auto", *(name for row in PRECISIONS.values() for name in (*row.aliases, row.name)), *DTYPES)
QUANTIZED = [row.name for row in PRECISIONS.values() if row.is_quantized and not row.needs_file]


def option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --precision to a command."""
    return click.option(
        "--precision", type=click.Choice(CHOICES), default="auto", show_default=True,
        help=f"auto: what this machine multiplies fastest. {', '.join(QUANTIZED)}: quantized weights. gguf or "
        "file: the codes of a quantized file (docs/fast.md).",
    )(command)  # fmt: skip
