"""Training on several devices: what two processes learn is what one learns, however the model is shared out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import multihead
from multihead.errors import UnsupportedOption
from multihead.training.arguments import TrainingArguments
from multihead.training.distributed.fsdp import Sharding
from multihead.training.trainer import Trainer
from tests.training import parallel_program
from tests.training.parallel_program import model

pytestmark = pytest.mark.slow
KEPT = {"save_strategy": "steps", "save_steps": 2}
TWICE = {"gradient_accumulation_steps": 2}

# Models that one process trains, and what several are to agree with: name -> settings.
ALONE: dict[str, dict[str, Any]] = {
    "bert": {"kind": "bert", "judge": True, **TWICE, **KEPT},
    "bert-4": {"kind": "bert", "judge": True, "gradient_accumulation_steps": 4},
    "words": {"kind": "words", "max_tokens_per_pass": 20, "judge": True, "ema_decay": 0.9, **TWICE, **KEPT},
    "llama": {"kind": "llama", "max_tokens_per_pass": 30, "judge": True, **TWICE, **KEPT},
    "llama-1": {"kind": "llama", "max_tokens_per_pass": 30, "judge": True, "ema_decay": 0.9},
    "tied": {"kind": "tied", **TWICE},
    "bf16": {"kind": "llama", "bf16": True, **TWICE},
    "t5": {"kind": "t5", **TWICE},
    "lora": {"kind": "llama", "lora": True, "judge": True, **TWICE},
    "experts": {"kind": "mixtral", **TWICE},
    "xlnet": {"kind": "xlnet", **TWICE},
    "best": {
        "kind": "words",
        "judge": True,
        "learning_rate": 0.3,
        "lr_scheduler_type": "constant",
        "save_steps": 1,
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "eval_steps": 1,
        "load_best_model_at_end": True,
        **TWICE,
    },
    "bert-1": {"kind": "bert", "judge": True},
    "qwen3": {"kind": "qwen3"},
    "experts-1": {"kind": "mixtral", "optim": "sgd", "learning_rate": 0.1},
}
FSDP, SPLIT = {"fsdp": True}, {"tensor_parallel_size": 2}

# What two processes train: name -> (whom it is to agree with, what differs).
TOGETHER: dict[str, tuple[str, dict[str, Any]]] = {
    "replicas": ("bert", {"gradient_accumulation_steps": 1, **KEPT}),
    "replicas-accumulated": ("bert-4", TWICE),
    "replicas-of-words": ("words", {"gradient_accumulation_steps": 1}),
    "replicas-of-llama": ("llama", {"gradient_accumulation_steps": 1}),
    "replicas-of-t5": ("t5", {"gradient_accumulation_steps": 1}),
    "replicas-of-experts": ("experts", {"gradient_accumulation_steps": 1}),
    "replicas-of-lora": ("lora", {"gradient_accumulation_steps": 1}),
    "replicas-going-on": ("words", {"gradient_accumulation_steps": 1, "resume": "alone/words-run/checkpoint-2"}),
    "shards": ("bert", {"gradient_accumulation_steps": 1, **FSDP}),
    "shards-accumulated": ("bert-4", {**TWICE, **FSDP}),
    "shards-of-words": ("words", {"gradient_accumulation_steps": 1, "fsdp": "shard_grad_op", **KEPT}),
    "shards-of-llama": ("llama", {"gradient_accumulation_steps": 1, "fsdp": "full_shard auto_wrap"}),
    "shards-of-tied": ("tied", {"gradient_accumulation_steps": 1, "gradient_checkpointing": True, **FSDP}),
    "shards-of-t5": ("t5", {"gradient_accumulation_steps": 1, **FSDP}),
    "shards-of-experts": ("experts", {"gradient_accumulation_steps": 1, **FSDP}),
    "shards-of-lora": ("lora", {"gradient_accumulation_steps": 1, **FSDP, **KEPT}),
    "shards-going-on": ("words", {"gradient_accumulation_steps": 1, "resume": "alone/words-run/checkpoint-2", **FSDP}),
    "shards-of-lora-going-on": (
        "lora", {"gradient_accumulation_steps": 1, "resume": "shards-of-lora-run/checkpoint-4", **FSDP}
    ),
    "shards-of-xlnet": ("xlnet", {"gradient_accumulation_steps": 1, **FSDP}),
    "shards-at-their-best": (
        "best", {"gradient_accumulation_steps": 1, "save_strategy": "steps", "eval_on_start": True, **FSDP}
    ),
    "split": ("bert-1", SPLIT),
    "split-llama": ("llama-1", {**SPLIT, **KEPT}),
    "split-qwen3": ("qwen3", SPLIT),
    "split-experts": ("experts-1", SPLIT),
}  # fmt: skip
FAILING: dict[str, dict[str, Any]] = {
    "replicas-diverged": {"kind": "bert", "spoil": True},
    "shards-diverged": {"kind": "bert", "spoil": True, **FSDP},
    "replicas-unwritten": {"kind": "bert", "place": "file/run", **KEPT},
    "shards-unwritten": {"kind": "bert", "place": "file/run", **KEPT, **FSDP},
    "shards-full": {"kind": "bert", "full": True, **KEPT, **FSDP},
    "split-t5": {"kind": "t5", **SPLIT},
    "split-lora": {"kind": "llama", "lora": True, **SPLIT},
    "shards-muon": {"kind": "llama", "optim": "muon", **FSDP},
}
HALF: dict[str, tuple[str, dict[str, Any]]] = {
    "shards-in-bf16": ("bf16", {"gradient_accumulation_steps": 1, **FSDP}),
    "shards-in-fp16": ("bf16", {"gradient_accumulation_steps": 1, "bf16": False, "fp16": True, **FSDP}),
}
GRID: dict[str, tuple[str, dict[str, Any]]] = {
    "grid": ("bert", {"gradient_accumulation_steps": 1, **SPLIT}),
    "grid-going-on": (
        "words",
        {"gradient_accumulation_steps": 1, "resume": "alone/words-run/checkpoint-2", **SPLIT, **FSDP},
    ),
}


def jobs(wanted: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {name: {**ALONE[same], "save_strategy": "no", **more} for name, (same, more) in wanted.items()}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def launched(folder: Path, wanted: dict[str, Any], processes: int = 2) -> list[dict[str, Any]]:
    """What each process said of its jobs."""
    (folder / "jobs.json").write_text(json.dumps(wanted))
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port",
            str(free_port()), "-m", "tests.training.parallel_program", str(folder), str(folder / "jobs.json"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    (folder / f"printed-{processes}").write_text(done.stdout + done.stderr)
    return [json.loads((folder / f"said-{rank}.json").read_text()) for rank in range(processes)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def alone(place):
    """What one process says of its models, which lie in `place / alone`."""
    return {name: parallel_program.run(place / "alone", name, **told) for name, told in ALONE.items()}


@pytest.fixture(scope="module")
def together(place, alone):
    """What two processes say of theirs."""
    (place / "file").touch()
    return launched(place, {**jobs({**TOGETHER, **HALF}), **FAILING})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(folder.glob("*model.safetensors")))


def apart(one: Path, other: Path) -> float:
    """How far two models' weights lie apart, beside their length."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    flat = [torch.cat([model[name].flatten().double() for name in second]) for model in (first, second)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def agree(place: Path, said: dict[str, Any], wanted: dict[str, Any], name: str, same: str) -> None:
    assert "error" not in said, said
    assert said["losses"] == pytest.approx(wanted["losses"][-len(said["losses"]) :], abs=1e-5)
    assert said["norms"] == pytest.approx(wanted["norms"][-len(said["norms"]) :], rel=1e-4)
    if "eval" in wanted:
        assert said["eval"] == pytest.approx(wanted["eval"], abs=1e-5)
        assert np.allclose(np.array(said["scores"]), np.array(wanted["scores"]), atol=1e-5)
    assert apart(place / name, place / "alone" / same) < 1e-6


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_learn_what_one_learns(name, place, alone, together):
    same, _ = TOGETHER[name]
    agree(place, together[0][name], alone[same], name, same)


