"""Metrics for Prometheus. Those of generation have vLLM's names, so that dashboards made for it work."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from .models.registry import ModelRegistry
from .request_info import RequestInfo

REJECTED = frozenset({401, 403, 408, 413, 415, 429, 431, 503})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MODEL = ("model_name",)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKENS = tuple(float(x * 10**power) for power in range(6) for x in (1, 2, 5))


class Observed(Protocol):
    """The part of a server's state that metrics read."""

    models: ModelRegistry
    running: set[RequestInfo]
    started: float

    @property
    def condition(self) -> str:
        """As `ServerState.condition`."""
        ...


class Metrics:
    """Counters and histograms of one server, in a registry of its own."""

    def __init__(self, state: Observed) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(StateCollector(state))

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(f"vllm:{name}_seconds", text, MODEL, buckets=SECONDS, registry=registry)

        self.first_token = seconds("time_to_first_token", "From the request to its first token.")
        self.between_tokens = seconds("inter_token_latency", "Between two tokens of a continuation.")
        self.per_token = seconds("request_time_per_output_token", "Mean time between tokens of a request.")
        self.latency = seconds("e2e_request_latency", "From the request to the end of its answer.")
        self.queue = seconds("request_queue_time", "From the request to the begin of its prompt.")
        self.prefill = seconds("request_prefill_time", "From the begin of a prompt to the first token.")
        self.decode = seconds("request_decode_time", "From the first token to the last one.")
        self.prompt_length = Histogram(
            "vllm:request_prompt_tokens", "Tokens of a prompt.", MODEL, buckets=TOKENS, registry=registry
        )
        self.answer_length = Histogram(
            "vllm:request_generation_tokens", "Tokens of an answer.", MODEL, buckets=TOKENS, registry=registry
        )
        self.prompt_tokens = Counter("vllm:prompt_tokens", "Tokens of prompts.", MODEL, registry=registry)
        self.generation_tokens = Counter("vllm:generation_tokens", "Tokens written.", MODEL, registry=registry)
        self.success = Counter(
            "vllm:request_success", "Generations by the reason of their end.", (*MODEL, "finished_reason"),
            registry=registry,
        )  # fmt: skip
        self.http = Counter(
            "multihead:http_requests", "Requests by path, method and status.", ("path", "method", "status"),
            registry=registry,
        )  # fmt: skip
        self.http_seconds = Histogram(
            "multihead:http_request_seconds", "Time of a request by path.", ("path",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.rejections = Counter(
            "multihead:rejections", "Requests refused by their size, key, host or by a full queue.", ("code",),
            registry=registry,
        )  # fmt: skip

    def request_ended(self, info: RequestInfo, path: str, method: str, status: int) -> None:
        """Count a request that has ended.

        Args:
            path: of its route; empty for none. status: 0 if nothing was sent.
        """
        seconds = time.monotonic() - info.begin
        self.http.labels(path, method if method in METHODS else "other", str(status)).inc()
        self.http_seconds.labels(path).observe(seconds)
        if status in REJECTED:
            self.rejections.labels(info.error or str(status)).inc()
        if info.prompt_tokens:
            self.prompt_tokens.labels(info.model).inc(info.prompt_tokens)
        if info.clock.first:
            self._generation_ended(info, seconds)

    def _generation_ended(self, info: RequestInfo, seconds: float) -> None:
        model, clock = info.model, info.clock
        self.prompt_length.labels(model).observe(info.prompt_tokens)
        self.answer_length.labels(model).observe(info.generation_tokens)
        self.generation_tokens.labels(model).inc(info.generation_tokens)
        self.success.labels(model, info.finish_reason or "abort").inc()
        self.latency.labels(model).observe(seconds)
        self.first_token.labels(model).observe(clock.first - info.begin)
        self.decode.labels(model).observe(clock.last - clock.first)
        if clock.started:
            self.queue.labels(model).observe(clock.started - info.begin)
            self.prefill.labels(model).observe(clock.first - clock.started)
        between = self.between_tokens.labels(model)
        for gap in clock.gaps:
            between.observe(gap)
        if clock.gaps:
            self.per_token.labels(model).observe(sum(clock.gaps) / len(clock.gaps))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class StateCollector(Collector):
    """Values that are read from the state of the server when they are asked for."""

    def __init__(self, state: Observed) -> None:
        self.state = state

    def collect(self) -> Iterable[Metric]:
        yield from self._models()
        yield from self._engines()
        yield from self._batches()

    def _models(self) -> Iterable[Metric]:
        models = self.state.models
        memory = GaugeMetricFamily("multihead:model_bytes", "Weights of the models in memory.", labels=MODEL)
        for model in models.loaded.values():
            memory.add_metric([model.id], model.weight_bytes)
        yield memory
        yield GaugeMetricFamily("multihead:models_loaded", "Models in memory.", len(models.loaded))
        yield GaugeMetricFamily("multihead:models_failed", "Models whose last load failed.", len(models.failed))
        yield CounterMetricFamily("multihead:model_loads", "Loads of models.", models.loads)
        yield GaugeMetricFamily("multihead:ready", "1 if requests are taken.", self.state.condition == "ready")
        yield GaugeMetricFamily("multihead:http_requests_running", "Requests now.", len(self.state.running))

    def _engines(self) -> Iterable[Metric]:
        rows = {
            "num_requests_running": ("Requests that are read or continued.", GaugeMetricFamily),
            "num_requests_waiting": ("Requests that wait for room.", GaugeMetricFamily),
            "kv_cache_usage_perc": ("Share of the KV cache in use, 0 to 1.", GaugeMetricFamily),
            "prefix_cache_queries": ("Prompt tokens that were looked for in the cache.", CounterMetricFamily),
            "prefix_cache_hits": ("Prompt tokens that were found in the cache.", CounterMetricFamily),
            "num_preemptions": ("Requests that lost their cache to others.", CounterMetricFamily),
        }
        metrics = {name: kind(f"vllm:{name}", text, labels=MODEL) for name, (text, kind) in rows.items()}
        adapters = GaugeMetricFamily(
            "vllm:lora_requests_info", "LoRA adapters of running requests.",
            labels=("max_lora", "waiting_lora_adapters", "running_lora_adapters"),
        )  # fmt: skip
        for model in self.state.models.loaded.values():
            engine = model.running_engine
            if engine is not None:
                found = engine.statistics
                values = (engine.running, engine.waiting, engine.cache_usage, found.prefix_queries, found.prefix_hits,
                          found.preemptions)  # fmt: skip
                for metric, value in zip(metrics.values(), values, strict=True):
                    metric.add_metric([model.id], value)
        running = sorted({info.adapter for info in self.state.running if info.adapter is not None})
        known = sum(len(settings.adapters) for settings in self.state.models.known.values())
        if known:
            adapters.add_metric([str(known), "", ",".join(running)], self.state.started)
        yield from metrics.values()
        yield adapters

    def _batches(self) -> Iterable[Metric]:
        rows = {
            "batches": "Forward passes of encoders.", "batch_texts": "Texts in them.",
            "batch_tokens": "Tokens in them.",
            "batch_budget_tokens": "Tokens that would have fit into them.", "batch_seconds": "Their time.",
        }  # fmt: skip
        counters = {name: CounterMetricFamily(f"multihead:{name}", text, labels=MODEL) for name, text in rows.items()}
        waiting = GaugeMetricFamily("multihead:batch_requests", "Requests for encoders that wait or run.", labels=MODEL)
        for model in self.state.models.loaded.values():
            stats = model.batch_stats
            if stats is None:
                continue
            values = stats.batches, stats.texts, stats.tokens, stats.batches * stats.budget, stats.seconds
            for counter, value in zip(counters.values(), values, strict=True):
                counter.add_metric([model.id], value)
            waiting.add_metric([model.id], stats.waiting)
        yield from counters.values()
        yield waiting
