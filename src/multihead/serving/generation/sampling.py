"""Options of a request as the engine's: sampling, penalties, limits, ends, the form of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...generation.config import GenerationConfig
from ...generation.strategies.base import Extras
from ...pipelines.generation_base import context_length
from ..errors import ApiError
from ..models.served_model import ServedModel
from .request import GenerationRequest

DROPPED = ("max_length", "max_new_tokens", "num_return_sequences", "max_time")  # a request decides lengths and amounts
DRAWS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff")
UNBOUNDED = 4096  # new tokens where neither the request nor the model has a limit


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Everything about the continuations of a prompt.

    Args:
        options: fields of GenerationConfig; None for one that the request does not set.
        limit: new tokens, at most; None for the server's limit and the end of the context. limit_name: its field.
        n: continuations. stops, include_stop, skip_special_tokens, logprobs, prompt_logprobs, cache_salt: see
            GenerationRequest.
        stop_tokens: end a text too. ignore_eos: the model's own end tokens do not.
        beam_search: searches with n beams. bad_words: texts that never come. allowed_tokens: no others come.
        logit_bias: token -> what is added to its logit. form: one of json_schema, regex, grammar; see GenerationConfig.
        form_name: its field in the request.
        context: tokens of prompt and continuation; None for the model's own length.
        truncate: tokens of the prompt that are kept, the last ones; -1 for as many as the context takes.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    limit_name: str = "max_tokens"
    n: int = 1
    stops: tuple[str, ...] = ()
    include_stop: bool = False
    skip_special_tokens: bool = True
    stop_tokens: Sequence[int] = ()
    ignore_eos: bool = False
    beam_search: bool = False
    bad_words: Sequence[str] = ()
    allowed_tokens: Sequence[int] | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)
    form_name: str = ""
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    include_end: bool = False
    truncate: int | None = None
    context: int | None = None
    cache_salt: bytes = b""


def generation_request(
    model: ServedModel, prompt: list[int], sampling: Sampling, kept: Sequence[str] = ()
) -> GenerationRequest:
    """Return the request of a prompt.

    Args:
        kept: special tokens that stay in the text.

    Raises:
        ApiError: tokens outside the vocabulary, or a prompt that does not fit into the context.
    """
    if sampling.truncate is not None:
        prompt = truncated(model, prompt, sampling)
    if not prompt:
        raise ApiError("The prompt has no token; give it some text.", code="empty_prompt")
    check_tokens(model, sampling, prompt)
    config = sampling_config(model, {**sampling.options, **settings_of(model, sampling)})
    most = new_tokens(model, len(prompt), sampling)
    if (config.min_new_tokens or 0) > most:
        raise ApiError(f"min_tokens is {config.min_new_tokens}, and only {most} tokens may follow.", param="min_tokens")
    extras = Extras(tokenizer=model.tokenizer)
    if (allowed := sampling.allowed_tokens) is not None:
        tokens = list(allowed)
        extras = Extras(tokenizer=model.tokenizer, allowed=lambda number, ids: tokens)
    ids = [model.tokenizer.convert_tokens_to_ids(token) for token in kept]
    own_ends = set() if sampling.ignore_eos else base_config(model).ends
    return GenerationRequest(
        prompt=prompt, config=config.changed(max_new_tokens=max(most, 1)), prompt_only=most == 0,
        n=sampling.n, stops=sampling.stops, include_stop=sampling.include_stop,
        stop_tokens=frozenset(sampling.stop_tokens) - own_ends,
        skip_special_tokens=sampling.skip_special_tokens,
        kept_tokens=frozenset(token for token in ids if token is not None), include_end=sampling.include_end,
        form_name=sampling.form_name, extras=extras, logprobs=sampling.logprobs,
        prompt_logprobs=sampling.prompt_logprobs, cache_salt=sampling.cache_salt,
    )  # fmt: skip


def settings_of(model: ServedModel, sampling: Sampling) -> dict[str, Any]:
    """Return the fields of GenerationConfig that follow from a request's other fields."""
    ends = set() if sampling.ignore_eos else set(base_config(model).ends)
    found: dict[str, Any] = {**sampling.form}
    if sampling.ignore_eos or sampling.stop_tokens:
        found["eos_token_id"] = sorted(ends | set(sampling.stop_tokens)) or []
    if sampling.beam_search and sampling.n > 1:
        found |= {"num_beams": sampling.n, "num_return_sequences": sampling.n}
        found["stop_strings"] = list(sampling.stops) or None
    if sampling.logit_bias:
        found["sequence_bias"] = [[[token], bias] for token, bias in sampling.logit_bias.items()]
    if sampling.bad_words:
        # a word is another token at the beginning of a text than after a space
        texts = [text for word in sampling.bad_words for text in (word, f" {word}")]
        runs = model.tokenizer.encode_ids(texts, special=False)
        found["bad_words_ids"] = [run for run in dict.fromkeys(map(tuple, runs)) if run]
        found["bad_words_ids"] = [list(run) for run in found["bad_words_ids"]]
    return found