def test_all_processes_say_the_same(together):
    first, second = together
    assert {n: told.get("losses") for n, told in first.items()} == {n: told.get("losses") for n, told in second.items()}
    assert first["replicas"]["scores"] == second["replicas"]["scores"]


def test_gradients_are_exchanged_once_a_step(together):
    first, second = (told["replicas-accumulated"]["exchanges"] for told in together)
    assert first == [False, True] * 6
    assert second == [False, True, True] * 3, "the last step of an epoch has one batch for this process"


def test_only_the_first_process_prints(place, together):
    printed = (place / "printed-2").read_text()
    assert printed.count("train_runtime") == len(TOGETHER) + len(HALF)


@pytest.mark.parametrize(("name", "kind"), [
    ("replicas-diverged", "TrainingDiverged"), ("shards-diverged", "TrainingDiverged"),
    ("replicas-unwritten", "CheckpointNotWritten"), ("shards-unwritten", "CheckpointNotWritten"),
    ("shards-full", "CheckpointNotWritten"),
])  # fmt: skip
def test_what_fails_on_one_process_fails_on_all(name, kind, together):
    assert [told[name]["error"].partition(":")[0] for told in together] == [kind, kind]
    if name == "shards-full":
        assert "the disk is full" in together[0][name]["error"]


