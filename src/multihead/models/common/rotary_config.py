"""Config of a family with rotary positions, whose parameters are completed alike in a file and in Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...config import Config
from .patterns import rope_entries


@dataclass(kw_only=True)
class RotaryConfig(Config):
    """Config whose `rope_parameters` are those of a file without any where a program gives none."""

    theta: ClassVar[float] = 10000.0  # where the entries name none
    rotary_factor: ClassVar[float | None] = None

    rope_parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Merge `rope_theta` and `rope_scaling` of checkpoints before 2025 into `rope_parameters`."""
        return rope_entries(entries, theta=cls.theta, factor=cls.rotary_factor)

    def __post_init__(self) -> None:
        if self.rope_parameters == {}:
            self.rope_parameters = type(self).normalized({}).get("rope_parameters", {})
        super().__post_init__()
