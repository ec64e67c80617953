"""RWKV-4 (Peng et al., 2023, arXiv:2305.13048): recurrent states in place of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Shaped, Source
from ..config import Config, Count, Size
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.embeddings import Embeddings
from ..nn.stack import Stack
from ..nn.weights import Embedding, LayerNorm
from ..nn.wkv import ChannelMix, TimeChannelLayer, TimeMix
from . import llama
from .common.architecture import Architecture


@dataclass(kw_only=True)
class RwkvConfig(Config):
    model_type = "rwkv"
    aliases: ClassVar[dict[str, str]] = {"max_position_embeddings": "context_length"}

    vocab_size: Size = 50277
    context_length: Size = 1024
    hidden_size: Size = 4096
    num_hidden_layers: Count = 32
    attention_hidden_size: Size | None = None
    intermediate_size: Size | None = None
    layer_norm_epsilon: float = 1e-5
    rescale_every: int = 6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0

    def check(self) -> None:
        if self.attention_hidden_size not in (None, self.hidden_size):
            raise UnsupportedConfig(
                f"attention_hidden_size = {self.attention_hidden_size} is not hidden_size = {self.hidden_size}: the "
                "states of the time mix have hidden_size channels."
            )

    @property
    def inner(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size


def build(config: RwkvConfig) -> Stack:
    width, every = config.hidden_size, config.rescale_every

    def norm() -> LayerNorm:
        return LayerNorm(width, config.layer_norm_epsilon)

    def layer(i: int) -> TimeChannelLayer:
        return TimeChannelLayer(
            TimeMix(width, width),
            ChannelMix(width, config.inner),
            (norm(), norm()),
            share=0.5 ** (i // every) if every > 0 else 1.0,
            halves=every > 0 and (i + 1) % every == 0,
        )

    # Without layers the reference has no norm of embeddings either.
    embed = Embeddings(Embedding(config.vocab_size, width), norm=norm() if config.num_hidden_layers else None)
    layers = [layer(i) for i in range(config.num_hidden_layers)]
    return Stack(embed, layers, LayerNorm(width, 1e-5), after=True)


def keys(config: RwkvConfig) -> KeyMap:
    rows: dict[str, str | Source] = {
        "embed.token": "embeddings",
        "embed.norm": "blocks.0.pre_ln",
        "layers.*.time_norm": "blocks.*.ln1",
        "layers.*.channel_norm": "blocks.*.ln2",
        "layers.*.time.decay": "blocks.*.attention.time_decay",
        "layers.*.time.bonus": "blocks.*.attention.time_first",
        "layers.*.time.out": "blocks.*.attention.output",
        "norm": "ln_out",
    }
    flat, stored = (config.hidden_size,), (1, 1, config.hidden_size)
    for ours, theirs, names in (("time", "attention", "kvr"), ("channel", "feed_forward", "kr")):
        for name in names:
            long = {"k": "key", "v": "value", "r": "receptance"}[name]
            rows[f"layers.*.{ours}.mix_{name}"] = Shaped(f"blocks.*.{theirs}.time_mix_{long}", flat, stored)
        for name, long in (("k", "key"), ("v", "value"), ("r", "receptance")):
            rows[f"layers.*.{ours}.{name}"] = f"blocks.*.{theirs}.{long}"
    copies = (r"^head\.weight$",) if config.tie_word_embeddings else ()
    return KeyMap(rows, "rwkv.", ignored=copies)


def generate(config: RwkvConfig, backbone: Stack) -> Head:
    head = llama.generate(config, backbone)
    return head if config.tie_word_embeddings else Head(head.module, {"table": "/head"})


ARCHITECTURE = Architecture(
    "Rwkv",
    RwkvConfig,
    build,
    keys,
    heads={"Model": None, "ForCausalLM": generate},
    memory_names=("state", "use_cache"),
    reads_positions=False,
)
