"""peft: LoRA, IA3, prompt and prefix tuning: train, save, load, merge, generate."""

import sys

import torch
from peft import AutoPeftModelForCausalLM, IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

models, work = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(f"{models}/llama")
batch = tokenizer(["the film was a joy", "a dull plot here"], return_tensors="pt", padding=True)
batch.pop("token_type_ids", None)
configs = {
    "lora": LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.0),
    "dora": LoraConfig(r=4, task_type="CAUSAL_LM", target_modules="all-linear", use_dora=True),
    "ia3": IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
}  # fmt: skip
answer = {}
for name, config in configs.items():
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(f"{models}/llama"), config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):
        loss = model(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval().save_pretrained(f"{work}/{name}")
    again = AutoPeftModelForCausalLM.from_pretrained(f"{work}/{name}").eval()
    texts = again.generate(**tokenizer("the film", return_tensors="pt"), max_new_tokens=6, do_sample=False).tolist()
    found = {"losses": losses, "texts": texts, "trainable": model.get_nb_trainable_parameters()}
    if name in ("lora", "dora", "ia3"):
        found["merged"] = again.merge_and_unload()(**batch).logits[:, -1, :5].tolist()
    answer[name] = found
