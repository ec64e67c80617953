"""Configuration of `multihead train`: options of the command line over entries of a YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ...errors import InvalidInput, UnsupportedOption, nearest
from ..run import parse_value
from . import plain_yaml

PRECISIONS = ("auto", "float32", "bf16", "fp16")
PRECISION = "precision"  # resolved once torch is imported
SHORT_NAMES: Mapping[str, str] = {  # short name of a setting -> field of TrainingArguments
    "epochs": "num_train_epochs", "steps": "max_steps", "batch_size": "per_device_train_batch_size",
    "tokens_per_batch": "max_tokens_per_batch", "lr": "learning_rate", "schedule": "lr_scheduler_type",
    "warmup": "warmup_steps", "accumulate": "gradient_accumulation_steps", "keep": "save_total_limit",
    "best": "metric_for_best_model",
}  # fmt: skip
YAML_FILE = re.compile(r"\.ya?ml$", re.IGNORECASE)


@dataclass(kw_only=True)
class TrainConfig:
    """Configuration of one run.

    Args:
        data, eval_data: sources for `Rows.of`. holdout: share of `data` to evaluate on instead of `eval_data`.
        options: of the task. lora: fields of a LoraConfig; None trains all weights.
        settings: fields of TrainingArguments, and `precision`.
    """

    task: str
    model: str
    data: Any
    output: Path
    eval_data: Any = None
    holdout: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, first: str | None, options: Mapping[str, Any], settings: Mapping[str, Any],
           more: Mapping[str, Sequence[str]]) -> TrainConfig:  # fmt: skip
        """Return the configuration of a command line.

        Args:
            first: the task or a YAML file. options: model, data, output and the like; None if not given.
            settings: values by short name; None if not given. more: `option`, `lora`, `set`: texts `name=value`.

        Raises:
            InvalidInput, UnsupportedOption: entries that are missing, contradict each other, or are not known.
        """
        is_file = first is not None and YAML_FILE.search(first) is not None
        entries = read(Path(first)) if is_file and first else {}
        entries |= {"task": first} if first is not None and not is_file else {}
        if options.get("eval_data") is not None:
            entries.pop("holdout", None)
        if options.get("holdout") is not None:
            entries.pop("eval_data", None)
        entries |= {name: value for name, value in options.items() if value is not None and name in KEYS}
        missing = [name for name in ("task", "model", "data", "output") if not entries.get(name)]
        if missing:
            flags = ", ".join("TASK" if name == "task" else f"--{name}" for name in missing)
            raise InvalidInput(f"Training needs a task, a model, data and an output folder; {flags} is not given.")
        if entries.get("eval_data") is not None and entries.get("holdout") is not None:
            raise UnsupportedOption("--eval-data and --holdout both name rows to evaluate on; give one.")
        entries["settings"] = merge_settings(entries.get("settings") or {}, settings, parse_pairs(more["set"], "--set"))
        entries["options"] = {**(entries.get("options") or {}), **parse_pairs(more["option"], "--option")}
        entries["lora"] = lora_fields(
            entries.get("lora"), options.get("lora_rank"), parse_pairs(more["lora"], "--lora-set")
        )
        entries["output"], entries["model"] = Path(entries["output"]).expanduser(), str(entries["model"])
        config = cls(**entries)
        config._set_defaults()
        return config

    def _set_defaults(self) -> None:
        """Set the defaults of this command. Raises UnsupportedOption for settings that contradict each other."""
        chosen, evaluates = self.settings, self.eval_data is not None or self.holdout is not None
        needed = [name for name in ("best", "eval_every") if name in chosen]
        if needed and not evaluates:
            flag = needed[0].replace("_", "-")
            raise UnsupportedOption(f"--{flag} needs rows to evaluate on: give --eval-data, or --holdout 0.1.")
        if "best" in chosen:
            chosen["load_best_model_at_end"] = True
        for kind in ("eval", "save"):
            every = chosen.pop(f"{kind}_every", None)
            if every is not None:
                chosen |= when_settings(kind, every)
        chosen.setdefault("eval_strategy", "epoch" if evaluates else "no")
        if chosen.get("load_best_model_at_end") and "save_strategy" not in chosen:
            chosen["save_strategy"] = chosen["eval_strategy"]
            if "eval_steps" in chosen:
                chosen["save_steps"] = chosen["eval_steps"]
        chosen.setdefault("save_strategy", "epoch")
        chosen.setdefault("keep", chosen.pop("save_total_limit", 2))
        chosen.setdefault("logging_steps", 0.02)
        chosen.setdefault(PRECISION, "float32" if chosen.get("bf16") or chosen.get("fp16") else "auto")
        self.settings = {SHORT_NAMES.get(name, name): value for name, value in chosen.items()}


KEYS = tuple(f.name for f in fields(TrainConfig))
EXCLUSIVE = (("epochs", "steps"), ("batch_size", "tokens_per_batch"))  # one replaces the other


def merge_settings(file: Mapping[str, Any], options: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their short names. Those of the command line replace those of a file.

    Raises:
        UnsupportedOption: settings that exclude each other.
    """
    short = {field: short for short, field in SHORT_NAMES.items()}
    given = {name: value for name, value in options.items() if value is not None}
    line = {**given, **{short.get(name, name): value for name, value in more.items()}}
    entries = {short.get(name.replace("-", "_"), name.replace("-", "_")): value for name, value in file.items()}
    for pair in EXCLUSIVE:
        for source in (entries, line):
            if all(source.get(name) not in (None, -1) for name in pair):
                raise UnsupportedOption(f"{pair[0]} and {pair[1]} both set the same; give one.")
        if any(name in line for name in pair):
            for name in pair:
                entries.pop(name, None)
    if PRECISION in line:
        entries = {name: value for name, value in entries.items() if name not in ("bf16", "fp16")}
    for kind in ("eval", "save"):
        if f"{kind}_every" in line:
            entries = {k: v for k, v in entries.items() if k not in (f"{kind}_strategy", f"{kind}_steps")}
    chosen = entries | line
    if chosen.get(PRECISION) not in (None, *PRECISIONS):
        raise UnsupportedOption(f"precision {chosen[PRECISION]!r} is none of {', '.join(PRECISIONS)}.")
    return chosen


