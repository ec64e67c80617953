"""YAML files of runs: what they hold is bounded, and what they cannot hold is said."""

from __future__ import annotations

import time

import pytest

from multihead.cli.train.config_file import read
from multihead.errors import InvalidInput

HEAD = "task: text-classification\nmodel: m\noutput: out\n"


def told(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path)


def laughs(levels, width, last="data"):
    """Names of lists of names: width to the power of levels values in a few hundred bytes."""
    names = "".join(f"  a{i}: &a{i} [{','.join([f'*a{i - 1}'] * width)}]\n" for i in range(1, levels))
    return f"{HEAD}options:\n  a0: &a0 [{','.join('x' * width)}]\n{names}{last}: *a{levels - 1}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (laughs(9, 10), "more than 10,000 values"),
        (laughs(25, 2, "eval_data"), "more than 10,000 values"),
        (f"{HEAD}options:\n  a: &a {{x: 1}}\n" + "".join(
            f"  a{i}: &b{i} {{<<: [{', '.join(['*a' if not i else f'*b{i - 1}'] * 10)}]}}\n" for i in range(9)),
         "more than 10,000 values"),
        (f"{HEAD}data: &d [*d]\n", "holds itself"),
        (f"{HEAD}options: &o {{a: *o}}\n", "holds itself"),
        (f"{HEAD}options: " + "[" * 5000, "deeper than are read|no YAML"),
        (f"{HEAD}options: {'[' * 40}{']' * 40}\n", "deeper than are read"),
        (f"{HEAD}options: {'{a: ' * 3000}1{'}' * 3000}\n", "deeper than are read"),
        (f"{HEAD}settings: {{batch_size: {'9' * 5000}}}\n", "no YAML|r.yaml"),
        ("task: [a]\nmodel: m\n", "task must hold the name of a task"),
        ("task: {a: b}\n", "task must hold"),
        ('output: "o\\0ut"\n', "output must hold the name of a folder"),
        ("model: true\n", "model must hold"),
        ("holdout: abc\n", "holdout must hold a share below 1"),
        ("holdout: true\n", "holdout must hold"),
        ("data: 3\n", "data must hold files"),
        ("data: []\n", "data must hold files"),
        ("data: [[a], {b: 1}]\n", "data must hold files"),
        ('data: ["a\\0b"]\n', "data must hold files"),
        ("options: [a]\n", "options must hold entries"),
        ("lora: yes please\n", "lora must hold a rank"),
        ("task: a\ntask: b\n", "'task' twice"),
        ("3: a\n", "has the entry 3"),
        ("? [a, b]\n: c\n", "no YAML|entry"),
        ("- a\n", "must hold entries"),
        ("", "must hold entries"),
        ("a: !!python/object/apply:os.system [x]\n", "no YAML"),
        ("a: !x b\n", "no YAML"),
        ("a: 2001-99-99\n", "'a'"),
        ("task: !!timestamp 2001-99-99\n", "no YAML"),
        ("task: !!binary x\n", "no YAML|task must"),
        (b"\xff\xfe", "no YAML"),
        (b"task: \x00", "no YAML"),
        ("a: b\n---\nc: d\n", "no YAML"),
        ("x" * (1 << 20) + "x", "at most 1 MB"),
    ],
)  # fmt: skip
def test_what_a_file_of_a_run_cannot_hold_is_refused_at_once(tmp_path, text, said):
    began = time.perf_counter()
    with pytest.raises(InvalidInput, match=said):
        told(tmp_path, text)
    assert time.perf_counter() - began < 20


def test_names_of_parts_are_read_where_they_are_few(tmp_path):
    found = told(
        tmp_path, f"{HEAD}data: &d [a.csv, b.csv]\neval_data: *d\nsettings: {{epochs: 2, lr: 2e-5}}\nholdout: 0.1\n"
    )
    assert [str(path) for path in found["eval_data"]] == ["a.csv", "b.csv"]
    assert (found["settings"], found["holdout"]) == ({"epochs": 2, "lr": 2e-5}, 0.1)
    columns = told(tmp_path, f"{HEAD}data: {{en: a.txt, pt: [b.txt, c.txt]}}\nlora: {{r: 4}}\n")
    assert str(columns["data"]["pt"][1]) == "c.txt"
