"""Names that libraries over the reference need when they are imported themselves."""

from __future__ import annotations

import ast
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._version import __version__
from ..errors import MissingName, ModelNotFound
from .constants import ADAPTER_CONFIG_NAME

if torch.distributed.is_available():  # libraries reach it by its path, since the reference imports it
    import_module("torch.distributed.tensor")


def http_user_agent(user_agent: Mapping[str, Any] | str | None = None) -> str:
    """Return the name of this library, as a request to a server gives it."""
    own = f"multihead/{__version__}; python/{platform.python_version()}"
    if isinstance(user_agent, Mapping):
        return "; ".join([own, *(f"{name}/{value}" for name, value in user_agent.items())])
    return f"{own}; {user_agent}" if user_agent else own


class GradientCheckpointingLayer(nn.Module):
    """Base of layers whose activations are computed again in the backward pass; the layers here are none of it."""

    gradient_checkpointing = False


class PeftAdapterMixin:
    """Base of classes that hold adapters of the package peft; the models here have adapters of their own."""


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
