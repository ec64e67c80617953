"""FBGEMM's FP8 (Llama 3.1 405B): 8-bit floating-point numbers with a scale for each row."""

from __future__ import annotations

from .fp8 import Fp8


class FbgemmFp8(Fp8):
    """Codes in float8 e4m3 with `weight_scale` (outputs, 1); inputs are not rounded."""

    method = "fbgemm_fp8"

    def check(self) -> None:
        self.entry("activation_scale_ub", 1200.0)
        self.block, self.narrow = None, False
