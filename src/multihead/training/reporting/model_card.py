"""The README.md of a trained model: what a reader must know of it, and the front matter that the Hub reads.

Front matter: https://huggingface.co/docs/hub/model-cards (YAML, `model-index` for results).
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...data_files import ENDINGS
from ...terminal import masked, visible
from .front_matter import front_matter
from .progress_bar import duration, number

CURVE_ROWS = 10
RESULT_ROWS = 20
HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w.-]+)?")
MARKS = {"<": "&lt;", "[": "\\[", "]": "\\]"}
SECRET = re.compile(r"\bhf_\w{6,}")
ABOUT_SPEED = ("runtime", "per_second")


@dataclass(frozen=True, kw_only=True)
class Data:
    """One set of rows that a model was trained or evaluated on.

    Args:
        name: as a reader knows it; a name on the Hub is put into the front matter too.
        split: "train", "validation", ...
        source: where the rows came from, if the name does not say it.
        rows: their number.
        cut: texts that were longer than the model reads, and were cut; None where `notes` say it.
        notes: sentences on what was cut or left out.
    """

    name: str
    split: str = "train"
    source: str = ""
    rows: int | None = None
    cut: int | None = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What is known of a training run, in plain values.

    Args:
        name: of the model.
        task: its pipeline, such as "text-classification".
        base_model: what training began with.
        method: how, in a few words: "all weights", "LoRA of rank 16". loss: what was learned: "cross-entropy".
        license, languages: as the Hub spells them: "apache-2.0", "en".
        data: the rows, training's first.
        settings: those that differ from the defaults.
        log_history: `TrainerState.log_history`.
        results: of the last or best evaluation, `eval_accuracy` or `accuracy`; the last of the history when None.
        best_step: the step whose weights these are.
        seconds: of training. tokens: read in it.
        hardware: what it ran on; this machine's kind when empty.
        command: the command line that made it: words, or one text.
        versions: of further packages.
        tags: for the Hub.
    """

    name: str
    task: str | None = None
    base_model: str | None = None
    method: str = ""
    loss: str = ""
    license: str | None = None
    languages: Sequence[str] = ()
    data: Sequence[Data] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    log_history: Sequence[Mapping[str, Any]] = ()
    results: Mapping[str, float] | None = None
    best_step: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    hardware: str = ""
    command: str | Sequence[str] = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()


def model_card(trained: Trained) -> str:
    """The text of README.md. What is not known is left out; secrets of the Hub (`hf_...`) are too."""
    sections = [
        f"# {_line(_shown(trained.name))}",
        _about(trained),
        _use(trained),
        _section("Data", _data(trained.data)),
        _section("Results", _results(trained)),
        _section("Training loss", _curve(trained.log_history)),
        _section("Settings", _settings(trained.settings)),
        _section("Made with", _made(trained)),
    ]
    text = "\n\n".join([front_matter(metadata(trained)), *filter(None, sections)]) + "\n"
    return masked(SECRET.sub("hf_…", text))


def metadata(trained: Trained) -> dict[str, Any]:
    """The entries of the front matter; folders of this machine are no names there."""
    datasets = list(dict.fromkeys(data.name for data in trained.data if _on_hub(data.name)))
    scores = _scores(trained)
    entries: dict[str, Any] = {
        "library_name": "multihead",
        "base_model": trained.base_model if trained.base_model and _on_hub(trained.base_model) else None,
        "license": trained.license,
        "language": list(trained.languages),
        "pipeline_tag": trained.task,
        "tags": list(trained.tags),
        "datasets": datasets,
        "metrics": [name for name in scores if name != "loss"],
        "model-index": _index(trained, scores),
    }
    return {name: value for name, value in entries.items() if value not in (None, [], "")}


def _index(trained: Trained, scores: Mapping[str, float]) -> list[dict[str, Any]]:
    known = [{"type": name, "value": value} for name, value in scores.items()]
    if not (known and trained.task and trained.data):
        return []
    data = next((d for d in trained.data if d.split != "train"), trained.data[0])
    dataset = {"name": _shown(data.name), "type": data.name if _on_hub(data.name) else "custom", "split": data.split}
    return [{"name": trained.name, "results": [{"task": {"type": trained.task}, "dataset": dataset, "metrics": known}]}]


def _scores(trained: Trained) -> dict[str, float]:
    """Results by the metric's name alone, without how long the evaluation took."""
    evaluations = _evaluations(trained.log_history)
    best = next((e for e in evaluations if e.get("step") == trained.best_step), None) if evaluations else None
    results = trained.results if trained.results is not None else best or (evaluations[-1] if evaluations else {})
    return {
        name.removeprefix("eval_"): float(value)
        for name, value in results.items()
        if isinstance(value, (int, float))
        and math.isfinite(value)
        and not name.endswith(ABOUT_SPEED)
        and name not in ("epoch", "step")
    }


