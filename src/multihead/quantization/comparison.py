"""Comparison of two models on held-out texts: perplexity, divergence of their scores, error of their states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InvalidInput
from ..heads.outputs import HiddenOutput
from ..modeling.base_model import BaseModel
from ..tokenizers.tokenizer import Tokenizer
from .report import Comparison

MASKED = 0.15  # share of tokens that are masked, as in BERT's training
CAUSAL = ("ForCausalLM", "LMHeadModel")


def compare(before: BaseModel, after: BaseModel, tokenizer: Tokenizer, windows: Sequence[Sequence[int]]) -> Comparison:
    """Compare a model with another on windows of tokens.

    A causal model is scored on every token of a window but the first, with the tokens before it; a masked one on 15
    percent of its tokens, drawn with a fixed seed. Other models are compared by their scores and states.

    Raises:
        InvalidInput: scores that are not finite.
    """
    kind = perplexity_kind(before)
    sums = torch.zeros(7, dtype=torch.float64)  # tokens, two losses, divergence, same tops, noise, signal
    scored = False
    generator = torch.Generator().manual_seed(0)
    for window in windows:
        ids = torch.tensor([list(window)])
        masked = _mask(ids, tokenizer, generator) if kind == "masked" else None
        given = ids if masked is None else ids.masked_fill(masked, tokenizer.mask_token_id or 0)
        pair = [_outputs(model, given) for model in (before, after)]
        states = [each[1].double() for each in pair]
        sums[5] += float((states[1] - states[0]).square().sum())
        sums[6] += float(states[0].square().sum())
        if pair[0][0] is None or pair[1][0] is None:
            continue
        scored = True
        scores = [each[0].float().log_softmax(-1) for each in pair if each[0] is not None]
        if kind is None:
            sums[0] += math.prod(scores[0].shape[:-1])
        elif kind == "causal":
            scores, targets = [x[0, :-1] for x in scores], ids[0, 1:]
        else:
            assert masked is not None
            scores, targets = [x[0][masked[0]] for x in scores], ids[masked]
        if kind is not None:
            sums[0] += len(targets)
            for place, x in enumerate(scores, 1):
                sums[place] += float(F.nll_loss(x, targets, reduction="sum"))
        sums[3] += float(F.kl_div(scores[1], scores[0], reduction="sum", log_target=True))
        sums[4] += int((scores[0].argmax(-1) == scores[1].argmax(-1)).sum())
    return _comparison(sums, len(windows), kind if scored else None, scored)


def _comparison(sums: Tensor, windows: int, kind: str | None, scored: bool) -> Comparison:
    tokens, one, other, divergence, same, noise, signal = sums.tolist()
    if not all(map(math.isfinite, (one, other, divergence, noise))):
        raise InvalidInput("The scores of these texts are not finite numbers. Check the checkpoint, or another dtype.")
    tokens = max(tokens, 1)
    return Comparison(
        tokens=int(tokens) if scored else 0,
        windows=windows,
        kind=kind,
        perplexity_before=math.exp(min(one / tokens, 700)) if kind else None,
        perplexity_after=math.exp(min(other / tokens, 700)) if kind else None,
        divergence=divergence / tokens if scored else None,
        same_top=same / tokens if scored else None,
        states_error=math.sqrt(noise / signal) if signal > 0 else 0.0,
    )


def perplexity_kind(model: BaseModel) -> str | None:
    """Return "causal" or "masked" for the perplexity that a model has; None for none."""
    if model.head_suffix in CAUSAL and model.masked_next is None and model.backbone.causal:
        return "causal"
    return "masked" if model.head_suffix == "ForMaskedLM" else None


def _mask(ids: Tensor, tokenizer: Tokenizer, generator: torch.Generator) -> Tensor:
    """Draw the tokens to mask, (1, length), at least one and no special token."""
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    drawn = torch.rand(ids.shape, generator=generator).masked_fill(special, 2.0)
    return drawn <= max(MASKED, float(drawn.min()))


def _outputs(model: BaseModel, ids: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return the scores of a model, where it has any, and its last hidden states."""
    with torch.inference_mode():
        if hasattr(model.backbone, "encoder"):
            found = model(input_ids=ids, decoder_input_ids=ids, output_hidden_states=True)
            states = found.decoder_hidden_states[-1]
        else:
            found = model(input_ids=ids, output_hidden_states=True)
            states = found.hidden_states[-1]
    scores = None if isinstance(found, HiddenOutput) else getattr(found, "logits", None)
    return scores, states
