"""What `multihead bench` measures: how a model's cost grows, and what this machine's products and memory allow."""

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
from ...nn.experts import ExpertList, StackedExperts
from ...runtime.fused_experts import ExpertLinears
from ...runtime.fused_linear_cpu import FusedLinear
from ..precision import on_cpu

if TYPE_CHECKING:
    from ...modeling.pretrained import PreTrainedModel

WRITES = ("ForCausalLM", "LMHeadModel", "MTModel", "ForConditionalGeneration")
SHAPE = 2048, 768, 3072  # rows, inputs, outputs of the product that says what the machine gives


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Args:
        lengths: tokens of one text. batches: texts of `tokens` tokens each. new: tokens that are written for a text.
        seconds: of a turn, at least. runs: turns, in which precisions alternate.
        longest: seconds of a pass from which on larger ones are left out.
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
    """Numbers in a model's matrices, and bytes of what holds them.

    Args:
        reads: of what every token of a source (or of a prompt) is multiplied with. writes: of a decoder beside an
            encoder, else those same ones. words: of the scores of the vocabulary.
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
    """One way to grow.

    Args:
        title, size, unit: what is done, what `sizes` count, and what the results do.
        units: of one run at a size. seconds: of one run of a model at a size.
        least: seconds that a run would take at the machine's limits, given rates (of operations, of bytes).
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
    """One size in one precision: units a second, turn by turn; `limit` is what the machine would give."""

    size: int
    precision: str
    limit: float | None = None
    runs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.runs)


def sweeps(model: PreTrainedModel, settings: Settings) -> list[Sweep]:
    """What is measured: an encoder reads, a decoder reads and writes, an encoder-decoder writes of a source."""
    if model.config.is_encoder_decoder:
        return [_sources(settings)]
    writes = any(isinstance(part, LanguageModel) for part in model.modules()) and model.backbone.causal
    return [_prompt(settings), _context(settings), _requests(settings)] if writes else _encoder(settings)


def _encoder(s: Settings) -> list[Sweep]:
    def seconds(model: Any, rows: int, length: int) -> float:
        ids = drawn(model, rows, length)
        return timed(lambda: model(input_ids=ids))

    def least(work: Work, rows: int, length: int, rate: float, speed: float) -> float:
        operations = 2 * work.reads * rows * length + 4 * work.layers * work.width * length**2 * rows
        return max(operations / rate, work.nbytes / speed)

    return [
        Sweep(
            "length", "One text is read", "tokens", "texts/s", s.lengths, lambda n: 1,
            lambda model, n: seconds(model, 1, n), lambda w, n, r, b: least(w, 1, n, r, b),
        ),
        Sweep(
            "batch", f"Texts of {s.tokens} tokens are read together", "texts", "texts/s", s.batches, lambda n: n,
            lambda model, n: seconds(model, n, s.tokens), lambda w, n, r, b: least(w, n, s.tokens, r, b),
        ),
    ]  # fmt: skip


def _read(work: Work, tokens: int, length: int, rate: float, speed: float) -> float:
    """Least seconds to read prompts of a decoder."""
    return max((2 * work.reads + 2 * work.layers * work.width * length) * tokens / rate, work.nbytes / speed)


def _write(work: Work, rows: int, rate: float, speed: float) -> float:
    """Least seconds of a step that writes a token of each row."""
    return max(2 * (work.writes + work.words) * rows / rate, work.nbytes / speed)


def _prompt(s: Settings) -> Sweep:
    return Sweep(
        "prompt", "A prompt is read, to its first new token", "tokens", "tokens/s", s.lengths, lambda n: n,
        lambda model, n: written(model, drawn(model, 1, n), 1),
        lambda w, n, r, b: _read(w, n, n, r, b),
    )  # fmt: skip


def _context(s: Settings) -> Sweep:
    def seconds(model: Any, length: int) -> float:
        ids = drawn(model, 1, length)
        return max(written(model, ids, s.new + 1) - written(model, ids, 1), 1e-9)

    return Sweep(
        "context", f"{s.new} tokens are written after a prompt", "before", "new tokens/s", s.lengths,
        lambda n: s.new, seconds, lambda w, n, r, b: s.new * _write(w, 1, r, b),
    )  # fmt: skip


def _requests(s: Settings) -> Sweep:
    return Sweep(
        "requests", f"Requests at once: {s.tokens} tokens are read, {s.new} written for each", "requests",
        "new tokens/s", s.batches, lambda n: n * s.new,
        lambda model, n: written(model, drawn(model, n, s.tokens), s.new),
        lambda w, n, r, b: _read(w, n * s.tokens, s.tokens, r, b) + s.new * _write(w, n, r, b),
    )  # fmt: skip


def _sources(s: Settings) -> Sweep:
    how = f"beams of {s.beams}" if s.beams > 1 else "greedy"
    return Sweep(
        "sources", f"Sources of {s.tokens} tokens, {s.new} written for each, {how}", "sources", "new tokens/s",
        s.batches, lambda n: n * s.new,
        lambda model, n: written(model, drawn(model, n, s.tokens), s.new, s.beams),
        lambda w, n, r, b: _read(w, n * s.tokens, s.tokens, r, b) + s.new * _write(w, n * s.beams, r, b),
    )  # fmt: skip