def when_settings(kind: str, every: Any) -> dict[str, Any]:
    """Return the settings of `--eval-every` or `--save-every`: "epoch", "no", a number of steps or a share of all."""
    value = parse_value(every) if isinstance(every, str) else every
    if value in ("epoch", "no"):
        return {f"{kind}_strategy": value}
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise UnsupportedOption(f"--{kind}-every {every!r} is a number of steps, 'epoch' or 'no'.")
    return {f"{kind}_strategy": "steps", f"{kind}_steps": value}


def lora_fields(file: Any, rank: int | None, more: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields of a LoraConfig; None without an adapter. Default of lora_alpha: the rank, a scale of 1.

    Raises:
        UnsupportedOption: an unknown field.
    """
    if file is None and rank is None and not more:
        return None
    entries = dict(file) if isinstance(file, Mapping) else {"r": file} if file is not None else {}
    entries |= more
    entries |= {"r": rank} if rank is not None else {}
    from ...adapters.config import LoraConfig

    names = [f.name for f in fields(LoraConfig)]
    for name in entries:
        if name not in names:
            raise UnsupportedOption(f"LoraConfig has no {name!r}. {nearest(name, names)}")
    entries.setdefault("r", 8)
    return {"lora_alpha": entries["r"], **entries}


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, Any]:
    """Return names and values of texts `name=value`. Raises InvalidInput for other texts."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{flag} {text!r} must be NAME=VALUE.")
        found[name.strip().replace("-", "_")] = parse_value(value)
    return found


def data_files(words: Sequence[str]) -> Any:
    """Return the source that `--data` names: a file, several, or a dict of column to file.

    Raises:
        InvalidInput: some have a column and some do not.
    """
    if not words:
        return None
    named = [word.partition("=") for word in words if "=" in word and not Path(word).exists()]
    if named and len(named) != len(words):
        raise InvalidInput(f"Of {', '.join(words)} some are COLUMN=FILE and some are not; name a column for each.")
    if named:
        return {column: Path(file) for column, _, file in named}
    return Path(words[0]) if len(words) == 1 else [Path(word) for word in words]


def read(path: Path) -> dict[str, Any]:
    """Return the entries of a YAML file.

    Raises:
        ModelNotFound: no such file. InvalidInput: no YAML, unknown entries, or values of a wrong type.
        UnsupportedOption: PyYAML is not installed.
    """
    found = plain_yaml.read(path)
    for name, value in found.items():
        if name not in KEYS:
            raise InvalidInput(f"{path} has the entry {name!r}, which is not known. {nearest(str(name), KEYS)}")
        if value is not None and not has_type(name, value):
            kind = "entries, one a line" if name in ("options", "settings") else ENTRY_TYPES[name]
            raise InvalidInput(f"{path}: {name} must hold {kind}, not {type(value).__name__} {str(value)[:60]!r}.")
    parts = ("data", "eval_data")
    return {name: to_paths(value) if name in parts else value for name, value in found.items() if value is not None}


ENTRY_TYPES: Mapping[str, str] = {  # entry -> description of its value
    "task": "the name of a task", "model": "the name of a model", "output": "the name of a folder",
    "holdout": "a share below 1", "data": "files", "eval_data": "files", "lora": "a rank, or fields of a LoraConfig",
}  # fmt: skip


def has_type(name: str, value: Any) -> bool:
    """Return whether an entry can have a value."""
    if name in ("options", "settings"):
        return isinstance(value, Mapping)
    if name == "holdout":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "lora":
        return isinstance(value, Mapping) or (isinstance(value, int) and not isinstance(value, bool))
    if name in ("data", "eval_data"):
        return names_files(value)
    return isinstance(value, (str, int)) and not isinstance(value, bool) and "\0" not in str(value)


def names_files(value: Any) -> bool:
    """Return whether a value names files: one, a list of them, or some for each column."""
    if isinstance(value, str):
        return bool(value) and "\0" not in value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return bool(inner) and all(names_files(part) for part in inner)


def to_paths(value: Any) -> Any:
    """Return the files of an entry as paths."""
    if isinstance(value, str):
        return Path(value)
    return [to_paths(v) for v in value] if isinstance(value, list) else {k: to_paths(v) for k, v in dict(value).items()}
