"""Quantization configs as `from_pretrained(quantization_config=...)` takes them.

A config says what it can mean here by `loading_options()`: the weights of a model in 8 or 4 bits. A format that the
files have themselves, such as GPTQ, is read with no config at all.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from ..errors import InvalidInput, UnsupportedOption


class QuantizationConfig:
    """Base: keeps what it is given as attributes."""

    quant_method = ""

    def __init__(self, **settings: Any) -> None:
        vars(self).update(settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return {"quant_method": self.quant_method, **vars(self)}

    def to_json_string(self, use_diff: bool = True) -> str:
        """Return the settings as JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, default=str) + "\n"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **changes: Any) -> Any:
        """Return a config with these settings."""
        made = cls(**{name: value for name, value in {**config_dict, **changes}.items() if name != "quant_method"})
        return (made, {}) if return_unused_kwargs else made

    def loading_options(self) -> dict[str, Any]:
        """Return the options of `from_pretrained` that mean this. Raises UnsupportedOption."""
        raise UnsupportedOption(
            f"{type(self).__name__}: weights are not quantized to this format here. A checkpoint that has it is read "
            "without a config; for others pass BitsAndBytesConfig(load_in_4bit=True) or precision='int8'."
        )


class BitsAndBytesConfig(QuantizationConfig):
    """Weights in 8 or 4 bits, with plain numbers for what is computed and trained.

    Args:
        load_in_8bit, load_in_4bit: one of them. bnb_4bit_quant_type: "nf4"; "fp4" is not computed here.
        bnb_4bit_use_double_quant, bnb_4bit_compute_dtype, llm_int8_threshold: kept; they change no number here that
            a caller could rely on: scales are float32, and products are computed in the dtype of the model.
    """

    quant_method = "bitsandbytes"

    def __init__(
        self,
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        llm_int8_threshold: float = 6.0,
        llm_int8_skip_modules: Any = None,
        llm_int8_enable_fp32_cpu_offload: bool = False,
        llm_int8_has_fp16_weight: bool = False,
        bnb_4bit_compute_dtype: Any = None,
        bnb_4bit_quant_type: str = "fp4",
        bnb_4bit_use_double_quant: bool = False,
        bnb_4bit_quant_storage: Any = None,
        **more: Any,
    ) -> None:
        if load_in_4bit and load_in_8bit:
            raise InvalidInput("load_in_4bit and load_in_8bit exclude each other; give one.")
        super().__init__(
            load_in_8bit=load_in_8bit, load_in_4bit=load_in_4bit, llm_int8_threshold=llm_int8_threshold,
            llm_int8_skip_modules=llm_int8_skip_modules,
            llm_int8_enable_fp32_cpu_offload=llm_int8_enable_fp32_cpu_offload,
            llm_int8_has_fp16_weight=llm_int8_has_fp16_weight, bnb_4bit_compute_dtype=bnb_4bit_compute_dtype,
            bnb_4bit_quant_type=bnb_4bit_quant_type, bnb_4bit_use_double_quant=bnb_4bit_use_double_quant,
            bnb_4bit_quant_storage=bnb_4bit_quant_storage, **more,
        )  # fmt: skip

    def is_quantizable(self) -> bool:
        """Return whether it asks for fewer bits."""
        return bool(vars(self)["load_in_8bit"] or vars(self)["load_in_4bit"])

    def quantization_method(self) -> str | None:
        """Return "llm_int8", "nf4" or "fp4"; None where no bits are asked for."""
        said = vars(self)
        return "llm_int8" if said["load_in_8bit"] else said["bnb_4bit_quant_type"] if said["load_in_4bit"] else None

    def loading_options(self) -> dict[str, Any]:
        said = vars(self)
        if said["llm_int8_skip_modules"]:
            raise UnsupportedOption("BitsAndBytesConfig: llm_int8_skip_modules is not done here; leave it out.")
        return {name: True for name in ("load_in_8bit", "load_in_4bit") if said[name]}


FORMATS = {  # class -> quant_method
    "AqlmConfig": "aqlm", "AutoRoundConfig": "auto-round", "AwqConfig": "awq", "BitNetQuantConfig": "bitnet",
    "CompressedTensorsConfig": "compressed-tensors", "EetqConfig": "eetq", "FPQuantConfig": "fp_quant",
    "FbgemmFp8Config": "fbgemm_fp8", "FineGrainedFP8Config": "fp8", "FourOverSixConfig": "fouroversix",
    "GPTQConfig": "gptq", "HiggsConfig": "higgs", "HqqConfig": "hqq", "MetalConfig": "metal", "Mxfp4Config": "mxfp4",
    "QuantoConfig": "quanto", "QuarkConfig": "quark", "SinqConfig": "sinq", "SpQRConfig": "spqr",
    "TorchAoConfig": "torchao", "VptqConfig": "vptq",
}  # fmt: skip
POSITIONS = {"GPTQConfig": ("bits",), "TorchAoConfig": ("quant_type",), "AwqConfig": ("bits",)}


@cache
def format_class(name: str) -> type[QuantizationConfig]:
    """Return the config class of another format."""

    def __init__(self: Any, *args: Any, **settings: Any) -> None:
        names = POSITIONS.get(name, ())
        if len(args) > len(names):
            raise InvalidInput(f"{name} takes its settings by name.")
        QuantizationConfig.__init__(self, **dict(zip(names, args, strict=False)), **settings)

    doc = f"Settings of the format {FORMATS[name]!r}."
    own = {"__init__": __init__, "quant_method": FORMATS[name], "__doc__": doc, "__module__": "multihead"}
    return type(name, (QuantizationConfig,), own)
