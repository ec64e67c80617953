"""I-BERT (Kim et al., 2021, arXiv:2101.01321): RoBERTa that was made to be quantized; computed here with its floats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..checkpoints.key_map import KeyMap
from . import roberta


@dataclass(kw_only=True)
class IBertConfig(roberta.XLMRobertaConfig):
    model_type = "ibert"
    inert = ("force_dequant",)  # concerns integers

    quant_mode: Literal[False] = False
    hidden_act: Literal["gelu"] = "gelu"
    is_decoder: Literal[False] = False


# Integers and ranges that the reference keeps beside the weights, for quant_mode alone
INTEGERS = (
    r"\.(weight|bias)_integer$",
    r"\.(weight|fc|act)_scaling_factor$",
    r"\.x_(min|max)$",
    r"\.LayerNorm\.shift$",
)


def keys(config: IBertConfig) -> KeyMap:
    known = roberta.keys(config, "ibert.")
    return replace(known, ignored=(*known.ignored, *INTEGERS))


HEADS = {end: make for end, make in roberta.HEADS.items() if end != "ForCausalLM"}
ARCHITECTURE = replace(roberta.ARCHITECTURE, name="IBert", config=IBertConfig, keys=keys, heads=HEADS)
