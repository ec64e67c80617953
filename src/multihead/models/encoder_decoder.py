"""Any encoder with any decoder that attends to a source (Rothe et al., 2020, arXiv:1907.12461)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from ..checkpoints.key_map import KeyMap, Rows
from ..checkpoints.tensor_sources import Source
from ..config import Config
from ..errors import UnsupportedConfig
from ..heads.heads import Head
from ..nn.stack import EncoderDecoder, Stack
from ..nn.weights import Linear
from .common.architecture import Architecture
from .common.registry import architecture, parse_config

DECODER_SUFFIXES = ("ForCausalLM", "LMHeadModel")  # of decoders that score words


@dataclass(kw_only=True)
class EncoderDecoderConfig(Config):
    """The configs of encoder and decoder, as entries of their own config.json."""

    model_type = "encoder-decoder"

    encoder: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    is_encoder_decoder: bool = True
    tie_encoder_decoder: Literal[False] = False

    def check(self) -> None:
        for side in ("encoder", "decoder"):
            if not getattr(self, side).get("model_type"):
                raise UnsupportedConfig(f"{side} must hold the entries of that side's config, with its model_type.")
        if self.source.is_encoder_decoder:
            raise UnsupportedConfig(
                f"{self.source.model_type} has two sides itself and cannot be the encoder of a pair."
            )
        if not getattr(self.target, "add_cross_attention", self.target.is_encoder_decoder):
            raise UnsupportedConfig("The decoder's config must say add_cross_attention: true, to read what is encoded.")

    @cached_property
    def source(self) -> Config:
        return parse_config(self.encoder)

    @cached_property
    def target(self) -> Config:
        return parse_config(self.decoder)

    @property
    def vocab_size(self) -> int:
        """Number of tokens that the decoder scores."""
        return self.target.vocab_size

    @property
    def hidden_size(self) -> int:
        return self.source.hidden_size


def pair(source: Config, target: Config) -> EncoderDecoderConfig:
    """Combine two configs; special tokens are the decoder's."""
    tokens = {name: getattr(target, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return EncoderDecoderConfig(encoder=source.to_dict(), decoder=target.to_dict(), **tokens)


def speaking(config: Config) -> tuple[Callable[[Any], Any], Callable[[Any], KeyMap], Any]:
    """Return the `build`, `keys` and head maker of a decoder's causal language model."""
    family = architecture(config.model_type)
    suffix = next((suffix for suffix in DECODER_SUFFIXES if suffix in family.heads), None)
    if suffix is None:
        raise UnsupportedConfig(f"{config.model_type} has no decoder that could be half of a pair.")
    build, keys = family.backbone_variants.get(suffix, (family.build, family.keys))
    return build, keys, family.heads[suffix]


def build(config: EncoderDecoderConfig) -> EncoderDecoder:
    encoder: Stack = architecture(config.source.model_type).build(config.source)  # type: ignore[assignment]
    decoder = speaking(config.target)[0](config.target)
    widths = config.source.hidden_size, config.target.hidden_size
    return EncoderDecoder(encoder, decoder, None if widths[0] == widths[1] else Linear(*widths))


def keys(config: EncoderDecoderConfig) -> KeyMap:
    source = architecture(config.source.model_type).keys(config.source)
    target = speaking(config.target)[1](config.target)
    if source.first != target.first:
        raise UnsupportedConfig("The two sides count their layers from different numbers; they cannot be a pair here.")
    prefix = word_head(config).prefix
    rows = {
        "bridge": "enc_to_dec_proj",
        **inside(source.rows, "encoder.", "encoder.", ""),
        **inside(target.rows, "decoder.", "decoder.", target.prefix if prefix is None else prefix),
    }
    return KeyMap(
        rows,
        ignored=(r"^encoder\.pooler\.", *moved("encoder", source.ignored), *moved("decoder", target.ignored)),
        computed=(*computed("encoder", source), *computed("decoder", target)),
        renamed=(*source.renamed, *target.renamed),
        split_fused=(*source.split_fused, *target.split_fused),
        aliases=tuple((f"decoder.{one}", f"decoder.{other}") for one, other in target.aliases),
    )


def inside(rows: Rows, ours: str, theirs: str, prefix: str) -> dict[str, str | Source]:
    """Return the rows of one side in the pair's key map."""
    out: dict[str, str | Source] = {}
    for path, row in rows.items():
        source = row if isinstance(row, Source) else Source(row)
        key = source.key[1:] if source.key.startswith("/") else prefix + source.key
        out[ours + path] = replace(source, key=theirs + key)
    return out


def moved(side: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return patterns of one side's names in the pair's files."""
    return tuple(
        rf"^{side}\.{pattern[1:]}" if pattern.startswith("^") else rf"^{side}\..*(?:{pattern})" for pattern in patterns
    )


def computed(side: str, table: KeyMap) -> Iterator[tuple[str, Callable[[int, int], Tensor]]]:
    """Yield one side's computed tables under their names in the pair's files."""
    for pattern, make in table.computed:
        yield moved(side, (pattern,))[0], make


def word_head(config: EncoderDecoderConfig, backbone: EncoderDecoder | None = None) -> Head:
    """Return the decoder's own language model head."""
    build_side, _, make = speaking(config.target)
    head: Head = make(config.target, backbone.decoder if backbone is not None else build_side(config.target))
    rows = inside(head.rows, "", "/decoder.", head.prefix or "")
    return replace(head, rows=rows) if backbone is not None else head


def untied_configs(config: EncoderDecoderConfig) -> Sequence[EncoderDecoderConfig]:
    """Return configs whose decoder has ever fewer tied embedding tables."""
    looser = architecture(config.target.model_type).untied_configs(config.target)
    return [config.changed(decoder=other.to_dict()) for other in looser]


ARCHITECTURE = Architecture(
    "EncoderDecoder",
    EncoderDecoderConfig,
    build,
    keys,
    heads={"ForConditionalGeneration": lambda config, backbone: replace(word_head(config, backbone), prefix=None)},
    pair_config=pair,
    untied_configs=untied_configs,
)
