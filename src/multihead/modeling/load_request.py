"""LoadRequest: the checked options of `from_pretrained`, today's names and older ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..config import Config
from ..errors import UnsupportedOption
from ..hub.options import DownloadOptions
from ..kernels.hardware import best_device, usable
from ..kernels.quantization.registry import TRAINING
from .base_model import BaseModel
from .model_config import load_config

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float64": torch.float64,
}
PLACEMENTS = ("auto", "balanced", "balanced_low_0", "sequential")  # a model is on one device: the best one
ANY = "any"
USUAL: Mapping[str, Any] = {  # options of the reference -> values that change nothing here; None changes none
    **dict.fromkeys(("low_cpu_mem_usage", "_fast_init", "resume_download", "offload_folder", "offload_buffers"), ANY),
    **dict.fromkeys(("offload_state_dict", "disable_mmap"), ANY),
    **dict.fromkeys(("use_safetensors", "weights_only", "strict"), (True,)),
    **dict.fromkeys(("from_tf", "from_flax", "force_download"), (False,)),
    "experts_implementation": ("eager",),
    **dict.fromkeys(("proxies", "mirror", "max_memory", "tp_plan", "tp_size", "key_mapping", "adapter_kwargs"), ()),
    **dict.fromkeys(("code_revision", "commit_hash", "_commit_hash", "fusion_config", "attn_kernel"), ()),
}
Name = str | os.PathLike[str] | None  # of a model; None with a config and tensors of a program's own
PLAIN = (  # options that fill a field of their own name
    *("config", "default_type", "dtype", "device", "attn_implementation", "ignore_mismatched_sizes"),
    *("new", "ignore", "precision", "labels", "state_dict", "generation_config"),
)


@dataclass(frozen=True)
class LoadRequest:
    """Arguments of one `from_pretrained` call; see `load_model` for the options.

    Args:
        choose: returns the class for a config. download: where to find the files.
        state_dict: tensors instead of those of the files. generation_config: instead of the files'.
        bits: quantization format of weights for training; None for plain ones.
        entries: config entries to change.
    """

    name: Name
    choose: Callable[[Config], type[BaseModel]]
    download: DownloadOptions
    config: Config | None = None
    default_type: str | None = None
    dtype: str | torch.dtype | None = "auto"
    device: str | torch.device | None = None
    attn_implementation: str | None = None
    ignore_mismatched_sizes: bool = False
    new: str | None = None
    ignore: str | None = None
    bits: str | None = None
    precision: str | None = None
    state_dict: Mapping[str, Tensor] | None = None
    generation_config: Any = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    entries: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(
        cls,
        name: Name,
        choose: Callable[[Config], type[BaseModel]],
        options: Mapping[str, Any],
    ) -> LoadRequest:
        """Check the options of a call. Raises UnsupportedOption."""
        options = _with_current_names(options)
        options["device"] = usable(options.get("device"))
        eight, four = options.pop("load_in_8bit", False), options.pop("load_in_4bit", False)
        bits = _bits(eight, four, options.get("precision"))
        download = DownloadOptions.pop_from(options)
        if isinstance(options.get("config"), (str, os.PathLike)):
            options["config"] = load_config(options["config"], **vars(download))
        plain = {option: options.pop(option) for option in PLAIN if option in options}
        return cls(name, choose, download, bits=bits, entries=options, **plain)

    def weights_dtype(self, config: Config, layout: str = "huggingface") -> torch.dtype | None:
        """Return the dtype that "auto" or a name stands for; None keeps the dtypes of the checkpoint.

        Args:
            layout: of the checkpoint; config.json describes the Hugging Face layout alone.
        """
        dtype: Any = self.dtype
        if dtype is None or dtype == "auto":
            if layout != "huggingface":
                return torch.float32
            dtype = config.extra.get("dtype") or config.extra.get("torch_dtype")
            if dtype is None:
                return None
            dtype = str(dtype).removeprefix("torch.")
        return dtype_of(dtype)


def dtype_of(name: Any) -> torch.dtype | None:
    """Return a dtype of weights by its name; None for None and "auto". Raises UnsupportedOption for another."""
    if isinstance(name, torch.dtype) and name in DTYPES.values():
        return name
    if name is None or name == "auto":
        return None
    if name not in DTYPES:
        fewer = " For fewer bits, pass load_in_8bit=True or precision='int8'." if "int" in str(name) else ""
        raise UnsupportedOption(f"dtype {name} is none of auto, {', '.join(DTYPES)}.{fewer}")
    return DTYPES[name]


def _with_current_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the names that older programs give to dtype and device, and drop options that are always on."""
    options = dict(options)
    if "torch_dtype" in options:
        options["dtype"] = options.pop("torch_dtype")
    place = options.pop("device_map", None)
    if isinstance(place, dict):
        if len({*map(str, place.values())}) != 1:
            raise UnsupportedOption(
                "device_map puts parts on several devices, which is not done here; give one device."
            )
        place = next(iter(place.values()))
    if place is not None and options.get("device") is None:
        options["device"] = best_device() if place in PLACEMENTS else place
    quantization = options.pop("quantization_config", None)
    if quantization is not None:
        if not hasattr(quantization, "loading_options"):
            raise UnsupportedOption(
                f"quantization_config is a config such as multihead.BitsAndBytesConfig, not {quantization!r:.80}."
            )
        options.update(quantization.loading_options())
    for name, taken in USUAL.items():
        value = options.pop(name, None)
        if value is not None and taken != ANY and value not in taken:
            raise UnsupportedOption(f"{name}={value!r:.80} has no meaning here.")
    return options


def _bits(eight: bool, four: bool, precision: str | None) -> str | None:
    """Return the format that load_in_8bit and load_in_4bit ask for. Raises UnsupportedOption for contradictions."""
    if eight and four:
        raise UnsupportedOption("load_in_8bit and load_in_4bit exclude each other; give one.")
    if (eight or four) and precision:
        raise UnsupportedOption("load_in_8bit and load_in_4bit are for training; precision is for inference. Give one.")
    return TRAINING["load_in_8bit"] if eight else TRAINING["load_in_4bit"] if four else None
