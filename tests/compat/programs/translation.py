"""Text to text: targets, the collator's decoder inputs, generation in evaluation, a loop by hand."""

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained(f"{models}/t5")
model = AutoModelForSeq2SeqLM.from_pretrained(f"{models}/t5")
raw = Dataset.from_list([{"translation": {"en": row["text"], "fr": row["text"][::-1]}} for row in rows])


def prepare(examples):
    """Return sources and targets of a batch."""
    sources = [one["en"] for one in examples["translation"]]
    return tokenizer(
        sources, text_target=[one["fr"] for one in examples["translation"]], max_length=24, truncation=True
    )


data = raw.map(prepare, batched=True, remove_columns=raw.column_names)
collator = DataCollatorForSeq2Seq(tokenizer, model=model)
batch = collator([data[n] for n in range(2)])
loss = model(**batch).loss.item()
with torch.no_grad():
    texts = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=5, num_beams=2)


def metrics(found):
    """Return the mean length of the generated texts."""
    ids, labels = found
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    ids = np.where(ids != -100, ids, tokenizer.pad_token_id)
    assert len(tokenizer.batch_decode(labels, skip_special_tokens=True)) == len(ids)
    return {"lengths": float(np.mean([np.count_nonzero(one != tokenizer.pad_token_id) for one in ids]))}


trainer = Seq2SeqTrainer(
    model,
    Seq2SeqTrainingArguments(
        f"{work}/out",
        max_steps=1,
        per_device_train_batch_size=4,
        predict_with_generate=True,
        generation_max_length=8,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    ),
    train_dataset=data,
    eval_dataset=data,
    data_collator=collator,
    processing_class=tokenizer,
    compute_metrics=metrics,
)
before = trainer.evaluate()
trainer.train()
answer = {
    "ids": batch["input_ids"].tolist(),
    "labels": batch["labels"].tolist(),
    "decoder": batch["decoder_input_ids"].tolist() if "decoder_input_ids" in batch else None,
    "loss": loss,
    "texts": texts.tolist(),
    "eval": before["eval_loss"],
    "lengths": before["eval_lengths"],
}
