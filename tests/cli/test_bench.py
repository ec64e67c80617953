"""`multihead bench`: what it says it measures is what runs, and what cannot be measured is said."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from multihead.cli.bench import measure as costs
from multihead.cli.bench.command import MEASURED
from multihead.cli.main import cli
from multihead.errors import InvalidInput, ModelNotFound

QUICK = ("--runs", "1", "--seconds", "0.001")
RATES = {"fp32": 1e12, "bf16": 1e12, "int8": 1e12, "bytes": 1e11}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(costs, "machine_limits", lambda: RATES)
    monkeypatch.setenv("COLUMNS", "120")


def bench(*words, status=0):
    result = CliRunner().invoke(cli, ["bench", *QUICK, *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def told(tmp_path, *words):
    """What is printed, and what is written."""
    out = bench(*words, "--json", tmp_path / "cost.json")
    return out, json.loads((tmp_path / "cost.json").read_text())


@pytest.mark.parametrize(
    ("family", "sweeps"),
    [("bert", ["length", "batch"]), ("llama", ["prompt", "context", "requests"]), ("marian", ["sources"])],
)
def test_every_kind_of_model_is_measured(family, sweeps, request, tmp_path):
    folder = request.getfixturevalue(family)
    out, found = told(tmp_path, folder, "--lengths", "3,8", "--batches", "1,2", "--tokens", 4, "--new", 2)
    (model,) = found["models"]
    assert model["name"] == str(folder)
    assert [one["precision"] for one in model["loads"]] == list(MEASURED)
    assert all(one["bytes"] > 0 and one["seconds"] > 0 for one in model["loads"])
    assert [sweep["name"] for sweep in model["sweeps"]] == sweeps
    for sweep in model["sweeps"]:
        assert sweep["title"] in out
        sizes = [1, 2] if sweep["size"] in ("texts", "requests", "sources") else [3, 8]
        assert [(c["size"], c["precision"]) for c in sweep["cells"]] == [
            (size, precision) for size in sizes for precision in MEASURED
        ]
        assert all(cell["median"] > 0 and len(cell["runs"]) == 1 and cell["limit"] > 0 for cell in sweep["cells"])
    assert found["machine"]["versions"]["multihead"]
    assert found["settings"]["new"] == 2


def test_work_is_counted_alike_in_every_precision(llama, marian, bert):
    for folder in (llama, marian, bert):
        works = [costs.Work.of(costs.load(str(folder), precision, None)) for precision in ("fp32", "bf16", "int8")]
        assert len({(w.reads, w.writes, w.words, w.width, w.layers) for w in works}) == 1
        assert works[0].nbytes == 4 * (works[0].reads + (folder == marian) * works[0].writes) + 4 * works[0].words


def test_a_limit_is_what_the_machine_allows():
    work = costs.Work(reads=10**6, writes=10**6, words=10**5, nbytes=4 * 10**6, width=10, layers=1)
    (length, batch) = costs._encoder(costs.Settings(tokens=10))
    alone = costs.limit(length, work, 1, "fp32", RATES)
    assert alone == pytest.approx(1e11 / 4e6)  # one token: the weights are read
    many = costs.limit(batch, work, 1000, "fp32", RATES)
    assert many == pytest.approx(1e12 / (2e6 * 10 + 4 * 10 * 100))  # many: they are multiplied with
    assert costs.limit(length, work, 1, "int8", {name: RATES[name] for name in ("fp32", "bytes")}) is None


def test_exactly_so_many_tokens_are_written(llama, monkeypatch):
    model = costs.load(str(llama), "fp32", None)
    ids = costs.random_ids(model, 3, 5)
    special = [i for n in ("bos", "eos", "pad") if (i := getattr(model.config, f"{n}_token_id")) is not None]
    assert not set(special) & set(ids.flatten().tolist())
    assert torch.equal(ids, costs.random_ids(model, 3, 5))
    shapes = []
    write = type(model).generate
    monkeypatch.setattr(type(model), "generate", lambda *a, **k: shapes.append((out := write(*a, **k)).shape) or out)
    costs.generation_seconds(model, ids, 7)
    assert shapes == [(3, 12)]


def test_what_takes_too_long_or_has_no_place_is_left_out_and_said(bert, tmp_path):
    words = ("-p", "fp32", "--batches", "1,2,4", "--tokens", 4)
    out, found = told(tmp_path, bert, *words, "--lengths", "4", "--longest", 1e-6)
    assert [c["size"] for c in found["models"][0]["sweeps"][1]["cells"]] == [1]
    assert "stopped after 1 texts" in out
    out, found = told(tmp_path, bert, *words, "--lengths", "4,100000")
    assert [c["size"] for c in found["models"][0]["sweeps"][0]["cells"]] == [4]
    assert "100000 tokens: left out" in out


@pytest.mark.parametrize("end", ["png", "svg"])
def test_it_is_drawn(bert, llama, tmp_path, end):
    words = ("--lengths", "3,8", "--batches", "1,2", "--tokens", 4, "--new", 2, "-p", "fp32", "-p", "int8")
    bench(bert, llama, *words, "--plot", tmp_path / f"cost.{end}")
    if end == "png":
        image = Image.open(tmp_path / "cost.png").convert("L")
        assert image.width > 900
        low, high = image.getextrema()
        assert low < 60 < 250 < high
    else:
        assert "<path" in (tmp_path / "cost.svg").read_text()


def test_what_cannot_be_measured_is_refused(bert, tmp_path, monkeypatch):
    assert "whole numbers" in bench(bert, "--lengths", "4,x", status=2)
    assert "from 1 on" in bench(bert, "--batches", "0,4", status=2)
    assert "int3" in bench(bert, "-p", "int3", status=2)
    with pytest.raises(ModelNotFound):
        bench(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="cannot be drawn"):
        bench(bert, "-p", "fp32", "--lengths", "4", "--batches", "1", "--plot", tmp_path / "cost.xyz")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InvalidInput, match="needs matplotlib"):
        bench(bert, "--plot", tmp_path / "cost.svg")
