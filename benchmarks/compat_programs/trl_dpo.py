"""trl: direct preference optimization."""

import sys

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

models, work = sys.argv[1:3]
rows = {"prompt": ["is it good? ", "where? "], "chosen": ["a joy", "in the north"], "rejected": ["dull", "a bank"]}
rows = Dataset.from_dict({name: values * 4 for name, values in rows.items()})
args = DPOConfig(
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
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(f"{models}/llama"),
    args=args,
    train_dataset=rows,
    processing_class=AutoTokenizer.from_pretrained(f"{models}/llama"),
)
trainer.train()
kept = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "grad_norm")
answer = [{k: v for k, v in one.items() if k in kept} for one in trainer.state.log_history[:-1]]
