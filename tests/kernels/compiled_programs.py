"""Compiles programs for GPUs that need not be here: prints the shared memory that each takes, in bytes."""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from multihead.kernels.ragged import BLOCK
from multihead.kernels.triton import launch as gpu
from multihead.kernels.triton import programs as gpu_programs

POINTERS = {"spans": "*i32", "table": "*i32", "sinks": "*i32", "counts": "*i32", "begins": "*i32", "partial": "*fp32"}
STRIDES = ("q_row", "q_head", "k_row", "k_head", "v_row", "v_head")


def shared(program: Any, constants: dict[str, Any], kind: str, target: int, options: dict[str, int]) -> int:
    """Bytes of shared memory on a GPU of compute capability `target` (86 is 8.6)."""
    types = {**POINTERS, **dict.fromkeys(("q", "k", "v", "out"), f"*{kind}"), "scale": "fp32", "softcap": "fp32"}
    signature, known, hints = {}, {}, {}
    for number, name in enumerate(program.arg_names):
        signature[name] = "constexpr" if name in constants else types.get(name, "i32")
        if name in constants:
            known[number,] = constants[name]
        elif signature[name].startswith("*") or name in STRIDES:
            hints[number,] = [["tt.divisibility", 16]]
    made = triton.compile(
        ASTSource(program, signature, known, hints), target=GPUTarget("cuda", target, 32), options=options
    )
    return int(made.metadata.shared)


def main(kind: str, width: int, target: int) -> None:
    exact = kind == "fp32"
    common = {
        "GROUP": 4, "WIDTH": width, "VALUES": width, "D": gpu.power(width), "DV": gpu.power(width), "WINDOW": False,
        "SOFTCAP": False, "SINKS": False, "BLOCK": BLOCK, "PRECISION": "ieee" if exact else "tf32",
    }  # fmt: skip
    stages = {"num_stages": gpu._stages(width, exact)}
    for paged in (False, True):
        tile = gpu._tile(1000, width, exact)
        options = {**stages, "num_warps": tile.pop("num_warps")}
        more: dict[str, Any] = {**common, **tile, "PAGED": paged, "CAUSAL": True}
        print(shared(gpu_programs.attention_prefill, more, kind, target, options))
        more = {**common, "PAGED": paged, "SINGLE": False, "ROWS": 16, "KEYS": gpu._keys(width, exact)}
        print(shared(gpu_programs.attention_decode_split, more, kind, target, stages))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
