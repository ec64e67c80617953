"""Masked diffusion models: LLaDA (Nie et al., 2025, arXiv:2502.09992) and Dream (Ye et al., 2025, arXiv:2508.15487).

They are Llama and Qwen 2 whose tokens see each other. Their files name their own code, which is not run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..checkpoints.key_map import KeyMap
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.stack import Stack
from . import llama, qwen2
from .common.masked_diffusion import write_anywhere, write_blocks
from .common.patterns import rotary_of

FILE_NAMES = {  # entry of a file -> its usual name
    "d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads", "mlp_hidden_size": "intermediate_size", "include_qkv_bias": "attention_bias",
    "max_sequence_length": "max_position_embeddings", "weight_tying": "tie_word_embeddings",
    "activation_type": "hidden_act", "init_std": "initializer_range",
}  # fmt: skip


@dataclass(kw_only=True)
class LLaDAConfig(llama.LlamaConfig):
    model_type = "llada"
    aliases: ClassVar = FILE_NAMES
    inert = (
        "alibi_bias_max", "attention_layer_norm_with_affine", "block_group_size", "flash_attention",
        "init_cutoff_factor", "init_device", "init_fn", "mlp_ratio", "multi_query_attention", "precision",
        "rope_full_precision", "embedding_dropout", "residual_dropout",
    )  # fmt: skip

    vocab_size: Size = 126464
    embedding_size: Size | None = 126464
    hidden_size: Size = 4096
    intermediate_size: Size = 12288
    rms_norm_eps: float = 1e-5
    max_position_embeddings: Size = 4096
    hidden_act: Literal["silu"] = "silu"
    block_type: Literal["llama"] = "llama"
    layer_norm_type: Literal["rms"] = "rms"
    layer_norm_with_affine: Literal[True] = True
    bias_for_layer_norm: Literal[False, None] = False
    attention_layer_norm: Literal[False] = False
    rope: Literal[True] = True
    alibi: Literal[False] = False
    include_bias: Literal[False] = False
    input_emb_norm: Literal[False] = False
    scale_logits: Literal[False] = False
    mask_token_id: int | None = 126336
    pad_token_id: int | None = 126081
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 126081

    def check(self) -> None:
        super().check()
        if self.embedding_size not in (None, self.vocab_size):
            raise UnsupportedConfig(f"embedding_size is {self.embedding_size} and vocab_size {self.vocab_size}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the entries with the files' own names."""
        own = {usual: name for name, usual in FILE_NAMES.items()}
        entries = {own.get(name, name): value for name, value in super().to_dict().items()}
        theta = (entries.pop("rope_parameters", None) or {}).get("rope_theta", 10000.0)
        return {**entries, "rope_theta": theta}


def build(config: LLaDAConfig) -> Stack:
    positions, bias = rotary_of(config, config.head_width), config.attention_bias

    def layer(i: int) -> Any:
        attention = llama.attention(config, positions, causal=False, bias=bias, out_bias=False)
        return llama.layer(config, attention, llama.feed_forward(config))

    return llama.decoder(config, layer)


def keys(config: LLaDAConfig) -> KeyMap:
    names = {"attention.step.out": "attn_out", "attention.before": "attn_norm", "ffn.before": "ff_norm",
             "ffn.step.gate": "ff_proj", "ffn.step.up": "up_proj", "ffn.step.down": "ff_out"}  # fmt: skip
    names |= {f"attention.step.{name}": f"{name}_proj" for name in "qkv"}
    rows = {f"layers.*.{ours}": f"blocks.*.{theirs}" for ours, theirs in names.items()}
    table = llama.keys(config, {"embed.token": "wte", **rows, "norm": "ln_f"})
    copies = (r"^model\.transformer\.ff_out\.weight$",) if config.tie_word_embeddings else ()
    return replace(table, prefix="model.transformer.", prefixes=("transformer.",), ignored=copies)


def score(config: LLaDAConfig, backbone: Stack) -> Head:
    head = llama.generate(config, backbone)
    return replace(head, rows=dict.fromkeys(head.rows, "/model.transformer.ff_out"))


LLADA = llama.ARCHITECTURE.derive(
    "LLaDA",
    LLaDAConfig,
    build,
    keys=keys,
    heads={"Model": None, "ForMaskedLM": score, "ForCausalLM": score},
    methods={"diffusion_generate": write_blocks},
)


@dataclass(kw_only=True)
class DreamConfig(qwen2.Qwen2Config):
    model_type = "Dream"

    num_hidden_layers: Count = 32
    mask_token_id: int | None = 151666
    pad_token_id: int | None = 151643
    sliding_window: None = None
    use_sliding_window: Literal[False] = False


def build_dream(config: DreamConfig) -> Stack:
    stack = qwen2.build(config)
    for layer in stack.layers:
        layer.attention.step.causal = False  # type: ignore[union-attr]
    return stack


DREAM = llama.ARCHITECTURE.derive(
    "Dream",
    DreamConfig,
    build_dream,
    heads={"Model": None, "ForCausalLM": llama.generate},
    methods={"diffusion_generate": write_anywhere},
)
