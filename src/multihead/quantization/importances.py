"""Importances of the columns of weights for GGUF files: of calibration texts, or of a file of llama.cpp's imatrix."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import gguf
from ..checkpoints.gguf_blocks import GgufTensors
from ..errors import CorruptFile, InvalidInput, UnsupportedOption
from ..modeling.gguf_export import importance_by_tensor
from ..modeling.pretrained import PreTrainedModel
from ..nn.own_names import own_modules
from ..nn.weights import Linear
from ..tokenizers.tokenizer import Tokenizer
from .layer_tensors import LAYER
from .passes import whole_pass
from .texts import Texts, windows

SUMS, COUNTS = ".in_sum2", ".counts"  # after a weight's name in an imatrix file


def importances(
    model: PreTrainedModel, tokenizer: Tokenizer, calibration: Texts, *, samples: int = 128, length: int = 512
) -> dict[str, Tensor]:
    """Return the mean squared inputs of the layers' weights, by their names in a GGUF file.

    Args:
        calibration: a file of texts, or texts; or a file that llama.cpp's imatrix wrote, whose name ends with .gguf.
        samples, length: windows of the texts, and tokens of a window.

    Raises:
        InvalidInput: texts that are too short, or a file that is no importance matrix. CorruptFile: a damaged one.
        UnsupportedOption: the model has no layer to weigh.
    """
    if isinstance(calibration, (str, os.PathLike)) and Path(calibration).suffix == ".gguf":
        return read_imatrix(Path(calibration))
    limit = min(length, model.max_positions or length)
    found = importance_by_tensor(model, mean_squares(model, windows(calibration, tokenizer, limit, samples)))
    if not found:
        raise UnsupportedOption(f"{type(model).__name__} has no linear layer that calibration texts could weigh.")
    return found


def mean_squares(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return the mean squared inputs (columns,) of the linear layers, by their paths.

    Args:
        texts: windows of tokens.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def adding(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(_: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0].detach().flatten(0, -2).float()  # (tokens, columns)
            squares = x.square().sum(0)
            sums[path] = sums[path].add_(squares) if path in sums else squares
            counts[path] = counts.get(path, 0) + len(x)

        return add

    layers = {path: module for path, module in own_modules(model) if isinstance(module, Linear) and LAYER.match(path)}
    hooks = [module.register_forward_pre_hook(adding(path)) for path, module in layers.items()]
    try:
        with torch.no_grad():
            for window in texts:
                whole_pass(model, window)()
    finally:
        for hook in hooks:
            hook.remove()
    return {path: total / counts[path] for path, total in sums.items() if counts[path]}


def read_imatrix(path: Path) -> dict[str, Tensor]:
    """Return the mean squared inputs in a file of llama.cpp's imatrix: (columns,), or (experts, columns).

    An expert that no token reached has the same importance in all columns, as llama.cpp gives it.

    Raises:
        InvalidInput: another file. CorruptFile: sums without counts, or of another number of experts.
    """
    container = gguf.read(path)
    if container.metadata.get("general.type") != "imatrix":
        raise InvalidInput(f"{path} is no importance matrix. Give a file of llama-imatrix, or texts.")
    tensors = GgufTensors(container)
    found: dict[str, Tensor] = {}
    for name in tensors:
        if not name.endswith(SUMS):
            continue
        weight = name.removesuffix(SUMS)
        if weight + COUNTS not in tensors:
            raise CorruptFile(f"{path}: {name} has no {COUNTS[1:]}.")
        sums, counts = tensors[name].float(), tensors[weight + COUNTS].float()
        sums, counts = sums.reshape(-1, sums.shape[-1]), counts.reshape(-1, 1)
        if len(sums) != len(counts):
            raise CorruptFile(f"{path}: {name} has {len(sums)} rows and {len(counts)} counts.")
        means = torch.where(counts > 0, sums / counts.clamp(min=1), torch.ones_like(sums))
        found[weight] = means[0] if len(means) == 1 else means
    return found
