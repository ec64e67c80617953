"""X-MOD (Pfeiffer et al., 2022, arXiv:2205.06266): RoBERTa with an adapter of each language in each layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import KeyMap
from ..checkpoints.tensor_sources import Source
from ..config import Size
from ..errors import InvalidInput, UnsupportedConfig
from ..nn.attention.attention import Attention, CrossAttention
from ..nn.feedforward import FeedForward
from ..nn.language_adapters import LANGUAGES, AdaptedLayer, AdaptedResidual
from ..nn.layer import Residual
from ..nn.ragged import Layout
from ..nn.stack import Stack
from ..nn.weights import LayerNorm
from . import bert, roberta


@dataclass(kw_only=True)
class XmodConfig(roberta.XLMRobertaConfig):
    model_type = "xmod"

    pre_norm: bool = False
    adapter_reduction_factor: Size = 2
    adapter_layer_norm: bool = False
    adapter_reuse_layer_norm: bool = True
    ln_before_adapter: bool = True
    languages: list[str] = field(default_factory=lambda: ["en_XX"])
    default_language: str | None = None

    def check(self) -> None:
        super().check()
        if self.default_language is not None and self.default_language not in self.languages:
            raise UnsupportedConfig(f"default_language {self.default_language!r} is none of {self.languages}.")


def layer(config: XmodConfig) -> AdaptedLayer:
    width, heads, dropout = config.hidden_size, config.num_attention_heads, config.hidden_dropout_prob

    def norms() -> tuple[LayerNorm, dict[str, Any]]:
        norm = LayerNorm(width, config.layer_norm_eps)
        return norm, {"before" if config.pre_norm else "after": norm, "dropout": dropout}

    def adapter() -> FeedForward:
        return FeedForward(width, width // config.adapter_reduction_factor, config.hidden_act)

    own: dict[str, Any] = {"dropout": config.attention_probs_dropout_prob}
    cross = None
    if config.add_cross_attention:
        cross = Residual(CrossAttention(width, heads, **own), **norms()[1])
    last, options = norms()
    norm: nn.Module = last if config.adapter_reuse_layer_norm else nn.Identity()
    ffn = AdaptedResidual(
        FeedForward(width, config.intermediate_size, config.hidden_act),
        adapters=[adapter() for _ in config.languages],
        norm=LayerNorm(width, config.layer_norm_eps) if config.adapter_layer_norm else norm,
        inside=config.ln_before_adapter,
        default=None if config.default_language is None else config.languages.index(config.default_language),
        **options,
    )
    return AdaptedLayer(Residual(Attention(width, heads, causal=config.is_decoder, **own), **norms()[1]), cross, ffn)


def build(config: XmodConfig) -> Stack:
    layers = [layer(config) for _ in range(config.num_hidden_layers)]
    norm = LayerNorm(config.hidden_size, config.layer_norm_eps) if config.pre_norm else None
    return Stack(bert.embeddings(config, padding=config.pad_token_id or 0), layers, norm)


def keys(config: XmodConfig) -> KeyMap:
    place = "before" if config.pre_norm else "after"
    rows: dict[str, str | Source] = {
        **bert.EMBEDDING_ROWS,
        **{ours.replace(".after", f".{place}"): theirs for ours, theirs in bert.LAYER_ROWS.items()},
        "layers.*.ffn.norm": "encoder.layer.*.output.adapter_layer_norm",
        "norm": "encoder.LayerNorm",
    }
    for number, language in enumerate(config.languages):
        stem = f"encoder.layer.*.output.adapter_modules.{language}"
        rows[f"layers.*.ffn.adapters.{number}.up"] = f"{stem}.dense1"
        rows[f"layers.*.ffn.adapters.{number}.down"] = f"{stem}.dense2"
    ignored = (r"embeddings\.position_ids$", *bert.copies(config, "lm_head"))
    return KeyMap(rows, "roberta.", ignored=ignored, aliases=bert.aliases(config, "lm_head"))


def pack_languages(given: Tensor, layout: Layout) -> Tensor:
    """Return the language of each token, (tokens,), given that of each text, (batch,). Raises InvalidInput."""
    if given.shape != (layout.shape[0],):
        raise InvalidInput(f"lang_ids have one number a text, [{layout.shape[0]}], not {list(given.shape)}.")
    return torch.repeat_interleave(given, torch.tensor(layout.runs.lengths, device=given.device))


ARCHITECTURE = roberta.ARCHITECTURE.derive("Xmod", XmodConfig, build, keys=keys, inputs={LANGUAGES: pack_languages})
