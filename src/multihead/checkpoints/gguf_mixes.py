"""Types of GGUF files that are written, and which block type each tensor has in them (llama.cpp, llama-quant.cpp).

Most files mix block types: tensors whose errors hurt most get more bits. The rules are llama.cpp's, so that a file of a
type has the size and the quality that users know. No torch is loaded here: the command line lists the types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .gguf import BY_NAME


@dataclass(frozen=True)
class FileType:
    """A type of file.

    Args:
        number: `general.file_type`. base: block type of tensors without a rule.
    """

    number: int
    base: str

    @property
    def dtype(self) -> str:
        """The dtype of torch of a file without codes; "" for others."""
        return BY_NAME[self.base].dtype


WRITTEN: Mapping[str, FileType] = {
    "F32": FileType(0, "F32"),
    "F16": FileType(1, "F16"),
    "BF16": FileType(32, "BF16"),
    "Q8_0": FileType(7, "Q8_0"),
    "Q6_K": FileType(18, "Q6_K"),
    "Q5_K_M": FileType(17, "Q5_K"),
    "Q5_K_S": FileType(16, "Q5_K"),
    "Q5_1": FileType(9, "Q5_1"),
    "Q5_0": FileType(8, "Q5_0"),
    "Q4_K_M": FileType(15, "Q4_K"),
    "Q4_K_S": FileType(14, "Q4_K"),
    "Q4_1": FileType(3, "Q4_1"),
    "Q4_0": FileType(2, "Q4_0"),
    "Q3_K_L": FileType(13, "Q3_K"),
    "Q3_K_M": FileType(12, "Q3_K"),
    "Q3_K_S": FileType(11, "Q3_K"),
    "Q2_K": FileType(10, "Q2_K"),
    "Q2_K_S": FileType(21, "Q2_K"),
}
OTHER_NAMES: Mapping[str, str] = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # as llama.cpp takes them
PLAIN = re.compile(  # small, or sensitive: in float32 whatever the type
    r"_norm\.weight|ffn_gate_inp(_shexp)?\.weight|altup|laurel|per_layer_model_proj|position_embd|token_types"
    r"|ssm_conv1d|shortconv\.conv|attn_rel_b|indexer\.proj"
)
NARROW: Mapping[str, str] = {  # block type -> one for rows that its blocks of 256 do not fill
    "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip
TABLES = ("token_embd.weight", "per_layer_token_embd.weight")
LARGE: Mapping[str, int] = {"llama": 80, "qwen2": 80, "olmo": 80, "deci": 80, "jais2": 68}  # layers of 70B
VALUES = ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")  # tensors that values come from


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a model that the rules ask for.

    Args:
        architecture: as files name it. layers: how many. sharing: query heads for each key head. experts: of a layer.
    """

    architecture: str
    layers: int
    sharing: int
    experts: int