def sampling_config(model: ServedModel, options: Mapping[str, Any]) -> GenerationConfig:
    """Return the config of a request.

    What neither the request nor the checkpoint's generation_config.json says has vLLM's defaults: temperature 1, and no
    top_k, top_p or min_p. Temperature 0 takes the most likely tokens.

    Args:
        options: fields of GenerationConfig; None for one that is not set.
    """
    base = base_config(model)
    given = {name: value for name, value in options.items() if value is not None}
    ends = {"eos_token_id": given.pop("eos_token_id") or None} if "eos_token_id" in given else {}
    temperature = given.pop("temperature", base.temperature)
    temperature = 1.0 if temperature is None else float(temperature)
    top_k = given.pop("top_k", base.top_k)
    if temperature == 0 or (given.get("num_beams") or 1) > 1:
        given = {name: value for name, value in given.items() if name not in DRAWS}
        return base.changed(do_sample=False, **dict.fromkeys(DRAWS), **ends, **given)
    # -1 is vLLM's word for all tokens
    top_k = 0 if top_k in (None, -1) else top_k
    return base.changed(**{"do_sample": True, "temperature": temperature, "top_k": top_k, **ends, **given})


def base_config(model: ServedModel) -> GenerationConfig:
    """Return the checkpoint's generation_config.json, without what a request decides."""
    config: GenerationConfig = model.model.generation_config
    own = model.tokenizer.eos_token_id
    ends = config.ends | ({own} if own is not None else set())
    return config.changed(eos_token_id=sorted(ends) or None, **dict.fromkeys(DROPPED))


def longest_prompt(model: ServedModel, sampling: Sampling) -> int | None:
    """Return the most tokens that a prompt can have; None for no limit, or where the request lets it be cut."""
    return None if sampling.truncate is not None else sampling.context or context_length(model.model.config)


def new_tokens(model: ServedModel, prompt: int, sampling: Sampling) -> int:
    """Return how many tokens may follow a prompt: what was asked for, else up to the end of the context.

    Raises:
        ApiError: a prompt, or a prompt and what was asked for, longer than the context.
    """
    asked, default = sampling.limit, model.server.max_new_tokens
    longest = sampling.context or context_length(model.model.config)
    if longest is None:
        return asked if asked is not None else default or UNBOUNDED
    room = longest - prompt
    if room < (asked != 0):
        raise ApiError(
            f"The context of this model has {longest} tokens, and the prompt alone has {prompt}. Shorten it.",
            code="context_length_exceeded",
        )
    if asked is not None and asked > room:
        raise ApiError(
            f"The context of this model has {longest} tokens. The prompt has {prompt}, and {asked} more were asked for "
            f"({sampling.limit_name}). Shorten the prompt, or ask for at most {room}.",
            param=sampling.limit_name, code="context_length_exceeded",
        )  # fmt: skip
    return asked if asked is not None else min(room, default or room)


def truncated(model: ServedModel, prompt: list[int], sampling: Sampling) -> list[int]:
    """Return the last tokens of a prompt, as many as `truncate` says. Raises ApiError for more than the context."""
    keep, longest = sampling.truncate or -1, context_length(model.model.config)
    if keep == -1:
        return prompt if longest is None else prompt[-max(longest - (sampling.limit or 1), 1) :]
    if longest is not None and keep > longest:
        raise ApiError(
            f"truncate_prompt_tokens is {keep}, and the context of this model has {longest} tokens.",
            param="truncate_prompt_tokens",
        )
    return prompt[-keep:]


def check_tokens(model: ServedModel, sampling: Sampling, prompt: Sequence[int]) -> None:
    """Raise ApiError for token ids that the model does not have."""
    named = {
        "prompt": prompt, "stop_token_ids": sampling.stop_tokens, "allowed_token_ids": sampling.allowed_tokens or (),
        "logit_bias": tuple(sampling.logit_bias),
    }  # fmt: skip
    count = model.model.vocabulary
    for name, tokens in named.items():
        wrong = next((token for token in tokens if not 0 <= token < count), None)
        if wrong is not None:
            raise ApiError(f"{name}: {wrong} is no token of this model, which has {count}.", param=name)
