"""datasets and evaluate: map, set_format, a pipeline over a data set, a metric computed offline."""

import sys

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

models, work = sys.argv[1:3]
texts, labels = ["a joy", "worth it", "a dull plot", "does not care"] * 4, [1, 1, 0, 0] * 4
tokenizer = AutoTokenizer.from_pretrained(f"{models}/classifier")
rows = Dataset.from_dict({"text": texts, "labels": labels})
ready = rows.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True, remove_columns=["text"])
pipe = pipeline("text-classification", model=f"{models}/classifier")
found = [one["label"] for one in pipe(KeyDataset(rows, "text"), batch_size=4)]
model = AutoModelForSequenceClassification.from_pretrained(f"{models}/classifier")
args = TrainingArguments(output_dir=work, per_device_eval_batch_size=4, report_to="none", use_cpu=True)
trainer = Trainer(
    model=model,
    args=args,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
)
metrics = trainer.evaluate(ready)
ready.set_format("torch")
answer = {
    "labels": found,
    "loss": metrics["eval_loss"],
    "accuracy": metrics["eval_accuracy"],
    "ids": ready[0]["input_ids"].tolist(),
}
