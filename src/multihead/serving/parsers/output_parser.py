"""Parser of a model's answer: one loop over reasoning, content and tool calls, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .deltas import ParsedDelta, Writer
from .schemas import Tools
from .source import Markers, NotACall, Reads, Source

Marker = str
CallReader = Callable[[Source, Writer, Marker, Tools], Reads[None]]


@dataclass(frozen=True)
class ReasoningFormat:
    """The markers around reasoning.

    Attributes:
        blocks: opening marker -> closing markers. anywhere: reasoning may begin in the middle of content, since its
            markers are control tokens; else it begins where the answer does, and after reasoning or a call.
        wraps: markers around content that begins there. begins_open: the answer begins inside reasoning if the prompt
            is unknown. others: further markers.
    """

    blocks: Mapping[str, tuple[str, ...]]
    anywhere: bool = False
    wraps: tuple[tuple[str, str], ...] = ()
    begins_open: bool = False
    others: tuple[str, ...] = ()

    @property
    def markers(self) -> tuple[str, ...]:
        pairs = (*self.blocks.items(), *((begin, (end,)) for begin, end in self.wraps))
        return (*(text for begin, ends in pairs for text in (begin, *ends)), *self.others)


@dataclass(frozen=True)
class ToolFormat:
    """The format of tool calls.

    Attributes:
        opens: markers that calls begin with. read: reads what comes behind such a marker; raises NotACall where it is
            no call. bare: beginnings of calls without a marker, at the beginning of content only; they are not
            consumed before `read`. others: further markers, which `read` knows.
    """

    opens: tuple[str, ...]
    read: CallReader
    bare: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def markers(self) -> tuple[str, ...]:
        return (*self.opens, *self.others)


NO_REASONING = ReasoningFormat({})


@dataclass
class OutputParser:
    """Splits the text of one answer into reasoning, content and tool calls while it arrives.

    Args:
        reasoning, tool: the formats; None for text that has none. tools: what the request offers.
        kept_tokens: special tokens that decoding must keep, for the parser to see them; it leaves them out of content.
        opening: the marker of the reasoning inside which the answer begins; "" for none.
        tool_parser, reasoning_parser: names of the formats, "" for none.

    The same text gives the same parts, however it is cut. Text that looks like a call and is none stays content. A
    call whose arguments break off keeps what was valid JSON; the rest is content.
    """

    reasoning: ReasoningFormat | None = None
    tool: ToolFormat | None = None
    tools: Tools = field(default_factory=Tools)
    kept_tokens: tuple[str, ...] = ()
    opening: str = ""
    tool_parser: str = ""
    reasoning_parser: str = ""

    def __post_init__(self) -> None:
        self.source, self.writer = Source(), Writer()
        self._steps = self.run()
        self._ended = False

    @property
    def reasoning_ends(self) -> tuple[str, ...]:
        """Markers that end the reasoning in which the answer begins; none if it does not begin inside."""
        return self.reasoning.blocks.get(self.opening, ()) if self.reasoning and self.opening else ()

    def feed(self, text: str) -> ParsedDelta:
        """Read more text and return what it adds."""
        if text and not self._ended:
            self.source.add(text)
            next(self._steps, None)
        return self.writer.take()

    def finish(self) -> ParsedDelta:
        """End the text and return what was held back, but for the beginning of a marker behind a call.

        A limit of tokens cut that marker; elsewhere such a beginning is content.
        """
        self._ended = self.source.ended = True
        rest, markers = self.source.rest.lstrip(), self.tool.markers if self.tool else ()
        behind_call = self.writer.count > 0 and self.writer.content.marked
        if rest and behind_call and any(marker.startswith(rest) for marker in markers):
            self.source.take(len(self.source.rest))
        next(self._steps, None)
        return self.writer.take(last=True)

    def run(self) -> Reads[None]:
        """Read the whole answer."""
        if self.opening:
            yield from self.read_reasoning(self.opening)
        thoughts, tool = self.reasoning or NO_REASONING, self.tool
        opens = (*(tool.opens if tool else ()), *(thoughts.blocks if thoughts.anywhere else ()))
        search = Markers(*opens, *self.kept_tokens)
        bare = tool.bare if tool else ()
        boundary = True  # the beginning of the answer, or the end of reasoning or a call
        while True:
            if boundary:
                boundary = yield from self.at_boundary(thoughts, bare)
                continue
            marker = yield from self.source.until(search, self.writer.content.write)
            if not marker:
                return
            if marker in thoughts.blocks and thoughts.anywhere:
                self.source.take(len(marker))
                yield from self.read_reasoning(marker)
                boundary = True
            elif marker in opens:
                boundary = yield from self.attempt_call(marker)
            else:
                self.source.take(len(marker))
            bare = ()

    def at_boundary(self, thoughts: ReasoningFormat, bare: Iterable[str]) -> Reads[bool]:
        """Read reasoning, wrapped content or a call without a marker; return False where none comes next."""
        wraps = dict(thoughts.wraps)
        options = (*thoughts.blocks, *wraps, *bare)
        found = (yield from self.source.follows(*options, space=True)) if options else ""
        if not found:
            return False
        if found not in thoughts.blocks and found not in wraps:
            return (yield from self.attempt_call(""))
        self.writer.content.write((yield from self.source.space()))
        self.source.take(len(found))
        if found in wraps:
            yield from self.read_wrapped(wraps[found])
        else:
            yield from self.read_reasoning(found)
        return True

    def read_wrapped(self, close: str) -> Reads[None]:
        """Read content up to the marker that closes it."""
        search = Markers(close, *self.kept_tokens)
        self.writer.content.mark()
        while True:
            marker = yield from self.source.until(search, self.writer.content.write)
            self.source.take(len(marker))
            if marker in ("", close):
                self.writer.content.mark()
                return

    def attempt_call(self, marker: Marker) -> Reads[bool]:
        """Read calls behind a marker, which is consumed; return False where there are none: the text is content."""
        assert self.tool is not None
        before = self.writer.count
        self.source.hold()
        self.source.take(len(marker))
        try:
            yield from self.tool.read(self.source, self.writer, marker, self.tools)
        except NotACall:
            self.writer.content.write(self.source.give_back())
            return False
        if self.writer.count == before:  # an empty list of calls
            self.writer.content.write(self.source.give_back())
        self.source.release()
        return self.writer.count > before

    def read_reasoning(self, opening: str) -> Reads[None]:
        """Read reasoning up to its closing marker, or to the end."""
        assert self.reasoning is not None
        self.writer.content.mark()
        self.writer.reasoning.mark("\n")
        closes = self.reasoning.blocks[opening]
        search = Markers(*closes, *self.kept_tokens)
        while True:
            marker = yield from self.source.until(search, self.writer.reasoning.write)
            self.source.take(len(marker))
            if not marker or marker in closes:
                self.writer.reasoning.mark()
                return
