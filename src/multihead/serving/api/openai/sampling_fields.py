"""Fields of sampling that chat completions and completions share, with vLLM's beyond OpenAI's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ...body import Body
from ...errors import ApiError
from ...generation.forms import one_form, response_form, structured_form

MAX_TOP_LOGPROBS = 20
INT64 = 1 << 63
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Tokens = Annotated[list[int], Field(max_length=1 << 18)]
ELSEWHERE = "it is not computed here; leave it out."


class StreamOptions(BaseModel):
    """Args: include_usage: a last chunk tells the usage. continuous_usage_stats: each chunk does (vLLM)."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class SamplingFields(Body):
    """Sampling, penalties, ends, forms. Names and meanings are OpenAI's, and vLLM's from `top_k` on."""

    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {
        "logprob_token_ids": ELSEWHERE, "repetition_detection": ELSEWHERE,
    }  # fmt: skip
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "priority": (0,), "spaces_between_special_tokens": (True,), "detokenize": (True,),
    }  # fmt: skip

    model: str | None = None
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-INT64, lt=INT64 - 1024)
    n: int | None = Field(None, ge=1)
    stop: Text | Annotated[list[Text], Field(max_length=64)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=4096)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=1024)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.001, le=100)  # below, scores become infinite
    length_penalty: float | None = Field(None, ge=-100, le=100)
    use_beam_search: bool | None = None
    stop_token_ids: Tokens | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = Field(None, ge=0, lt=INT64)
    skip_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = Field(None, ge=-1)
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    allowed_token_ids: Annotated[Tokens, Field(min_length=1)] | None = None
    bad_words: Annotated[list[Text], Field(max_length=128)] | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    request_id: Annotated[str, StringConstraints(pattern=r"^[\w.:-]{1,128}$")] | None = None
    cache_salt: Text | None = None
    return_token_ids: bool | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def form(self) -> dict[str, Any]:
        """Return the form of the text as fields of Sampling. Raises ApiError."""
        guided = {
            "json": self.guided_json, "regex": self.guided_regex, "choice": self.guided_choice,
            "grammar": self.guided_grammar,
        }  # fmt: skip
        return one_form({
            "response_format": response_form(self.response_format),
            "structured_outputs": structured_form(self.structured_outputs),
            **{f"guided_{kind}": structured_form({kind: value}, "guided", "_") for kind, value in guided.items()},
        })  # fmt: skip

    def sampling_fields(self) -> dict[str, Any]:
        """Return the arguments of `Sampling` that these fields give. Raises ApiError."""
        if self.length_penalty is not None and not self.use_beam_search:
            raise ApiError("length_penalty has no effect without use_beam_search.", param="length_penalty")
        if self.use_beam_search:
            self.check_beams()
        if self.truncate_prompt_tokens == 0:
            raise ApiError("truncate_prompt_tokens must be -1 or at least 1.", param="truncate_prompt_tokens")
        temperature = 0 if self.use_beam_search else self.temperature
        return {
            "options": {
                "temperature": temperature, "top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p,
                "frequency_penalty": self.frequency_penalty, "presence_penalty": self.presence_penalty,
                "repetition_penalty": self.repetition_penalty, "seed": self.seed, "min_new_tokens": self.min_tokens,
                "length_penalty": self.length_penalty,
            },
            "n": self.n or 1, "stops": self.stops, "include_stop": bool(self.include_stop_str_in_output),
            "skip_special_tokens": self.skip_special_tokens is not False, "stop_tokens": self.stop_token_ids or (),
            "ignore_eos": bool(self.ignore_eos), "beam_search": bool(self.use_beam_search),
            "bad_words": self.bad_words or (), "allowed_tokens": self.allowed_token_ids,
            "logit_bias": self.biases(), **self.form(), "prompt_logprobs": self.prompt_logprobs,
            "include_end": bool(self.return_token_ids), "truncate": self.truncate_prompt_tokens,
        }  # fmt: skip

    def check_beams(self) -> None:
        """Raise ApiError for what beam search does not do: it draws nothing, and has its texts at the end."""
        if self.stream:
            raise ApiError("Beam search knows its texts at the end only; it does not stream.", param="stream")
        neutral = {"temperature": (0, 1), "top_p": (1,), "top_k": (-1, 0), "min_p": (0,)}
        for name, values in neutral.items():
            if getattr(self, name) not in (None, *values):
                raise ApiError(f"{name} has no effect with use_beam_search, which draws no tokens.", param=name)

    def biases(self) -> dict[int, float]:
        """Return logit_bias by token. Raises ApiError."""
        found = {}
        for token, bias in (self.logit_bias or {}).items():
            if not token.isdecimal() or len(token) > 9:
                raise ApiError(f"logit_bias: {token!r:.80} is no token id.", param="logit_bias")
            if not -100 <= bias <= 100:
                raise ApiError(f"logit_bias of token {token} must be between -100 and 100.", param="logit_bias")
            found[int(token)] = bias
        return found

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check_stream(self) -> None:
        """Raise ApiError for options of a stream without a stream."""
        if self.stream_options is not None and not self.stream:
            raise ApiError("stream_options needs stream to be true.", param="stream_options")
        if self.stream_options is not None and self.stream_options.include_obfuscation:
            raise ApiError(
                "include_obfuscation is not computed here.", param="stream_options.include_obfuscation",
                code="unsupported_parameter",
            )  # fmt: skip