def facts_of(metadata: Mapping[str, object]) -> ModelFacts:
    """Read the facts from a file's metadata."""
    kind = str(metadata["general.architecture"])

    def number(name: str) -> int:
        value = metadata.get(f"{kind}.{name}")
        first = max(value) if isinstance(value, list) and value else value
        return first if isinstance(first, int) else 0

    heads, shared = number("attention.head_count"), number("attention.head_count_kv")
    return ModelFacts(kind, number("block_count"), heads // (shared or heads or 1), number("expert_count"))


def choose_types(
    shapes: Mapping[str, Sequence[int]], kind: str, facts: ModelFacts, *, calibrated: bool = False
) -> dict[str, str]:
    """Return the block type of each tensor.

    Args:
        shapes: of the file's tensors, rows first. kind: a name in `WRITTEN`. calibrated: importances are known.
    """
    names = sorted(shapes, key=layer_of)
    values = [name for name in names if name.endswith(VALUES)]
    downs = sorted({layer_of(name) for name in names if "ffn_down" in name})
    found = {}
    for name in names:
        wanted, base = WRITTEN[kind].base, WRITTEN[kind].base
        if len([size for size in shapes[name] if size > 1]) < 2 or PLAIN.search(name):
            found[name] = "F32"
            continue
        if not BY_NAME[base].dtype:
            if name == "output.weight" or (name in TABLES and "output.weight" not in shapes):
                wanted = type_of_output(base, shapes[name][-1], facts)
            elif name in values:
                wanted = type_of_values(kind, values.index(name), len(values), facts)
            elif "ffn_down" in name:
                place = layer_of(name) if facts.experts > 1 else downs.index(layer_of(name))
                wanted = type_of_down(kind, place, facts, calibrated)
            elif name.endswith("attn_output.weight"):
                wanted = type_of_attention_output(kind, facts)
            elif name.endswith("attn_k.weight") and facts.experts == 8:
                wanted = "Q8_0"
        found[name] = fitting(wanted, shapes[name][-1])
    return found


def layer_of(name: str) -> int:
    """Return the number of a tensor's layer; -1 outside of layers."""
    found = re.match(r"(?:enc\.|dec\.)?blk\.(\d+)\.", name)
    return int(found[1]) if found else -1


def fitting(wanted: str, columns: int) -> str:
    """Return the type, or one of shorter blocks that fill rows of so many columns."""
    if columns % BY_NAME[wanted].length:
        wanted = NARROW.get(wanted, wanted)
    return wanted if columns % BY_NAME[wanted].length == 0 else "F16"


def more_bits(place: int, count: int) -> bool:
    """True for a layer among the first and last eighths, and each third one between."""
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def type_of_output(base: str, columns: int, facts: ModelFacts) -> str:
    """Return the type of the output embeddings."""
    wide = facts.architecture == "falcon" or columns % BY_NAME[base].length or base == "Q8_0"
    return "Q8_0" if wide else "Q6_K"


def type_of_values(kind: str, place: int, count: int, facts: ModelFacts) -> str:
    """Return the type of the matrix that values come from: the `place`-th of `count`."""
    found = WRITTEN[kind].base
    if kind == "Q2_K":
        found = "Q4_K" if facts.sharing >= 4 else "Q3_K"
    elif kind == "Q2_K_S":
        found = "Q4_K" if facts.sharing >= 4 else found
    elif kind == "Q3_K_M":
        found = "Q5_K" if place < 2 else "Q4_K"
    elif kind == "Q3_K_L":
        found = "Q5_K"
    elif kind in ("Q4_K_M", "Q5_K_M"):
        found = "Q6_K" if more_bits(place, count) else found
    elif kind == "Q4_K_S":
        found = "Q5_K" if place < 4 else found
    large = LARGE.get(facts.architecture) == facts.layers and (facts.sharing > 1 or facts.architecture != "llama")
    if large and found in ("Q3_K", "Q4_K"):
        found = "Q5_K"  # such models have few key heads, so that these matrices are small
    return "Q8_0" if facts.experts == 8 else found


def type_of_down(kind: str, place: int, facts: ModelFacts, calibrated: bool) -> str:
    """Return the type of the matrix that ends a feed-forward layer, the `place`-th."""
    count, falcon, base = facts.layers, facts.architecture == "falcon", WRITTEN[kind].base
    early, more = place < count // 8, more_bits(place, count)
    first = place < count // 16
    if kind == "Q3_K_M":
        return "Q5_K" if first else "Q4_K" if not falcon or more else "Q3_K"
    if kind == "Q4_K_M" and falcon:
        return "Q6_K" if first else "Q5_K" if more else "Q4_K"
    rules = {
        "Q2_K": "Q3_K",
        "Q2_K_S": "Q4_K" if early else base,
        "Q3_K_L": "Q4_K" if falcon else "Q5_K",
        "Q4_K_M": "Q6_K" if more else base,
        "Q5_K_M": "Q6_K" if more else base,
        "Q4_K_S": "Q5_K" if early and not falcon else base,
        "Q4_0": "Q4_1" if early and calibrated else base,
        "Q5_0": "Q5_1" if early and calibrated else base,
    }
    return rules.get(kind, base)


def type_of_attention_output(kind: str, facts: ModelFacts) -> str:
    """Return the type of the matrix that ends an attention layer."""
    base = WRITTEN[kind].base
    if facts.architecture == "falcon":
        return "Q4_K" if kind == "Q3_K_L" else base
    if facts.experts == 8:
        return "Q5_K" if kind in ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M") else base
    return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(kind, base)
