"""Small runs for tests: a tiny classifier with dropout, data that can be learned, and a run as its own program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import multihead
from multihead.nn.own_names import own_parameters
from multihead.training.arguments import TrainingArguments
from multihead.training.trainer import Trainer

PROGRAM = """
import sys, time
from pathlib import Path
from tests.training.runs import trainer
folder, slow = Path(sys.argv[1]), float(sys.argv[2])
settings = eval(sys.argv[3])
made = trainer(folder, **settings)
if slow:
    from multihead.training.checkpointing import folders as checkpoints
    sealed = checkpoints._write_manifest
    def seal(path):
        print("saving", flush=True)
        time.sleep(slow)
        sealed(path)
    checkpoints._write_manifest = seal
from multihead.training.callbacks import TrainerCallback
class Told(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            print("stepped", flush=True)
            time.sleep(0.2)
made.add_callback(Told())
print("begins", flush=True)
made.train(resume_from_checkpoint=bool(made.checkpoints.newest()))
print("done", flush=True)
"""


def tiny(dropout: float = 0.1, **more: Any) -> Any:
    """A classifier of three labels with weights that a seed draws."""
    torch.manual_seed(11)
    config = multihead.BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, num_labels=3,
        **more,
    )  # fmt: skip
    return multihead.BertForSequenceClassification(config)


def examples(count: int = 96, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        ids = generator.integers(6, 60, generator.integers(3, 20)).tolist()
        found.append({"input_ids": ids, "labels": ids[0] % 3})
    return found


SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 4, "num_train_epochs": 2.0, "learning_rate": 2e-3, "save_steps": 5, "seed": 3,
    "logging_steps": 1, "disable_tqdm": True, "use_cpu": True,
}  # fmt: skip


def trainer(folder: Path, data: Any = None, model: Any = None, **changes: Any) -> Trainer:
    more = {name: changes.pop(name) for name in ("callbacks", "eval_dataset", "compute_metrics") if name in changes}
    arguments = TrainingArguments(folder, **{**SETTINGS, **changes})
    return Trainer(tiny() if model is None else model, arguments, train_dataset=data or examples(), **more)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in own_parameters(model)}


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def started(folder: Path, *, slow: float = 0.0, **settings: Any) -> subprocess.Popen[str]:
    """The same run in a process of its own; `slow` seconds pass inside each save."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(slow), repr(settings)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},  # sums are split among threads
    )  # fmt: skip
