"""Generated text with its token count, while it is generated. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...generation.streaming import TextCallbackStreamer


class CountingStreamer(TextCallbackStreamer):
    """Calls `show` with each new piece of text. `text` is all of it so far, `tokens` the number of its tokens."""

    def __init__(self, tokenizer: Any, show: Callable[[str], object]) -> None:
        super().__init__(tokenizer, show, skip_prompt=True, skip_special_tokens=True)
        self.text, self.tokens = "", 0

    def put(self, ids: Tensor) -> None:
        self.tokens += 0 if self._prompt else 1
        super().put(ids)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text += text
        super().on_finalized_text(text, stream_end)
