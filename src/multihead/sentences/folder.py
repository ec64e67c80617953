"""Folders in the format of sentence-transformers (sbert.net): a transformer, the steps after it, prompts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ..checkpoints.folder import open_checkpoint, save_tensors
from ..checkpoints.key_map import mistyped
from ..config import CONFIG_FILE, Size, parsed_json, read_json, write_json
from ..errors import CheckpointMismatch, CorruptFile, ModelNotFound, UnsafeFile, UnsupportedConfig, nearest, read_errors
from ..nn.empty import empty_weights
from .steps import STEPS, Step, entry

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
READER_FILE = "sentence_bert_config.json"
READER_FILES = [READER_FILE, *(f"sentence_{name}_config.json" for name in
                ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"))]  # fmt: skip
PACKAGE = "sentence_transformers."
TASKS = {"feature-extraction": "last_hidden_state", "sequence-classification": "logits"}
LOADERS = {"feature-extraction": "SentenceEncoder", "sequence-classification": "CrossEncoder"}
# Arguments of loading that change no number here.
INERT = {"trust_remote_code", "attn_implementation", "low_cpu_mem_usage", "padding_side", "use_fast", "revision"}


@dataclass(frozen=True)
class Settings:
    """config_sentence_transformers.json.

    Args:
        prompts: name -> text before every sentence. default_prompt_name: of the one used when none is named.
        similarity_fn_name: how vectors are compared. truncate_dim: numbers of a vector that are kept.
        activation_fn: of a cross-encoder's scores, as a dotted name.
    """

    prompts: Mapping[str, str | None] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    activation_fn: str | None = None
    model_type: str | None = None

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Raises UnsupportedConfig for an entry of a wrong type, CorruptFile."""
        entries = read_json(path) if path.is_file() else {}
        kinds = {"default_prompt_name": str, "similarity_fn_name": str, "truncate_dim": Size, "activation_fn": str}
        known = {name: entry(entries, name, kind | None, None, str(path)) for name, kind in kinds.items()}
        prompts = entry(entries, "prompts", dict | None, None, str(path)) or {}
        for name, text in prompts.items():
            if not isinstance(text, str | None):
                raise UnsupportedConfig(f"{path}: the prompt {name!r} is {text!r}; it must be a text.")
        return cls(prompts=prompts, model_type=entry(entries, "model_type", str | None, None, str(path)), **known)


@dataclass(frozen=True)
class Folder:
    """What modules.json lists.

    Args:
        root: the folder. transformer: the folder of the transformer. steps: (class, folder) of what follows it; None
            for a plain checkpoint without modules.json.
        reader: sentence_bert_config.json, how texts are read.
    """

    root: Path
    transformer: Path
    steps: tuple[tuple[str, Path], ...] | None = None
    reader: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def read(cls, root: Path, task: str = "feature-extraction") -> Folder:
        """What a folder says of itself; `task` is what its transformer must do.

        Raises:
            UnsupportedConfig: modules, or ways to read texts, that are not done here. CorruptFile, UnsafeFile.
        """
        if not (root / MODULES_FILE).is_file():
            return cls(root, root)
        with read_errors(root):
            return cls._read(root, task)

    @classmethod
    def _read(cls, root: Path, task: str) -> Folder:
        rows = _rows(root / MODULES_FILE)
        kinds = [kind for kind, _ in rows]
        if kinds[:1] != ["Transformer"] or "Transformer" in kinds[1:]:
            raise UnsupportedConfig(
                f"{root / MODULES_FILE} lists {', '.join(kinds) or 'nothing'}; the first module, and no other, "
                "must be a Transformer."
            )
        place = rows[0][1]
        if not place.is_dir():
            raise ModelNotFound(f"{root / MODULES_FILE} names the folder {place.name!r}, which is not there.")
        path = next((place / name for name in READER_FILES if (place / name).is_file()), place / READER_FILE)
        reader = read_json(path) if path.is_file() else {}
        _check_reader(reader, path, task)
        return cls(root, place, tuple(rows[1:]), reader, Settings.read(root / SETTINGS_FILE))

    def arguments(self, *names: str) -> dict[str, Any]:
        """What sentence_bert_config.json hands to the loading of model, tokenizer or config."""
        return {k: v for name in names for k, v in (self.reader.get(name) or {}).items()}


def _rows(path: Path) -> list[tuple[str, Path]]:
    """(class, folder) of each module."""
    rows = parsed_json(path)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("type"), str) and isinstance(row.get("path", ""), str)
        for row in rows
    ):
        raise CorruptFile(f"{path} must be a list of modules, each with a type and a path.")
    return [(_kind(row["type"], path), _inside(path, row.get("path", ""))) for row in rows]


