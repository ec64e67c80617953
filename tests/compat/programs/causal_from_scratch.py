"""A causal model from scratch: a new config, windows of texts, weighted losses, generation."""

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

set_seed(2)
tokenizer = AutoTokenizer.from_pretrained(f"{models}/gpt2")
config = AutoConfig.from_pretrained(
    f"{models}/gpt2",
    vocab_size=len(tokenizer),
    n_ctx=16,
    n_positions=32,
    bos_token_id=tokenizer.bos_token_id,
    eos_token_id=tokenizer.eos_token_id,
)
model = GPT2LMHeadModel(config)
raw = Dataset.from_list(rows)


def windows(batch, size=12):
    """Return windows of one size."""
    found = tokenizer(
        batch["text"], truncation=True, max_length=size, return_overflowing_tokens=True, return_length=True
    )
    return {"input_ids": [ids for n, ids in zip(found["length"], found["input_ids"], strict=True) if n == size]}


data = raw.map(windows, batched=True, remove_columns=raw.column_names)
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
batch = collator([data[n] for n in range(3)])
loss = model(**batch).loss
trainer = Trainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=data,
    eval_dataset=data,
    data_collator=collator,
    args=TrainingArguments(
        f"{work}/out",
        max_steps=3,
        gradient_accumulation_steps=2,
        warmup_steps=1,
        weight_decay=0.1,
        report_to="none",
        lr_scheduler_type="cosine",
        learning_rate=5e-3,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    ),
)
before = trainer.evaluate()["eval_loss"]
trainer.train()
trainer.save_model(f"{work}/final")
texts = pipeline("text-generation", model=f"{work}/final", max_new_tokens=4)("The film", do_sample=False)
answer = {
    "parameters": sum(p.numel() for p in model.parameters()),
    "windows": len(data),
    "labels": torch.equal(batch["labels"], batch["input_ids"]),
    "close": abs(loss.item() - 6.2) < 1,
    "learned": trainer.evaluate()["eval_loss"] < before,
    "text": texts[0]["generated_text"].startswith("The film"),
}
