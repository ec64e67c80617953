"""Reads the config of a checkpoint: config.json, or the metadata of a GGUF or Marian file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ..adapters import files as adapters
from ..checkpoints.folder import Checkpoint, open_checkpoint, read_quantized
from ..checkpoints.quantized.registry import MODELOPT_FILE, quantization_entries, without_quantization
from ..checkpoints.selected_tensors import SelectedTensors
from ..checkpoints.storage import LayerStorage, storage_by_layer
from ..config import CONFIG_FILE, Config, changed, is_open, read_json
from ..errors import ModelNotFound, UnsupportedConfig, read_errors, warn
from ..hub import Want
from ..hub.local import is_adapter
from ..hub.options import DownloadOptions
from ..models.common.gguf_settings import Settings, end_tokens, read_rotary_factors, read_windows, refuse_unread
from ..models.common.multimodal import text_half
from ..models.common.registry import architecture, model_type_of_layout, note_family, parse_config
from ..models.common.wrappers import WRAPPERS

C = TypeVar("C", bound=Config)


def load_config(name: str | os.PathLike[str], **options: Any) -> Config:
    """Return the config of a checkpoint, or of an adapter's base model; see `AutoConfig.from_pretrained`."""
    download = DownloadOptions.pop_from(options)
    path = download.resolve(name, Want.CONFIG)
    if is_adapter(path):
        options = {**adapters.saved_labels(path, options), **options}
        path, _ = adapters.find_base(path, download, Want.CONFIG)
    return changed(read_config(path), options)


def load_config_of(cls: type[C], name: Any, **options: Any) -> C:
    """Return the config of a checkpoint as a class reads it; see `Config.from_pretrained`."""
    if is_open(cls):
        note_family(cls)
        place = DownloadOptions.pop_from(options).resolve(name, Want.CONFIG)
        return changed(cls.read(read_json(place / CONFIG_FILE)), options)
    config = load_config(name, **options)
    if not isinstance(config, cls):
        raise UnsupportedConfig(
            f"{name} holds a {type(config).__name__}, which is no {cls.__name__}: load it with AutoConfig."
        )
    return config


def config_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a call's options that say where files are."""
    names = {field.name for field in fields(DownloadOptions)}
    return {name: value for name, value in options.items() if name in names}


def read_config(path: Path, checkpoint: Checkpoint | None = None, default_type: str | None = None) -> Config:
    """Return the config of a folder, or of a file that carries its own.

    Args:
        checkpoint: the open weights; opened here where they are needed and None.
        default_type: model_type of a config.json that names none.

    Raises:
        ModelNotFound: no config.json beside weights that need one. UnknownModel, UnsupportedConfig: its entries.
    """
    if path.is_dir() and (path / CONFIG_FILE).is_file() and (checkpoint is None or checkpoint.layout == "huggingface"):
        return parse_config(without_quantization(read_json(path / CONFIG_FILE)), default_type)
    checkpoint = checkpoint or open_checkpoint(path)
    if checkpoint.layout == "huggingface":
        raise ModelNotFound(f"{path} has no {CONFIG_FILE}, which says what family its weights belong to.")
    metadata = checkpoint.metadata
    name = metadata.get("general.architecture", metadata.get("dec-cell", "?"))
    model_type = model_type_of_layout(checkpoint.layout, str(name))
    with read_errors(checkpoint.source):
        if checkpoint.layout == "gguf":
            return gguf_config(checkpoint, model_type)
        entries = architecture(model_type).foreign_config[checkpoint.layout](metadata)
        return parse_config({"model_type": model_type, **entries})


