"""Tiny multimodal checkpoints of the reference, for the tests of their text halves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

TEXT = {
    "vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8, "depth": 1, "num_heads": 2, "embed_dim": 16, "out_hidden_size": 32, "in_channels": 3,
}  # fmt: skip
SIZES = {**VISION, "encoder_layers": 1, "decoder_layers": 1, "num_layers": 1, "d_model": 16, "encoder_ffn_dim": 16,
         "encoder_attention_heads": 2, "output_dim": 32}  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """A multimodal model of the reference.

    Args:
        kind: its model_type. text, vision, outer: entries of its configs beside `TEXT` and the shrunk defaults.
        name: of its class, where it is not the config's with ForConditionalGeneration.
        tolerance: of the largest magnitude.
        tower: name of its config. text_name: of the text config's model_type, where it is to be said.
        alone: class of the reference that reads the text half, where it has none that scores words.
    """

    kind: str
    text_name: str = ""
    text: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=dict)
    outer: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    tower: str = "vision_config"
    alone: str = ""
    tolerance: float = 3e-6

    def config(self) -> Any:
        """Return the reference's config, all its parts as small as they can be."""
        known = CONFIG_MAPPING[self.kind]()
        text = {**TEXT, **self.text, **({"model_type": self.text_name} if self.text_name else {})}
        text.setdefault("model_type", known.get_text_config().model_type)
        parts = {"text_config": text}
        for name in known.sub_configs:
            if name != "text_config" and getattr(known, name) is not None:  # a tower may be absent
                parts[name] = small(getattr(known, name).to_dict(), self.vision)
        return CONFIG_MAPPING[self.kind](**parts, **self.outer)

    def model(self) -> Any:
        """Return the reference's model with random weights."""
        torch.manual_seed(0)
        config = self.config()
        name = self.name or type(config).__name__.removesuffix("Config") + "ForConditionalGeneration"
        model = getattr(transformers, name)._from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.2)
        return model


def small(entries: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tower's config with small sizes, where it has them."""
    out = {name: SIZES.get(name, value) for name, value in entries.items()}
    return {**out, **own}


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference, divided by the largest magnitude."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
