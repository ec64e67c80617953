"""Parameters of a model by part, and the memory of its weights by precision. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..nn.own_names import own_buffers, own_parameters

BYTES: Mapping[str, float] = {"float32": 4, "bfloat16 / float16": 2, "int8": 1, "4 bits": 0.5}
PARTS = (  # part of a model -> pattern in the paths of its parameters
    ("head", r"^head\."),
    ("embeddings", r"\bembed\b|embedding"),
    ("norms", r"norm|\b(before|after)\b"),
    ("attention", r"attention|\b(q|k|v)\b"),
    ("feed-forward", r"feed|ffn|mlp|\b(up|down|gate)\b|expert"),
)


def parameters_by_part(model: Any) -> Counter[str]:
    """Return the number of parameters of each part of a model. Shared ones count once."""
    counts: Counter[str] = Counter()
    for path, parameter in own_parameters(model):
        counts[part_of(path)] += parameter.numel()
    return counts


def bytes_by_part(model: Any) -> Counter[str]:
    """Return the memory of each part of a model in bytes, also of packed and quantized weights."""
    counts: Counter[str] = Counter()
    for path, tensor in (*own_parameters(model), *own_buffers(model)):
        counts[part_of(path)] += tensor.numel() * tensor.element_size()
    return counts


def part_of(path: str) -> str:
    """Return the part of a model that a parameter belongs to."""
    return next((name for name, pattern in PARTS if re.search(pattern, path)), "other")
