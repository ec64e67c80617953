"""LongCat-Flash (Meituan, 2025, arXiv:2509.01322): experts beside two layers, some of which do nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Copies, Count, Size
from ..errors import UnsupportedConfig
from ..nn.embeddings import Embeddings
from ..nn.experts import GroupedTopK, IdentityExperts, RoutedExperts
from ..nn.layer import Residual, ShortcutLayer
from ..nn.stack import Stack
from ..nn.weights import Embedding
from . import deepseek, llama
from .common.experts import PARTS, gated, routed_rows
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class LongcatFlashConfig(llama.LlamaConfig):
    model_type = "longcat_flash"
    inert = ("attention_method", "num_nextn_predict_layers", "mtp_num_layers", "zero_expert_type")
    aliases: ClassVar = {
        "num_local_experts": "n_routed_experts",
        "num_experts_per_tok": "moe_topk",
        "intermediate_size": "ffn_hidden_size",
        "moe_intermediate_size": "expert_ffn_hidden_size",
    }
    theta: ClassVar[float] = 10000000.0
    intermediate_size: ClassVar[Any] = property(lambda self: self.ffn_hidden_size)  # type: ignore[misc]
    num_hidden_layers: ClassVar[Any] = property(lambda self: 2 * self.num_layers)  # type: ignore[misc]
    num_experts_per_tok: ClassVar[Any] = property(lambda self: self.moe_topk)
    rope_interleave: ClassVar[bool] = True

    vocab_size: Size = 131072
    hidden_size: Size = 6144
    num_layers: Count = 28
    num_attention_heads: Size = 64
    head_dim: Size | None = 64
    max_position_embeddings: Size = 131072
    rms_norm_eps: float = 1e-5
    ffn_hidden_size: Size = 12288
    q_lora_rank: Size = 1536
    kv_lora_rank: Size = 512
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: Size = 64
    v_head_dim: Size = 128
    qk_head_dim: Size | None = None  # follows from its parts
    moe_topk: Size = 12
    n_routed_experts: Copies = 512
    zero_expert_num: int | None = 256
    expert_ffn_hidden_size: Size = 2048
    routed_scaling_factor: float = 6.0
    router_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    mla_scale_q_lora: Literal[True] = True
    mla_scale_kv_lora: Literal[True] = True
    output_router_logits: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Read half of `num_hidden_layers`, which counts attentions."""
        entries = super().normalized(entries)
        both = entries.pop("num_hidden_layers", None)
        return entries if both is None else {**entries, "num_layers": both // 2}

    def check(self) -> None:
        if self.qk_head_dim not in (None, self.qk_nope_head_dim + self.qk_rope_head_dim):
            raise UnsupportedConfig(f"qk_head_dim = {self.qk_head_dim} is not the sum of its two parts.")
        deepseek.check_head_dim(self)


def experts(config: LongcatFlashConfig) -> RoutedExperts:
    each = IdentityExperts([gated(config, config.expert_ffn_hidden_size) for _ in range(config.n_routed_experts)])
    count = config.n_routed_experts + (config.zero_expert_num or 0)
    rule = GroupedTopK(count, config.moe_topk, normalized=False, scale=config.routed_scaling_factor, shared=True)
    return RoutedExperts(config.hidden_size, each, count, rule, wide=True)


def build(config: LongcatFlashConfig) -> Stack:
    positions, wide = rotary_of(config, config.qk_rope_head_dim), config.hidden_size
    scale = deepseek.score_scale(config) * (wide / config.q_lora_rank) ** 0.5
    latent_scale = (wide / config.kv_lora_rank) ** 0.5

    def attention() -> nn.Module:
        return deepseek.attention(config, positions, scale, latent_scale=latent_scale)

    def layer() -> ShortcutLayer:
        first = Residual(attention(), before=llama.norm(config))
        second = llama.layer(config, attention(), llama.feed_forward(config))
        return ShortcutLayer(first, llama.norm(config), llama.feed_forward(config), experts(config), second)

    embed = Embeddings(Embedding(config.vocab_size, wide))
    return Stack(embed, [layer() for _ in range(config.num_layers)], llama.norm(config))


FIRST = {"attention.": "attention.", "ffn.before": "norm", "ffn.step.": "ffn."}  # paths of a layer -> of its place here


def keys(config: LongcatFlashConfig) -> KeyMap:
    """Return the key map: DeepSeek's rows for both layers, numbered behind the name of a part."""
    table, rows = deepseek.keys(config), dict[str, str | Source]()
    layer = {ours: row for ours, row in table.rows.items() if not ours.startswith("layers.*.ffn.step")}
    layer |= {f"layers.*.ffn.step.{part}": f"layers.*.mlps.{part}_proj" for part in PARTS}
    for ours, row in layer.items():
        path, key = ours.removeprefix("layers.*."), row.key if isinstance(row, Source) else row
        if path == ours:
            rows[ours] = row
            continue
        begin = next(begin for begin in FIRST if path.startswith(begin))
        name, _, rest = key.removeprefix("layers.*.").partition(".")
        for number, place in enumerate((FIRST[begin] + path.removeprefix(begin), f"second.{path}")):
            own = f"layers.*.{name}.{number}" + (f".{rest}" if rest else "")
            rows[f"layers.*.{place}"] = replace(row, key=own) if isinstance(row, Source) else own
    rows |= routed_rows("layers.*.experts", router="router.classifier")
    rows["layers.*.experts.rule.correction"] = "layers.*.mlp.router.e_score_correction_bias"
    # The reference stores matrices of experts that do nothing, too.
    count = config.n_routed_experts
    nothing = "|".join(map(str, range(count, count + (config.zero_expert_num or 0)))) or "-"
    ignored = (*table.ignored, rf"\.mlp\.experts\.(?:{nothing})\.(?:gate|up)_proj\.weight$", r"(^|\.)mtp")
    return replace(table, rows=rows, ignored=ignored)


ARCHITECTURE = llama.ARCHITECTURE.derive(
    "LongcatFlash",
    LongcatFlashConfig,
    build,
    keys=keys,
    heads={end: llama.HEADS[end] for end in ("Model", "ForCausalLM")},
)
