"""A program of several processes: trains tiny models one after the other as told, and writes down what came of each.

torchrun --nproc-per-node 2 -m tests.training.parallel_program FOLDER JOBS.json
"""

from __future__ import annotations

import errno
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint import FileSystemWriter

import multihead
from multihead.errors import MultiheadError
from multihead.training.arguments import TrainingArguments
from multihead.training.callbacks import TrainerCallback
from multihead.training.distributed.parallel import DataParallelObjective
from multihead.training.trainer import Trainer

# Biases of keys have a gradient of nothing but rounding, which Adam would blow up to full steps but for the epsilon.
SETTINGS: dict[str, Any] = {
    "max_steps": 6, "per_device_train_batch_size": 3, "learning_rate": 1e-2, "weight_decay": 0.1, "logging_steps": 1,
    "save_strategy": "no", "disable_tqdm": True, "seed": 7, "use_cpu": True, "adam_epsilon": 1e-4,
}  # fmt: skip
SMALL = {"vocab_size": 60, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def model(kind: str) -> Any:
    """A tiny model with weights that a seed draws."""
    torch.manual_seed(11)
    bert = multihead.BertConfig(**SMALL, **QUIET, max_position_embeddings=32, num_labels=3)
    llama = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 32}
    made = {
        "bert": lambda: multihead.BertForSequenceClassification(bert),
        "words": lambda: multihead.BertForTokenClassification(bert),
        "llama": lambda: multihead.LlamaForCausalLM(multihead.LlamaConfig(**llama)),
        "tied": lambda: multihead.LlamaForCausalLM(multihead.LlamaConfig(**llama, tie_word_embeddings=True)),
        "qwen3": lambda: multihead.Qwen3ForCausalLM(multihead.Qwen3Config(**llama, head_dim=8)),
        "mixtral": lambda: multihead.MixtralForCausalLM(
            multihead.MixtralConfig(**llama, num_local_experts=4, num_experts_per_tok=1)
        ),
        "t5": lambda: multihead.T5ForConditionalGeneration(
            multihead.T5Config(
                vocab_size=60,
                d_model=16,
                d_kv=8,
                d_ff=24,
                num_layers=2,
                num_heads=2,
                dropout_rate=0.0,
                decoder_start_token_id=0,
                pad_token_id=0,
            )
        ),
        "xlnet": lambda: multihead.XLNetLMHeadModel(
            multihead.XLNetConfig(
                vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=24, dropout=0.0, pad_token_id=5
            )
        ),
    }
    return made[kind]()


def permuted(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Texts of three words, whose last is to be said without being seen."""
    ids = torch.tensor([row["input_ids"][:3] for row in rows])
    mask, said = torch.zeros(len(rows), 3, 3), torch.zeros(len(rows), 1, 3)
    mask[:, :, 2], said[:, :, 2] = 1, 1
    return {"input_ids": ids, "perm_mask": mask, "target_mapping": said, "labels": ids[:, 2:]}


def examples(kind: str, count: int = 19) -> list[dict[str, Any]]:
    """Texts of very unlike lengths, with labels that leave out very unlike shares of their words."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(count):
        ids = generator.integers(6, 60, 3 + (number * 7) % 23).tolist()
        if kind == "bert":
            labels: Any = ids[0] % 3
        elif kind == "words":
            labels = [-100 if token % 5 < number % 5 else token % 3 for token in ids]
        elif kind == "t5":
            labels = ids[::-1][: 1 + number % 6]
        else:
            labels = [-100 if token % 5 < number % 5 else token for token in ids]
        found.append({"input_ids": ids, "labels": labels})
    return found


class Spoils(TrainerCallback):
    """Makes one process's weights no numbers before a step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 2 and not state.is_world_process_zero:
            with torch.no_grad():
                next(more["model"].parameters()).fill_(float("nan"))


def noted(exchanges: list[bool]) -> Any:
    """A forward pass that notes whether gradients will be exchanged."""
    own = DataParallelObjective.forward

    def forward(self: Any, *given: Any, **more: Any) -> Any:
        exchanges.append(self.require_backward_grad_sync)
        return own(self, *given, **more)

    return forward


class DiskFull(FileSystemWriter):
    """Stands for the writer of a process whose disk is full."""

    def write_data(self, *given: Any, **more: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")


def run(folder: Path, name: str, kind: str, *, spoil: bool = False, judge: bool = False, resume: str | None = None,
        lora: bool = False, full: bool = False, **changes: Any) -> dict[str, Any]:  # fmt: skip
    """Trains one model, and saves it to `folder / name`; gives its losses, and what else was asked for.

    Args:
        spoil: the second process's weights become no numbers. full: its disk is full. judge: evaluates and predicts.
    """
    data = examples(kind)
    peft = multihead.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]) if lora else None
    try:
        arguments = TrainingArguments(folder / changes.pop("place", f"{name}-run"), **{**SETTINGS, **changes})
        trainer = Trainer(
            model(kind), arguments, train_dataset=data, eval_dataset=data[:11], peft_config=peft,
            callbacks=[Spoils()] if spoil else None, data_collator=permuted if kind == "xlnet" else None,
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            if full and not trainer.process_group.is_first:
                place = "torch.distributed.checkpoint.state_dict_saver._storage_setup"
                patch.setattr(place, lambda *_, **__: DiskFull("x"))
            patch.setattr(DataParallelObjective, "forward", noted(exchanges := []))
            trainer.train(resume_from_checkpoint=None if resume is None else folder / resume)
    except MultiheadError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    said: dict[str, Any] = {"exchanges": exchanges}
    said["losses"] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    said["norms"] = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    if judge:
        said["eval"] = trainer.evaluate()["eval_loss"]
        said["scores"] = np.asarray(trainer.predict(data[:11]).predictions).tolist()
    trainer.save_model(folder / name)
    return said


def main(folder: Path, jobs: Path) -> None:
    torch.set_num_threads(1)
    found = {}
    for name, told in json.loads(jobs.read_text()).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = run(folder, name, **told)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    (folder / f"said-{rank}.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
