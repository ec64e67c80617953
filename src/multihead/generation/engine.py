"""Continues texts token by token: read, rule, choose, and go on with those that have not ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..kernels.sight import Runs
from ..nn.cache import Cache
from .config import GenerationConfig
from .rules import Rule, rules


class Decoder(Protocol):
    """What this room needs of a model."""

    @property
    def device(self) -> torch.device: ...

    def read(self, ids: Tensor, runs: Runs, memory: Cache) -> Tensor:
        """Scores (texts, vocabulary) of what follows each text, after reading ids (tokens,) into the cache."""


@dataclass(frozen=True)
class Step:
    """One step of a batch.

    Args:
        texts: numbers of the texts that got a token. tokens: theirs, in that order.
        scores, logits: (texts, vocabulary), after and before the rules.
    """

    texts: tuple[int, ...]
    tokens: tuple[int, ...]
    scores: Tensor
    logits: Tensor


def steps(
    model: Decoder, prompts: Sequence[Sequence[int]], memory: Cache, config: GenerationConfig, limits: Sequence[int]
) -> Iterator[Step]:
    """The steps of a batch, until every text has ended.

    Args:
        prompts: each text's tokens; none may be empty. memory: an empty cache for them.
        limits: most tokens of each text, prompt included.

    Raises:
        InvalidInput: an empty prompt, or one that leaves no room.
    """
    check_prompts(prompts, limits)
    histories = [list(prompt) for prompt in prompts]
    alive = list(range(len(prompts)))
    generator = None if config.seed is None else torch.Generator(model.device).manual_seed(config.seed)
    began, reading = time.monotonic(), [list(prompt) for prompt in prompts]
    sources = known_sources(memory, prompts)
    active = rules(config, [len(p) for p in prompts], limits, sources)
    while alive:
        ids = torch.tensor([token for text in reading for token in text], device=model.device)
        with torch.inference_mode():
            logits = model.read(ids, Runs.of(tuple(map(len, reading))), memory).float()
            scores = applied(active, [histories[text] for text in alive], logits)
            tokens = choose(scores, config, generator).tolist()
        for text, token in zip(alive, tokens, strict=True):
            histories[text].append(token)
        yield Step(tuple(alive), tuple(tokens), scores, logits)
        late = config.max_time is not None and time.monotonic() - began > config.max_time
        going = [
            place
            for place, (text, token) in enumerate(zip(alive, tokens, strict=True))
            if token not in config.ends and len(histories[text]) < limits[text] and not late
        ]
        if 0 < len(going) < len(alive):
            memory.select(torch.tensor(going))
            kept_prompts, kept_limits = ([x[alive[p]] for p in going] for x in ([len(p) for p in prompts], limits))
            active = rules(config, kept_prompts, kept_limits, [sources[alive[p]] for p in going])
        reading = [[tokens[place]] for place in going]
        alive = [alive[place] for place in going]


def known_sources(memory: Cache, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """What each text is made of: its encoded source's tokens, where these are known, or its prompt."""
    encoded = memory.encoded
    if encoded is None or encoded.ids is None:
        return [list(prompt) for prompt in prompts]
    ids, spans = encoded.ids.tolist(), zip(encoded.runs.begins, encoded.runs.lengths, strict=True)
    return [ids[begin : begin + length] for begin, length in spans]


def applied(active: Sequence[Rule], histories: Sequence[Sequence[int]], scores: Tensor) -> Tensor:
    for rule in active:
        scores = rule(histories, scores)
    return scores


def choose(scores: Tensor, config: GenerationConfig, generator: torch.Generator | None) -> Tensor:
    """The next token of each text, (texts,)."""
    if not config.do_sample:
        return scores.argmax(-1)
    return torch.multinomial(scores.softmax(-1), 1, generator=generator).flatten()


def check_prompts(prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
    """Raises InvalidInput for a prompt without a token, or one that leaves no room for another."""
    for number, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
        if not prompt:
            raise InvalidInput(f"Prompt {number} has no token; give it at least one, a start token for instance.")
        if len(prompt) >= limit:
            raise InvalidInput(
                f"Prompt {number} has {len(prompt)} tokens and at most {limit} are allowed in all (max_length). "
                "Shorten it, or set max_new_tokens."
            )
