"""From a model back to a folder."""

from __future__ import annotations

from pathlib import Path

from .adapters import files as adapters
from .checkpoints.folder import save_tensors
from .errors import InvalidInput, UnsupportedOption
from .hub.local import is_adapter
from .model import PreTrainedModel
from .nn.quantized import is_quantized
from .preparing import save as save_prepared


def save(model: PreTrainedModel, folder: Path, max_shard_size: int | str) -> None:
    """Writes a model as `PreTrainedModel.save_pretrained` promises."""
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
    if is_adapter(folder):
        raise InvalidInput(f"{folder} holds an adapter, which others would add to this model; use a folder of its own.")
    tensors = {} if model.prepared else model.keys.export(model)
    kind = str(model.dtype).removeprefix("torch.")
    config = model.config.changed(architectures=[type(model).__name__], dtype=kind)
    config.to_json_string()  # what cannot be written is found before anything is
    if model.prepared:
        save_prepared(model, folder)
    else:
        save_tensors(folder, tensors, shard_bytes=shard_bytes(max_shard_size))
    config.save_pretrained(folder)
    if "generation_config" in model.__dict__ and model.generation_config.chosen:
        model.generation_config.save_pretrained(folder)


def shard_bytes(size: int | str) -> int:
    """Bytes of a size such as "5GB" or "200MB". Raises InvalidInput."""
    if isinstance(size, int):
        return size
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
    for unit, scale in units.items():
        number = size.upper().removesuffix(unit)
        if number != size.upper() and number.strip().isdigit():
            return int(number) * scale
    raise InvalidInput(f"A shard size is a number of bytes, or one like '5GB' or '200MB'; not {size!r}.")
