"""Logits processors as classes: functions (ids, scores) -> scores, for `logits_processor` and loops of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..generation.logits import processors, warpers

Ids = int | Sequence[int] | Tensor


class LogitsProcessor:
    """Base of processors of one's own: `__call__(input_ids (sequences, length), scores (sequences, vocabulary))`."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the new scores; a subclass must define it."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(input_ids, scores).")


LogitsWarper = LogitsProcessor  # the reference's older name of those of sampling


class LogitsProcessorList(list[Any]):
    """Several processors, one after the other."""

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        for processor in self:
            more = list(inspect.signature(processor.__call__).parameters)[2:]
            absent = [name for name in more if name not in kwargs and name != "kwargs"]
            if absent:
                raise InvalidInput(f"{type(processor).__name__} also needs {', '.join(absent)}.")
            scores = processor(input_ids, scores, **kwargs) if more else processor(input_ids, scores)
        return scores


def token_list(ids: Ids | None) -> list[int]:
    if ids is None:
        return []
    plain = ids.flatten().tolist() if isinstance(ids, Tensor) else ids
    return [plain] if isinstance(plain, int) else [int(token) for token in plain]


def check(holds: bool, what: str, value: Any) -> None:
    if not holds:
        raise InvalidInput(f"{what}, not {value!r}.")


