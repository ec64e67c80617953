"""Checkpoints that somebody else had in hand: no code of them runs, and what was added to them is never read."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from multihead import errors
from multihead.training.callbacks import TrainerCallback
from multihead.training.checkpointing import folders as checkpoints
from multihead.training.distributed import dcp_reader as parts
from multihead.training.distributed import dtensor as spread
from multihead.training.state import STATE_FILE
from tests.training.runs import examples, trainer


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer(folder, max_steps=2, save_steps=2).train()
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def resealed(checkpoint):
    """A manifest as whoever changes a checkpoint would write it."""
    (checkpoint / checkpoints.MANIFEST).unlink()
    checkpoints._write_manifest(checkpoint)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("chosen", [True, "checkpoint-2"])
def test_code_in_an_added_folder_of_parts_does_not_run(run, tmp_path, sealed, chosen):
    (run / "checkpoint-2" / "distributed").mkdir()
    (run / "checkpoint-2" / "distributed" / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    if sealed:
        resealed(run / "checkpoint-2")
    going = trainer(run, max_steps=3)
    if sealed:  # run.json says that one process wrote it
        going.train(resume_from_checkpoint=chosen if chosen is True else run / chosen)
        assert going.state.global_step == 3
    else:
        with pytest.raises(errors.UnsafeFile, match=r"distributed/\.metadata.*Move it out"):
            going.train(resume_from_checkpoint=chosen if chosen is True else run / chosen)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("told", [{"parted": True}, {"parted": None}])
def test_code_in_a_folder_of_parts_that_the_checkpoint_names_does_not_run(run, tmp_path, told):
    checkpoint = run / "checkpoint-2"
    (checkpoint / "training_state.safetensors").unlink()
    (checkpoint / "distributed").mkdir()
    (checkpoint / "distributed" / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    entries = {**json.loads((checkpoint / "run.json").read_text()), **told}
    entries = {name: value for name, value in entries.items() if value is not None or name == "scaler"}
    (checkpoint / "run.json").write_text(json.dumps(entries))
    resealed(checkpoint)
    with pytest.raises(errors.UnsafeFile, match=r"wants to run code, which is refused: it asks for \w+\.mkdir"):
        trainer(run, max_steps=3).train(resume_from_checkpoint=True)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "prepared.safetensors",
        "adapter_config.json",
        "random_state_1.json",
        "more/model.safetensors",
    ],
)
def test_a_file_that_the_manifest_does_not_name_is_refused(run, name):
    path = run / "checkpoint-2" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    with pytest.raises(errors.UnsafeFile, match=f"holds {name}, which checkpoint.json does not name: added after"):
        checkpoints.verify(run / "checkpoint-2")


def test_a_link_to_a_folder_is_refused_and_what_file_managers_leave_is_not(run, tmp_path):
    for left in (".DS_Store", "._model.safetensors", ".directory", ".nfs00000000deadbeef"):
        (run / "checkpoint-2" / left).write_bytes(b"x")
    checkpoints.verify(run / "checkpoint-2")
    (run / "checkpoint-2" / "distributed").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(errors.UnsafeFile, match="holds distributed"):
        checkpoints.verify(run / "checkpoint-2")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_a_manifest_that_names_files_outside_is_refused(run, name):
    path = run / "checkpoint-2" / checkpoints.MANIFEST
    told = json.loads(path.read_text())
    told["files"][name] = {"size": 1, "sha256": "0"}
    path.write_text(json.dumps(told))
    with pytest.raises(errors.UnsafeFile, match="no file of its folder"):
        checkpoints.verify(run / "checkpoint-2")


class Writes(TrainerCallback):
    """Puts a file of its own into each checkpoint, as `on_save` is for."""

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "own"
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")


def test_what_a_callback_adds_as_a_checkpoint_is_saved_belongs_to_it(tmp_path):
    trainer(tmp_path, max_steps=2, save_steps=2, callbacks=[Writes()]).train()
    told = json.loads((tmp_path / "checkpoint-2" / checkpoints.MANIFEST).read_text())["files"]
    assert told["own/notes.txt"] == {"size": 4, "sha256": hashlib.sha256(b"mine").hexdigest()}
    checkpoints.verify(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / "own" / "notes.txt").write_text("thine")
    with pytest.raises(errors.CheckpointBroken, match=r"notes\.txt"):
        checkpoints.verify(tmp_path / "checkpoint-2")


def test_a_best_checkpoint_that_was_changed_is_not_loaded(tmp_path):
    settings = {"max_steps": 4, "save_steps": 2, "eval_steps": 2, "eval_strategy": "steps"}
    going = trainer(tmp_path, eval_dataset=examples(8), load_best_model_at_end=True, **settings)

    class Spoils(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            for path in tmp_path.glob("checkpoint-*/config.json"):
                path.write_text(path.read_text() + " ")

    going.add_callback(Spoils())
    with pytest.warns(UserWarning, match=r"load_best_model_at_end: .*config\.json .*the weights of the last step stay"):
        going.train()


@pytest.mark.parametrize(
    "damage", [b"{", b"[]", b'{"python": 3}', b'{"python": [3, [1], null], "numpy": [], "torch": 1}']
)
def test_a_state_of_generators_that_is_none_is_refused_by_name(run, damage):
    (run / "checkpoint-2" / "random_state_0.json").write_bytes(damage)
    resealed(run / "checkpoint-2")
    with pytest.raises((errors.CheckpointBroken, errors.CorruptFile), match="random_state_0"):
        trainer(run, max_steps=3).train(resume_from_checkpoint=True)


def test_a_state_of_the_run_that_is_none_is_refused_by_name(run):
    (run / "checkpoint-2" / STATE_FILE).write_bytes(b"[]")
    resealed(run / "checkpoint-2")
    with pytest.raises(errors.MultiheadError, match=STATE_FILE):
        trainer(run, max_steps=3).train(resume_from_checkpoint=True)


def learned(checkpoint, change):
    """The same checkpoint with other tensors in its state, sealed anew."""
    path = checkpoint / "training_state.safetensors"
    tensors = change(load_file(path))
    save_file(tensors, path)
    resealed(checkpoint)


def test_weights_of_another_shape_are_not_spread_over_the_model(run):
    name = "weights/head.out.bias"
    learned(run / "checkpoint-2", lambda tensors: tensors | {name: torch.zeros(1)})
    with pytest.raises(errors.CheckpointBroken, match=r"does not hold weights/|holds \[1\] numbers, not \[3\]"):
        trainer(run, max_steps=3).train(resume_from_checkpoint=True)


@pytest.fixture
def stored(tmp_path):
    """A folder of parts with what it holds."""
    tensors = {"optimizer/a/x": torch.arange(12.0).view(3, 4), "average_steps": torch.tensor(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spread.write_tensors(tmp_path / "distributed", tensors)
    return tmp_path / "distributed", tensors


def test_parts_are_read_as_they_were_written(stored):
    folder, tensors = stored
    found = spread.read_tensors(folder, {})
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def rewritten(folder, change):
    table = parts.read_metadata(folder)
    change(table)
    (folder / parts.METADATA_FILE).write_bytes(pickle.dumps(table))


def places(table):
    return list(table.storage_data.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: setattr(places(t)[0], "relative_path", "../outside"), "no file of its folder"),
        (lambda t: setattr(places(t)[0], "relative_path", "/etc/passwd"), "no file of its folder"),
        (lambda t: setattr(places(t)[0], "length", 10**9), "shorter than"),
        (lambda t: setattr(places(t)[0], "offset", -8), "shorter than"),
        (lambda t: setattr(places(t)[0], "transform_descriptors", ["zstd"]), "compressed"),
        (lambda t: t.state_dict_metadata["optimizer/a/x"].chunks.clear(), "does not consist of the shards"),
        (lambda t: t.storage_data.clear(), "does not list"),
        (lambda t: setattr(t, "storage_data", None), "does not list"),
        (lambda t: setattr(t, "state_dict_metadata", None), "not the metadata"),
        (lambda t: t.state_dict_metadata.update(b=object.__new__(parts.metadata.BytesStorageMetadata)), "asks for"),
        (lambda t: setattr(t.state_dict_metadata["optimizer/a/x"], "size", torch.Size([10**6, 10**6])), "consist of"),
    ],
)  # fmt: skip
def test_a_table_of_parts_that_does_not_fit_its_files_is_refused(stored, change, said):
    rewritten(stored[0], change)
    with pytest.raises((errors.CheckpointBroken, errors.UnsafeFile), match=said):
        spread.read_tensors(stored[0], {})


def test_a_table_of_parts_that_overlap_is_refused(stored):
    def change(table):
        chunk = table.state_dict_metadata["optimizer/a/x"].chunks[0]
        half = parts.metadata.ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([2, 3]))
        table.state_dict_metadata["optimizer/a/x"].chunks[:] = [half, half]
        assert chunk is not half

    rewritten(stored[0], change)
    with pytest.raises(errors.CheckpointBroken, match="does not consist of the shards"):
        spread.read_tensors(stored[0], {})


def test_a_damaged_table_of_parts_is_one_of_our_errors(stored):
    table = stored[0] / parts.METADATA_FILE
    whole = table.read_bytes()
    for place in range(0, len(whole), 7):
        for byte in (0, 46, 255):
            table.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            try:
                found = spread.read_tensors(stored[0], {})
            except errors.MultiheadError:
                continue
            assert all(isinstance(value, torch.Tensor) for value in found.values())


def test_code_in_a_part_does_not_run(stored, tmp_path):
    path = stored[0] / "__0_0.distcp"
    torch.save(Evil(tmp_path / "mark"), tmp_path / "evil")
    path.write_bytes((tmp_path / "evil").read_bytes().ljust(path.stat().st_size, b"\0"))

    def first(table):
        for place in places(table):
            place.offset, place.length = 0, (tmp_path / "evil").stat().st_size

    rewritten(stored[0], first)
    with pytest.raises(errors.CheckpointBroken, match="asks for") as told:
        spread.read_tensors(stored[0], {})
    assert "weights_only" not in str(told.value)
    assert not (tmp_path / "mark").exists()
