"""Checkpoints never lose work: a run that was stopped, killed or damaged gives what an undisturbed run gives."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

import multihead
from multihead import errors
from multihead.files import staging_path
from multihead.training.arguments import TrainingArguments
from multihead.training.callbacks import TrainerCallback
from multihead.training.checkpointing import folders as checkpoints
from multihead.training.trainer import Trainer
from tests.training.runs import SETTINGS, examples, losses, same, started, tiny, trainer, weights


class Stop(TrainerCallback):
    """Ends a run after a step, as a crash would: nothing is saved then."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise RuntimeError("crash")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = trainer(tmp_path_factory.mktemp("whole"), save_strategy="no")
    run.train()
    return weights(run.model), losses(run)


def crashed(folder, step, **settings):
    run = trainer(folder, callbacks=[Stop(step)], **settings)
    with pytest.raises(RuntimeError, match="crash"):
        run.train()


@pytest.mark.parametrize("step", [6, 11, 24, 26, 46])
def test_a_resumed_run_is_bit_for_bit_the_run_that_never_stopped(step, tmp_path, undisturbed):
    crashed(tmp_path, step)
    run = trainer(tmp_path)
    run.train(resume_from_checkpoint=True)
    assert same(weights(run.model), undisturbed[0])
    assert losses(run) == undisturbed[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 3, "lr_scheduler_type": "cosine", "warmup_ratio": 0.2},
        {"max_tokens_per_batch": 60, "weight_decay": 0.1},
        {"optim": "muon"},
        {"optim": "adafactor"},
        {"optim": "sgd", "train_sampling_strategy": "group_by_length"},
        {"ema_decay": 0.9},
        {"bf16": True},
        {"gradient_checkpointing": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_way_to_train_resumes_exactly(settings, tmp_path):
    whole = trainer(tmp_path / "whole", **{**settings, "save_strategy": "no"})
    whole.train()
    crashed(tmp_path / "parts", 7, **settings)
    run = trainer(tmp_path / "parts", **settings)
    run.train(resume_from_checkpoint=True)
    assert same(weights(run.model), weights(whole.model))
    if run.average:
        assert same(run.average.weights, whole.average.weights)


def test_a_broken_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path, undisturbed):
    crashed(tmp_path, 13)
    newest = tmp_path / "checkpoint-10"
    file = newest / "training_state.safetensors"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    run = trainer(tmp_path)
    with pytest.warns(UserWarning, match="checkpoint-10.*hash.*skipped"):
        run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 48
    assert same(weights(run.model), undisturbed[0])


def test_a_damaged_checkpoint_that_is_named_is_refused(tmp_path):
    crashed(tmp_path, 7)
    file = tmp_path / "checkpoint-5" / "training_state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(errors.CheckpointBroken, match="its size differs"):
        trainer(tmp_path).train(resume_from_checkpoint=tmp_path / "checkpoint-5")


def test_a_half_written_folder_is_no_checkpoint(tmp_path):
    crashed(tmp_path, 13)
    (tmp_path / "checkpoint-10" / "checkpoint.json").unlink()
    with pytest.warns(UserWarning, match="has no checkpoint.json"):
        assert checkpoints.Checkpoints(tmp_path).newest() == tmp_path / "checkpoint-5"
    with pytest.raises(errors.CheckpointBroken, match="not completely written"):
        trainer(tmp_path).train(resume_from_checkpoint=tmp_path / "checkpoint-10")
    with pytest.raises(errors.ModelNotFound, match="no valid checkpoint"):
        trainer(tmp_path / "empty").train(resume_from_checkpoint=True)


def test_a_full_disk_is_said_and_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch, undisturbed):
    sealed = checkpoints._write_manifest

    def full(folder):
        if "checkpoint-15" in str(folder):
            raise OSError(errno.ENOSPC, "No space left on device")
        sealed(folder)

    monkeypatch.setattr(checkpoints, "_write_manifest", full)
    with pytest.raises(errors.CheckpointNotWritten, match=r"the disk is full.*last good checkpoint is .*checkpoint-10"):
        trainer(tmp_path, save_total_limit=1).train()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"], "nothing half written is left"
    monkeypatch.undo()
    run = trainer(tmp_path)
    run.train(resume_from_checkpoint=True)
    assert same(weights(run.model), undisturbed[0])


