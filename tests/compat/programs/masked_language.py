"""Masked words: chunks of texts, masks by the collator, whole words, perplexity."""

import collections
import itertools
import math

import torch
from datasets import Dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    set_seed,
)

set_seed(3)
tokenizer = AutoTokenizer.from_pretrained(f"{models}/bert")
model = AutoModelForMaskedLM.from_pretrained(f"{models}/bert")
raw = Dataset.from_list(rows)


def tokens_of(examples):
    """Return tokens and the words that they are of."""
    found = tokenizer(examples["text"])
    found["word_ids"] = [found.word_ids(n) for n in range(len(found["input_ids"]))]
    return found


def chunks(examples, size=16):
    """Return all texts of a batch in pieces of one size; the last, shorter one is dropped."""
    joined = {name: list(itertools.chain.from_iterable(examples[name])) for name in examples}
    total = len(joined["input_ids"]) // size * size
    found = {name: [one[n : n + size] for n in range(0, total, size)] for name, one in joined.items()}
    found["labels"] = [list(one) for one in found["input_ids"]]
    return found


data = raw.map(tokens_of, batched=True, remove_columns=["text", "label"]).map(chunks, batched=True)
collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.3)
batch = collator([{k: v for k, v in data[n].items() if k != "word_ids"} for n in range(4)])
masked = int((batch["labels"] != -100).sum())
counts = collections.Counter(word for word in data[0]["word_ids"] if word is not None)
inputs = tokenizer("The film was [MASK].", return_tensors="pt")
place = (inputs["input_ids"] == tokenizer.mask_token_id)[0].nonzero().item()
with torch.no_grad():
    top = torch.topk(model(**inputs).logits[0, place], 3).indices.tolist()
trainer = Trainer(
    model,
    TrainingArguments(
        f"{work}/out", max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no"
    ),
    train_dataset=data.remove_columns("word_ids"),
    eval_dataset=data.remove_columns("word_ids"),
    data_collator=collator,
    processing_class=tokenizer,
)
trainer.train()
perplexity = math.exp(trainer.evaluate()["eval_loss"])
answer = {
    "chunks": len(data),
    "words": sorted(counts.values()),
    "masked": 0 < masked < 64,
    "shape": list(batch["input_ids"].shape),
    "top": tokenizer.convert_ids_to_tokens(top),
    "perplexity": 1 < perplexity < 2000,
}
