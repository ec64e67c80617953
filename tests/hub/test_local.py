"""Local folders and files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from multihead.errors import InvalidInput, ModelNotFound, MultiheadError, UnsupportedOption
from multihead.hub import Want, resolve


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "models" / "tiny-bert"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"")
    return made


def test_a_folder_is_itself(folder):
    assert resolve(folder) == folder
    assert resolve(str(folder) + "/") == folder


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve("~/tiny-bert") == folder


def test_a_folder_that_is_here_comes_before_the_hub(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    assert resolve("models/tiny-bert").samefile(folder)


def test_a_file_is_itself(folder):
    path = folder / "model.safetensors"
    assert resolve(path) == path


def test_a_subfolder_is_applied(folder):
    assert resolve(folder.parent, subfolder="tiny-bert") == folder


def test_a_gguf_file_is_found_by_name_or_alone(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"")
    assert resolve(tmp_path) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").write_bytes(b"")
    assert resolve(tmp_path, gguf_file="b.gguf") == tmp_path / "b.gguf"


def test_parts_of_a_model_and_its_projector_are_one_model(tmp_path):
    names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-F16.gguf"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert resolve(tmp_path) == tmp_path / names[0]
    assert resolve(tmp_path, gguf_file=names[1]) == tmp_path / names[1]
    (tmp_path / "n-00001-of-00002.gguf").write_bytes(b"")
    with pytest.raises(ModelNotFound, match=r"2 GGUF files.*m-00001-of-00002\.gguf, n-00001"):
        resolve(tmp_path)


def test_several_gguf_files_ask_for_a_choice(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelNotFound, match=r"gguf_file=.*a\.gguf, b\.gguf"):
        resolve(tmp_path)


def test_gguf_files_beside_a_tokenizer_do_not_hide_it(tmp_path):
    for name in ("a.gguf", "b.gguf", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"")
    assert resolve(tmp_path, [Want.TOKENIZER]) == tmp_path


def test_a_missing_path_names_what_is_beside_it(folder):
    with pytest.raises(ModelNotFound, match=r"tiny-brt.*tiny-bert"):
        resolve(str(folder.parent / "tiny-brt"))


def test_a_missing_path_deep_down_names_the_first_part_that_is_wrong(folder):
    with pytest.raises(ModelNotFound, match="tiny-bert"):
        resolve(str(folder.parent / "tiny-brt" / "deeper" / "model.gguf"))


@pytest.mark.parametrize("name", ["./nothing", "../nothing", "~/nothing", "a/b/c", "weights.gguf", "m.safetensors"])
def test_what_looks_like_a_path_never_asks_the_hub(name, hub):
    with pytest.raises(ModelNotFound):
        resolve(name)
    assert hub.requests == []


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        resolve(tmp_path)


def test_a_folder_of_other_things_says_what_it_has(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ModelNotFound, match=r"holiday\.jpg"):
        resolve(tmp_path)


def test_a_link_to_nothing_is_no_file(tmp_path):
    (tmp_path / "config.json").symlink_to(tmp_path / "gone")
    with pytest.raises(ModelNotFound):
        resolve(tmp_path)


def test_a_subfolder_stays_inside(folder):
    with pytest.raises(MultiheadError):
        resolve(folder, subfolder="../tiny-bert")
    with pytest.raises(MultiheadError):
        resolve(folder, gguf_file="../tiny-bert/model.safetensors")


def test_a_missing_subfolder_or_file_names_the_likes_of_it(folder):
    with pytest.raises(ModelNotFound, match="tiny-bert"):
        resolve(folder.parent, subfolder="tiny-brt")
    with pytest.raises(ModelNotFound, match="model"):
        resolve(folder, gguf_file="modell.safetensors")


def test_a_file_has_no_subfolder(folder):
    with pytest.raises(UnsupportedOption):
        resolve(folder / "config.json", subfolder="x")


def test_a_folder_has_no_revision(folder):
    assert resolve(folder, revision="main") == folder
    with pytest.raises(UnsupportedOption, match="v2"):
        resolve(folder, revision="v2")


@pytest.mark.parametrize(
    "name", ["", " ", "a\0b", "https://example.org/org/name", "--x", "a//b", "a b", "ü", "~no-such-user/x"]
)
def test_a_name_that_cannot_be_is_one_clear_error(name):
    with pytest.raises(ModelNotFound):
        resolve(name)


@pytest.mark.parametrize("name", [None, 3, b"bytes", ["list"]])
def test_a_name_of_another_type_is_invalid(name):
    with pytest.raises(InvalidInput, match="string or a path"):
        resolve(name)


def test_a_name_longer_than_paths_can_be_is_not_found():
    with pytest.raises(ModelNotFound):
        resolve("x" * 5000)


def test_finding_a_folder_imports_nothing_heavy(folder):
    code = (
        "import sys; from multihead.hub import resolve; resolve(sys.argv[1]);"
        "print([m for m in ('torch', 'huggingface_hub', 'subprocess', 'zipfile', 'filelock') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True, env=os.environ
    )
    assert run.stdout.strip() == "[]"


def test_a_folder_may_be_relative(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert resolve(".") == Path(".")
