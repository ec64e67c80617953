"""Rules that change next-token scores: pure functions (histories, scores) -> scores.

A history is the tokens of one branch so far, prompt included; all branches of a request are equally long. Scores are
(branches, vocabulary), float32. A token at minus infinity is never chosen. The order is the reference's: biases,
penalties and bans first, then the caller's own, then what shapes a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...runtime.step_output import mask_tokens
from ..config import GenerationConfig
from .constraints import ends_with
from .warpers import draw_rules
from .watermark import watermarked

History = Sequence[Sequence[int]]
Rule = Callable[[History, Tensor], Tensor]
Allowed = Callable[[Tensor], Iterable[int]]  # tokens so far (length,) -> tokens that may come
NEVER = float("-inf")


class Ban:
    """Bans some tokens at some lengths of a text, and changes nothing else.

    Args:
        at: whether it holds for a text of so many tokens.
    """

    def __init__(self, ids: Sequence[int], at: Callable[[int], bool]) -> None:
        self.ids, self.at = ids, at

    def __call__(self, history: History, scores: Tensor) -> Tensor:
        return mask_tokens(scores, self.ids) if self.at(len(history[0])) else scores

    def bans(self, length: int) -> Sequence[int] | None:
        """Tokens that may not follow a text of so many tokens; None where that does not say all that is changed."""
        return self.ids if self.at(length) else ()


class Forced:
    """Only some tokens may come when a text has exactly `length`."""

    def __init__(self, length: int, ids: Sequence[int]) -> None:
        self.length, self.ids = length, ids

    def __call__(self, history: History, scores: Tensor) -> Tensor:
        if len(history[0]) != self.length:
            return scores
        scores = torch.full_like(scores, NEVER)
        scores[:, list(self.ids)] = 0.0
        return scores

    def bans(self, length: int) -> Sequence[int] | None:
        return None if length == self.length else ()


def bans_alone(rules: Sequence[Rule], length: int) -> list[int] | None:
    """Tokens that some rules ban after so many tokens, where they do nothing else to the scores; else None."""
    found: list[int] = []
    for rule in rules:
        ids = rule.bans(length) if isinstance(rule, (Ban, Forced)) else None
        if ids is None:
            return None
        found += ids
    return found


def first_rules(
    config: GenerationConfig,
    prompt: int,
    limit: int,
    source: Sequence[int] = (),
    *,
    allowed: Allowed | None = None,
    form: Rule | None = None,
    own: Sequence[Callable[[Tensor, Tensor], Tensor]] = (),
) -> list[Rule]:
    """The rules that a config asks for, but for those that shape a draw.

    Args:
        prompt: tokens of the prompt. limit: most tokens in all. source: tokens that the text is made of.
        allowed: what a caller lets follow. form: of the text, where it has one.
        own: a caller's processors, (ids (branches, length), scores) -> scores.
    """
    out = biases(config, source)
    out += bans(config, prompt, limit, source, allowed)
    out += [form] if form is not None else []
    return out + [processed(processor) for processor in own]


def last_rules(config: GenerationConfig) -> list[Rule]:
    """The rules that shape a draw, which come after all others."""
    out: list[Rule] = []
    if config.do_sample:
        keep = len(config.ends) + 1 if (config.num_beams or 1) > 1 else 1
        out += [drawn(cut) for cut in draw_rules(config, keep)]
    if config.watermarking_config is not None:
        out.append(watermarked(config.watermarking_config))
    if config.renormalize_logits:
        out.append(lambda history, scores: scores.log_softmax(-1))
    return out


def biases(config: GenerationConfig, source: Sequence[int]) -> list[Rule]:
    """What makes tokens likelier or less likely."""
    out: list[Rule] = []
    if config.sequence_bias:
        out.append(biased(config.bias_of_runs))
    if config.encoder_repetition_penalty not in (None, 1.0):
        out.append(repetition(1 / config.encoder_repetition_penalty, source))
    if config.repetition_penalty not in (None, 1.0):
        out.append(repetition(config.repetition_penalty))
    if config.frequency_penalty or config.presence_penalty:
        out.append(counted(config.frequency_penalty or 0.0, config.presence_penalty or 0.0))
    return out


def bans(
    config: GenerationConfig, prompt: int, limit: int, source: Sequence[int], allowed: Allowed | None
) -> list[Rule]:
    """What may not come, must come, or comes late."""
    ends, out = sorted(config.ends), list[Rule]()
    if config.no_repeat_ngram_size:
        out.append(no_repeat(config.no_repeat_ngram_size))
    if config.encoder_no_repeat_ngram_size:
        out.append(no_repeat(config.encoder_no_repeat_ngram_size, source))
    if config.bad_words_ids:
        out.append(banned(config.bad_words_ids, config.ends))
    least = config.min_length or 0 if config.min_new_tokens is None else prompt + config.min_new_tokens
    if ends and least:
        out.append(not_before(least, ends))
    if allowed is not None:
        out.append(only(allowed))
    if config.forced_bos_token_id is not None:
        out.append(Forced(1, [config.forced_bos_token_id]))
    if config.forced_eos_token_id is not None:
        last = config.forced_eos_token_id
        out.append(Forced(limit - 1, last if isinstance(last, list) else [last]))
    if config.remove_invalid_values:
        out.append(lambda history, scores: torch.nan_to_num(scores, 0.0))
    if config.exponential_decay_length_penalty is not None:
        after, factor = config.exponential_decay_length_penalty
        out.append(likelier_ends(prompt + after, factor, ends))
    if config.suppress_tokens:
        out.append(suppressed(config.suppress_tokens))
    if config.begin_suppress_tokens:
        late = prompt <= 1 and config.forced_bos_token_id is not None
        out.append(suppressed(config.begin_suppress_tokens, at=prompt + late))
    return out


def processed(processor: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """A caller's own processor, which may write into the scores that it gets."""

    def rule(history: History, scores: Tensor) -> Tensor:
        own = scores.clone(memory_format=torch.contiguous_format)
        return processor(torch.tensor(history, device=scores.device), own)

    return rule


