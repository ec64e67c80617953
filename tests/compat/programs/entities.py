"""Entities: labels moved from words to tokens, training, a pipeline over the result."""

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
raw = Dataset.from_list(
    [
        {"tokens": "Anna lives in Berlin .".split(), "ner_tags": [1, 0, 0, 3, 0]},
        {"tokens": "The bank in Paris works for Anna".split(), "ner_tags": [0, 0, 0, 3, 0, 0, 1]},
    ]
    * 4
)
tokenizer = AutoTokenizer.from_pretrained(f"{models}/bert")


def align(labels, words):
    """Return a label for each token: none for special ones, inside ones for later pieces of a word."""
    found, before = [], None
    for word in words:
        if word is None:
            found.append(-100)
        else:
            label = labels[word]
            found.append(label + 1 if word == before and label % 2 == 1 else label)
        before = word
    return found


def prepare(examples):
    """Return tokens and labels of a batch of sentences."""
    inputs = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
    inputs["labels"] = [align(tags, inputs.word_ids(n)) for n, tags in enumerate(examples["ner_tags"])]
    return inputs


data = raw.map(prepare, batched=True, remove_columns=raw.column_names)
collator = DataCollatorForTokenClassification(tokenizer=tokenizer)
batch = collator([data[n] for n in range(2)])
model = AutoModelForTokenClassification.from_pretrained(
    f"{models}/tagger", id2label=dict(enumerate(names)), label2id={name: n for n, name in enumerate(names)}
)


def metrics(found):
    """Return the share of right labels."""
    logits, labels = found
    return {"accuracy": float((np.argmax(logits, -1) == labels)[labels != -100].mean())}


trainer = Trainer(
    model,
    TrainingArguments(
        f"{work}/out", num_train_epochs=1, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no"
    ),
    train_dataset=data,
    eval_dataset=data,
    data_collator=collator,
    compute_metrics=metrics,
    processing_class=tokenizer,
)
loss = trainer.evaluate()["eval_loss"]
trainer.train()
trainer.save_model(f"{work}/tagger")
found = pipeline("token-classification", model=f"{work}/tagger", aggregation_strategy="simple")("Anna lives in Berlin.")
answer = {
    "labels": batch["labels"].tolist(),
    "ids": batch["input_ids"].tolist(),
    "loss": loss,
    "kinds": all(one["entity_group"] in ("O", "PER", "LOC") for one in found),
}
