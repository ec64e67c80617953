"""Fields of sampling that chat completions and completions share, with vLLM's beyond OpenAI's own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from ...body import Body

MAX_TOP_LOGPROBS = 20
SEED = 1 << 63
Stop = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class SamplingFields(Body):
    """Sampling, penalties, ends. Names and meanings are OpenAI's, and vLLM's from `top_k` on."""

    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-SEED, lt=SEED)
    n: int | None = Field(None, ge=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=64)] | None = None
    logit_bias: dict[str, float] | None = Field(None, max_length=1024)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    min_tokens: int | None = Field(None, ge=0)

    @property
    def stops(self) -> tuple[str, ...]:
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def sampling_options(self) -> dict[str, Any]:
        """Return the fields of GenerationConfig."""
        return {
            "temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p,
            "frequency_penalty": self.frequency_penalty, "presence_penalty": self.presence_penalty,
            "repetition_penalty": self.repetition_penalty, "seed": self.seed, "min_new_tokens": self.min_tokens,
        }  # fmt: skip
