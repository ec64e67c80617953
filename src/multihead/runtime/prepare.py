"""Models made ready to run fast: steps joined and, on a CPU, weights packed, in a precision that the user chooses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..checkpoints.folder import PREPARED, replace_weights
from ..checkpoints.safetensors import SafeTensors, write
from ..errors import CheckpointMismatch, CorruptFile, InvalidInput, UnsupportedOption, nearest, read_errors
from ..heads.heads import LanguageModel
from ..kernels.hardware import best_dtype
from ..kernels.ops import backend_of
from ..kernels.quantization.block_tensor import BlockTensor
from ..kernels.quantization.registry import FORMATS, PRECISIONS
from ..nn.quantized_linear import is_quantized
from .fuse import GPU, fuse, pack_head
from .fused_linear_cpu import FusedLinear
from .fused_linear_gpu import FusedLinearGPU

if TYPE_CHECKING:
    from ..modeling.pretrained import PreTrainedModel


FORMAT, VERSION = "multihead-prepared", "2"


AGAIN = "Prepare the model again."
STATES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
STORED = {  # dtypes that prepared models hold -> their names in the file
    torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64", torch.uint8: "U8",
    torch.int8: "I8", torch.int32: "I32", torch.int64: "I64", torch.bool: "BOOL",
}  # fmt: skip


def resolve_precision(name: str, device: torch.device | str | None = None) -> str:
    """Return a precision's short name; "auto" is bf16 where the hardware multiplies it natively, else fp32.

    Raises:
        UnsupportedOption: another name.
    """
    name = next((row.name for row in PRECISIONS.values() if name in row.aliases), name)
    if name == "auto":
        return "bf16" if best_dtype(device or "cpu") is torch.bfloat16 else "fp32"
    if name not in PRECISIONS:
        raise UnsupportedOption(
            f"precision {name!r} is none of auto, {', '.join(PRECISIONS)}. {nearest(name, PRECISIONS)}"
        )
    return name


def hidden_dtype(precision: str, device: torch.device | str | None = None) -> torch.dtype:
    """Return the dtype of hidden states, between products."""
    return PRECISIONS[precision].torch_dtype or best_dtype(device or "cpu")


def prepare(
    model: PreTrainedModel, precision: str, dtype: torch.dtype | None = None, *, packed: bool | None = None
) -> None:
    """Makes a model ready for inference, in place; see `PreTrainedModel.prepare`.

    Args:
        packed: whether weights are packed, as a file holds them; None for where that pays.
    """
    precision = resolve_precision(precision, model.device)
    refuse(model, "prepared again")
    if model.adapters is not None:
        raise InvalidInput("This model has adapters; call merge_adapters() first, then prepare().")
    if is_quantized(model):
        raise InvalidInput(
            "This model was loaded in 8 or 4 bits for training; load it again with precision=... instead."
        )
    chosen = PRECISIONS[precision]
    if getattr(model.head, "carried", None) is not None:
        del model.head.carried  # type: ignore[union-attr]
    if model.device.type not in ("cpu", "meta"):
        if chosen.is_quantized:
            raise UnsupportedOption(
                f"precision={precision!r} runs on a CPU; on {model.device} use bf16 or load_in_8bit=True."
            )
        model.eval().requires_grad_(False).to(dtype or chosen.torch_dtype)
        if chosen.weights is not None:
            model.backbone = fuse(model.backbone, GPU)
        model.prepared = precision
        return
    if chosen.needs_file:
        _check_blocks(model)
    model.eval().requires_grad_(False)
    if packed is None:
        kernels = backend_of(torch.device("cpu")).runs_stacks(torch.bfloat16)
        packed = chosen.is_quantized or (chosen.weights is not None and kernels)
    if packed:
        assert chosen.weights is not None
        assert chosen.head is not None
        model.backbone = fuse(model.backbone, chosen.weights)
        if chosen.is_quantized and not any(products(model.backbone)):
            raise InvalidInput(f"{type(model).__name__} has no linear layers to pack; use dtype=... instead.")
        for head in (part for part in model.modules() if isinstance(part, LanguageModel)):
            pack_head(head, chosen.head)
    # Weights that torch multiplies have the dtype of hidden states.
    unpacked = chosen.torch_dtype if chosen.weights is not None and not packed else None
    states = unpacked or dtype or hidden_dtype(precision)
    decode(model, states)
    model.to(states)
    model.prepared = precision


def _check_blocks(model: PreTrainedModel) -> None:
    """Raise UnsupportedOption for a model without tensors in a file's quantized blocks."""
    if model.device.type != "meta" and not any(isinstance(x, BlockTensor) for x in model.parameters()):
        others = [row.name for row in PRECISIONS.values() if row.weights is not None and not row.needs_file]
        choices = f"{', '.join(others[:-1])} or {others[-1]}"
        raise UnsupportedOption(
            'precision="gguf" keeps the codes of a quantized GGUF file while that is loaded, and there are none here. '
            f'Load one: from_pretrained("model.gguf", precision="gguf"); or use {choices}.'
        )


def decode(model: nn.Module, dtype: torch.dtype) -> None:
    """Dequantize the tensors that are still in a file's blocks, one after the other."""
    for part in model.modules():
        kind = torch.float32 if dtype in getattr(part, "widened", ()) else dtype
        for name, value in part._parameters.items():
            if isinstance(value, BlockTensor):
                part._parameters[name] = nn.Parameter(value.numbers(kind), value.requires_grad)


