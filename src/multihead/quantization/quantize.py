"""`quantize`: a checkpoint in a quantized format of the field, layer by layer, with a report of what it costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.folder import is_weights
from ..checkpoints.quantized.format import open_format
from ..checkpoints.quantized.stored_codes import StoredCodes
from ..checkpoints.quantized.writers.base import FormatOptions, WrittenFormat, written_format
from ..checkpoints.shard_writer import ShardWriter
from ..config import CONFIG_FILE, GENERATION_FILE, write_json
from ..errors import InvalidInput, UnsupportedOption
from ..files import rebuild_folder, write_text
from ..hub import Want, resolve
from ..hub.local import is_adapter
from ..modeling.auto import AutoTokenizer
from ..modeling.base_model import BaseModel
from ..modeling.checkpoint_class import best_class
from ..modeling.loading import load_model
from ..modeling.model_config import load_config
from ..modeling.saving import shard_bytes
from ..nn.experts import StackedExperts
from ..nn.quantized_linear import is_quantized
from ..nn.weights import Linear
from ..runtime.prepare import refuse
from .activation_scales import scale_layer
from .comparison import compare
from .error_correction import correct
from .layer_tensors import LayerTensors, check_shapes, split_layers
from .passes import InputStatistics, SteppedPass, stepped_passes, whole_pass
from .report import MatrixReport, QuantizationReport
from .texts import Texts, windows

CARD, REPORT = "README.md", "quantization_report.json"
Progress = Callable[[int, int], object]  # layers that are done, and all


def quantize(
    name: str | os.PathLike[str],
    target: str | os.PathLike[str],
    format: str = "int4",
    *,
    calibration: Texts | None = None,
    samples: int = 128,
    length: int = 512,
    bits: int | None = None,
    group_size: int | None = None,
    symmetric: bool | None = None,
    act_order: bool = False,
    exclude: Sequence[str] = (),
    evaluate: Texts | None = None,
    evaluate_windows: int | None = None,
    dtype: str = "auto",
    max_shard_size: int | str = "5GB",
    progress: Progress | None = None,
) -> QuantizationReport:
    """Write a model's checkpoint in a quantized format, with its tokenizer, a model card and a report.

    The matrices of the layers are quantized; embeddings, heads, norms and the routers of experts stay as they are.
    One layer at a time is in memory as numbers, where the checkpoint is in safetensors.

    Args:
        name: a local folder or file, or a hub name; its weights may be quantized in another format.
        target: a folder, whose weights are replaced.
        format: a name in `checkpoints.quantized.writers.registry.WRITTEN`.
        calibration: a file of texts, or texts, whose activations decide how weights are rounded.
        samples, length: windows of calibration texts, and tokens of a window.
        bits, group_size, symmetric, act_order: see `FormatOptions`.
        exclude: regular expressions; matrices in whose stored name one is found stay as they are.
        evaluate: held-out texts on which the model before and after is compared. evaluate_windows: of them at most.
        dtype: of what stays; "auto" for the checkpoint's.
        progress: called after each layer.

    Raises:
        UnsupportedOption: an unknown format, or an option that it lacks. UnsupportedConfig: matrices that it cannot
            hold. InvalidInput: texts, patterns, or a target that cannot be written. Others as `load_model` does.
    """
    folder = Path(target)
    path = resolve(name, (Want.CONFIG, Want.WEIGHTS))
    if folder.is_file() or (folder.exists() and path.exists() and folder.samefile(path)):
        raise InvalidInput(f"{folder} is {'a file' if folder.is_file() else 'what is read'}. Name another folder.")
    model = load_float(name, path, dtype)
    options = FormatOptions(bits, group_size, symmetric, act_order, model.dtype)
    stacks = any(isinstance(part, StackedExperts) for part in model.modules())
    chosen = written_format(format, options, stacks=stacks)
    if chosen.calibrated and calibration is None:
        raise UnsupportedOption(f"{format} rounds by activations. Give texts: --calibration FILE (calibration=).")
    if act_order and calibration is None:
        raise UnsupportedOption("act_order goes by activations. Give texts: --calibration FILE (calibration=).")
    tokenizer = AutoTokenizer.from_pretrained(name)
    limit = min(length, model.max_positions or length)
    texts = None if calibration is None else windows(calibration, tokenizer, limit, samples)
    held_out = None if evaluate is None else windows(evaluate, tokenizer, limit, evaluate_windows)
    report = write_quantized(model, chosen, folder, texts or (), exclude, shard_bytes(max_shard_size), progress)
    report = replace(report, model=str(name))
    del model
    tokenizer.save_pretrained(folder)
    if held_out is not None:
        pair = [load_float(each, resolve(each), "float32") for each in (name, folder)]
        report = replace(report, comparison=compare(pair[0], pair[1], tokenizer, held_out))
    write_json(folder / REPORT, report.to_dict())
    write_text(folder / CARD, report.card())
    return report


def load_float(name: str | os.PathLike[str], path: Path, dtype: str) -> BaseModel:
    """Load a model's weights as numbers, adapters merged."""
    choose = best_class(load_config(name), path)
    model: BaseModel = load_model(name, choose, dtype=dtype)
    if is_adapter(path):
        model.merge_adapters()
    refuse(model, "quantized to a file")
    if is_quantized(model):
        raise UnsupportedOption(
            "A model that is quantized for training is not written; load it without load_in_...bit."
        )
    return model


