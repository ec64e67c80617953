"""Generation with a KV cache that stays between prompts, for conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput
from ..nn.inner_model import inner_model
from .checks import check_strategies
from .config import GenerationConfig
from .engine.prefix_cache import PrefixCache
from .engine.scheduler import Engine
from .generate import begin_stream, check_run, end_stream, max_length, submit_job
from .logits.grammar import TextGrammar
from .stopping import ABORT, Continuation
from .strategies.base import Extras, GenerationJob


@dataclass(frozen=True)
class SessionResult:
    """Continuation of a prompt.

    Args:
        prompt_tokens: of the prompt. cached_tokens: those of them that were not read, since their cache was kept.
    """

    continuation: Continuation
    prompt_tokens: int
    cached_tokens: int


class GenerationSession:
    """Continues one prompt after another, and reads only the tokens that the last ones did not have.

    The continuations are those of `generate`. Memory holds the last text's cache, and for recurrent layers a few states
    more. A session is for one thread at a time.

    Args:
        model: a decoder.

    Raises:
        InvalidInput: an encoder-decoder.
    """

    def __init__(self, model: Any) -> None:
        if model.config.is_encoder_decoder:
            raise InvalidInput("An encoder-decoder reads another source for each text, so no cache can stay.")
        self.model = model
        self._engine: Engine | None = None
        self._prefixes: PrefixCache | None = None
        self._weights: Any = None

    def generate(
        self,
        prompt: Sequence[int],
        config: GenerationConfig,
        *,
        extras: Extras | None = None,
        streamer: Any = None,
        stopped: Callable[[], bool] = bool,
    ) -> SessionResult:
        """Continue a prompt once.

        Args:
            streamer: as in `generate`. stopped: asked after each step; True ends the text with the reason "abort".

        Raises:
            UnsupportedOption, InvalidInput: as `generate`.
        """
        config.computed()
        extras = extras or Extras()
        check_strategies(config, extras)
        if (config.num_return_sequences or 1) > 1:
            raise InvalidInput("A conversation has one answer; num_return_sequences must be 1.")
        limit = max_length(self.model, config, len(prompt), len(prompt))
        check_run(self.model, [prompt], config, [limit], streamer)
        engine, prefixes = self._open()
        grammar = TextGrammar.from_config(config, extras.tokenizer, self.model.vocabulary)
        job = GenerationJob(
            prompt, config, limit, source=list(prompt), extras=extras, grammar=grammar, prefixes=prefixes,
            listener=begin_stream(streamer, prompt), device=self.model.device,
            tied=self.model.config.tie_word_embeddings,
        )  # fmt: skip
        try:
            run_until(engine, job, stopped)
        except BaseException:  # a pass that ended in its middle may leave a state of no known tokens
            self.close()
            raise
        engine.store.evict_idle()
        if streamer is not None:
            end_stream(streamer, job)
        return SessionResult(job.results[0], len(prompt), job.num_cached)

    def close(self) -> None:
        """Free the cache. The next prompt is read whole."""
        engine, prefixes = self._engine, self._prefixes
        self._engine = self._prefixes = None
        if engine is not None and prefixes is not None:
            engine.close()
            prefixes.clear()

    def _open(self) -> tuple[Engine, PrefixCache]:
        """Return the engine and its kept caches; new ones if the model has changed since."""
        weights = weights_version(self.model)
        if self._engine is None or self._prefixes is None or weights != self._weights:
            self.close()
            self._engine, self._weights = Engine(self.model), weights
            self._prefixes = PrefixCache(self._engine.store)
        return self._engine, self._prefixes


def run_until(engine: Engine, job: GenerationJob, stopped: Callable[[], bool]) -> None:
    """Run a job until it ends or is stopped. Raises its error."""
    request = submit_job(engine, job)
    while not request.done:
        engine.step()
        if stopped() and not request.done:
            request.cancel()
            job.results = [Continuation(result, result.finish or ABORT) for result in job.results or [Continuation()]]
    if request.error is not None:
        raise request.error


def weights_version(model: Any) -> tuple[Any, ...]:
    """Return what changes when a model's weights or adapters do: cached keys then belong to another model."""
    own = inner_model(model)
    tensors = [*own.parameters(), *own.buffers()]
    versions = [(x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors]
    adapters = (*getattr(own, "adapter_sources", ()), *getattr(own, "active_adapters", ()))
    return (str(model.device), adapters, tuple(versions))
