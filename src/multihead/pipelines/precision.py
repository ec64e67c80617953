"""Options of loading for a precision that a user names."""

from __future__ import annotations

from typing import Any

from ..kernels.quantization.registry import PRECISIONS


def load_options(precision: str, device: str | None, *, packed: bool = True) -> dict[str, Any]:
    """Return the options of `pipeline` for a choice. On a CPU, the models of a command are prepared.

    Args:
        packed: weights that are not quantized may be packed, too; adapters need them as they are loaded.
    """
    packed = packed and on_cpu(device)
    name = next((row.name for row in PRECISIONS.values() if precision in row.aliases), precision)
    row = PRECISIONS.get(name)
    if row is None:  # auto, or a dtype
        return ({"precision": name} if packed else {}) if name == "auto" else {"dtype": name}
    if row.is_quantized or (row.weights is not None and packed):
        return {"precision": name}
    return {"dtype": row.dtype}


def on_cpu(device: str | None) -> bool:
    """Return whether a `--device` is the CPU."""
    return (device or "cpu").partition(":")[0] == "cpu"
