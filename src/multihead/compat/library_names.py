"""Names that libraries over the reference need when they are imported themselves."""

from __future__ import annotations

import ast
import json
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import update_wrapper
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import nn

from .._version import __version__
from ..errors import MissingName, ModelNotFound
from ..training.reporting.loggers import LOGGERS
from .constants import ADAPTER_CONFIG_NAME
from .seeds import set_seed

if torch.distributed.is_available():  # libraries reach it by its path, since the reference imports it
    import_module("torch.distributed.tensor")


def http_user_agent(user_agent: Mapping[str, Any] | str | None = None) -> str:
    """Return the name of this library, as a request to a server gives it."""
    own = f"multihead/{__version__}; python/{platform.python_version()}"
    if isinstance(user_agent, Mapping):
        return "; ".join([own, *(f"{name}/{value}" for name, value in user_agent.items())])
    return f"{own}; {user_agent}" if user_agent else own


class GenericForSequenceClassification:
    """Base of classes in the reference; none here derives from it, so that its attributes change nothing."""


class GradientCheckpointingLayer(nn.Module):
    """Base of layers whose activations are computed again in the backward pass; the layers here are none of it."""

    gradient_checkpointing = False


class PeftAdapterMixin:
    """Base of classes that hold adapters of the package peft; the models here have adapters of their own."""


def copy_func(f: Any) -> Any:
    """Return a function that does the same as another one, and can have a docstring of its own."""
    copy = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    copy.__kwdefaults__ = f.__kwdefaults__
    return update_wrapper(copy, f)


def extract_commit_hash(resolved_file: str | None, commit_hash: str | None = None) -> str | None:
    """Return the commit of a file in the cache of the hub; None for another file."""
    if resolved_file is None or commit_hash is not None:
        return commit_hash
    found = re.search(r"snapshots/([0-9a-f]{40})/", Path(resolved_file).as_posix())
    return found[1] if found else None


def default_logdir() -> str:
    """Return a folder for the logs of a run: `runs/`, the time and the machine."""
    now = datetime.now().strftime("%b%d_%H-%M-%S")
    return str(Path("runs", f"{now}_{socket.gethostname()}"))


def get_available_reporting_integrations() -> list[str]:
    """Return the names for `report_to` whose packages are installed."""
    return [name for name in LOGGERS if find_spec(name) is not None]


def is_sagemaker_mp_enabled() -> bool:
    """Return False: SageMaker's parallelism is not used here."""
    return False


def is_torch_fx_proxy(x: Any) -> bool:
    """Return whether a value stands for a tensor while torch.fx reads a program."""
    return isinstance(x, torch.fx.Proxy)


def seed_worker(worker_id: int, num_workers: int, rank: int) -> None:
    """Give a process of a data loader random numbers of its own."""
    set_seed(torch.initial_seed() % 2**32 + num_workers * rank)


def custom_object_save(*args: Any, **options: Any) -> list[str]:
    """Return no files: code is not saved beside a checkpoint, and never run from one."""
    return []


def is_torchdynamo_compiling() -> bool:
    """Return whether torch.compile reads the program."""
    return torch.compiler.is_compiling()


def is_flash_attention_requested(config: Any = None, requested_attention_implementation: str | None = None) -> bool:
    """Return whether an attention implementation is the package flash_attn's."""
    name = requested_attention_implementation or getattr(config, "_attn_implementation", None)
    return isinstance(name, str) and "flash" in name


def lazy_import_flash_attention(*args: Any, **options: Any) -> Any:
    """Raise MissingName: attention here does not call the package flash_attn."""
    raise MissingName("lazy_import_flash_attention: attention here does not call the package flash_attn.")


def get_class_from_dynamic_module(class_reference: str, *args: Any, **options: Any) -> Any:
    """Raise MissingName: code of a checkpoint is never run here."""
    raise MissingName(f"get_class_from_dynamic_module({class_reference!r}): code of a checkpoint is never run here.")


def load_image(*args: Any, **options: Any) -> Any:
    """Raise MissingName: there are no images here."""
    raise MissingName("load_image has no meaning in multihead: it is for images.")


def get_relative_import_files(module_file: str | Path) -> list[str]:
    """Return the files that a file of Python imports relatively, and those that these import."""
    found: list[str] = []
    waiting = [Path(module_file)]
    while waiting:
        file = waiting.pop()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                paths = [file.parent / f"{name.replace('.', '/')}.py" for name in names]
                new = [path for path in paths if path.is_file() and str(path) not in found]
                found += map(str, new)
                waiting += new
    return found


