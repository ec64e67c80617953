"""Answers of /v1/responses: items of reasoning, text and calls."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ....generation.chat import AnswerDelta, Chat
from ....generation.text import TokenInfo
from ....parsers import CallDelta
from ..logprobs import chat_logprobs
from .body import ResponsesBody

PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


@dataclass
class Item:
    """An item of the output: "reasoning", "message", or "function_call" with the number of its call."""

    kind: str
    call: int = -1
    name: str = ""
    parts: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    status: str = "in_progress"

    def __post_init__(self) -> None:
        number = secrets.token_hex(16)
        self.id, self.call_id = f"{PREFIXES[self.kind]}_{number}", f"call_{number[:24]}"

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def part(self) -> dict[str, Any]:
        """Return the one part of the content."""
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}

    def body(self, *, begins: bool = False) -> dict[str, Any]:
        """Return the item. `begins`: as it is before its first part."""
        content = [] if begins else [self.part()]
        base = {"id": self.id, "type": self.kind, "status": "in_progress" if begins else self.status}
        if self.kind == "reasoning":
            return {**base, "summary": [], "content": content, "encrypted_content": None}
        if self.kind == "message":
            return {**base, "role": "assistant", "content": content}
        return {**base, "call_id": self.call_id, "name": self.name, "arguments": "" if begins else self.text}


class ResponseAnswer:
    """Answer to a request."""

    def __init__(self, body: ResponsesBody, chat: Chat) -> None:
        self.request, self.chat = body, chat
        self.items: list[Item] = []
        self.finish = ""
        self.id = f"resp_{secrets.token_hex(24)}"
        self.unused: list[TokenInfo] = []

    def add(self, delta: AnswerDelta) -> Iterator[tuple[Item, str, list[dict[str, Any]]]]:
        """Take a part in; yield each item that grows, its new text and the log-probabilities of its tokens."""
        self.unused.extend(delta.tokens)
        if delta.reasoning:
            yield self.grow("reasoning", delta.reasoning)
        if delta.content or (delta.finish and not self.items):
            yield self.grow("message", delta.content)
        for call in delta.calls:
            yield self.grow("function_call", call.arguments, call)
        if delta.finish:
            self.finish = delta.finish
            if self.unused and self.items[-1].kind == "message":
                yield self.grow("message", "")
            for item in self.items:
                item.status = "completed"
            if delta.finish == "length":
                self.items[-1].status = "incomplete"

    def grow(self, kind: str, text: str, call: CallDelta | None = None) -> tuple[Item, str, list[dict[str, Any]]]:
        number, name = (-1, "") if call is None else (call.index, call.name)
        if not self.items or self.items[-1].kind != kind or self.items[-1].call != number:
            self.items.append(Item(kind, number, name))
        item = self.items[-1]
        item.parts.append(text)
        logprobs: list[dict[str, Any]] = []
        count = self.chat.generation.requests[0].logprobs
        if kind == "message" and count is not None:
            logprobs = chat_logprobs(self.chat.model.token_texts, self.unused, count)["content"]
            item.logprobs += logprobs
        self.unused = []
        return item, text, logprobs

    async def whole(self) -> dict[str, Any]:
        """Return the body of the response. Raises ApiError."""
        async for delta in self.chat:
            for _ in self.add(delta):
                pass
        return self.body(self.status)

    @property
    def status(self) -> str:
        return "incomplete" if self.finish == "length" else "completed"

    def body(self, status: str, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the response object in a status."""
        asked, ended = self.request, status in ("completed", "incomplete")
        config = self.chat.generation.requests[0].config
        return {
            "id": self.id, "object": "response", "created_at": self.chat.generation.created, "status": status,
            "completed_at": int(time.time()) if status == "completed" else None, "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self.chat.generation.name, "output": [item.body() for item in self.items],
            "instructions": asked.instructions, "max_output_tokens": asked.max_output_tokens,
            "tools": [{"strict": False, "parameters": None, **tool} for tool in asked.tools or ()],
            "tool_choice": asked.tool_choice or "auto", "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "temperature": config.temperature if config.do_sample else 0.0,
            "top_p": config.top_p if config.do_sample and config.top_p is not None else 1.0,
            "top_logprobs": asked.top_logprobs or 0, "text": asked.text or {"format": {"type": "text"}},
            "reasoning": {"effort": (asked.reasoning or {}).get("effort"), "summary": None},
            "metadata": asked.metadata or {}, "truncation": "disabled", "previous_response_id": None,
            "background": False, "store": False, "service_tier": "default",
            "usage": self.usage() if ended else None, **({} if asked.user is None else {"user": asked.user}),
        }  # fmt: skip

    def usage(self) -> dict[str, Any]:
        generation = self.chat.generation
        prompt, written = generation.prompt_tokens, generation.completion_tokens
        return {
            "input_tokens": prompt, "output_tokens": written, "total_tokens": prompt + written,
            "input_tokens_details": {"cached_tokens": generation.cached_tokens, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": self.chat.reasoning_tokens},
        }  # fmt: skip
