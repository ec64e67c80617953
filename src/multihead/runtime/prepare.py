"""Optimize a model for inference: fused layers and, on a CPU, packed weights, in a precision that the user chooses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..errors import InvalidInput, UnsupportedOption, nearest
from ..heads.heads import LanguageModel
from ..kernels.hardware import best_dtype
from ..kernels.ops import backend_of
from ..kernels.quantization.coded_tensor import CodedTensor
from ..kernels.quantization.registry import PRECISIONS
from ..nn.quantized_linear import is_quantized
from .fuse import GPU, fuse, pack_head
from .fused_linear_cpu import FusedLinear


def resolve_precision(name: str, device: torch.device | str | None = None) -> str:
    """Return a precision's short name; "auto" is bf16 where the hardware multiplies it natively, else fp32.

    Raises:
        UnsupportedOption: another name.
    """
    name = next((row.name for row in PRECISIONS.values() if name in row.aliases), name)
    if name == "auto":
        return "bf16" if best_dtype(device or "cpu") is torch.bfloat16 else "fp32"
    if name not in PRECISIONS:
        suggestion = nearest(str(name).lower(), PRECISIONS)
        end = f" {suggestion}" if suggestion.startswith("Did") else ""
        raise UnsupportedOption(f"precision {name!r} is none of auto, {', '.join(PRECISIONS)}.{end}")
    return name


def hidden_dtype(precision: str, device: torch.device | str | None = None) -> torch.dtype:
    """Return the dtype of hidden states, between products."""
    return PRECISIONS[precision].torch_dtype or best_dtype(device or "cpu")


def prepare(model: Any, precision: str, dtype: torch.dtype | None = None, *, packed: bool | None = None) -> None:
    """Optimize a pretrained model for inference, in place; see `PreTrainedModel.prepare`.

    Args:
        dtype: of hidden states; None for the precision's own.
        packed: whether weights are packed, as a file holds them; None for where that pays.

    Raises:
        InvalidInput: a model that is prepared, quantized for training, or has adapters or nothing to pack.
        UnsupportedOption: a precision that the model or its device does not support.
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
        del model.head.carried  # no pass reads it, and a prepared model is for inference alone
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
        _check_codes(model)
    model.eval().requires_grad_(False)
    if packed is None:
        kernels = backend_of(torch.device("cpu")).runs_stacks(torch.bfloat16)
        # without the kernels torch multiplies bfloat16 weights as they are
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


def _check_codes(model: Any) -> None:
    """Raise UnsupportedOption for a model without tensors in a file's codes."""
    if model.device.type != "meta" and not any(isinstance(x, CodedTensor) for x in model.parameters()):
        others = [row.name for row in PRECISIONS.values() if row.weights is not None and not row.needs_file]
        choices = f"{', '.join(others[:-1])} or {others[-1]}"
        raise UnsupportedOption(
            'precision="gguf" keeps the codes of a quantized file while that is loaded, and there are none here. '
            f'Load one: from_pretrained("model.gguf", precision="gguf"); or use {choices}.'
        )


def decode(model: nn.Module, dtype: torch.dtype) -> None:
    """Dequantize the tensors that are still in a file's codes, one after the other."""
    for part in model.modules():
        # layers that compute in float32 in any case, such as routers
        kind = torch.float32 if dtype in getattr(part, "widened", ()) else dtype
        for name, value in part._parameters.items():
            if isinstance(value, CodedTensor):
                part._parameters[name] = nn.Parameter(value.numbers(kind), value.requires_grad)


def products(model: nn.Module) -> Iterator[FusedLinear]:
    """Yield the fused linear layers of a model."""
    return (part for part in model.modules() if isinstance(part, FusedLinear))


def refuse(model: Any, what: str) -> None:
    """Raise InvalidInput for a prepared model: what is asked of it needs the weights as they were."""
    if model.prepared:
        raise InvalidInput(
            f"This model was prepared for inference in {model.prepared} and cannot be {what}; load it again without "
            "precision=..."
        )
