"""Measurements of `multihead bench`: speed of a model by size, and the limits of this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...errors import TextTooLong
from ...heads.heads import LanguageModel
from ...kernels.quantization.registry import PRECISIONS
from ...modeling.checkpoint_class import running_class
from ...nn.experts import ExpertList, StackedExperts
from ...pipelines.precision import on_cpu
from ...runtime.fused_experts import ExpertLinears
from ...runtime.fused_linear_cpu import FusedLinear

if TYPE_CHECKING:
    from ...modeling.pretrained import PreTrainedModel

SHAPE = 2048, 768, 3072  # rows, inputs, outputs of the product that measures the machine


@dataclass(frozen=True)
class Settings:
    """Sizes and times of the measurements.

    Args:
        lengths: of one text, in tokens. batches: numbers of texts with `tokens` tokens each.
        new: tokens to generate for each text. seconds: shortest time of a run. runs: of each measurement.
        longest: seconds of one call after which larger sizes are left out.
    """

    lengths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    tokens: int = 64
    new: int = 32
    beams: int = 1
    seconds: float = 0.5
    runs: int = 3
    longest: float = 30.0


@dataclass(frozen=True)
class Work:
    """Weights of a model that a token is multiplied with, and their bytes.

    Args:
        reads: number of weights for a token of a source or prompt. writes: for a generated token, without the head.
        words: number of weights of the language model head. nbytes: of all weights.
        width: of hidden states. layers: of the encoder or decoder that reads.
    """

    reads: int
    writes: int
    words: int
    nbytes: int
    width: int
    layers: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Work:
        backbone: Any = model.backbone
        encoder, decoder = getattr(backbone, "encoder", backbone), getattr(backbone, "decoder", backbone)
        heads = [part for part in model.modules() if isinstance(part, LanguageModel)]
        tables = [head.packed or head.table for head in heads]
        known = {id(x): x for x in (*_matrices(backbone), *tables)}
        routed = any(
            isinstance(part, (ExpertList, StackedExperts, ExpertLinears)) for part in model.modules()
        )  # some rest each time
        first = next(_matrices(encoder), None)
        width = 0 if first is None or routed else _inputs(first)
        return cls(
            sum(map(_numbers, _matrices(encoder))),
            sum(map(_numbers, _matrices(decoder))),
            sum(_numbers(table) for table in tables),
            sum(map(_nbytes, known.values())),
            width,
            len(getattr(encoder, "layers", ())),
        )


def _matrices(module: Any) -> Iterator[nn.Module]:
    yield from (part for part in module.modules() if isinstance(part, (FusedLinear, nn.Linear)))


def _numbers(part: Any) -> int:
    return int(part.count * sum(part.parts) * part.shape[1] if isinstance(part, FusedLinear) else part.weight.numel())


def _inputs(part: Any) -> int:
    return int(part.shape[1] if isinstance(part, FusedLinear) else part.weight.shape[1])


def _nbytes(part: Any) -> int:
    return int(part.packed.nbytes if isinstance(part, FusedLinear) else part.weight.nbytes)


@dataclass(frozen=True)
class Sweep:
    """Measurement over growing sizes.

    Args:
        title: of the table. size: unit of `sizes`. unit: of the results.
        units: number of units of one call at a size. seconds: time of one call of a model at a size.
        least: seconds of a call at the machine's limits, given its operations and bytes a second.
    """

    name: str
    title: str
    size: str
    unit: str
    sizes: tuple[int, ...]
    units: Callable[[int], float]
    seconds: Callable[[Any, int], float]
    least: Callable[[Work, int, float, float], float]


@dataclass
class Cell:
    """Result of one size and precision: units a second of each run, and at the machine's limit."""

    size: int
    precision: str
    limit: float | None = None
    runs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.runs)


def sweeps(model: PreTrainedModel, settings: Settings) -> list[Sweep]:
    """Return the measurements of a model: reading for encoders, prefill and decoding for decoders, both for others."""
    if model.config.is_encoder_decoder:
        return [_sources(settings)]
    writes = any(isinstance(part, LanguageModel) for part in model.modules()) and model.backbone.continues
    return [_prompt(settings), _context(settings), _requests(settings)] if writes else _encoder(settings)


