"""Options of a request as the engine's: sampling, penalties, limits, ends, the form of the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...generation.config import GenerationConfig
from ...pipelines.generation_base import context_length
from ..errors import ApiError
from ..models.served_model import ServedModel

DROPPED = ("max_length", "max_new_tokens", "num_return_sequences", "max_time")  # of a checkpoint: lengths, amounts


def base_config(model: ServedModel) -> GenerationConfig:
    """Return the checkpoint's generation_config.json, without what a request decides."""
    config: GenerationConfig = model.model.generation_config
    own = model.tokenizer.eos_token_id
    ends = config.ends | ({own} if own is not None else set())
    return config.changed(eos_token_id=sorted(ends) or None, **dict.fromkeys(DROPPED))


def sampling_config(model: ServedModel, options: Mapping[str, Any]) -> GenerationConfig:
    """Return the config of a request.

    What neither the request nor the checkpoint's generation_config.json says has vLLM's defaults: temperature 1, and no
    top_k, top_p or min_p. Temperature 0 takes the most likely tokens.

    Args:
        options: fields of GenerationConfig that the request sets; None for one that it does not.
    """
    base = base_config(model)
    given = {name: value for name, value in options.items() if value is not None}
    temperature = given.pop("temperature", base.temperature)
    temperature = 1.0 if temperature is None else temperature
    top_k = given.pop("top_k", base.top_k)
    if temperature == 0 or (given.get("num_beams") or 1) > 1:
        unset = dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "typical_p", "top_h"))
        given = {name: value for name, value in given.items() if name not in unset}
        return base.changed(do_sample=False, **unset, **given)
    # -1 is vLLM's word for all tokens
    top_k = 0 if top_k in (None, -1) else top_k
    return base.changed(**{"do_sample": True, "temperature": float(temperature), "top_k": top_k, **given})


def new_tokens(model: ServedModel, prompt: int, asked: int | None, param: str = "max_tokens") -> int:
    """Return how many tokens may follow a prompt: what was asked for, else up to the end of the context.

    Raises:
        ApiError: a prompt, or a prompt and what was asked for, longer than the context.
    """
    longest = context_length(model.model.config)
    default = model.server.max_new_tokens
    if longest is None:
        return asked or default or 1024
    room = longest - prompt
    if room < 1:
        raise ApiError(
            f"This model's context has {longest} tokens, and the prompt alone has {prompt}. Shorten it.",
            param="messages" if param != "max_tokens_completion" else "prompt", code="context_length_exceeded",
        )  # fmt: skip
    if asked is not None and asked > room:
        raise ApiError(
            f"This model's context has {longest} tokens. The prompt has {prompt}, and {asked} more were asked for "
            f"({param}). Shorten the prompt, or ask for at most {room}.",
            param=param, code="context_length_exceeded",
        )  # fmt: skip
    return asked if asked is not None else min(room, default or room)