def drawn(cut: Callable[[Tensor], Tensor]) -> Rule:
    return lambda history, scores: cut(scores)


def repetition(penalty: float, source: Sequence[int] | None = None) -> Rule:
    """Positive scores of tokens already there, or in a source, are divided, negative multiplied (arXiv:1909.05858)."""

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            ids = torch.tensor(sorted(set(text if source is None else source)), dtype=torch.long, device=scores.device)
            old = row[ids]
            row[ids] = torch.where(old < 0, old * penalty, old / penalty)
        return scores

    return rule


def counted(frequency: float, presence: float) -> Rule:
    """Takes `frequency` off a token's score for every time it is there already, and `presence` once."""

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            ids, counts = torch.tensor(list(text), device=scores.device).unique(return_counts=True)
            row[ids] -= frequency * counts + presence
        return scores

    return rule


def biased(runs: Mapping[tuple[int, ...], float]) -> Rule:
    """Adds a number to the score of a run's last token where the text ends with the tokens before it."""

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            for run, bias in runs.items():
                if ends_with(text, run[:-1]):
                    row[run[-1]] += bias
        return scores

    return rule


def no_repeat(size: int, source: Sequence[int] | None = None) -> Rule:
    """Bans every token that would repeat a run of `size` tokens of the text, or of its source (Blenderbot)."""

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            known = list(text if source is None else source)
            tail = list(text[len(text) - size + 1 :]) if size > 1 else []
            starts = range(len(known) - size + 1)
            row[[known[i + size - 1] for i in starts if known[i : i + size - 1] == tail]] = NEVER
        return scores

    return rule


def banned(words: Sequence[Sequence[int]], ends: frozenset[int]) -> Rule:
    """Bans the last token of each run when the text ends with the tokens before it; an end alone is never banned."""
    runs = [list(word) for word in words if not (len(word) == 1 and word[0] in ends)]
    if all(len(run) == 1 for run in runs):
        return Ban([run[0] for run in runs], lambda size: True)

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            row[[run[-1] for run in runs if ends_with(text, run[:-1])]] = NEVER
        return scores

    return rule


def not_before(length: int, ids: Sequence[int]) -> Rule:
    """Bans tokens (an end, say) while a text is shorter than `length`."""
    return Ban(ids, lambda size: size < length)


def suppressed(ids: Sequence[int], at: int | None = None) -> Rule:
    """These tokens never come, or not when a text has exactly `at` tokens."""
    return Ban(ids, lambda size: at is None or size == at)


def only(allowed: Allowed) -> Rule:
    """What a caller's function lets follow, whatever its score; where that has no score left, all of it alike."""

    def rule(history: History, scores: Tensor) -> Tensor:
        mask = torch.full_like(scores, NEVER)
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
        kept = scores + mask
        return mask if bool(kept.amax(-1).isneginf().all()) else kept

    return rule


def likelier_ends(length: int, factor: float, ends: Sequence[int]) -> Rule:
    """Past `length` tokens, ends gain the magnitude of their score times factor ** (tokens past it) - 1."""

    def rule(history: History, scores: Tensor) -> Tensor:
        past = len(history[0]) - length
        if past <= 0:
            return scores
        scores, own = scores.clone(), [token for token in ends if token < scores.shape[1]]
        old = scores[:, own]
        gain = old.abs() * (factor**past - 1)
        scores[:, own] = torch.where(old.isfinite(), old + gain, old)
        return scores

    return rule
