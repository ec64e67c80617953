"""The --precision option of commands that run models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..kernels.quantization.registry import PRECISIONS

DTYPES = ("float16",)  # choices that are a dtype and no precision
CHOICES = ("auto", *(name for row in PRECISIONS.values() for name in (*row.aliases, row.name)), *DTYPES)
QUANTIZED = [row.name for row in PRECISIONS.values() if row.is_quantized and not row.needs_file]


def option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --precision to a command."""
    return click.option(
        "--precision", type=click.Choice(CHOICES), default="auto", show_default=True,
        help=f"auto: what this machine multiplies fastest. {', '.join(QUANTIZED)}: quantized weights. gguf: the "
        "quantized weights of a GGUF file (docs/fast.md).",
    )(command)  # fmt: skip


def load_options(precision: str, device: str | None) -> dict[str, Any]:
    """Return the options of `pipeline` for a choice. On a CPU, the models of a command are prepared."""
    name = next((row.name for row in PRECISIONS.values() if precision in row.aliases), precision)
    row = PRECISIONS.get(name)
    if row is None:  # auto, or a dtype
        return ({"precision": name} if on_cpu(device) else {}) if name == "auto" else {"dtype": name}
    if row.is_quantized or (row.weights is not None and on_cpu(device)):
        return {"precision": name}
    return {"dtype": row.dtype}


def on_cpu(device: str | None) -> bool:
    """Return whether a `--device` is the CPU."""
    return (device or "cpu").partition(":")[0] == "cpu"
