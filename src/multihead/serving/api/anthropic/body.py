"""Bodies of Anthropic's interface, as the conversations that they ask about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from ...body import Body
from ...errors import ApiError
from ...generation.chat import ChatRequest
from ...generation.forms import form_schema
from ...generation.prompts import Template, template_text
from ...generation.reasoning import reasoning_variables, thinking_variables
from ...generation.sampling import Sampling
from ...generation.tools import Tool, ToolChoice, check_tools, function_tool, offered
from ...models.served_model import ServedModel
from .blocks import read_messages, system_text

Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
CHOICES = {"auto": "auto", "any": "required", "none": "none", "tool": "required"}


class ConversationBody(Body):
    """Body of /v1/messages/count_tokens."""

    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {
        "container": "this server runs no code.", "inference_geo": "this server is in one place.",
        "mcp_servers": "this server calls no other ones.", "context_management": "conversations are read as they are.",
        "diagnostics": "it is not computed here.",
    }  # fmt: skip
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "service_tier": ("auto", "standard_only"), "speed": ("standard",),
    }  # fmt: skip

    model: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    # a hint for caches, and names of users: no text depends on them
    cache_control: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None

    def chat_request(self, model: ServedModel, cache_salt: bytes = b"") -> ChatRequest:
        """Return the conversation. Raises ApiError."""
        source = template_text(model, Template())
        system = [] if self.system is None else [{"role": "system", "content": system_text(self.system)}]
        messages = [*system, *read_messages(self.messages)]
        goes_on = messages[-1]["role"] == "assistant"
        tools, choice, parallel = self.read_tools()
        variables, budget = self.thinking_settings(source)
        return ChatRequest(
            messages=messages, tools=tools, choice=choice, parallel_calls=parallel,
            strict=any(tool.get("strict") for tool in self.tools or ()),
            template=Template(
                variables=self.effort_variables(source, variables), continue_final_message=goes_on,
                add_generation_prompt=not goes_on,
            ),
            sampling=Sampling(**self.sampling_fields(), cache_salt=cache_salt), reasoning_budget=budget,
            budget_name="thinking.budget_tokens",
        )  # fmt: skip

    def sampling_fields(self) -> dict[str, Any]:
        """Return the arguments of `Sampling`. Raises ApiError."""
        self.form()
        return {"limit": None}

    def form(self) -> dict[str, Any]:
        """Return the form that `output_config.format` asks for. Raises ApiError."""
        wanted = (self.output_config or {}).get("format")
        if wanted is None:
            return {}
        if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema" or set(wanted) != {"type", "schema"}:
            raise ApiError(
                "output_config.format must have the type json_schema and a schema.", param="output_config.format"
            )
        return {"json_schema": form_schema(wanted["schema"], "output_config.format.schema")}

    def read_tools(self) -> tuple[list[Tool], ToolChoice, bool]:
        """Return the tools, their choice, and whether several may be called. Raises ApiError."""
        tools = [read_tool(tool, f"tools[{number}]") for number, tool in enumerate(self.tools or ())]
        check_tools(tools, "tools")
        given = self.tool_choice or {"type": "auto"}
        kind = given.get("type")
        mode = CHOICES.get(kind) if isinstance(kind, str) else None
        allowed = {"type", "disable_parallel_tool_use"} | ({"name"} if given.get("type") == "tool" else set())
        if mode is None or set(given) - allowed:
            raise ApiError("tool_choice must have the type auto, any, tool (with a name) or none.", param="tool_choice")
        if mode == "required" and not tools:
            raise ApiError("tool_choice demands a call, and there are no tools.", param="tool_choice")
        name = str(given.get("name") or "")
        if given.get("type") == "tool":
            tools = offered(tools, [name], "tool_choice")
        return tools, ToolChoice(mode, name), not given.get("disable_parallel_tool_use")

    def thinking_settings(self, template: str) -> tuple[dict[str, Any], int | None]:
        """Return the template's variables of `thinking`, and the most tokens of reasoning. Raises ApiError."""
        given = self.thinking
        if given is None:
            return {}, None
        kind, budget = given.get("type"), given.get("budget_tokens")
        if kind not in ("enabled", "disabled", "adaptive") or set(given) - {"type", "budget_tokens", "display"}:
            raise ApiError("thinking must have the type enabled, disabled or adaptive.", param="thinking")
        if given.get("display") not in (None, "summarized"):
            raise ApiError("thinking.display: thinking is always told.", param="thinking.display")
        if kind != "enabled" and budget is not None:
            name = "thinking.budget_tokens"
            raise ApiError(f"{name} has no effect with the type {kind}.", param=name)
        if kind == "disabled":
            return thinking_variables(template, False, "thinking"), None
        if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
            raise ApiError("thinking.budget_tokens must be a number of tokens.", param="thinking.budget_tokens")
        return thinking_variables(template, True, "thinking"), budget

    def effort_variables(self, template: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the template's variables with `output_config.effort`. Raises ApiError."""
        given = self.output_config or {}
        if other := sorted(set(given) - {"effort", "format"}):
            raise ApiError(
                f"output_config has no field {other[0]!r:.80}.", param=f"output_config.{other[0]}",
                code="unknown_parameter",
            )  # fmt: skip
        effort = given.get("effort")
        return reasoning_variables(template, effort, variables, "output_config.effort")


class MessagesBody(ConversationBody):
    """Body of /v1/messages."""

    max_tokens: int = Field(ge=1)
    stream: bool | None = None
    stop_sequences: Annotated[list[Stop], Field(max_length=64)] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)

    def sampling_fields(self) -> dict[str, Any]:
        return {
            "options": {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k},
            "limit": self.max_tokens, "stops": tuple(self.stop_sequences or ()), "form": self.form(),
            "form_name": "output_config.format",
        }  # fmt: skip


def read_tool(given: Mapping[str, Any], where: str) -> Tool:
    """Return a tool of Anthropic's interface. Raises ApiError for those that a server would have to run."""
    if given.get("type") not in (None, "custom"):
        raise ApiError(
            f"{where}.type is {given['type']!r:.80}; this server runs no tools of its own.", param=f"{where}.type",
            code="unsupported_parameter",
        )  # fmt: skip
    neutral = {"type", "cache_control", "eager_input_streaming"}  # calls are streamed as they come
    known = neutral | {"name", "description", "input_schema", "strict"}
    if other := sorted(name for name in set(given) - known if given[name] is not None):
        raise ApiError(f"{where} has no field {other[0]!r:.80}.", param=f"{where}.{other[0]}", code="unknown_parameter")
    fields = {"name": given.get("name"), "description": given.get("description"), "strict": given.get("strict")}
    return function_tool({**fields, "parameters": given.get("input_schema")}, where)