def open_text(path: Path, variant: str | None = None) -> Checkpoint:
    """Open the weights of a folder or file; of a multimodal one those of its language model, with a warning.

    Quantized weights become numbers when they are read.

    Args:
        variant: part of the names of the files of weights.
    """
    checkpoint = open_checkpoint(path, variant=variant)
    if checkpoint.layout != "huggingface" or not (path / CONFIG_FILE).is_file():
        return checkpoint
    entries = read_json(path / CONFIG_FILE)
    if (quantization := quantization_of(path, entries, checkpoint)) is not None:
        checkpoint = read_quantized(checkpoint, quantization)
    half = text_half(entries)
    if half is None:
        return checkpoint
    parts = tuple(half.parts(checkpoint.tensors))
    left = len(checkpoint.tensors) - len({stored for _, stored, _ in parts})
    warn(
        f"{path} is a multimodal checkpoint ({half.outer}): its language model is loaded, a {half.text_type.family}. "
        f"{left} tensors of its other parts are not read, and inputs other than text are refused."
    )
    return replace(checkpoint, tensors=SelectedTensors(checkpoint.tensors, parts))


def quantization_of(path: Path, config: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return the settings of a folder's quantized weights.

    They are those of config.json, of NVIDIA's file beside an older one, or those of a family whose authors name none.
    """
    found = quantization_entries(config)
    if found is not None or "quantization_config" in config:
        return found
    if not (path / MODELOPT_FILE).is_file():
        wrapper = WRAPPERS.get(str(config.get("model_type")))
        unsaid = wrapper.quantization if wrapper is not None else {}
        return dict(unsaid) if unsaid and any(name.endswith("_weight_scale") for name in checkpoint.tensors) else None
    settings = read_json(path / MODELOPT_FILE).get("quantization")
    if not isinstance(settings, Mapping):
        raise UnsupportedConfig(f'{path / MODELOPT_FILE} has no table of settings under "quantization".')
    return {**settings, "quant_method": "modelopt"}


def describe_quantization(path: Path) -> str | None:
    """Return format and bits of a folder's quantized weights in a few words; None where config.json says nothing."""
    if not (path / CONFIG_FILE).is_file():
        return None
    checkpoint = open_checkpoint(path)
    entries = quantization_of(path, read_json(path / CONFIG_FILE), checkpoint)
    return None if entries is None else read_quantized(checkpoint, entries).describe_weights()


def describe_storage(path: Path) -> list[LayerStorage]:
    """Return the storage of a checkpoint's layers, quantized or not."""
    checkpoint = open_checkpoint(path)
    if checkpoint.layout == "huggingface" and (path / CONFIG_FILE).is_file():
        entries = quantization_of(path, read_json(path / CONFIG_FILE), checkpoint)
        checkpoint = checkpoint if entries is None else read_quantized(checkpoint, entries)
    return storage_by_layer(checkpoint)


def gguf_config(checkpoint: Checkpoint, model_type: str) -> Config:
    """Return the config of a GGUF file.

    Raises:
        UnsupportedConfig: a setting that is neither computed nor without effect.
    """
    settings, family = Settings(checkpoint.metadata, tuple(checkpoint.tensors)), architecture(model_type)
    entries = {"model_type": model_type, **_common_entries(checkpoint), **family.foreign_config["gguf"](settings)}
    cls = architecture(entries["model_type"]).config
    entries |= read_windows(settings, cls, entries.get("num_hidden_layers"))
    config = parse_config({**entries, **read_rotary_factors(settings, checkpoint.tensors, entries)})
    refuse_unread(settings, config)
    return config


def _common_entries(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config.json entries that a GGUF file of any family has."""
    ids = {"bos_token_id": checkpoint.metadata.get("tokenizer.ggml.bos_token_id")}
    ids["eos_token_id"] = end_tokens(checkpoint.metadata)
    ids["pad_token_id"] = checkpoint.metadata.get("tokenizer.ggml.padding_token_id")
    tied = "output.weight" not in checkpoint.tensors
    words = {"vocab_size": checkpoint.tensors.shape("token_embd.weight")[0]}  # type: ignore[attr-defined]
    return {**{k: v for k, v in ids.items() if v is not None}, "tie_word_embeddings": tied, **words}