def _evaluations(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [entry for entry in history if any(name.startswith("eval_") for name in entry)]


def _about(trained: Trained) -> str:
    what = f"A model for {_line(trained.task.replace('-', ' '))}" if trained.task else "A language model"
    base = f", trained from {_code(_shown(trained.base_model))}" if trained.base_model else ""
    how = f" ({_line(trained.method)})" if trained.method else ""
    lines = [f"{what}{base}{how} with multihead."]
    if trained.loss:
        lines.append(f"The loss is {trained.loss}.")
    if trained.best_step is not None:
        lines.append(f"The weights are those of step {trained.best_step:,}, the best evaluation.")
    return " ".join(lines)


def _use(trained: Trained) -> str:
    if not trained.task:
        return ""
    task, name = json.dumps(trained.task), json.dumps(_shown(trained.name))
    code = f"from multihead import pipeline\n\npipe = pipeline({task}, {name})"
    return _section("Use", f"```python\n{code}\n```")


def _data(data: Sequence[Data]) -> str:
    rows = [
        [
            d.name if _on_hub(d.name) else _shown(d.name),
            d.split,
            _shown(d.source),
            "" if d.rows is None else d.rows,
            "" if d.cut is None else d.cut,
        ]
        for d in data
    ]
    table = _table(["data", "split", "source", "rows", "texts cut"], rows)
    notes = [f"- {_line(_shown(d.name))}, {_line(d.split)}: {_line(note)}" for d in data for note in d.notes]
    return "\n\n".join(filter(None, [table, "\n".join(notes)]))


def _results(trained: Trained) -> str:
    evaluations = _evaluations(trained.log_history)
    if not evaluations:
        scores = _scores(trained)
        return _table(["metric", "value"], [[name, value] for name, value in scores.items()])
    names = list(
        dict.fromkeys(n for e in evaluations for n in e if n.startswith("eval_") and not n.endswith(ABOUT_SPEED))
    )
    rows = []
    for entry in _spread(evaluations, RESULT_ROWS, keep=trained.best_step):
        row = [entry.get("step", ""), _epoch(entry), *(entry.get(name, "") for name in names)]
        best = trained.best_step is not None and entry.get("step") == trained.best_step
        rows.append([f"**{number(cell)}**" if best and cell != "" else cell for cell in row])
    return _table(["step", "epoch", *(name.removeprefix("eval_") for name in names)], rows)


def _curve(history: Sequence[Mapping[str, Any]]) -> str:
    logs = [entry for entry in history if "loss" in entry]
    rows = [
        [entry.get("step", ""), _epoch(entry), entry["loss"], entry.get("learning_rate", "")]
        for entry in _spread(logs, CURVE_ROWS)
    ]
    return _table(["step", "epoch", "loss", "learning rate"], rows)


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [
        [_code(name), _code(_shown(str(value)))]
        for name, value in settings.items()
        if not name.endswith(("token", "_dir", "password", "api_key"))
    ]
    table = _table(["setting", "value"], rows)
    return f"Those that differ from the defaults:\n\n{table}" if table else ""


def _made(trained: Trained) -> str:
    packages = {name: _version(name) for name in ("torch", "tokenizers")}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    effort = [duration(trained.seconds)] if trained.seconds is not None else []
    effort += [f"{trained.tokens:,} tokens"] if trained.tokens else []
    versions = {"multihead": __version__, **packages, "Python": platform.python_version(), **trained.versions}
    lines = [
        f"- {_line(', '.join(f'{name} {number}' for name, number in versions.items() if number))}",
        f"- {_line(trained.hardware or machine)}",
        *([f"- {', '.join(effort)}"] if effort else []),
    ]
    if trained.command:
        command = trained.command if isinstance(trained.command, str) else shlex.join(trained.command)
        command = visible(command)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
        lines += ["", f"{fence}sh\n{command}\n{fence}"]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _spread(entries: Sequence[Any], count: int, keep: int | None = None) -> list[Any]:
    """At most `count` entries, evenly spread, with the first, the last, and that of step `keep`."""
    if len(entries) <= count:
        return list(entries)
    chosen = {round(i * (len(entries) - 1) / (count - 1)) for i in range(count)}
    chosen |= {i for i, entry in enumerate(entries) if keep is not None and entry.get("step") == keep}
    return [entries[i] for i in sorted(chosen)]


def _epoch(entry: Mapping[str, Any]) -> str:
    return f"{entry['epoch']:.2f}" if "epoch" in entry else ""


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table without the columns that say nothing; empty without rows."""
    if not rows:
        return ""
    full = [i for i in range(len(names)) if any(row[i] not in ("", None) for row in rows)]
    cells = [[_cell(row[i]) for i in full] for row in rows]
    head = [[_cell(names[i]) for i in full], ["---"] * len(full)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *cells])


def _line(text: str) -> str:
    """Words in a line, of which none is HTML, a link or a control character."""
    return re.sub(r"[<\[\]]", lambda found: MARKS[found[0]], visible(" ".join(text.split())))


class Code(str):
    """Markdown of a piece of code, in which nothing is HTML or a link."""


def _cell(value: Any) -> str:
    """A table's cell."""
    text = value if isinstance(value, Code) else _line(number(value))
    return text.replace("|", "\\|")


def _code(text: str) -> Code:
    """Text in backquotes, more of them than it holds itself."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Code(f"{ticks}{space}{visible(' '.join(text.split()))}{space}{ticks}")


def _on_hub(name: str) -> bool:
    """Whether a name can be one of the Hub, rather than a file or folder of this machine."""
    is_file = name.lower().endswith(ENDINGS) or Path(name).exists()
    return bool(HUB_NAME.fullmatch(name)) and not is_file


def _shown(name: str) -> str:
    """A name, or the last part of a path: where a folder lies on this machine tells a reader nothing."""
    return Path(name).name if Path(name).is_absolute() else name
