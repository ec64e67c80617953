"""Qwen3-Next (qwen.ai, 2025) and the text models of Qwen3.5: Gated DeltaNet layers, with gated attention between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Chained, GroupParts, Joined, Shaped, Source, Tiled
from ..config import Copies, Count, Size
from ..nn.attention.gated import GatedAttention
from ..nn.gated_delta_net import GatedDeltaNet
from ..nn.layer import Layer
from ..nn.norms import WideRMSNorm
from ..nn.positions import Positions
from ..nn.stack import Stack
from . import llama, qwen_moe
from .common import gguf
from .common.experts import ALONE, DENSE, ROUTED, SHARED
from .common.later_words import without_mtp
from .common.patterns import FULL, LINEAR, layer_kinds, rotary_of
from .gemma import norm
from .qwen3 import GGUF_NORMS, NORMS

DELTA, STORED = "layers.*.attention.step", "layers.*.linear_attn"


@dataclass(kw_only=True)
class Qwen35TextConfig(llama.LlamaConfig):
    model_type = "qwen3_5_text"
    rotary_factor: ClassVar[float | None] = 0.25
    # The state is float32 whatever the file says; the heads that predict several tokens are not read.
    inert: ClassVar[tuple[str, ...]] = (
        "mamba_ssm_dtype",
        "mtp_num_hidden_layers",
        "mtp_use_dedicated_embeddings",
        "mlp_only_layers",
    )

    vocab_size: Size = 248320
    intermediate_size: Size = 12288
    num_attention_heads: Size = 16
    num_key_value_heads: Size | None = 4
    head_dim: Size | None = 256
    max_position_embeddings: Size = 32768
    attn_output_gate: Literal[True] = True
    output_gate_type: Literal["swish"] = "swish"  # of the DeltaNet
    linear_conv_kernel_dim: Size = 4
    linear_key_head_dim: Size = 128
    linear_value_head_dim: Size = 128
    linear_num_key_heads: Size = 16
    linear_num_value_heads: Size = 32
    full_attention_interval: Size = 4
    layer_types: list[str] | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    @property
    def kinds(self) -> list[str]:
        """The mixer of each layer."""
        usual = [LINEAR if (i + 1) % self.full_attention_interval else FULL for i in range(self.num_hidden_layers)]
        return layer_kinds(self, usual, (FULL, LINEAR))


@dataclass(kw_only=True)
class Qwen35MoeTextConfig(Qwen35TextConfig):
    model_type = "qwen3_5_moe_text"
    norm_topk_prob: ClassVar[bool] = True

    hidden_size: Size = 2048
    num_hidden_layers: Count = 40
    num_key_value_heads: Size | None = 2
    moe_intermediate_size: Size = 512
    shared_expert_intermediate_size: Size = 512
    num_experts_per_tok: Size = 8
    num_experts: Copies = 256
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001  # of the load-balancing loss, which is added where router logits are shown


@dataclass(kw_only=True)
class Qwen3NextConfig(Qwen35MoeTextConfig):
    model_type = "qwen3_next"
    inert = ("mamba_ssm_dtype", "mtp_num_hidden_layers", "use_sliding_window")

    vocab_size: Size = 151936
    intermediate_size: Size = 5632
    num_hidden_layers: Count = 48
    decoder_sparse_step: Size = 1
    num_experts_per_tok: Size = 10
    num_experts: Copies = 512
    norm_topk_prob: bool = True  # type: ignore[misc]
    mlp_only_layers: list[int] = field(default_factory=list)


def attention(config: Any, positions: Positions) -> GatedAttention:
    norms = {name: WideRMSNorm(config.head_width, config.rms_norm_eps, centre=1.0) for name in ("q_norm", "k_norm")}
    return GatedAttention(
        config.hidden_size,
        config.num_attention_heads,
        head_width=config.head_width,
        key_heads=config.num_key_value_heads,
        bias=config.attention_bias,
        positions=positions,
        causal=True,
        dropout=config.attention_dropout,
        **norms,
    )


def mixer(config: Any, **changes: Any) -> GatedDeltaNet:
    usual = {"kernel": config.linear_conv_kernel_dim, "norm_eps": config.rms_norm_eps, "act": config.hidden_act}
    return GatedDeltaNet(
        config.hidden_size,
        config.linear_num_value_heads,
        config.linear_num_key_heads,
        config.linear_key_head_dim,
        config.linear_value_head_dim,
        **{**usual, **changes},
    )


def build(config: Qwen35TextConfig, ffn: Callable[[Any, int], nn.Module]) -> Stack:
    positions, kinds = rotary_of(config, config.head_width), config.kinds

    def layer(i: int) -> Layer:
        mix: nn.Module = mixer(config) if kinds[i] == LINEAR else attention(config, positions)
        return llama.layer(config, mix, ffn(config, i), norm)

    return llama.decoder(config, layer, norm)


def build_next(config: Qwen3NextConfig) -> Stack:
    chosen = qwen_moe.sparse(config)
    return build(config, lambda c, i: qwen_moe.with_shared(c) if chosen[i] else llama.feed_forward(c))


def table(config: Any, projections: Rows, experts: bool) -> KeyMap:
    """Return the key map, given the rows of the DeltaNet's projections."""
    channels = 2 * config.linear_num_key_heads * config.linear_key_head_dim
    channels += config.linear_num_value_heads * config.linear_value_head_dim
    kernel = config.linear_conv_kernel_dim
    rows: dict[str, str | Source] = {
        **NORMS,
        **projections,
        f"{DELTA}.convolution.weight": Shaped(f"{STORED}.conv1d.weight", (channels, kernel), (channels, 1, kernel)),
        f"{DELTA}.decay": f"{STORED}.A_log",
        f"{DELTA}.step": f"{STORED}.dt_bias",
        f"{DELTA}.norm": f"{STORED}.norm",
        f"{DELTA}.output": f"{STORED}.out_proj",
        **(qwen_moe.shared_rows() if experts else {}),
    }
    return without_mtp(llama.keys(config, rows))


