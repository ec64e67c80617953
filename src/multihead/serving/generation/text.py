"""Text of one continuation: new tokens in, text and tokens out that no later token can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...generation.stopping import Finish, StopStringFilter
from ...generation.streaming import Detokenizer
from .request import GenerationRequest


@dataclass(frozen=True)
class TokenInfo:
    """A new token.

    Args:
        logprob: None unless asked for. top: the most likely tokens, with their log-probabilities.
        begin: characters of the continuation before it.
    """

    token: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = ()
    begin: int = 0


@dataclass
class Delta:
    """The next part of a continuation.

    Args:
        index: of the continuation. tokens: those whose text begins in this part.
        finish: why the continuation ended, in its last part. stop_reason: the stop string or stop token that ended it.
    """

    index: int
    text: str = ""
    tokens: Sequence[TokenInfo] = ()
    finish: Finish | None = None
    stop_reason: str | int | None = None


class ContinuationText:
    """Detokenizes a continuation, cuts it before stop strings, and keeps what has not been taken yet.

    Attributes:
        num_tokens: of the continuation, its end token included. finish: None while the continuation grows.
        taken: the last part has been taken.
    """

    def __init__(self, tokenizer: Any, request: GenerationRequest, index: int, special: frozenset[int]) -> None:
        self.index, self.num_tokens = index, 0
        self.finish: Finish | None = None
        self.taken = False
        self._request = request
        self._hidden = (special - request.kept_tokens) if request.skip_special_tokens else frozenset[int]()
        self._detokenizer = Detokenizer(tokenizer)
        self._filter = StopStringFilter(request.stops)
        self._decoded = self._shown = 0  # characters
        self._text: list[str] = []
        self._tokens: list[TokenInfo] = []
        self._least = request.config.min_new_tokens or 0
        self._stop_reason: str | int | None = None

    def add(self, token: int, logprob: float | None = None, top: Sequence[tuple[int, float]] = ()) -> None:
        """Add a token; `finish` is set if it completes a stop string."""
        request = self._request
        self.num_tokens += 1
        ends = token in request.config.ends
        if token in request.stop_tokens:
            self._stop_reason = token
        if not ends or request.include_end or request.include_stop:
            self._tokens.append(TokenInfo(token, logprob, top, self._decoded))
        visible = request.include_stop or token in request.kept_tokens if ends else True
        if visible and token not in self._hidden:
            self._show(self._detokenizer.add(token))

    def end(self, finish: Finish) -> None:
        """Show the text that is still held back."""
        if self.finish is None:
            self._show(self._detokenizer.finish())
        if self.finish is None:
            self._append(self._filter.finish())
            self.finish = finish

    def take(self) -> Delta | None:
        """Return what is new since the last call; None for nothing."""
        if self.taken or (not self._text and self.finish is None):
            return None
        self.taken = self.finish is not None
        ready = len(self._tokens)
        if self.finish is None or isinstance(self._stop_reason, str):
            # of a stop string's own tokens, and of text that may become one, nothing is told
            ready = next((i for i, each in enumerate(self._tokens) if each.begin >= self._shown), ready)
        reason = None if self.finish is None else self._stop_reason
        delta = Delta(self.index, "".join(self._text), self._tokens[:ready], self.finish, reason)
        self._text, self._tokens = [], self._tokens[ready:]
        return delta

    def _show(self, text: str) -> None:
        if not text:
            return
        self._decoded += len(text)
        # a stop string does not count before the least number of tokens
        stops = self.num_tokens > self._least
        self._append(self._filter.add(text) if stops else text)
        if self._filter.stopped:
            stop = self._filter.stop
            self.finish, self._stop_reason = Finish("stop", stop), stop
            if self._request.include_stop:
                self._append(stop)

    def _append(self, text: str) -> None:
        if text:
            self._shown += len(text)
            self._text.append(text)
