"""Conversion of a quantized checkpoint to another format that holds the same codes: no number changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.folder import is_weights, open_checkpoint, read_quantized
from ..checkpoints.quantized.registry import quantization_entries, without_quantization
from ..checkpoints.quantized.stored_codes import StoredCodes, plain
from ..checkpoints.quantized.tensors import QuantizedTensors
from ..checkpoints.quantized.writers.base import FormatOptions, WrittenFormat, written_format
from ..checkpoints.quantized.writers.integers import IntegerGrid
from ..checkpoints.shard_writer import ShardWriter
from ..config import CONFIG_FILE, GENERATION_FILE, read_json, write_json
from ..errors import InvalidInput, UnsupportedConfig, UnsupportedOption
from ..files import rebuild_folder
from ..hub import Want, resolve

ADVICE = "Its numbers can be quantized again: multihead quantize."


def convert_codes(
    name: str | os.PathLike[str], target: str | os.PathLike[str], format: str, *, size: int = 5 * 10**9
) -> int:
    """Write a checkpoint of quantized integers in another format, with the same codes, scales and zeros.

    Args:
        name: a folder, or a hub name. format: as `quantize` takes it. size: bytes of a shard.

    Returns:
        The number of quantized weights.

    Raises:
        UnsupportedConfig: the checkpoint is not quantized, or the format holds no such codes. InvalidInput: the target.
    """
    path, folder = resolve(name, (Want.CONFIG, Want.WEIGHTS)), Path(target)
    if folder.is_file() or (folder.exists() and folder.samefile(path)):
        raise InvalidInput(f"{folder} is {'a file' if folder.is_file() else 'what is read'}. Name another folder.")
    config = read_json(path / CONFIG_FILE) if (path / CONFIG_FILE).is_file() else {}
    entries = quantization_entries(config)
    if entries is None:
        raise UnsupportedConfig(f"{path} holds no quantized weights (quantization_config). {ADVICE}")
    tensors = read_quantized(open_checkpoint(path), entries).quantized
    assert tensors is not None
    chosen = format_for(tensors, format)
    left = [each for each in tensors if each not in tensors.weights and each.endswith(".weight")]
    skipped = dict.fromkeys(each.removesuffix(".weight") for each in left if tensors.stored[each].ndim == 2)
    written = {**without_quantization(config), "quantization_config": chosen.entries([*skipped, "lm_head"])}
    with rebuild_folder(folder, CONFIG_FILE, is_weights) as stage:
        writer = ShardWriter(stage, size)
        for each in tensors:
            if each not in tensors.weights:
                writer.add(each, tensors[each])
                continue
            for part, tensor in chosen.pack(kept(each, codes_of(tensors, each), chosen)).items():
                writer.add(chosen.stored_name(each, part), tensor)
        writer.close()
        write_json(stage / CONFIG_FILE, written)
        if (path / GENERATION_FILE).is_file():
            shutil.copyfile(path / GENERATION_FILE, stage / GENERATION_FILE)
    return len(tensors.weights)


def codes_of(tensors: QuantizedTensors, name: str) -> StoredCodes:
    """Return the codes of a weight."""
    return tensors.format.codes(name, {part: tensors.stored[key] for part, key in tensors.weights[name].items()})


def format_for(tensors: QuantizedTensors, name: str) -> WrittenFormat:
    """Return a format with the bits and groups of a checkpoint's weights. Raises UnsupportedConfig."""
    rows = list(_facts(tensors))
    bits, groups, zeros, orders = ({row[i] for row in rows} for i in range(4))
    dtype = codes_of(tensors, next(iter(tensors.weights))).scales.dtype
    if len(bits) > 1 or len(groups - {None}) > 1:
        raise UnsupportedConfig(f"{tensors.source} has weights of several bits or groups. {ADVICE}")
    group = next(iter(groups - {None}), -1)
    failed: Exception | None = None
    for symmetric in dict.fromkeys((zeros == {True}, False, None)):
        options = FormatOptions(next(iter(bits)), group, symmetric, True in orders, dtype)
        try:
            chosen = written_format(name, options)
        except UnsupportedOption as error:
            failed = error
            continue
        if isinstance(chosen.grid, IntegerGrid):
            return chosen
        failed = UnsupportedConfig(f"{name} has other codes than integers with scales.")
    raise UnsupportedConfig(f"{tensors.source} cannot be {name} with the same codes: {failed} {ADVICE}") from failed


def _facts(tensors: QuantizedTensors) -> Iterator[tuple[int, int | None, bool, bool]]:
    """Yield bits, group (None for a row) of each weight; if all its zeros are the middle code; if it has act-order."""
    for name in tensors.weights:
        codes = codes_of(tensors, name)
        group = None if codes.scales.shape[-1] == 1 else codes.size
        middle = codes.zeros is not None and bool((codes.zeros == 2 ** (codes.bits - 1)).all())
        yield codes.bits, group, middle or codes.zeros is None, codes.index is not None


def kept(name: str, codes: StoredCodes, format: WrittenFormat) -> StoredCodes:
    """Return codes as a format packs them. Raises UnsupportedConfig for codes that it cannot hold."""
    grid: Any = format.grid
    held = codes.codes.whole
    zeros: Tensor | None = codes.zeros
    if held.dtype is torch.int8 and zeros is None and codes.bits == 8:
        held, zeros = (held.to(torch.int16) + 128).to(torch.uint8), torch.full_like(codes.scales, 128)
    scales = codes.scales.to(grid.dtype)
    wrong = {
        "a table of numbers": codes.table is not None or codes.form is not None or codes.transposed,
        "codes that are no unsigned integers": held.dtype is not torch.uint8 or zeros is None,
        "an order of its groups (act-order)": codes.index is not None and not format.regroups,
        f"scales that {grid.dtype} rounds": not torch.equal(scales.float(), codes.scales.float()),
        f"a zero below {grid.lowest}": zeros is not None and bool((zeros < grid.lowest).any()),
        "zeros": grid.symmetric and zeros is not None and bool((zeros != 2 ** (grid.bits - 1)).any()),
    }
    found = next((what for what, is_so in wrong.items() if is_so), None)
    if found is not None:
        raise UnsupportedConfig(f"{name} cannot be {format.name} with the same codes: it has {found}. {ADVICE}")
    assert zeros is not None
    rows = held.shape[0]
    format.check(name, held.shape)
    return replace(
        codes, codes=plain(held), scales=scales.expand(rows, -1), zeros=zeros.to(torch.int16).expand(rows, -1)
    )
