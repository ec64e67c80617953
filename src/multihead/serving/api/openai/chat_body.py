"""Body of /v1/chat/completions, as the conversation that it asks about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ...errors import ApiError
from ...generation.chat import ChatRequest
from ...generation.prompts import Template, template_text
from ...generation.reasoning import reasoning_variables
from ...generation.sampling import Sampling
from ...models.served_model import ServedModel
from .messages import read_messages
from .sampling_fields import ELSEWHERE, MAX_TOP_LOGPROBS, SamplingFields
from .tool_fields import read_choice, read_tools

ONE_TEXT = "this server writes text only."


class ChatBody(SamplingFields):
    """Fields of OpenAI's interface, then vLLM's."""

    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {
        **SamplingFields.NOT_COMPUTED, "audio": ONE_TEXT, "web_search_options": "this server searches no web.",
        "moderation": ELSEWHERE, "mm_processor_kwargs": ONE_TEXT,
    }  # fmt: skip
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **SamplingFields.NEUTRAL, "store": (False,), "service_tier": ("auto", "default"), "verbosity": ("medium",),
        "modalities": (["text"],),
    }  # fmt: skip

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    function_call: str | dict[str, Any] | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None
    thinking_token_budget: int | None = Field(None, ge=1)
    prediction: dict[str, Any] | None = None  # a hint for speed, which changes no text
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    # hints for caches, and names of users: no text depends on them
    safety_identifier: str | None = Field(None, max_length=64)
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def check(self) -> None:
        """Raise ApiError for fields that exclude each other."""
        self.check_stream()
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError("top_logprobs needs logprobs to be true.", param="top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ApiError("max_tokens is the older name of max_completion_tokens; give one.", param="max_tokens")
        if self.functions is not None and self.tools is not None:
            raise ApiError("functions is the older form of tools; give one of them.", param="functions")
        if self.prompt_logprobs is not None and self.stream:
            raise ApiError("prompt_logprobs are not told in a stream.", param="prompt_logprobs")
        if self.prediction is not None and self.prediction.get("type") != "content":
            raise ApiError("prediction.type must be content.", param="prediction.type")

    def chat_request(self, model: ServedModel, cache_salt: bytes) -> ChatRequest:
        """Return the conversation. Raises ApiError."""
        self.check()
        if (self.n or 1) > model.server.max_n:
            raise ApiError(f"n is {self.n}; this server allows {model.server.max_n}.", param="n")
        if self.chat_template is not None and not model.server.request_templates:
            raise ApiError(
                "This server takes no chat_template from requests.", param="chat_template", code="unsupported_parameter"
            )
        template = Template(
            source=self.chat_template, documents=self.documents,
            add_generation_prompt=self.add_generation_prompt is not False,
            continue_final_message=bool(self.continue_final_message), add_special_tokens=bool(self.add_special_tokens),
        )  # fmt: skip
        source = template_text(model, template)
        if self.documents is not None and "documents" not in source:
            raise ApiError("The chat template of this model does not read documents.", param="documents")
        messages = read_messages(self.messages, source)
        variables = reasoning_variables(source, self.reasoning_effort, self.chat_template_kwargs or {})
        tools = read_tools(self.tools, self.functions)
        tools, choice = read_choice(tools, self.tool_choice, self.function_call)
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return ChatRequest(
            messages=messages, tools=tools, choice=choice,
            parallel_calls=self.parallel_tool_calls is not False and self.functions is None,
            template=Template(**{**vars(template), "variables": variables}).check(),
            strict=any(tool.get("function", {}).get("strict") for tool in self.tools or ()),
            reasoning_budget=self.thinking_token_budget,
            sampling=Sampling(
                **self.sampling_fields(), limit=limit, cache_salt=cache_salt,
                limit_name="max_tokens" if self.max_completion_tokens is None else "max_completion_tokens",
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            ),
        )  # fmt: skip

    def echoed(self, asked: ChatRequest) -> str:
        """Return the text that `echo` puts before the answer: the last message, if the answer goes on with it."""
        if not self.echo:
            return ""
        last = asked.messages[-1]
        return str(last["content"]) if last["role"] == "assistant" else ""
