"""Calls as tags, with a tag for each argument: Qwen3-Coder, MiniMax, Seed-OSS, DeepSeek V3.2, GLM.

Values are written without quotation marks, so their types come from the tools' schemas.
"""

from __future__ import annotations

from dataclasses import dataclass

from .deltas import Writer
from .json_text import JsonText, quoted, to_json
from .schemas import Tools, typed_value
from .source import KEY, Markers, NotACall, Reads, Source

TEXT = ("string",)


@dataclass(frozen=True)
class Tags:
    """The tags of a format.

    Attributes:
        block: tags around one or several calls. call: text before and behind a function's name, and the closing tag.
        parameter: text before and behind an argument's name, and the closing tag. lines: values stand on lines of
            their own. typed: the argument's name is followed by `string="true"` or `string="false"`.
    """

    block: tuple[str, str]
    call: tuple[str, str, str]
    parameter: tuple[str, str, str]
    lines: bool = False
    typed: bool = False

    @property
    def markers(self) -> tuple[str, ...]:
        return (*self.block, *self.call, *self.parameter)

    def read(self, source: Source, out: Writer, marker: str, tools: Tools) -> Reads[None]:
        """Read calls behind the tag of a block, or behind the beginning of a call whose block has no tag."""
        if marker == self.block[0] and self.call[0]:
            yield from source.expect(self.call[0], space=True)
        while True:
            yield from self.read_call(source, out, tools)
            following = (self.block[1], self.call[0]) if self.call[0] else (self.block[1],)
            source.hold()
            if (yield from source.accept(*following, space=True)) in ("", self.block[1]):
                return

    def read_call(self, source: Source, out: Writer, tools: Tools) -> Reads[None]:
        """Read one call from its name on. Raises NotACall for other text, and where it breaks off."""
        if not self.call[0]:
            yield from source.space()
        name = yield from source.name()
        if self.call[1]:
            yield from source.expect(self.call[1])
        ends = tuple(end for end in (self.call[2], self.block[1]) if end)
        found = yield from source.follows(self.parameter[0], *ends, space=True)
        if not found:
            raise NotACall
        source.release()
        out.open_call(name)
        out.arguments("{")
        separator = ""
        source.hold()
        while (yield from source.accept(self.parameter[0], space=True)):
            key, is_text = yield from self.read_key(source)
            source.release()
            out.arguments(f"{separator}{to_json(key)}: ")
            types = TEXT if is_text else tools.types(name, key) if is_text is None else ()
            yield from self.read_value(source, out, types)
            separator = ", "
            source.hold()
        if not (yield from source.follows(*ends, space=True)):
            raise NotACall
        if self.call[2]:
            yield from source.accept(self.call[2], space=True)
        source.release()
        out.arguments("}")

    def read_key(self, source: Source) -> Reads[tuple[str, bool | None]]:
        """Read an argument's name up to its value; return it, and what the tag says of its type. Raises NotACall."""
        key = yield from source.name(KEY)
        is_text = None
        if self.typed:
            found = yield from source.expect('" string="true"', '" string="false"', '"')
            is_text = None if found == '"' else "true" in found
        for part in self.parameter[1].split(" "):  # white space may stand between the parts
            yield from source.expect(part, space=True)
        return key, is_text

    def read_value(self, source: Source, out: Writer, types: tuple[str, ...]) -> Reads[None]:
        """Read a value up to its closing tag. A tag that nothing of the format follows belongs to the value."""
        value = StringValue(out) if types == TEXT else OtherValue(out, types)
        if self.lines:
            yield from source.accept("\n")
        close = Markers(self.parameter[2])
        following = [text for text in (self.parameter[0], self.call[2], self.block[1]) if text]
        while (yield from source.until(close, value.add)):
            source.take(len(self.parameter[2]))
            found = yield from source.follows(*following, space=True)
            if found or (source.ended and any(text.startswith(source.rest.lstrip()) for text in following)):
                value.close(self.lines)
                return
            value.add(self.parameter[2])
        value.cut()
        raise NotACall


class StringValue:
    """A string argument, passed on as it arrives; a line break at its end waits, since it may belong to the tag."""

    def __init__(self, out: Writer) -> None:
        self.out, self.line = out, ""
        out.arguments('"')

    def add(self, text: str) -> None:
        text = self.line + text
        self.line = "\n" if text.endswith("\n") else ""
        self.out.arguments(quoted(text[: len(text) - len(self.line)]))

    def close(self, lines: bool) -> None:
        """End the value. `lines`: the line break before the tag belongs to the tag."""
        self.out.arguments('"' if lines else f'{quoted(self.line)}"')

    def cut(self) -> None:
        """End the text inside the value."""
        self.out.arguments(quoted(self.line))


class OtherValue:
    """An argument of another type, passed on when it is complete."""

    def __init__(self, out: Writer, types: tuple[str, ...]) -> None:
        self.out, self.types, self.parts = out, types, list[str]()

    def add(self, text: str) -> None:
        self.parts.append(text)

    def close(self, lines: bool) -> None:
        """End the value. `lines`: the line break before the tag belongs to the tag."""
        text = "".join(self.parts)
        self.out.arguments(typed_value(text.removesuffix("\n") if lines else text, self.types))

    def cut(self) -> None:
        """End the text inside the value: what is no beginning of JSON is the beginning of a string."""
        text = "".join(self.parts)
        value = JsonText()
        valid, end = value.read(text, 0)
        self.out.arguments(valid if end == len(text) and not value.broken else to_json(text)[:-1])


QWEN = Tags(
    ("<tool_call>", "</tool_call>"),
    ("<function=", ">", "</function>"),
    ("<parameter=", ">", "</parameter>"),
    lines=True,
)
SEED = Tags(("<seed:tool_call>", "</seed:tool_call>"), QWEN.call, QWEN.parameter)
INVOKE = ('<invoke name="', '">', "</invoke>")
MINIMAX = Tags(("<minimax:tool_call>", "</minimax:tool_call>"), INVOKE, ('<parameter name="', '">', "</parameter>"))
DSML = Tags(
    ("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
    ('<｜DSML｜invoke name="', '">', "</｜DSML｜invoke>"),
    ('<｜DSML｜parameter name="', ">", "</｜DSML｜parameter>"),
    typed=True,
)
DSML_V4 = Tags(("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"), DSML.call, DSML.parameter, typed=True)
GLM = Tags(("<tool_call>", "</tool_call>"), ("", "", ""), ("<arg_key>", "</arg_key> <arg_value>", "</arg_value>"))
