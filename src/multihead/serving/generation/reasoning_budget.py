"""Limit of the tokens of reasoning: past it, the marker that closes reasoning is the only text that may come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import ApiError
from ..parsers import OutputParser

Processor = Callable[[Tensor, Tensor], Tensor]


def reasoning_budget(tokenizer: Any, parser: OutputParser, prompt: int, budget: int, name: str) -> Processor:
    """Return a logits processor that ends reasoning after `budget` tokens.

    Args:
        prompt: tokens of the prompt. name: of the request's field.

    Raises:
        ApiError: the format of the model's reasoning is not known.
    """
    blocks = parser.reasoning.blocks if parser.reasoning is not None else {}
    if not blocks:
        raise ApiError(f"{name}: this model is not known to reason.", param=name, code="unsupported_parameter")
    opening = parser.opening or next(iter(blocks))
    first, close = tokenizer.encode_ids([opening, blocks[opening][0]], special=False)
    begin = 0 if parser.opening else len(first)

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        new = ids[0, prompt:].tolist()
        if not parser.opening and new[:begin] != first:  # the answer begins without reasoning
            return scores
        thought = new[begin:]
        ended = any(thought[place : place + len(close)] == close for place in range(len(thought) - len(close) + 1))
        if ended or len(thought) < budget:
            return scores
        banned = torch.ones_like(scores, dtype=torch.bool)  # (1, vocabulary)
        banned[:, close[min(len(thought) - budget, len(close) - 1)]] = False
        return scores.masked_fill(banned, -torch.inf)

    return process
