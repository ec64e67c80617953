"""Which packages and devices there are: `is_torch_available()`, `is_peft_available()`.

A package that its module does not name alone is a row of `MODULES`. Devices have functions of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from ..errors import MissingPackage

MODULES = {  # name in is_..._available -> module
    "accelerate": "accelerate", "apex": "apex", "auto_round": "auto_round", "av": "av", "bitsandbytes": "bitsandbytes",
    "bs4": "bs4", "clearml": "clearml", "comet": "comet_ml", "compressed_tensors": "compressed_tensors",
    "cv2": "cv2", "cython": "Cython", "datasets": "datasets", "deepspeed": "deepspeed", "dvclive": "dvclive",
    "faiss": "faiss", "flash_attn_2": "flash_attn", "fsdp": "torch", "gguf": "gguf", "gptqmodel": "gptqmodel",
    "hqq": "hqq", "ipython": "IPython", "jieba": "jieba", "jinja": "jinja2", "kernels": "kernels",
    "librosa": "librosa", "liger_kernel": "liger_kernel", "matplotlib": "matplotlib", "mlflow": "mlflow",
    "mistral_common": "mistral_common", "mlx": "mlx", "neptune": "neptune", "nltk": "nltk", "numba": "numba",
    "onnx": "onnx", "onnxruntime": "onnxruntime", "openai": "openai", "openvino": "openvino", "optimum": "optimum",
    "optimum_quanto": "optimum.quanto", "optuna": "optuna", "pandas": "pandas", "peft": "peft",
    "phonemizer": "phonemizer", "protobuf": "google.protobuf", "psutil": "psutil", "py3nvml": "py3nvml",
    "pyctcdecode": "pyctcdecode", "pytest": "pytest", "ray": "ray", "ray_tune": "ray.tune", "rich": "rich",
    "rjieba": "rjieba", "sacremoses": "sacremoses", "safetensors": "safetensors", "schedulefree": "schedulefree",
    "scipy": "scipy", "sentencepiece": "sentencepiece", "sklearn": "sklearn", "soundfile": "soundfile",
    "spacy": "spacy", "sudachi": "sudachipy", "swanlab": "swanlab", "tensorboard": "tensorboard",
    "tiktoken": "tiktoken", "timm": "timm", "tokenizers": "tokenizers", "torch": "torch", "torchao": "torchao",
    "torchaudio": "torchaudio", "torchvision": "torchvision", "trackio": "trackio", "triton": "triton",
    "vision": "PIL", "wandb": "wandb", "xlstm": "xlstm",
}  # fmt: skip
NEVER = frozenset(  # what no function here uses, so that a program takes its other path
    ("tf", "flax", "tensorflow_text", "keras_nlp", "speech", "torch_xla", "torch_tpu", "torch_npu", "torch_mlu",
     "torch_musa", "torch_hpu", "torch_neuroncore", "torch_neuron", "sagemaker_mp", "sagemaker_dp", "torch_fx",
     "torch_fx_proxy", "torchdistx", "tpu", "ftfy_tf", "torch_tensorrt_fx")
)  # fmt: skip


@cache
def has_module(name: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def availability(name: str) -> Callable[..., Any] | None:
    """Return the function `is_NAME_available`; None for a name that is not known."""
    kind = name.removeprefix("is_").removesuffix("_available")
    if kind not in MODULES and kind not in NEVER:
        return None

    def available(*_: Any, **__: Any) -> bool:
        return kind in MODULES and has_module(MODULES[kind])

    available.__name__ = available.__qualname__ = name
    available.__doc__ = f"Return whether {kind} is there."
    return available


def is_torch_cuda_available() -> bool:
    """Return whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def is_torch_mps_available(min_version: str | None = None) -> bool:
    """Return whether torch sees an Apple device."""
    import torch

    return torch.backends.mps.is_available()


def is_torch_xpu_available(check_device: bool = False) -> bool:
    """Return whether torch sees an Intel device."""
    import torch

    return bool(hasattr(torch, "xpu") and torch.xpu.is_available())


def is_torch_bf16_gpu_available() -> bool:
    """Return whether the CUDA device computes bfloat16."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def is_torch_tf32_available() -> bool:
    """Return whether the CUDA device has TF32 (compute capability 8)."""
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_properties(torch.cuda.current_device()).major >= 8


def is_in_notebook() -> bool:
    """Return whether the process is the kernel of a notebook."""
    import sys

    shell = sys.modules.get("IPython")
    return shell is not None and "IPKernelApp" in getattr(shell.get_ipython(), "config", ())


def is_torch_greater_or_equal(library_version: str, accept_dev: bool = False) -> bool:
    """Return whether torch is of this version or a later one."""
    return is_at_least("torch", library_version, accept_dev)


def is_peft_greater_or_equal(library_version: str, accept_dev: bool = False) -> bool:
    """Return whether peft is of this version or a later one."""
    return is_at_least("peft", library_version, accept_dev)


def is_flash_attn_greater_or_equal(library_version: str) -> bool:
    """Return whether flash_attn is of this version or a later one."""
    return is_at_least("flash_attn", library_version)


def is_flash_attn_greater_or_equal_2_10() -> bool:
    """Return whether flash_attn is of version 2.1 or a later one."""
    return is_at_least("flash_attn", "2.1.0")


def is_at_least(package: str, least: str, accept_dev: bool = False) -> bool:
    """Return whether a package is of a version or a later one; with `accept_dev` its development versions count."""
    from packaging.version import parse

    try:
        found = parse(version(package))
    except PackageNotFoundError:
        return False
    return (parse(found.base_version) if accept_dev else found) >= parse(least)


def requires_backends(owner: Any, backends: Any) -> None:
    """Raise MissingPackage for the packages that are not there, of those that an object needs."""
    names = [backends] if isinstance(backends, str) else list(backends)
    absent = [name for name in names if not has_module(MODULES.get(name, name))]
    if absent:
        who = getattr(owner, "__name__", type(owner).__name__)
        raise MissingPackage(f"{who} needs {', '.join(absent)}: pip install {' '.join(absent)}.")
