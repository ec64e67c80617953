"""Requests to an `EngineThread`, and the events that answer them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .config import GenerationConfig
from .logprobs import TokenLogprobs
from .stopping import Continuation
from .strategies.base import Extras


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token of a continuation.

    Args:
        index: of the continuation (0 to n - 1). token: its id. logprob: of the token; None unless asked for.
        top: the most likely tokens with their log-probabilities, the best first.
    """

    index: int
    token: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True)
class PromptRead:
    """The prompt has been read.

    Args:
        cached_tokens: tokens whose cache an earlier prompt has left.
        logprobs: of each prompt token but the first, where asked for, with the most likely ones: (logprob, top).
    """

    cached_tokens: int
    logprobs: Sequence[tuple[float, Sequence[tuple[int, float]]]] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event: all continuations have ended, or the request failed.

    Args:
        results: the continuations; those that a caller has cancelled end with the reason "abort". error: instead.
    """

    results: Sequence[Continuation] = ()
    error: BaseException | None = None


Event = NewToken | PromptRead | Ended


@dataclass(eq=False)
class EngineRequest:
    """Prompt to continue `config.num_return_sequences` times.

    Args:
        listener: called in the engine's thread with the events of each step; it must not block.
        after_step: called in that thread when all listeners of a step have been, once for all requests that share it.
        logprobs: how many of the most likely tokens are told with each token; None for no log-probabilities. They are
            those of the model's own logits, before temperature, penalties and bans.
        prompt_logprobs: the same for the prompt's tokens. The whole prompt is then read, with nothing from the cache.
        cache_salt: only requests with the same salt share cached prefixes.
        adapter: name of a LoRA adapter of the model; None for the model as it was when the engine began.
        admitted: when it left the queue, in seconds of `time.monotonic`; 0 before.
        prompt_only: reads the prompt and writes nothing; `config.max_new_tokens` is then of no effect.
    """

    prompt: Sequence[int]
    config: GenerationConfig
    listener: Callable[[Sequence[Event]], None]
    extras: Extras = field(default_factory=Extras)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    cache_salt: bytes = b""
    adapter: str | None = None
    prompt_only: bool = False
    after_step: Callable[[], None] | None = None
    events: list[Event] = field(default_factory=list, init=False)
    cancelled: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    admitted: float = field(default=0.0, init=False)

    def read_prompt(self, cached: int, logprobs: list[TokenLogprobs] | None) -> None:
        """Note the event of a prompt; called by the request's job."""
        told = None if logprobs is None else [(one.logprob, one.top) for one in logprobs]
        self.events.append(PromptRead(cached, told))

    def add_token(self, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        """Note the event of a token; called by the request's job."""
        if logprobs is None:
            self.events.append(NewToken(index, token))
        else:
            self.events.append(NewToken(index, token, logprobs.logprob, logprobs.top))
