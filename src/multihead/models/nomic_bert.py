"""Nomic BERT (Nussbaum et al., 2024, arXiv:2402.01613): BERT with rotary positions and gated feed-forwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Part, Source
from ..config import Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head, LanguageModel, Transform
from ..nn.feedforward import GatedFeedForward
from ..nn.layer import Layer
from ..nn.stack import Stack
from ..nn.weights import Linear
from . import bert
from .common.architecture import Architecture
from .common.patterns import rope_entries, rotary_of
from .common.rotary_config import RotaryConfig

OLD_NAMES = {  # of the files that came with code of their own
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
    "resid_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob",
}
OLD_SETTINGS = {  # what such a file may say, as only this is computed
    "activation_function": ("swiglu",),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "rotary_scaling_factor": (None,),
    "parallel_block": (False,),
    "prenorm": (False,),
    "causal": (False,),
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "scale_attn_weights": (True,),
    "use_rms_norm": (False, None),
}

OLD_TENSORS = (
    (r"\bencoder\.layers\.", "layers."),
    (r"\bemb_ln\.", "embeddings.LayerNorm."),
    (r"\battn\.out_proj\.", "self_attn.o_proj."),
    (r"\bfc11\.", "up_proj."),
    (r"\bfc12\.", "gate_proj."),
    (r"\bfc2\.", "down_proj."),
    (r"\bnorm1\.", "post_attention_layernorm."),
    (r"\bnorm2\.", "post_mlp_layernorm."),
)
OLD_QKV = ((r"\battn\.Wqkv\.", tuple(f"self_attn.{n}_proj." for n in "qkv")),)


@dataclass(kw_only=True)
class NomicBertConfig(RotaryConfig):
    model_type = "nomic_bert"
    inert = ("embd_pdrop", "parallel_block_tied_norm", "scale_attn_by_inverse_layer_idx")

    vocab_size: Size = 30528
    hidden_size: Size = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: str = "silu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout: float | None = None
    max_position_embeddings: Size = 2048
    type_vocab_size: Size = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    head_dim: Size | None = None
    pad_token_id: int | None = 0

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Rename the entries of this family's first files, which used GPT-2's names."""
        if "n_embd" in entries:
            for name, computed in OLD_SETTINGS.items():
                if name in entries and entries[name] not in computed:
                    raise UnsupportedConfig(f"{name} {entries[name]!r} is not computed here, only {computed[0]!r}.")
            entries = {OLD_NAMES.get(k, k): v for k, v in entries.items() if k not in OLD_SETTINGS}
        return rope_entries(entries, theta=1000.0)

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads


def build(config: NomicBertConfig) -> Stack:
    positions = rotary_of(config, config.head_width)

    def layer() -> Layer:
        ffn = GatedFeedForward(config.hidden_size, config.intermediate_size, config.hidden_act)
        return bert.layer(config, ffn=ffn, head_width=config.head_width, bias=False, positions=positions)

    embed = bert.embeddings(config, order=False)
    return Stack(embed, [layer() for _ in range(config.num_hidden_layers)])


def keys(config: NomicBertConfig) -> KeyMap:
    rows: dict[str, str | Source] = {
        **{ours: theirs for ours, theirs in bert.EMBEDDING_ROWS.items() if ours != "embed.position.table"},
        **{f"layers.*.attention.step.{n}": f"layers.*.self_attn.{n}_proj" for n in "qkv"},
        "layers.*.attention.step.out": "layers.*.self_attn.o_proj",
        "layers.*.attention.after": "layers.*.post_attention_layernorm",
        **{f"layers.*.ffn.step.{n}": f"layers.*.mlp.{n}_proj" for n in ("gate", "up", "down")},
        "layers.*.ffn.after": "layers.*.post_mlp_layernorm",
    }
    derived = (r"embeddings\.(position|token_type)_ids$", r"inv_freq$")
    ignored = (*derived, *bert.copies(config, "cls.predictions"))
    aliases = bert.aliases(config, "cls.predictions")
    return KeyMap(
        rows, "nomic_bert.", ("bert.",), ignored=ignored, renamed=OLD_TENSORS, split_fused=OLD_QKV, aliases=aliases
    )


def word_head(config: NomicBertConfig, backbone: Stack) -> Head:
    width, tied = config.hidden_size, config.tie_word_embeddings
    table: nn.Module = backbone.embed.token if tied else Linear(width, config.vocab_size, bias=False)
    transform = Transform(width, width, config.hidden_act, config.layer_norm_eps)
    rows = bert.word_rows(config, norm="transform.layer_norm")
    return Head(LanguageModel(table, transform=transform, bias=config.vocab_size), rows)


def gguf_keys(config: NomicBertConfig) -> KeyMap:
    """Return the key map of llama.cpp's names: fused query, key and value; no position table."""
    width = config.num_attention_heads * config.head_width
    table = bert.gguf_keys(config).rows  # type: ignore[arg-type]
    rows = {ours: theirs for ours, theirs in table.items() if ours != "embed.position.table"}
    fused = {f"layers.*.attention.step.{n}": Part("blk.*.attn_qkv", (width,) * 3, i) for i, n in enumerate("qkv")}
    return KeyMap({**rows, **fused, "layers.*.ffn.step.gate": "blk.*.ffn_gate"})


ARCHITECTURE = Architecture(
    "NomicBert",
    NomicBertConfig,
    build,
    keys,
    heads={
        "Model": bert.pooler,
        "ForMaskedLM": word_head,
        "ForSequenceClassification": bert.ARCHITECTURE.heads["ForSequenceClassification"],
        "ForTokenClassification": bert.token_classifier,
    },
    layouts={"gguf": gguf_keys},
    foreign_config={"gguf": bert.gguf_config},
)
