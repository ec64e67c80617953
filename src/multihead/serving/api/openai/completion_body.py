"""Body of /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ...errors import ApiError
from ...generation.prompts import text_prompts
from ...generation.sampling import Sampling
from ...models.served_model import ServedModel
from .sampling_fields import MAX_TOP_LOGPROBS, SamplingFields, Tokens

DEFAULT_TOKENS = 16  # of OpenAI's interface


class CompletionBody(SamplingFields):
    """Fields of OpenAI's interface, then vLLM's."""

    NOT_COMPUTED: ClassVar[Mapping[str, str]] = {
        **SamplingFields.NOT_COMPUTED, "suffix": "these models only continue texts; they fill no gaps.",
        "thinking_token_budget": "it is for conversations.", "prompt_embeds": "prompts are texts or token ids.",
    }  # fmt: skip

    prompt: str | Tokens | list[str] | list[Tokens]
    max_tokens: int | None = Field(DEFAULT_TOKENS, ge=0)
    max_completion_tokens: int | None = Field(None, ge=0)  # the name in conversations, which load generators send too
    best_of: int | None = Field(None, ge=1)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    add_special_tokens: bool | None = None

    def check(self, max_inputs: int, max_n: int) -> None:
        """Raise ApiError for fields that exclude each other, and for too much of something."""
        self.check_stream()
        both = {"max_tokens", "max_completion_tokens"} <= self.model_fields_set
        if both and None not in (self.max_tokens, self.limit) and self.max_tokens != self.limit:
            raise ApiError("max_tokens and max_completion_tokens are different; give one.", param="max_tokens")
        if not self.prompt:
            raise ApiError("The prompt is empty; give it some text.", param="prompt")
        if len(self.prompts) > max_inputs:
            raise ApiError(
                f"The request has {len(self.prompts)} prompts; this server allows {max_inputs}.", param="prompt"
            )
        if self.drafts > max_n:
            name = "n" if self.best_of is None else "best_of"
            raise ApiError(f"{name} is {self.drafts}; this server allows {max_n}.", param=name)
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ApiError("best_of must be at least n.", param="best_of")
        if self.ranks and self.stream:
            raise ApiError("The best of several texts are known at the end only; they do not stream.", param="best_of")
        if self.ranks and self.use_beam_search:
            raise ApiError("best_of does not go with use_beam_search, which ranks its texts itself.", param="best_of")
        if self.limit == 0 and not self.echo:
            raise ApiError(
                f"{self.limit_name} is 0, and without echo there is nothing to return.", param=self.limit_name
            )
        if self.prompt_logprobs is not None and self.stream:
            raise ApiError("prompt_logprobs are not told in a stream.", param="prompt_logprobs")

    @property
    def limit_name(self) -> str:
        """The field that limits the new tokens."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def limit(self) -> int | None:
        """New tokens of a continuation at most."""
        found: int | None = getattr(self, self.limit_name)
        return found

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or several."""
        given: Any = self.prompt
        return [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given

    @property
    def drafts(self) -> int:
        """Continuations of each prompt that are generated."""
        return max(self.n or 1, self.best_of or 1)

    @property
    def ranks(self) -> bool:
        """True if the best of more continuations are returned."""
        return self.drafts > (self.n or 1)

    def prompt_ids(self, model: ServedModel, most: int | None) -> list[list[int]]:
        """Return the token ids of each prompt. `most`: see `text_prompts`. Raises ApiError."""
        texts = [prompt for prompt in self.prompts if isinstance(prompt, str)]
        found = iter(text_prompts(model, texts, most, add_special_tokens=self.add_special_tokens is not False))
        return [next(found) if isinstance(prompt, str) else prompt for prompt in self.prompts]

    def sampling(self, cache_salt: bytes) -> Sampling:
        """Return the options of each prompt. Raises ApiError."""
        asked = self.prompt_logprobs
        told = [count for count in (asked, self.logprobs if self.echo else None) if count is not None]
        return Sampling(**{
            **self.sampling_fields(), "n": self.drafts, "limit": self.limit, "limit_name": self.limit_name,
            "cache_salt": cache_salt,
            "logprobs": 0 if self.ranks and self.logprobs is None else self.logprobs,
            "prompt_logprobs": max(told, default=None),
        })  # fmt: skip
