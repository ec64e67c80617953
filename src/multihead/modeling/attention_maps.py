"""Attention weights of one text, with readable tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput, ScoresNotFinite

MAX_TOKENS = 512  # of a map: the cells of a larger one are too small to see
SIDES = ("self-attention", "encoder", "decoder", "decoder to encoder")


@dataclass(frozen=True)
class Maps:
    """Attention of one text.

    Args:
        side: one of SIDES. layers: each (heads, queries, keys); rows sum to 1. numbers: of the layers, from 0; layers
            without attention are left out. queries, keys: texts of the tokens.
    """

    model: str
    side: str
    layers: tuple[Tensor, ...]
    numbers: tuple[int, ...]
    queries: list[str]
    keys: list[str]

    @cached_property
    def weights(self) -> Tensor:
        """All layers: (layers, heads, queries, keys)."""
        return torch.stack(self.layers)


def attention_maps(
    model: Any, tokenizer: Any, name: str, text: str, target: str | None = None, limit: int = MAX_TOKENS
) -> dict[str, Maps]:
    """Return the attention of a text on every side that the model has: side -> maps.

    Args:
        model: of a head or headless. name: of the model, for errors. target: a text that an encoder-decoder has written
            from `text`; without it only the encoder is shown. limit: tokens of a text at most.

    Raises:
        InvalidInput: a model without attention, a target for another model, or a text that is too long.
        ScoresNotFinite: the weights of the model are damaged.
    """
    pair = model.config.is_encoder_decoder
    if target is not None and not pair:
        raise InvalidInput(f"{name} reads one text; leave the target out.")
    inputs: dict[str, Any] = dict(tokenizer(text, return_tensors="pt"))
    if not pair:
        inputs = {k: v for k, v in inputs.items() if k != "token_type_ids" or model.backbone.typed}
    elif target is not None:
        inputs["labels"] = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
    else:
        inputs["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id or 0]])
    longest = max(inputs[key].shape[1] for key in ("input_ids", "labels") if key in inputs)
    if longest > limit:
        raise InvalidInput(f"The text has {longest} tokens; up to {limit} can be drawn.")
    with torch.inference_mode():
        out = model(**{key: value.to(model.device) for key, value in inputs.items()}, output_attentions=True)
    source = token_texts(tokenizer, inputs["input_ids"][0].tolist())
    if not pair:
        found = {"self-attention": (out.attentions, source, source)}
    else:
        found = {"encoder": (out.encoder_attentions, source, source)}
        if target is not None:
            written = token_texts(getattr(tokenizer, "target", None) or tokenizer, inputs["labels"][0].tolist())
            # the decoder reads the target one position later
            found["decoder"] = (out.decoder_attentions, written, ["·", *written[:-1]])
            found["decoder to encoder"] = (out.cross_attentions, written, source)
    maps = {side: make_maps(name, side, *parts) for side, parts in found.items()}
    maps = {side: each for side, each in maps.items() if each.layers}
    if not maps:
        raise InvalidInput(f"{name} has no attention to draw.")
    return maps


def make_maps(name: str, side: str, attentions: Any, queries: list[str], keys: list[str]) -> Maps:
    """Return the maps of one side. Raises ScoresNotFinite."""
    layers = {number: x[0].float().cpu() for number, x in enumerate(attentions or ()) if x is not None}
    if not all(bool(layer.isfinite().all()) for layer in layers.values()):
        raise ScoresNotFinite(f"{name} computed attention that is not a number. Its weights are damaged.")
    return Maps(name, side, tuple(layers.values()), tuple(layers), queries, keys)


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return readable texts of tokens: ␣ for a space, no byte-level letters."""
    words = []
    for i, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        text = token.replace("▁", "␣").replace("Ġ", "␣").replace("Ċ", "⏎")
        plain = tokenizer.decode([i])
        words.append(text if text.isascii() or "�" in plain or not plain.strip() else plain)
    return words
