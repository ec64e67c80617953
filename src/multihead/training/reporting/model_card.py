"""Model card: the README.md of a trained model, with front matter for the Hub.

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
from ...hub.front_matter import front_matter
from ...terminal import mask_secrets, visible
from .progress_bar import duration, number

CURVE_ROWS = 10
RESULT_ROWS = 20
HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w.-]+)?")
ESCAPES = {"<": "&lt;", "[": "\\[", "]": "\\]"}
SECRET = re.compile(r"\bhf_\w{6,}")
SPEED_METRICS = ("runtime", "per_second")


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """A data set that a model was trained or evaluated on.

    Args:
        name: name of the data set; a name on the Hub is listed in the front matter too.
        split: "train", "validation", ...
        source: origin of the rows, if the name does not show it.
        rows: number of rows.
        cut: number of texts that were cut; None if it is part of `notes`.
        notes: sentences on texts that were cut or left out.
    """

    name: str
    split: str = "train"
    source: str = ""
    rows: int | None = None
    cut: int | None = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Summary of a training run.

    Args:
        name: name of the model.
        task: task of its pipeline, such as "text-classification".
        base_model: model at the start of training.
        method: "all weights", "LoRA of rank 16". loss: name of the loss, such as "cross-entropy".
        license, languages: identifiers of the Hub: "apache-2.0", "en".
        data: data sets, the training set first.
        datasets: names of data sets that a program gives, for rows that it held in memory. dataset_parts: their parts.
        settings: arguments that differ from the defaults.
        log_history: `TrainerState.log_history`.
        results: metrics of the last or best evaluation, with or without the prefix `eval_`; default: the last of the
            history.
        best_step: step of the saved weights, if they are those of the best evaluation.
        seconds: duration of training. tokens: number of training tokens.
        hardware: hardware of the run; this machine when empty.
        command: command line of the run: words, or one text.
        versions: versions of further packages.
        tags: tags for the Hub.
    """

    name: str
    task: str | None = None
    base_model: str | None = None
    method: str = ""
    loss: str = ""
    license: str | None = None
    languages: Sequence[str] = ()
    data: Sequence[DataSummary] = ()
    datasets: Sequence[str] = ()
    dataset_parts: Sequence[str] = ()
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


def model_card(run: RunSummary) -> str:
    """Return the text of README.md, without unknown facts and without Hub tokens (`hf_...`)."""
    sections = [
        f"# {_line(_public_name(run.name))}",
        _about(run),
        _use(run),
        _section("Data", _data(run)),
        _section("Results", _results(run)),
        _section("Training loss", _curve(run.log_history)),
        _section("Settings", _settings(run.settings)),
        _section("Made with", _environment(run)),
    ]
    text = "\n\n".join([front_matter(metadata(run)), *filter(None, sections)]) + "\n"
    return mask_secrets(SECRET.sub("hf_…", text))


def metadata(run: RunSummary) -> dict[str, Any]:
    """Return the entries of the front matter; local folders are left out."""
    datasets = list(dict.fromkeys(n for n in (*(data.name for data in run.data), *run.datasets) if _on_hub(n)))
    scores = _scores(run)
    entries: dict[str, Any] = {
        "library_name": "multihead",
        "base_model": run.base_model if run.base_model and _on_hub(run.base_model) else None,
        "license": run.license,
        "language": list(run.languages),
        "pipeline_tag": run.task,
        "tags": list(run.tags),
        "datasets": datasets,
        "metrics": [name for name in scores if name != "loss"],
        "model-index": _index(run, scores),
    }
    return {name: value for name, value in entries.items() if value not in (None, [], "")}


def _index(run: RunSummary, scores: Mapping[str, float]) -> list[dict[str, Any]]:
    known = [{"type": name, "value": value} for name, value in scores.items()]
    if not (known and run.task and run.data):
        return []
    data = next((d for d in run.data if d.split != "train"), run.data[0])
    dataset = {
        "name": _public_name(data.name),
        "type": data.name if _on_hub(data.name) else "custom",
        "split": data.split,
    }
    return [{"name": run.name, "results": [{"task": {"type": run.task}, "dataset": dataset, "metrics": known}]}]


def _scores(run: RunSummary) -> dict[str, float]:
    """Return the metrics of the results without the prefix `eval_`, and without measurements of speed."""
    evaluations = _evaluations(run.log_history)
    best = next((e for e in evaluations if e.get("step") == run.best_step), None) if evaluations else None
    results = run.results if run.results is not None else best or (evaluations[-1] if evaluations else {})
    return {
        name.removeprefix("eval_"): float(value)
        for name, value in results.items()
        if isinstance(value, (int, float))
        and math.isfinite(value)
        and not name.endswith(SPEED_METRICS)
        and name not in ("epoch", "step")
    }


