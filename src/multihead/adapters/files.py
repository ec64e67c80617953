"""Read and write adapters in folders: adapter_config.json and adapter_model.safetensors, as the peft library does."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.key_map import FLOATS, KeyMap, mistyped
from ..checkpoints.tensor_sources import Source
from ..config import read_json, write_json
from ..errors import CheckpointMismatch, InvalidInput, ModelNotFound, UnsupportedConfig, UnsupportedOption
from ..files import rebuild_folder
from ..hub import Want
from ..hub.choice import ADAPTER_CONFIG, ADAPTER_LABELS, ADAPTER_WEIGHTS
from ..hub.local import is_adapter
from ..hub.options import DownloadOptions
from . import embedding_tables
from .config import LoraConfig
from .embedding_tables import ROOT
from .layers import AdapterLayer, Lora
from .state import Adapters, activate, add_adapter, parameter_key, remove_adapter
from .targets import Target, find_prefix, find_targets, saved_parameters

# config entries of a trained head; the base's config has its own
LABELS = ("id2label", "label2id", "problem_type", "calibration")
CLASSIFIERS = ("AutoModelForSequenceClassification", "AutoModelForTokenClassification")
StoredParameter = tuple[nn.Parameter, Source, tuple[str, ...]]  # a parameter, its layout in a file, and its names there


def read_config(folder: Path) -> LoraConfig:
    """Read the config of an adapter's folder. Raises ModelNotFound if there is none."""
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelNotFound(f"{folder} has no {ADAPTER_CONFIG}, so it is no adapter.")
    return LoraConfig.from_pretrained(folder)


def base_name(folder: Path, config: LoraConfig) -> str:
    """Return the name of an adapter's base model. Raises ModelNotFound if the config does not have it."""
    if not config.base_model_name_or_path:
        raise ModelNotFound(
            f"{folder / ADAPTER_CONFIG} names no base_model_name_or_path. Load the base model yourself, then "
            f"call model.load_adapter({str(folder)!r})."
        )
    return config.base_model_name_or_path


def base_options(config: LoraConfig, place: DownloadOptions) -> DownloadOptions:
    """Return the download options of the base model: the adapter's, without those of its own repository."""
    return replace(place, revision=config.revision, subfolder="", gguf_file=None)


def find_base(folder: Path, place: DownloadOptions, *want: Want) -> tuple[Path, str]:
    """Find an adapter's base model: its folder and its name.

    Raises:
        UnsupportedOption: the base is an adapter itself. Others as `hub.resolve` does.
    """
    config = read_config(folder)
    name = base_name(folder, config)
    found = base_options(config, place).resolve(name, *want)
    if is_adapter(found):
        raise UnsupportedOption(f"{folder} is an adapter of {name}, which is an adapter itself.")
    return found, name


