"""bitsandbytes: NF4 and FP4 (Dettmers et al., 2023, arXiv:2305.14314), and LLM.int8() (2022, arXiv:2208.07339)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .format import StoredFormat, expect
from .stored_codes import Codes, StoredCodes, plain

STORAGES = ("uint8", "int8", "float16", "bfloat16", "float32")


class BitsAndBytes(StoredFormat):
    """4 bits: two codes a byte, the first in the high half, a table of their numbers, a scale for each block.

    Blocks run over the rows laid end to end. Scales may be codes of 8 bits themselves (double quantization).
    8 bits: int8 (outputs, inputs), and the largest magnitude of each row at 127. LLM.int8() computes inputs with
    large magnitudes apart; here all are computed alike.
    """

    method = "bitsandbytes"
    names = (
        (r"\.weight\.(quant_state\.bitsandbytes__(nf4|fp4))$", ".weight", "state"),
        *((rf"\.weight\.{part}$", ".weight", part) for part in ("absmax", "quant_map")),
        *((rf"\.weight\.{part}$", ".weight", part) for part in ("nested_absmax", "nested_quant_map")),
        (r"\.SCB$", ".weight", "largest"),
        (r"\.weight_format$", ".weight", "layout"),
    )

    def check(self) -> None:
        self.eight = bool(self.entry("load_in_8bit", False, True, False))
        self.kind = str(self.entry("bnb_4bit_quant_type", "fp4", "nf4", "fp4"))
        # codes lie in bytes, whatever dtype these have in the file (numbers, so that FSDP can divide them)
        self.storage = getattr(torch, self.entry("bnb_4bit_quant_storage", "uint8", *STORAGES))
        self.entry("llm_int8_has_fp16_weight", False, False)

    def describe(self) -> str:
        if self.eight:
            return "bitsandbytes LLM.int8(), 8 bits, a scale for each row"
        twice = ", scales of 8 bits" if self.entries.get("bnb_4bit_use_double_quant") else ""
        return f"bitsandbytes {self.kind.upper()}, 4 bits, a scale for each block{twice}"

    def codes(self, name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
        expect("codes" in parts, name, "it has scales and no codes")
        if "largest" in parts:
            expect(self.eight, name, "it is stored in 8 bits, and config.json says 4")
            return rows(name, parts)
        expect(not self.eight, name, "it is stored in 4 bits, and config.json says 8")
        absent = {"state", "absmax", "quant_map"} - set(parts)
        expect(not absent, name, f"it has no {', '.join(sorted(absent))}")
        state: dict[str, Any] = json.loads(bytes(parts["state"].view(torch.uint8).tolist()))
        said = state.get("quant_type")
        expect(said == self.kind, name, f"it is stored as {said}, and config.json says {self.kind}")
        shape, size = tuple(state["shape"]), int(state["blocksize"])
        count = math.prod(shape)
        dtype = parts["codes"].dtype
        expect(dtype is self.storage, name, f"its codes are {dtype}, and config.json says {self.storage}")
        packed = parts["codes"].flatten().view(torch.uint8)
        expect(len(packed) == -(-count // 2), name, f"{len(packed)} bytes for {count} codes of 4 bits")
        scales = block_scales(name, parts, state)
        expect(len(scales) == -(-count // size), name, f"{len(scales)} scales for {count} weights in blocks of {size}")
        table = parts["quant_map"].float()  # (16,)
        fits = table.shape == (16,) and parts["quant_map"].is_floating_point()
        expect(fits, name, f"a table of {tuple(table.shape)} {parts['quant_map'].dtype} numbers for 4 bits")
        expect(size % 2 == 0 and len(shape) > 1, name, f"its blocks of {size} of a weight {shape} are not read")
        stored = F.pad(packed, (0, -len(packed) % (size // 2))).view(-1, size // 2)  # (blocks, bytes of a block)
        return StoredCodes(Codes(stored, size, high_first), scales[:, None], size=size, bits=4, table=table, form=shape)


def high_first(packed: Tensor) -> Tensor:
    """Return the two codes of each byte, the first in the high half: (rows, 2 bytes)."""
    return torch.stack([packed >> 4, packed & 15], -1).flatten(-2)


def rows(name: str, parts: Mapping[str, Tensor]) -> StoredCodes:
    """Return int8 codes with the scale of each row."""
    codes, largest = parts["codes"], parts["largest"]
    fits = codes.dtype is torch.int8 and codes.ndim == 2 and largest.shape == codes.shape[:1]
    expect(fits, name, f"{codes.dtype} {tuple(codes.shape)} with {tuple(largest.shape)} scales are no int8 rows")
    layout = parts.get("layout")
    expect(layout is None or not layout.any(), name, "its codes are not in rows, but in tiles of a GPU")
    return StoredCodes(plain(codes), largest.float()[:, None] / 127, size=codes.shape[1])


def block_scales(name: str, parts: Mapping[str, Tensor], state: Mapping[str, Any]) -> Tensor:
    """Return the scales of all blocks, (blocks,), which may be codes themselves."""
    scales = parts["absmax"].flatten()
    if "nested_absmax" not in parts:
        expect(scales.is_floating_point(), name, "its scales are codes without scales of their own")
        return scales.float()
    expect("nested_quant_map" in parts, name, "its scales are codes without a table")
    largest = parts["nested_absmax"].float().flatten()
    size = int(state["nested_blocksize"])
    expect(len(largest) == -(-len(scales) // size), name, f"{len(largest)} scales for {len(scales)} scales")
    found = parts["nested_quant_map"].float()[scales.int()]  # (blocks,)
    return found * largest.repeat_interleave(size)[: len(scales)] + float(state["nested_offset"])
