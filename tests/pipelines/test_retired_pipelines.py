"""Pipelines that the reference had before its version 5: the same answers as its last versions gave.

`retired_pipelines.json` holds what version 4.49 answered, with models whose weights anybody can draw again (as
`tests.generation.drawn` says).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from multihead import pipeline
from tests.generation.drawn import write

MODELS = json.loads((Path(__file__).parent / "retired_pipelines.json").read_text())["models"]
REFERENCE_OPTIONS = {
    "translation": {"split_sentences": False, "protect_words": False},
    "question-answering": {"normalization": "window"},
}
CALLS = [(name, number) for name, model in MODELS.items() for number in range(len(model["calls"]))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name, model in MODELS.items():
        folder = made[name] = tmp_path_factory.mktemp(name)
        write(model, folder)
        for file, text in model["files"].items():
            (folder / file).write_text(text, encoding="utf-8")
    return made


@pytest.mark.parametrize(("name", "number"), CALLS, ids=[f"{name}-{number}" for name, number in CALLS])
def test_answers_equal_those_of_its_last_versions(folders, name, number):
    call = MODELS[name]["calls"][number]
    more = REFERENCE_OPTIONS.get(call["task"].partition("_")[0], {})
    pipe = pipeline(call["task"], folders[name], dtype="float32", **more)
    inputs = call["inputs"]
    same(pipe(**inputs, **call["options"]) if call["keyword"] else pipe(inputs, **call["options"]), call["answer"])


@pytest.mark.parametrize("call", MODELS["tapex"]["calls"], ids=lambda call: call["inputs"]["query"])
def test_a_table_is_read_as_tapex_was_taught(folders, call):
    pipe = pipeline("table-question-answering", folders["tapex"], dtype="float32")
    table = pipe.validate(call["inputs"], pipe.resolve_options())
    assert pipe.preprocess([table], pipe.resolve_options())[0][0].ids == call["ids"]


def same(ours, theirs):
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            same(ours[key], theirs[key])
    elif isinstance(theirs, list) and isinstance(ours, torch.Tensor):
        written = [token for token in theirs[1:] if token != 1]  # theirs begin with the decoder's start, and are padded
        assert ours.tolist() == written
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=1e-5)
    else:
        assert ours == theirs
