"""Answers of /v1/completions, whole and in chunks."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....generation.streaming import Detokenizer
from ...generation.stream import Generation
from ...generation.text import Delta, TokenInfo
from ...sse import DONE, event
from ...token_texts import TokenTexts
from .completion_body import CompletionBody
from .logprobs import finite, prompt_logprobs
from .usage import timings, usage


@dataclass
class Choice:
    """One continuation so far."""

    text: list[str] = field(default_factory=list)
    tokens: list[TokenInfo] = field(default_factory=list)
    finish: str | None = None
    stop_reason: str | int | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.tokens.extend(delta.tokens)
        self.finish = None if delta.finish is None else delta.finish.reason
        self.stop_reason = delta.stop_reason

    @property
    def score(self) -> float:
        """Mean log-probability of a token, by which `best_of` ranks."""
        return sum(finite(each.logprob) for each in self.tokens) / max(len(self.tokens), 1)


@dataclass(frozen=True)
class Echo:
    """A prompt before its continuation: text, and its tokens with their log-probabilities where asked for."""

    text: str = ""
    tokens: Sequence[TokenInfo] = ()


class CompletionAnswer:
    """Answer to a request."""

    def __init__(self, body: CompletionBody, generation: Generation) -> None:
        self.body, self.generation, self.model = body, generation, generation.model
        self.texts: TokenTexts = self.model.token_texts
        name = body.request_id or secrets.token_hex(12)
        self.head = {
            "id": f"cmpl-{name}", "object": "text_completion", "created": generation.created, "model": generation.name,
            "system_fingerprint": self.model.fingerprint,
        }  # fmt: skip
        self._echoes: dict[int, Echo] = {}

    async def whole(self) -> dict[str, Any]:
        """Return the body of the response. Raises ApiError."""
        choices = [Choice() for _ in self.generation.choices]
        async for delta in self.generation:
            choices[delta.index].add(delta)
        drafts, best = self.body.drafts, self.body.n or 1
        found = []
        for prompt in range(len(self.generation.requests)):
            own = choices[prompt * drafts : (prompt + 1) * drafts]
            own = sorted(own, key=lambda choice: -choice.score)[:best] if self.body.ranks else own
            found += [self.choice(prompt, choice) for choice in own]
        return {
            **self.head, "choices": [{"index": index, **choice} for index, choice in enumerate(found)],
            "usage": usage(self.generation), "timings": timings(self.generation),
        }  # fmt: skip

    def choice(self, prompt: int, choice: Choice) -> dict[str, Any]:
        """Return a whole choice, without its number."""
        echo = self.echo(prompt)
        out: dict[str, Any] = {
            "text": echo.text + "".join(choice.text), "finish_reason": choice.finish,
            "logprobs": self.logprobs(echo, choice.tokens), "stop_reason": choice.stop_reason,
        }  # fmt: skip
        ids = self.generation.requests[prompt].prompt
        if self.body.prompt_logprobs is not None:
            out["prompt_logprobs"] = prompt_logprobs(self.texts, ids, self.generation.prompt_logprobs[prompt])
        if self.body.return_token_ids:
            out |= {"prompt_token_ids": list(ids), "token_ids": [each.token for each in choice.tokens]}
        return out

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the events of a stream. Raises ApiError."""
        told, left = set[int](), len(self.generation.choices)
        try:
            async for delta in self.generation:
                prompt, first = delta.index // self.body.drafts, delta.index not in told
                told.add(delta.index)
                left -= delta.finish is not None
                more = {"timings": timings(self.generation)} if not left and not self.body.wants_usage else {}
                yield self.event(choices=[self.part(delta, prompt, first)], **self.running_usage(), **more)
            if self.body.wants_usage:
                yield self.event(choices=[], usage=usage(self.generation), timings=timings(self.generation))
            yield DONE
        finally:
            self.generation.close()

    def part(self, delta: Delta, prompt: int, first: bool) -> dict[str, Any]:
        """Return the choice of a chunk; the first one begins with the echo."""
        echo = self.echo(prompt) if first else Echo()
        begin = len(self.echo(prompt).text)
        out: dict[str, Any] = {
            "index": delta.index, "text": echo.text + delta.text,
            "logprobs": self.logprobs(echo, delta.tokens, begin),
            "finish_reason": None if delta.finish is None else delta.finish.reason, "stop_reason": delta.stop_reason,
        }  # fmt: skip
        if self.body.return_token_ids:
            ids = {"prompt_token_ids": list(self.generation.requests[prompt].prompt)} if first else {}
            out |= {**ids, "token_ids": [each.token for each in delta.tokens]}
        return out

    def running_usage(self) -> dict[str, Any]:
        options = self.body.stream_options
        if options is not None and options.continuous_usage_stats:
            return {"usage": usage(self.generation)}
        return {"usage": None} if self.body.wants_usage else {}

    def event(self, **fields: Any) -> bytes:
        return event({**self.head, **fields})

    def echo(self, prompt: int) -> Echo:
        """Return what stands before the continuations of a prompt."""
        if not self.body.echo:
            return Echo()
        if prompt not in self._echoes:
            ids = self.generation.requests[prompt].prompt
            text, begins = token_begins(self.model.tokenizer, ids, self.texts.special)
            given = self.body.prompts[prompt]
            # the first token has no log-probability
            rows: list[tuple[float | None, Any]] = [(None, ()), *self.generation.prompt_logprobs[prompt]]
            rows += [(None, ())] * (len(ids) - len(rows))
            tokens = [TokenInfo(*row) for row in zip(ids, *zip(*rows, strict=True), begins, strict=True)]
            # a prompt that was cut echoes what was read
            whole = isinstance(given, str) and self.body.truncate_prompt_tokens is None
            self._echoes[prompt] = Echo(str(given) if whole else text, tokens)
        return self._echoes[prompt]

    def logprobs(self, echo: Echo, tokens: Sequence[TokenInfo], begin: int | None = None) -> dict[str, Any] | None:
        """Return the log-probabilities of a part. `begin`: characters before the continuation."""
        count = self.body.logprobs
        if count is None:
            return None
        begin = len(echo.text) if begin is None else begin
        listed = [*echo.tokens, *tokens]
        return {
            "tokens": [self.texts.key(each.token) for each in listed],
            "token_logprobs": [None if each.logprob is None else finite(each.logprob) for each in listed],
            "top_logprobs": [self.top(each, count) for each in listed],
            "text_offset": [each.begin for each in echo.tokens] + [begin + each.begin for each in tokens],
        }  # fmt: skip

    def top(self, each: TokenInfo, count: int) -> dict[str, float] | None:
        """Return the most likely tokens with the one that came."""
        if each.logprob is None:
            return None
        found = {self.texts.key(token): finite(logprob) for token, logprob in each.top[:count]}
        return {**found, self.texts.key(each.token): finite(each.logprob)}


def token_begins(tokenizer: Any, ids: Sequence[int], hidden: frozenset[int]) -> tuple[str, list[int]]:
    """Return the text of tokens without hidden ones, and the characters before each token."""
    detokenizer, text, begins = Detokenizer(tokenizer), "", list[int]()
    for token in ids:
        begins.append(len(text))
        if token not in hidden:
            text += detokenizer.add(token)
    return text + detokenizer.finish(), begins
