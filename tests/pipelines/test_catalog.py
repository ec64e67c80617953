"""The registry of tasks: every entry can be loaded, drawn and trained, and docs and help name all of them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from multihead.cli.main import cli
from multihead.cli.render.answers import renderer_of
from multihead.errors import UnsupportedOption
from multihead.machine_facts import PACKAGES
from multihead.pipelines.base import Pipeline
from multihead.pipelines.catalog import ALIASES, TASKS, TRAINABLE, TRAINING_ALIASES, canonical_name, get_task
from multihead.training.tasks.registry import job_class

DOCS = Path(__file__).parents[2] / "docs"


def docs_row(name):
    """The row of a task in docs/tasks.md."""
    task = TASKS[name]
    names = f"`{name}`" + (f", `{name}_xx_to_yy`" if task.language_pairs else "")
    names += "".join(f" (`{alias}`)" for alias in task.aliases)
    first, *more = (each.model for each in task.pipelines.values())
    return f"| {names} | {task.accepts} | {first} | {'; '.join(more)} |".replace("|  |", "| |")


@pytest.mark.parametrize("name", TASKS)
def test_every_pipeline_of_a_task_exists_and_loads_the_head_it_is_registered_for(name):
    for head, each in TASKS[name].pipelines.items():
        file, _, class_name = each.path.rpartition(".")
        cls = getattr(import_module(f"multihead.pipelines.{file}"), class_name)
        assert issubclass(cls, Pipeline)
        assert cls.auto == ("AutoModel" if head == "Model" else f"AutoModelFor{head}")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_drawn_by_a_function_of_a_console_an_input_and_an_answer(name):
    assert len(inspect.signature(renderer_of(name)).parameters) == 3


@pytest.mark.parametrize("name", TASKS)
def test_docs_and_help_name_every_task(name):
    row = docs_row(name)
    assert row in (DOCS / "tasks.md").read_text().splitlines(), f"docs/tasks.md needs this row:\n{row}"
    said = " ".join(CliRunner().invoke(cli, ["run", "--help"]).output.split())
    assert f"{name} {TASKS[name].summary}" in said
    for flag, text in TASKS[name].flags.items():
        assert f"--{flag} " in said
        assert text in said


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_task_that_is_trained_has_a_job_a_pipeline_and_packages_that_doctor_looks_for(name):
    task = TRAINABLE[name]
    assert job_class(name).name == name
    assert (task.pipeline or name) in TASKS
    assert {*task.packages, *task.text_packages} <= {package.module for package in PACKAGES}
    assert re.search(rf"^\|.*`{name}`", (DOCS / "training.md").read_text(), re.MULTILINE)
    assert name in CliRunner().invoke(cli, ["train", "--help"]).output


def test_an_alias_means_one_task():
    assert not set(ALIASES) & set(TASKS)
    assert not set(TRAINING_ALIASES) & set(TRAINABLE)
    assert sum(len(task.aliases) for task in TASKS.values()) == len(ALIASES)
    assert all(get_task(alias) is TASKS[name] for alias, name in ALIASES.items())
    assert canonical_name("translation_pt_to_en") == "translation"
    with pytest.raises(UnsupportedOption, match="'rerank'"):
        canonical_name("reranc")


def test_the_registry_loads_no_torch():
    code = "import sys, multihead.pipelines.catalog; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