def _kind(name: str, path: Path) -> str:
    """The class of a module. Raises UnsupportedConfig for one that is not computed here."""
    last = name.rpartition(".")[2]
    known = ["Transformer", *STEPS]
    if not name.startswith(PACKAGE) or last not in known:
        raise UnsupportedConfig(f"{path}: modules of the type {name!r} are not computed here. {nearest(last, known)}")
    return last


def _inside(path: Path, name: str) -> Path:
    """A folder beside a file. Raises UnsafeFile for one elsewhere."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if os.path.isabs(name) or ".." in parts or ":" in (parts[0] if parts else "") or "\0" in name:
        raise UnsafeFile(f"{path} names {name!r}, a place outside its folder. Do not trust this checkpoint.")
    return path.parent.joinpath(*parts)


def _check_reader(reader: Mapping[str, Any], path: Path, task: str) -> None:
    """Raises UnsupportedConfig for ways to read texts, or to use the transformer, that are not done here."""
    entry(reader, "max_seq_length", Size | None, None, str(path))
    entry(reader, "do_lower_case", bool | None, None, str(path))
    given = entry(reader, "transformer_task", str | None, None, str(path)) or task
    if given != task:
        advice = f" Load it with {LOADERS[given]}." if given in LOADERS else ""
        raise UnsupportedConfig(f"{path}: transformer_task is {given!r}; here it must be {task!r}.{advice}")
    modes = entry(reader, "modality_config", dict | None, None, str(path)) or {}
    if modes and modes != {"text": {"method": "forward", "method_output_name": TASKS[task]}}:
        raise UnsupportedConfig(
            f"{path}: modality_config is {modes}; only plain text through {TASKS[task]} is read here."
        )
    for name, value in reader.items():
        if name.endswith(("_args", "_kwargs")):
            value = entry(reader, name, dict | None, None, str(path)) or {}
            wrong = set(value) - INERT - ({"dtype", "torch_dtype"} if name.startswith("model_") else set())
            if wrong:
                raise UnsupportedConfig(f"{path}: {name} has {', '.join(sorted(wrong))}, not known here.")
        elif name in ("query_expansion", "query_length", "document_length") and value is not None:
            raise UnsupportedConfig(f"{path}: {name} is {value!r}, which is not done here.")


def read_step(kind: str, folder: Path, width: int) -> Step:
    """A step with its weights.

    Raises:
        ModelNotFound: the folder, or its weights, are not there. UnsupportedConfig: its config.json.
        CheckpointMismatch: weights of other names or shapes.
    """
    with read_errors(folder):
        return _read_step(kind, folder, width)


def _read_step(kind: str, folder: Path, width: int) -> Step:
    path = folder / CONFIG_FILE
    if not path.is_file() and kind != "Normalize":  # which has nothing to say, so that older folders are empty
        raise ModelNotFound(f"{folder.parent} has no {folder.name}/{CONFIG_FILE}, which {MODULES_FILE} names.")
    entries = read_json(path) if path.is_file() else {}
    with empty_weights():  # until its sizes are compared with what is stored
        step = STEPS[kind].read(entries, width, str(path))
    if not step.stored:
        return step
    checkpoint = open_checkpoint(folder)
    stored, own = checkpoint.tensors, dict(step.named_parameters())
    shapes = {n: (tuple(own[n].shape), tuple(stored[n].shape)) for n in own if n in stored}
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    missing, unexpected = [n for n in own if n not in stored], [n for n in stored if n not in own]
    other = mistyped({name: stored[name] for name in own if name in stored})
    if missing or unexpected or wrong or other:
        raise CheckpointMismatch(
            checkpoint.source, missing=missing, unexpected=unexpected, misshapen=wrong, mistyped=other
        )
    step.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in step.named_parameters():
            parameter.copy_(stored[name])
    return step


def write(root: Path, steps: Iterable[Step], reader: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes everything but the transformer and its tokenizer, which lie in `root` itself."""
    rows: Any = [{"idx": 0, "name": "0", "path": "", "type": f"{PACKAGE}models.Transformer"}]
    for number, step in enumerate(steps, 1):
        kind = type(step).__name__
        folder = root / f"{number}_{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG_FILE, step.entries())
        if step.stored:
            save_tensors(folder, {n: p.detach().cpu().contiguous() for n, p in step.named_parameters()})
        rows.append({"idx": number, "name": str(number), "path": folder.name, "type": f"{PACKAGE}models.{kind}"})
    write_json(root / READER_FILE, reader)
    write_json(root / SETTINGS_FILE, settings)
    write_json(root / MODULES_FILE, rows)
