"""Cached keys and values of a prompt's beginning in a file, for a later process.

The file is safetensors: the tokens, and the rows of each layer's cache. Its metadata name what the numbers depend on;
a file of another model, precision, version or salt is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..._version import __version__
from ...checkpoints.safetensors import AGAIN, SafeTensors, write
from ...errors import CorruptFile, InvalidInput, UnsupportedOption
from ...files import replace_file
from ...kernels.ragged import BLOCK
from ...nn.cache.layer_cache import KVLayerCache
from ...nn.cache.store import CachedSequence, KVCacheManager
from ...nn.own_names import own_buffers, own_parameters
from ...runtime.runner import DecodeRunner

FORMAT = "multihead prompt cache 1"
SAMPLE = 16  # numbers of each tensor that identify a model


def save_prefix(runner: DecodeRunner, tokens: Sequence[int], path: Path, salt: bytes = b"") -> int:
    """Write the cached blocks of a prompt's beginning; return its number of tokens.

    Raises:
        InvalidInput: nothing of it is cached. UnsupportedOption: the model's cache has no blocks to share.
    """
    store = checked(runner.store)
    sequence = begin(store, salt, len(tokens))
    try:
        sequence.reuse_prefix([*tokens, 0])  # one more, since the last token is never taken from the cache
        if not sequence.length:
            raise InvalidInput(
                f"No beginning of these {len(tokens)} tokens of {BLOCK} or more is cached; read it first."
            )
        tensors = {"tokens": torch.tensor(list(tokens[: sequence.length]))}
        with torch.inference_mode():
            for name, leaf in leaves(store):
                rows = block_rows(sequence, leaf.window)[1].to(runner.model.device)
                keys, values = leaf.read_rows(rows)  # (rows, key heads, width) each
                tensors |= {f"{name}.k": keys.cpu().contiguous(), f"{name}.v": values.cpu().contiguous()}
        with replace_file(path) as target:
            write(tensors, target, described(runner.model, salt))
        return sequence.length
    finally:
        sequence.free()


def load_prefix(runner: DecodeRunner, path: Path, salt: bytes = b"") -> int:
    """Give the cache what `save_prefix` has written, as a beginning that prompts may share; return its tokens.

    Raises:
        InvalidInput: a file of another model, precision, version or salt. CorruptFile, ModelNotFound: the file.
        MemoryFull: it is larger than the cache. UnsupportedOption: the model's cache has no blocks to share.
    """
    store, tensors = checked(runner.store), SafeTensors([path])
    check_metadata(tensors.metadata(path), described(runner.model, salt), path)
    try:
        tokens = tensors["tokens"].tolist()
        rows_of = {name: (tensors[f"{name}.k"], tensors[f"{name}.v"]) for name, _ in leaves(store)}
    except KeyError as error:
        raise CorruptFile(f"{path} lacks the tensor {error}. {AGAIN}") from None
    sequence = begin(store, salt, len(tokens))
    try:
        sequence.prepare(len(tokens))
        sequence.drop_invisible(len(tokens) // BLOCK)
        places = {window: block_rows(sequence, window) for window in store.windows}
        for name, leaf in leaves(store):
            if any(len(x) != len(places[leaf.window][1]) for x in rows_of[name]):
                raise CorruptFile(f"{path} has another number of rows in {name} than tokens need. {AGAIN}")
        with torch.inference_mode():
            for name, leaf in leaves(store):
                keys, values = (x.to(runner.model.device) for x in rows_of[name])
                rows = places[leaf.window][1].to(runner.model.device)
                leaf.put_rows(rows, keys, values, store.pools[leaf.window].top * BLOCK)
        runner.storage_changed()
        sequence.length = len(tokens)
        sequence.publish(tokens)
        return len(tokens)
    finally:
        sequence.free()


def checked(store: KVCacheManager) -> KVCacheManager:
    if not store.shares:
        raise UnsupportedOption("This model keeps recurrent states, of which no beginning can be saved.")
    return store


def begin(store: KVCacheManager, salt: bytes, length: int) -> CachedSequence:
    """Return an empty sequence for this many tokens."""
    sequence = store.begin(salt)
    sequence.set_total(length)
    sequence.expected = length
    return sequence


def leaves(store: KVCacheManager) -> Iterator[tuple[str, KVLayerCache]]:
    """Yield the caches of keys and values with their names in a file."""
    for layer, cache in enumerate(store.layers):
        for number, leaf in enumerate(cache.leaves()):
            if isinstance(leaf, KVLayerCache):
                yield f"layers.{layer}.{number}", leaf


def block_rows(sequence: CachedSequence, window: int | None) -> tuple[int, Tensor]:
    """Return how many first blocks are out of the window, and the storage rows of the others, (rows,)."""
    table = sequence.tables[window]
    blocks = torch.tensor([block for block in table.blocks if block is not None], dtype=torch.long)
    return table.num_released, (blocks[:, None] * BLOCK + torch.arange(BLOCK)).flatten()


def described(model: Any, salt: bytes) -> dict[str, str]:
    """Return what cached numbers depend on besides tokens."""
    return {
        "format": FORMAT, "version": __version__, "dtype": str(model.dtype),
        "precision": str(getattr(model, "prepared", None)), "model": identity(model),
        "salt": blake2b(salt, digest_size=16).hexdigest(),
    }  # fmt: skip


def identity(model: Any) -> str:
    """Return a hash of a model's config and of some numbers of each of its weights."""
    digest = blake2b(model.config.to_json_string().encode(), digest_size=16)
    active = tuple(f".lora.{name}." for name in getattr(model, "active_adapters", ()))
    for name, x in (*own_parameters(model), *own_buffers(model)):
        if name.startswith("adapters.") or (".lora." in name and not any(part in name for part in active)):
            continue  # adapters that requests name have salts of their own
        digest.update(f"{name} {x.dtype} {list(x.shape)}".encode())
        sample = x.detach()[:1].flatten()[:SAMPLE] if x.ndim else x.detach().flatten()
        digest.update(sample.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_metadata(found: Mapping[str, str], wanted: Mapping[str, str], path: Path) -> None:
    """Raise InvalidInput for a file that was written for another model, precision, version or salt."""
    if found.get("format") != wanted["format"]:
        raise InvalidInput(f"{path} is no prompt cache of this library's format.")
    for name, value in wanted.items():
        if found.get(name) != value:
            shown = f": {found.get(name)} instead of {value}" if name in ("version", "dtype", "precision") else ""
            raise InvalidInput(f"{path} was written with another {name}{shown}. Read the prompt again and save it.")
