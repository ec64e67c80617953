"""Nomic Embed v2 (Nussbaum and Duderstadt, 2025, arXiv:2502.07972): Nomic BERT whose every second layer has experts.

Its files call themselves `nomic_bert`, and came with code of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head, LanguageModel, Transform
from ..nn.activations import activation
from ..nn.experts import RoutedExperts, softmax_top_k
from ..nn.feedforward import FeedForward
from ..nn.layer import Layer
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert, nomic_bert
from .common.architecture import Architecture
from .common.patterns import rope_entries, rotary_of
from .common.rotary_config import RotaryConfig

BIASES = ("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias")
SETTINGS = {k: v for k, v in nomic_bert.OLD_SETTINGS.items() if k not in ("activation_function", *BIASES)}


@dataclass(kw_only=True)
class NomicBertMoeConfig(RotaryConfig):
    model_type = "nomic_bert_moe"
    inert = ("embd_pdrop", "parallel_block_tied_norm", "scale_attn_by_inverse_layer_idx", "moe_impl", "moe_resid_pdrop",
             "router_aux_loss_coef", "moe_router_z_loss", "max_trained_positions")  # fmt: skip

    vocab_size: Size = 250048
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    activation_function: str = "gelu"
    qkv_proj_bias: bool = True
    mlp_fc1_bias: Literal[True] = True
    mlp_fc2_bias: Literal[True] = True
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout: float | None = None
    max_position_embeddings: Size = 2048
    type_vocab_size: Size = 1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    moe_every_n_layers: Size = 2
    num_experts: Size = 8
    moe_top_k: Size = 2
    moe_normalize_expert_weights: Literal[False] = False
    expert_choice_router: Literal[False] = False
    num_shared_experts: Literal[0] = 0
    ffn_div: Literal[1] = 1
    pad_token_id: int | None = 1

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Rename entries, which are those of GPT-2."""
        for name, computed in SETTINGS.items():
            if name in entries and entries[name] not in computed:
                raise UnsupportedConfig(f"{name} {entries[name]!r} is not computed here, only {computed[0]!r}.")
        known = {nomic_bert.OLD_NAMES.get(k, k): v for k, v in entries.items() if k not in SETTINGS}
        return rope_entries(known, theta=10000.0)

    def routes(self, layer: int) -> bool:
        """Return whether a layer has experts."""
        return layer % self.moe_every_n_layers == 1


class PlainExperts(nn.Module):
    """Experts of two matrices without biases, all of them in two tensors (experts, inner, width)."""

    def __init__(self, count: int, width: int, inner: int, act: str) -> None:
        super().__init__()
        self.up, self.down = (nn.Parameter(torch.empty(count, inner, width)) for _ in range(2))
        self.act = activation(act)

    def forward(self, x: Tensor, expert: int) -> Tensor:
        """Apply one expert to states (tokens, width)."""
        return self.act(x @ self.up[expert].T) @ self.down[expert]


class BiasedExperts(nn.Module):
    """Routed experts and one bias of their weighted sum."""

    def __init__(self, routed: RoutedExperts, width: int) -> None:
        super().__init__()
        self.routed, self.bias = routed, nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.routed(x) + self.bias


def build(config: NomicBertMoeConfig) -> Stack:
    width, inner, act = config.hidden_size, config.intermediate_size, config.activation_function
    positions = rotary_of(config, width // config.num_attention_heads)

    def ffn(i: int) -> nn.Module:
        if not config.routes(i):
            return FeedForward(width, inner, act)
        experts = PlainExperts(config.num_experts, width, inner, act)
        rule = softmax_top_k(config.moe_top_k, normalized=False)
        return BiasedExperts(RoutedExperts(width, experts, config.num_experts, rule), width)

    def layer(i: int) -> Layer:
        return bert.layer(config, ffn=ffn(i), bias=config.qkv_proj_bias, positions=positions)

    return Stack(bert.embeddings(config, order=False), [layer(i) for i in range(config.num_hidden_layers)])


def keys(config: NomicBertMoeConfig) -> KeyMap:
    width, inner, count = config.hidden_size, config.intermediate_size, config.num_experts
    shapes = {"ours": (count, inner, width), "theirs": (count * inner, width)}
    gates = {f"layers.*.ffn.step.{n}" for n in ("gate", "up", "down")}
    rows: dict[str, str | Source] = {
        ours: theirs
        for ours, theirs in nomic_bert.keys(config).rows.items()  # type: ignore[arg-type]
        if ours not in gates
    }
    rows |= {
        "layers.*.ffn.step.up": "layers.*.mlp.fc1",
        "layers.*.ffn.step.down": "layers.*.mlp.down_proj",
        "layers.*.ffn.step.routed.experts.up": Shaped("layers.*.mlp.experts.mlp.w1", **shapes),
        "layers.*.ffn.step.routed.experts.down": Shaped("layers.*.mlp.experts.mlp.w2", **shapes),
        "layers.*.ffn.step.routed.router": "layers.*.mlp.router.layer",
        "layers.*.ffn.step.bias": "layers.*.mlp.experts.bias",
    }
    known = nomic_bert.keys(config)  # type: ignore[arg-type]
    return KeyMap(rows, known.prefix, known.prefixes, known.ignored, (), known.renamed, known.split_fused)


def word_head(config: NomicBertMoeConfig, backbone: Stack) -> Head:
    width, tied = config.hidden_size, config.tie_word_embeddings
    table: nn.Module = backbone.embed.token if tied else Linear(width, config.vocab_size, bias=False)
    transform = Transform(width, width, config.activation_function, config.layer_norm_eps)
    return Head(LanguageModel(table, transform=transform, bias=config.vocab_size), bert.word_rows(config))


ARCHITECTURE = Architecture(
    "NomicBertMoe",
    NomicBertMoeConfig,
    build,
    keys,
    heads={
        "Model": None,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": bert.ARCHITECTURE.heads["ForSequenceClassification"],
    },
)
