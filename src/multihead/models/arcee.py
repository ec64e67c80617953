"""AFM-4.5B (Arcee AI, 2025): Llama with squared ReLU in place of its gates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..config import Size
from . import llama, nemotron
from .common import gguf


@dataclass(kw_only=True)
class ArceeConfig(llama.LlamaConfig):
    model_type = "arcee"

    hidden_size: Size = 2560
    intermediate_size: Size = 18432
    hidden_act: str = "relu2"
    max_position_embeddings: Size = 4096
    rms_norm_eps: float = 1e-5
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001


build = partial(nemotron.build, norm=llama.norm)
gguf_keys = partial(gguf.llama_keys, without=("layers.*.ffn.step.gate",), turned=True)
ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Arcee",
    ArceeConfig,
    build,
    keys=nemotron.keys,
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": llama.gguf_config},
)
