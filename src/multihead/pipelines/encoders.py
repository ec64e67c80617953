"""The sentence encoder that a pipeline holds beside its own model, loaded when it is first needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..sentences.encoder import SentenceEncoder

AUTO = "auto"  # the default model of sentence-similarity


class EncoderSlot:
    """Place for one sentence encoder. A name is loaded once.

    Attributes:
        note: how a default model was chosen; empty otherwise.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, SentenceEncoder] = {}
        self.note = ""

    def get(self, choice: Any, device: Any = None) -> SentenceEncoder | None:
        """Return the encoder that an option names.

        Args:
            choice: a `SentenceEncoder`, a name or a folder, "auto" for the default, None for no encoder.

        Raises:
            InvalidInput: anything else. Otherwise what `from_pretrained` raises.
        """
        from ..sentences.encoder import SentenceEncoder

        if choice is None or isinstance(choice, SentenceEncoder):
            return choice
        if not isinstance(choice, (str, os.PathLike)):
            raise InvalidInput(
                f"A retriever or encoder is a SentenceEncoder, its name, or None; not {type(choice).__name__}."
            )
        name = os.fspath(choice)
        if name not in self._loaded:
            self._loaded[name] = SentenceEncoder.from_pretrained(self._resolve(name), device=device)
        return self._loaded[name]

    def _resolve(self, name: str) -> str:
        """Return the name to load: that of the default model for "auto"."""
        if name != AUTO:
            return name
        from .catalog import get_task
        from .pipeline import default_model

        found, self.note = default_model("sentence-similarity", get_task("sentence-similarity"), {})
        return found
