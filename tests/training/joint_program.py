"""A program that trains a sentence encoder on pairs and says its losses: MODEL OUT LOSS EACH TOGETHER."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import multihead
from multihead.training.arguments import TrainingArguments
from multihead.training.trainer import Trainer

WORDS = "fox dog rock coffee jumps lazy brown quick".split()
PAIRS = [{"sentence1": f"the {a}", "sentence2": f"{b} {a}", "score": n % 5 / 4}
         for n, (a, b) in enumerate((a, b) for a in WORDS for b in WORDS[:3])][:22]  # fmt: skip


def losses(model: str, place: Path, loss: str, each: int, together: int, dropout: float = 0.0) -> list[float]:
    """The loss of each step; batches have `each` pairs, and `together` of them make a step."""
    drop = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    encoder = multihead.SentenceEncoder.from_pretrained(model, dtype="float32", **drop)
    settings: dict[str, Any] = {
        "max_steps": 4, "learning_rate": 1e-3, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True,
        "save_strategy": "no", "per_device_train_batch_size": each, "gradient_accumulation_steps": together,
    }  # fmt: skip
    given = {"ignore_columns": ["score"]} if loss == "contrastive" else {"loss": loss}
    run = Trainer(
        encoder, TrainingArguments(place, **settings), train_dataset=PAIRS, task="sentence-similarity", options=given,
        processing_class=encoder.tokenizer,
    )  # fmt: skip
    run.train()
    return [entry[name] for entry in run.state.log_history if "loss" in entry for name in ("loss", "grad_norm")]


if __name__ == "__main__":
    folder, out, name, size, count = sys.argv[1:]
    found = losses(folder, Path(out), name, int(size), int(count))
    sys.stdout.write(f"found {json.dumps(found)}\n")  # in one write: two processes share the pipe
    sys.stdout.flush()
