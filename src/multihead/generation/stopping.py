"""Why a continuation ended, and stop strings: where they are completed, and texts cut before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True)
class Finish:
    """Why a continuation ended.

    Args:
        reason: "stop" for an end token, a stop string, or a caller's criterion; "length" for the limit of tokens or of
            time; "abort" if the caller ended it. The first two are the words of OpenAI's interface, the last vLLM's.
        stop_string: the stop string that ended it, if one did.
    """

    reason: str
    stop_string: str = ""


STOP, LENGTH, ABORT = Finish("stop"), Finish("length"), Finish("abort")


class Continuation(list[int]):
    """New tokens of a continuation, with the reason of its end; None while it grows."""

    def __init__(self, tokens: Iterable[int] = (), finish: Finish | None = None) -> None:
        super().__init__(tokens)
        self.finish = finish

    @property
    def finish_reason(self) -> str:
        """ "stop", "length" or "abort"; empty while the continuation grows."""
        return "" if self.finish is None else self.finish.reason

    @property
    def stop_string(self) -> str:
        """The stop string that ended the continuation, else empty."""
        return "" if self.finish is None else self.finish.stop_string


def completed_stop(before: str, after: str, stops: Sequence[str]) -> str | None:
    """Return the stop string that begins first among those that a token completes, or None.

    Args:
        before, after: the last text without and with the token.
    """
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
    known = len(list(alike))  # an unfinished character before may be another one now
    # a match needs a new character: one in older text does not count
    places = [(after.find(stop, max(known - len(stop) + 1, 0)), stop) for stop in stops]
    return min(((place, stop) for place, stop in places if place >= 0), default=(0, None), key=lambda pair: pair[0])[1]


def text_before_stop(text: str, stop: str, before: str = "") -> str:
    """Return the text up to a stop string, which may begin in the text `before`; all of it without the stop string."""
    begin = (before + text).find(stop, max(len(before) - len(stop) + 1, 0)) if stop else -1
    return text if begin < 0 else text[: max(begin - len(before), 0)]


class StopStringFilter:
    """Cuts streamed text before the first stop string.

    Text that may be the beginning of a stop string is held back until the next piece decides.

    Args:
        before: the text before the stream, in which a stop string may begin.

    Attributes:
        stopped: a stop string has come. stop: the one that begins first; empty before.
    """

    def __init__(self, stops: Sequence[str], before: str = "") -> None:
        self.stops, self.stop = tuple(stops), ""
        self.known = before  # the end of the text that was passed on
        self.held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """Add a piece of text; return what may be shown, which may be empty."""
        if self.stopped:
            return ""
        self.held += text
        found = [(len(text_before_stop(self.held, stop, self.known)), stop) for stop in self.stops]
        ready, stop = min(found, default=(len(self.held), ""), key=lambda pair: pair[0])
        self.stopped = ready < len(self.held)
        self.stop = stop if self.stopped else ""
        if not self.stopped:
            ready -= self._undecided()
        shown, self.held = self.held[:ready], "" if self.stopped else self.held[ready:]
        longest = max(map(len, self.stops), default=0)
        self.known = (self.known + shown)[-longest:] if longest else ""
        return shown

    def finish(self) -> str:
        """Return the text that is still held back: no stop string has followed."""
        shown, self.held = self.held, ""
        return shown

    def _undecided(self) -> int:
        """Return the characters at the end of the held text that may belong to a stop string."""
        text = self.known + self.held
        sizes = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return min(max(sizes, default=0), len(self.held))
