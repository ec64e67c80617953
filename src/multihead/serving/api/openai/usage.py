"""Numbers of tokens and times of an answer."""

from __future__ import annotations

from typing import Any

from ...generation.stream import Generation


def usage(generation: Generation, reasoning: int = 0) -> dict[str, Any]:
    """Return the usage in OpenAI's shape."""
    prompt, completion = generation.prompt_tokens, generation.completion_tokens
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": generation.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": reasoning,
            "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


def timings(generation: Generation) -> dict[str, Any]:
    """Return times in llama.cpp's shape; the prompt's have the wait in the queue too."""
    cached = generation.cached_tokens
    prompt, written = generation.prompt_tokens - cached, generation.completion_tokens
    clock = generation.clock
    first = clock.first or generation.begin
    prompt_ms, ms = 1000 * (first - generation.begin), 1000 * (max(clock.last, first) - first)
    return {
        "cache_n": cached, "prompt_n": prompt, "prompt_ms": prompt_ms, **rates("prompt", prompt, prompt_ms),
        "predicted_n": written, "predicted_ms": ms, **rates("predicted", written, ms),
    }  # fmt: skip


def rates(name: str, tokens: int, ms: float) -> dict[str, float]:
    return {
        f"{name}_per_token_ms": ms / tokens if tokens else 0.0,
        f"{name}_per_second": 1000 * tokens / ms if ms else 0.0,
    }
