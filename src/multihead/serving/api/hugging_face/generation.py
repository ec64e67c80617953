"""text-generation in the shape of Text Generation Inference, whole and streamed, with the details of each token."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ....generation.stopping import Finish
from ....pipelines.generation_base import NEW_TOKENS
from ....pipelines.streaming_batcher import check_unicode
from ...body import Body, first_error
from ...disconnects import while_connected
from ...errors import ApiError, to_api_error
from ...generation.prompts import text_prompts
from ...generation.request import GenerationRequest
from ...generation.respond import stream_response
from ...generation.sampling import Sampling, generation_request, longest_prompt
from ...generation.stream import Generation, start
from ...generation.text import TokenInfo
from ...models.served_model import ServedModel
from ...request_info import cache_salt, info_of
from ...responses import json_response
from ...sse import event
from .errors import inference_content

LEAST = -9999.0  # written for log-probabilities that JSON has no number for
DRAWING = ("temperature", "top_k", "top_p", "typical_p")  # any of them draws tokens, as do_sample does


class Grammar(Body):
    """Form of the text: a JSON schema or a pattern."""

    type: Literal["json", "json_schema", "regex"]
    value: Any

    @property
    def form(self) -> dict[str, Any]:
        if self.type == "regex":
            if not isinstance(self.value, str):
                raise ApiError("grammar.value is a pattern, a text.", param="parameters.grammar")
            return {"regex": self.value}
        schema = self.value.get("schema", self.value) if self.type == "json_schema" else self.value
        if not isinstance(schema, dict):
            raise ApiError("grammar.value is a JSON schema, an object.", param="parameters.grammar")
        return {"json_schema": schema}


class GenerateParameters(Body):
    """Parameters of a generation.

    Args:
        stop: texts that end the generation; they stay in the text. truncate: tokens of the prompt that are kept, the
            last ones. top_n_tokens: likeliest tokens told beside each token; needs `details`.
        return_full_text: puts the prompt in front.
    """

    NEUTRAL: ClassVar = {"best_of": (1,), "watermark": (False,)}
    NOT_COMPUTED: ClassVar = {"adapter_id": "name the adapter as the model."}
    decoder_input_details: bool = False
    details: bool = False
    do_sample: bool = False
    frequency_penalty: float | None = None
    grammar: Grammar | None = None
    max_new_tokens: int = Field(NEW_TOKENS, ge=1)
    repetition_penalty: float | None = Field(None, ge=0.001)
    return_full_text: bool = False
    seed: int | None = None
    stop: list[str] = Field(default_factory=list)
    temperature: float | None = Field(None, gt=0)
    top_k: int | None = Field(None, ge=1)
    top_n_tokens: int | None = Field(None, ge=1, le=20)
    top_p: float | None = Field(None, gt=0, le=1)
    truncate: int | None = Field(None, ge=1)
    typical_p: float | None = Field(None, gt=0, lt=1)

    def sampling(self, salt: bytes) -> Sampling:
        """Return the engine's options. Without do_sample and what draws, the most likely tokens are taken."""
        draws = self.do_sample or any(getattr(self, name) is not None for name in DRAWING)
        options = {name: getattr(self, name) for name in (*DRAWING, "frequency_penalty", "repetition_penalty", "seed")}
        return Sampling(
            options=options if draws else {**options, "temperature": 0.0}, limit=self.max_new_tokens,
            limit_name="parameters.max_new_tokens", stops=tuple(self.stop), include_stop=True,
            form={} if self.grammar is None else self.grammar.form, form_name="parameters.grammar",
            include_end=True, truncate=self.truncate,
            logprobs=self.top_n_tokens or 0, prompt_logprobs=0 if self.decoder_input_details else None,
            cache_salt=salt,
        )  # fmt: skip


