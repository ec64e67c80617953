"""A prompt with everything that decides its continuations, the same for all interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...generation.config import GenerationConfig
from ...generation.strategies.base import Extras


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """Prompt and options.

    Args:
        prompt: token ids. n: continuations; that of number i has the seed plus i.
        stops: strings before which a text ends; the engine does not know them, except for beam search.
        stop_tokens: end a text because the request says so; the answer names the one that did.
        include_stop: keeps the stop string or stop token in the text.
        skip_special_tokens: leaves special tokens out of the text, except `kept_tokens`.
        form_name: the field of the request that its form comes from.
        include_end: tells the token that ends a text among its tokens.
        logprobs: how many of the most likely tokens are told with each token; None for no log-probabilities.
        prompt_logprobs: the same for the prompt's tokens. cache_salt, prompt_only: see EngineRequest.
    """

    prompt: Sequence[int]
    config: GenerationConfig
    n: int = 1
    stops: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()
    include_stop: bool = False
    skip_special_tokens: bool = True
    kept_tokens: frozenset[int] = frozenset()
    include_end: bool = False
    form_name: str = ""
    extras: Extras = field(default_factory=Extras)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    cache_salt: bytes = b""
    prompt_only: bool = False

    @property
    def beams(self) -> bool:
        """True for beam search, which knows its texts at the end only."""
        return (self.config.num_beams or 1) > 1
