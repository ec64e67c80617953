"""What `multihead train` is asked for: the words of a command line over the entries of a YAML file."""

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
PRECISION = "precision"  # told in full once torch is there
SHORT: Mapping[str, str] = {  # the short name of a setting -> the field of TrainingArguments
    "epochs": "num_train_epochs", "steps": "max_steps", "batch_size": "per_device_train_batch_size",
    "tokens_per_batch": "max_tokens_per_batch", "lr": "learning_rate", "schedule": "lr_scheduler_type",
    "warmup": "warmup_steps", "accumulate": "gradient_accumulation_steps", "keep": "save_total_limit",
    "best": "metric_for_best_model",
}  # fmt: skip
FILE = re.compile(r"\.ya?ml$", re.IGNORECASE)


@dataclass(kw_only=True)
class Recipe:
    """A run to be made.

    Args:
        data, eval_data: sources as `Rows.of` takes them. holdout: the share of `data` that is evaluated on instead.
        options: of the task. lora: fields of a LoraConfig, None for all weights. settings: of TrainingArguments, and
            `precision`.
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
    def of(cls, first: str | None, words: Mapping[str, Any], settings: Mapping[str, Any],
           more: Mapping[str, Sequence[str]]) -> Recipe:  # fmt: skip
        """The recipe of a command line.

        Args:
            first: the task or a YAML file. words: what names the task's parts, None where not said.
            settings: short names, likewise. more: `option`, `lora`, `set`: words such as `name=value`.

        Raises:
            InvalidInput, UnsupportedOption: parts that lack, contradict each other, or are not known.
        """
        is_file = first is not None and FILE.search(first) is not None
        told = read(Path(first)) if is_file and first else {}
        told |= {"task": first} if first is not None and not is_file else {}
        if words.get("eval_data") is not None:
            told.pop("holdout", None)
        if words.get("holdout") is not None:
            told.pop("eval_data", None)
        told |= {name: value for name, value in words.items() if value is not None and name in KEYS}
        lacking = [name for name in ("task", "model", "data", "output") if not told.get(name)]
        if lacking:
            flags = ", ".join("TASK" if name == "task" else f"--{name}" for name in lacking)
            raise InvalidInput(f"Training needs a task, a model, data and an output folder; {flags} is not given.")
        if told.get("eval_data") is not None and told.get("holdout") is not None:
            raise UnsupportedOption("--eval-data and --holdout both say what to evaluate on; give one.")
        told["settings"] = merged(told.get("settings") or {}, settings, pairs(more["set"], "--set"))
        told["options"] = {**(told.get("options") or {}), **pairs(more["option"], "--option")}
        told["lora"] = lora(told.get("lora"), words.get("lora_rank"), pairs(more["lora"], "--lora-set"))
        told["output"], told["model"] = Path(told["output"]).expanduser(), str(told["model"])
        made = cls(**told)
        made._complete()
        return made

    def _complete(self) -> None:
        """Fills in what this command does where nothing is said. Raises UnsupportedOption for contradictions."""
        chosen, judged = self.settings, self.eval_data is not None or self.holdout is not None
        asked = [name for name in ("best", "eval_every") if name in chosen]
        if asked and not judged:
            flag = asked[0].replace("_", "-")
            raise UnsupportedOption(f"--{flag} needs something to evaluate on: give --eval-data, or --holdout 0.1.")
        if "best" in chosen:
            chosen["load_best_model_at_end"] = True
        for kind in ("eval", "save"):
            every = chosen.pop(f"{kind}_every", None)
            if every is not None:
                chosen |= strategy(kind, every)
        chosen.setdefault("eval_strategy", "epoch" if judged else "no")
        if chosen.get("load_best_model_at_end") and "save_strategy" not in chosen:
            chosen["save_strategy"] = chosen["eval_strategy"]
            if "eval_steps" in chosen:
                chosen["save_steps"] = chosen["eval_steps"]
        chosen.setdefault("save_strategy", "epoch")
        chosen.setdefault("keep", chosen.pop("save_total_limit", 2))
        chosen.setdefault("logging_steps", 0.02)
        chosen.setdefault(PRECISION, "float32" if chosen.get("bf16") or chosen.get("fp16") else "auto")
        self.settings = {SHORT.get(name, name): value for name, value in chosen.items()}


KEYS = tuple(f.name for f in fields(Recipe))
APART = (("epochs", "steps"), ("batch_size", "tokens_per_batch"))  # of which one replaces the other


def merged(file: Mapping[str, Any], words: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their short names where they have one; what the command line says replaces what a file says.

    Raises:
        UnsupportedOption: settings that exclude each other.
    """
    back = {field: short for short, field in SHORT.items()}
    said = {name: value for name, value in words.items() if value is not None}
    line = {**said, **{back.get(name, name): value for name, value in more.items()}}
    told = {back.get(name.replace("-", "_"), name.replace("-", "_")): value for name, value in file.items()}
    for pair in APART:
        for source in (told, line):
            if all(source.get(name) not in (None, -1) for name in pair):
                raise UnsupportedOption(f"{pair[0]} and {pair[1]} both say the same; give one.")
        if any(name in line for name in pair):
            for name in pair:
                told.pop(name, None)
    if PRECISION in line:
        told = {name: value for name, value in told.items() if name not in ("bf16", "fp16")}
    for kind in ("eval", "save"):
        if f"{kind}_every" in line:
            told = {k: v for k, v in told.items() if k not in (f"{kind}_strategy", f"{kind}_steps")}
    chosen = told | line
    if chosen.get(PRECISION) not in (None, *PRECISIONS):
        raise UnsupportedOption(f"precision {chosen[PRECISION]!r} is none of {', '.join(PRECISIONS)}.")
    return chosen


