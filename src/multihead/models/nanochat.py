"""nanochat (Karpathy, 2025): squared ReLU without a gate, norms without weights, also of turned queries and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..heads.heads import Head
from ..nn.embeddings import Embeddings
from ..nn.layer import Layer
from ..nn.norms import PlainRMSNorm
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import llama, nemotron
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class NanoChatConfig(llama.LlamaConfig):
    model_type = "nanochat"

    vocab_size: Size = 50304
    hidden_size: Size = 768
    intermediate_size: Size = 8192
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 6
    hidden_act: str = "relu2"
    final_logit_softcapping: float | None = 15.0
    mlp_bias: Literal[False] = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1


def norm(config: Any) -> nn.Module:
    return PlainRMSNorm(config.hidden_size, config.rms_norm_eps)


def build(config: NanoChatConfig) -> Stack:
    positions = rotary_of(config, config.head_width).inverse()
    norms = {name: PlainRMSNorm(config.head_width, config.rms_norm_eps) for name in ("q_norm", "k_norm")}

    def layer() -> Layer:
        attention = llama.attention(config, positions, norm_last=True, **norms)
        return llama.layer(config, attention, nemotron.feed_forward(config), norm)

    words = Embeddings(Embedding(config.vocab_size, config.hidden_size), norm=norm(config))
    return Stack(words, [layer() for _ in range(config.num_hidden_layers)], norm(config))


def keys(config: NanoChatConfig) -> KeyMap:
    own = {"layers.*.ffn.step.up": "layers.*.mlp.fc1", "layers.*.ffn.step.down": "layers.*.mlp.fc2"}
    return nemotron.keys(config, own)


def generate(config: NanoChatConfig, backbone: Stack) -> Head:
    return llama.generate(config, backbone, softcap=config.final_logit_softcapping)


HEADS = {"Model": None, "ForCausalLM": generate}
ARCHITECTURE = llama.ARCHITECTURE.derive("NanoChat", NanoChatConfig, build, keys=keys, heads=HEADS)
