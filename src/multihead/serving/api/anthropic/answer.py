"""Answers of /v1/messages: blocks of thinking, text and calls, whole and as events."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...generation.chat import AnswerDelta, Chat
from ...parsers import CallDelta
from ...sse import event

REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@dataclass
class Block:
    """A block of the answer: "thinking", "text", or "tool_use" with the number of its call."""

    kind: str
    call: int = -1
    name: str = ""
    id: str = field(default_factory=lambda: f"toolu_{secrets.token_hex(12)}")
    parts: list[str] = field(default_factory=list)

    def content(self, *, begins: bool = False) -> dict[str, Any]:
        """Return the block. `begins`: as it is before its first part."""
        text = "" if begins else "".join(self.parts)
        if self.kind == "tool_use":
            given = {} if begins else parsed(text)
            return {"type": "tool_use", "id": self.id, "name": self.name, "input": given}
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": text, "signature": ""}
        return {"type": "text", "text": text, "citations": None}

    def delta(self, text: str) -> dict[str, Any]:
        if self.kind == "tool_use":
            return {"type": "input_json_delta", "partial_json": text}
        return {"type": f"{self.kind}_delta", self.kind: text}


def parsed(arguments: str) -> Any:
    """Return the arguments of a call; what was cut at the limit of tokens, and is no JSON, as its text."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return {"partial_json": arguments}


class MessageAnswer:
    """Answer to a request."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.blocks: list[Block] = []
        self.finish = ""
        self.stop_sequence: str | None = None
        self.id = f"msg_{secrets.token_hex(12)}"

    def add(self, delta: AnswerDelta) -> Iterator[tuple[Block, str]]:
        """Take a part in; yield each block that grows and its new text."""
        if delta.reasoning:
            yield self.grow("thinking", delta.reasoning)
        if delta.content:
            yield self.grow("text", delta.content)
        for call in delta.calls:
            yield self.grow("tool_use", call.arguments, call)
        if delta.finish:
            self.finish = REASONS[delta.finish]
            if isinstance(delta.stop_reason, str):
                self.finish, self.stop_sequence = "stop_sequence", delta.stop_reason

    def grow(self, kind: str, text: str, call: CallDelta | None = None) -> tuple[Block, str]:
        number, name = (-1, "") if call is None else (call.index, call.name)
        if not self.blocks or self.blocks[-1].kind != kind or self.blocks[-1].call != number:
            self.blocks.append(Block(kind, number, name))
        self.blocks[-1].parts.append(text)
        return self.blocks[-1], text

    async def whole(self) -> dict[str, Any]:
        """Return the body of the response. Raises ApiError."""
        async for delta in self.chat:
            for _ in self.add(delta):
                pass
        return self.message([block.content() for block in self.blocks], self.usage())

    def message(self, content: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self.id, "type": "message", "role": "assistant", "model": self.chat.generation.name,
            "content": content, "stop_reason": self.finish or None, "stop_sequence": self.stop_sequence, "usage": usage,
        }  # fmt: skip

    def usage(self) -> dict[str, Any]:
        """Return the usage; tokens that the cache has are no input tokens."""
        generation = self.chat.generation
        return {
            "input_tokens": generation.prompt_tokens - generation.cached_tokens,
            "cache_read_input_tokens": generation.cached_tokens, "cache_creation_input_tokens": 0,
            "output_tokens": generation.completion_tokens,
        }  # fmt: skip

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream. Raises ApiError."""
        begun = 0  # blocks that have been told of
        try:
            yield event({"type": "message_start", "message": self.message([], self.usage())}, "message_start")
            async for delta in self.chat:
                for block, text in self.add(delta):
                    if len(self.blocks) > begun:
                        for one in self.turn(begun, block):
                            yield one
                        begun = len(self.blocks)
                    if text:
                        yield self.block_event("content_block_delta", begun - 1, delta=block.delta(text))
            if begun:
                yield self.block_event("content_block_stop", begun - 1)
            last = {"stop_reason": self.finish, "stop_sequence": self.stop_sequence}
            yield event({"type": "message_delta", "delta": last, "usage": self.usage()}, "message_delta")
            yield event({"type": "message_stop"}, "message_stop")
        finally:
            self.chat.generation.close()

    def turn(self, begun: int, block: Block) -> Iterator[bytes]:
        """Yield the events between two blocks."""
        if begun:
            yield self.block_event("content_block_stop", begun - 1)
        yield self.block_event("content_block_start", begun, content_block=block.content(begins=True))

    def block_event(self, kind: str, index: int, **fields: Any) -> bytes:
        return event({"type": kind, "index": index, **fields}, kind)
