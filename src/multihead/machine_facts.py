"""Facts on this machine as plain values, each with its own error; for `multihead doctor` and the server."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ._version import __version__
from .pipelines.catalog import TRAINABLE

SETTINGS = (
    "MULTIHEAD_NATIVE", "MULTIHEAD_LEVEL", "MULTIHEAD_TRITON", "MULTIHEAD_RUNNER", "MULTIHEAD_GRAPHS",
    "MULTIHEAD_KEEP_MEMORY", "OMP_NUM_THREADS",
)  # fmt: skip
FLAGS = {"AMX": "_is_amx_tile_supported", "AVX-512 BF16": "_is_avx512_bf16_supported", "VNNI": "_is_vnni_supported"}
ROWS, INPUTS, OUTPUTS = 512, 768, 3072  # of the product that is measured
SECONDS, LONG = 3.0, 0.06  # after which no measurement begins; of each measurement
ADVICE = {  # part of a reason -> advice
    "MULTIHEAD_NATIVE": "unset MULTIHEAD_NATIVE to use them",
    "MULTIHEAD_LEVEL": "unset MULTIHEAD_LEVEL to use the best one",
    "Windows": "torch computes instead",
    "no C++ compiler": "install one, then run `multihead doctor --build`",
    "cannot be written": "run `multihead doctor --build` as a user who may write there",
    "failed": "name another compiler (CXX=clang++ multihead doctor --build)",
    "cannot be run": "name another compiler (CXX=clang++ multihead doctor --build)",
}


class Package(NamedTuple):
    """Optional package that a part of this library needs."""

    module: str
    name: str
    purpose: str
    extra: str


def metrics_of(module: str) -> str:
    """Return the tasks whose training needs a module for its metrics, as a purpose."""
    tasks = (name for name, task in TRAINABLE.items() if module in (*task.packages, *task.text_packages))
    return f"metrics of {', '.join(tasks)}"


PACKAGES = (
    Package("llguidance", "llguidance", "text of a given form: JSON schemas, patterns, grammars", "structured"),
    Package("pyarrow", "pyarrow", "Parquet files", "parquet"),
    Package("PIL", "pillow", "pictures of attention", "pictures"),
    Package("matplotlib", "matplotlib", "plots of `multihead bench`", "pictures"),
    Package("yaml", "pyyaml", "`multihead train` with a YAML file", "train"),
    Package("sklearn", "scikit-learn", metrics_of("sklearn"), "train"),
    Package("scipy", "scipy", metrics_of("scipy"), "train"),
    Package("seqeval", "seqeval", metrics_of("seqeval"), "train"),
    Package("sacrebleu", "sacrebleu", metrics_of("sacrebleu"), "train"),
    Package("rouge_score", "rouge-score", metrics_of("rouge_score"), "train"),
    Package("tensorboard", "tensorboard", "curves of training", "train"),
)


def value_or_error(check: Callable[[], Any]) -> Any:
    """Return the result of a check, or `{"error": ...}`, so that one broken part does not hide the others."""
    try:
        return check()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}


def facts() -> dict[str, Any]:
    """Return all facts but speeds, ready for JSON."""
    parts: Mapping[str, Callable[[], Any]] = {
        "versions": versions, "machine": machine, "torch": torch_features, "kernels": kernels, "decoding": decoding,
        "precisions": precisions, "packages": packages, "memory": allocator,
    }  # fmt: skip
    return {name: value_or_error(check) for name, check in parts.items()}


def versions() -> dict[str, Any]:
    """Return the versions of multihead, Python and torch."""

    def torch_version() -> str:
        import torch

        return torch.__version__

    return {"multihead": __version__, "python": platform.python_version(), "torch": value_or_error(torch_version)}


def machine() -> dict[str, Any]:
    """Return processor, cores that this process may use, torch's threads, bytes of memory, environment variables."""

    def threads() -> int:
        import torch

        return torch.get_num_threads()

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": value_or_error(processor),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "threads": value_or_error(threads),
        "memory": value_or_error(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def processor() -> str:
    """Return the processor's name from the system."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def torch_features() -> dict[str, Any]:
    """Return the instructions and devices that torch finds."""
    import torch

    features: dict[str, Any] = {
        name: value_or_error(getattr(torch.cpu, flag, lambda: None)) for name, flag in FLAGS.items()
    }

    def devices() -> list[str]:
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]

    return {**features, "CUDA": value_or_error(devices)}


def kernels() -> dict[str, Any]:
    """Return the kernels in use, or the reason why there are none and advice."""
    from .kernels.cpu import native
    from .kernels.ops import BACKENDS

    level = native.level()
    reason = "" if level else native.why_not()
    built = native.built() if level else ""
    shared = all(native._openmp()) if level else None
    on_gpu = BACKENDS["triton"].reason()
    return {
        "level": level, "reason": reason, "advice": advice(reason), "built": built, "shares_threads": shared,
        "gpu": not on_gpu, "gpu_reason": on_gpu,
    }  # fmt: skip


def decoding() -> dict[str, Any]:
    """Return the decode runner that is set, and those that can run here."""
    from .runtime.select_runner import report

    return report()


def advice(reason: str) -> str:
    """Return advice if the kernels are not in use."""
    if not reason or "doctor --build" in reason:
        return ""
    return next((text for part, text in ADVICE.items() if part in reason), "run `multihead doctor --build`")


def precisions() -> dict[str, Any]:
    """Return what computes the products of each precision, and the precision that "auto" chooses here."""
    from .kernels.cpu import native
    from .kernels.quantization.registry import PRECISIONS
    from .runtime.prepare import hidden_dtype, resolve_precision

    level = native.level()
    rows: dict[str, Any] = {}
    for name, chosen in PRECISIONS.items():
        by = "torch"
        if chosen.weights is not None and level:
            by = f"kernels at {level}"
        elif chosen.is_quantized:
            by = "their definition in torch, slow"
        rows[name] = {"by": by, "states": str(hidden_dtype(name)).removeprefix("torch.")}
    return {"auto": resolve_precision("auto"), "each": rows}


def packages() -> list[dict[str, Any]]:
    """Return each optional package with its version or None, without importing it."""
    return [{**package._asdict(), "version": value_or_error(partial(version, package))} for package in PACKAGES]


def version(package: Package) -> str | None:
    """Return the version of an installed package."""
    return metadata.version(package.name) if find_spec(package.module) else None


def allocator() -> dict[str, Any]:
    """Return whether memory freed by a forward pass is kept for the next one, or why not."""
    from .kernels.malloc import retain_freed_memory

    if retain_freed_memory():
        return {"kept": True, "reason": ""}
    own = [name for name in os.environ if name.startswith("MALLOC_")]
    if os.environ.get("MULTIHEAD_KEEP_MEMORY") == "0":
        return {"kept": False, "reason": "MULTIHEAD_KEEP_MEMORY=0"}
    return {"kept": False, "reason": f"{own[0]} is set" if own else "this system's C library has no such setting"}


def speeds() -> dict[str, Any]:
    """Measure each precision and path: GFLOP/s with many rows, GB/s of weights and microseconds with one row.

    "torch" is the path without the kernels; for quantized weights it is their definition. "as loaded" is the path of
    models that were not prepared, where a few rows go through the kernels. The weights of GGUF files use the same
    paths.
    """
    import torch
    import torch.nn.functional as F

    from .kernels.cpu import native
    from .kernels.ops import linear
    from .kernels.quantization.registry import PRECISIONS
    from .runtime.fused_linear_cpu import FusedLinear
    from .runtime.prepare import hidden_dtype

    found: dict[str, Any] = {}
    seed = torch.Generator().manual_seed(0)
    weight, rows = (torch.randn(count, INPUTS, generator=seed) for count in (OUTPUTS, ROWS))
    end = time.perf_counter() + SECONDS
    with torch.inference_mode():
        for name, chosen in PRECISIONS.items():
            if chosen.needs_file:
                continue
            x = rows.to(hidden_dtype(name))
            product = FusedLinear([weight], [None], chosen.weights) if chosen.weights else None
            if product is None or not chosen.is_quantized:
                held = weight.to(x.dtype)
                paths: dict[str, Any] = {"torch": (lambda y, w=held: F.linear(y, w), held.nbytes)}
                if native.level():
                    paths["as loaded"] = (lambda y, w=held: linear(y, w)), held.nbytes
            else:
                paths = {"torch": (product.definition, product.packed.nbytes)}
            if product is not None and native.level():
                paths["kernels"] = product, product.packed.nbytes
            found[name] = {path: speed(run, x, size, end) for path, (run, size) in paths.items()}
    return found


def speed(run: Callable[[Any], Any], x: Any, size: int, end: float) -> dict[str, float | None]:
    """Return the speeds of a product with weights of `size` bytes; None if there was no time left."""
    many, one = fastest(lambda: run(x), end), fastest(lambda: run(x[:1]), end)
    return {
        "gflops": many and 2 * len(x) * INPUTS * OUTPUTS / many / 1e9,
        "gigabytes": one and size / one / 1e9,
        "microseconds": one and one * 1e6,
    }


def fastest(run: Callable[[], Any], end: float) -> float | None:
    """Return the seconds of the fastest of several calls. The first is a warm-up, and counts only if it is long."""
    begin = time.perf_counter()
    if begin > end:
        return None
    run()
    best = first = time.perf_counter() - begin
    if first > LONG:
        return first
    best = float("inf")
    while (now := time.perf_counter()) - begin < LONG + first or best == float("inf"):
        run()
        best = min(best, time.perf_counter() - now)
    return best
