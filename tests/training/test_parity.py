"""The Trainer beside the reference's: the same losses, step by step, from the same seed, data and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import multihead
from multihead.training.arguments import TrainingArguments
from multihead.training.trainer import Trainer

STEPS = 50
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 2e-3, "weight_decay": 0.1, "warmup_steps": 5,
    "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "seed": 7, "use_cpu": True,
}  # fmt: skip
SMALL = {"vocab_size": 60, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def configs() -> dict[str, Any]:
    """The four kinds of model, without dropout."""
    return {
        "classification": transformers.BertConfig(**SMALL, **QUIET, max_position_embeddings=32, num_labels=3),
        # not GPT2LMHeadModel: the reference divides its loss by a count that takes in each text's first word
        "causal": transformers.LlamaConfig(**SMALL, num_key_value_heads=1, max_position_embeddings=32),
        "t5": transformers.T5Config(
            vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0,
            decoder_start_token_id=0, pad_token_id=0,
        ),
        "xlnet": transformers.XLNetConfig(
            vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=24, dropout=0.0, summary_last_dropout=0.0,
            num_labels=3, pad_token_id=5,
        ),
    }  # fmt: skip


CLASSES = {
    "classification": "BertForSequenceClassification",
    "causal": "LlamaForCausalLM",
    "t5": "T5ForConditionalGeneration",
    "xlnet": "XLNetForSequenceClassification",
}


def examples(kind: str, count: int = 90) -> list[dict[str, Any]]:
    """Texts of all lengths; a label that can be learned, or the text itself."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        ids = generator.integers(6, 60, generator.integers(3, 20)).tolist()
        if kind in ("classification", "xlnet"):
            found.append({"input_ids": ids, "labels": ids[0] % 3})
        elif kind == "causal":
            found.append({"input_ids": ids, "labels": [-100 if token % 7 == 0 else token for token in ids]})
        else:
            found.append({"input_ids": ids, "labels": ids[::-1][:8]})
    return found


def padded(kind: str, pad: int, side: str) -> Any:
    """A collator for the reference, which must pad."""

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        def grid(values: list[list[int]], fill: int) -> torch.Tensor:
            longest = max(map(len, values))
            more = [[fill] * (longest - len(v)) for v in values]
            return torch.tensor([m + v if side == "left" else v + m for v, m in zip(values, more, strict=True)])

        ids = [row["input_ids"] for row in rows]
        labels = [row["labels"] for row in rows]
        ragged = isinstance(labels[0], list)
        return {
            "input_ids": grid(ids, pad),
            "attention_mask": grid([[1] * len(i) for i in ids], 0),
            "labels": grid(labels, -100) if ragged else torch.tensor(labels),
        }

    return collate


def losses(history: list[dict[str, Any]]) -> list[float]:
    return [entry["loss"] for entry in history if "loss" in entry]


def saved(kind: str, folder: Path) -> Path:
    torch.manual_seed(3)
    getattr(transformers, CLASSES[kind])(configs()[kind]).save_pretrained(folder)
    return folder


def reference(kind: str, folder: Path, data: Any, **changes: Any) -> list[float]:
    model = getattr(transformers, CLASSES[kind]).from_pretrained(folder)
    side = "left" if kind == "xlnet" else "right"
    arguments = transformers.TrainingArguments(str(folder / "theirs"), **{**SETTINGS, **changes})
    collator = padded(kind, model.config.pad_token_id or 0, side)
    trainer = transformers.Trainer(model, arguments, train_dataset=data, data_collator=collator)
    trainer.train()
    return losses(trainer.state.log_history)


def ours(kind: str, folder: Path, data: Any, **changes: Any) -> list[float]:
    model = getattr(multihead, CLASSES[kind]).from_pretrained(folder)
    arguments = TrainingArguments(folder / "ours", **{**SETTINGS, **changes})
    trainer = Trainer(model, arguments, train_dataset=data)
    trainer.train()
    return losses(trainer.state.log_history)


@pytest.mark.parametrize("kind", list(CLASSES))
def test_the_first_fifty_losses_are_the_reference_trainers(kind, tmp_path):
    folder, data = saved(kind, tmp_path), examples(kind)
    found, wanted = ours(kind, folder, data), reference(kind, folder, data)
    assert len(found) == len(wanted) == STEPS
    assert found == pytest.approx(wanted, abs=1e-4)
    assert np.mean(found[-5:]) < np.mean(found[:5]), "nothing was learned"


@pytest.mark.parametrize("schedule", ["cosine", "constant_with_warmup", "polynomial", "inverse_sqrt"])
def test_schedules_and_accumulation_are_the_reference_trainers(schedule, tmp_path):
    folder, data = saved("causal", tmp_path), examples("causal", 40)
    more = {
        "lr_scheduler_type": schedule, "gradient_accumulation_steps": 3, "max_steps": 12,
        "lr_scheduler_kwargs": {"lr_end": 0.0} if schedule == "polynomial" else {},
    }  # fmt: skip
    own = {**more, "lr_scheduler_kwargs": {}}
    assert ours("causal", folder, data, **own) == pytest.approx(reference("causal", folder, data, **more), abs=1e-4)


def test_a_collator_and_a_loss_of_ones_own_are_used_as_the_reference_uses_them(tmp_path):
    folder, data = saved("classification", tmp_path), examples("classification")

    class Weighted(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            outputs = model(**inputs)
            loss = torch.nn.functional.cross_entropy(outputs.logits, inputs["labels"], torch.tensor([1.0, 2.0, 0.5]))
            return (loss, outputs) if return_outputs else loss

    class Theirs(transformers.Trainer):
        compute_loss = Weighted.compute_loss

    settings = {**SETTINGS, "max_steps": 10}
    collator = padded("classification", 0, "right")
    found = Weighted(
        multihead.BertForSequenceClassification.from_pretrained(folder), TrainingArguments(tmp_path / "a", **settings),
        train_dataset=data, data_collator=collator,
    )  # fmt: skip
    found.train()
    wanted = Theirs(
        transformers.BertForSequenceClassification.from_pretrained(folder),
        transformers.TrainingArguments(str(tmp_path / "b"), **settings), train_dataset=data, data_collator=collator,
    )  # fmt: skip
    wanted.train()
    assert losses(found.state.log_history) == pytest.approx(losses(wanted.state.log_history), abs=1e-4)
