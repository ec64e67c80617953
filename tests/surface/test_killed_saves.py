"""A save that is killed leaves the old model, the new one, or none; never a mix, and nothing that stays for ever."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch

from multihead import AutoModelForCausalLM, files
from multihead.errors import CorruptFile, InvalidInput, ModelNotFound
from multihead.modeling import loading

SAVED = ["config.json", "generation_config.json", "model.safetensors"]
PROGRAM = """
import sys, torch
from multihead import AutoModelForCausalLM
torch.set_num_threads(1)
one = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="float32")
other = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="float32", rms_norm_eps=0.5)
with torch.no_grad():
    for parameter in one.parameters():
        parameter.fill_(1.0)
    for parameter in other.parameters():
        parameter.fill_(0.5)
print("ready", flush=True)
while True:
    one.save_pretrained(sys.argv[2], max_shard_size=sys.argv[3])
    other.save_pretrained(sys.argv[2], max_shard_size=sys.argv[3])
"""


@pytest.mark.parametrize("shards", ["5GB", "4KB"])
def test_a_killed_save_leaves_one_model_or_none_and_the_next_one_cleans_up(llama, tmp_path, shards):
    folder = tmp_path / "model"
    generator, read, gone = random.Random(0), 0, 0
    words = [sys.executable, "-c", PROGRAM, str(llama), str(folder), shards]
    for _ in range(2):
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        end = time.time() + 0.5 + generator.random() / 4
        while time.time() < end:
            try:
                whole(AutoModelForCausalLM.from_pretrained(folder, dtype="float32"))
                read += 1
            except (CorruptFile, ModelNotFound):  # while it is replaced
                gone += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            whole(AutoModelForCausalLM.from_pretrained(folder, dtype="float32"))
        except (CorruptFile, ModelNotFound):
            gone += 1
    assert read + gone > 2
    model = AutoModelForCausalLM.from_pretrained(llama, dtype="float32")
    model.save_pretrained(folder)
    assert sorted(os.listdir(folder)) == SAVED
    found = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), found.parameters(), strict=True))


def whole(model):
    """That every weight is of the save that the config is of."""
    value = 0.5 if model.config.rms_norm_eps == 0.5 else 1.0
    assert all(bool((parameter == value).all()) for parameter in model.parameters())


def test_only_what_changes_is_replaced_and_what_belonged_to_the_old_model_goes(llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(llama, dtype="float32")
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    (tmp_path / "notes.txt").write_text("kept")
    config = (tmp_path / "config.json").stat()
    model.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*SAVED, "notes.txt"])
    again = (tmp_path / "config.json").stat()
    assert again.st_ino != config.st_ino, "several files changed, so the config went first and came last"
    model.save_pretrained(tmp_path)
    assert (tmp_path / "config.json").stat().st_ino == again.st_ino


def test_a_folder_that_is_written_while_it_is_read_is_said(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    with files.check_unchanged(path):
        pass
    with pytest.raises(CorruptFile, match="written while it was read"), files.check_unchanged(path):
        files.write_text(path, "{}")


def test_a_config_that_comes_and_goes_while_a_folder_is_read_is_said(llama, tmp_path, monkeypatch):
    """One save ends and the next begins between two looks at config.json: the weights may be of either."""
    AutoModelForCausalLM.from_pretrained(llama).save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_bytes()
    (tmp_path / "config.json").unlink()
    read = loading.read_config

    def between_saves(*arguments):
        (tmp_path / "config.json").write_bytes(config)
        try:
            return read(*arguments)
        finally:
            (tmp_path / "config.json").unlink()

    monkeypatch.setattr(loading, "read_config", between_saves)
    with pytest.raises(CorruptFile, match="written while it was read"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_leaves_the_old_model(llama, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        model = AutoModelForCausalLM.from_pretrained(llama, dtype="bfloat16")
        model.save_pretrained(tmp_path / "model")
        before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
        with suppress(OSError), (tmp_path / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1 << 12))
        with pytest.raises(InvalidInput, match="cannot be written"):
            model.save_pretrained(tmp_path / "model")
        assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
