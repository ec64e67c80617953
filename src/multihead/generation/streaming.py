"""Streamers: text of new tokens, never cut inside a character."""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from torch import Tensor

from ..terminal import visible
from .stopping import StopStringFilter

Piece = str | BaseException | None


class Decodes(Protocol):
    def decode(
        self, ids: Any, skip_special_tokens: bool = False, *, clean_up_tokenization_spaces: bool | None = None
    ) -> str: ...


class Detokenizer:
    """Converts tokens to text incrementally.

    Text is held back while it ends inside a character (a replacement character at its end): bytes of one character may
    be spread over several tokens. The look-back begins with a token that has a text, so that a skipped one hides no
    space after it. Spaces before punctuation stay: what was given cannot be taken back.
    """

    def __init__(self, tokenizer: Decodes, *, skip_special_tokens: bool = False) -> None:
        self.tokenizer, self.skip = tokenizer, skip_special_tokens
        self.ids: list[int] = []
        self.begin, self.num_returned = 0, 0  # first token of the look-back; tokens whose text was returned

    def add(self, token: int) -> str:
        """Add a token; return the text that it completes, which may be empty."""
        self.ids.append(token)
        text = self._text(len(self.ids))
        return "" if text.endswith("\ufffd") else self._new_text(text)

    def finish(self) -> str:
        """Return the text that is still held back."""
        return self._new_text(self._text(len(self.ids)))

    def _new_text(self, text: str) -> str:
        new = text[len(self._text(self.num_returned)) :]
        self.begin = self.num_returned if new else self.begin
        self.num_returned = len(self.ids)
        return new

    def _text(self, end: int) -> str:
        """Decode from the look-back to a token; decoders drop a leading space, so an earlier token is needed."""
        ids = self.ids[self.begin : end]
        return self.tokenizer.decode(ids, skip_special_tokens=self.skip, clean_up_tokenization_spaces=False)


class TextStreamer:
    """Prints text to standard output during `generate`; with the `put` and `end` of transformers.

    Args:
        skip_prompt: leaves the prompt out. skip_special_tokens: leaves special tokens out.

    Attributes:
        finish_reason: why the last text ended, "stop", "length" or "abort"; empty before its end.
    """

    def __init__(
        self,
        tokenizer: Decodes,
        skip_prompt: bool = False,
        *,
        skip_special_tokens: bool = False,
        file: TextIO | None = None,
    ) -> None:
        self.detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
        self.skip_prompt, self.file, self.finish_reason = skip_prompt, file, ""
        self.stops: Sequence[str] = ()
        self._prompt = True
        self._filter: StopStringFilter | None = None

    def cut_before(self, stops: Sequence[str]) -> None:
        """End the next texts before the first of these strings; text that may begin one is held back."""
        self.stops = tuple(stops)

    def put(self, ids: Tensor) -> None:
        """Receive the prompt first, (1, length), then new tokens, (1,)."""
        tokens, prompt = ids.flatten().tolist(), self._prompt
        self._prompt = False
        if prompt:
            self.finish_reason = ""
        for token in () if prompt and self.skip_prompt else tokens:
            self._emit(self.detokenizer.add(token))
        if prompt and self.stops:
            longest = max(map(len, self.stops))
            tail = self.detokenizer.tokenizer.decode(
                tokens[-4 * longest :], skip_special_tokens=self.detokenizer.skip, clean_up_tokenization_spaces=False
            )
            self._filter = StopStringFilter(self.stops, tail)

    def end(self) -> None:
        """Emit the text that is held back; the next text may begin."""
        text = self.detokenizer.finish()
        if self._filter is not None:
            text = self._filter.add(text) + self._filter.finish()
        self.on_finalized_text(text, stream_end=True)
        self._begin()

    def _emit(self, text: str) -> None:
        """Pass on new text that is decided."""
        text = self._filter.add(text) if self._filter is not None and text else text
        if text:
            self.on_finalized_text(text)

    def fail(self, error: BaseException) -> None:
        """Drop the held-back text after an error; the next text may begin."""
        self._begin()

    def _begin(self) -> None:
        self.detokenizer = Detokenizer(self.detokenizer.tokenizer, skip_special_tokens=self.detokenizer.skip)
        self._prompt, self._filter = True, None

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        out: Any = self.file or sys.stdout
        text = visible(text) if getattr(out, "isatty", bool)() else text
        print(text, end="\n" if stream_end else "", flush=True, file=out)


class TextCallbackStreamer(TextStreamer):
    """Calls a function with each piece of text."""

    def __init__(
        self,
        tokenizer: Decodes,
        callback: Callable[[str], object],
        skip_prompt: bool = False,
        *,
        skip_special_tokens: bool = False,
    ) -> None:
        super().__init__(tokenizer, skip_prompt, skip_special_tokens=skip_special_tokens)
        self.callback = callback

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self.callback(text)


class WaitingStreamer(TextStreamer):
    """Passes pieces to a waiting consumer: text, None at the end, or the error that ended `generate`."""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._give(text)
        if stream_end:
            self._give(None)

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self._give(error)

    def _give(self, piece: Piece) -> None:
        raise NotImplementedError


class TextIteratorStreamer(WaitingStreamer):
    """Text as an iterator, for a `generate` that runs in another thread.

    Args:
        timeout: seconds to wait for the next piece; None for ever. Raises queue.Empty past it.

    An error of that `generate` is raised by the iterator too.
    """

    def __init__(
        self,
        tokenizer: Decodes,
        skip_prompt: bool = False,
        timeout: float | None = None,
        *,
        skip_special_tokens: bool = False,
    ) -> None:
        super().__init__(tokenizer, skip_prompt, skip_special_tokens=skip_special_tokens)
        self.pieces: queue.Queue[Piece] = queue.Queue()
        self.timeout = timeout

    def _give(self, piece: Piece) -> None:
        self.pieces.put(piece)

    def __iter__(self) -> Iterator[str]:
        while (piece := self.pieces.get(timeout=self.timeout)) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece


class AsyncTextIteratorStreamer(WaitingStreamer):
    """Text as an async iterator, for a `generate` that runs in another thread; made inside a running event loop.

    Args:
        timeout: seconds to wait for the next piece; None for ever. Raises TimeoutError past it.

    An error of that `generate` is raised by the iterator too.
    """

    def __init__(
        self,
        tokenizer: Decodes,
        skip_prompt: bool = False,
        timeout: float | None = None,
        *,
        skip_special_tokens: bool = False,
    ) -> None:
        super().__init__(tokenizer, skip_prompt, skip_special_tokens=skip_special_tokens)
        self.loop = asyncio.get_running_loop()
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.timeout = timeout

    def _give(self, piece: Piece) -> None:
        self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await asyncio.wait_for(self.pieces.get(), self.timeout)) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece


@contextmanager
def stop_on_error(streamer: Any) -> Iterator[None]:
    """Pass an error to the streamer, so that its consumer stops waiting, and raise it again."""
    try:
        yield
    except BaseException as error:
        if hasattr(streamer, "fail"):
            streamer.fail(error)
        raise
