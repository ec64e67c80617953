"""Logits processors: pure functions (histories, scores) -> scores.

A history is the tokens of one sequence, prompt included; all sequences of a request are equally long. Scores are
(sequences, vocabulary), float32. A token with minus infinity is never selected. The order is that of transformers:
biases, penalties and bans first, then the caller's own processors, then the warpers of sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...runtime.step_output import mask_tokens
from ..config import GenerationConfig
from .constraints import ends_with
from .warpers import logits_warpers
from .watermark import watermark_processor

History = Sequence[Sequence[int]]
LogitsProcessor = Callable[[History, Tensor], Tensor]
_token_texts: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()  # text of each token, by tokenizer
Allowed = Callable[[Tensor], Iterable[int]]  # tokens so far (length,) -> tokens that may follow
NEVER = float("-inf")
DRY_BASE, DRY_ALLOWED_LENGTH = 1.75, 2  # llama.cpp's defaults
MAX_RUN = 128  # tokens of a repeated run that penalties tell apart; a longer one costs the same
MOST_EXPONENT = 700.0  # of e; a float holds no much larger power
MAX_COST = 100.0  # of a repeated run; no margin between two logits is as large
LOOP_LEAST, LOOP_MOST, LOOP_GROWTH = 8, 40, 1.2  # of `loop_penalty`


class BannedTokens:
    """Bans tokens at some lengths of a sequence, and changes nothing else.

    Args:
        at: length of a sequence -> whether the ban applies.
    """

    def __init__(self, ids: Sequence[int], at: Callable[[int], bool]) -> None:
        self.ids, self.at = ids, at

    def __call__(self, history: History, scores: Tensor) -> Tensor:
        return mask_tokens(scores, self.ids) if self.at(len(history[0])) else scores

    def banned_tokens(self, length: int) -> Sequence[int] | None:
        """Return the tokens banned after `length` tokens; None where the processor changes other scores too."""
        return self.ids if self.at(length) else ()


class ForcedTokens:
    """Allows only some tokens after exactly `length` tokens."""

    def __init__(self, length: int, ids: Sequence[int]) -> None:
        self.length, self.ids = length, ids

    def __call__(self, history: History, scores: Tensor) -> Tensor:
        if len(history[0]) != self.length:
            return scores
        scores = torch.full_like(scores, NEVER)  # (sequences, vocabulary)
        scores[:, list(self.ids)] = 0.0  # forced tokens are equally likely, whatever the model scored
        return scores

    def banned_tokens(self, length: int) -> Sequence[int] | None:
        return None if length == self.length else ()


def only_banned_tokens(processors: Sequence[LogitsProcessor], length: int) -> list[int] | None:
    """Return the tokens that processors ban after `length` tokens; None if one of them changes other scores."""
    found: list[int] = []
    for processor in processors:
        ids = processor.banned_tokens(length) if isinstance(processor, (BannedTokens, ForcedTokens)) else None
        if ids is None:
            return None
        found += ids
    return found


def logits_processors(
    config: GenerationConfig,
    prompt: int,
    limit: int,
    source: Sequence[int] = (),
    *,
    allowed: Allowed | None = None,
    grammar: LogitsProcessor | None = None,
    own: Sequence[Callable[[Tensor, Tensor], Tensor]] = (),
    breakers: frozenset[int] = frozenset(),
) -> list[LogitsProcessor]:
    """Return the processors that a config asks for, but for those of sampling.

    Args:
        prompt: number of prompt tokens. limit: most tokens, prompt included. source: tokens of the encoder's input.
        allowed: a caller's function of the tokens that may follow. grammar: constrains the text.
        own: a caller's processors, (ids (sequences, length), scores) -> scores.
        breakers: tokens of `dry_sequence_breakers`.
    """
    out = bias_processors(config, prompt, source, breakers)
    out += ban_processors(config, prompt, limit, source, allowed)
    out += [grammar] if grammar is not None else []
    return out + [caller_processor(processor) for processor in own]


def sampling_processors(config: GenerationConfig) -> list[LogitsProcessor]:
    """Return the processors that come after all others: warpers, watermark, renormalization."""
    out: list[LogitsProcessor] = []
    if config.do_sample:
        # a beam needs a token that goes on, even where all end tokens are likely
        keep = len(config.ends) + 1 if (config.num_beams or 1) > 1 else 1
        out += [warper_processor(warp) for warp in logits_warpers(config, keep)]
    if config.watermarking_config is not None:
        out.append(watermark_processor(config.watermarking_config))
    if config.renormalize_logits:
        out.append(lambda history, scores: scores.log_softmax(-1))
    return out


def bias_processors(
    config: GenerationConfig, prompt: int, source: Sequence[int], breakers: frozenset[int]
) -> list[LogitsProcessor]:
    """Return the processors that raise or lower scores."""
    out: list[LogitsProcessor] = []
    if config.sequence_bias:
        out.append(sequence_bias(config.bias_of_runs))
    if config.encoder_repetition_penalty not in (None, 1.0):
        # the inverse penalty, so that tokens of the source become likelier
        out.append(repetition_penalty(1 / config.encoder_repetition_penalty, source))
    if config.repetition_penalty not in (None, 1.0):
        out.append(repetition_penalty(config.repetition_penalty))
    if config.frequency_penalty or config.presence_penalty:
        out.append(count_penalties(config.frequency_penalty or 0.0, config.presence_penalty or 0.0, prompt))
    if config.dry_multiplier:
        base = DRY_BASE if config.dry_base is None else config.dry_base
        allowed = config.dry_allowed_length or DRY_ALLOWED_LENGTH
        out.append(dry_penalty(config.dry_multiplier, base, allowed, prompt, breakers))
    if config.loop_penalty:
        out.append(loop_penalty(config.loop_penalty, prompt))
    return out


def ban_processors(
    config: GenerationConfig, prompt: int, limit: int, source: Sequence[int], allowed: Allowed | None
) -> list[LogitsProcessor]:
    """Return the processors that ban or force tokens."""
    ends, out = sorted(config.ends), list[LogitsProcessor]()
    if config.no_repeat_ngram_size:
        out.append(no_repeat_ngram(config.no_repeat_ngram_size))
    if config.encoder_no_repeat_ngram_size:
        out.append(no_repeat_ngram(config.encoder_no_repeat_ngram_size, source))
    if config.bad_words_ids:
        out.append(bad_words(config.bad_words_ids, config.ends))
    least = config.min_length or 0 if config.min_new_tokens is None else prompt + config.min_new_tokens
    if ends and least:
        out.append(min_length_ban(least, ends))
    if allowed is not None:
        out.append(prefix_allowed(allowed))
    if config.forced_bos_token_id is not None:
        out.append(ForcedTokens(1, [config.forced_bos_token_id]))
    if config.forced_eos_token_id is not None:
        last = config.forced_eos_token_id
        out.append(ForcedTokens(limit - 1, last if isinstance(last, list) else [last]))
    if config.remove_invalid_values:
        # NaN becomes 0, infinities the highest and the lowest finite number
        out.append(lambda history, scores: torch.nan_to_num(scores, 0.0))
    if config.exponential_decay_length_penalty is not None:
        after, factor = config.exponential_decay_length_penalty
        out.append(length_decay(prompt + after, factor, ends))
    if config.suppress_tokens:
        out.append(token_ban(config.suppress_tokens))
    if config.begin_suppress_tokens:
        # a forced first token comes before the place of the ban
        late = prompt <= 1 and config.forced_bos_token_id is not None
        out.append(token_ban(config.begin_suppress_tokens, at=prompt + late))
    return out


def caller_processor(processor: Callable[[Tensor, Tensor], Tensor]) -> LogitsProcessor:
    """Wrap a caller's processor, which may write into the scores that it gets."""

    def process(history: History, scores: Tensor) -> Tensor:
        # scores may be an expanded row, which cannot be written
        own = scores.clone(memory_format=torch.contiguous_format)
        return processor(torch.tensor(history, device=scores.device), own)  # (sequences, length)

    return process


