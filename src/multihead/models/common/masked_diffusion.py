"""Masked diffusion: texts that begin as masks, of which each step writes those that the model is surest of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...nn.modes import evaluating

Scores = Callable[[Tensor, Tensor], Tensor]  # ids and their mask (batch, length) -> logits (batch, length, vocabulary)


def begin(model: Any, ids: Any, mask: Any, new: int, mask_token: int | None) -> tuple[Tensor, Tensor, int]:
    """Return ids (batch, length) with `new` masks behind them, their mask of padding, and the mask's id.

    Raises:
        InvalidInput: ids of another shape, padding behind a text, no room for a token, or no mask in the config.
    """
    ids = torch.as_tensor(ids, device=model.device)
    ids = ids[None] if ids.ndim == 1 else ids
    token = model.config.extra.get("mask_token_id") if mask_token is None else mask_token
    token = getattr(model.config, "mask_token_id", None) if token is None else token
    if ids.ndim != 2 or new < 1 or token is None:
        raise InvalidInput("Masked diffusion needs input_ids (batch, length), room for new tokens and mask_token_id.")
    real = torch.ones_like(ids) if mask is None else torch.as_tensor(mask, device=ids.device)  # (batch, length)
    if real.shape != ids.shape or not bool(real[:, -1:].all()):
        raise InvalidInput("The mask has the shape of input_ids, and texts are padded on their left.")
    tail = torch.full((len(ids), new), token, device=ids.device)
    return torch.cat([ids, tail], 1), torch.cat([real, torch.ones_like(tail)], 1).long(), int(token)


def scores_of(model: Any) -> Scores:
    """Return a function that computes a model's logits in one pass, without a cache."""
    return lambda ids, mask: model(ids, attention_mask=mask, use_cache=False).logits.float()