def strategy(kind: str, every: Any) -> dict[str, Any]:
    """The settings of `--eval-every` and `--save-every`: "epoch", "no", a number of steps or a share of them all."""
    value = parse_value(every) if isinstance(every, str) else every
    if value in ("epoch", "no"):
        return {f"{kind}_strategy": value}
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise UnsupportedOption(f"--{kind}-every {every!r} is a number of steps, 'epoch' or 'no'.")
    return {f"{kind}_strategy": "steps", f"{kind}_steps": value}


def lora(file: Any, rank: int | None, more: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fields of a LoraConfig; None where there is no adapter. A change is scaled by 1 unless lora_alpha is said.

    Raises:
        UnsupportedOption: a name that is none.
    """
    if file is None and rank is None and not more:
        return None
    told = dict(file) if isinstance(file, Mapping) else {"r": file} if file is not None else {}
    told |= more
    told |= {"r": rank} if rank is not None else {}
    from ...adapters.config import LoraConfig

    names = [f.name for f in fields(LoraConfig)]
    for name in told:
        if name not in names:
            raise UnsupportedOption(f"LoraConfig has no {name!r}. {nearest(name, names)}")
    told.setdefault("r", 8)
    return {"lora_alpha": told["r"], **told}


def pairs(words: Sequence[str], flag: str) -> dict[str, Any]:
    """`name=value` as names and values. Raises InvalidInput for other words."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{flag} {word!r} must be NAME=VALUE.")
        found[name.strip().replace("-", "_")] = parse_value(value)
    return found


def files(words: Sequence[str]) -> Any:
    """The source that `--data` names: a file, several, or COLUMN=FILE for files whose lines belong together.

    Raises:
        InvalidInput: some words with a column and some without.
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
    """The entries of a YAML file.

    Raises:
        ModelNotFound: no such file. InvalidInput: not YAML, or entries that are not known, or hold what they cannot.
        UnsupportedOption: PyYAML is not installed.
    """
    found = plain_yaml.read(path)
    for name, value in found.items():
        if name not in KEYS:
            raise InvalidInput(f"{path} has the entry {name!r}, which is not known. {nearest(str(name), KEYS)}")
        if value is not None and not fits(name, value):
            kind = "entries, one a line" if name in ("options", "settings") else WHAT[name]
            raise InvalidInput(f"{path}: {name} must hold {kind}, not {type(value).__name__} {str(value)[:60]!r}.")
    parts = ("data", "eval_data")
    return {name: placed(value) if name in parts else value for name, value in found.items() if value is not None}


WHAT: Mapping[str, str] = {  # entry -> what it holds
    "task": "a task's name", "model": "a model's name", "output": "a folder's name", "holdout": "a share below 1",
    "data": "files", "eval_data": "files", "lora": "a rank, or entries of a LoraConfig",
}  # fmt: skip


def fits(name: str, value: Any) -> bool:
    """Whether an entry can hold a value."""
    if name in ("options", "settings"):
        return isinstance(value, Mapping)
    if name == "holdout":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "lora":
        return isinstance(value, Mapping) or (isinstance(value, int) and not isinstance(value, bool))
    if name in ("data", "eval_data"):
        return files_in(value)
    return isinstance(value, (str, int)) and not isinstance(value, bool) and "\0" not in str(value)


def files_in(value: Any) -> bool:
    """Whether a value names files: one, a list of them, or some for each column."""
    if isinstance(value, str):
        return bool(value) and "\0" not in value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return bool(inner) and all(files_in(part) for part in inner)


def placed(value: Any) -> Any:
    """Files of an entry as paths."""
    if isinstance(value, str):
        return Path(value)
    return [placed(v) for v in value] if isinstance(value, list) else {k: placed(v) for k, v in dict(value).items()}
