"""Answers of /v1/chat/completions, whole and in chunks."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...generation.chat import AnswerDelta, Chat, ChatRequest
from ...generation.text import TokenInfo
from ...parsers import CallDelta
from ...sse import DONE, event
from .chat_body import ChatBody
from .logprobs import chat_logprobs, prompt_logprobs
from .usage import timings, usage


@dataclass
class Choice:
    """One answer so far. `calls`: id, name and parts of the arguments of each call."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, list[str]]] = field(default_factory=list)
    tokens: list[TokenInfo] = field(default_factory=list)
    finish: str = ""
    stop_reason: str | int | None = None

    def add(self, delta: AnswerDelta) -> None:
        self.content.append(delta.content)
        self.reasoning.append(delta.reasoning)
        self.tokens.extend(delta.tokens)
        for call in delta.calls:
            self.add_call(call)
        self.finish, self.stop_reason = delta.finish, delta.stop_reason

    def add_call(self, call: CallDelta) -> str:
        """Add a part of a call; return the call's id if it is the first one, else an empty text."""
        new = call.index == len(self.calls)
        if new:
            self.calls.append((f"call_{secrets.token_hex(12)}", call.name, []))
        self.calls[call.index][2].append(call.arguments)
        return self.calls[call.index][0] if new else ""


class ChatAnswer:
    """Answer to a request."""

    def __init__(self, body: ChatBody, asked: ChatRequest, chat: Chat) -> None:
        self.body, self.asked, self.chat = body, asked, chat
        self.texts = chat.model.token_texts
        self.choices = [Choice() for _ in range(asked.sampling.n)]
        self.echo = body.echoed(asked)
        name = body.request_id or secrets.token_hex(12)
        self.head = {
            "id": f"chatcmpl-{name}", "created": chat.generation.created, "model": chat.generation.name,
            "system_fingerprint": chat.model.fingerprint,
        }  # fmt: skip
        self.unused: list[list[TokenInfo]] = [[] for _ in self.choices]  # tokens that no chunk has told yet

    async def whole(self) -> dict[str, Any]:
        """Return the body of the response. Raises ApiError."""
        async for delta in self.chat:
            self.choices[delta.index].add(delta)
        generation, body = self.chat.generation, self.body
        prompt, more = generation.requests[0].prompt, dict[str, Any]()
        if body.metadata is not None:
            more["metadata"] = body.metadata
        if body.prompt_logprobs is not None:
            more["prompt_logprobs"] = prompt_logprobs(self.texts, prompt, generation.prompt_logprobs[0])
        if body.return_token_ids:
            more["prompt_token_ids"] = list(prompt)
        return {
            **self.head, "object": "chat.completion",
            "choices": [self.choice(index, choice) for index, choice in enumerate(self.choices)],
            "usage": self.usage(), "timings": timings(generation), **more,
        }  # fmt: skip

    def usage(self) -> dict[str, Any]:
        return usage(self.chat.generation, self.chat.reasoning_tokens)

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """Return a whole choice."""
        content = self.echo + "".join(choice.content)
        reasoning = "".join(choice.reasoning) if self.body.include_reasoning is not False else ""
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if reasoning:
            message |= {"reasoning_content": reasoning, "reasoning": reasoning}
        if choice.calls:
            message["content"] = content or None
            message |= self.called(choice)
        return {
            "index": index, "message": message, "logprobs": self.logprobs(choice.tokens),
            "finish_reason": self.reason(choice.finish), "stop_reason": choice.stop_reason, **self.ids(choice.tokens),
        }  # fmt: skip

    def called(self, choice: Choice) -> dict[str, Any]:
        """Return the calls of a message."""
        functions = [{"name": name, "arguments": "".join(parts)} for _, name, parts in choice.calls]
        if self.body.functions is not None:
            return {"function_call": functions[0]}
        ids = [number for number, _, _ in choice.calls]
        calls = zip(ids, functions, strict=True)
        return {"tool_calls": [{"id": one, "type": "function", "function": function} for one, function in calls]}

    def reason(self, finish: str) -> str:
        """Return the finish reason in OpenAI's words."""
        return "function_call" if finish == "tool_calls" and self.body.functions is not None else finish

    def logprobs(self, tokens: Sequence[TokenInfo]) -> dict[str, Any] | None:
        count = self.asked.sampling.logprobs
        return None if count is None else chat_logprobs(self.texts, tokens, count)

    def ids(self, tokens: Sequence[TokenInfo]) -> dict[str, Any]:
        return {"token_ids": [each.token for each in tokens]} if self.body.return_token_ids else {}

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream. Raises ApiError."""
        generation, left = self.chat.generation, len(self.choices)
        try:
            for index in range(len(self.choices)):
                ids = list(generation.requests[0].prompt)
                first: dict[str, Any] = {"prompt_token_ids": ids} if self.body.return_token_ids else {}
                yield self.chunk(index, {"role": "assistant", "content": self.echo}, None, **first)
            async for delta in self.chat:
                self.unused[delta.index].extend(delta.tokens)
                for part in self.parts(delta):
                    yield self.chunk(delta.index, part)
                if delta.finish:
                    left -= 1
                    more = {} if left or self.body.wants_usage else {"timings": timings(generation)}
                    yield self.chunk(delta.index, {}, delta, **more)
            if self.body.wants_usage:
                yield self.event(choices=[], usage=self.usage(), timings=timings(generation))
            yield DONE
        finally:
            generation.close()

    def parts(self, delta: AnswerDelta) -> list[dict[str, Any]]:
        """Return the deltas of a part: its reasoning, its content, its calls."""
        out: list[dict[str, Any]] = []
        if delta.reasoning and self.body.include_reasoning is not False:
            out.append({"reasoning_content": delta.reasoning, "reasoning": delta.reasoning})
        if delta.content:
            out.append({"content": delta.content})
        choice = self.choices[delta.index]
        return out + [self.call_part(call, choice.add_call(call)) for call in delta.calls]

    def call_part(self, call: CallDelta, number: str) -> dict[str, Any]:
        """Return the delta of a call. `number`: its id in its first part."""
        function = {**({"name": call.name} if number else {}), "arguments": call.arguments}
        if self.body.functions is not None:
            return {"function_call": function}
        first = {"id": number, "type": "function"} if number else {}
        return {"tool_calls": [{"index": call.index, **first, "function": function}]}

    def chunk(self, index: int, delta: dict[str, Any], last: AnswerDelta | None = None, **more: Any) -> bytes:
        """Return the event of one choice, with the tokens that came since the last one."""
        tokens, self.unused[index] = self.unused[index], []
        choice: dict[str, Any] = {
            "index": index, "delta": delta, "logprobs": self.logprobs(tokens) if tokens else None,
            "finish_reason": None if last is None else self.reason(last.finish), **self.ids(tokens),
        }  # fmt: skip
        if last is not None:
            choice["stop_reason"] = last.stop_reason
        if self.body.stream_options is not None and self.body.stream_options.continuous_usage_stats:
            more["usage"] = self.usage()
        elif self.body.wants_usage:
            more["usage"] = None
        return self.event(choices=[choice], **more)

    def event(self, **fields: Any) -> bytes:
        return event({**self.head, "object": "chat.completion.chunk", **fields})