def _encoder(s: Settings) -> list[Sweep]:
    def seconds(model: Any, rows: int, length: int) -> float:
        ids = random_ids(model, rows, length)
        return timed(lambda: model(input_ids=ids))

    def least(work: Work, rows: int, length: int, rate: float, speed: float) -> float:
        operations = 2 * work.reads * rows * length + 4 * work.layers * work.width * length**2 * rows
        return max(operations / rate, work.nbytes / speed)

    return [
        Sweep(
            "length", "Reading one text", "tokens", "texts/s", s.lengths, lambda n: 1,
            lambda model, n: seconds(model, 1, n), lambda w, n, r, b: least(w, 1, n, r, b),
        ),
        Sweep(
            "batch", f"Reading texts of {s.tokens} tokens together", "texts", "texts/s", s.batches, lambda n: n,
            lambda model, n: seconds(model, n, s.tokens), lambda w, n, r, b: least(w, n, s.tokens, r, b),
        ),
    ]  # fmt: skip


def _read(work: Work, tokens: int, length: int, rate: float, speed: float) -> float:
    """Return the least seconds of the prefill of a decoder."""
    return max((2 * work.reads + 2 * work.layers * work.width * length) * tokens / rate, work.nbytes / speed)


def _write(work: Work, rows: int, rate: float, speed: float) -> float:
    """Return the least seconds of a decode step for `rows` sequences."""
    return max(2 * (work.writes + work.words) * rows / rate, work.nbytes / speed)


def _prompt(s: Settings) -> Sweep:
    return Sweep(
        "prompt", "Prefill: reading a prompt up to the first new token", "tokens", "tokens/s", s.lengths, lambda n: n,
        lambda model, n: generation_seconds(model, random_ids(model, 1, n), 1),
        lambda w, n, r, b: _read(w, n, n, r, b),
    )  # fmt: skip


def _context(s: Settings) -> Sweep:
    def seconds(model: Any, length: int) -> float:
        ids = random_ids(model, 1, length)
        return max(generation_seconds(model, ids, s.new + 1) - generation_seconds(model, ids, 1), 1e-9)

    return Sweep(
        "context", f"Decoding: {s.new} tokens after a prompt", "before", "new tokens/s", s.lengths,
        lambda n: s.new, seconds, lambda w, n, r, b: s.new * _write(w, 1, r, b),
    )  # fmt: skip


def _requests(s: Settings) -> Sweep:
    return Sweep(
        "requests", f"Requests at once: {s.tokens} tokens of prompt, {s.new} new tokens each", "requests",
        "new tokens/s", s.batches, lambda n: n * s.new,
        lambda model, n: generation_seconds(model, random_ids(model, n, s.tokens), s.new),
        lambda w, n, r, b: _read(w, n * s.tokens, s.tokens, r, b) + s.new * _write(w, n, r, b),
    )  # fmt: skip


def _sources(s: Settings) -> Sweep:
    how = f"beams of {s.beams}" if s.beams > 1 else "greedy"
    return Sweep(
        "sources", f"Sources of {s.tokens} tokens, {s.new} new tokens each, {how}", "sources", "new tokens/s",
        s.batches, lambda n: n * s.new,
        lambda model, n: generation_seconds(model, random_ids(model, n, s.tokens), s.new, s.beams),
        lambda w, n, r, b: _read(w, n * s.tokens, s.tokens, r, b) + s.new * _write(w, n * s.beams, r, b),
    )  # fmt: skip


def random_ids(model: PreTrainedModel, rows: int, length: int) -> Tensor:
    """Return ids (rows, length), the same for all precisions and without special tokens."""
    config = model.config
    special = {getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "unk", "decoder_start")}
    special.add(getattr(model.backbone, "padding", None))
    seed = torch.Generator().manual_seed(rows * 100_003 + length)
    ids = torch.randint(config.vocab_size, (rows, length), generator=seed)
    plain = next(i for i in range(config.vocab_size) if i not in special)
    for one in special:
        ids[ids == (one if isinstance(one, int) else -1)] = plain
    return ids.to(model.device)


