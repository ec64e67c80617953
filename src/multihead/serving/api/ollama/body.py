"""Bodies of Ollama's interface, as the conversations that they ask about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from ...body import Body
from ...errors import ApiError
from ...generation.chat import ChatRequest
from ...generation.forms import form_schema
from ...generation.prompts import Template, template_text
from ...generation.reasoning import reasoning_variables, thinking_variables
from ...generation.sampling import Sampling
from ...models.served_model import ServedModel
from ..openai.tool_fields import read_tools
from .durations import seconds_of
from .options import read_options

MAX_TOP_LOGPROBS = 20
ROLES = ("system", "user", "assistant", "tool")
Message = dict[str, Any]


class OllamaBody(Body):
    """Fields that both requests have."""

    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {"truncate": (False,), "shift": (False,)}

    model: str
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)

    @property
    def name(self) -> str:
        """The model; the tag that Ollama's clients add means nothing here."""
        return self.model.removesuffix(":latest")

    @property
    def keep_seconds(self) -> float | None:
        """Seconds for which the model stays loaded. Raises ApiError."""
        return seconds_of(self.keep_alive)

    def sampling(self, model: ServedModel, cache_salt: bytes) -> Sampling:
        """Return the options of the answer. Raises ApiError."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError("top_logprobs needs logprobs to be true.", param="top_logprobs")
        return Sampling(
            **read_options(model, self.options or {}), form=self.form(), form_name="format", cache_salt=cache_salt,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )  # fmt: skip

    def form(self) -> dict[str, Any]:
        """Return the form of the text. Raises ApiError."""
        if self.format in (None, ""):
            return {}
        if self.format == "json":
            return {"json_schema": {"type": "object"}}
        if isinstance(self.format, str):
            raise ApiError(f"format is {self.format!r:.80}; it can be json or a JSON schema.", param="format")
        return {"json_schema": form_schema(self.format, "format")}

    def template(self, model: ServedModel, **options: Any) -> Template:
        """Return how the chat template is applied. Raises ApiError."""
        source = template_text(model, Template())
        if self.think is None or self.think == "":
            variables: dict[str, Any] = {}
        elif isinstance(self.think, bool):
            variables = thinking_variables(source, self.think, "think")
        else:
            variables = reasoning_variables(source, self.think, {}, "think")
        return Template(variables=variables, **options)


class OllamaChatBody(OllamaBody):
    """Body of /api/chat."""

    messages: list[dict[str, Any]] = Field(default_factory=list)
    tools: list[dict[str, Any]] | None = None

    def chat_request(self, model: ServedModel, cache_salt: bytes) -> ChatRequest:
        """Return the conversation. Raises ApiError."""
        messages = [read_message(message, f"messages[{number}]") for number, message in enumerate(self.messages)]
        goes_on = messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]
        return ChatRequest(
            messages=messages, tools=read_tools(self.tools, None), sampling=self.sampling(model, cache_salt),
            template=self.template(model, continue_final_message=goes_on, add_generation_prompt=not goes_on),
        )  # fmt: skip


class GenerateBody(OllamaBody):
    """Body of /api/generate."""

    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {
        "context": "send the conversation to /api/chat.", "width": "this server makes no images.",
        "height": "this server makes no images.", "steps": "this server makes no images.",
    }  # fmt: skip
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **OllamaBody.NEUTRAL, "suffix": ("",), "images": ([],), "template": ("",),
    }  # fmt: skip

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None

    def chat_request(self, model: ServedModel, cache_salt: bytes) -> ChatRequest:
        """Return the prompt as a conversation. Raises ApiError."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return ChatRequest(
            messages=[*system, {"role": "user", "content": self.prompt}], template=self.template(model),
            sampling=self.sampling(model, cache_salt),
        )  # fmt: skip

    def check_raw(self) -> None:
        """Raise ApiError for what a prompt without a template cannot have."""
        if self.system:
            raise ApiError("system needs the chat template, which raw leaves out.", param="system")
        if self.think:
            raise ApiError("think needs the chat template, which raw leaves out.", param="think")


def read_message(given: Mapping[str, Any], where: str) -> Message:
    """Return a message for a chat template. Raises ApiError."""
    role = given.get("role")
    if role not in ROLES:
        raise ApiError(f"{where}.role is {role!r:.80}; it can be {', '.join(ROLES)}.", param=f"{where}.role")
    fields = {name: value for name, value in given.items() if value not in (None, [])}
    if fields.get("images"):
        raise ApiError(f"{where}.images: this model reads text only.", param=f"{where}.images")
    known = {"role", "content"} | {
        "assistant": {"thinking", "tool_calls"}, "tool": {"tool_name", "tool_call_id"},
    }.get(role, set())  # fmt: skip
    if other := sorted(set(fields) - known):
        raise ApiError(
            f"{where} has the field {other[0]!r:.80}, which a message of the role {role} cannot have.",
            param=f"{where}.{other[0]}", code="unknown_parameter",
        )  # fmt: skip
    texts = {"content": "content", "thinking": "reasoning_content", "tool_name": "name", "tool_call_id": "tool_call_id"}
    message: Message = {"role": role, "content": ""}
    for name, key in texts.items():
        if name in fields:
            if not isinstance(fields[name], str):
                raise ApiError(f"{where}.{name} must be a text.", param=f"{where}.{name}")
            message[key] = fields[name]
    if calls := fields.get("tool_calls"):
        message["tool_calls"] = read_calls(calls, f"{where}.tool_calls")
    return message


def read_calls(given: Any, where: str) -> Sequence[dict[str, Any]]:
    """Return the calls of a message. Raises ApiError."""
    found = []
    for number, call in enumerate(given if isinstance(given, list) else [None]):
        function = call.get("function") if isinstance(call, Mapping) else None
        name, arguments = (function.get("name"), function.get("arguments")) if isinstance(function, Mapping) else (0, 0)
        if not isinstance(name, str) or not isinstance(arguments, Mapping):
            raise ApiError(
                f"{where}[{number}] must have a function with a name and arguments.", param=f"{where}[{number}]"
            )
        found.append({"type": "function", "function": {"name": name, "arguments": dict(arguments)}})
    return found


def arguments_of(text: str) -> Any:
    """Return the arguments of a call; what was cut at the limit of tokens, and is no JSON, as its text."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {"partial_json": text}
