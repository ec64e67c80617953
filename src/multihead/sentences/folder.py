"""Folders in the format of sentence-transformers (sbert.net): a transformer, further modules, prompts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ..checkpoints.folder import open_checkpoint, save_tensors
from ..checkpoints.key_map import FLOATS, mistyped
from ..config import CONFIG_FILE, Size, parse_json, read_json, write_json
from ..errors import CheckpointMismatch, CorruptFile, ModelNotFound, UnsafeFile, UnsupportedConfig, nearest, read_errors
from ..nn.empty import empty_weights
from .modules import EMBEDDING, MODULES, NAMES, SentenceModule, read_entry

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
TEXT_FILE = "sentence_bert_config.json"
TEXT_FILES = [TEXT_FILE, *(f"sentence_{name}_config.json" for name in
                ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"))]  # fmt: skip
PACKAGE = "sentence_transformers."
OWN_TRANSFORMER = "custom_st.Transformer"  # in folders with code of their own; it takes a task in addition
PYLATE_DENSE = "pylate.models.Dense.Dense"  # a Dense of token embeddings
TASKS = {"feature-extraction": "last_hidden_state", "sequence-classification": "logits", "fill-mask": "logits"}
LOADERS = {
    "feature-extraction": "SentenceEncoder",
    "sequence-classification": "CrossEncoder",
    "fill-mask": "SparseEncoder",
}
# Loading arguments of Transformers that change no result here.
INERT = {"trust_remote_code", "attn_implementation", "low_cpu_mem_usage", "padding_side", "use_fast", "revision"}


@dataclass(frozen=True)
class Settings:
    """Entries of config_sentence_transformers.json.

    Args:
        prompts: name -> text before every sentence. default_prompt_name: used when a call names no prompt.
        similarity_fn_name: such as "cosine". truncate_dim: dimensions of an embedding to keep.
        max_active_dims: weights of a sparse embedding to keep. entries: all entries of the file.
        activation_fn: dotted name of the activation of a cross-encoder's scores.
    """

    prompts: Mapping[str, str | None] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    max_active_dims: int | None = None
    activation_fn: str | None = None
    model_type: str | None = None
    entries: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read the entries of a file. Raises UnsupportedConfig for an entry of a wrong type, CorruptFile."""
        entries = read_json(path) if path.is_file() else {}
        kinds: dict[str, Any] = {"default_prompt_name": str, "similarity_fn_name": str, "activation_fn": str}
        kinds |= {"truncate_dim": Size, "max_active_dims": Size}
        known = {name: read_entry(entries, name, kind | None, None, str(path)) for name, kind in kinds.items()}
        prompts = read_entry(entries, "prompts", dict | None, None, str(path)) or {}
        for name, text in prompts.items():
            if not isinstance(text, str | None):
                raise UnsupportedConfig(f"{path}: the prompt {name!r} is {text!r}; it must be a text.")
        kind = read_entry(entries, "model_type", str | None, None, str(path))
        return cls(prompts=prompts, model_type=kind, entries=entries, **known)

    def chosen(
        self, prompts: Mapping[str, str] | None, default_prompt_name: str | None, similarity_fn_name: str | None
    ) -> dict[str, Any]:
        """Return an encoder's arguments: those that a caller gives, else the file's; prompts of both."""
        saved = {name: text or "" for name, text in self.prompts.items()}
        default = self.default_prompt_name if default_prompt_name is None else default_prompt_name
        return {
            "prompts": {**saved, **(prompts or {})},
            "default_prompt_name": default,
            "similarity_fn_name": similarity_fn_name or self.similarity_fn_name,
        }


