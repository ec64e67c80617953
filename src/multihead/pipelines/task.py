"""Description of a task: everything that commands, training, docs and tests need to know about it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..errors import UnsupportedOption
from .defaults import Default


class ModelPipeline(NamedTuple):
    """The pipeline that answers a task with one type of model.

    Args:
        path: "file.Class" or "folder.file.Class" in this folder, or "package.module:Class" anywhere.
        model: the type of model, as docs name it.
    """

    path: str
    model: str


@dataclass(frozen=True)
class Mode:
    """Another way to answer a task, which `pipeline(..., mode=NAME)` chooses.

    Args:
        pipelines, hub, offline: as those of a `Task`.
    """

    pipelines: Mapping[str, ModelPipeline]
    hub: str
    offline: Default | None


@dataclass(frozen=True)
class Input:
    """Key of an input that is a mapping, such as "question".

    Args:
        name: the key. takes: "text"; "texts" for a list of all given texts; "table" for all rows of a file.
        flag: option of `multihead run` that gives all inputs the same value; empty for none. help: of that option.
    """

    name: str
    takes: str = "text"
    flag: str = ""
    help: str = ""


@dataclass(frozen=True)
class RequiredOption:
    """An option of calls without which the pipeline cannot answer.

    Args:
        name: the option. flag: the option of `multihead run`. help: of that option. example: a value of it.
    """

    name: str
    flag: str
    help: str
    example: str


@dataclass(frozen=True)
class TrainingTask:
    """Training of models for a task.

    Args:
        job: "file.Class" in `multihead.training.tasks`. metrics: names of what an evaluation computes.
        text_metrics: further ones when an evaluation generates text (`predict_with_generate`).
        aliases: more names of the task in training.
        packages: modules that `metrics` import. text_packages: modules that `text_metrics` import.
        pipeline: the task that uses the trained model, where it has another name.
    """

    job: str
    metrics: tuple[str, ...]
    text_metrics: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    text_packages: tuple[str, ...] = ()
    pipeline: str = ""


@dataclass(frozen=True)
class Task:
    """A task that `pipeline` answers.

    Args:
        summary: what the task does, for help texts. accepts: one input, as docs describe it.
        pipelines: head type (the Auto class's name without "AutoModelFor") -> pipeline; a task's own model comes first.
        hub: default model on the Hugging Face hub. offline: default model from the package index, if any.
        renderer: function that prints an answer on a terminal: a name in `cli/render/answers.py`, or "file.function" in
            this folder. It is called with a console, the input and the answer.
        inputs: keys of an input that is a mapping; empty where an input is one text.
        pair: keys that are taken instead of one text where a row has both.
        required: options of calls that every call needs.
        varied: an answer is a list whose length depends on the text.
        modes: other ways to answer the task, by their names.
        language_pairs: names such as `translation_en_to_pt` mean this task too.
    """

    summary: str
    accepts: str
    pipelines: Mapping[str, ModelPipeline]
    hub: str
    offline: Default | None
    renderer: str
    aliases: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    pair: tuple[str, ...] = ()
    required: tuple[RequiredOption, ...] = field(default=())
    varied: bool = False
    modes: Mapping[str, Mode] = field(default_factory=dict)
    language_pairs: bool = False
    training: TrainingTask | None = None

    def in_mode(self, name: str | None) -> Task:
        """Return the task with the pipelines and default models of a mode; None is the task itself.

        Raises:
            UnsupportedOption: the task has no such mode.
        """
        if name is None:
            return self
        if name not in self.modes:
            known = f"mode is {' or '.join(self.modes)}, or left out" if self.modes else "this task has no modes"
            raise UnsupportedOption(f"There is no mode {name!r}: {known}.")
        mode = self.modes[name]
        return replace(self, pipelines=mode.pipelines, hub=mode.hub, offline=mode.offline)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of an input that is a mapping; empty where an input is one text."""
        return tuple(each.name for each in self.inputs)

    @property
    def flags(self) -> Mapping[str, str]:
        """Options of `multihead run` for this task, with their help."""
        inputs = {each.flag: each.help for each in self.inputs if each.flag}
        return inputs | {each.flag: each.help for each in self.required}