def test_old_checkpoints_go_and_the_best_one_stays(tmp_path):
    run = trainer(
        tmp_path, eval_dataset=examples(20, seed=5), eval_strategy="steps", eval_steps=5, save_total_limit=2,
        load_best_model_at_end=True, metric_for_best_model="loss", learning_rate=0.05,
    )  # fmt: skip
    run.train()
    best = Path(run.state.best_model_checkpoint)
    assert best.exists()
    assert len(run.checkpoints.all()) == 2
    measured = [e["eval_loss"] for e in run.state.log_history if "eval_loss" in e]
    assert run.state.best_metric == min(measured) != measured[-1]
    assert run.evaluate()["eval_loss"] == pytest.approx(min(measured), rel=1e-5)


def test_sigterm_saves_and_leaves(tmp_path, undisturbed):
    process = started(tmp_path, save_steps=1000)
    assert [process.stdout.readline() for _ in range(2)] == ["begins\n", "stepped\n"]
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert process.returncode == 128 + signal.SIGTERM, process.stderr.read()[-2000:]
    [kept] = [p for p in tmp_path.iterdir() if p.name.startswith("checkpoint-")]
    assert json.loads((kept / "trainer_state.json").read_text())["global_step"] > 0
    run = trainer(tmp_path)
    run.train(resume_from_checkpoint=True)
    assert same(weights(run.model), undisturbed[0])


@pytest.mark.slow
def test_kills_at_any_moment_and_inside_saves_change_nothing(tmp_path, undisturbed):
    """Twenty kills: half after a random while, half in the middle of a save."""
    draw = random.Random(0)
    kills = inside = 0
    while kills < 20:
        if (tmp_path / "checkpoint-48").exists():
            for path in (tmp_path / f"checkpoint-{n}" for n in range(draw.randrange(3, 40), 49)):
                shutil.rmtree(path, ignore_errors=True)
        wanted = kills % 2 == 0
        process = started(tmp_path, slow=0.2 if wanted else 0.0, save_steps=3)
        try:
            assert process.stdout.readline() == "begins\n", process.stderr.read()[-2000:]
            if wanted:
                assert process.stdout.readline() in ("stepped\n", "saving\n", "done\n")
                time.sleep(draw.random() * 0.15)
            else:
                time.sleep(draw.random() * 0.3)
            inside += wanted and process.poll() is None
        finally:
            process.kill()
            process.wait()
        kills += 1
    assert inside >= 8
    run = trainer(tmp_path, save_steps=3)
    run.train(resume_from_checkpoint=bool(run.checkpoints.newest()))
    assert same(weights(run.model), undisturbed[0])
    assert not list(tmp_path.glob(".checkpoint-*")), "what kills left half written is cleaned away"


def test_a_run_of_another_plan_is_refused_with_what_differs(tmp_path):
    crashed(tmp_path, 7)
    cases = [
        ({"per_device_train_batch_size": 8}, "batch 4, now 8"),
        ({"seed": 4}, "seed 3, now 4"),
        ({"data": examples(90)}, "examples 96, now 90"),
    ]
    for changes, message in cases:
        with pytest.raises(errors.CheckpointBroken, match=message):
            trainer(tmp_path, **changes).train(resume_from_checkpoint=True)
    other = tiny()
    for parameter in other.backbone.layers[0].parameters():
        parameter.requires_grad_(False)
    with pytest.raises(errors.CheckpointBroken, match="other trainable parameters"):
        trainer(tmp_path, model=other).train(resume_from_checkpoint=True)


def test_a_checkpoint_is_a_model_that_anybody_loads(tmp_path):
    run = trainer(tmp_path)
    run.train()
    model = multihead.AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-48")
    assert same(weights(model), weights(run.model))
    ids = torch.tensor([[7, 8, 9]])
    run.model.eval()
    assert torch.equal(model(ids).logits, run.model(ids).logits)