def warper_processor(warp: Callable[[Tensor], Tensor]) -> LogitsProcessor:
    return lambda history, scores: warp(scores)


def repetition_penalty(penalty: float, source: Sequence[int] | None = None) -> LogitsProcessor:
    """Divide positive and multiply negative scores of tokens in the sequence or a source (arXiv:1909.05858)."""

    def process(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            # (different tokens,)
            ids = torch.tensor(sorted(set(text if source is None else source)), dtype=torch.long, device=scores.device)
            old = row[ids]
            # dividing a negative score would make its token likelier
            row[ids] = torch.where(old < 0, old * penalty, old / penalty)
        return scores

    return process


def count_penalties(frequency: float, presence: float, prompt: int = 0) -> LogitsProcessor:
    """Subtract `frequency` for each occurrence of a new token, and `presence` once if it occurs.

    As in OpenAI's interface and vLLM, tokens of the prompt do not count: in a long conversation, every common word
    would cost more and more.
    """

    def process(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            # (different tokens,) each
            ids, counts = torch.tensor(list(text[prompt:]), dtype=torch.long, device=scores.device).unique(
                return_counts=True
            )
            row[ids] -= frequency * counts + presence
        return scores

    return process


def dry_penalty(
    multiplier: float, base: float, allowed: int, prompt: int, breakers: frozenset[int] = frozenset()
) -> LogitsProcessor:
    """Lower tokens that would prolong a repeated run of new tokens ("DRY", p-e-w, 2024, as in llama.cpp).

    A run of n >= `allowed` tokens that occurred before costs the token that followed it multiplier * base ** (n -
    allowed). Tokens of the prompt do not count, so that copying from it stays free.

    Args:
        prompt: number of prompt tokens. breakers: tokens that no run contains, and that cost nothing.
    """

    # the power of a large base may exceed what a float holds
    most = max(int(MOST_EXPONENT / math.log(base)), 1) if base > 1 else 0

    def cost(token: int, length: int, lag: int) -> float:
        return 0.0 if token in breakers or length < allowed else multiplier * base ** min(length - allowed, most)

    return run_penalty(cost, prompt, breakers)


def loop_penalty(penalty: float, prompt: int) -> LogitsProcessor:
    """Lower tokens that would go on with a loop: new tokens that repeat those at a fixed distance before them.

    Periods that are repeated twice, or 40 tokens of a longer period, are a loop; 8 tokens are the least. Each token of
    the loop costs the next one a fifth more than the one before. Code, tables and lists, whose parts are alike but not
    equal, are none.
    """

    def cost(token: int, length: int, lag: int) -> float:
        over = length - max(LOOP_LEAST, min(2 * lag, LOOP_MOST))
        return penalty * LOOP_GROWTH**over if over >= 0 else 0.0

    return run_penalty(cost, prompt)


def run_penalty(
    cost: Callable[[int, int, int], float], prompt: int, breakers: frozenset[int] = frozenset()
) -> LogitsProcessor:
    """Subtract the highest cost of each token that followed a run which the text now ends with.

    Args:
        cost: token, length of the run, distance to its earlier place -> what the token costs.
    """

    def process(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            costs: dict[int, float] = {}
            for token, length, lag in repeated_runs(text[prompt:], breakers):
                costs[token] = max(costs.get(token, 0.0), min(cost(token, length, lag), MAX_COST))
            for token, value in costs.items():
                if value and token < len(row):
                    row[token] -= value
        return scores

    return process


def repeated_runs(tokens: Sequence[int], breakers: frozenset[int] = frozenset()) -> Iterator[tuple[int, int, int]]:
    """Yield (token, length, lag) for each earlier place of a run that the tokens end with.

    The token followed the run there; the length is at most `MAX_RUN`; the lag is the distance between both places.
    """
    size = len(tokens)
    for end in range(size - 1):
        if tokens[end] != tokens[-1] or tokens[end] in breakers:
            continue
        most = min(end + 1, MAX_RUN)
        differs = (n for n in range(1, most) if tokens[end - n] != tokens[size - 1 - n] or tokens[end - n] in breakers)
        yield tokens[end + 1], next(differs, most), size - 1 - end


def tokens_with(tokenizer: Any, strings: Sequence[str]) -> frozenset[int]:
    """Return the tokens whose text contains one of some strings."""
    known = _token_texts.get(tokenizer)
    if known is None:
        known = _token_texts[tokenizer] = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return frozenset(token for token, text in enumerate(known) if any(string in text for string in strings))


def sequence_bias(runs: Mapping[tuple[int, ...], float]) -> LogitsProcessor:
    """Add a bias to the last token of a run where the sequence ends with the run's other tokens."""

    def process(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            for run, bias in runs.items():
                if ends_with(text, run[:-1]):
                    row[run[-1]] += bias
        return scores

    return process


def no_repeat_ngram(size: int, source: Sequence[int] | None = None) -> LogitsProcessor:
    """Ban tokens that would repeat an n-gram of `size` tokens of the sequence, or of its source (Blenderbot)."""

    def process(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            known = list(text if source is None else source)
            # the first size - 1 tokens of the next n-gram
            tail = list(text[len(text) - size + 1 :]) if size > 1 else []
            starts = range(len(known) - size + 1)
            row[[known[i + size - 1] for i in starts if known[i : i + size - 1] == tail]] = NEVER
        return scores

    return process


def bad_words(words: Sequence[Sequence[int]], ends: frozenset[int]) -> LogitsProcessor:
    """Ban the last token of each run where the sequence ends with its other tokens; end tokens are never banned."""
    runs = [list(word) for word in words if not (len(word) == 1 and word[0] in ends)]
    if all(len(run) == 1 for run in runs):
        # such bans are known before the scores, so greedy steps may leave them to the kernels
        return BannedTokens([run[0] for run in runs], lambda size: True)

    def process(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            row[[run[-1] for run in runs if ends_with(text, run[:-1])]] = NEVER
        return scores

    return process


def min_length_ban(length: int, ids: Sequence[int]) -> LogitsProcessor:
    """Ban tokens, such as end tokens, while a sequence is shorter than `length`."""
    return BannedTokens(ids, lambda size: size < length)


def token_ban(ids: Sequence[int], at: int | None = None) -> LogitsProcessor:
    """Ban tokens always, or only after exactly `at` tokens."""
    return BannedTokens(ids, lambda size: at is None or size == at)


def prefix_allowed(allowed: Allowed) -> LogitsProcessor:
    """Ban all tokens but those of a caller's function; if all of these are banned too, they become equally likely."""

    def process(history: History, scores: Tensor) -> Tensor:
        mask = torch.full_like(scores, NEVER)  # (sequences, vocabulary)
        for row, text in zip(mask, history, strict=True):
            ids = [int(token) for token in allowed(torch.tensor(text))]
            if not ids:
                raise InvalidInput("prefix_allowed_tokens_fn allows no token; a text must be able to go on or end.")
            wrong = [token for token in ids if not 0 <= token < len(row)]
            if wrong:
                raise InvalidInput(
                    f"prefix_allowed_tokens_fn names tokens {wrong[:8]} outside the vocabulary of {len(row)}."
                )
            row[ids] = 0.0
        masked = scores + mask
        # a softmax of minus infinity alone would be NaN
        return mask if bool(masked.amax(-1).isneginf().all()) else masked

    return process


def length_decay(length: int, factor: float, ends: Sequence[int]) -> LogitsProcessor:
    """Raise end tokens past `length` by the magnitude of their score times factor ** (tokens past it) - 1."""

    def process(history: History, scores: Tensor) -> Tensor:
        past = len(history[0]) - length
        if past <= 0:
            return scores
        scores, own = scores.clone(), [token for token in ends if token < scores.shape[1]]
        old = scores[:, own]  # (sequences, end tokens)
        gain = old.abs() * (factor**past - 1)  # the magnitude, so that a negative score rises too
        scores[:, own] = torch.where(old.isfinite(), old + gain, old)  # a banned end token stays banned
        return scores

    return process
