"""A loaded model of a server: its tasks, its engine and its batches."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

from ..._version import __version__
from ...errors import InvalidInput, UnsupportedConfig, UnsupportedTokenizer
from ...generation.abandonment import Abandonment
from ...generation.engine_thread import EngineThread
from ...generation.prompt_salt import prompt_salt
from ...nn.inner_model import inner_model
from ...pipelines.base import Pipeline
from ...pipelines.catalog import LANGUAGE_PAIR, TASKS, canonical_name
from ...pipelines.pipeline import pipeline
from ...pipelines.precision import load_options
from ...pipelines.translation.pipeline import Translation, TranslationPipeline
from ..admission import Admission
from ..errors import ApiError
from ..mailbox import Mailbox
from ..request_info import current_request
from ..settings import ModelSettings, ServerSettings
from ..token_texts import TokenTexts
from .batcher import Batcher, BatchStats
from .memory import weight_bytes
from .prompt_cache import keep_prompts, restore_prompts
from .tasks import TRANSLATOR_TYPES, main_task, task_by_name

T = TypeVar("T")
OF_TRANSLATORS = ("translation", "text2text-generation", "feature-extraction")  # of Marian models, which do no more
WRITERS = 4  # requests of pipelines that generate, each in a thread of its own


class ServedModel:
    """Model, tokenizer and pipelines behind one name.

    Attributes:
        task: the task that the checkpoint was made for. pipe: the pipeline of this task.
        made_for: the task with the languages of a translator, where they are known.
        created: seconds since 1970, of the load. last_used: seconds of a monotonic clock.
        admission: counts the sequences that are generated or wait for it.
        users: requests that hold the model. keep: seconds without use until it is unloaded; None as for all models.
        weight_bytes: memory of its weights.
    """

    def __init__(self, settings: ModelSettings, server: ServerSettings, pipe: Pipeline, made_for: str = "") -> None:
        self.settings, self.server, self.pipe, self.made_for = settings, server, pipe, made_for or pipe.task
        self.task = canonical_name(pipe.task)
        self.created, self.last_used = int(time.time()), time.monotonic()
        self.admission = Admission(server.max_running, server.max_queue)
        self.users = 0
        self.keep: float | None = None
        self.weight_bytes = weight_bytes(pipe.model)
        self._pipelines: dict[str, Pipeline] = {self.task: pipe, pipe.task: pipe}
        self._engine: EngineThread | None = None
        self._batcher: Batcher | None = None

    @classmethod
    def load(cls, settings: ModelSettings, server: ServerSettings) -> ServedModel:
        """Load a model with the head that it was saved with. Raises what `pipeline` raises."""
        task = settings.task or task_by_name(main_task(settings.source), (settings.id, *settings.aliases))
        # a translator that can write several languages writes the one that a text asks for
        own = settings.task or canonical_name(task)
        adapts = bool(settings.adapters) or (bool(server.adapter_sources) and own == "text-generation")
        options = load_options(settings.precision, settings.device, packed=not adapts)
        pipe = pipeline(own, settings.source, device=settings.device, **options)
        if settings.chat_template is not None:
            pipe.tokenizer.chat_template = settings.chat_template.read_text(encoding="utf-8")
        model = cls(settings, server, pipe, task)
        if model.writes:  # before its first use, so that pipelines of all tasks submit to one engine
            engine = model.start_engine()
            for name, source in settings.adapters.items():
                engine.load_adapter(name, source)
        elif settings.adapters:
            raise InvalidInput(f"{model.id} writes no text; adapters are served of models that do.")
        return model

    @property
    def id(self) -> str:
        return self.settings.id

    @cached_property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: it changes with what changes texts of equal seeds, also over restarts."""
        told = (__version__, self.settings.source, self.pipe.precision, str(self.pipe.device))
        return f"fp_{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"

    @cached_property
    def mailbox(self) -> Mailbox:
        """Calls from the engine's thread into the event loop, in which this is first read."""
        return Mailbox(asyncio.get_running_loop())

    @cached_property
    def token_texts(self) -> TokenTexts:
        """Texts of single tokens."""
        return TokenTexts(self.tokenizer)

    @property
    def model(self) -> Any:
        return self.pipe.model

    @property
    def config(self) -> Any:
        """The model's config; a sentence encoder holds its model."""
        return inner_model(self.model).config

    @property
    def tokenizer(self) -> Any:
        return self.pipe.tokenizer

    @property
    def generates(self) -> bool:
        """True if the model continues texts (a decoder)."""
        return "CausalLM" in getattr(self.pipe, "auto", "")

    @property
    def writes(self) -> bool:
        """True if the model generates tokens, a decoder's or those of an encoder-decoder."""
        return self.generates or "Seq2SeqLM" in getattr(self.pipe, "auto", "")

    def start_engine(self) -> EngineThread:
        """Start the engine that generates for all requests and pipelines of this model."""
        server = self.server
        self._engine = EngineThread(self.model, memory=server.kv_cache_memory, max_sequences=server.max_running)
        if server.prompt_cache is not None and self.generates:
            restore_prompts(self._engine, server.prompt_cache, self.id)
        return self._engine

    @property
    def engine(self) -> EngineThread:
        """The engine of a decoder. Raises ApiError for other models."""
        if not self.generates:
            raise ApiError(
                f"{self.id} writes no text of its own; it was made for {self.task}.", param="model", code="wrong_task"
            )
        return self._engine or self.start_engine()

    @property
    def dead(self) -> bool:
        """True if the engine or the batches have ended by a fault."""
        engine = self._engine is not None and self._engine.error is not None
        return engine or (self._batcher is not None and not self._batcher.alive)

    @property
    def stalled(self) -> float:
        """Seconds since the last forward pass of an engine that has requests; 0 for one without."""
        return 0.0 if self._engine is None else self._engine.stalled

    @property
    def batch_stats(self) -> BatchStats | None:
        """The work of the batches, if a request has needed them yet."""
        return None if self._batcher is None else self._batcher.stats

    @property
    def running_engine(self) -> EngineThread | None:
        """The engine if a request has needed it yet."""
        return self._engine

    @property
    def batcher(self) -> Batcher:
        """The batches of forward passes."""
        if self._batcher is None:
            self._batcher = Batcher(self.pipe.device, max_queue=self.server.max_queue)
        return self._batcher

    @cached_property
    def _writers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(WRITERS, thread_name_prefix="multihead-write")

    async def in_writer(self, work: Callable[[], T]) -> T:
        """Return the result of a pipeline that generates, computed in a thread; cancelling ends it within a step."""
        abandonment, request = Abandonment(), current_request()
        salt = b"" if request is None or request.key is None else request.key.salt

        def watched() -> T:
            with abandonment.watch(), prompt_salt(salt):
                return work()

        try:
            return await asyncio.wrap_future(self._writers.submit(watched))
        except asyncio.CancelledError:
            abandonment.abandon()
            raise

    def pipeline(self, task: str) -> Pipeline:
        """Return the pipeline of a task on this model. Raises ApiError if it has no head or other languages for it."""
        pair = LANGUAGE_PAIR.fullmatch(task)
        name = canonical_name(task) if pair is None else task  # each pair of languages has a pipeline of its own
        if name not in self._pipelines:
            try:
                if pair is not None and task != self.made_for and isinstance(self.pipe, TranslationPipeline):
                    self.pipe.check_pair(pair[1], pair[2])
                self._pipelines[name] = pipeline(task, self.model, self.tokenizer)
            except InvalidInput:
                advice = "Name another model."
                if pair is not None and self.made_for == "translation":
                    advice = f"Its files name no languages: start the server with task: {task} of this model."
                raise ApiError(
                    f"{self.id} does not serve {task}; it was made for {self.made_for}. {advice}",
                    param="model", code="wrong_task",
                ) from None  # fmt: skip
        return self._pipelines[name]

    def tasks(self) -> list[str]:
        """Return the names of all tasks that this model serves, its own first."""
        return [self.task, *(name for name in TASKS if name != self.task and self._serves(name))]

    def _serves(self, task: str) -> bool:
        translates = isinstance(self.pipe, Translation) and self.model.config.model_type in TRANSLATOR_TYPES
        if translates and task not in OF_TRANSLATORS:
            return False
        try:
            made = self.pipeline(task)
            for needed in ("entailment", "mask"):  # a label or a token that the model may lack
                getattr(made, needed, None)
        except (ApiError, UnsupportedConfig, UnsupportedTokenizer):
            return False
        return True

    def close(self) -> None:
        """End the engine and the batches, and free the caches."""
        if self._batcher is not None:
            self._batcher.close()
        self._writers.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            if self.server.prompt_cache is not None and self.generates and self._engine.alive:
                keep_prompts(self._engine, self.server.prompt_cache, self.id)
            self._engine.close()
