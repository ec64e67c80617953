"""trl: supervised fine-tuning of a chat model, with LoRA and without."""

import sys

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

models, work = sys.argv[1:3]
rows = Dataset.from_dict(
    {"text": ["the film was a joy", "a dull plot", "where does the river begin", "bake bread"] * 4}
)
settings = {
    "max_steps": 3, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "logging_steps": 1, "save_strategy": "no",
    "report_to": "none", "use_cpu": True, "bf16": False, "max_length": 32, "disable_tqdm": True,
}  # fmt: skip
answer = {}
for name, lora in (
    ("full", None),
    ("lora", LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])),
):
    model = AutoModelForCausalLM.from_pretrained(f"{models}/llama")
    trainer = SFTTrainer(
        model=model, args=SFTConfig(output_dir=f"{work}/{name}", **settings), train_dataset=rows, peft_config=lora,
        processing_class=AutoTokenizer.from_pretrained(f"{models}/llama"),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    kept = ("loss", "mean_token_accuracy", "num_tokens", "grad_norm")
    answer[name] = [{k: v for k, v in one.items() if k in kept} for one in trainer.state.log_history[:-1]]