class Notes(TrainerCallback):
    """Keeps the weights of each step."""

    def __init__(self):
        self.kept = {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.kept[state.global_step] = weights(model)


def stored(path):
    return weights(multihead.AutoModelForSequenceClassification.from_pretrained(path))


BEST = {"eval_strategy": "steps", "load_best_model_at_end": True, "lr_scheduler_type": "constant"}


def test_a_second_run_in_a_folder_writes_and_loads_its_own_checkpoints(tmp_path):
    data = {"eval_dataset": examples(8, seed=5), "eval_steps": 2, "save_steps": 2, "max_steps": 6}
    for rate in (1e-5, 1e-2):
        notes = Notes()
        run = trainer(tmp_path, callbacks=[notes], learning_rate=rate, **data, **BEST)
        run.train()
        for step in (2, 4, 6):
            assert same(stored(tmp_path / f"checkpoint-{step}"), notes.kept[step])
        assert same(weights(run.model), notes.kept[run.state.best_global_step])


def test_a_model_that_is_trained_again_is_written_again(tmp_path):
    run = trainer(tmp_path, max_steps=4, save_steps=4)
    for _ in range(2):
        run.train()
        assert same(stored(tmp_path / "checkpoint-4"), weights(run.model))


def identities(folder):
    return {p.name: checkpoints.read_run_id(p) for p in checkpoints.Checkpoints(folder).all()}


def test_runs_in_one_folder_leave_each_others_checkpoints_alone(tmp_path):
    trainer(tmp_path, max_steps=12, save_steps=6).train()
    other = trainer(tmp_path, max_steps=5, save_steps=1, save_total_limit=2, learning_rate=1e-2)
    other.train()
    found = identities(tmp_path)
    assert list(found) == ["checkpoint-4", "checkpoint-5", "checkpoint-6", "checkpoint-12"]
    assert found["checkpoint-4"] == found["checkpoint-5"] != found["checkpoint-6"] == found["checkpoint-12"]
    assert other.checkpoints.newest() == tmp_path / "checkpoint-5", "of the run that wrote last"
    on = trainer(tmp_path, max_steps=7, save_steps=1, save_total_limit=2, learning_rate=1e-2)
    on.train(resume_from_checkpoint=True)
    assert identities(tmp_path) == {
        **dict.fromkeys(["checkpoint-6", "checkpoint-7"], found["checkpoint-5"]),
        "checkpoint-12": found["checkpoint-12"],
    }


def test_the_best_checkpoint_is_not_taken_from_another_run(tmp_path):
    class Other(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                trainer(tmp_path, max_steps=2, save_steps=2, learning_rate=1e-2).train()

    more = {"eval_steps": 2, "save_steps": 2, "max_steps": 6, "callbacks": [Other()]}
    run = trainer(tmp_path, compute_metrics=by_turn(9, 1, 0), **more, **TURNS, **BEST)
    with pytest.warns(UserWarning, match="checkpoint-2 was overwritten by another run; the weights of the last step"):
        run.train()
    assert same(weights(run.model), stored(tmp_path / "checkpoint-6"))


def test_the_run_that_wrote_last_is_told_by_its_checkpoints_and_not_by_the_clock(tmp_path):
    trainer(tmp_path, max_steps=6, save_steps=6).train()
    trainer(tmp_path, max_steps=2, save_steps=2, learning_rate=1e-2).train()
    os.utime(tmp_path / "checkpoint-6" / "checkpoint.json", (2**31, 2**31))  # as a copy of the folder may leave it
    assert trainer(tmp_path).checkpoints.newest() == tmp_path / "checkpoint-2"


def test_a_run_that_goes_on_from_an_earlier_checkpoint_is_another_run(tmp_path):
    trainer(tmp_path, max_steps=8, save_steps=2).train()
    notes, first = Notes(), identities(tmp_path)
    run = trainer(tmp_path, max_steps=6, save_steps=2, save_total_limit=1, learning_rate=1e-2, callbacks=[notes])
    run.train(resume_from_checkpoint=tmp_path / "checkpoint-4")
    assert same(stored(tmp_path / "checkpoint-6"), notes.kept[6])
    assert list(identities(tmp_path)) == list(first)
    assert run.checkpoints.newest() == tmp_path / "checkpoint-6"


def test_a_checkpoint_without_an_identity_is_gone_on_from(tmp_path, undisturbed):
    crashed(tmp_path, 13)
    for path in checkpoints.Checkpoints(tmp_path).all():
        told = json.loads((path / "run.json").read_text())
        del told["run"]
        (path / "run.json").write_text(json.dumps(told))
        (path / "checkpoint.json").unlink()
        checkpoints._write_manifest(path)
    run = trainer(tmp_path)
    run.train(resume_from_checkpoint=True)
    assert same(weights(run.model), undisturbed[0])


def by_turn(*values):
    """A metric that takes these values, one at each evaluation."""
    left = iter(values)
    return lambda predicted: {"turn": next(left)}


TURNS = {"metric_for_best_model": "turn", "greater_is_better": True, "eval_dataset": examples(8, seed=5)}


@pytest.mark.parametrize(("turns", "best"), [((1, 2, 0.5, 0.1), 4), ((1, 2, 3, 0), 4), ((0, 1, 0, 2), 8)])
def test_the_best_checkpoint_is_one_that_was_written(turns, best, tmp_path):
    notes = Notes()
    more = {"eval_steps": 2, "save_steps": 4, "max_steps": 8, "save_total_limit": 1, "callbacks": [notes]}
    run = trainer(tmp_path, compute_metrics=by_turn(*turns), **more, **TURNS, **BEST)
    run.train()
    assert run.state.best_metric == max(turns)
    assert Path(run.state.best_model_checkpoint) == tmp_path / f"checkpoint-{best}"
    assert same(weights(run.model), notes.kept[best])


@pytest.mark.parametrize(("turns", "left"), [((1, 2, 3), [6]), ((1, 3, 2), [4, 6])])
def test_of_one_checkpoint_that_may_stay_the_newest_and_the_best_do(turns, left, tmp_path):
    more = {"eval_steps": 2, "save_steps": 2, "max_steps": 6, "save_total_limit": 1}
    trainer(tmp_path, compute_metrics=by_turn(*turns), **more, **TURNS, **BEST).train()
    assert [path.name for path in checkpoints.Checkpoints(tmp_path).all()] == [f"checkpoint-{n}" for n in left]


def test_without_a_best_checkpoint_the_last_weights_stay_with_a_warning(tmp_path):
    notes = Notes()
    more = {"eval_steps": 2, "save_steps": 4, "max_steps": 8, "callbacks": [notes]}
    run = trainer(tmp_path, compute_metrics=by_turn(3, 1, 1, 2), **more, **TURNS, **BEST)
    with pytest.warns(UserWarning, match="no checkpoint was written at the step of a best evaluation; the weights"):
        run.train()
    assert run.state.best_model_checkpoint is None
    assert same(weights(run.model), notes.kept[8])


@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "adapter"])
@pytest.mark.parametrize("decay", [None, 0.5], ids=["plain", "averaged"])
def test_the_best_of_checkpoints_that_hold_a_model_only_is_loaded(decay, adapter, tmp_path):
    model = tiny()
    if adapter:
        model.add_adapter(multihead.LoraConfig(r=2, target_modules=["value"]))
    more = {"eval_steps": 2, "save_steps": 2, "max_steps": 6, "save_only_model": True, "ema_decay": decay}
    run = trainer(tmp_path, model=model, compute_metrics=by_turn(1, 3, 2), learning_rate=0.1, **more, **TURNS, **BEST)
    run.train()
    assert run.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    told = [e["eval_loss"] for e in run.state.log_history if "eval_loss" in e]
    run.compute_metrics = None
    assert run.evaluate()["eval_loss"] == pytest.approx(told[1], rel=1e-5)
    assert told[1] != pytest.approx(told[2], rel=1e-5)
    with pytest.raises(errors.CheckpointBroken, match="holds only a model"):
        run.train(resume_from_checkpoint=tmp_path / "checkpoint-4")


