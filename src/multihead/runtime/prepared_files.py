"""Prepared weights in a file, in the layout that the kernels read: written once, then mapped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.folder import PREPARED, replace_weights
from ..checkpoints.safetensors import SafeTensors, write
from ..errors import CheckpointMismatch, CorruptFile, InvalidInput, UnsupportedOption, read_errors
from ..kernels.quantization.registry import FORMATS, PRECISIONS
from ..nn.own_names import own_buffers, own_modules, own_parameters
from .fused_linear_cpu import FusedLinear
from .fused_linear_gpu import FusedLinearGPU
from .prepare import prepare, products

FORMAT, VERSION = "multihead-prepared", "2"
AGAIN = "Prepare the model again."
STATES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
STORED = {  # dtypes that prepared models hold -> their names in the file
    torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64", torch.uint8: "U8",
    torch.int8: "I8", torch.int32: "I32", torch.int64: "I64", torch.bool: "BOOL",
}  # fmt: skip


def save(model: Any, folder: Path) -> None:
    """Write prepared weights as they are in memory, so that they can be mapped and need no preparing.

    Raises:
        InvalidInput: the folder cannot be written, or the model was prepared on a GPU, where saving gains nothing.
    """
    if any(isinstance(part, FusedLinearGPU) for part in model.modules()):
        raise InvalidInput(
            "This model was prepared on a GPU, where preparing only joins weights; save it before prepare(), and "
            "prepare it again when it is loaded."
        )
    metadata = {
        "format": FORMAT, "version": VERSION, "precision": str(model.prepared), "class": type(model).__name__,
        "dtype": str(model.dtype).removeprefix("torch."), "packed": str(any(products(model))),
    }  # fmt: skip
    if PRECISIONS[str(model.prepared)].needs_file:
        fused = {name: x for name, x in own_modules(model) if isinstance(x, FusedLinear)}
        metadata["kinds"] = json.dumps({name: x.format.name for name, x in fused.items()})
    tensors = {name: tensor.contiguous() for name, tensor in _tensors(model).items()}
    replace_weights(folder, {PREPARED: lambda path: write(tensors, path, metadata)})


def load(model: Any, path: Path, device: torch.device | str | None) -> None:
    """Give a model on the meta device the prepared weights of a file.

    Raises:
        CorruptFile: no such file. UnsupportedOption: another class's. CheckpointMismatch: weights that do not fit.
    """
    with read_errors(path, advice=AGAIN):
        tensors = SafeTensors([path])
        if model._head is not None and model._head.optional and not any(name.startswith("head.") for name in tensors):
            model.head = None
        _prepare_as(model, tensors.metadata(path), path)
        own = _tensors(model)
        _check_layout(own, tensors, path)
        for name in own:
            owner, _, leaf = name.rpartition(".")
            part = model.get_submodule(owner)
            value = tensors[name].to(device)  # mapped: the file is read when a page is used
            setattr(part, leaf, nn.Parameter(value, requires_grad=False) if leaf in part._parameters else value)


def _prepare_as(model: Any, metadata: Mapping[str, str], path: Path) -> None:
    """Prepare a model on the meta device as a file's metadata say, so that it has the layout of the file's tensors.

    Raises:
        CorruptFile: metadata of another version, or with unknown values. UnsupportedOption: another class's file.
    """
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise CorruptFile(f"{path} says {metadata}: no prepared weights of this version. {AGAIN}")
    if metadata.get("class") != type(model).__name__:
        raise UnsupportedOption(
            f"{path} was prepared as {metadata.get('class')}; load it with that class or its Auto class."
        )
    entries = {"precision": [*PRECISIONS], "dtype": [*STATES], "packed": ["True", "False"]}
    for name, known in entries.items():
        if metadata.get(name) not in known:
            raise CorruptFile(
                f"{path} says {name}: {metadata.get(name)!r}, which is none of {', '.join(known)}. {AGAIN}"
            )
    prepare(model, metadata["precision"], STATES[metadata["dtype"]], packed=metadata["packed"] == "True")
    for name, kind in json.loads(metadata.get("kinds", "{}")).items():
        if kind not in FORMATS:
            raise CorruptFile(f"{path} says that {name} has codes {kind!r}, none of {', '.join(FORMATS)}. {AGAIN}")
        _product(model, name, path).set_format(kind)


def _check_layout(own: Mapping[str, Tensor], tensors: SafeTensors, path: Path) -> None:
    """Compare a file's names, shapes and dtypes with what the kernels will read. Raises CheckpointMismatch."""
    missing, spare = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    both = {name: x for name, x in own.items() if name in tensors}
    shapes = {name: (tuple(x.shape), tensors.shape(name)) for name, x in both.items()}
    types = {name: (STORED[x.dtype], tensors.dtype(name)) for name, x in both.items()}
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    other = {name: pair for name, pair in types.items() if pair[0] != pair[1]}
    if missing or spare or wrong or other:
        raise CheckpointMismatch(
            str(path), missing=missing, unexpected=spare, misshapen=wrong, mistyped=other, advice=AGAIN
        )


def _product(model: Any, name: str, path: Path) -> FusedLinear:
    """Return the fused linear layer of this name. Raises CorruptFile where the model has none, as the file says."""
    module = dict(own_modules(model)).get(name)
    if not isinstance(module, FusedLinear):
        raise CorruptFile(f"{path} has codes of {name!r}, which is no product here. {AGAIN}")
    return module


def _tensors(model: Any) -> Mapping[str, Tensor]:
    """Return the tensors of a model's state dict by path, each tensor once."""
    state = nn.Module.state_dict(model, keep_vars=True)
    # a tied tensor has one name here, so the file has it once
    return {name: x for name, x in (*own_parameters(model), *own_buffers(model)) if name in state}
