"""trl: a reward model."""

import sys

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

models, work = sys.argv[1:3]
rows = {"chosen": ["a joy to watch", "in the north"], "rejected": ["dull", "a bank in the plot"]}
rows = Dataset.from_dict({name: values * 4 for name, values in rows.items()})
model = AutoModelForSequenceClassification.from_pretrained(f"{models}/llama", num_labels=1)
with torch.no_grad():  # the new head: the same in every library
    model.score.weight.copy_(torch.linspace(-0.5, 0.5, model.score.weight.numel()).reshape(model.score.weight.shape))
args = RewardConfig(
    output_dir=work,
    max_steps=3,
    per_device_train_batch_size=2,
    learning_rate=1e-3,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    bf16=False,
    disable_tqdm=True,
)
tokenizer = AutoTokenizer.from_pretrained(f"{models}/llama")
trainer = RewardTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
trainer.train()
kept = ("loss", "accuracy", "margin", "mean_reward", "grad_norm")
answer = [{k: v for k, v in one.items() if k in kept} for one in trainer.state.log_history[:-1]]