def test_a_save_model_of_ones_own_writes_checkpoints_too(tmp_path, undisturbed):
    class Marks(Trainer):
        def save_model(self, output_dir=None, _internal_call=False):
            super().save_model(output_dir)
            Path(output_dir or self.args.output_dir, "mine").write_text(str(_internal_call))

    class Alone(Trainer):
        def save_model(self, output_dir=None):
            Path(output_dir, "mine").write_text("no model")

    def made(kind, folder):
        return kind(tiny(), TrainingArguments(folder, **SETTINGS), train_dataset=examples())

    for kind in (Marks, Alone):
        folder = tmp_path / kind.__name__
        made(kind, folder).train()
        if kind is Marks:
            assert (folder / "checkpoint-5" / "mine").read_text() == "True"
            assert same(stored(folder / "checkpoint-48"), undisturbed[0])
        run = made(kind, folder)
        run.train(resume_from_checkpoint=folder / "checkpoint-10")
        assert same(weights(run.model), undisturbed[0])


@pytest.mark.parametrize(("evals", "saves"), [(0.1, 0.25), (0.1, 500), (50, 0.5), (4, 6)])
def test_checkpoints_beside_evaluations_are_refused(evals, saves, tmp_path):
    with pytest.raises(errors.UnsupportedOption, match=f"save_steps = {saves} must be a multiple of eval_steps"):
        TrainingArguments(tmp_path, eval_steps=evals, save_steps=saves, save_strategy="steps", **BEST)
    TrainingArguments(tmp_path, eval_steps=0.1, save_steps=0.3, save_strategy="steps", **BEST)


