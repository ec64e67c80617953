"""HRM-Text (Sapient Intelligence, 2026): a fast and a slow stack that run in turn over one text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, Source
from ..config import Count, Size
from ..nn.embeddings import Embeddings
from ..nn.hierarchical import HierarchicalStack, PrefixAttention
from ..nn.layer import Layer
from ..nn.norms import PlainRMSNorm
from ..nn.weights import Embedding
from . import llama
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class HrmTextConfig(llama.LlamaConfig):
    model_type = "hrm_text"
    inert: ClassVar[tuple[str, ...]] = ("rope_interleaved", "num_key_value_heads")

    vocab_size: Size = 151808
    hidden_size: Size = 1536
    intermediate_size: Size = 4096
    num_hidden_layers: Count = 16  # runs of layers in a pass, where num_layers_per_stack says how many layers there are
    num_layers_per_stack: Size | None = None
    num_attention_heads: Size = 12
    head_dim: Size | None = 128
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    H_cycles: Size = 2
    L_cycles: Size = 3
    L_bp_cycles: list[int] | None = None
    embedding_scale: float | None = None
    prefix_lm: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        return super().normalized({k: v for k, v in entries.items() if k != "num_key_value_heads"})

    @property
    def depth(self) -> int:
        """Layers of each stack."""
        return self.num_layers_per_stack or self.num_hidden_layers

    @property
    def learning(self) -> list[int]:
        """Steps of the fast stack that give gradients, for each turn of the slow one."""
        given = [2] if self.L_bp_cycles is None else self.L_bp_cycles
        return ([1] * max(self.H_cycles - len(given), 0) + given)[: self.H_cycles]


def norm(config: Any) -> nn.Module:
    return PlainRMSNorm(config.hidden_size, config.rms_norm_eps)


def build(config: HrmTextConfig) -> HierarchicalStack:
    positions, heads = rotary_of(config, config.head_width), config.num_attention_heads

    def layer() -> Layer:
        attention = PrefixAttention(
            config.hidden_size,
            heads,
            head_width=config.head_width,
            by_head=False,
            soft=False,
            bias=False,
            positions=positions,
            causal=True,
            dropout=config.attention_dropout,
        )
        return llama.layer(config, attention, llama.feed_forward(config), norm)

    scale = 1.0 / config.initializer_range if config.embedding_scale is None else config.embedding_scale
    token = Embedding(config.vocab_size, config.hidden_size)
    return HierarchicalStack(
        Embeddings(token, scale=scale, rescales=True, typed=config.prefix_lm),
        [layer() for _ in range(config.depth)],
        [layer() for _ in range(config.depth)],
        (norm(config), norm(config)),
        width=config.hidden_size,
        turns=config.H_cycles,
        steps=config.L_cycles,
        learning=config.learning,
    )


def keys(config: HrmTextConfig) -> KeyMap:
    heads, inner = config.num_attention_heads * config.head_width, config.intermediate_size
    own: dict[str, str | Source] = {"start": "z_L_init"}
    for ours, theirs in (("layers", "L_module.layers"), ("slow", "H_module.layers")):
        for i, name in enumerate(("gate", "q", "k", "v")):
            own[f"{ours}.*.attention.step.{name}"] = Part(f"{theirs}.*.attn.gqkv_proj", (heads,) * 4, i)
        for i, name in enumerate(("gate", "up")):
            own[f"{ours}.*.ffn.step.{name}"] = Part(f"{theirs}.*.mlp.gate_up_proj", (inner,) * 2, i)
        own[f"{ours}.*.attention.step.out"] = f"{theirs}.*.attn.o_proj"
        own[f"{ours}.*.ffn.step.down"] = f"{theirs}.*.mlp.down_proj"
    without = ("norm", "layers.*.attention.before", "layers.*.ffn.before")
    return llama.keys(config, own, without)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "HrmText", HrmTextConfig, build, keys=keys, heads={"Model": None, "ForCausalLM": llama.generate}
)
