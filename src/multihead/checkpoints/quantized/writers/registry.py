"""Registry of the quantized formats that are written. Imports no torch: the command line reads it."""

from __future__ import annotations

from collections.abc import Mapping

WRITTEN: Mapping[str, str] = {  # as users name it -> module and class
    "int4": "compressed_tensors.Int4",
    "int8": "compressed_tensors.Int8",
    "w8a8": "compressed_tensors.W8A8",
    "gptq": "gptq.GptqLayout",
    "awq": "awq.AwqLayout",
    "mxfp4": "mxfp4.Mxfp4Packed",
    "nf4": "bitsandbytes.Nf4",
    "fp8": "fp8.Fp8Blocks",
}
STACKED: Mapping[str, str] = {"mxfp4": "mxfp4.Mxfp4Experts"}  # the same for models whose experts lie in one tensor