def saved_labels(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Read the config entries of the head that an adapter of ours has, unless a caller gives others."""
    if "num_labels" in given or "id2label" in given:
        return {}
    found = read_json(folder / ADAPTER_LABELS) if (folder / ADAPTER_LABELS).is_file() else {}
    return {name: found[name] for name in LABELS if found.get(name) is not None}


def stored_parameters(model: Any, name: str, prefix: str) -> list[StoredParameter]:
    """List all parameters of an adapter, with the names of their tensors in a file."""
    keys: KeyMap = model.keys
    known: Adapters = model.adapters
    out: list[StoredParameter] = []
    for target in find_targets(model, keys, prefix):
        out += _lora_parameters(target, name)
    own = known.copies[name]
    for part in saved_parameters(model, keys, prefix, known.configs[name].modules_to_save or []):
        key = parameter_key(part.path)
        if key in own:  # type: ignore[operator]
            out.append((own[key], part.source, tuple(ROOT + stored for stored in part.keys)))  # type: ignore[index]
    return out


def _lora_parameters(target: Target, name: str) -> list[StoredParameter]:
    """List the matrices of one target: one A, and a B (and row lengths) for each layer."""
    stem = ROOT + target.name
    out: list[StoredParameter] = []
    for layer, rows in zip(target.layers, target.rows, strict=True):
        if not isinstance(layer, AdapterLayer) or name not in layer.lora:
            continue
        lora = layer.lora[name]
        assert isinstance(lora, Lora)
        if not out:
            out.append((lora.A, Source(""), (f"{stem}.lora_A.weight",)))
        out.append((lora.B, rows, (f"{stem}.lora_B.weight",)))
        if lora.magnitude is not None:
            out.append((lora.magnitude, rows, (f"{stem}.lora_magnitude_vector",)))
    return out


def export(found: list[StoredParameter]) -> dict[str, Tensor]:
    """Return the tensors of a file, by name."""
    out: dict[str, Tensor] = {}
    for parameter, source, names in found:
        written = source.write(parameter.detach().cpu(), out.get(names[0]))
        for name, tensor in zip(names, [written] if isinstance(written, Tensor) else written, strict=True):
            out[name] = tensor.contiguous()
    return {name: tensor.clone() for name, tensor in out.items()}


def save(model: Any, folder: Path, name: str) -> None:
    """Write one adapter's folder.

    Raises:
        InvalidInput: the folder is a file, has a whole model in it, or cannot be written.
    """
    from ..checkpoints.safetensors import write

    if folder.is_file():
        raise InvalidInput(f"{folder} is a file; an adapter is saved to a folder.")
    if folder.is_dir() and any(is_model(entry.name) for entry in os.scandir(folder)):
        raise InvalidInput(f"{folder} holds a whole model, which would hide the adapter; give it a folder of its own.")
    known: Adapters = model.adapters
    tensors = embedding_tables.tables_to_save(model) | export(stored_parameters(model, name, model.keys.prefix))
    config = replace(known.configs[name], inference_mode=True)
    try:
        with rebuild_folder(folder, ADAPTER_CONFIG, lambda name: name in (*ADAPTER_WEIGHTS, ADAPTER_LABELS)) as stage:
            write(tensors, stage / ADAPTER_WEIGHTS[0])
            config.save_pretrained(stage)
            if config.modules_to_save or model.head_type.auto in CLASSIFIERS:
                entries = model.config.to_dict()
                own = {name: entries.get(name) for name in LABELS}
                if own["calibration"] is None:
                    del own["calibration"]
                write_json(stage / ADAPTER_LABELS, own)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be written: {error}.") from error


def save_all(model: Any, folder: Path) -> None:
    """Write the only adapter into `folder`; of several, each into a subfolder of its name, except "default"."""
    names = list(model.adapters.configs)
    for name in names:
        save(model, folder if len(names) == 1 or name == "default" else folder / name, name)


def replaces_parameter(model: Any, stored: str) -> bool:
    """True if an active adapter has a copy of the parameter with this stored name."""
    found = saved_parameters(model, model.keys, model.keys.prefix, [stored.rpartition(".")[0]])
    copied = {key for name in model.adapters.active for key in model.adapters.copies[name]}
    return any(parameter_key(part.path) in copied for part in found if stored in part.keys)


def is_model(name: str) -> bool:
    """True for the name of a file with a model's weights."""
    from ..checkpoints.folder import is_weights

    return is_weights(name)


ORIGINAL, CHANGED = ".original_module.", ".modules_to_save."  # the base's own module, and the adapter's copy of it


def read_tensors(folder: Path) -> tuple[str, Mapping[str, Tensor]]:
    """Return the path of a folder's weights and its tensors, under the names of current peft versions."""
    path = next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise ModelNotFound(f"{folder} has no weights of an adapter: no {' or '.join(ADAPTER_WEIGHTS)}.")
    if path.suffix == ".safetensors":
        from ..checkpoints.safetensors import SafeTensors

        stored: Mapping[str, Tensor] = SafeTensors([path])
    else:
        from ..checkpoints import torch_files

        stored = torch_files.read(path)
    embedded = [name for name in stored if ".lora_embedding_" in name]
    if embedded:
        raise UnsupportedConfig(f"{path} changes embeddings ({embedded[0]}), which is not computed here.")
    names = [name for name in stored if not (ORIGINAL in name and name.replace(ORIGINAL, CHANGED) in stored)]
    return str(path), {_current_name(name): stored[name] for name in names}


def _current_name(name: str) -> str:
    name = re.sub(r"\.modules_to_save(\.default)?\.", ".", name)
    return re.sub(r"\.lora_magnitude_vector(\.default)?\.weight$", ".lora_magnitude_vector", name)


def load(model: Any, folder: Path, name: str, trainable: bool) -> None:
    """Add the adapter of a folder to a model.

    Raises:
        CheckpointMismatch: a tensor without a place, a parameter without a tensor, or shapes that differ; all listed.
        Others: as `read_config`, `read_tensors` and `add_adapter`.
    """
    config = read_config(folder)
    source, stored = read_tensors(folder)
    prefix = find_prefix(model.keys, [key.removeprefix(ROOT) for key in stored])
    tables = embedding_tables.embedding_tables(model, prefix, stored)
    size = embedding_tables.resize_to_fit(model, tables, stored)
    before = model.adapters.active if model.adapters is not None else ()
    ranks = [len(tensor) for key, tensor in stored.items() if "lora_A" in key and tensor.ndim == 2]
    add_adapter(model, config, name, prefix, trainable=trainable, strict=False, most=max(ranks, default=None))
    try:
        found = stored_parameters(model, name, prefix)
        stored = without_copies(model, prefix, stored)
        own = export(found)
        compare(source, own, {key: tensor for key, tensor in stored.items() if key in own or key not in tables})
        embedding_tables.copy_tables(model, {key: path for key, path in tables.items() if key not in own}, stored)
        with torch.no_grad():
            for parameter, how, names in found:
                parameter.copy_(how.read(*(stored[key] for key in names)))
    except BaseException:
        remove_adapter(model, name)
        embedding_tables.undo_resize(model, size)
        if before:
            activate(model, before)
        raise


def without_copies(model: Any, prefix: str, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors without copies of the base's own, which the peft library adds for a changed head."""
    out = dict(stored)
    for target in find_targets(model, model.keys, prefix):
        copy = out.get(key := f"{ROOT}{target.name}.base_layer.weight")
        layer = target.layers[0]
        if copy is not None and isinstance(layer, AdapterLayer) and len(target.layers) == 1:
            own = layer.base_weight()
            if own.shape == copy.shape and torch.equal(own.cpu(), copy.to(own.dtype)):
                del out[key]
    return out


def compare(source: str, wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Raise CheckpointMismatch unless a file's tensors are exactly those of an adapter."""
    shapes = {key: (tuple(wanted[key].shape), tuple(stored[key].shape)) for key in wanted if key in stored}
    misshapen = {key: pair for key, pair in shapes.items() if pair[0] != pair[1]}
    missing = [key for key in wanted if key not in stored]
    unexpected = [key for key in stored if key not in wanted]
    wrong = mistyped({key: stored[key] for key in wanted if key in stored and stored[key].dtype not in FLOATS})
    if missing or misshapen or unexpected or wrong:
        advice = "The adapter was made for another model, or its files are not of one kind."
        if any(embedding_tables.is_lm_head(key) for key in unexpected):
            advice += f" Where the model's word scores are its word embeddings: {embedding_tables.UNTIE}"
        raise CheckpointMismatch(
            source, missing=missing, unexpected=unexpected, misshapen=misshapen, mistyped=wrong, advice=advice
        )