@pytest.mark.parametrize(("name", "reason"), [("split-t5", "encoder.layers.0.attention.step: BucketedBias gives"),
    ("split-lora", "attention.step.q: it is a LoraLinear"), ("shards-muon", "needs full matrices")])  # fmt: skip
def test_what_cannot_be_cut_is_refused_by_name(name, reason, together):
    assert reason in together[0][name]["error"]


def test_a_checkpoint_of_half_written_shards_is_not_left_behind(place, together):
    assert [path.name for path in (place / "shards-full-run").iterdir()] == []


@pytest.mark.parametrize(("path", "same", "more"), [
    ("replicas-run/checkpoint-2", "bert", {}),
    ("shards-of-words-run/checkpoint-4", "words", {}),
    ("split-llama-run/checkpoint-2", "llama-1", {}),
])  # fmt: skip
def test_one_process_goes_on_where_two_stopped(path, same, more, place, alone, together):
    name = f"on-from-{path.partition('-run')[0]}"
    said = parallel_program.run(place, name, **{**ALONE[same], "resume": path, "save_strategy": "no", **more})
    agree(place, said, alone[same], name, same)


def test_a_checkpoint_of_shards_is_a_model(place, together):
    found = multihead.AutoModelForTokenClassification.from_pretrained(place / "shards-of-words-run" / "checkpoint-6")
    assert found.config.num_labels == 3
    assert (place / "shards-of-words-run" / "checkpoint-6" / "distributed").is_dir()
    assert not (place / "replicas-run" / "checkpoint-2" / "distributed").exists()


@pytest.mark.parametrize("name", HALF)
def test_half_precision_shards_learn_nearly_the_same(name, place, alone, together):
    assert together[0][name]["losses"] == pytest.approx(alone["bf16"]["losses"], abs=0.02)
    assert weights(place / name)["model.norm.weight"].dtype == torch.float32


def test_four_processes_in_a_grid_learn_what_one_learns(place, alone):
    said = launched(place, jobs(GRID), processes=4)
    for name, (same, _) in GRID.items():
        agree(place, said[3][name], alone[same], name, same)


