"""Answers of /api/chat and /api/generate, whole and as lines."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timezone
from typing import Any

from ...generation.chat import AnswerDelta, Chat
from ...generation.text import TokenInfo
from ...sse import line
from ..openai.logprobs import one_token
from .body import arguments_of
from .durations import nanoseconds


class Shape:
    """Form of a record that holds text."""

    def text(self, content: str = "", thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """Return the fields of some text."""
        raise NotImplementedError

    def record(self, model: str, text: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Return a record of an answer."""
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {"model": model, "created_at": now, **text, **fields}


class ChatShape(Shape):
    """Form of the records of /api/chat."""

    def text(self, content: str = "", thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = list(calls)
        return {"message": message}


class GenerateShape(Shape):
    """Form of the records of /api/generate."""

    def text(self, content: str = "", thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        return {"response": content, **({"thinking": thinking} if thinking else {})}


class Answer:
    """Answer to a request.

    Args:
        begin: seconds of a monotonic clock, before the model was loaded.
    """

    def __init__(self, shape: Shape, chat: Chat, begin: float) -> None:
        self.shape, self.chat, self.begin = shape, chat, begin
        self.calls: list[tuple[str, list[str]]] = []  # name, and parts of the arguments
        self.told = 0  # calls that have been told; a call is told when it is complete
        self.unused: list[TokenInfo] = []
        self.finish = ""

    def take(self, delta: AnswerDelta) -> list[dict[str, Any]]:
        """Take a part in; return the calls that are complete."""
        self.unused.extend(delta.tokens)
        for call in delta.calls:
            if call.index == len(self.calls):
                self.calls.append((call.name, []))
            self.calls[call.index][1].append(call.arguments)
        self.finish = delta.finish
        complete = len(self.calls) if delta.finish else max(len(self.calls) - 1, 0)
        begin, self.told = self.told, max(complete, self.told)
        return [
            {"function": {"index": begin + number, "name": name, "arguments": arguments_of("".join(parts))}}
            for number, (name, parts) in enumerate(self.calls[begin : self.told])
        ]

    async def whole(self) -> dict[str, Any]:
        """Return the body of the response. Raises ApiError."""
        content, thinking, calls = list[str](), list[str](), list[dict[str, Any]]()
        async for delta in self.chat:
            calls += self.take(delta)
            content.append(delta.content)
            thinking.append(delta.reasoning)
        text = self.shape.text("".join(content), "".join(thinking), calls)
        return self.record(text, **self.logprobs(), **self.last())

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a stream. Raises ApiError."""
        try:
            async for delta in self.chat:
                calls = self.take(delta)
                if delta.content or delta.reasoning or calls:
                    text = self.shape.text(delta.content, delta.reasoning, calls)
                    yield line(self.record(text, done=False, **self.logprobs()))
            yield line(self.record(self.shape.text(), **self.logprobs(), **self.last()))
        finally:
            self.chat.generation.close()

    def record(self, text: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return self.shape.record(self.chat.generation.name, text, **fields)

    def logprobs(self) -> dict[str, Any]:
        """Return the log-probabilities of the tokens that have not been told."""
        count, texts = self.chat.generation.requests[0].logprobs, self.chat.model.token_texts
        tokens, self.unused = self.unused, []
        if count is None or not tokens:
            return {}
        return {"logprobs": [
            {
                **one_token(texts, each.token, each.logprob),
                **({"top_logprobs": [one_token(texts, *one) for one in each.top[:count]]} if count else {}),
            }
            for each in tokens
        ]}  # fmt: skip

    def last(self) -> dict[str, Any]:
        """Return the fields of the last record: why it ended, and how long it took."""
        generation, now = self.chat.generation, time.monotonic()
        clock = generation.clock
        first = clock.first or now
        return {
            "done": True, "done_reason": "stop" if self.finish == "tool_calls" else self.finish,
            "total_duration": nanoseconds(now - self.begin),
            "load_duration": nanoseconds(generation.begin - self.begin),
            "prompt_eval_count": generation.prompt_tokens,
            "prompt_eval_duration": nanoseconds(first - generation.begin),
            "eval_count": generation.completion_tokens, "eval_duration": nanoseconds(max(clock.last, first) - first),
        }  # fmt: skip
