"""A training loop by hand: a loader, AdamW, a schedule, evaluation."""

import torch
from datasets import Dataset
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_scheduler,
)

tokenizer = AutoTokenizer.from_pretrained(f"{models}/classifier")
data = Dataset.from_list(rows).map(lambda row: tokenizer(row["text"], truncation=True), batched=True)
data = data.remove_columns(["text"]).rename_column("label", "labels")
data.set_format("torch")
loader = DataLoader(data, batch_size=4, collate_fn=DataCollatorWithPadding(tokenizer=tokenizer))
model = AutoModelForSequenceClassification.from_pretrained(f"{models}/classifier")
optimizer = AdamW(model.parameters(), lr=1e-3)
schedule = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=1, num_training_steps=2 * len(loader))
model.train()
losses, rates = [], []
for _ in range(2):
    for batch in loader:
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        rates.append(schedule.get_last_lr()[0])
model.eval()
right = 0
for batch in loader:
    with torch.no_grad():
        right += int((model(**batch).logits.argmax(dim=-1) == batch["labels"]).sum())
answer = {"losses": losses, "rates": rates, "right": right}