def keys(config: Any, experts: bool = False) -> KeyMap:
    heads = config.linear_num_value_heads
    projections: Rows = {
        f"{DELTA}.qkv": f"{STORED}.in_proj_qkv",
        f"{DELTA}.gate": f"{STORED}.in_proj_z",
        f"{DELTA}.rates": Joined(f"{STORED}.in_proj_b", ("in_proj_a",), (heads, heads)),
    }
    found = table(config, projections, experts)
    # Files of the multimodal model keep the text model under a name of its own.
    renamed = ((r"^model\.language_model\.", "model."),)
    return replace(found, renamed=renamed, ignored=(*found.ignored, r"^model\.visual\."))


def keys_next(config: Qwen3NextConfig) -> KeyMap:
    groups, each = config.linear_num_key_heads, config.linear_num_value_heads // config.linear_num_key_heads
    keys, values = config.linear_key_head_dim, each * config.linear_value_head_dim
    both = f"{STORED}.in_proj_qkvz", groups, (keys, keys, values, values)
    projections = {
        f"{DELTA}.qkv": GroupParts(*both, (0, 1, 2)),
        f"{DELTA}.gate": GroupParts(*both, (3,)),
        f"{DELTA}.rates": GroupParts(f"{STORED}.in_proj_ba", groups, (each, each), (0, 1)),
    }
    return table(config, projections, experts=True)


def gguf_table(config: Any, projections: Rows, experts: bool) -> KeyMap:
    """Return the key map of llama.cpp's names, given the rows of what it stores in another order."""
    norms: Rows = {ours: gguf.Shifted(theirs) for ours, theirs in GGUF_NORMS.items()}
    own: dict[str, str | Source] = {
        **norms,
        "layers.*.ffn.before": gguf.Shifted("blk.*.post_attention_norm"),
        f"{DELTA}.norm": "blk.*.ssm_norm",
        **projections,
    }
    if experts:
        own |= {**gguf.expert_keys(ROUTED, config.num_experts), **gguf.shared_keys(SHARED)}
        own[f"{ALONE}.share"] = gguf.Row("blk.*.ffn_gate_inp_shexp")
    table = gguf.llama_keys(config, own, DENSE if experts else (), norms=gguf.Shifted)
    layers = "|".join(map(str, range(config.num_hidden_layers)))
    return replace(table, ignored=(*table.ignored, rf"^blk\.(?!({layers})\.)\d+\."))  # that draft later words


