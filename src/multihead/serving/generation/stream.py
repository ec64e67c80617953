"""Continuations of one HTTP request as an async iterator of deltas, merged over its prompts and choices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ...generation.engine_thread import Ended, EngineRequest, EngineThread, Event, NewToken, PromptRead
from ...generation.stopping import ABORT, Continuation
from ..admission import Slots
from ..errors import ApiError
from .request import GenerationRequest
from .text import ContinuationText, Delta

TIMEOUT = ApiError(
    "The request took longer than this server allows. Ask for fewer tokens.", 408, code="timeout",
    headers={"x-should-retry": "false"},
)  # fmt: skip


class Submission:
    """One request of the engine and the choices that it continues: one, or all of a beam search."""

    def __init__(self, choices: Sequence[ContinuationText], request: EngineRequest) -> None:
        self.choices, self.request = choices, request
        self.ended = False
        self.cached_tokens = 0
        self.prompt_logprobs: Sequence[Any] | None = None

    def receive(self, event: Event) -> BaseException | None:
        """Take an event into the texts; return the error that it tells."""
        if isinstance(event, NewToken):
            choice = self.choices[event.index]
            if choice.finish is None:
                choice.add(event.token, event.logprob, event.top)
        elif isinstance(event, PromptRead):
            self.cached_tokens, self.prompt_logprobs = event.cached_tokens, event.logprobs
        else:
            self.ended = True
            return self._end(event)
        return None

    def _end(self, event: Ended) -> BaseException | None:
        if event.error is not None:
            return event.error
        for choice, result in zip(self.choices, event.results, strict=False):
            # beam search tells its tokens at the end only
            for token in result[choice.num_tokens :] if choice.finish is None else ():
                choice.add(token)
        for number, choice in enumerate(self.choices):
            result = event.results[number] if number < len(event.results) else Continuation()
            choice.end(result.finish or ABORT)
        return None


class Generation:
    """Runs requests on an engine; iterate over it once, in the event loop that made it.

    Events become text in the event loop at once, whether or not the client reads: a slow one finds one large delta, so
    that no queue grows, and a stop string ends its request at once.

    Args:
        requests: each with its continuations; choices are numbered through. slots: are given back at the end.
        timeout: seconds until the end of all.

    Attributes:
        prompt_tokens, completion_tokens, cached_tokens: of all requests.
    """

    def __init__(
        self, engine: EngineThread, tokenizer: Any, requests: Sequence[GenerationRequest], slots: Slots, timeout: float
    ) -> None:
        self.requests, self.created = requests, int(time.time())
        self._engine, self._slots = engine, slots
        self._loop, self._deadline = asyncio.get_running_loop(), time.monotonic() + timeout
        self._wake = asyncio.Event()
        self._error: BaseException | None = None
        self._submissions: list[Submission] = []
        special = special_tokens(tokenizer)
        choices = 0
        for request in requests:
            for group in [range(request.n)] if request.beams else [range(n, n + 1) for n in range(request.n)]:
                texts = [ContinuationText(tokenizer, request, choices + n, special) for n in range(len(group))]
                choices += len(group)
                self._submit(request, texts, group[0])

    def _submit(self, request: GenerationRequest, texts: Sequence[ContinuationText], number: int) -> None:
        config = request.config
        if number and config.seed is not None:
            config = config.changed(seed=config.seed + number)
        submission: Submission

        def hear(events: Sequence[Event]) -> None:
            self._loop.call_soon_threadsafe(self._receive, submission, events)

        submission = Submission(
            texts,
            EngineRequest(
                request.prompt, config, hear, extras=request.extras, logprobs=request.logprobs,
                prompt_logprobs=request.prompt_logprobs if number == 0 else None, cache_salt=request.cache_salt,
            ),
        )  # fmt: skip
        self._submissions.append(submission)
        self._engine.submit(submission.request)

    def _receive(self, submission: Submission, events: Sequence[Event]) -> None:
        for event in events:
            error = submission.receive(event)
            self._error = self._error or error
        if not submission.ended and all(choice.finish is not None for choice in submission.choices):
            self._engine.cancel(submission.request)
        self._wake.set()

    @property
    def prompt_tokens(self) -> int:
        return sum(len(request.prompt) for request in self.requests)

    @property
    def completion_tokens(self) -> int:
        return sum(choice.num_tokens for choice in self._choices)

    @property
    def cached_tokens(self) -> int:
        return sum(submission.cached_tokens for submission in self._submissions if submission.choices[0].index == 0)

    @property
    def prompt_logprobs(self) -> list[Sequence[Any] | None]:
        """The log-probabilities of each prompt."""
        return [each.prompt_logprobs for each in self._submissions if each.request.prompt_logprobs is not None]

    @property
    def _choices(self) -> list[ContinuationText]:
        return [choice for submission in self._submissions for choice in submission.choices]

    async def first(self, seconds: float) -> None:
        """Wait for the first event, but not longer than some seconds. Raises the error of a request."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            return
        self._raise()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Yield what is new. Raises ApiError past the timeout, and the error of a request."""
        choices = self._choices
        try:
            while choices:
                left = self._deadline - time.monotonic()
                try:
                    await asyncio.wait_for(self._wake.wait(), max(left, 0))
                except asyncio.TimeoutError:
                    raise TIMEOUT from None
                self._wake.clear()
                self._raise()
                for choice in choices:
                    if (delta := choice.take()) is not None:
                        yield delta
                choices = [choice for choice in choices if choice.finish is None]
        finally:
            self.close()

    def close(self) -> None:
        """End what still runs, and give the places back."""
        for submission in self._submissions:
            if not submission.ended:
                self._engine.cancel(submission.request)
        self._slots.release()

    def _raise(self) -> None:
        if self._error is not None:
            self.close()
            raise self._error


def special_tokens(tokenizer: Any) -> frozenset[int]:
    """Return the tokens that are no text: those with a role, and those that the tokenizer's file calls special."""
    added = tokenizer.backend.get_added_tokens_decoder()
    own = {number for number, token in added.items() if token.special}
    return frozenset(own | {number for number in tokenizer.all_special_ids if number is not None})
