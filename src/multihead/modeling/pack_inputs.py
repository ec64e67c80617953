"""Checks padded inputs and packs their real tokens into one sequence of tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidInput, UnsupportedOption
from ..kernels.ragged import SequenceLayout
from ..nn.cache.store import BatchCache
from ..nn.ragged import Layout, positions_in_sequences


@dataclass(frozen=True)
class PackedInputs:
    """Packed inputs of an encoder or a decoder.

    Args:
        ids: (tokens,), or None where `vectors` (tokens, width) are given instead.
        positions, segments: (tokens,). custom_positions: whether the caller gave the positions.
    """

    layout: Layout
    ids: Tensor | None
    vectors: Tensor | None
    positions: Tensor
    segments: Tensor | None
    custom_positions: bool = False


def own_cache(model: Any, given: Any, *inputs: Any) -> BatchCache | None:
    """Return the cache of `past_key_values`; that of a program's own object, such as `DynamicCache()`, is begun here.

    Args:
        inputs: ids, vectors and encoder's outputs, whichever are given: their rows are the texts.

    Raises:
        InvalidInput: something else, such as the tuples of older versions.
    """
    if given is None or isinstance(given, BatchCache):
        return given
    if not hasattr(given, "of_model"):
        raise InvalidInput(
            f"past_key_values is what an earlier pass returned, or a DynamicCache(); not a {type(given).__name__}. "
            "DynamicCache(pairs) takes keys and values of each layer."
        )
    rows = next((x if isinstance(x, Tensor) else x[0] for x in inputs if x is not None), None)
    cache = given.of_model(model, 0 if rows is None else rows.shape[0])
    cache.owner = given
    return cache


def check_cache_position(given: Tensor | None, cache: BatchCache | None, length: int) -> None:
    """Raise UnsupportedOption where `cache_position` (length,) differs from what follows from the cache."""
    if given is None:
        return
    past = 0 if cache is None else cache.get_seq_length()
    if given.flatten().tolist() != list(range(past, past + length)):
        raise UnsupportedOption(
            f"cache_position is computed here: the {length} columns of this pass are at {past} and after. Leave it out."
        )


def pack_inputs(
    ids: Tensor | None,
    vectors: Tensor | None,
    mask: Tensor | None,
    *,
    positions: Tensor | None = None,
    segments: Tensor | None = None,
    cache: BatchCache | None = None,
    device: torch.device,
    name: str = "input_ids",
    restarts: bool = False,
) -> PackedInputs:
    """Pack a padded batch.

    Args:
        ids: (batch, length). vectors: (batch, length, width), instead of ids.
        mask: (batch, length), nonzero at real tokens; with a cache it may also cover what the cache remembers.
        positions: (batch, length) or (1, length). segments: (batch, length).
        restarts: a row without a mask and without a cache holds several sequences: one begins where a position does not
            follow the one before it, as the reference reads `position_ids` of its causal decoders.

    Raises:
        InvalidInput: shapes or dtypes that do not fit each other.
    """
    tokens = _check_tokens(ids, vectors, name)
    shape = (tokens.shape[0], tokens.shape[1])
    ids, vectors = (None if x is None else x.to(device) for x in (ids, vectors))
    mask = None if mask is None else _new_mask(mask.to(device), shape, cache)
    layout = Layout.of(mask, shape)
    if mask is not None and layout.rows is not None:
        _check_contiguous(mask.bool())
    past = cache.lengths if cache is not None else None
    if past is not None and len(past) != shape[0]:
        raise InvalidInput(f"past_key_values remember {len(past)} texts; the inputs have {shape[0]}.")
    if positions is None:
        order = positions_in_sequences(layout.runs, device, past)
    else:
        given = _match_shape(positions.to(device), shape, "position_ids")
        order = layout.pack(given).long()
        if restarts and mask is None and cache is None:
            layout = replace(layout, runs=SequenceLayout.packed(sequence_lengths(given)))
    kinds = None if segments is None else layout.pack(_match_shape(segments.to(device), shape, "token_type_ids")).long()
    packed = None if ids is None else layout.pack(ids).long()
    return PackedInputs(
        layout, packed, None if vectors is None else layout.pack(vectors), order, kinds, positions is not None
    )


def check_counted(read: PackedInputs, cache: BatchCache | None, reads_positions: bool) -> None:
    """Raise InvalidInput if a family does not read given positions, and they are not those that it counts itself."""
    if reads_positions or not read.custom_positions:
        return
    past = None if cache is None else cache.lengths
    if not torch.equal(read.positions, positions_in_sequences(read.layout.runs, read.positions.device, past)):
        raise InvalidInput(
            "This family tells tokens apart by their order alone, and counts them from the first of each text. "
            "position_ids would change nothing: leave them out."
        )


def sequence_lengths(positions: Tensor) -> tuple[int, ...]:
    """Return the lengths of the sequences of some rows, which begin where a position is not the one before plus one.

    Args:
        positions: (batch, length).
    """
    begins = torch.ones_like(positions, dtype=torch.bool)  # (batch, length)
    begins[:, 1:] = positions.diff(dim=-1) != 1
    places = begins.flatten().nonzero().flatten().tolist()
    return tuple(end - begin for begin, end in zip(places, [*places[1:], positions.numel()], strict=True))


def _check_tokens(ids: Tensor | None, vectors: Tensor | None, name: str) -> Tensor:
    if (ids is None) == (vectors is None):
        embeds = name.replace("input_ids", "inputs_embeds")
        raise InvalidInput(f"Give either {name} or {embeds}{', not both' if ids is not None else ''}.")
    if vectors is not None:
        if vectors.ndim != 3:
            raise InvalidInput(f"inputs_embeds need shape (batch, length, width), not {list(vectors.shape)}.")
        if not vectors.is_floating_point():
            raise InvalidInput(f"inputs_embeds are floating-point numbers, not {vectors.dtype}: give ids as input_ids.")
        return vectors
    assert ids is not None
    if not isinstance(ids, Tensor):
        raise InvalidInput(
            f'{name} must be a tensor, not {type(ids).__name__}: call the tokenizer with return_tensors="pt".'
        )
    if ids.ndim != 2:
        hint = " Add the batch dimension: input_ids[None]." if ids.ndim == 1 else ""
        raise InvalidInput(f"{name} need shape (batch, length), not {list(ids.shape)}.{hint}")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise InvalidInput(f"{name} must be whole numbers, not {ids.dtype}.")
    return ids


def to_int64(x: Tensor) -> Tensor:
    """Convert integers to int64, which torch's embeddings and losses need; other tensors are returned unchanged."""
    return x if x.is_floating_point() or x.dtype == torch.bool else x.long()


