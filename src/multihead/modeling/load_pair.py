"""Loads an encoder-decoder from two checkpoints (Rothe et al., 2020, arXiv:1907.12461)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from ..config import Config
from ..errors import UnsupportedOption
from ..nn.empty import empty_weights
from ..nn.weights import initialize
from .base_model import BaseModel
from .loading import load_model
from .model_config import load_config

ChooseClass = Callable[[str, Config], type[BaseModel]]  # (name of an Auto class, config) -> class


def load_pair(
    cls: type[Any],
    choose: ChooseClass,
    encoder: str | os.PathLike[str],
    decoder: str | os.PathLike[str],
    **options: Any,
) -> Any:
    """Return an encoder-decoder of two checkpoints; see `SequenceToSequence.from_encoder_decoder_pretrained`."""
    if cls.architecture.pair_config is None:
        raise UnsupportedOption(f"{cls.__name__} is no pair of models; use EncoderDecoderModel.")
    config: Any = load_config(decoder)
    if hasattr(config, "add_cross_attention"):
        config = config.changed(is_decoder=True, add_cross_attention=True)
    source: Any = load_model(encoder, partial(choose, "AutoModel"), **options)
    causal = partial(choose, "AutoModelForCausalLM")
    target: Any = load_model(decoder, causal, config=config, new=r"\.cross\.", **options)
    with empty_weights():
        model = cls(cls.architecture.pair_config(source.config, target.config))
    model.backbone.encoder, model.backbone.decoder, model.head = source.backbone, target.backbone, target.head
    model.backbone.bridge.to_empty(device=source.device).to(source.dtype)
    initialize(model.backbone.bridge, getattr(config, "initializer_range", 0.02))
    return model.eval()
