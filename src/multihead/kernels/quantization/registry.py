"""Registries of quantization formats and of precisions. No torch is loaded here: the command line reads both.

A new format is a class (`base.QuantizationFormat`) in a file of its own and a row in `FORMATS`. A row in `PRECISIONS`
lets users choose it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FORMATS: Mapping[str, str] = {  # name -> module and class
    "bf16": "bf16.Bf16",
    "int8": "int8.Int8",
    "int8g": "int8_groups.Int8Groups",
    "int4": "int4.Int4",
    "nf4": "nf4.NF4",
}
FILE_FORMAT = "file"  # in place of a format's name: the narrowest that holds the codes of a file
TRAINING: Mapping[str, str] = {"load_in_8bit": "int8", "load_in_4bit": "nf4"}  # option of `from_pretrained` -> format


@dataclass(frozen=True)
class Precision:
    """A precision for inference, as users name it in `precision=` and `--precision`.

    Args:
        weights: format of the layers' matrices; None leaves them to torch; `FILE_FORMAT` keeps a file's codes.
        head: format of the language-model head's matrix.
        dtype: of hidden states; None for the dtype that the hardware multiplies fastest.
        arithmetic: of matrix products: "fp32", "bf16" or "int8". `multihead bench` compares with that peak rate.
        aliases: other names of the same precision.
        summary: of the weights, of the inputs of products, of the accuracy; for the documentation.
    """

    name: str
    weights: str | None
    head: str | None
    dtype: str | None
    arithmetic: str
    summary: tuple[str, str, str]
    aliases: tuple[str, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """True if torch has no dtype for the weights."""
        return self.weights not in (None, "bf16")

    @property
    def needs_file(self) -> bool:
        """True if the weights must come from a quantized file."""
        return self.weights == FILE_FORMAT

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The dtype of hidden states, as torch's; None as for `dtype`."""
        if self.dtype is None:
            return None
        import torch

        found: torch.dtype = getattr(torch, self.dtype)
        return found


PRECISIONS: Mapping[str, Precision] = {
    row.name: row
    for row in (
        Precision("fp32", None, None, "float32", "fp32", ("float32, left to torch", "float32", "exact"), ("float32",)),
        Precision(
            "bf16", "bf16", "bf16", "bfloat16", "bf16",
            ("bfloat16; sums in float32", "bfloat16", "as bfloat16 everywhere"), ("bfloat16",),
        ),
        Precision(
            "int8", "int8", "int8", None, "int8",
            ("8 bits, a scale for each row; logits too", "8 bits, a scale and a zero for each token", "a small loss"),
        ),
        Precision(
            "int4", "int4", "int8g", None, "int8",
            (
                "4 bits, a scale and a minimum for each 32 inputs; logits 8 bits", "8 bits, a scale for each 32",
                "the least memory and the largest loss: compare before you use it",
            ),
        ),
        Precision(
            "gguf", FILE_FORMAT, FILE_FORMAT, None, "int8",
            (
                "a quantized file's own: see [below](#gguf-files)", "8 bits, a scale for each 32",
                "that of the file",
            ),
            ("file",),
        ),
    )
}  # fmt: skip
