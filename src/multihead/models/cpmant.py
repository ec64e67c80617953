"""CPM-Ant (OpenBMB, 2022): a Chinese decoder with a learned prompt before each text, both read in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..checkpoints.key_map import KeyMap
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.head_types import CAUSAL_LM, HeadType, words
from ..heads.heads import Head, LanguageModel
from ..heads.outputs import ScoresOutput
from ..nn.embeddings import Embeddings
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer, Residual
from ..nn.norms import RMSNorm
from ..nn.prompts import KIND, PromptedAttention, PromptedStack, SegmentBias
from ..nn.weights import Embedding, Linear
from .common.architecture import Architecture


@dataclass(kw_only=True)
class CpmAntConfig(Config):
    model_type = "cpmant"

    vocab_size: Size = 30720
    hidden_size: Size = 4096
    num_attention_heads: Size = 32
    dim_head: Size = 128
    dim_ff: Size = 10240
    num_hidden_layers: Count = 48
    dropout_p: float = 0.0
    position_bias_num_buckets: Size = 512
    position_bias_max_distance: Size = 2048
    eps: float = 1e-6
    init_std: float = 1.0
    prompt_types: Size = 32
    prompt_length: Size = 32
    segment_types: Size = 32

    def check(self) -> None:
        super().check()
        if self.prompt_types <= KIND:
            raise UnsupportedConfig(f"prompt_types is {self.prompt_types}, and texts have prompt {KIND}, from 0.")


def build(config: CpmAntConfig) -> PromptedStack:
    width, heads, dropout = config.hidden_size, config.num_attention_heads, config.dropout_p
    positions = SegmentBias(
        heads,
        buckets=config.position_bias_num_buckets,
        reach=config.position_bias_max_distance,
        segments=config.segment_types,
        prompt=config.prompt_length,
    )

    def step(module: Any) -> Residual:
        return Residual(module, before=RMSNorm(width, config.eps), dropout=dropout)

    def layer() -> Layer:
        attention = PromptedAttention(
            width, heads, head_width=config.dim_head, bias=False, positions=positions, dropout=dropout
        )
        return Layer(step(attention), step(GatedFeedForward(width, config.dim_ff, "gelu", dropout=dropout)))

    rows = config.vocab_size + config.prompt_types * config.prompt_length  # prompts come after the words
    return PromptedStack(
        Embeddings(Embedding(rows, width)),
        [layer() for _ in range(config.num_hidden_layers)],
        RMSNorm(width, config.eps),
        width=width,
        prompt=config.prompt_length,
        words=config.vocab_size,
        segments=config.segment_types,
    )


def keys(config: CpmAntConfig) -> KeyMap:
    attention, ffn = "encoder.layers.*.self_att", "encoder.layers.*.ffn"
    rows = {
        "embed.token": "input_embedding",
        "segments": "segment_embedding",
        **{f"layers.*.attention.step.{name}": f"{attention}.self_attention.project_{name}" for name in ("q", "k", "v")},
        "layers.*.attention.step.out": f"{attention}.self_attention.attention_out",
        "layers.*.attention.step.positions.table.weight": "position_bias.relative_attention_bias",
        "layers.*.attention.before": f"{attention}.layernorm_before_attention",
        "layers.*.ffn.step.gate": f"{ffn}.ffn.w_in.w_0",
        "layers.*.ffn.step.up": f"{ffn}.ffn.w_in.w_1",
        "layers.*.ffn.step.down": f"{ffn}.ffn.w_out",
        "layers.*.ffn.before": f"{ffn}.layernorm_before_ffn",
        "norm": "encoder.output_layernorm",
    }
    return KeyMap(rows, "cpmant.")


def generate(config: CpmAntConfig, backbone: PromptedStack) -> Head:
    table = Linear(config.hidden_size, config.vocab_size, bias=False)
    return Head(LanguageModel(table), {"table": "/lm_head"})


ARCHITECTURE = Architecture(
    "CpmAnt",
    CpmAntConfig,
    build,
    keys,
    heads={"Model": None, "ForCausalLM": generate},
    head_types={"ForCausalLM": HeadType(CAUSAL_LM, ScoresOutput, words)},  # the reference's loss has no shift
)
