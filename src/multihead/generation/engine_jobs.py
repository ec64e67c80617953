"""Jobs of requests to an `EngineThread`, and how their owners hear of them."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..errors import InvalidInput, UnsupportedOption
from .checks import check_masked, check_one_by_one, check_strategies
from .config import GenerationConfig
from .engine.sequence import Request
from .engine_request import Ended, EngineRequest, Event
from .generate import check_request, max_length
from .logits.grammar import TextGrammar
from .logprobs import LogprobsOptions, TokenLogprobs
from .stopping import ABORT, Continuation
from .strategies.base import GenerationJob, TokenListener

log = logging.getLogger("multihead.generation")
MAX_LOGPROBS = 256  # most likely tokens that are named with a token
Box = queue.SimpleQueue[Callable[[], object] | tuple[int, BaseException | None]]  # calls, and ends of numbered jobs


@dataclass(eq=False)
class Task:
    """A job in the engine. `notify` tells its owner what a step has brought; False if nobody hears of it."""

    job: GenerationJob
    running: Request
    notify: Callable[[Task], bool]


def build_job(model: Any, request: EngineRequest, longest: int | None) -> GenerationJob:
    """Return the job of a request.

    Args:
        longest: positions that the model has learned.

    Raises:
        InvalidInput, UnsupportedOption: what cannot be continued.
    """
    prompt, config = request.prompt, request.config.computed()
    check_strategies(config, request.extras)
    check_logprobs(request)
    scored = {"prompt_logprobs": request.prompt_logprobs is not None, "prompt_only": request.prompt_only}
    check_masked(model, **scored)
    check_one_by_one(model, **scored)
    limit = max_length(model, config, len(prompt), len(prompt))
    check_request(model, [prompt], config, [len(prompt) + 1 if request.prompt_only else limit], longest)
    grammar = TextGrammar.from_config(config, request.extras.tokenizer, model.vocabulary)
    job = GenerationJob(
        prompt, config, len(prompt) if request.prompt_only else limit, source=list(prompt), extras=request.extras,
        grammar=grammar, listener=request, logprobs=LogprobsOptions(request.logprobs, request.prompt_logprobs),
        device=model.device, tied=model.config.tie_word_embeddings,
    )  # fmt: skip
    if config.do_sample and job.generator is None:
        # torch's common generator draws for the whole vocabulary, an own one for a few candidates
        job.generator = torch.Generator()
        job.generator.seed()
    return job


def check_logprobs(request: EngineRequest) -> None:
    """Raise an error for log-probabilities that are not computed."""
    for name in ("logprobs", "prompt_logprobs"):
        count = getattr(request, name)
        if count is not None and not 0 <= count <= MAX_LOGPROBS:
            raise InvalidInput(f"{name} is a number from 0 to {MAX_LOGPROBS}, not {count}.")
    if request.logprobs is not None and (request.config.num_beams or 1) > 1:
        raise UnsupportedOption("Log-probabilities of new tokens are not told of beam search (num_beams above 1).")


def aborted(results: Sequence[Continuation], config: GenerationConfig) -> list[Continuation]:
    """Return the continuations of a request that is cancelled: those that have not ended end with "abort"."""
    known = results or [Continuation() for _ in range(config.num_return_sequences or 1)]
    return [Continuation(result, result.finish or ABORT) for result in known]


def deliver(request: EngineRequest, task: Task) -> bool:
    """Tell a request's listener what has happened; return False if it failed."""
    events, request.events = request.events, []
    request.admitted = task.running.admitted
    if task.running.done:
        error = task.running.error
        events.append(Ended(task.job.results if error is None else (), error))
    return not events or listen(request, events)


def tell(request: EngineRequest, events: Sequence[Event]) -> None:
    """Call a request's listener outside of the steps."""
    listen(request, events)
    end_step([request])


def end_step(requests: Iterable[object]) -> None:
    """Make the calls after a step: each once, of all requests that share it. Keys that are no requests have none."""
    for call in dict.fromkeys(each.after_step for each in requests if isinstance(each, EngineRequest)):
        try:
            if call is not None:
                call()
        except Exception:
            log.exception("The call after a step failed.")


def listen(request: EngineRequest, events: Sequence[Event]) -> bool:
    """Call a request's listener; return False if it failed, which must not hurt other requests."""
    if request.ended:
        return True
    request.ended = isinstance(events[-1], Ended)
    try:
        request.listener(events)
    except Exception:
        log.exception("The listener of a request failed.")
        return False
    return True


def answer(box: Box, number: int, task: Task) -> bool:
    """Tell the caller of `run_jobs` that a job has ended."""
    if task.running.done:
        box.put((number, task.running.error))
    return True


class RelayedListener:
    """Calls a listener in the thread that waits for the job."""

    def __init__(self, listener: TokenListener, box: Box) -> None:
        self.listener, self.box = listener, box

    def read_prompt(self, cached: int, logprobs: list[TokenLogprobs] | None) -> None:
        self.box.put(partial(self.listener.read_prompt, cached, logprobs))

    def add_token(self, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        self.box.put(partial(self.listener.add_token, index, token, logprobs))
