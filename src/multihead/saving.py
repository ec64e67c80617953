"""From a model back to a folder."""

from __future__ import annotations

import re
from pathlib import Path

from .adapters import files as adapters
from .checkpoints.folder import is_weights, save_tensors
from .config import CONFIG_FILE, GENERATION_FILE
from .errors import InvalidInput, MultiheadError, UnsupportedOption
from .files import rebuilt
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
    if buffers := own_buffers(model):
        raise UnsupportedOption(
            f"{type(model).__name__} keeps numbers that are no parameters and are not written: {', '.join(buffers)}. "
            "Make them parameters with requires_grad=False, or buffers with persistent=False."
        )
    if is_adapter(folder):
        raise InvalidInput(f"{folder} holds an adapter, which others would add to this model; use a folder of its own.")
    tensors = {} if model.prepared else model.keys.export(model)
    kind = str(model.dtype).removeprefix("torch.")
    config = model.config.changed(architectures=[type(model).__name__], dtype=kind)
    config.to_json_string()  # what cannot be written is found before anything is
    size = shard_bytes(max_shard_size)
    try:
        with rebuilt(folder, CONFIG_FILE, lambda name: is_weights(name) or name == GENERATION_FILE) as stage:
            if model.prepared:
                save_prepared(model, stage)
            else:
                save_tensors(stage, tensors, shard_bytes=size)
            config.save_pretrained(stage)
            if "generation_config" in model.__dict__ and model.generation_config.chosen:
                model.generation_config.save_pretrained(stage)
    except OSError as error:
        if isinstance(error, MultiheadError):
            raise
        raise InvalidInput(f"{folder} cannot be written: {error}.") from error


def own_buffers(model: PreTrainedModel) -> list[str]:
    """Names of persistent buffers in the parts that a subclass added: no family has any."""
    if not model.own_parts:
        return []
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return [n for n in model.state_dict() if n not in parameters and n.partition(".")[0] in model.own_parts]


def shard_bytes(size: int | str) -> int:
    """Bytes of a size such as "5GB" or "200MB". Raises InvalidInput."""
    if isinstance(size, int):
        return size
    powers = {"K": 1, "M": 2, "G": 3, "T": 4}
    said = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(I?)B\s*", size.upper())
    if said is not None:
        return int(float(said[1]) * (1024 if said[3] else 1000) ** powers[said[2]])
    raise InvalidInput(f"A shard size is a number of bytes, or one like '5GB' or '200MB'; not {size!r}.")
