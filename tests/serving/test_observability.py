"""Metrics, traces and lines of the log."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from multihead.serving.logs import JsonFormatter, TextFormatter
from multihead.serving.tracing import Tracing
from tests.serving.conftest import RunningServer

CHAT = {"model": "gpt-tiny", "messages": [{"role": "user", "content": "private words"}], "max_tokens": 6, "seed": 1}


def values(server: RunningServer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = server.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def changes(server: RunningServer, action: Any) -> dict[str, float]:
    """Return by how much each metric grew by an action, summed over its labels."""
    before = values(server)
    action()
    found: dict[str, float] = {}
    for key, value in values(server).items():
        found[key[0]] = found.get(key[0], 0.0) + value - before.get(key, 0.0)
    return found


def test_generation_is_measured_under_the_names_of_vllm(server: RunningServer) -> None:
    usage: dict[str, int] = {}
    server.post("/v1/chat/completions", CHAT)

    def chat() -> None:
        usage.update(server.post("/v1/chat/completions", CHAT).json()["usage"])

    grown = changes(server, chat)
    assert grown["vllm:prompt_tokens_total"] == usage["prompt_tokens"] > 0
    assert grown["vllm:generation_tokens_total"] == usage["completion_tokens"] > 0
    assert grown["vllm:request_success_total"] == 1
    assert grown["vllm:request_prompt_tokens_sum"] == usage["prompt_tokens"]
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_prefill_time",
                 "request_decode_time"):  # fmt: skip
        assert grown[f"vllm:{name}_seconds_count"] == 1, name
        assert grown[f"vllm:{name}_seconds_sum"] >= 0
    assert grown["vllm:inter_token_latency_seconds_count"] == usage["completion_tokens"] - 1
    names = {name for name, _ in values(server)}
    assert names >= {
        f"vllm:{name}"
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total",
                     "prefix_cache_queries_total", "prefix_cache_hits_total")
    }  # fmt: skip
    labels = {dict(labels).get("model_name") for _, labels in values(server)}
    assert "gpt-tiny" not in labels, "an alias is counted as its model"


def test_batches_of_encoders_are_measured(server: RunningServer) -> None:
    body = {"model": "bert", "input": ["a b", "c"]}
    server.post("/v1/embeddings", body)
    grown = changes(server, lambda: server.post("/v1/embeddings", body))
    assert grown["multihead:batches_total"] == 1
    assert grown["multihead:batch_texts_total"] == 2
    assert 0 < grown["multihead:batch_tokens_total"] <= grown["multihead:batch_budget_tokens_total"]
    assert grown["vllm:prompt_tokens_total"] == server.post("/v1/embeddings", body).json()["usage"]["prompt_tokens"]


def test_refusals_are_counted_without_names_of_clients(server: RunningServer) -> None:
    grown = changes(server, lambda: server.post("/v1/chat/completions", b"x" * (5 << 20)))
    assert grown["multihead:rejections_total"] == 1
    before = len(values(server))
    for number in range(20):
        server.get(f"/random/{number}")
        server.post("/v1/chat/completions", {**CHAT, "model": f"random-{number}"})
    assert len(values(server)) - before < 10, "what clients send is no label"


@pytest.fixture
def spans(server: RunningServer) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    server.state.tracing = Tracing.start(provider)
    yield exporter
    server.state.tracing = None


def test_spans_continue_the_trace_of_the_client(server: RunningServer, spans: InMemorySpanExporter) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = server.post("/v1/chat/completions", CHAT, headers={"traceparent": f"00-{trace}-{parent}-01"})
    server.post("/v1/chat/completions", {**CHAT, "messages": []})  # has no model yet: no span
    span: ReadableSpan = spans.get_finished_spans()[0]
    assert len(spans.get_finished_spans()) == 1
    assert span.name == "chat chat"
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == trace
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == parent
    found = dict(span.attributes or {})
    usage = answer.json()["usage"]
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert found["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert found["gen_ai.response.finish_reasons"] == (answer.json()["choices"][0]["finish_reason"],)
    assert "private" not in json.dumps({name: str(value) for name, value in found.items()})


def test_lines_of_the_log_cannot_be_forged() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "one\ntwo \x1b[31m", None, None)
    record.fields = {"path": "/a\n2026 INFO forged", "id": 'a"b'}
    line = TextFormatter().format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    assert re.search(r'path="/a\\n2026 INFO forged"', line)
    entry = json.loads(JsonFormatter().format(record))
    assert entry["message"] == "one\ntwo \\x1b[31m" or entry["message"] == "one\ntwo \x1b[31m"
    assert entry["path"] == "/a\n2026 INFO forged"
    assert "\n" not in JsonFormatter().format(record)
