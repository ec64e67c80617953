"""Answers of routes, each as an example: names and types of what is always there. More fields may come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

USAGE = {"prompt_tokens": 1, "total_tokens": 2}
MODEL = {"id": "", "object": "model", "created": 1, "owned_by": ""}
LIST = {"object": "list", "data": [{}]}
STATUS = {"status": "ok"}
ANSWERS: Mapping[str, Any] = {
    "/health": STATUS, "/ready": STATUS, "/ping": STATUS, "/version": {"version": ""},
    "/v2/health/live": {"live": True}, "/v2/health/ready": {"ready": True},
    "/v2/models/{name}/ready": {"name": "", "ready": True},
    "/v1/models": {"object": "list", "data": [MODEL]}, "/v1/models/{name}": MODEL,
    "/v1/chat/completions": {
        "id": "", "object": "chat.completion", "created": 1, "model": "", "usage": USAGE,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": ""}],
    },
    "/v1/completions": {
        "id": "", "object": "text_completion", "created": 1, "model": "", "usage": USAGE,
        "choices": [{"index": 0, "text": "", "finish_reason": None}],
    },
    "/v1/responses": {"id": "", "object": "response", "status": "", "model": "", "output": [{}]},
    "/v1/messages": {"id": "", "type": "message", "role": "assistant", "content": [{}], "model": "", "usage": {}},
    "/v1/messages/count_tokens": {"input_tokens": 1},
    "/v1/embeddings": {
        "object": "list", "model": "", "usage": USAGE,
        "data": [{"object": "embedding", "index": 0, "embedding": None}],
    },
    "/v1/rerank": {"results": [{"index": 0, "relevance_score": 0.5}]},
    "/v2/rerank": {"results": [{"index": 0, "relevance_score": 0.5}]},
    "/classify": LIST, "/v1/classify": LIST, "/score": LIST, "/v1/score": LIST, "/pooling": LIST,
    "/embed": [[0.5]], "/embed_all": [[[0.5]]], "/similarity": [0.5],
    "/v1/decisions": {"answers": [{}]},
    "/admin/models": {"models": [{"model": "", "status": ""}], "bytes": 1},
}  # fmt: skip
OTHER_MEDIA: Mapping[str, str] = {  # path -> media type of an answer that is no JSON
    "/": "text/html", "/docs": "text/html", "/metrics": "text/plain",
    "/admin/models/events": "text/event-stream", "/v1/models/events": "text/event-stream",
    "/v1/load_lora_adapter": "text/plain", "/v1/unload_lora_adapter": "text/plain",
}  # fmt: skip


def schema_of(example: Any) -> dict[str, Any]:
    """Return the JSON schema of an example: its names are required, more are allowed; None is anything."""
    if isinstance(example, Mapping):
        properties = {name: schema_of(value) for name, value in example.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(example, list):
        return {"type": "array", "items": schema_of(example[0]) if example else {}}
    if isinstance(example, bool):
        return {"type": "boolean"}
    kinds = {int: "integer", float: "number", str: "string"}
    return {"type": kinds[type(example)]} if type(example) in kinds else {}