def _evaluations(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [entry for entry in history if any(name.startswith("eval_") for name in entry)]


def _about(run: RunSummary) -> str:
    what = f"A model for {_line(run.task.replace('-', ' '))}" if run.task else "A language model"
    base = f", trained from {_code(_public_name(run.base_model))}" if run.base_model else ""
    how = f" ({_line(run.method)})" if run.method else ""
    lines = [f"{what}{base}{how} with multihead."]
    if run.loss:
        lines.append(f"The loss is {run.loss}.")
    if run.best_step is not None:
        lines.append(f"The weights are those of step {run.best_step:,}, the best evaluation.")
    return " ".join(lines)


def _use(run: RunSummary) -> str:
    if not run.task:
        return ""
    task, name = json.dumps(run.task), json.dumps(_public_name(run.name))
    code = f"from multihead import pipeline\n\npipe = pipeline({task}, {name})"
    return _section("Use", f"```python\n{code}\n```")


def _data(run: RunSummary) -> str:
    data = run.data
    rows = [
        [
            d.name if _on_hub(d.name) else _public_name(d.name),
            d.split,
            _public_name(d.source),
            "" if d.rows is None else d.rows,
            "" if d.cut is None else d.cut,
        ]
        for d in data
    ]
    table = _table(["data", "split", "source", "rows", "texts cut"], rows)
    notes = [f"- {_line(_public_name(d.name))}, {_line(d.split)}: {_line(note)}" for d in data for note in d.notes]
    named = ", ".join(_line(_public_name(name)) for name in dict.fromkeys(run.datasets))
    named += f" ({', '.join(map(_line, run.dataset_parts))})" if named and run.dataset_parts else ""
    return "\n\n".join(filter(None, [named, table, "\n".join(notes)]))


def _results(run: RunSummary) -> str:
    evaluations = _evaluations(run.log_history)
    if not evaluations:
        scores = _scores(run)
        return _table(["metric", "value"], [[name, value] for name, value in scores.items()])
    names = list(
        dict.fromkeys(n for e in evaluations for n in e if n.startswith("eval_") and not n.endswith(SPEED_METRICS))
    )
    rows = []
    for entry in _thin_out(evaluations, RESULT_ROWS, keep=run.best_step):
        row = [entry.get("step", ""), _epoch(entry), *(entry.get(name, "") for name in names)]
        best = run.best_step is not None and entry.get("step") == run.best_step
        rows.append([f"**{number(cell)}**" if best and cell != "" else cell for cell in row])
    return _table(["step", "epoch", *(name.removeprefix("eval_") for name in names)], rows)


def _curve(history: Sequence[Mapping[str, Any]]) -> str:
    logs = [entry for entry in history if "loss" in entry]
    rows = [
        [entry.get("step", ""), _epoch(entry), entry["loss"], entry.get("learning_rate", "")]
        for entry in _thin_out(logs, CURVE_ROWS)
    ]
    return _table(["step", "epoch", "loss", "learning rate"], rows)


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [
        [_code(name), _code(_public_name(str(value)))]
        for name, value in settings.items()
        if not name.endswith(("token", "_dir", "password", "api_key"))
    ]
    table = _table(["setting", "value"], rows)
    return f"Those that differ from the defaults:\n\n{table}" if table else ""


def _environment(run: RunSummary) -> str:
    packages = {name: _version(name) for name in ("torch", "tokenizers")}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    effort = [duration(run.seconds)] if run.seconds is not None else []
    effort += [f"{run.tokens:,} tokens"] if run.tokens else []
    versions = {"multihead": __version__, **packages, "Python": platform.python_version(), **run.versions}
    lines = [
        f"- {_line(', '.join(f'{name} {number}' for name, number in versions.items() if number))}",
        f"- {_line(run.hardware or machine)}",
        *([f"- {', '.join(effort)}"] if effort else []),
    ]
    if run.command:
        command = run.command if isinstance(run.command, str) else shlex.join(run.command)
        command = visible(command)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
        lines += ["", f"{fence}sh\n{command}\n{fence}"]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _thin_out(entries: Sequence[Any], count: int, keep: int | None = None) -> list[Any]:
    """Return up to `count` evenly spaced entries, with the first, the last, and the entry of step `keep`."""
    if len(entries) <= count:
        return list(entries)
    numbers = {round(i * (len(entries) - 1) / (count - 1)) for i in range(count)}
    numbers |= {i for i, entry in enumerate(entries) if keep is not None and entry.get("step") == keep}
    return [entries[i] for i in sorted(numbers)]


def _epoch(entry: Mapping[str, Any]) -> str:
    return f"{entry['epoch']:.2f}" if "epoch" in entry else ""


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table without empty columns; an empty text without rows."""
    if not rows:
        return ""
    full = [i for i in range(len(names)) if any(row[i] not in ("", None) for row in rows)]
    cells = [[_cell(row[i]) for i in full] for row in rows]
    head = [[_cell(names[i]) for i in full], ["---"] * len(full)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *cells])


def _line(text: str) -> str:
    """Return a text in one line, without HTML, links and control characters."""
    return re.sub(r"[<\[\]]", lambda match: ESCAPES[match[0]], visible(" ".join(text.split())))


class Code(str):
    """Markdown of inline code, which needs no escapes of HTML and links."""


def _cell(value: Any) -> str:
    """Return a table cell."""
    text = value if isinstance(value, Code) else _line(number(value))
    return text.replace("|", "\\|")


def _code(text: str) -> Code:
    """Return a text as inline code, with more backquotes than the text contains."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Code(f"{ticks}{space}{visible(' '.join(text.split()))}{space}{ticks}")


def _on_hub(name: str) -> bool:
    """Return whether a name may be a name on the Hub, not a local file or folder."""
    is_file = name.lower().endswith(ENDINGS) or Path(name).exists()
    return bool(HUB_NAME.fullmatch(name)) and not is_file


def _public_name(name: str) -> str:
    """Return a name, or the last part of an absolute path, since readers cannot use a local path."""
    return Path(name).name if Path(name).is_absolute() else name