def _check_contiguous(real: Tensor) -> None:
    """Raise InvalidInput for a mask (batch, length) with padding between tokens: later tokens would move."""
    begun = real[:, :1].long().sum(-1) + (real[:, 1:] & ~real[:, :-1]).sum(-1)
    if bool((begun > 1).any()):
        text = int((begun > 1).nonzero()[0])
        raise InvalidInput(
            f"attention_mask has zeros between the ones of text {text}. Padding is left out of what is read, so the "
            "tokens after it would stand at other positions: show it (1), or move it to one end of the text."
        )


def _match_shape(x: Tensor, shape: tuple[int, int], name: str) -> Tensor:
    if x.ndim == 2 and x.shape[0] == 1:
        x = x.expand(shape[0], -1)
    if tuple(x.shape) != shape:
        raise InvalidInput(f"{name} have shape {list(x.shape)}; the inputs have {list(shape)}.")
    return x


def _new_mask(mask: Tensor, shape: tuple[int, int], cache: BatchCache | None) -> Tensor:
    """Return the part of a mask that covers the tokens of this pass."""
    if mask.ndim != 2 or mask.shape[0] != shape[0]:
        raise InvalidInput(
            f"attention_mask has shape {list(mask.shape)}; it must be (batch, length) = {list(shape)}. "
            "Who sees whom within a text is the model's own rule."
        )
    before, now = mask[:, : -shape[1] or None], mask[:, mask.shape[1] - shape[1] :]
    if mask.shape[1] == shape[1]:
        return mask
    if cache is None or mask.shape[1] < shape[1]:
        raise InvalidInput(f"attention_mask has shape {list(mask.shape)}; the inputs have {list(shape)}.")
    counted = tuple(before.bool().sum(-1).tolist())
    if counted != cache.lengths:
        raise InvalidInput(
            f"attention_mask shows {list(counted)} earlier tokens; past_key_values remember {list(cache.lengths)}."
        )
    return now
