"""Answers to conversations: reasoning, content and tool calls, the same for all interfaces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request

from ..errors import ApiError
from ..models.served_model import ServedModel
from ..parsers import CallDelta, OutputParser, ParsedDelta, choose_parser
from ..request_info import info_of
from .answer_forms import answer_form
from .generic_tools import PARSER
from .prompts import Template, chat_prompt, generic_tools, template_text
from .reasoning_budget import reasoning_budget
from .request import GenerationRequest
from .sampling import Sampling, generation_request, longest_prompt
from .stream import Generation, start
from .text import Delta, TokenInfo
from .tools import Tool, ToolChoice

PROMPT_END = 256  # tokens at the end of a prompt that may open reasoning


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """Conversation to answer.

    Args:
        messages: as chat templates read them. tools: that the model may call.
        parallel_calls: False leaves out all calls but the first. strict: calls keep to the schemas of their tools.
        reasoning_budget: most tokens of reasoning.
        budget_name: its field in the request.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Tool] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    parallel_calls: bool = True
    strict: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    template: Template = field(default_factory=Template)
    reasoning_budget: int | None = None
    budget_name: str = "thinking_token_budget"

    @property
    def parallel(self) -> bool:
        """True if an answer may have several calls; a tool that is demanded by its name is called once."""
        return self.parallel_calls and not self.choice.name


@dataclass
class AnswerDelta:
    """The next part of an answer.

    Args:
        index: of the answer. tokens: those whose text begins in this part.
        finish: "stop", "length" or "tool_calls" in the last part; empty before. stop_reason: see Delta.
    """

    index: int
    reasoning: str = ""
    content: str = ""
    calls: Sequence[CallDelta] = ()
    tokens: Sequence[TokenInfo] = ()
    finish: str = ""
    stop_reason: str | int | None = None


class Chat:
    """Answers of one request; iterate over it once.

    Attributes:
        generation: has usage and times. reasoning: the parts of each answer's reasoning so far.
    """

    def __init__(self, model: ServedModel, generation: Generation, parsers: Sequence[OutputParser], parallel: bool):
        self.model, self.generation = model, generation
        self.reasoning: list[list[str]] = [[] for _ in parsers]
        self._parsers, self._parallel = parsers, parallel
        self._called = [False] * len(parsers)

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the reasoning so far, which does not count its markers."""
        texts = ["".join(parts) for parts in self.reasoning if parts]
        return sum(map(len, self.model.tokenizer.encode_ids(texts, special=False))) if texts else 0

    async def __aiter__(self) -> AsyncIterator[AnswerDelta]:
        """Yield what is new. Raises ApiError."""
        try:
            async for delta in self.generation:
                found = self._parse(delta)
                if found.finish or found.reasoning or found.content or found.calls or found.tokens:
                    yield found
        finally:
            self.generation.close()

    def _parse(self, delta: Delta) -> AnswerDelta:
        parser = self._parsers[delta.index]
        parts = [parser.feed(delta.text)]
        if delta.finish is not None:
            parts.append(parser.finish())
        out = AnswerDelta(
            delta.index, "".join(part.reasoning for part in parts), "".join(part.content for part in parts),
            self._calls(parts), delta.tokens, stop_reason=delta.stop_reason,
        )  # fmt: skip
        if out.reasoning:
            self.reasoning[delta.index].append(out.reasoning)
        self._called[delta.index] |= bool(out.calls)
        if delta.finish is not None:
            reason = delta.finish.reason
            out.finish = "tool_calls" if reason == "stop" and self._called[delta.index] else reason
        return out

    def _calls(self, parts: Sequence[ParsedDelta]) -> list[CallDelta]:
        calls = [call for part in parts for call in part.calls]
        return calls if self._parallel else [call for call in calls if call.index == 0]


async def start_chat(request: Request, model: ServedModel, asked: ChatRequest) -> Chat:
    """Begin to answer a conversation. Raises ApiError."""
    parsers: list[OutputParser] = []

    def make() -> list[GenerationRequest]:
        made, found = prepare_chat(model, asked)
        parsers.extend(found)
        return [made]

    generation = await start(model, info_of(request), asked.sampling.n, make)
    return Chat(model, generation, parsers, asked.parallel)


def prepare_chat(model: ServedModel, asked: ChatRequest) -> tuple[GenerationRequest, list[OutputParser]]:
    """Return the request of a conversation, and a parser for each of its answers. Raises ApiError."""
    prompt = conversation_ids(model, asked, longest_prompt(model, asked.sampling))
    end = model.tokenizer.decode(prompt[-PROMPT_END:])
    tools = usable_tools(asked)
    plain = tools and generic_tools(model, asked.template)

    def parser() -> OutputParser:
        return choose_parser(
            model.tokenizer, family=model.model.config.model_type, tools=tools or None,
            tool_parser=PARSER if plain else model.settings.tool_parser,
            reasoning_parser=model.settings.reasoning_parser, prompt=end,
        )  # fmt: skip

    parsers = [parser() for _ in range(asked.sampling.n)]
    if tools and not parsers[0].tool_parser:
        raise ApiError(
            f"How {model.id} writes calls is not known, so none would be found. Name its tool_parser when the server "
            "starts, or leave tools out.", param="tools", code="unsupported_parameter",
        )  # fmt: skip
    form = answer_form(
        model, parsers[0], asked.sampling.form, tools, asked.choice, parallel=asked.parallel, strict=asked.strict
    )
    sampling = replace(asked.sampling, form=form, form_name=asked.sampling.form_name or "tools")
    made = generation_request(model, prompt, sampling, parsers[0].kept_tokens)
    if (budget := asked.reasoning_budget) is not None:
        limit = reasoning_budget(model.tokenizer, parsers[0], len(made.prompt), budget, asked.budget_name)
        made = replace(made, extras=replace(made.extras, processors=(limit,)))
    return made, parsers


def usable_tools(asked: ChatRequest) -> Sequence[Tool]:
    return () if asked.choice.mode == "none" else asked.tools


def conversation_ids(model: ServedModel, asked: ChatRequest, most: int | None = None) -> list[int]:
    """Return the token ids of a conversation. Raises ApiError, ChatTemplateError. `most`: see `text_prompts`."""
    tools = usable_tools(asked)
    if tools and "tools" not in template_text(model, asked.template) and not generic_tools(model, asked.template):
        raise ApiError(
            f"The chat template of {model.id} has no place for tools: the model was not made to call any. Ask another "
            "model, or let the server tell tools in plain words (tool_template: generic) or give this one a template "
            "that lists tools (chat_template of its settings).",
            param="tools", code="unsupported_parameter",
        )  # fmt: skip
    return chat_prompt(model, asked.messages, tools or None, asked.template, most)


async def count_prompt(model: ServedModel, asked: ChatRequest) -> int:
    """Return the number of tokens of a conversation's prompt. Raises ApiError."""
    return len(await asyncio.to_thread(conversation_ids, model, asked))
