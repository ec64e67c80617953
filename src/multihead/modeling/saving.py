"""Saves a model to a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..adapters import files as adapters
from ..checkpoints.folder import is_weights, save_tensors
from ..config import CONFIG_FILE, GENERATION_FILE
from ..errors import InvalidInput, MultiheadError, UnsupportedOption
from ..files import rebuild_folder
from ..hub.local import is_adapter
from ..hub.push import pop_upload
from ..nn.empty import empty_weights
from ..nn.own_names import own_modules
from ..nn.quantized_linear import is_quantized
from ..runtime.prepared_files import save as save_prepared
from .base_model import BaseModel

USUAL = {"save_peft_format": True, "save_original_format": True, "distributed_checkpoint": False}  # what is always done


def save_and_push(model: Any, folder: Path, options: Mapping[str, Any]) -> None:
    """Save a model, and upload the folder where `push_to_hub=True` says so; see `save` and `PushToHub`."""
    given = dict(options)
    upload = pop_upload(given, folder)
    save(model, folder, **given)
    if upload is not None and given.get("is_main_process", True):
        model.push_to_hub(**upload)


def save(
    model: Any,
    folder: Path,
    is_main_process: bool = True,
    state_dict: Mapping[str, Tensor] | None = None,
    max_shard_size: int | str = "5GB",
    *,
    save_function: Callable[..., Any] | None = None,
    safe_serialization: bool = True,
    variant: str | None = None,
    **options: Any,
) -> None:
    """Save a model; see `PreTrainedModel.save_pretrained`.

    Args:
        is_main_process: False writes nothing: of several processes, one writes.
        state_dict: weights by the model's own names, instead of those that it holds: gathered from several devices.
        save_function: is not called; accelerate's recipe gives one, and safetensors are written without it.
        variant: part of the names of the files of weights, beside those of other variants: model.fp16.safetensors.

    Raises:
        UnsupportedOption: `safe_serialization=False` (pickles are read here and never written), an option that is not
            known. InvalidInput: the folder cannot be written, or weights that are not the model's.
    """
    if not safe_serialization:
        raise UnsupportedOption("safe_serialization=False: weights are written as safetensors alone.")
    if asked := [name for name, value in options.items() if value is not None and value is not USUAL.get(name)]:
        raise UnsupportedOption(f"save_pretrained has no option {asked[0]!r}.")
    if is_main_process:
        whole = model if state_dict is None else with_weights(model, state_dict)
        write(whole, folder, shard_bytes(max_shard_size), variant)


def with_weights(model: BaseModel, weights: Mapping[str, Tensor]) -> BaseModel:
    """Return a model like another with these weights. Raises InvalidInput where names or shapes differ."""
    if model.adapters is not None or model.prepared or model.own_parts:
        raise UnsupportedOption("state_dict is for a model without adapters or parts of its own that is not prepared.")
    with empty_weights():
        other = type(model)(model.config)
    try:
        other.load_state_dict({name: tensor.detach() for name, tensor in weights.items()}, assign=True)
    except RuntimeError as error:
        raise InvalidInput(f"state_dict does not hold the weights of this {type(model).__name__}: {error}") from error
    other.__dict__.update({name: model.__dict__[name] for name in ("generation_config",) if name in model.__dict__})
    return other


def write(model: Any, folder: Path, size: int, variant: str | None = None) -> None:
    """Write a model in shards of at most `size` bytes. Raises UnsupportedOption, InvalidInput."""
    if folder.is_file():
        raise InvalidInput(f"{folder} is a file; save_pretrained needs a folder.")
    if model.adapters is not None:
        adapters.save_all(model, folder)
        return
    if is_quantized(model):
        raise UnsupportedOption(
            "A quantized model is not written: no format here holds its codes. Save the adapters that were trained "
            "beside it, or write the checkpoint that it was loaded from."
        )
    if buffers := own_buffers(model):
        raise UnsupportedOption(
            f"{type(model).__name__} keeps numbers that are no parameters and are not written: {', '.join(buffers)}. "
            "Make them parameters with requires_grad=False, or buffers with persistent=False."
        )
    if variant is not None and model.prepared:
        raise UnsupportedOption("variant is for weights as a checkpoint has them, not for a model that was prepared.")
    if is_adapter(folder):
        raise InvalidInput(f"{folder} holds an adapter, which others would add to this model; use a folder of its own.")
    tensors = {} if model.prepared else model.stored_tensors()
    kind = str(model.dtype).removeprefix("torch.")
    config = model.config.changed(architectures=[type(model).__name__], dtype=kind)

    def replaced(name: str) -> bool:
        return is_weights(name, variant) or name == GENERATION_FILE

    config.to_json_string()  # what cannot be written is found before anything is
    try:
        with rebuild_folder(folder, CONFIG_FILE, replaced) as stage:
            if model.prepared:
                save_prepared(model, stage)
            else:
                save_tensors(stage, tensors, shard_bytes=size, variant=variant)
            config.save_pretrained(stage)
            if "generation_config" in model.__dict__ and model.generation_config.file_entries:
                model.generation_config.save_pretrained(stage)
    except OSError as error:
        if isinstance(error, MultiheadError):
            raise
        raise InvalidInput(f"{folder} cannot be written: {error}.") from error


def own_buffers(model: BaseModel) -> list[str]:
    """Return the names of persistent buffers in the parts that a subclass added; no family has any."""
    if not model.own_parts:
        return []
    return [
        f"{path}.{leaf}"
        for path, owner in own_modules(model, remove_duplicate=False)
        if path.partition(".")[0] in model.own_parts
        for leaf, value in owner._buffers.items()
        if value is not None and leaf not in owner._non_persistent_buffers_set
    ]


def shard_bytes(size: int | str) -> int:
    """Parse a size such as "5GB" or "200MB" to bytes. Raises InvalidInput."""
    if isinstance(size, int):
        return size
    powers = {"K": 1, "M": 2, "G": 3, "T": 4}
    said = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(I?)B\s*", size.upper())
    if said is not None:
        return int(float(said[1]) * (1024 if said[3] else 1000) ** powers[said[2]])
    raise InvalidInput(f"A shard size is a number of bytes, or one like '5GB' or '200MB'; not {size!r}.")
