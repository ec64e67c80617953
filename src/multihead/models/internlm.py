"""InternLM 2 (Cai et al., 2024, arXiv:2403.17297): Llama with one matrix for queries, keys and values. InternLM 3.

InternLM 2's files name their own code, which is not run: the family is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import PerHead, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.stack import Stack
from . import llama


@dataclass(kw_only=True)
class InternLM2Config(llama.LlamaConfig):
    model_type = "internlm2"
    inert = ("max_position_embeddings_original",)
    aliases: ClassVar = {"bias": "attention_bias"}

    vocab_size: Size = 103168
    attention_bias: bool = True
    mlp_bias: Literal[False] = False
    pad_token_id: int | None = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the entries with the file's own name for the biases."""
        entries = super().to_dict()
        return {**entries, "bias": entries.pop("attention_bias")}


def keys(config: InternLM2Config) -> KeyMap:
    """Return the key map; each key head's queries, its key and its value lie together."""
    heads = config.num_key_value_heads or config.num_attention_heads
    layout = config.num_attention_heads // heads, 1, 1
    ours, theirs = "layers.*.attention.step", "layers.*.attention"
    rows: dict[str, str | Source] = {
        "embed.token": "tok_embeddings",
        **{f"{ours}.{name}": PerHead(f"{theirs}.wqkv", heads, layout, i) for i, name in enumerate("qkv")},
        f"{ours}.out": f"{theirs}.wo",
        "layers.*.attention.before": "layers.*.attention_norm",
        "layers.*.ffn.before": "layers.*.ffn_norm",
        **{f"layers.*.ffn.step.{n}": f"layers.*.feed_forward.w{i}" for n, i in (("gate", 1), ("down", 2), ("up", 3))},
    }
    table = llama.keys(config, rows)
    copies = (r"^output\.weight$",) if config.tie_word_embeddings else ()
    return replace(table, ignored=(*table.ignored, *copies))


def generate(config: InternLM2Config, backbone: Stack) -> Head:
    head = llama.generate(config, backbone)
    return replace(head, rows=dict.fromkeys(head.rows, "/output"))


@dataclass(kw_only=True)
class InternLM3Config(llama.LlamaConfig):
    model_type = "internlm3"
    aliases: ClassVar = {"qkv_bias": "attention_bias", "bias": "mlp_bias"}

    vocab_size: Size = 128512
    intermediate_size: Size = 10240
    num_hidden_layers: Count = 48
    num_key_value_heads: Size | None = 2
    head_dim: Size | None = 128
    max_position_embeddings: Size = 32768
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 2

    def check(self) -> None:
        super().check()
        if self.attention_bias != self.mlp_bias:
            raise UnsupportedConfig(
                f"qkv_bias is {self.attention_bias} and bias {self.mlp_bias}; InternLM 3 is computed with equal ones."
            )


SECOND = llama.ARCHITECTURE.derive(
    "InternLM2", InternLM2Config, llama.build, keys=keys, heads={**llama.HEADS, "ForCausalLM": generate}
)
ARCHITECTURE = llama.ARCHITECTURE.derive("InternLM3", InternLM3Config, llama.build)