class Warper(LogitsProcessor):
    """A processor that looks at scores alone. `warp` computes it; dropped tokens get `filter_value`."""

    filter_value: float = warpers.NEVER

    def warp(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        found = self.warp(scores)
        if self.filter_value == warpers.NEVER:
            return found
        return found.masked_fill(found.isneginf() & ~scores.isneginf(), self.filter_value)


class TemperatureLogitsWarper(Warper):
    """Divides scores by a temperature."""

    def __init__(self, temperature: float) -> None:
        check(isinstance(temperature, float) and temperature > 0, "temperature is a float above 0", temperature)
        self.temperature = temperature

    def warp(self, scores: Tensor) -> Tensor:
        return scores / self.temperature


class TopKLogitsWarper(Warper):
    """Keeps the `top_k` highest scores."""

    def __init__(self, top_k: int, filter_value: float = warpers.NEVER, min_tokens_to_keep: int = 1) -> None:
        check(isinstance(top_k, int) and top_k > 0, "top_k is a whole number above 0", top_k)
        self.top_k, self.filter_value = max(top_k, min_tokens_to_keep), filter_value

    def warp(self, scores: Tensor) -> Tensor:
        return warpers.top_k(scores, self.top_k)


class TopPLogitsWarper(Warper):
    """Keeps the fewest tokens whose probabilities reach `top_p`."""

    def __init__(self, top_p: float, filter_value: float = warpers.NEVER, min_tokens_to_keep: int = 1) -> None:
        check(0 <= float(top_p) <= 1, "top_p is a number from 0 to 1", top_p)
        check(isinstance(min_tokens_to_keep, int) and min_tokens_to_keep > 0, "min_tokens_to_keep is at least 1", 0)
        self.top_p, self.filter_value, self.min_tokens_to_keep = float(top_p), filter_value, min_tokens_to_keep

    def warp(self, scores: Tensor) -> Tensor:
        return warpers.top_p(scores, self.top_p, self.min_tokens_to_keep)


class MinPLogitsWarper(Warper):
    """Keeps tokens with at least this share of the most likely token's probability."""

    def __init__(self, min_p: float, filter_value: float = warpers.NEVER, min_tokens_to_keep: int = 1) -> None:
        check(0 <= min_p <= 1, "min_p is a number from 0 to 1", min_p)
        self.min_p, self.filter_value, self.min_tokens_to_keep = min_p, filter_value, min_tokens_to_keep

    def warp(self, scores: Tensor) -> Tensor:
        return warpers.min_p(scores, self.min_p, self.min_tokens_to_keep)


class TopHLogitsWarper(Warper):
    """Keeps tokens up to a share of the entropy."""

    def __init__(self, top_h: float, filter_value: float = warpers.NEVER) -> None:
        check(0 < top_h <= 1, "top_h is a number above 0, up to 1", top_h)
        self.top_h, self.filter_value = top_h, filter_value

    def warp(self, scores: Tensor) -> Tensor:
        return warpers.top_h(scores, self.top_h)


class TypicalLogitsWarper(Warper):
    """Keeps the tokens whose information is nearest to the expected one."""

    def __init__(self, mass: float = 0.9, filter_value: float = warpers.NEVER, min_tokens_to_keep: int = 1) -> None:
        check(0 < mass < 1, "mass is a number between 0 and 1", mass)
        self.mass, self.filter_value, self.min_tokens_to_keep = mass, filter_value, min_tokens_to_keep

    def warp(self, scores: Tensor) -> Tensor:
        return warpers.typical(scores, self.mass, self.min_tokens_to_keep)


class EpsilonLogitsWarper(Warper):
    """Keeps tokens of at least this probability."""

    def __init__(self, epsilon: float, filter_value: float = warpers.NEVER, min_tokens_to_keep: int = 1) -> None:
        check(0 < epsilon < 1, "epsilon is a number between 0 and 1", epsilon)
        self.epsilon, self.filter_value, self.min_tokens_to_keep = epsilon, filter_value, min_tokens_to_keep

    def warp(self, scores: Tensor) -> Tensor:
        return warpers.epsilon(scores, self.epsilon, self.min_tokens_to_keep)


class EtaLogitsWarper(Warper):
    """Keeps tokens above a probability that follows from the entropy."""

    def __init__(
        self, epsilon: float, filter_value: float = warpers.NEVER, min_tokens_to_keep: int = 1, device: str = "cpu"
    ) -> None:
        check(0 < epsilon < 1, "epsilon is a number between 0 and 1", epsilon)
        self.epsilon, self.filter_value, self.min_tokens_to_keep = epsilon, filter_value, min_tokens_to_keep

    def warp(self, scores: Tensor) -> Tensor:
        return warpers.eta(scores, self.epsilon, self.min_tokens_to_keep)


class LogitNormalization(Warper):
    """Makes log-probabilities of scores."""

    def warp(self, scores: Tensor) -> Tensor:
        return scores.log_softmax(-1)


class InfNanRemoveLogitsProcessor(Warper):
    """Makes finite numbers of scores: 0 of NaN, the dtype's ends of infinities."""

    def warp(self, scores: Tensor) -> Tensor:
        ends = torch.finfo(scores.dtype)
        return torch.nan_to_num(scores, nan=0.0, posinf=ends.max, neginf=ends.min)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.warp(scores)


class HistoryProcessor(LogitsProcessor):
    """A processor of the engine, called with ids as a tensor. `process` is (lists of ids, scores) -> scores."""

    process: Callable[[Sequence[Sequence[int]], Tensor], Tensor]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.process(input_ids.tolist(), scores)


class RepetitionPenaltyLogitsProcessor(HistoryProcessor):
    """Lowers tokens that are in the sequence, of which `prompt_ignore_length` first ones do not count."""

    def __init__(self, penalty: float, prompt_ignore_length: int | None = None) -> None:
        check(isinstance(penalty, float) and penalty > 0, "penalty is a float above 0", penalty)
        self.penalty, self.skipped = penalty, int(prompt_ignore_length or 0)
        self.process = processors.repetition_penalty(penalty)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return super().__call__(input_ids[:, self.skipped :], scores)


class EncoderRepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Raises tokens of the encoder's input, a row a sequence."""

    def __init__(self, penalty: float, encoder_input_ids: Tensor) -> None:
        check(isinstance(penalty, float) and penalty > 0, "penalty is a float above 0", penalty)
        self.penalty, self.sources = 1 / penalty, encoder_input_ids.tolist()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return processors.repetition_penalty(self.penalty)(self.sources, scores)


class NoRepeatNGramLogitsProcessor(HistoryProcessor):
    """Bans tokens that would repeat an n-gram."""

    def __init__(self, ngram_size: int) -> None:
        check(isinstance(ngram_size, int) and ngram_size > 0, "ngram_size is a whole number above 0", ngram_size)
        self.ngram_size, self.process = ngram_size, processors.no_repeat_ngram(ngram_size)


class MinLengthLogitsProcessor(HistoryProcessor):
    """Bans end tokens in sequences shorter than `min_length`."""

    def __init__(self, min_length: int, eos_token_id: Ids, device: str = "cpu") -> None:
        check(isinstance(min_length, int) and min_length >= 0, "min_length is a whole number from 0", min_length)
        self.min_length, self.process = min_length, processors.min_length_ban(min_length, token_list(eos_token_id))


class MinNewTokensLengthLogitsProcessor(HistoryProcessor):
    """Bans end tokens before `min_new_tokens` follow a prompt."""

    def __init__(self, prompt_length_to_skip: int, min_new_tokens: int, eos_token_id: Ids, device: str = "cpu") -> None:
        for name, value in (("prompt_length_to_skip", prompt_length_to_skip), ("min_new_tokens", min_new_tokens)):
            check(isinstance(value, int) and value >= 0, f"{name} is a whole number from 0", value)
        least = prompt_length_to_skip + min_new_tokens
        self.process = processors.min_length_ban(least, token_list(eos_token_id))


class SuppressTokensLogitsProcessor(HistoryProcessor):
    """Bans tokens."""

    def __init__(self, suppress_tokens: Ids, device: str = "cpu") -> None:
        self.process = processors.token_ban(token_list(suppress_tokens))


class SuppressTokensAtBeginLogitsProcessor(HistoryProcessor):
    """Bans tokens after exactly `begin_index` tokens."""

    def __init__(self, begin_suppress_tokens: Ids, begin_index: int, device: str = "cpu") -> None:
        self.tokens = token_list(begin_suppress_tokens)
        self.set_begin_index(begin_index)

    def set_begin_index(self, begin_index: int) -> None:
        """Change where the ban applies."""
        self.begin_index, self.process = begin_index, processors.token_ban(self.tokens, begin_index)


class ForcedBOSTokenLogitsProcessor(HistoryProcessor):
    """Forces the token after the first one."""

    def __init__(self, bos_token_id: int) -> None:
        self.bos_token_id, self.process = bos_token_id, processors.ForcedTokens(1, [bos_token_id])


class ForcedEOSTokenLogitsProcessor(HistoryProcessor):
    """Forces an end token as the last of `max_length` tokens."""

    def __init__(self, max_length: int, eos_token_id: Ids, device: str = "cpu") -> None:
        self.max_length = max_length
        self.process = processors.ForcedTokens(max_length - 1, token_list(eos_token_id))


class SequenceBiasLogitsProcessor(HistoryProcessor):
    """Adds biases to the last tokens of runs of tokens.

    Args:
        sequence_bias: run of tokens -> bias, or pairs of the two.
    """

    def __init__(self, sequence_bias: Mapping[tuple[int, ...], float] | Iterable[Sequence[Any]]) -> None:
        pairs: Any = (
            sequence_bias.items() if isinstance(sequence_bias, Mapping) else [(run, x) for run, x in sequence_bias]
        )
        self.sequence_bias = {tuple(run): float(bias) for run, bias in pairs}
        check(bool(self.sequence_bias) and all(self.sequence_bias), "sequence_bias names runs of tokens", sequence_bias)
        self.process = processors.sequence_bias(self.sequence_bias)


class NoBadWordsLogitsProcessor(HistoryProcessor):
    """Bans words, each a list of tokens."""

    def __init__(self, bad_words_ids: Sequence[Sequence[int]], eos_token_id: Ids | None = None) -> None:
        check(bool(bad_words_ids) and all(bad_words_ids), "bad_words_ids are lists of tokens", bad_words_ids)
        self.bad_word_ids = bad_words_ids
        self.process = processors.bad_words(bad_words_ids, frozenset(token_list(eos_token_id)))


class PrefixConstrainedLogitsProcessor(LogitsProcessor):
    """Bans all tokens but those of a function (number of the prompt, ids) -> tokens.

    Args:
        num_beams: sequences of each prompt.
    """

    def __init__(self, prefix_allowed_tokens_fn: Callable[[int, Tensor], Iterable[int]], num_beams: int) -> None:
        self.allowed, self.num_beams = prefix_allowed_tokens_fn, num_beams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        mask = torch.full_like(scores, processors.NEVER)  # (sequences, vocabulary)
        for row, ids in enumerate(input_ids):
            tokens = list(self.allowed(row // self.num_beams, ids))
            check(bool(tokens), "prefix_allowed_tokens_fn allows one token at least", tokens)
            mask[row, tokens] = 0.0
        return scores + mask


class ExponentialDecayLengthPenalty(HistoryProcessor):
    """Raises end tokens past a number of new tokens, by a power of a factor.

    Args:
        exponential_decay_length_penalty: number of new tokens, and the factor. input_ids_seq_length: of the prompt.
    """

    def __init__(
        self,
        exponential_decay_length_penalty: tuple[int, float],
        eos_token_id: Ids,
        input_ids_seq_length: int,
    ) -> None:
        begin, factor = exponential_decay_length_penalty
        self.process = processors.length_decay(begin + input_ids_seq_length, factor, token_list(eos_token_id))
