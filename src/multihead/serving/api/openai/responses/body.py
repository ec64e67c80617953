"""Body of /v1/responses, as the conversation that it asks about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ....body import Body
from ....errors import ApiError
from ....generation.chat import ChatRequest
from ....generation.forms import form_schema, response_form
from ....generation.prompts import Template, template_text
from ....generation.reasoning import reasoning_variables
from ....generation.sampling import Sampling
from ....generation.tools import Tool, ToolChoice, check_function, check_tools, function_tool, offered
from ....models.served_model import ServedModel
from ..sampling_fields import INT64, MAX_TOP_LOGPROBS, Text
from .items import read_input

STATELESS = "this server keeps no conversations; send the whole one as input."
LOGPROBS = "message.output_text.logprobs"
CHOICES = ("none", "auto", "required")


class InputBody(Body):
    """Fields that the prompt of a response is made of; the body of /v1/responses/input_tokens."""

    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {
        "previous_response_id": STATELESS, "conversation": STATELESS,
        "personality": "models here have no styles to choose from.",
    }  # fmt: skip
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {"truncation": ("disabled",)}

    model: str | None = None
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def conversation(self, model: ServedModel, sampling: Sampling) -> ChatRequest:
        """Return the conversation. Raises ApiError."""
        source = template_text(model, Template())
        tools = [read_tool(tool, f"tools[{number}]") for number, tool in enumerate(self.tools or ())]
        check_tools(tools, "tools")
        tools, choice = read_choice(tools, self.tool_choice)
        return ChatRequest(
            messages=read_input(self.input, self.instructions, source), tools=tools, choice=choice,
            parallel_calls=self.parallel_tool_calls is not False,
            strict=any(tool.get("strict") for tool in self.tools or ()),
            template=Template(variables=self.variables(source)).check(), sampling=replace(
                sampling, form=self.form(), form_name="text.format"
            ),
        )  # fmt: skip

    def variables(self, template: str) -> dict[str, Any]:
        """Return the variables of the chat template. Raises ApiError."""
        given = {name: value for name, value in (self.reasoning or {}).items() if value is not None}
        if other := sorted(set(given) - {"effort"}):
            raise ApiError(
                f"reasoning.{other[0]:.80} is not computed here; reasoning is told as it is.",
                param=f"reasoning.{other[0]:.80}", code="unsupported_parameter",
            )  # fmt: skip
        return reasoning_variables(template, given.get("effort"), self.chat_template_kwargs or {}, "reasoning.effort")

    def form(self) -> dict[str, Any]:
        """Return the form that `text.format` asks for. Raises ApiError."""
        given = {name: value for name, value in (self.text or {}).items() if value is not None}
        if other := sorted(set(given) - {"format", "verbosity"}):
            raise ApiError(f"text has no field {other[0]!r:.80}.", param=f"text.{other[0]}", code="unknown_parameter")
        if given.get("verbosity", "medium") != "medium":
            raise ApiError(
                "text.verbosity is not computed here; leave it out.", param="text.verbosity",
                code="unsupported_parameter",
            )  # fmt: skip
        wanted = given.get("format")
        if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
            if wanted is not None and not isinstance(wanted, Mapping):
                raise ApiError("text.format must be an object.", param="text.format")
            return response_form(wanted, "text.format")
        if other := sorted(set(wanted) - {"type", "name", "schema", "strict", "description"}):
            raise ApiError(
                f"text.format has no field {other[0]!r:.80}.", param=f"text.format.{other[0]}", code="unknown_parameter"
            )
        return {"json_schema": form_schema(wanted.get("schema"), "text.format.schema")}


class ResponsesBody(InputBody):
    """Fields of OpenAI's interface, then vLLM's of sampling."""

    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {
        **InputBody.NOT_COMPUTED, "prompt": "this server keeps no prompts.",
        "max_tool_calls": "this server runs no tools of its own.", "moderation": "it is not computed here.",
        "context_management": "conversations are read as they are.",
    }  # fmt: skip
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **InputBody.NEUTRAL, "background": (False,), "store": (False,), "service_tier": ("auto", "default"),
        "stream_options": ({}, {"include_obfuscation": False}),
    }  # fmt: skip

    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    include: list[str] | None = None
    stream: bool | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    # names of users, and hints for caches: no text depends on them
    user: str | None = Field(None, max_length=1024)
    safety_identifier: str | None = Field(None, max_length=64)
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    seed: int | None = Field(None, ge=-INT64, lt=INT64 - 1024)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.001, le=100)  # below, scores become infinite
    cache_salt: Text | None = None

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    def chat_request(self, model: ServedModel, cache_salt: bytes) -> ChatRequest:
        """Return the conversation and how it is answered. Raises ApiError."""
        if other := [one for one in self.include or () if one != LOGPROBS]:
            raise ApiError(
                f"include: {other[0]!r:.80} is not computed here; it can be {LOGPROBS}.", param="include",
                code="unsupported_value",
            )  # fmt: skip
        if self.top_logprobs and not self.wants_logprobs:
            raise ApiError(f"top_logprobs needs {LOGPROBS} in include.", param="top_logprobs")
        options = {
            name: getattr(self, name) for name in (
                "temperature", "top_p", "seed", "top_k", "min_p", "frequency_penalty", "presence_penalty",
                "repetition_penalty",
            )
        }  # fmt: skip
        return self.conversation(model, Sampling(
            options=options, limit=self.max_output_tokens, limit_name="max_output_tokens", cache_salt=cache_salt,
            logprobs=(self.top_logprobs or 0) if self.wants_logprobs else None,
        ))  # fmt: skip


def read_tool(given: Mapping[str, Any], where: str) -> Tool:
    """Return `{"type": "function", "name", ...}` as a tool. Raises ApiError for those that a server would run."""
    check_function(given, where)
    return function_tool({name: value for name, value in given.items() if name != "type" and value is not None}, where)


def read_choice(tools: list[Tool], given: str | Mapping[str, Any] | None) -> tuple[list[Tool], ToolChoice]:
    """Return the tools that may be called, and whether one must be. Raises ApiError."""
    if given is None or isinstance(given, str):
        mode = given or "auto"
        if mode not in CHOICES:
            raise ApiError(f"tool_choice is {mode!r:.80}; it can be {', '.join(CHOICES)}.", param="tool_choice")
        if mode == "required" and not tools:
            raise ApiError("tool_choice demands a call, and there are no tools.", param="tool_choice")
        return tools, ToolChoice(mode)
    if given.get("type") == "allowed_tools" and given.get("mode") in ("auto", "required"):
        listed = given.get("tools")
        names = [called_name(one, "tool_choice.tools") for one in (listed if isinstance(listed, list) else [])]
        return offered(tools, names, "tool_choice"), ToolChoice(given["mode"])
    name = called_name(given, "tool_choice")
    return offered(tools, [name], "tool_choice"), ToolChoice("required", name)


def called_name(given: Any, where: str) -> str:
    """Return the name in `{"type": "function", "name"}`. Raises ApiError."""
    if not isinstance(given, Mapping) or given.get("type") != "function" or not isinstance(given.get("name"), str):
        raise ApiError(f'{where} must be {{"type": "function", "name": ...}}.', param=where)
    return str(given["name"])