def drawn(model: PreTrainedModel, rows: int, length: int) -> Tensor:
    """Ids (rows, length), the same for all precisions; none of them ends a text or fills a gap."""
    config = model.config
    special = {getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "unk", "decoder_start")}
    seed = torch.Generator().manual_seed(rows * 100_003 + length)
    ids = torch.randint(config.vocab_size, (rows, length), generator=seed)
    plain = next(i for i in range(config.vocab_size) if i not in special)
    for one in special:
        ids[ids == (one if isinstance(one, int) else -1)] = plain
    return ids.to(model.device)


def written(model: Any, ids: Tensor, new: int, beams: int = 1) -> float:
    """Seconds to write exactly so many tokens after each row."""
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "num_beams": beams}
    return timed(lambda: model.generate(ids, **options))


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(
    sweep: Sweep,
    models: Mapping[str, PreTrainedModel],
    settings: Settings,
    limits: Mapping[str, float],
    told: Callable[[str], None] = lambda line: None,
) -> list[Cell]:
    """Every size in every precision, in alternating turns; the first run of each is not counted.

    Args:
        models: by precision. limits: as `machine_limits` gives them; empty for a device whose limits are not measured.
        told: gets what was left out, and why.
    """
    cells: list[Cell] = []
    open_ = dict(models)
    works = {precision: Work.of(model) for precision, model in models.items()}
    for size in sweep.sizes:
        here = {}
        for precision, model in list(open_.items()):
            try:
                first = sweep.seconds(model, size)
            except TextTooLong as error:
                told(f"{sweep.title}, {size} {sweep.size}: left out. {error}")
                return cells
            here[precision] = Cell(size, precision, limit(sweep, works[precision], size, precision, limits))
            if first > settings.longest:
                told(f"{sweep.title}, {precision}: no more than {size} {sweep.size}; a run took {first:.0f} s.")
                del open_[precision]
        for _ in range(settings.runs):
            for precision, cell in here.items():
                cell.runs.append(rate(sweep, models[precision], size, settings.seconds))
        cells += here.values()
    return cells


def rate(sweep: Sweep, model: PreTrainedModel, size: int, seconds: float) -> float:
    """Units a second of one turn."""
    total, runs = 0.0, 0
    began = time.perf_counter()
    while not runs or time.perf_counter() - began < seconds:
        total += sweep.seconds(model, size)
        runs += 1
    return runs * sweep.units(size) / total


def limit(sweep: Sweep, work: Work, size: int, precision: str, limits: Mapping[str, float]) -> float | None:
    """Units a second at the rates that this machine's products and memory reach."""
    product = limits.get(PRECISIONS[precision].arithmetic)
    if product is None or "bytes" not in limits or not work.width:
        return None
    return sweep.units(size) / sweep.least(work, size, product, limits["bytes"])


def machine_limits(seconds: float = 0.4) -> dict[str, float]:
    """Operations a second of torch's products in each precision, and bytes a second that a sum reads.

    "int8" is left out where torch has no such product.
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
    with suppress(AttributeError, RuntimeError):  # an operator of torch's own, which few processors have
        found["int8"] = _often(_int8_product(), operations, seconds)
    return found


def _int8_product() -> Callable[[], Any]:
    """Unsigned rows by a signed weight with a scale a row, bfloat16 out: what oneDNN has instructions for."""
    rows, inputs, outputs = SHAPE
    x = torch.randint(0, 255, (rows, inputs), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (outputs, inputs), dtype=torch.int8)
    scales, zeros = torch.full((outputs,), 0.01), torch.zeros(outputs, dtype=torch.int64)
    packed = torch.ops.onednn.qlinear_prepack(weight, [rows, inputs])
    multiply = torch.ops.onednn.qlinear_pointwise
    return lambda: multiply(x, 0.02, 128, packed, scales, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")


def _often(work: Callable[[], Any], amount: float, seconds: float) -> float:
    """Amounts a second, after a first time that is not counted."""
    work()
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        times += 1
    return times * amount / (time.perf_counter() - began)


def loaded(name: str, precision: str, device: str | None) -> PreTrainedModel:
    """A model as `multihead run` would hold it: of the class that writes where there is one, else its plain one."""
    from ...modeling.class_factory import model_class
    from ...modeling.loading import load_model
    from ...models.common.registry import architecture, find_class

    def choose(config: Any) -> Any:
        ends = architecture(config.model_type).heads
        saved = find_class((config.architectures or [""])[0])
        own = saved[1] if saved and saved[1] in ends and not saved[1].startswith(("ForMasked", "ForPre")) else None
        end = own or next((e for e in (*WRITES, "Model") if e in ends), next(iter(ends)))
        return model_class(config.model_type, end)

    if on_cpu(device) or PRECISIONS[precision].is_quantized:
        return load_model(name, choose, precision=precision, device=device)
    return load_model(name, choose, dtype=PRECISIONS[precision].torch_dtype, device=device)
