"""Rules that change next-token scores: pure functions (histories, scores) -> scores.

A history is a text's tokens so far, prompt included; scores are (texts, vocabulary), float32. A token at minus
infinity is never chosen. The order is the reference's: penalties and bans first, then what shapes a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .config import GenerationConfig

History = Sequence[Sequence[int]]
Rule = Callable[[History, Tensor], Tensor]
NEVER = float("-inf")


def rules(
    config: GenerationConfig, prompts: Sequence[int], limit: Sequence[int], sources: History | None = None
) -> list[Rule]:
    """The rules that a config asks for.

    Args:
        prompts: tokens of each text's prompt. limit: most tokens of each text. sources: what each text is made of.
    """
    ends = sorted(config.ends)
    out: list[Rule] = []
    if config.repetition_penalty not in (None, 1.0):
        out.append(repetition(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        out.append(no_repeat(config.no_repeat_ngram_size))
    if config.encoder_no_repeat_ngram_size and sources is not None:
        out.append(no_repeat_of(sources, config.encoder_no_repeat_ngram_size))
    if config.bad_words_ids:
        out.append(banned(config.bad_words_ids))
    if ends and config.min_length:
        out.append(not_before([config.min_length] * len(prompts), ends))
    if ends and config.min_new_tokens:
        out.append(not_before([n + config.min_new_tokens for n in prompts], ends))
    if config.forced_bos_token_id is not None:
        out.append(forced([1] * len(prompts), [config.forced_bos_token_id]))
    if config.forced_eos_token_id is not None:
        last = config.forced_eos_token_id
        out.append(forced([n - 1 for n in limit], last if isinstance(last, list) else [last]))
    if config.suppress_tokens:
        out.append(suppressed(config.suppress_tokens))
    if config.begin_suppress_tokens:
        late = config.forced_bos_token_id is not None
        out.append(not_before([n + 1 + late for n in prompts], config.begin_suppress_tokens))
    if config.do_sample:
        out += draw_rules(config)
    if config.renormalize_logits:
        out.append(lambda history, scores: scores.log_softmax(-1))
    return out


def draw_rules(config: GenerationConfig) -> list[Rule]:
    """What shapes a draw: temperature, then the cuts."""
    out: list[Rule] = []
    if config.temperature not in (None, 1.0):
        heat = config.temperature
        out.append(lambda history, scores: scores / heat)
    k = 50 if config.top_k is None else config.top_k
    if k:
        out.append(lambda history, scores: top_k(scores, k))
    if config.top_p is not None and config.top_p < 1:
        p = config.top_p
        out.append(lambda history, scores: top_p(scores, p))
    if config.min_p:
        least = config.min_p
        out.append(lambda history, scores: min_p(scores, least))
    return out


def repetition(penalty: float) -> Rule:
    """Positive scores of tokens already there are divided, negative ones multiplied (arXiv:1909.05858)."""

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            ids = torch.tensor(sorted(set(text)), device=scores.device)
            old = row[ids]
            row[ids] = torch.where(old < 0, old * penalty, old / penalty)
        return scores

    return rule


def no_repeat(size: int) -> Rule:
    """Bans every token that would repeat a run of `size` tokens."""

    return lambda history, scores: _unrepeated(history, history, size, scores)


def no_repeat_of(sources: History, size: int) -> Rule:
    """Bans every token that would repeat a run of `size` tokens of the text's source (Blenderbot)."""
    return lambda history, scores: _unrepeated(history, sources, size, scores)


def _unrepeated(history: History, earlier: History, size: int, scores: Tensor) -> Tensor:
    scores = scores.clone()
    for row, text, known in zip(scores, history, earlier, strict=True):
        tail = list(text[len(text) - size + 1 :]) if size > 1 else []
        starts = range(len(known) - size + 1)
        row[[known[i + size - 1] for i in starts if list(known[i : i + size - 1]) == tail]] = NEVER
    return scores


def banned(words: Sequence[Sequence[int]]) -> Rule:
    """Bans the last token of each run when the text ends with the tokens before it."""

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, text in zip(scores, history, strict=True):
            row[[w[-1] for w in words if list(text[len(text) - len(w) + 1 :]) == list(w[:-1]) or len(w) == 1]] = NEVER
        return scores

    return rule


def not_before(lengths: Sequence[int], ids: Sequence[int]) -> Rule:
    """Bans tokens (an end, say) while a text is shorter than its length."""

    def rule(history: History, scores: Tensor) -> Tensor:
        early = [len(text) < least for text, least in zip(history, lengths, strict=True)]
        if not any(early):
            return scores
        scores = scores.clone()
        scores[torch.tensor(early).nonzero(), torch.tensor(ids)] = NEVER
        return scores

    return rule


def forced(lengths: Sequence[int], ids: Sequence[int]) -> Rule:
    """Only these tokens may come when a text has exactly its length."""

    def rule(history: History, scores: Tensor) -> Tensor:
        for row, (text, length) in enumerate(zip(history, lengths, strict=True)):
            if len(text) == length:
                scores = scores.clone()
                scores[row] = NEVER
                scores[row, list(ids)] = 0.0
        return scores

    return rule


def suppressed(ids: Sequence[int]) -> Rule:
    """These tokens never come."""

    def rule(history: History, scores: Tensor) -> Tensor:
        scores = scores.clone()
        scores[:, list(ids)] = NEVER
        return scores

    return rule


def top_k(scores: Tensor, k: int) -> Tensor:
    """Keeps the k highest scores of each text (Fan et al., 2018, arXiv:1805.04833)."""
    least = scores.topk(min(k, scores.shape[-1])).values[:, -1:]
    return scores.masked_fill(scores < least, NEVER)


def top_p(scores: Tensor, p: float) -> Tensor:
    """Keeps the fewest tokens whose probabilities reach p (Holtzman et al., 2019, arXiv:1904.09751)."""
    ordered, places = scores.sort(dim=-1)
    drop = ordered.softmax(-1).cumsum(-1) <= 1 - p
    drop[:, -1] = False
    return scores.masked_fill(drop.scatter(1, places, drop), NEVER)


def min_p(scores: Tensor, least: float) -> Tensor:
    """Keeps tokens with at least this share of the likeliest one's probability (arXiv:2407.01082)."""
    p = scores.softmax(-1)
    return scores.masked_fill(p < least * p.amax(-1, keepdim=True), NEVER)
