"""MVP (Tang et al., 2022, arXiv:2206.12131): BART trained on many labeled tasks at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import Size
from .bart import BART, GENERATION_HEADS, LABEL_HEADS, BartConfig, family


@dataclass(kw_only=True)
class MvpConfig(BartConfig):
    model_type = "mvp"
    inert = ("prompt_length", "prompt_mid_dim")  # of prompts in each layer, which are not computed

    vocab_size: Size = 50267
    num_labels: Size = 2
    use_prompt: Literal[False] = False
    forced_eos_token_id: int | list[int] | None = None


HEADS = {**GENERATION_HEADS, **LABEL_HEADS}
ARCHITECTURE = family("Mvp", MvpConfig, BART, HEADS, source_as_target=tuple(HEADS))