@dataclass(frozen=True)
class Folder:
    """Contents of modules.json.

    Args:
        root: the folder. transformer: the folder of the transformer.
        steps: (class, folder) of each further module; None for a checkpoint without modules.json.
        text_settings: entries of sentence_bert_config.json.
    """

    root: Path
    transformer: Path
    steps: tuple[tuple[str, Path], ...] | None = None
    text_settings: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def read(
        cls, root: Path, task: str = "feature-extraction", known: Mapping[str, type[SentenceModule]] = MODULES
    ) -> Folder:
        """Read the description of a folder.

        Args:
            task: the `transformer_task` that it must have. known: classes of modules after the transformer.

        Raises:
            UnsupportedConfig: modules or text settings that are not supported. CorruptFile, UnsafeFile.
        """
        if not (root / MODULES_FILE).is_file():
            return cls(root, root)
        with read_errors(root):
            return cls._read(root, task, known)

    @classmethod
    def _read(cls, root: Path, task: str, known: Mapping[str, type[SentenceModule]]) -> Folder:
        rows = _rows(root / MODULES_FILE, known)
        kinds = [kind for kind, _ in rows]
        if kinds[:1] != ["Transformer"] or "Transformer" in kinds[1:]:
            raise UnsupportedConfig(
                f"{root / MODULES_FILE} lists {', '.join(kinds) or 'nothing'}; the first module, and no other, "
                "must be a Transformer."
            )
        transformer = rows[0][1]
        if not transformer.is_dir():
            raise ModelNotFound(f"{root / MODULES_FILE} names the folder {transformer.name!r}, which does not exist.")
        path = next((p for name in TEXT_FILES if (p := transformer / name).is_file()), transformer / TEXT_FILE)
        text_settings = read_json(path) if path.is_file() else {}
        _check_text_settings(text_settings, path, task, lengths="MultiVectorMask" in known)
        return cls(root, transformer, tuple(rows[1:]), text_settings, Settings.read(root / SETTINGS_FILE))

    def arguments(self, *names: str) -> dict[str, Any]:
        """Return the arguments in sentence_bert_config.json for loading model, tokenizer or config."""
        return {k: v for name in names for k, v in (self.text_settings.get(name) or {}).items()}