def products(model: nn.Module) -> Iterator[FusedLinear]:
    return (part for part in model.modules() if isinstance(part, FusedLinear))


def refuse(model: PreTrainedModel, what: str) -> None:
    """Raises InvalidInput for a prepared model, of which something is asked that needs the weights as they were."""
    if model.prepared:
        raise InvalidInput(
            f"This model was prepared for inference in {model.prepared} and cannot be {what}; load it again without "
            "precision=..."
        )


def save(model: PreTrainedModel, folder: Path) -> None:
    """Writes prepared weights as they lie in memory, so that they are mapped and never prepared again.

    Raises:
        InvalidInput: the folder cannot be written, or the model was prepared on a GPU, which nothing is saved by.
    """
    if any(isinstance(part, FusedLinearGPU) for part in model.modules()):
        raise InvalidInput(
            "This model was prepared on a GPU, where preparing only joins weights; save it before prepare(), and "
            "prepare it again when it is loaded."
        )
    told = {
        "format": FORMAT, "version": VERSION, "precision": str(model.prepared), "class": type(model).__name__,
        "dtype": str(model.dtype).removeprefix("torch."), "packed": str(any(products(model))),
    }  # fmt: skip
    if PRECISIONS[str(model.prepared)].needs_file:
        fused = {name: x for name, x in model.named_modules() if isinstance(x, FusedLinear)}
        told["kinds"] = json.dumps({name: x.format.name for name, x in fused.items()})
    tensors = {name: tensor.contiguous() for name, tensor in _held(model).items()}
    replace_weights(folder, {PREPARED: lambda path: write(tensors, path, told)})


def load(model: PreTrainedModel, path: Path, device: torch.device | str | None) -> None:
    """Gives a model that was built without memory the prepared weights of a file.

    Raises:
        CorruptFile: no such file. UnsupportedOption: another class's. CheckpointMismatch: weights that do not fit.
    """
    with read_errors(path, advice=AGAIN):
        tensors = SafeTensors([path])
        if model._head is not None and model._head.optional and not any(name.startswith("head.") for name in tensors):
            model.head = None
        _shaped(model, tensors.metadata(path), path)
        held = _held(model)
        _compare(held, tensors, path)
        for name in held:
            owner, _, leaf = name.rpartition(".")
            part = model.get_submodule(owner)
            value = tensors[name].to(device)
            setattr(part, leaf, nn.Parameter(value, requires_grad=False) if leaf in part._parameters else value)


def _shaped(model: PreTrainedModel, told: Mapping[str, str], path: Path) -> None:
    """Prepares a model without memory as a file's metadata say, so that it has the layout of the file's tensors."""
    if told.get("format") != FORMAT or told.get("version") != VERSION:
        raise CorruptFile(f"{path} says {told}: no prepared weights of this version. {AGAIN}")
    if told.get("class") != type(model).__name__:
        raise UnsupportedOption(
            f"{path} was prepared as {told.get('class')}; load it with that class or its Auto class."
        )
    entries = {"precision": [*PRECISIONS], "dtype": [*STATES], "packed": ["True", "False"]}
    for name, known in entries.items():
        if told.get(name) not in known:
            raise CorruptFile(f"{path} says {name}: {told.get(name)!r}, which is none of {', '.join(known)}. {AGAIN}")
    prepare(model, told["precision"], STATES[told["dtype"]], packed=told["packed"] == "True")
    for name, kind in json.loads(told.get("kinds", "{}")).items():
        if kind not in FORMATS:
            raise CorruptFile(f"{path} says that {name} has codes {kind!r}, none of {', '.join(FORMATS)}. {AGAIN}")
        _product(model, name, path).set_format(kind)


def _compare(held: Mapping[str, Tensor], tensors: SafeTensors, path: Path) -> None:
    """Compares a file's names, shapes and dtypes with what the kernels will read. Raises CheckpointMismatch."""
    missing, spare = sorted(set(held) - set(tensors)), sorted(set(tensors) - set(held))
    both = {name: x for name, x in held.items() if name in tensors}
    shapes = {name: (tuple(x.shape), tensors.shape(name)) for name, x in both.items()}
    types = {name: (STORED[x.dtype], tensors.dtype(name)) for name, x in both.items()}
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    other = {name: pair for name, pair in types.items() if pair[0] != pair[1]}
    if missing or spare or wrong or other:
        raise CheckpointMismatch(
            str(path), missing=missing, unexpected=spare, misshapen=wrong, mistyped=other, advice=AGAIN
        )


def _product(model: PreTrainedModel, name: str, path: Path) -> FusedLinear:
    """The product of this name. Raises CorruptFile where the model has none, as a file `path` says."""
    found = dict(model.named_modules()).get(name)
    if not isinstance(found, FusedLinear):
        raise CorruptFile(f"{path} has codes of {name!r}, which is no product here. {AGAIN}")
    return found


def _held(model: PreTrainedModel) -> Mapping[str, Tensor]:
    """Every tensor of a model once, by its path."""
    kept = model.state_dict(keep_vars=True)
    return {name: x for name, x in (*model.named_parameters(), *model.named_buffers()) if name in kept}
