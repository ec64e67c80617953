"""All shared blocks of a KV cache in a file, so that a later process need not read known prompts again.

A block is known by the hash of its prefix, which includes the salt: texts of one salt stay unknown to others.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...checkpoints.safetensors import AGAIN, SafeTensors, write
from ...errors import CorruptFile, MemoryFull
from ...files import replace_file
from ...kernels.ragged import BLOCK
from ...nn.cache.block_pool import BlockPool
from ...nn.cache.store import KVCacheManager
from ...runtime.runner import DecodeRunner
from .saved_prefix import check_metadata, checked, described, leaves

DIGEST = 16  # bytes of a prefix hash
SALTS = b"of all requests"  # in place of one salt


def save_cache(runner: DecodeRunner, path: Path) -> int:
    """Write all blocks that prompts may share; return their number. Raises UnsupportedOption as `save_prefix`."""
    store = checked(runner.store)
    published = {window: pool.published for window, pool in store.pools.items()}
    tensors: dict[str, Tensor] = {}
    for window, blocks in published.items():
        hashes = torch.frombuffer(bytearray(b"".join(blocks)), dtype=torch.uint8) if blocks else torch.zeros(0)
        tensors[f"hashes.{window}"] = hashes.to(torch.uint8)
    with torch.inference_mode():
        for name, leaf in leaves(store):
            if rows := published[leaf.window]:
                keys, values = leaf.read_rows(storage_rows(list(rows.values())).to(runner.model.device))
                tensors |= {f"{name}.k": keys.cpu().contiguous(), f"{name}.v": values.cpu().contiguous()}
    with replace_file(path) as target:
        write(tensors, target, described(runner.model, SALTS))
    return sum(map(len, published.values()))


def load_cache(runner: DecodeRunner, path: Path) -> int:
    """Give the cache the blocks that `save_cache` has written, as many as have room; return their number.

    Raises:
        InvalidInput: a file of another model, precision or version. CorruptFile, ModelNotFound: the file.
    """
    store, tensors = checked(runner.store), SafeTensors([path])
    check_metadata(tensors.metadata(path), described(runner.model, SALTS), path)
    hashes = {window: read_hashes(tensors, window, path) for window in store.windows}
    check_rows(store, tensors, hashes, path)
    places = {window: take_blocks(store.pools[window], each) for window, each in hashes.items()}
    try:
        with torch.inference_mode():
            for name, leaf in leaves(store):
                numbers, blocks = places[leaf.window]
                if blocks:
                    source, rows = storage_rows(numbers), storage_rows(blocks).to(runner.model.device)
                    keys, values = (tensors[f"{name}.{part}"][source].to(runner.model.device) for part in "kv")
                    leaf.put_rows(rows, keys, values, store.pools[leaf.window].top * BLOCK)
        runner.storage_changed()
        for window, (numbers, blocks) in places.items():
            for number, block in zip(numbers, blocks, strict=True):
                store.pools[window].publish(block, hashes[window][number])
    finally:
        for window, (_, blocks) in places.items():
            for block in blocks:  # now idle, or free where nothing was published
                store.pools[window].release(block)
    return sum(len(blocks) for _, blocks in places.values())


def read_hashes(tensors: SafeTensors, window: int | None, path: Path) -> list[bytes]:
    """Return the prefix hashes of the blocks of a window."""
    name = f"hashes.{window}"
    if name not in tensors:
        raise CorruptFile(f"{path} lacks the tensor {name}. {AGAIN}")
    data = tensors[name].numpy().tobytes()
    return [data[begin : begin + DIGEST] for begin in range(0, len(data), DIGEST)]


def check_rows(store: KVCacheManager, tensors: SafeTensors, hashes: dict[int | None, list[bytes]], path: Path) -> None:
    """Raise CorruptFile where a layer lacks rows of a block."""
    for name, leaf in leaves(store):
        for key in (f"{name}.k", f"{name}.v"):
            rows = tensors.shape(key)[0] if key in tensors else 0
            if rows != BLOCK * len(hashes[leaf.window]):
                raise CorruptFile(f"{path} has {rows} rows of {key}, not those of its blocks. {AGAIN}")


def take_blocks(pool: BlockPool, hashes: list[bytes]) -> tuple[list[int], list[int]]:
    """Take a block for each unknown prefix while there is room; return numbers of the prefixes, and the blocks.

    The last ones were used last, so that the first ones go without where room is short.
    """
    numbers, blocks, before = list[int](), list[int](), None
    for number in reversed(range(len(hashes))):
        if pool.find(hashes[number]) is not None or pool.budget.free < pool.size:
            continue
        try:
            before = pool.take(-1, before)
        except MemoryFull:
            break
        numbers.append(number)
        blocks.append(before)
    pool.cancel_reservation(-1)
    return numbers[::-1], blocks[::-1]


def storage_rows(blocks: list[int]) -> Tensor:
    """Return the storage rows of blocks, (blocks * BLOCK,)."""
    return (torch.tensor(blocks)[:, None] * BLOCK + torch.arange(BLOCK)).flatten()