def uniform(like: Tensor, generator: torch.Generator | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sample numbers from 0 to 1 in the shape of a tensor."""
    return torch.rand(like.shape, generator=generator, dtype=dtype).to(like.device)


def shares(count: Tensor, steps: int) -> Tensor:
    """Return how many of `count` tokens (batch,) each step writes: (batch, steps), earlier steps the rest."""
    first = torch.arange(steps, device=count.device) < (count % steps)[:, None]  # (batch, steps)
    return (count // steps)[:, None] + first.long()


@torch.inference_mode()
def write_blocks(
    model: Any,
    input_ids: Any,
    attention_mask: Any = None,
    *,
    steps: int = 128,
    gen_length: int = 128,
    block_length: int | None = None,
    temperature: float = 0.0,
    cfg_scale: float = 0.0,
    remasking: Literal["low_confidence", "random"] = "low_confidence",
    mask_id: int | None = None,
    seed: int | None = None,
) -> Tensor:
    """Write texts block after block (Nie et al., 2025, arXiv:2502.09992); return prompts and texts (batch, length).

    Args:
        steps: passes in all. gen_length: new tokens. block_length: of a block, None for one block.
        temperature: of Gumbel noise on the logits; 0 takes the most likely token.
        cfg_scale: how far logits move away from those without the prompt.
        remasking: which tokens stay: those of the highest probability, or any.
        mask_id: the mask, None for the config's. seed: of the draws; None takes torch's own generator.

    Raises:
        InvalidInput: lengths that do not divide each other, or inputs that do not fit.
    """
    length = block_length or gen_length
    if length < 1 or gen_length % length or steps < 1 or steps % (gen_length // length):
        raise InvalidInput("block_length must divide gen_length, and the number of blocks must divide steps.")
    if remasking not in ("low_confidence", "random"):
        raise InvalidInput(f"remasking is 'low_confidence' or 'random', not {remasking!r}.")
    x, real, token = begin(model, input_ids, attention_mask, gen_length, mask_id)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    score, prompt, each = scores_of(model), x != token, steps * length // gen_length
    with evaluating(model):
        for end in range(x.shape[1] - gen_length + length, x.shape[1] + 1, length):
            counts = shares((x[:, end - length : end] == token).sum(1), each)  # (batch, steps of a block)
            for step in range(each):
                logits = guided(score, x, real, prompt, token, cfg_scale)  # (batch, length, vocabulary)
                noisy = logits
                if temperature > 0:  # Gumbel noise in float64, whose tails matter (arXiv:2409.02908)
                    noise = -uniform(logits, generator, torch.float64).log()
                    noisy = logits.double() - temperature * noise.log()
                best = noisy.argmax(-1)  # (batch, length)
                sure = logits.double().softmax(-1).gather(-1, best[..., None])[..., 0]
                sure = uniform(sure, generator, torch.float64) if remasking == "random" else sure
                sure = sure.masked_fill(x != token, -torch.inf)
                sure[:, end:] = -torch.inf
                for row, count in enumerate(counts[:, step].tolist()):
                    chosen = sure[row].topk(count).indices
                    x[row, chosen] = best[row, chosen]
    return x


def guided(score: Scores, x: Tensor, real: Tensor, prompt: Tensor, token: int, scale: float) -> Tensor:
    """Return logits (batch, length, vocabulary), moved away from those of texts whose prompt is masked."""
    logits = score(x, real)
    if not scale:
        return logits
    other = score(x.masked_fill(prompt, token), real)
    return other + (scale + 1) * (logits - other)


@torch.inference_mode()
def write_anywhere(
    model: Any,
    input_ids: Any,
    attention_mask: Any = None,
    *,
    max_new_tokens: int = 128,
    steps: int = 512,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int | None = None,
    alg: Literal["origin", "maskgit_plus", "topk_margin", "entropy"] = "origin",
    alg_temp: float | None = None,
    eps: float = 1e-3,
    mask_token_id: int | None = None,
    seed: int | None = None,
) -> Tensor:
    """Write texts in any order (Ye et al., 2025, arXiv:2508.15487); return prompts and texts (batch, length).

    The logits of a token are those of the place before it.

    Args:
        steps: passes. temperature, top_p, top_k: of the tokens; temperature 0 takes the most likely one.
        alg: which masks a step writes: any ("origin"), those of the highest probability ("maskgit_plus"), of the
            largest margin to the second ("topk_margin"), or of the lowest entropy ("entropy").
        alg_temp: draws these instead, with this temperature. eps: share of masks that the last step begins with.

    Raises:
        InvalidInput: another algorithm, or inputs that do not fit.
    """
    if alg not in ("origin", "maskgit_plus", "topk_margin", "entropy") or steps < 1:
        raise InvalidInput(f"alg = {alg!r} is none of origin, maskgit_plus, topk_margin and entropy; steps is above 0.")
    x, real, token = begin(model, input_ids, attention_mask, max_new_tokens, mask_token_id)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    score, times = scores_of(model), torch.linspace(1, eps, steps + 1).tolist()
    with evaluating(model):
        for step in range(steps):
            masks = x == token  # (batch, length)
            if not bool(masks.any()):
                break
            logits = score(x, real)
            logits = torch.cat([logits[:, :1], logits[:, :-1]], 1)[masks]  # (masks, vocabulary)
            probabilities = shaped(logits, temperature, top_p, top_k).softmax(-1)
            words = probabilities.argmax(-1)  # (masks,)
            if temperature > 0:
                words = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0].to(x.device)
            share = 1.0 if step == steps - 1 else 1 - times[step + 1] / times[step]
            if alg == "origin":
                written = uniform(words, generator) < share
                x[masks] = torch.where(written, words, token)
                continue
            sure = torch.full(x.shape, -torch.inf, device=x.device)
            sure[masks] = confidence(probabilities, words, alg)
            count, drafts = int(int(masks.sum()) / len(x) * share), x.clone()
            drafts[masks] = words
            if count:
                chosen = choose(sure, count, alg_temp, generator)  # (batch, count)
                x.scatter_(1, chosen, drafts.gather(1, chosen))
    return x


def shaped(logits: Tensor, temperature: float, top_p: float | None, top_k: int | None) -> Tensor:
    """Return logits (rows, vocabulary) after temperature, top-p and top-k."""
    logits = logits / temperature if temperature > 0 else logits
    if top_p is not None and top_p < 1:
        values, order = logits.sort(-1, descending=True)
        before = values.softmax(-1).cumsum(-1) - values.softmax(-1)  # probability of the tokens before each
        logits = logits.masked_fill((before > top_p).gather(-1, order.argsort(-1)), -torch.inf)
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1]), -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return logits


def confidence(probabilities: Tensor, words: Tensor, alg: str) -> Tensor:
    """Return how sure each word (masks,) is, given probabilities (masks, vocabulary)."""
    if alg == "topk_margin":
        first, second = probabilities.topk(2, -1).values.unbind(-1)
        return first - second
    if alg == "entropy":
        return (probabilities * (probabilities + 1e-10).log()).sum(-1)
    return probabilities.gather(-1, words[:, None])[:, 0]


def choose(sure: Tensor, count: int, temperature: float | None, generator: torch.Generator | None) -> Tensor:
    """Return the places (batch, count) that are surest, or drawn by how sure they are."""
    if not temperature:
        return sure.topk(count, -1).indices
    drawn = torch.multinomial((sure / temperature).softmax(-1).cpu(), count, generator=generator)
    return drawn.to(sure.device)
