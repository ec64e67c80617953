"""Names of files and other constants, as programs import them."""

from __future__ import annotations

from typing import Any

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "pytorch_model.bin"
WEIGHTS_INDEX_NAME = "pytorch_model.bin.index.json"
SAFE_WEIGHTS_NAME = "model.safetensors"
SAFE_WEIGHTS_INDEX_NAME = "model.safetensors.index.json"
GENERATION_CONFIG_NAME = "generation_config.json"
MODEL_CARD_NAME = "modelcard.json"
ADAPTER_CONFIG_NAME = "adapter_config.json"
ADAPTER_WEIGHTS_NAME = "adapter_model.bin"
ADAPTER_SAFE_WEIGHTS_NAME = "adapter_model.safetensors"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_MAP_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
FULL_TOKENIZER_FILE = "tokenizer.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
TRAINING_ARGS_NAME = "training_args.bin"
TRAINER_STATE_NAME = "trainer_state.json"
OPTIMIZER_NAME = "optimizer.pt"
OPTIMIZER_NAME_BIN = "optimizer.bin"
SCHEDULER_NAME = "scheduler.pt"
SCALER_NAME = "scaler.pt"
NLTK_IMPORT_ERROR = "{0} needs the package nltk: pip install nltk."
SPIECE_UNDERLINE = SENTENCEPIECE_UNDERLINE = "▁"
VERY_LARGE_INTEGER = int(1e30)  # the length of texts without a limit
LARGE_INTEGER = int(1e20)
ENV_VARS_TRUE_VALUES = {"1", "ON", "YES", "TRUE"}


def __getattr__(name: str) -> Any:
    if name == "ALL_LAYERNORM_LAYERS":  # needs torch
        from torch import nn

        return [nn.LayerNorm]
    raise AttributeError(name)
