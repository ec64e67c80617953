"""OLMo Hybrid (Ai2, 2026): Gated DeltaNet layers with norms before each step, OLMo 3's attention layers between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Joined, Source
from ..config import Size
from ..errors import UnsupportedConfig
from ..nn.layer import Layer
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama, olmo2, qwen3_next
from .common.later_words import without_mtp
from .common.patterns import FULL, LINEAR, layer_kinds, rotary_of
from .qwen3_next import DELTA, STORED


@dataclass(kw_only=True)
class OlmoHybridConfig(llama.LlamaConfig):
    model_type = "olmo_hybrid"
    inert = (  # how fresh decays and steps are drawn
        "linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor",
    )  # fmt: skip

    vocab_size: Size = 100352
    hidden_size: Size = 3840
    num_attention_heads: Size = 30
    max_position_embeddings: Size = 65536
    layer_types: list[str] | None = None
    linear_num_key_heads: Size | None = None
    linear_num_value_heads: Size | None = None
    linear_key_head_dim: Size | None = None
    linear_value_head_dim: Size | None = None
    linear_conv_kernel_dim: Size = 4
    linear_allow_neg_eigval: bool = True
    pad_token_id: int | None = 100277
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 100257

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Fill in sizes that follow from others; a `rope_theta` of null means no positions."""
        plain = "rope_theta" in entries and entries["rope_theta"] is None and not entries.get("rope_parameters")
        entries = super().normalized(entries)
        if plain:
            entries["rope_parameters"] = {**entries["rope_parameters"], "rope_theta": None}
        return entries

    def __post_init__(self) -> None:
        heads = self.num_attention_heads
        self.linear_num_key_heads = self.linear_num_key_heads or heads
        self.linear_num_value_heads = self.linear_num_value_heads or heads
        self.linear_key_head_dim = self.linear_key_head_dim or int(0.75 * self.hidden_size / self.linear_num_key_heads)
        self.linear_value_head_dim = self.linear_value_head_dim or 2 * self.linear_key_head_dim
        super().__post_init__()

    def check(self) -> None:
        super().check()
        if self.num_hidden_layers and set(self.kinds) != {FULL, LINEAR}:
            raise UnsupportedConfig(f"layer_types must hold both {FULL!r} and {LINEAR!r}.")

    @property
    def kinds(self) -> list[str]:
        """The mixer of each layer."""
        usual = [LINEAR if (i + 1) % 4 else FULL for i in range(self.num_hidden_layers)]
        return layer_kinds(self, usual if FULL in usual else [*usual[:-1], FULL], (FULL, LINEAR))


def build(config: OlmoHybridConfig) -> Stack:
    turned = config.rope_parameters.get("rope_theta") is not None
    positions = rotary_of(config, config.head_width) if turned else Positions()
    kinds, strength = config.kinds, 2.0 if config.linear_allow_neg_eigval else 1.0

    def layer(i: int) -> Layer:
        if kinds[i] == FULL:
            return olmo2.layer(config, positions)  # type: ignore[arg-type]
        mixer = qwen3_next.mixer(config, norm_eps=1e-5, strength=strength)
        return llama.layer(config, mixer, llama.feed_forward(config), olmo2.norm)

    return llama.decoder(config, layer, olmo2.norm)


def keys(config: Any) -> KeyMap:
    width = config.linear_num_key_heads * config.linear_key_head_dim
    sizes = (width, width, config.linear_num_value_heads * config.linear_value_head_dim)
    rates, kernel = (config.linear_num_value_heads,) * 2, config.linear_conv_kernel_dim
    rows: dict[str, str | Source] = {
        **olmo2.HEAD_NORMS,
        "layers.*.attention.out": "layers.*.post_attention_layernorm",
        "layers.*.ffn.out": "layers.*.post_feedforward_layernorm",
        f"{DELTA}.qkv": Joined(f"{STORED}.q_proj", ("k_proj", "v_proj"), sizes),
        f"{DELTA}.convolution": Joined(f"{STORED}.q_conv1d", ("k_conv1d", "v_conv1d"), sizes, (1, kernel)),
        f"{DELTA}.gate": f"{STORED}.g_proj",
        f"{DELTA}.rates": Joined(f"{STORED}.b_proj", ("a_proj",), rates),
        f"{DELTA}.decay": f"{STORED}.A_log",
        f"{DELTA}.step": f"{STORED}.dt_bias",
        f"{DELTA}.norm": f"{STORED}.o_norm",
        f"{DELTA}.output": f"{STORED}.o_proj",
    }
    # Published files give norms other names, which mean the same in both kinds of layers.
    renamed = (
        (r"\.attention_layer_norm\.", ".input_layernorm."),
        (r"\.feedforward_layer_norm\.", ".post_attention_layernorm."),
    )
    return without_mtp(replace(llama.keys(config, rows), renamed=renamed))


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "OlmoHybrid",
    OlmoHybridConfig,
    build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
)
