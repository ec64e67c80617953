"""Keys and values of a `BatchCache` as padded tensors, which programs for the reference read and give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import InvalidInput, UnsupportedOption
from ...kernels.ragged import BLOCK, SequenceLayout
from .cache_rows import slot_rows
from .layer_cache import KVLayerCache
from .store import BatchCache

KeysAndValues = tuple[Tensor, Tensor]


def attention_layers(cache: BatchCache) -> list[KVLayerCache]:
    """Return the layers of a cache. Raises UnsupportedOption where one has states other than keys and values."""
    leaves = [leaf for layer in cache.layers for leaf in layer.leaves()]
    if len(leaves) != len(cache.layers) or any(type(leaf) is not KVLayerCache for leaf in leaves):
        raise UnsupportedOption(
            "The layers of this model keep more than keys and values of tokens, which no tensors of a layer show."
        )
    return [leaf for leaf in leaves if isinstance(leaf, KVLayerCache)]


def read_padded(cache: BatchCache, layer: int) -> KeysAndValues:
    """Return copies of a layer's keys and values, (batch, heads, length, width) each, zero at padding on the right.

    A layer with a window has its last tokens alone. Keys are rotated, with the pairs of a head as the model has them.
    """
    leaf = attention_layers(cache)[layer]
    tables = [text.tables[leaf.window] for text in cache.texts]
    firsts = [table.num_released * BLOCK for table in tables]
    spans = list(zip(firsts, cache.lengths, strict=True))
    if not any(cache.lengths):
        raise InvalidInput("The cache is empty; its layers have no keys yet.")
    device = next(x.device for x in (leaf.k, *(leaf._waiting or ())) if isinstance(x, Tensor))
    rows = slot_rows(tables, spans, device)
    if isinstance(rows, slice):
        rows = torch.arange(rows.start, rows.stop, device=device)
    places, real = SequenceLayout.packed(tuple(end - first for first, end in spans)).padded(device)
    cells = (real[..., None, None] * x[places] for x in leaf.read_rows(rows))  # (batch, length, heads, width)
    keys, values = (x.transpose(1, 2) for x in cells)
    return keys, values


def write_padded(cache: BatchCache, layers: Sequence[KeysAndValues]) -> None:
    """Fill an empty cache with keys and values of all layers, (batch, heads, length, width) each, without padding.

    Raises:
        InvalidInput: another number of layers, or shapes that differ.
    """
    leaves, length = attention_layers(cache), layers[0][0].shape[2]
    wanted = (len(cache.texts), length)
    if len(layers) != len(leaves) or any((x.shape[0], x.shape[2]) != wanted for pair in layers for x in pair):
        raise InvalidInput(
            f"past_key_values holds keys and values of {len(layers)} layers, and the model has {len(leaves)}; each is "
            "(batch, heads, length, width), of one batch and length."
        )
    for text in cache.texts:
        text.prepare(length)
    for leaf, (keys, values) in zip(leaves, layers, strict=True):
        tables = [text.tables[leaf.window] for text in cache.texts]
        rows = slot_rows(tables, [(0, length)] * len(tables), keys.device)
        if isinstance(rows, slice):
            rows = torch.arange(rows.start, rows.stop, device=keys.device)
        k, v = (x.transpose(1, 2).flatten(0, 1) for x in (keys, values))  # (batch * length, heads, width) each
        leaf.put_rows(rows, k, v, cache.store.pools[leaf.window].top * BLOCK)
    for text in cache.texts:
        text.advance(length)