def gguf_keys(config: Any, experts: bool = False) -> KeyMap:
    """Return the key map of Qwen3.5, whose value heads llama.cpp stores in another order."""
    groups, heads, kernel = config.linear_num_key_heads, config.linear_num_value_heads, config.linear_conv_kernel_dim
    keys, values = 2 * groups * config.linear_key_head_dim, heads * config.linear_value_head_dim
    convolution, shape = "blk.*.ssm_conv1d.weight", (keys + values, kernel)

    def tiled(stored: Source, **options: int) -> Source:
        return Chained(stored.key, stored, Tiled(stored.key, groups, heads // groups, **options))

    rates = Joined("blk.*.ssm_beta", ("ssm_alpha",), (heads, heads))
    projections: Rows = {
        f"{DELTA}.qkv": tiled(Source("blk.*.attn_qkv"), first=keys),
        f"{DELTA}.gate": tiled(Source("blk.*.attn_gate")),
        f"{DELTA}.rates": tiled(rates, parts=2),
        f"{DELTA}.convolution.weight": tiled(Shaped(convolution, shape, shape), first=keys),
        f"{DELTA}.decay": tiled(gguf.Decay("blk.*.ssm_a")),
        f"{DELTA}.step": tiled(Source("blk.*.ssm_dt.bias")),
        f"{DELTA}.output": tiled(Source("blk.*.ssm_out"), axis=1),
    }
    return gguf_table(config, projections, experts)


def gguf_keys_next(config: Qwen3NextConfig) -> KeyMap:
    groups, each = config.linear_num_key_heads, config.linear_num_value_heads // config.linear_num_key_heads
    kernel = config.linear_conv_kernel_dim
    keys, values = 2 * groups * config.linear_key_head_dim, groups * each * config.linear_value_head_dim
    shape = keys + values, kernel
    projections: Rows = {
        f"{DELTA}.qkv": "blk.*.attn_qkv",
        f"{DELTA}.gate": "blk.*.attn_gate",
        f"{DELTA}.rates": GroupParts("blk.*.ssm_ba", groups, (each, each), (0, 1)),
        f"{DELTA}.convolution.weight": Shaped("blk.*.ssm_conv1d.weight", shape, shape),
        f"{DELTA}.decay": gguf.Decay("blk.*.ssm_a"),
        f"{DELTA}.step": "blk.*.ssm_dt.bias",
        f"{DELTA}.output": "blk.*.ssm_out",
    }
    return gguf_table(config, projections, experts=True)


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config entries of a GGUF file, which counts the layers that draft later words too."""
    found = llama.gguf_config(metadata)
    own = gguf.named(
        metadata, linear_conv_kernel_dim="ssm.conv_kernel", linear_key_head_dim="ssm.state_size",
        linear_num_key_heads="ssm.group_count", linear_num_value_heads="ssm.time_step_rank",
        linear_value_head_dim="ssm.inner_size", full_attention_interval="full_attention_interval",
        recurrent="attention.recurrent_layers", drafting="nextn_predict_layers",
        sections="rope.dimension_sections",  # of pictures; the positions of texts are the same in all
    )  # fmt: skip
    layers, recurrent = found["num_hidden_layers"] - own.pop("drafting", 0), own.pop("recurrent", None)
    own.pop("sections", None)
    own["linear_value_head_dim"] //= own["linear_num_value_heads"]
    if recurrent is not None:
        own["layer_types"] = [LINEAR if one else FULL for one in recurrent[:layers]]
    turned = gguf.rotary_factor(metadata, found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"])
    return {**found, **turned, **own, "num_hidden_layers": layers}


def gguf_config_moe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    own = {**qwen_moe.GGUF_EXPERTS, "shared_expert_intermediate_size": "expert_shared_feed_forward_length"}
    return {**gguf_config(metadata), **gguf.named(metadata, **own)}


TEXT = llama.ARCHITECTURE.derive(
    "Qwen3_5",
    Qwen35TextConfig,
    lambda config: build(config, lambda c, _: llama.feed_forward(c)),
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM", "ForSequenceClassification")},
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": gguf_config},
)
MOE_TEXT = TEXT.derive(
    "Qwen3_5Moe",
    Qwen35MoeTextConfig,
    lambda config: build(config, lambda c, _: qwen_moe.with_shared(c)),
    keys=lambda config: keys(config, experts=True),
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
    layouts={"gguf": lambda config: gguf_keys(config, experts=True)},
    foreign_config={"gguf": gguf_config_moe},
)
NEXT = TEXT.derive(
    "Qwen3Next",
    Qwen3NextConfig,
    build_next,
    keys=keys_next,
    heads=llama.HEADS,
    layouts={"gguf": gguf_keys_next},
    foreign_config={"gguf": gguf_config_moe},
)
