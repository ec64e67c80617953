"""Prompts of sentence encoders: texts before each sentence, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidInput, UnsupportedConfig, nearest

PROMPTS = {"query": "", "document": ""}


class Prompts:
    """Named texts before each sentence."""

    prompts: dict[str, str]
    default_prompt_name: str | None

    def set_prompts(self, prompts: Mapping[str, str] | None, default_prompt_name: str | None) -> None:
        """Set the prompts. Raises UnsupportedConfig for a default that does not exist."""
        self.prompts = {**PROMPTS, **(prompts or {})}
        if default_prompt_name is not None and default_prompt_name not in self.prompts:
            raise UnsupportedConfig(
                f"default_prompt_name {default_prompt_name!r}: {nearest(default_prompt_name, self.prompts)}"
            )
        self.default_prompt_name = default_prompt_name

    def prompt_text(self, name: str | None, prompt: str | None) -> str:
        """Return the text before each sentence. Raises InvalidInput."""
        if prompt is not None:
            if name is not None:
                raise InvalidInput("Give either prompt or prompt_name, not both.")
            if not isinstance(prompt, str):
                raise InvalidInput(f"A prompt is a string, not {type(prompt).__name__}.")
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is not None and name not in self.prompts:
            raise InvalidInput(f"There is no prompt named {name!r}. {nearest(str(name), self.prompts)}")
        return "" if name is None else self.prompts[name]

    def name_of_prompt(self, names: Sequence[str], given: str | None, options: Mapping[str, Any]) -> str | None:
        """Return the first of several names that exists, where a caller gives neither a name nor a prompt."""
        if given is not None or options.get("prompt") is not None:
            return given
        return next((name for name in names if name in self.prompts), None)
