"""Training speed beside the reference's Trainer and plain torch, in alternating fresh processes.

    python benchmarks/train.py --model FOLDER --data SST2_FOLDER [--runs 3] [--json FILE]

Classification: a MiniLM encoder on SST-2's sentences, batches of 16 in the same random order, dropout as the config
says, AdamW; seconds of the same optimizer steps over the same examples. Language model: GPT-2 small from fresh weights,
blocks of 256 tokens, beside a plain torch loop in nanoGPT's manner. The first steps of a process are not counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from peers import alternating, record, table

STEPS, WARM = 24, 4

DATA = """
import sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
model, data, precision, steps, warm = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
lines = [line.rstrip("\\n").split("\\t") for line in (data / "train.tsv").open(encoding="utf-8")][1:]
settings = dict(
    max_steps=steps, per_device_train_batch_size=16, learning_rate=5e-5, logging_steps=steps, save_strategy="no",
    report_to="none", disable_tqdm=True, use_cpu=True, bf16=precision == "bf16",
)
"""
CLOCK = """
class Clock(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == warm:
            self.began = time.perf_counter()
        if state.global_step == steps:
            self.seconds = time.perf_counter() - self.began
clock = Clock()
"""
ROWS = """
tokenizer = AutoTokenizer.from_pretrained(model)
network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
ids = tokenizer([text for _, text in lines])["input_ids"]
rows = [{"input_ids": i, "label": int(kind == "positive")} for i, (kind, _) in zip(ids, lines)]
"""
REFERENCE = (
    DATA
    + """
import os
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from transformers import (
    AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainerCallback,
    TrainingArguments,
)
"""
    + CLOCK
    + ROWS
    + """
Trainer(
    network, TrainingArguments("/tmp/bench-train", **settings), train_dataset=rows, callbacks=[clock],
    data_collator=DataCollatorWithPadding(tokenizer),
).train()
print(clock.seconds)
"""
)
OURS = (
    DATA
    + """
from multihead import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments
"""
    + CLOCK
    + ROWS
    + """
Trainer(
    network, TrainingArguments("/tmp/bench-train", **settings), train_dataset=rows, callbacks=[clock]
).train()
print(clock.seconds)
"""
)
TEXT = """
import sys, time, warnings
import torch
warnings.simplefilter("ignore")
precision, steps, warm = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
BLOCK, BATCH, WORDS = 256, 2, 50257
data = torch.randint(0, WORDS, (steps * BATCH, BLOCK))
"""
PLAIN = (
    TEXT
    + """
import torch.nn as nn, torch.nn.functional as F

class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.one, self.two = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.qkv(self.one(x)).chunk(3, -1)
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.two(x)), approximate="tanh"))

class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 768), nn.Embedding(1024, 768)
        self.blocks, self.norm = nn.ModuleList([Block(768, 12) for _ in range(12)]), nn.LayerNorm(768)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.words.weight)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
for step in range(steps):
    if step == warm:
        began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = model(data[step * BATCH : (step + 1) * BATCH])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()
print(time.perf_counter() - began)
"""
)
TRAINER = (
    TEXT
    + """
from multihead import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
"""
    + CLOCK
    + """
model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
rows = [{"input_ids": row} for row in data.tolist()]
Trainer(
    model,
    TrainingArguments(
        "/tmp/bench-train", max_steps=steps, per_device_train_batch_size=BATCH, save_strategy="no", logging_steps=steps,
        disable_tqdm=True, use_cpu=True, bf16=precision == "bf16",
    ),
    train_dataset=rows, callbacks=[clock],
).train()
print(clock.seconds)
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["classification", "language"])
    parser.add_argument("--json")
    given = parser.parse_args()
    results = []
    for precision in ("fp32", "bf16"):
        if given.only != "language":
            programs = {"multihead Trainer": OURS, "reference Trainer": REFERENCE}
            own = [given.model, str(given.data), precision, str(STEPS), str(WARM)]
            found = alternating(programs, own, given.runs)
            results.append(table(f"MiniLM, SST-2, batches of 16, {precision}", found, "multihead Trainer"))
        if given.only != "classification":
            programs = {"multihead Trainer": TRAINER, "plain torch, nanoGPT's manner": PLAIN}
            found = alternating(programs, [precision, "8", "2"], given.runs)
            results.append(table(f"GPT-2 small, 2 blocks of 256 tokens, {precision}", found, "multihead Trainer"))
    record(results, given.json)


if __name__ == "__main__":
    main()