def generation_seconds(model: Any, ids: Tensor, new: int, beams: int = 1) -> float:
    """Return the seconds to generate exactly `new` tokens after each row."""
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "num_beams": beams}
    return timed(lambda: model.generate(ids, **options))


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of a call; on a GPU, until its work is done."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(
    sweep: Sweep,
    models: Mapping[str, PreTrainedModel],
    settings: Settings,
    limits: Mapping[str, float],
    report: Callable[[str], None] = lambda line: None,
) -> list[Cell]:
    """Measure every size in every precision. Runs alternate between precisions; the first call of each is not counted.

    Args:
        models: by precision. limits: from `machine_limits`; empty for a device whose limits are not measured.
        report: called with a line for each size that is left out.
    """
    cells: list[Cell] = []
    active = dict(models)
    works = {precision: Work.of(model) for precision, model in models.items()}
    for size in sweep.sizes:
        here = {}
        for precision, model in list(active.items()):
            try:
                first = sweep.seconds(model, size)
            except TextTooLong as error:
                report(f"{sweep.title}, {size} {sweep.size}: left out. {error}")
                return cells
            here[precision] = Cell(size, precision, limit(sweep, works[precision], size, precision, limits))
            if first > settings.longest:
                report(f"{sweep.title}, {precision}: stopped after {size} {sweep.size}; a call took {first:.0f} s.")
                del active[precision]
        for _ in range(settings.runs):
            for precision, cell in here.items():
                cell.runs.append(rate(sweep, models[precision], size, settings.seconds))
        cells += here.values()
    return cells


def rate(sweep: Sweep, model: PreTrainedModel, size: int, seconds: float) -> float:
    """Return the units a second of one run."""
    total, runs = 0.0, 0
    start = time.perf_counter()
    while not runs or time.perf_counter() - start < seconds:
        total += sweep.seconds(model, size)
        runs += 1
    return runs * sweep.units(size) / total


def limit(sweep: Sweep, work: Work, size: int, precision: str, limits: Mapping[str, float]) -> float | None:
    """Return the units a second at the limits of this machine; None if they are not known."""
    product = limits.get(PRECISIONS[precision].arithmetic)
    if product is None or "bytes" not in limits or not work.width:
        return None
    return sweep.units(size) / sweep.least(work, size, product, limits["bytes"])


def machine_limits(seconds: float = 0.4) -> dict[str, float]:
    """Return operations a second of torch's matrix products by precision, and bytes a second of a sum.

    "int8" is missing if torch has no such product.
    """
    rows, inputs, outputs = SHAPE
    a, b = torch.randn(rows, inputs), torch.randn(inputs, outputs)
    low, right = a.bfloat16(), b.bfloat16()
    many = torch.ones(2**26)
    operations = 2.0 * rows * inputs * outputs
    found = {
        "fp32": _often(lambda: torch.mm(a, b), operations, seconds),
        "bf16": _often(lambda: torch.mm(low, right), operations, seconds),
        "bytes": _often(many.sum, 4.0 * many.numel(), seconds),
    }
    with suppress(AttributeError, RuntimeError):  # an internal operator of torch, for few processors
        found["int8"] = _often(_int8_product(), operations, seconds)
    return found


def _int8_product() -> Callable[[], Any]:
    """Return a call that multiplies uint8 rows by an int8 weight with a scale a row, bfloat16 out, by oneDNN."""
    rows, inputs, outputs = SHAPE
    x = torch.randint(0, 255, (rows, inputs), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (outputs, inputs), dtype=torch.int8)
    scales, zeros = torch.full((outputs,), 0.01), torch.zeros(outputs, dtype=torch.int64)
    packed = torch.ops.onednn.qlinear_prepack(weight, [rows, inputs])
    multiply = torch.ops.onednn.qlinear_pointwise
    return lambda: multiply(x, 0.02, 128, packed, scales, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")


def _often(work: Callable[[], Any], amount: float, seconds: float) -> float:
    """Return amounts a second, after a first call that is not counted."""
    work()
    start, times = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        times += 1
    return times * amount / (time.perf_counter() - start)


def load(name: str, precision: str, device: str | None) -> PreTrainedModel:
    """Load a model as `multihead run` does: with a language model head if its family has one, else its base model."""
    from ...modeling.loading import load_model

    if on_cpu(device) or PRECISIONS[precision].is_quantized:
        return load_model(name, running_class, precision=precision, device=device)
    return load_model(name, running_class, dtype=PRECISIONS[precision].torch_dtype, device=device)
