"""Byte Latent Transformer (Pagnoni et al., 2024, arXiv:2412.09871)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from torch import nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Interleaved, Source
from ..config import Config, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head, LanguageModel
from ..nn.byte_patches import ByteGroupEmbeddings, EntropyModel, PatchAttention, PatchedStack
from ..nn.weights import Embedding, Linear
from . import llama
from .common.architecture import Architecture
from .common.patterns import rotary_of


@dataclass(kw_only=True)
class BltPartConfig(llama.LlamaConfig):
    """The config of one of the four stacks."""

    model_type = "blt_part"
    inert: ClassVar[tuple[str, ...]] = ("rope_interleaved", "encoder_cross_output_size")
    theta: ClassVar[float] = 500000.0

    vocab_size: Size = 260
    cross_attn_all_layers: bool = False
    cross_attn_k: Size = 2
    hidden_size_global: Size = 2048
    rms_norm_eps: float = 1e-5
    dropout: float = 0.0
    sliding_window: Size | None = None
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
DEFAULTS: dict[str, dict[str, Any]] = {
    "patcher_config": {**dict(zip(SIZES, (768, 2048, 14, 12, 8192), strict=True)), "sliding_window": 512},
    "encoder_config": dict(zip(SIZES, (1024, None, 1, 16, 24576), strict=True)),
    "decoder_config": {**dict(zip(SIZES, (1024, 2816, 9, 16, 24576), strict=True)), "cross_attn_all_layers": True},
    "global_config": dict(zip(SIZES, (2048, 5632, 25, 16, 4096), strict=True)),
}


@dataclass(kw_only=True)
class BltConfig(Config):
    model_type = "blt"
    inert: ClassVar[tuple[str, ...]] = (
        *("patch_size", "patching_batch_size", "max_position_embeddings", "rope_parameters"),
    )

    vocab_size: Size = 260
    patch_in_forward: bool = True
    patching_mode: Literal["entropy"] = "entropy"  # with any other the reference makes each byte a patch
    patching_threshold: float = 1.335442066192627
    max_patch_length: Literal[None] = None
    local_attention_window_len: Size | None = 512
    cross_attn_k: Size = 2
    encoder_hash_byte_group_size: list[int] = field(default_factory=lambda: [3, 4, 5, 6, 7, 8])
    encoder_hash_byte_group_vocab: Size = 500002
    encoder_hash_byte_group_nb_functions: Size = 1
    patcher_config: dict[str, Any] = field(default_factory=dict)
    encoder_config: dict[str, Any] = field(default_factory=dict)
    decoder_config: dict[str, Any] = field(default_factory=dict)
    global_config: dict[str, Any] = field(default_factory=dict)
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False

    def check(self) -> None:
        encoder, decoder, deep = self.encoder, self.decoder, self.deep
        if encoder.cross_attn_all_layers:
            raise UnsupportedConfig("cross_attn_all_layers of the encoder: only its last layer's would have an effect.")
        if encoder.hidden_size != decoder.hidden_size or not encoder.num_hidden_layers:
            raise UnsupportedConfig("The local encoder needs layers, and the local decoder's hidden_size.")
        if {encoder.cross_attn_k, decoder.cross_attn_k} != {self.cross_attn_k}:
            raise UnsupportedConfig("cross_attn_k is not the same in the encoder, the decoder and the whole.")
        if decoder.hidden_size_global != deep.hidden_size:
            raise UnsupportedConfig("hidden_size_global of the decoder is not hidden_size of global_config.")
        if any(size < 1 for size in self.encoder_hash_byte_group_size):
            raise UnsupportedConfig("encoder_hash_byte_group_size holds numbers of bytes, of 1 and more.")

    def _part(self, name: str, **changes: Any) -> BltPartConfig:
        entries = {**DEFAULTS[name], **{k: v for k, v in getattr(self, name).items() if v is not None}, **changes}
        if not entries.get("intermediate_size"):
            entries["intermediate_size"] = int(8 * entries["hidden_size"] / 3)
        return BltPartConfig.read(entries)

    @cached_property
    def patcher(self) -> BltPartConfig | None:
        window = {k: v for k, v in self.patcher_config.items() if k == "sliding_window"}  # null is none, not 512
        return self._part("patcher_config", **window) if self.patch_in_forward else None

    @cached_property
    def encoder(self) -> BltPartConfig:
        return self._part("encoder_config", sliding_window=self.local_attention_window_len)

    @cached_property
    def decoder(self) -> BltPartConfig:
        return self._part("decoder_config", sliding_window=self.local_attention_window_len)

    @cached_property
    def deep(self) -> BltPartConfig:
        return self._part("global_config", sliding_window=None)

    @property
    def hidden_size(self) -> int:
        return self.decoder.hidden_size


def layers(config: BltPartConfig) -> list[nn.Module]:
    positions = rotary_of(config, config.head_width)
    changes = {"window": config.sliding_window, "dropout": config.dropout}
    return [
        llama.layer(config, llama.attention(config, positions, **changes), llama.feed_forward(config))
        for _ in range(config.num_hidden_layers)
    ]


def across(config: BltPartConfig) -> PatchAttention:
    heads = config.num_attention_heads
    return PatchAttention(config.hidden_size, heads, config.num_key_value_heads or heads, config.rms_norm_eps)


def build(config: BltConfig) -> PatchedStack:
    encoder, decoder, deep, patcher = config.encoder, config.decoder, config.deep, config.patcher
    embed = ByteGroupEmbeddings(
        Embedding(encoder.vocab_size, encoder.hidden_size),
        sizes=config.encoder_hash_byte_group_size,
        buckets=config.encoder_hash_byte_group_vocab,
        hashes=config.encoder_hash_byte_group_nb_functions,
        dropout=encoder.dropout,
    )
    finder = None
    if patcher is not None:
        token = Embedding(patcher.vocab_size, patcher.hidden_size)
        finder = EntropyModel(token, layers(patcher), llama.norm(patcher), config.patching_threshold)
    return PatchedStack(
        embed,
        layers(decoder),
        llama.norm(decoder),
        enter=layers(encoder),
        deep=layers(deep),
        gather=across(encoder),
        spread=[across(decoder) for _ in range(decoder.num_hidden_layers if decoder.cross_attn_all_layers else 1)],
        each=config.cross_attn_k,
        widths=(encoder.hidden_size, deep.hidden_size),
        finder=finder,
    )


def part_rows(config: BltPartConfig, ours: str, theirs: str) -> dict[str, str | Source]:
    heads = config.num_attention_heads
    counts = {"q": heads, "k": config.num_key_value_heads or heads}
    attention, stored = f"{ours}.*.attention.step", f"{theirs}.layers.*.self_attn"
    return {
        **{f"{attention}.{n}": Interleaved(f"{stored}.{n}_proj", count) for n, count in counts.items()},
        f"{attention}.v": f"{stored}.v_proj",
        f"{attention}.out": f"{stored}.o_proj",
        f"{ours}.*.attention.before": f"{theirs}.layers.*.input_layernorm",
        f"{ours}.*.ffn.before": f"{theirs}.layers.*.post_attention_layernorm",
        **{f"{ours}.*.ffn.step.{n}": f"{theirs}.layers.*.mlp.{n}_proj" for n in ("gate", "up", "down")},
    }


def keys(config: BltConfig) -> KeyMap:
    rows = {
        "embed.token": "local_encoder.embed_tokens",
        "embed.groups": "encoder_hash_tok_embedding",
        "gather_into": "local_encoder.patch_embedding_projection",
        "spread_into": "local_decoder.patch_embedding_projection",
        "norm": "local_decoder.norm",
        **part_rows(config.encoder, "enter", "local_encoder"),
        **part_rows(config.decoder, "layers", "local_decoder"),
        **part_rows(config.deep, "deep", "global_transformer"),
    }
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "o_proj", "q_norm": "q_norm", "k_norm": "k_norm"}
    for ours, theirs, number in (("gather", "local_encoder", 0), ("spread.*", "local_decoder", "*")):
        rows |= {f"{ours}.{name}": f"{theirs}.cross_attn_layers.{number}.{stored}" for name, stored in names.items()}
    if config.cross_attn_k * config.encoder.hidden_size != config.deep.hidden_size:
        rows["deep_into"] = "global_transformer.token_embedding_projection"
    if config.patcher is not None:
        rows |= part_rows(config.patcher, "finder.layers", "patcher")
        names = {"token": "embed_tokens", "norm": "norm", "table": "lm_head"}
        rows |= {f"finder.{name}": f"patcher.{stored}" for name, stored in names.items()}
    copies = (r"^lm_head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "model.", ignored=(*copies, r"rotary_emb\.inv_freq$"))


def generate(config: BltConfig, backbone: PatchedStack) -> Head:
    if config.tie_word_embeddings:
        return Head(LanguageModel(backbone.embed.token))
    return Head(LanguageModel(Linear(config.hidden_size, config.vocab_size, bias=False)), {"table": "/lm_head"})


ARCHITECTURE = Architecture("Blt", BltConfig, build, keys, heads={"Model": None, "ForCausalLM": generate})