def _rows(path: Path, known: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Return (class, folder) of each module. Raises CorruptFile."""
    rows = parse_json(path)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("type"), str) and isinstance(row.get("path", ""), str)
        for row in rows
    ):
        raise CorruptFile(f"{path} must be a list of modules, each with a type and a path.")
    return [(_kind(row["type"], path, ["Transformer", *known]), _inside(path, row.get("path", ""))) for row in rows]


def _kind(name: str, path: Path, known: list[str]) -> str:
    """Return the class name of a module. Raises UnsupportedConfig if it is not supported."""
    last = name.rpartition(".")[2]
    if name == OWN_TRANSFORMER and has_tasks(path.parent):
        return "Transformer"
    if last == "MLMTransformer" and "SpladePooling" in known:  # its name in older folders
        last = "Transformer"
    if not (name.startswith(PACKAGE) or name == PYLATE_DENSE) or last not in known:
        loader = {"SpladePooling": "SparseEncoder", "MultiVectorMask": "MultiVectorEncoder"}.get(last)
        if loader is not None:
            raise UnsupportedConfig(f"{path} has a {last}: load the folder with {loader}.")
        raise UnsupportedConfig(f"{path}: modules of the type {name!r} are not computed here. {nearest(last, known)}")
    return last


def has_tasks(root: Path) -> bool:
    """True if a folder's transformer has weights for several tasks (Jina embeddings v3)."""
    path = root / CONFIG_FILE
    return path.is_file() and bool(read_json(path).get("lora_adaptations"))


def _inside(path: Path, name: str) -> Path:
    """Return a folder beside a file. Raises UnsafeFile for a path outside."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if os.path.isabs(name) or ".." in parts or ":" in (parts[0] if parts else "") or "\0" in name:
        raise UnsafeFile(f"{path} names {name!r}, which is outside its folder. Do not trust this checkpoint.")
    return path.parent.joinpath(*parts)


def _check_text_settings(settings: Mapping[str, Any], path: Path, task: str, *, lengths: bool) -> None:
    """Raise UnsupportedConfig for settings of texts or of the transformer that are not supported.

    Args:
        lengths: whether queries and documents may have lengths of their own.
    """
    read_entry(settings, "max_seq_length", Size | None, None, str(path))
    read_entry(settings, "do_lower_case", bool | None, None, str(path))
    own_task = read_entry(settings, "transformer_task", str | None, None, str(path)) or task
    if own_task != task:
        advice = f" Load it with {LOADERS[own_task]}." if own_task in LOADERS else ""
        raise UnsupportedConfig(f"{path}: transformer_task is {own_task!r}; here it must be {task!r}.{advice}")
    modes = read_entry(settings, "modality_config", dict | None, None, str(path)) or {}
    if modes and modes != {"text": {"method": "forward", "method_output_name": TASKS[task]}}:
        raise UnsupportedConfig(
            f"{path}: modality_config is {modes}; only plain text through {TASKS[task]} is read here."
        )
    for name, value in settings.items():
        if name.endswith(("_args", "_kwargs")):
            value = read_entry(settings, name, dict | None, None, str(path)) or {}
            unknown = set(value) - INERT - ({"dtype", "torch_dtype"} if name.startswith("model_") else set())
            if unknown:
                raise UnsupportedConfig(f"{path}: {name} has {', '.join(sorted(unknown))}, not known here.")
        elif name in ("query_expansion", "query_length", "document_length") and value is not None and not lengths:
            raise UnsupportedConfig(f"{path}: {name} is {value!r}, which is not supported.")


def read_module(
    kind: str,
    folder: Path,
    width: int,
    known: Mapping[str, type[SentenceModule]] = MODULES,
    level: str = EMBEDDING,
) -> SentenceModule:
    """Load a module with its weights.

    Args:
        known: classes of modules. level: name of what the module reads and writes.

    Raises:
        ModelNotFound: no folder, or no weights. UnsupportedConfig: entries of its config.json.
        CheckpointMismatch: weights of other names or shapes.
    """
    with read_errors(folder):
        return _read_module(kind, folder, width, known, level)


def _read_module(
    kind: str, folder: Path, width: int, known: Mapping[str, type[SentenceModule]], level: str
) -> SentenceModule:
    path = folder / CONFIG_FILE
    if not path.is_file() and kind != "Normalize":  # Normalize has no entries, and older folders of it are empty
        raise ModelNotFound(f"{folder.parent} has no {folder.name}/{CONFIG_FILE}, which {MODULES_FILE} names.")
    entries = read_json(path) if path.is_file() else {}
    if level != EMBEDDING:  # the class checks names that differ
        if any(entries.get(name) == EMBEDDING for name in NAMES):
            raise UnsupportedConfig(f"{path}: a module of {EMBEDDING} among modules of {level} is not computed here.")
        entries = {k: v for k, v in entries.items() if k not in NAMES or v != level}
    with empty_weights():  # until its shapes are compared with the stored ones
        module = known[kind].read(entries, width, str(path))
    if not module.has_weights:
        return module
    checkpoint = open_checkpoint(folder)
    stored, own = checkpoint.tensors, dict(module.named_parameters())
    shapes = {n: (tuple(own[n].shape), tuple(stored[n].shape)) for n in own if n in stored}
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    missing, unexpected = [n for n in own if n not in stored], [n for n in stored if n not in own]
    other = mistyped({n: stored[n] for n in own if n in stored and stored[n].dtype not in FLOATS})
    if missing or unexpected or wrong or other:
        raise CheckpointMismatch(
            checkpoint.source, missing=missing, unexpected=unexpected, misshapen=wrong, mistyped=other
        )
    module.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(stored[name])
    return module


def write_folder(
    root: Path,
    modules: Iterable[SentenceModule],
    text_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    level: str = EMBEDDING,
) -> None:
    """Write modules.json, both settings files and a folder for each module; the transformer is in `root` itself.

    Args:
        level: name of what the modules read and write.
    """
    rows: Any = [{"idx": 0, "name": "0", "path": "", "type": f"{PACKAGE}models.Transformer"}]
    for number, module in enumerate(modules, 1):
        kind = type(module).__name__
        folder = root / f"{number}_{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        names = {} if level == EMBEDDING or not module.maps_vectors else dict.fromkeys(NAMES, level)
        write_json(folder / CONFIG_FILE, {**module.entries(), **names})
        if module.has_weights:
            save_tensors(folder, {n: p.detach().cpu().contiguous() for n, p in module.named_parameters()})
        place = f"{PACKAGE}{module.package}.{kind}"
        rows.append({"idx": number, "name": str(number), "path": folder.name, "type": place})
    write_json(root / TEXT_FILE, text_settings)
    write_json(root / SETTINGS_FILE, settings)
    write_json(root / MODULES_FILE, rows)