def cached_file(path_or_repo_id: Any, filename: str, **options: Any) -> str | None:
    """Return the path of a file of a folder or a repository of the hub.

    Args:
        options: those of huggingface_hub's `hf_hub_download`; others are of no meaning, but for
            `_raise_exceptions_for_missing_entries=False`, which returns None for a file that is not there.

    Raises:
        ModelNotFound: no such file in the folder. Errors of huggingface_hub: no such repository, no connection.
    """
    quiet = options.get("_raise_exceptions_for_missing_entries") is False
    if Path(path_or_repo_id).is_dir():
        path = Path(path_or_repo_id, options.get("subfolder") or "", filename)
        if path.is_file():
            return str(path)
        if quiet:
            return None
        raise ModelNotFound(f"{path_or_repo_id} has no file {filename}.")
    hub = import_module("huggingface_hub")
    known = ("cache_dir", "force_download", "token", "revision", "local_files_only", "subfolder", "repo_type")
    given = {name: options[name] for name in known if options.get(name)}
    try:
        return str(hub.hf_hub_download(str(path_or_repo_id), filename, **given))
    except hub.errors.EntryNotFoundError:
        if quiet:
            return None
        raise


def get_checkpoint_shard_files(
    pretrained_model_name_or_path: Any, index_filename: Any, **options: Any
) -> tuple[list[str], dict[str, Any]]:
    """Return the paths of the shards that an index names, and the index's metadata, with its `weight_map`."""
    index = json.loads(Path(index_filename).read_text(encoding="utf-8"))
    metadata = {**index.get("metadata", {}), "all_checkpoint_keys": list(index["weight_map"])}
    metadata["weight_map"] = dict(index["weight_map"])
    shards = sorted(set(index["weight_map"].values()))
    return [str(cached_file(pretrained_model_name_or_path, shard, **options)) for shard in shards], metadata


def find_adapter_config_file(model_id: Any, **options: Any) -> str | None:
    """Return the path of adapter_config.json of a folder or a repository; None without one."""
    if model_id is None:
        return None
    return cached_file(model_id, ADAPTER_CONFIG_NAME, **{**options, "_raise_exceptions_for_missing_entries": False})


def _get_template_variables(chat_template: str | None) -> frozenset[str]:
    """Return the names that a chat template reads."""
    if chat_template is None:
        return frozenset()
    meta, sandbox = import_module("jinja2.meta"), import_module("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    return frozenset(meta.find_undeclared_variables(environment.parse(chat_template)))


def rounded(value: Any) -> str:
    """Return a value as text, a float with four places at most."""
    return f"{value:.4f}".rstrip("0").removesuffix(".") if isinstance(value, float) else str(value)


def make_markdown_table(lines: Sequence[Mapping[str, Any]] | None) -> str:
    """Return rows as a table of Markdown; the first row names the columns. Numbers have four places."""
    if not lines:
        return ""
    names = [str(name) for name in lines[0]]
    rows = [
        [f"{value:.4f}".rstrip("0") if isinstance(value, float) else str(value) for value in row.values()]
        for row in lines
    ]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    table = [names, [":" + "-" * (width - 2) + ":" if width > 2 else ":-:" for width in widths], *rows]
    cells = [[cell.center(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


_MODEL_TO_CONVERSION_PATTERN: dict[str, str] = {}  # no model needs another one's conversion


def get_checkpoint_conversion_mapping(model_type: str) -> None:
    """Return None: a model has the names of its own parts here, and key maps read the files."""


def get_model_conversion_mapping(model: Any, *args: Any, **options: Any) -> list[Any]:
    """Return no conversions: as `get_checkpoint_conversion_mapping`."""
    return []


def nested_gather(tensors: Any, parallel_mode: Any = None, name: str | None = None) -> Any:
    """Return the tensors: a process has one device here."""
    return tensors


def deepspeed_config() -> None:
    """Return None: DeepSpeed is not used here."""


def unset_hf_deepspeed_config() -> None:
    """Do nothing: DeepSpeed is not used here."""


class HfDeepSpeedConfig:
    """A config of DeepSpeed, which is not used here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise MissingName("HfDeepSpeedConfig: DeepSpeed is not used here; TrainingArguments(fsdp=True) shards a model.")
