"""`multihead doctor`: what it tells is what the package does, and a broken machine gets a report too."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

import multihead
from multihead import machine_facts as machine
from multihead.cli.main import cli
from multihead.kernels.cpu import native
from multihead.native import build
from multihead.runtime.prepare import PRECISIONS, resolve_precision


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Measures no longer than a test may last, on a wide terminal."""
    monkeypatch.setattr(machine, "LONG", 0.001)
    monkeypatch.setenv("COLUMNS", "200")


def doctor(*words, status=0):
    result = CliRunner().invoke(cli, ["doctor", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def break_kernels(monkeypatch, reason):
    monkeypatch.setattr(native, "level", lambda: None)
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(native, "why_not", lambda: reason)


def test_it_tells_what_the_package_does_here():
    found = json.loads(doctor("--json"))
    assert found["versions"]["multihead"] == multihead.__version__
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["kernels"]["level"] == native.level()
    assert found["kernels"]["reason"] == native.why_not()
    assert found["precisions"]["auto"] == resolve_precision("auto")
    assert list(found["precisions"]["each"]) == [*found["speeds"], "gguf"] == list(PRECISIONS)
    for name, paths in found["speeds"].items():
        assert ("kernels" in paths) == (name != "fp32" and native.library() is not None)
        assert ("as loaded" in paths) == (name in ("fp32", "bf16") and native.library() is not None)
        assert all(number > 0 for speed in paths.values() for number in speed.values())
    assert next(p["version"] for p in found["packages"] if p["name"] == "pillow")


def test_it_is_drawn():
    out = doctor()
    named = "processor", "decode runner", "llguidance", "GFLOP/s"
    for said in (*PRECISIONS, f'precision="auto" is {resolve_precision("auto")}', *named):
        assert said in out


@pytest.mark.parametrize(
    ("reason", "advised"),
    [
        ("not built: no C++ compiler was found (c++, g++ or clang++; or set CXX)", "install one"),
        ("not built: c++ failed: error: no such flag", "CXX=clang++"),
        ("not built", "run `multihead doctor --build`"),
        ("MULTIHEAD_LEVEL=amx is no level that this processor can run", "unset MULTIHEAD_LEVEL"),
    ],
)
def test_without_kernels_it_says_why_and_what_to_do(monkeypatch, reason, advised):
    break_kernels(monkeypatch, reason)
    out = doctor()
    assert reason in out
    assert advised in out
    found = json.loads(doctor("--json"))
    assert "slow" in found["precisions"]["each"]["int8"]["by"]
    assert found["precisions"]["each"]["bf16"]["by"] == "torch"
    assert all(list(paths) == ["torch"] for paths in found["speeds"].values())


@pytest.mark.parametrize(
    "name", ["processor", "torch_features", "kernels", "precisions", "packages", "allocator", "version", "speed"]
)
def test_what_is_broken_is_a_row(monkeypatch, name):
    def broken(*_):
        raise OSError(f"{name} is on fire\nand more")

    monkeypatch.setattr(machine, name, broken)
    out = doctor()
    assert f"OSError: {name} is on fire" in out
    assert "and more" not in out
    assert multihead.__version__ in out


def test_the_environment_is_told():
    asked = [sys.executable, "-m", "multihead", "doctor", "--json"]
    switched = {"MULTIHEAD_NATIVE": "0", "MULTIHEAD_KEEP_MEMORY": "0", "MULTIHEAD_RUNNER": "cpu"}
    done = subprocess.run(asked, capture_output=True, text=True, check=True, env={**os.environ, **switched})
    found = json.loads(done.stdout)
    assert found["kernels"]["advice"] == "unset MULTIHEAD_NATIVE to use them"
    assert found["decoding"] == {"setting": "cpu", "unavailable": {**found["decoding"]["unavailable"], "eager": ""}}
    assert "MULTIHEAD_NATIVE=0" in found["decoding"]["unavailable"]["cpu"]
    assert found["memory"] == {"kept": False, "reason": "MULTIHEAD_KEEP_MEMORY=0"} or sys.platform != "linux"
    assert switched.items() <= found["machine"]["settings"].items()


def test_missing_packages_are_named_with_what_brings_them(monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name in ("pyarrow", "seqeval") else True)
    out = doctor()
    assert out.count("missing") == 2
    assert 'python -m pip install "multihead[parquet,train]"' in out


def test_measuring_ends_in_time(monkeypatch):
    monkeypatch.setattr(machine, "SECONDS", -1.0)
    assert "no time left" in doctor()


def test_building_says_what_came_of_it(monkeypatch):
    monkeypatch.setattr(machine, "SECONDS", -1.0)
    monkeypatch.setattr(build, "attempt", lambda: "built by c++ for plain")
    assert "kernels built by c++ for plain" in doctor("--build")
    assert json.loads(doctor("--build", "--json"))["build"] == "built by c++ for plain"
    reason = "not built: no C++ compiler was found"
    monkeypatch.setattr(build, "attempt", lambda: reason)
    out = doctor("--build", status=1)
    assert f"kernels {reason}" in out
    assert "install one" in out
    assert json.loads(doctor("--build", "--json", status=1))["build"] == reason

    def refused():
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(build, "attempt", refused)
    assert "cannot be written (Permission denied)" in doctor("--build", status=1)
