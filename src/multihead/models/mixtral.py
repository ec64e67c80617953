"""Mixtral (Jiang et al., 2024, arXiv:2401.04088): Mistral whose feed-forward are routed experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..checkpoints.key_map import KeyMap, Rows
from ..config import Copies, Size
from ..nn.experts import ExpertList, RoutedExperts, softmax_top_k
from ..nn.layer import Layer
from ..nn.stack import Stack
from . import llama
from .common import gguf
from .common.experts import ALONE, DENSE
from .common.patterns import rotary_of
from .mistral import HEADS, MistralConfig

MOE = "layers.*.block_sparse_moe"
EXPERTS: Rows = {
    **{f"{ALONE}.experts.*.{n}": f"{MOE}.experts.*.{w}" for n, w in (("gate", "w1"), ("up", "w3"), ("down", "w2"))},
    f"{ALONE}.router": f"{MOE}.gate",
}
RENAMED = ((r"(layers\.\d+)\.mlp\.", r"\1.block_sparse_moe."),)  # the reference's own names


@dataclass(kw_only=True)
class MixtralConfig(MistralConfig):
    model_type = "mixtral"
    theta: ClassVar[float] = 1000000.0

    rms_norm_eps: float = 1e-5
    sliding_window: Size | None = None
    num_experts_per_tok: Size = 2
    num_local_experts: Copies = 8
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001  # of the load-balancing loss, which is added where router logits are shown
    router_jitter_noise: float = 0.0


def experts(config: MixtralConfig) -> RoutedExperts:
    each = ExpertList([llama.feed_forward(config) for _ in range(config.num_local_experts)])
    rule = softmax_top_k(config.num_experts_per_tok, normalized=True)
    return RoutedExperts(config.hidden_size, each, config.num_local_experts, rule, jitter=(config.router_jitter_noise,))


def build(config: MixtralConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer(i: int) -> Layer:
        attention = llama.attention(config, positions, window=config.sliding_window)
        return llama.layer(config, attention, experts(config))

    return llama.decoder(config, layer)


def keys(config: Any) -> KeyMap:
    return replace(llama.keys(config, EXPERTS, DENSE), renamed=RENAMED)


def gguf_keys(config: MixtralConfig) -> KeyMap:
    return gguf.llama_keys(config, gguf.expert_keys(ALONE, config.num_local_experts), DENSE, turned=True)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "Mixtral", MixtralConfig, build, keys=keys, heads=HEADS, layouts={"gguf": gguf_keys}
)
