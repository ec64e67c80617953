"""`--precision` of the commands that run models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

NAMES = {"fp32": "float32", "bf16": "bfloat16"}
CHOICES = ("auto", "float32", "fp32", "bfloat16", "bf16", "float16", "int8", "int4", "gguf")


def option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the option."""
    return click.option(
        "--precision", type=click.Choice(CHOICES), default="auto", show_default=True,
        help="auto takes what this machine multiplies fastest; int8 and int4 round the weights, gguf keeps "
        "those of a quantized GGUF file (docs/fast.md).",
    )(command)  # fmt: skip


def loading(precision: str, device: str | None) -> dict[str, Any]:
    """What `pipeline` is told for a choice: models of a command are prepared where they run on a CPU."""
    name = NAMES.get(precision, precision)
    if name in ("int8", "int4", "gguf"):
        return {"precision": name}
    if name in ("auto", "bfloat16") and on_cpu(device):
        return {"precision": "bf16" if name == "bfloat16" else name}
    return {} if name == "auto" else {"dtype": name}


def on_cpu(device: str | None) -> bool:
    """Whether a `--device` means the CPU."""
    return (device or "cpu").partition(":")[0] == "cpu"