@dataclass
class Answer:
    """Tokens of a continuation while they come.

    Attributes:
        text: so far. tokens: those whose text has begun.
    """

    model: ServedModel
    prompt: str
    asked: GenerateParameters
    generation: Generation

    def __post_init__(self) -> None:
        self.text, self.tokens = "", list[TokenInfo]()
        self.finish: Finish | None = None
        self._special = set(self.model.tokenizer.all_special_ids)

    async def tokens_with_text(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield each token with its text, once the next one shows where it ends."""
        told, begin = 0, 0
        async for delta in self.generation:
            self.text += delta.text
            self.tokens += delta.tokens
            self.finish = delta.finish or self.finish
            while told < len(self.tokens) - 1:
                end = max(self.tokens[told + 1].begin, begin)
                yield self.token(self.tokens[told], self.text[begin:end])
                told, begin = told + 1, end
        if told < len(self.tokens):
            yield self.token(self.tokens[told], self.text[begin:])

    def token(self, info: TokenInfo, text: str) -> dict[str, Any]:
        return {"id": info.token, "text": text, "logprob": number(info.logprob), "special": info.token in self._special}

    def top(self, info: TokenInfo) -> list[dict[str, Any]]:
        """Return the most likely tokens beside one."""
        tokenizer = self.model.tokenizer
        return [
            {"id": one, "text": tokenizer.decode([one]), "logprob": number(logprob), "special": one in self._special}
            for one, logprob in info.top[: self.asked.top_n_tokens]
        ]

    @property
    def full_text(self) -> str:
        return self.prompt + self.text if self.asked.return_full_text else self.text

    def details(self) -> dict[str, Any]:
        """Return why and after how many tokens the text ended."""
        assert self.finish is not None
        stopped = "stop_sequence" if self.finish.stop_string else "eos_token"
        return {
            "finish_reason": stopped if self.finish.reason == "stop" else "length",
            "generated_tokens": self.generation.completion_tokens, "seed": self.asked.seed,
        }  # fmt: skip

    async def whole(self) -> Response:
        tokens = [each async for each in self.tokens_with_text()]
        record: dict[str, Any] = {"generated_text": self.full_text}
        if self.asked.details:
            record["details"] = {**self.details(), "prefill": self.prefill(), "tokens": tokens}
            if self.asked.top_n_tokens is not None:
                record["details"]["top_tokens"] = [self.top(each) for each in self.tokens]
        return json_response([record])

    def prefill(self) -> Sequence[dict[str, Any]]:
        """Return the prompt's tokens with their log-probabilities, where they are asked for; the first has none."""
        if not self.asked.decoder_input_details:
            return []
        ids = self.generation.requests[0].prompt
        found = [None, *(logprob for logprob, _ in self.generation.prompt_logprobs[0])]
        texts = [self.model.tokenizer.decode([one]) for one in ids]
        return [
            {"id": one, "text": text, "logprob": None if logprob is None else number(logprob)}
            for one, text, logprob in zip(ids, texts, found, strict=True)
        ]

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Yield one event a token; the last one has the text and its details."""
        pending: dict[str, Any] | None = None
        index = 0
        async for token in self.tokens_with_text():
            if pending is not None:
                yield event(pending)
            index += 1
            pending = {"index": index, "token": token, "generated_text": None, "details": None}
            if self.asked.top_n_tokens is not None:
                pending["top_tokens"] = self.top(self.tokens[index - 1])
        if pending is not None:
            details = {**self.details(), "input_length": self.generation.prompt_tokens}
            yield event({**pending, "generated_text": self.full_text, "details": details})


def is_generation(given: Mapping[str, Any]) -> bool:
    """Return whether parameters are those of Text Generation Inference, not further ones of the pipeline."""
    kind = GenerateParameters
    return "details" in given or set(given) <= kind.model_fields.keys() | kind.NEUTRAL.keys() | kind.NOT_COMPUTED.keys()


def generate_parameters(given: Mapping[str, Any]) -> GenerateParameters:
    """Return parameters of a generation. Raises ApiError with the name of what is wrong."""
    try:
        return GenerateParameters.model_validate(given)
    except ValidationError as error:
        raise first_error(error, GenerateParameters) from None


def number(logprob: float | None) -> float:
    return LEAST if logprob is None or logprob < LEAST else logprob


async def generate(
    request: Request, model: ServedModel, prompt: str, asked: GenerateParameters, stream: bool
) -> Response:
    """Continue a text. Raises ApiError."""
    check_unicode(prompt)
    if asked.decoder_input_details and (stream or not asked.details):
        raise ApiError(
            "decoder_input_details needs details, and no stream.", param="parameters.decoder_input_details"
        )  # fmt: skip
    if asked.top_n_tokens is not None and not (stream or asked.details):
        raise ApiError("top_n_tokens needs details, or a stream.", param="parameters.top_n_tokens")
    if len(asked.stop) > 16 or not all(asked.stop):
        raise ApiError("stop has at most 16 texts, none of them empty.", param="parameters.stop")
    sampling = asked.sampling(cache_salt(request))

    def make() -> list[GenerationRequest]:
        ids = text_prompts(model, [prompt], longest_prompt(model, sampling))[0]
        return [generation_request(model, ids, sampling)]

    answer = Answer(model, prompt, asked, await start(model, info_of(request), 1, make))
    if not stream:
        return await while_connected(request, answer.whole())
    return await stream_response(
        answer.generation, answer.events(), lambda error: event(inference_content(to_api_error(error)))
    )