def write_quantized(
    model: BaseModel,
    format: WrittenFormat,
    folder: Path,
    texts: Sequence[Sequence[int]] = (),
    exclude: Sequence[str] = (),
    size: int = 5 * 10**9,
    progress: Progress | None = None,
) -> QuantizationReport:
    """Write a model's weights and config, quantized; the model's own weights are changed by it.

    Args:
        texts: windows of tokens for calibration. exclude: patterns of stored names that stay as they are.
        size: bytes of a shard.
    """
    layers = split_layers(model, format, exclude)
    for layer in layers:
        check_shapes(format, layer, model.keys.export_some(layer.owners))
    skipped = linear_names(model, layers)
    entries = format.entries(skipped)
    config = model.config.changed(architectures=[type(model).__name__], dtype=str(model.dtype).removeprefix("torch."))
    parameters = model.num_parameters()
    gone = {GENERATION_FILE, CARD, REPORT}
    with rebuild_folder(folder, CONFIG_FILE, lambda name: is_weights(name) or name in gone) as stage:
        work = QuantizingRun(model, format, ShardWriter(stage, size), progress)
        work.run(layers, texts)
        work.writer.close()
        write_json(stage / CONFIG_FILE, {**config.to_dict(), "quantization_config": entries})
        if "generation_config" in model.__dict__ and model.generation_config.file_entries:
            model.generation_config.save_pretrained(stage)
    return QuantizationReport(
        model=str(model.name_or_path),
        format=format.name,
        description=open_format(entries).describe(),
        matrices=work.matrices,
        parameters=parameters,
        left=skipped,
        bytes_before=work.bytes_before,
        bytes_after=work.writer.total,
        calibration_tokens=sum(map(len, texts)),
    )


def linear_names(model: BaseModel, layers: Sequence[LayerTensors]) -> list[str]:
    """Return the stored names of linear layers that stay as they are, which configs list."""
    quantized = {name for layer in layers for name in layer.matrices}
    found: dict[str, None] = {}
    for layer in layers:
        for path, owner, leaf, _ in layer.owners:
            if isinstance(owner, nn.Linear) and leaf == "weight":
                names = model.keys.written_names(path)
                found |= dict.fromkeys(name.removesuffix(".weight") for name in names if name not in quantized)
    found |= {alias.rpartition(".")[0]: None for _, alias in model.keys.aliases}
    table = getattr(model.head, "table", None)
    if isinstance(table, nn.Embedding):  # tied: a linear layer to others
        rows = (
            ()
            if model._head is None
            else [row if isinstance(row, str) else row.key for row in model._head.rows.values()]
        )
        found["cls.predictions.decoder" if any(row.startswith("/cls.") for row in rows) else "lm_head"] = None
    return list(found)


