"""Supervised fine-tuning by hand: the loss of answers alone, in rows of several conversations."""

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained(f"{models}/llama")
model = AutoModelForCausalLM.from_pretrained(f"{models}/llama")
data = []
for n in range(8):
    talk = [{"role": "user", "content": f"Add {n} and 1."}, {"role": "assistant", "content": f"It is {n + 1}."}]
    whole = tokenizer(tokenizer.apply_chat_template(talk, tokenize=False), add_special_tokens=False)["input_ids"]
    asked = tokenizer(
        tokenizer.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True), add_special_tokens=False
    )["input_ids"]
    data.append({"input_ids": whole, "labels": [-100] * len(asked) + whole[len(asked) :]})
padded = DataCollatorForSeq2Seq(tokenizer)([{**one, "attention_mask": [1] * len(one["input_ids"])} for one in data[:3]])
flat = DataCollatorWithFlattening()(data[:3])
with torch.no_grad():
    losses = [model(**padded, use_cache=False).loss.item(), model(**flat, use_cache=False).loss.item()]
trainer = Trainer(
    model,
    TrainingArguments(
        f"{work}/out", max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no"
    ),
    train_dataset=data,
    data_collator=DataCollatorForSeq2Seq(tokenizer),
    processing_class=tokenizer,
)
trainer.train()
answer = {"losses": losses, "steps": trainer.state.global_step}
