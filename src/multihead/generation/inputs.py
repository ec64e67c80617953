"""What callers of `generate` may give, as the engine takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..nn.call import Encoded
from ..nn.ragged import Layout
from .config import GenerationConfig


def read_inputs(
    given: Any, mask: Tensor | None, tokenizer: Any, config: GenerationConfig
) -> tuple[Tensor | None, Tensor | None]:
    """Padded ids (batch, length) and their mask, of what a caller may give. Raises InvalidInput."""
    if given is None or isinstance(given, Tensor):
        return given, mask
    if isinstance(given, str) or (given and all(isinstance(text, str) for text in given)):
        if tokenizer is None:
            raise InvalidInput("Strings need the model's tokenizer too (tokenizer=...).")
        given = tokenizer([given] if isinstance(given, str) else list(given))["input_ids"]
    if given and all(isinstance(token, int) for token in given):
        given = [given]
    try:
        texts = [[int(token) for token in text] for text in given]
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"generate takes strings, lists of ids or a tensor, not {type(given).__name__}.") from error
    longest = max(map(len, texts), default=0)
    pad = config.pad_token_id or 0
    ids = torch.tensor([[pad] * (longest - len(text)) + text for text in texts], dtype=torch.long)
    real = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
    return ids, real


def mask_of(ids: Tensor | None, mask: Tensor | None, config: GenerationConfig) -> Tensor | None:
    """The mask given, or one guessed from padding ids where these end no text."""
    if mask is not None or ids is None:
        return mask
    pad = config.pad_token_id
    if pad is None or pad in config.ends or not bool((ids == pad).any()):
        return None
    return ids != pad


def unpadded(ids: Tensor, mask: Tensor | None) -> list[list[int]]:
    layout = Layout.of(mask, (ids.shape[0], ids.shape[1]))
    flat = layout.pack(ids).tolist()
    return [flat[begin : begin + length] for begin, length in zip(layout.runs.begins, layout.runs.lengths, strict=True)]


def start(model: Any, config: GenerationConfig, texts: int) -> Tensor:
    """(texts, 1): the token that a target begins with."""
    first = config.decoder_start_token_id
    first = config.bos_token_id if first is None else first
    if first is None:
        raise InvalidInput("The config names no decoder_start_token_id to begin a target with.")
    return torch.full((texts, 1), first, device=model.device)


def source(
    model: Any,
    ids: Tensor | None,
    mask: Tensor | None,
    states: Any,
    own: Mapping[str, Tensor | None] = MappingProxyType({}),
) -> Encoded:
    """The encoded source. `own`: the family's own inputs."""
    with torch.inference_mode():
        if states is not None:
            layout = Layout.of(mask, (states[0].shape[0], states[0].shape[1]))
            return model.encoded(layout.pack(states[0].to(model.device)), layout.runs)
        return model.encode(ids, mask, own=dict(own))


def sources_of(encoded: Encoded | None, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """What each text is made of: its encoded source's tokens, where these are known, or its prompt."""
    if encoded is None or encoded.ids is None:
        return [list(prompt) for prompt in prompts]
    ids, spans = encoded.ids.tolist(), zip(encoded.runs.begins, encoded.runs.lengths, strict=True)
    return [ids[begin : begin + length] for begin, length in spans]
