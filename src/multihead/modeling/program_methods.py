"""Small methods and attributes of a model that programs for the reference read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from ..errors import UnsupportedOption
from ..hub.push import PushToHub
from .named_parts import NamedParts


class ProgramMethods(PushToHub, NamedParts):
    """Methods and attributes that programs use beside the forward pass."""

    framework: ClassVar[str] = "pt"
    supports_gradient_checkpointing: ClassVar[bool] = True
    is_parallelizable: ClassVar[bool] = False
    prepared: str | None

    @cached_property
    def warnings_issued(self) -> dict[str, bool]:
        """Warnings that a program has given; it is the program's own."""
        return {}

    @cached_property
    def model_tags(self) -> list[str]:
        """The tags of `add_model_tags`."""
        return []

    def add_model_tags(self, tags: str | Sequence[str]) -> None:
        """Add tags for the model card that `push_to_hub` writes."""
        for tag in [tags] if isinstance(tags, str) else tags:
            if tag not in self.model_tags:
                self.model_tags.append(tag)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the bytes of the parameters, each once, and of the buffers.

        Raises:
            UnsupportedOption: a prepared model, whose products hold packed numbers.
        """
        if self.prepared:
            raise UnsupportedOption("get_memory_footprint: the numbers of a prepared model are packed, not counted.")
        held = list(self.parameters()) + (list(self.buffers()) if return_buffers else [])
        return sum(one.nelement() * one.element_size() for one in held)

    def post_init(self) -> None:
        """Do nothing: a constructor initializes all weights, and those that are tied are one parameter."""

    def tie_weights(self, *args: Any, **options: Any) -> None:
        """Do nothing: tied weights are one parameter."""