@dataclass
class QuantizingRun:
    """The state of one run: the model, what is written, and what is known of each matrix.

    Args:
        progress: see `quantize`.
    """

    model: BaseModel
    format: WrittenFormat
    writer: ShardWriter
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.matrices: list[MatrixReport] = []
        self.bytes_before = 0
        self.done = 0

    def run(self, layers: Sequence[LayerTensors], texts: Sequence[Sequence[int]]) -> None:
        """Write all layers, each after calibration passes have reached it where there are texts."""
        left = {layer.path: layer for layer in layers}
        count = len(left)
        if texts:
            modules = {path: self.model.get_submodule(path) for path, layer in left.items() if layer.matrices}
            with stepped_passes([whole_pass(self.model, window) for window in texts], modules) as passes:
                for each in passes:
                    each.resume()
                while (path := next((each.at for each in passes if each.at), None)) is not None:
                    self._calibrate(left.pop(path), [each for each in passes if each.at == path], count)
        for layer in left.values():  # in no layer, or never reached
            self._write(layer, None, count)

    def _calibrate(self, layer: LayerTensors, passes: Sequence[SteppedPass], count: int) -> None:
        paths = {path for paths in layer.matrices.values() for path in paths}
        # a stack of experts has inputs of several kinds
        found = {path: self.model.get_submodule(path) for path in paths}
        modules = {path: module for path, module in found.items() if isinstance(module, Linear)}
        statistics = InputStatistics(modules)
        for each in passes:
            each.resume()
        statistics.close()
        if self.format.rescales:
            assert self.format.grid is not None
            scale_layer(self.model.get_submodule(layer.path), layer.path, statistics, self.format.grid)
        self._write(layer, statistics, count)
        for each in passes:
            each.resume()

    def _write(self, layer: LayerTensors, statistics: InputStatistics | None, count: int) -> None:
        """Quantize a layer and write it; its parameters become what readers will see."""
        keys = self.model.keys
        tensors = keys.export_some(layer.current())
        if not layer.path:
            tensors |= {keys.prefix + key: value for key, value in keys.constants}
        self.bytes_before += sum(x.nbytes for x in tensors.values())
        rounded: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if name not in layer.matrices:
                self.writer.add(name, tensor)
                continue
            paths = layer.matrices[name]
            sums = None if statistics is None else statistics.sums.get(paths[0])
            weight = tensor.float()
            codes = self._round(weight, sums)
            numbers = codes.numbers(torch.float32)
            tokens = 0 if statistics is None else statistics.tokens.get(paths[0], 0)
            self._add(name, layer.path, codes, measure(weight, numbers, sums), tokens)
            rounded[name] = numbers
        if rounded:
            keys.fill_some(layer.current(), {**tensors, **rounded})
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, count)

    def _round(self, weight: Tensor, sums: Tensor | None) -> StoredCodes:
        grid = self.format.grid
        if sums is None or grid is None:
            return self.format.round(weight)
        if self.format.rescales:
            return grid.round(weight, importance=sums.diagonal())
        return correct(weight, sums, grid, act_order=self.format.options.act_order, regroup=self.format.regroups)

    def _add(self, name: str, layer: str, codes: StoredCodes, error: tuple[float, float], tokens: int) -> None:
        """Write the tensors of a matrix and keep what is known of it."""
        shape = codes.form or codes.shape
        parts = self.format.pack(codes)
        for part, tensor in parts.items():
            self.writer.add(self.format.stored_name(name, part), tensor)
        bits = sum(x.nbytes for x in parts.values()) * 8 / max(1, torch.Size(shape).numel())
        self.matrices.append(MatrixReport(name, layer, tuple(shape), bits, *error, tokens))


def measure(weight: Tensor, rounded: Tensor, sums: Tensor | None) -> tuple[float, float]:
    """Return the sums of squares of what rounding changes and of what there was.

    Args:
        weight, rounded: (outputs, inputs). sums: of x xT over tokens, (inputs, inputs): squares are those of outputs;
            None for those of the weights.
    """
    change = rounded - weight
    if sums is None:
        return float(change.square().sum()), float(weight.square().sum())
    # the trace of E S ET
    return tuple(max(0.0, float((x @ sums).mul_(x).sum())) for x in (change, weight))  # type: ignore[return-value]
