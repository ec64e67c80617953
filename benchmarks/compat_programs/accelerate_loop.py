"""accelerate: the loop of its tour, with accumulation, gathering and a saved state."""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler

models, work = sys.argv[1:3]
set_seed(0)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
tokenizer = AutoTokenizer.from_pretrained(f"{models}/classifier")
texts, labels = ["a joy", "worth it", "a dull plot", "does not care"] * 4, [1, 1, 0, 0] * 4
rows = [{**tokenizer(text), "labels": label} for text, label in zip(texts, labels, strict=True)]
loader = DataLoader(rows, batch_size=4, shuffle=True, collate_fn=lambda rows: tokenizer.pad(rows, return_tensors="pt"))
model = AutoModelForSequenceClassification.from_pretrained(f"{models}/classifier")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=8)
model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
losses, predictions = [], []
for _ in range(2):
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        losses.append(loss.item())
accelerator.save_state(f"{work}/state")
model.eval()
for batch in loader:
    with torch.no_grad():
        predictions += accelerator.gather_for_metrics(model(**batch).logits).tolist()
accelerator.load_state(f"{work}/state")
accelerator.unwrap_model(model).save_pretrained(f"{work}/saved", save_function=accelerator.save)
answer = {"losses": losses, "predictions": predictions}