SIGNALLED = """
import sys
from pathlib import Path
from tests.training.parallel_program import SETTINGS, examples, model
from multihead.training.arguments import TrainingArguments
from multihead.training.callbacks import TrainerCallback
from multihead.training.trainer import Trainer
class Told(TrainerCallback):
    def on_step_end(self, args, state, control, **more):
        if state.global_step == 3:
            print("three", flush=True)
            if sys.argv[3] and not state.is_world_process_zero:
                raise ValueError("a process of two fails")
arguments = TrainingArguments(Path(sys.argv[1]), **{**SETTINGS, "max_steps": 10**6, "save_strategy": "epoch",
    "fsdp": sys.argv[2] == "shards" or None, "logging_strategy": "no", "save_total_limit": 1})
Trainer(model("bert"), arguments, train_dataset=examples("bert", 3000), callbacks=[Told()]).train()
"""


def pair(folder: Path, kind: str, fails: str = "") -> list[subprocess.Popen[str]]:
    """Two processes that train for long, without a launcher that would end one when the other ends."""
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, "-c", SIGNALLED, str(folder), kind, fails], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
        )
        for rank in range(2)
    ]  # fmt: skip


def test_a_signal_to_one_process_makes_all_save_and_leave(tmp_path):
    pairs = {kind: pair(tmp_path / kind, kind) for kind in ("replicas", "shards")}
    for kind, started in pairs.items():
        assert started[1].stdout is not None
        assert started[1].stdout.readline() == "three\n", started[1].communicate()[1]
        started[1].send_signal(signal.SIGTERM)
        printed = [process.communicate(timeout=60) for process in started]
        assert [process.returncode for process in started] == [128 + signal.SIGTERM] * 2, printed
        assert any((path / "checkpoint.json").is_file() for path in (tmp_path / kind).glob("checkpoint-*"))


def test_a_process_that_fails_does_not_leave_the_other_waiting(tmp_path):
    first, second = pair(tmp_path, "replicas", "fails")
    assert "a process of two fails" in second.communicate(timeout=60)[1]
    assert "closed by peer" in first.communicate(timeout=60)[1].lower()
    assert first.returncode == 1


def test_processes_draw_different_dropout_unless_they_share_layers(place, together):
    def drawn(run: str) -> list[Any]:
        return [json.loads((place / run / f"random_state_{rank}.json").read_text())["torch"] for rank in range(2)]

    for run, alike in (("replicas-run/checkpoint-2", False), ("split-llama-run/checkpoint-2", True)):
        first, second = drawn(run)
        assert (first == second) is alike


@pytest.mark.parametrize(("settings", "wanted"), [
    ({"fsdp": "full_shard"}, Sharding(True, False)),
    ({"fsdp": "shard_grad_op auto_wrap", "bf16": True}, Sharding(False, True)),
    ({"fsdp": True, "fsdp_config": {"reshard_after_forward": False, "mixed_precision": True}}, Sharding(False, True)),
    ({"fsdp": False}, None),
    ({"fsdp": ""}, None),
])  # fmt: skip
def test_the_references_names_of_styles_are_read(settings, wanted, tmp_path):
    assert Sharding.of(TrainingArguments(tmp_path, **settings)) == wanted


@pytest.mark.parametrize(("settings", "reason"), [
    ({"fsdp": "hybrid_shard"}, "'hybrid_shard' is none of True, 'full_shard'"),
    ({"fsdp": True, "fsdp_config": {"cpu_offload": True}}, "'cpu_offload', which has no meaning here"),
    ({"fsdp": True, "fsdp_config": {"mixed_precision": "bf16"}}, "must be true or false"),
    ({"fsdp_config": {"mixed_precision": True}}, "needs fsdp=True"),
    ({"tensor_parallel_size": 2}, "there is 1. Start them with torchrun"),
])  # fmt: skip
def test_what_is_not_known_is_refused(settings, reason, tmp_path):
    arguments = TrainingArguments(tmp_path, use_cpu=True, **settings)
    with pytest.raises(UnsupportedOption, match=reason):
        Trainer(model("bert"), arguments)