def step_of(folder, text, step=12):
    return checkpoints.Checkpoints(folder).save(step, lambda path: (path / "model.txt").write_text(text) and None)


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_kill_between_any_two_renames_leaves_a_whole_checkpoint(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(checkpoints, "exchange_paths", lambda path, other: False)
    for number in range(4):
        folder = tmp_path / str(number)
        step_of(folder, "first")
        if os.fork() == 0:  # dies at its renames, one after the other
            count, rename = [0], Path.rename

            def killed(self, target, count=count, rename=rename, number=number):
                if count[0] == number:
                    os._exit(1)
                count[0] += 1
                return rename(self, target)

            Path.rename = killed
            step_of(folder, "second")
            os._exit(0)
        os.wait()
        found = checkpoints.Checkpoints(folder).newest()
        assert found == folder / "checkpoint-12"
        assert (found / "model.txt").read_text() in ("first", "second")
        step_of(folder, "third", 3)
        assert sorted(os.listdir(folder)) == ["checkpoint-12", "checkpoint-3"]


def test_a_checkpoint_that_was_sealed_and_not_yet_renamed_is_found(tmp_path):
    path = step_of(tmp_path, "whole")
    left = tmp_path / ".checkpoint-12.0123456789ab.tmp"
    left.mkdir()
    path.rename(left / "new")
    half = tmp_path / ".checkpoint-13.0123456789ab.tmp" / "new"
    half.mkdir(parents=True)
    assert checkpoints.Checkpoints(tmp_path).newest() == path
    assert os.listdir(tmp_path) == ["checkpoint-12"]


def test_another_processes_half_written_checkpoint_stays_whatever_its_number_says(tmp_path):
    """In another container the number is not known, or is one's own."""
    with staging_path(tmp_path, "checkpoint-7") as other:
        other.mkdir()
        (other / "half").write_text("x")
        renamed = other.parent.with_name(f".checkpoint-7.{os.getpid()}.tmp")
        other.parent.rename(renamed)
        step_of(tmp_path, "mine")
        assert (renamed / "new" / "half").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts disks")
@pytest.mark.parametrize(("how", "message"), [("ro", "Read-only"), ("size=8k", "Make room|No space")])
def test_an_output_that_cannot_be_written_is_said_before_the_first_step(tmp_path, how, message):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("mount is not allowed here")
    steps = []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            steps.append(1)

    try:
        with pytest.raises(errors.CheckpointNotWritten, match=message):
            trainer(tmp_path / "out", callbacks=[Count()]).train()
        trainer(tmp_path / "out", callbacks=[Count()], save_strategy="no", max_steps=1).train()
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
    assert steps == [1]


def test_losses_that_a_resumed_run_reports_are_those_of_the_run_that_never_stopped(tmp_path):
    whole = trainer(tmp_path / "whole", save_strategy="no", logging_steps=7)
    mean = whole.train().training_loss
    crashed(tmp_path / "parts", 24, logging_steps=7)
    run = trainer(tmp_path / "parts", logging_steps=7)
    assert run.train(resume_from_checkpoint=True).training_loss == mean
    assert losses(run) == losses(whole)
