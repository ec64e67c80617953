"""Continuations of one HTTP request as an async iterator of deltas, merged over its prompts and choices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from ...errors import InvalidForm
from ...generation.engine_thread import Ended, EngineRequest, Event, NewToken, PromptRead
from ...generation.stopping import ABORT, Continuation
from ..admission import Slots
from ..errors import ApiError
from ..models.served_model import ServedModel
from ..request_info import RequestInfo
from .request import GenerationRequest
from .text import ContinuationText, Delta


class Submission:
    """One request of the engine and the choices that it continues: one, or all of a beam search."""

    def __init__(self, choices: Sequence[ContinuationText], request: EngineRequest, source: int) -> None:
        self.choices, self.request, self.source = choices, request, source
        self.ended = False
        self.prompt: PromptRead | None = None

    def receive(self, event: Event) -> BaseException | None:
        """Take an event into the texts; return the error that it tells."""
        if isinstance(event, NewToken):
            choice = self.choices[event.index]
            if choice.finish is None:
                choice.add(event.token, event.logprob, event.top)
        elif isinstance(event, PromptRead):
            self.prompt = event
        else:
            self.ended = True
            return self._end(event)
        return None

    def _end(self, event: Ended) -> BaseException | None:
        if event.error is not None:
            return event.error
        for number, choice in enumerate(self.choices):
            result = event.results[number] if number < len(event.results) else Continuation(finish=ABORT)
            # beam search tells its tokens at the end only
            for token in result[choice.num_tokens :] if choice.finish is None else ():
                choice.add(token)
            if choice.finish is None and result.finish in (None, ABORT):
                return ApiError("The server is stopping.", 503, code="stopping")
            choice.end(result.finish or ABORT)
        return None


class Generation:
    """Runs requests on an engine; iterate over it once, in the event loop that made it.

    Events become text in the event loop at once, whether or not the client reads: a slow one finds one large delta, so
    that no queue grows, and a stop string ends its request at once.

    Args:
        requests: each with its continuations; choices are numbered through. slots: are given back at the end.
        info: learns the numbers of tokens.

    Attributes:
        name: of the model or its adapter. created: seconds since 1970. begin: seconds of a monotonic clock.
        clock: of the tokens.
    """

    def __init__(
        self, model: ServedModel, requests: Sequence[GenerationRequest], slots: Slots, info: RequestInfo
    ) -> None:
        self.model, self.requests, self.created = model, requests, int(time.time())
        self.begin, self.clock, self.name = time.monotonic(), info.clock, info.adapter or model.id
        self._engine, self._slots, self._info = model.engine, slots, info
        self._mailbox, self._wake, self._begun = model.mailbox, asyncio.Event(), asyncio.Event()
        self._late = False
        self._timer = asyncio.get_running_loop().call_later(model.server.request_timeout, self._expire)
        self._error: BaseException | None = None
        self._submissions: list[Submission] = []
        self._first: dict[int, Submission] = {}  # of each prompt: it alone scores the prompt
        try:
            self._submit_all()
        except BaseException:
            self.close()
            raise

    def _submit_all(self) -> None:
        tokenizer, special = self.model.tokenizer, self.model.token_texts.special
        choices = 0
        for source, request in enumerate(self.requests):
            for group in [range(request.n)] if request.beams else [range(n, n + 1) for n in range(request.n)]:
                texts = [ContinuationText(tokenizer, request, choices + n, special) for n in range(len(group))]
                choices += len(group)
                self._submit(request, source, texts, group[0])

    def _submit(self, request: GenerationRequest, source: int, texts: Sequence[ContinuationText], number: int) -> None:
        config = request.config
        if number and config.seed is not None:
            config = config.changed(seed=config.seed + number)

        def hear(events: Sequence[Event]) -> None:
            self._mailbox.put(partial(self._receive, submission, events))

        asked = EngineRequest(
            request.prompt, config, hear, extras=request.extras, logprobs=request.logprobs,
            prompt_logprobs=request.prompt_logprobs if number == 0 else None, cache_salt=request.cache_salt,
            prompt_only=request.prompt_only, adapter=self._info.adapter, after_step=self._mailbox.wake,
        )  # fmt: skip
        submission = Submission(texts, asked, source)
        self._submissions.append(submission)
        self._first.setdefault(source, submission)
        self._engine.submit(asked)

    def _receive(self, submission: Submission, events: Sequence[Event]) -> None:
        try:
            self._read(submission, events)
        except Exception as error:  # nobody else would hear of it, and the request would wait for ever
            self._error = self._error or error
            self._begun.set()
        if not submission.ended and all(choice.finish is not None for choice in submission.choices):
            self._engine.cancel(submission.request)
        self._wake.set()

    def _read(self, submission: Submission, events: Sequence[Event]) -> None:
        self.clock.started = self.clock.started or submission.request.admitted
        for event in events:
            if isinstance(event, NewToken):
                self.clock.token(submission.choices[event.index].index)
            error = submission.receive(event)
            if isinstance(error, InvalidForm):
                error = form_error(error, self.requests[submission.source].form_name)
            self._error = self._error or error
            if not isinstance(event, PromptRead):
                self._begun.set()

    @property
    def choices(self) -> list[ContinuationText]:
        return [choice for submission in self._submissions for choice in submission.choices]

    @property
    def prompt_tokens(self) -> int:
        return sum(len(request.prompt) for request in self.requests)

    @property
    def completion_tokens(self) -> int:
        return sum(choice.num_tokens for choice in self.choices)

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompts that were not read, since earlier prompts had them."""
        return sum(read.cached_tokens for read in self._prompts())

    @property
    def prompt_logprobs(self) -> list[Sequence[tuple[float, Sequence[tuple[int, float]]]]]:
        """The log-probabilities of the tokens of each prompt but the first; empty where not asked for."""
        return [read.logprobs or () for read in self._prompts()]

    def _prompts(self) -> list[PromptRead]:
        """Return what is known of each prompt: by its first choice, since the others share its cache."""
        reads = [self._first[number].prompt if number in self._first else None for number in range(len(self.requests))]
        return [read or PromptRead(0) for read in reads]

    async def first(self, seconds: float) -> None:
        """Wait for the first token, but not longer than some seconds. Raises the error of a request."""
        try:
            await asyncio.wait_for(self._begun.wait(), seconds)
        except asyncio.TimeoutError:
            return
        except BaseException:
            self.close()
            raise
        self._raise()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Yield what is new. Raises ApiError past the server's time limit, and the error of a request."""
        left = self._submissions
        try:
            while left:
                await self._event()
                for choice in [
                    choice for submission in left if self._known(submission) for choice in submission.choices
                ]:
                    if (delta := choice.take()) is not None:
                        if delta.finish is not None:
                            self._info.finish_reason = delta.finish.reason
                        yield delta
                left = [one for one in left if not all(choice.taken for choice in one.choices)]
        finally:
            self.close()

    def _known(self, submission: Submission) -> bool:
        """Return False while scores of the prompt are asked for and not there: they come before any text."""
        first = self._first[submission.source]
        return self.requests[submission.source].prompt_logprobs is None or first.prompt is not None or first.ended

    async def _event(self) -> None:
        """Wait for events that have not been looked at. Raises ApiError past the time limit, and a request's error."""
        await self._wake.wait()
        self._wake.clear()
        if self._late:
            raise ApiError(
                "The request took longer than this server allows. Ask for fewer tokens.", 408, code="timeout",
                headers={"x-should-retry": "false"},
            )  # fmt: skip
        self._raise()

    def _expire(self) -> None:
        self._late = True
        self._wake.set()
        self.close()

    def close(self) -> None:
        """End what still runs, and give the places back."""
        for submission in self._submissions:
            if not submission.ended:
                self._engine.cancel(submission.request)
        self._timer.cancel()
        self._slots.release()
        self._info.prompt_tokens, self._info.cached_tokens = self.prompt_tokens, self.cached_tokens
        self._info.generation_tokens = self.completion_tokens

    def _raise(self) -> None:
        if self._error is not None:
            self.close()
            raise self._error


def form_error(error: InvalidForm, name: str) -> ApiError:
    """Return the error of a form as that of the request's field."""
    return ApiError(f"{name} {error.reason}.".replace("..", "."), param=name or None, code="invalid_form")


async def start(
    model: ServedModel, info: RequestInfo, count: int, make: Callable[[], Sequence[GenerationRequest]]
) -> Generation:
    """Begin to generate: take places in the queue, then make the prompts.

    Args:
        count: continuations of all prompts. make: returns the requests; it is called in another thread.

    Raises:
        ApiError: the queue is full.
    """
    info.model = model.id
    model.engine  # noqa: B018 (raises for a model that writes nothing)
    slots = model.admission.enter(count)
    try:
        return Generation(model, await asyncio.to_thread(make), slots, info)
    except BaseException:
        slots.release()
        raise
