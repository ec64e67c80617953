"""Registry of the quantized formats of checkpoints, and their entries in config.json. Imports no torch.

A new format is a class (`format.StoredFormat`) in a file of its own and a row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...extensions import Registry

OWN: Mapping[str, str | type] = {  # quant_method -> module and class
    "aqlm": "aqlm.Aqlm",
    "auto-round": "auto_round.AutoRound",
    "awq": "awq.Awq",
    "bitnet": "bitnet.BitNet",
    "bitsandbytes": "bitsandbytes.BitsAndBytes",
    "compressed-tensors": "compressed_tensors.CompressedTensors",
    "fbgemm_fp8": "fbgemm_fp8.FbgemmFp8",
    "fp8": "fp8.Fp8",
    "gptq": "gptq.Gptq",
    "hqq": "hqq.Hqq",
    "modelopt": "modelopt.ModelOpt",
    "mxfp4": "mxfp4.Mxfp4",
    "quark": "quark.Quark",
    "torchao": "torchao.TorchAo",
}
FORMATS: Mapping[str, str | type] = Registry("formats", OWN, lambda found: isinstance(found, type))
MODELOPT_FILE = "hf_quant_config.json"  # of NVIDIA's Model Optimizer, beside a config.json without its settings
ENTRIES = ("quantization_config", "compression_config")  # the second is the older name
PARTS = ("text_config", "llm_config", "language_config", "thinker_config")  # configs inside a multimodal one


def quantization_entries(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a parsed config.json says of a format of this registry; None where it says nothing or names another.

    Older files of bitsandbytes name no `quant_method`.
    """
    for name in ENTRIES:
        found = config.get(name)
        if isinstance(found, Mapping):
            eight_or_four = found.get("load_in_8bit") or found.get("load_in_4bit")
            method = found.get("quant_method", "bitsandbytes" if eight_or_four else None)
            own = method == "bitnet" and config.get("model_type") == "bitnet"  # that family has layers of its own
            if method in FORMATS and not own:
                return {**found, "quant_method": method}
    inner = (config[part] for part in PARTS if isinstance(config.get(part), Mapping))
    return next((found for part in inner if (found := quantization_entries(part)) is not None), None)


def without_quantization(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a parsed config.json without the entries that `quantization_entries` reads: loaded weights are numbers."""
    if quantization_entries(config) is None:
        return config
    # an entry that names another format stays and is refused by name
    kept = {k: v for k, v in config.items() if k not in ENTRIES or quantization_entries({k: v}) is None}
    inner = {part: without_quantization(kept[part]) for part in PARTS if isinstance(kept.get(part), Mapping)}
    return {**kept, **inner}
