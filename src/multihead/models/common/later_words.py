"""Key maps that leave layers unread which predict words after the next one (multi-token prediction)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...checkpoints.key_map import KeyMap


def without_later_layers(config: Any, table: KeyMap) -> KeyMap:
    """Return a key map that ignores layers after the config's last one."""
    own = "|".join(map(str, range(config.num_hidden_layers)))
    later = rf"^(model\.)?layers\.(?!({own})\.)\d+\."
    return replace(table, ignored=(*table.ignored, later))


def without_mtp(table: KeyMap) -> KeyMap:
    """Return a key map that ignores tensors whose part is named `mtp`."""
    return replace(table, ignored=(*table.ignored, r"(^|\.)mtp([._]|$)"))
