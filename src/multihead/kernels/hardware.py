"""Properties of the machine: instruction sets, GPUs, memory, and which number types it computes fast."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedOption


def best_device() -> str:
    """Return the type of the fastest device that torch sees here."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def usable(device: str | int | torch.device | None) -> torch.device | None:
    """Return a device that exists here; a number is that GPU, -1 the CPU, as pipelines count them.

    Raises:
        UnsupportedOption: torch does not know or does not see it.
    """
    if device is None:
        return None
    try:
        found = torch.device(("cpu" if device < 0 else f"cuda:{device}") if isinstance(device, int) else device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # what torch raises for names, and for devices that are not there
        reason = re.split(r"\. |\n", str(error))[0]
        raise UnsupportedOption(f"The device {str(device)!r} cannot be used here: {reason}.") from error
    return found


def recording(x: Tensor) -> bool:
    """Return whether the GPU of a tensor captures a CUDA graph, so that its numbers cannot be read."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def kept_on(device: torch.device, owner: Any, name: str) -> Tensor:
    """Return a module's derived tensor that is no buffer, moved to a device, where it stays from now on."""
    held: Tensor = getattr(owner, name)
    if held.device != device:
        with torch.inference_mode(False):  # what comes later may need gradients
            held = held.to(device)
        if device.type != "meta":
            setattr(owner, name, held)
    return held


def best_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it natively (AMX, AVX-512 BF16, recent GPUs), else float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if kind == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return torch.bfloat16
    return torch.float32
