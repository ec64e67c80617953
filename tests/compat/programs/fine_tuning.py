"""Fine-tuning with the Trainer: a data set, a collator, metrics, predictions, the best model."""

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained(f"{models}/classifier")
raw = DatasetDict(train=Dataset.from_list(rows * 4), validation=Dataset.from_list(rows))
tokens = raw.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
model = AutoModelForSequenceClassification.from_pretrained(f"{models}/classifier", num_labels=2)


def metrics(found):
    """Return the share of right answers."""
    logits, labels = found
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


trainer = Trainer(
    model,
    TrainingArguments(
        f"{work}/out",
        eval_strategy="epoch",
        save_strategy="epoch",
        num_train_epochs=2,
        learning_rate=5e-3,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=2,
    ),
    train_dataset=tokens["train"],
    eval_dataset=tokens["validation"],
    data_collator=DataCollatorWithPadding(tokenizer=tokenizer),
    processing_class=tokenizer,
    compute_metrics=metrics,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
)
before = trainer.evaluate()
trainer.train()
found = trainer.predict(tokens["validation"])
trainer.save_model(f"{work}/best")
again = AutoModelForSequenceClassification.from_pretrained(f"{work}/best")
answer = {
    "before": before["eval_loss"],
    "learned": trainer.evaluate()["eval_loss"] < before["eval_loss"],
    "shapes": [list(found.predictions.shape), list(found.label_ids.shape)],
    "names": sorted(name for name in found.metrics if "accuracy" in name or "loss" in name),
    "steps": trainer.state.global_step,
    "epochs": [one["epoch"] for one in trainer.state.log_history if "eval_loss" in one and one["step"]],
    "labels": again.config.num_labels,
}
