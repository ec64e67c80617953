"""Tiny models of the reference, one a way of storing matrices, and adapters of the peft library for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
import transformers

import multihead
from multihead.nn.own_names import own_parameters

WORDS = 99
DECODER = {"vocab_size": WORDS, "bos_token_id": 0, "eos_token_id": 1}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
CONFIGS = {
    "Bert": lambda: transformers.BertConfig(**SIZES, vocab_size=WORDS, max_position_embeddings=32, num_labels=3),
    "Llama": lambda: transformers.LlamaConfig(**SIZES, **DECODER, num_key_value_heads=1),
    "GPT2": lambda: transformers.GPT2Config(**DECODER, n_embd=16, n_layer=2, n_head=2, n_positions=32),
    "T5": lambda: transformers.T5Config(
        vocab_size=WORDS, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0
    ),
    "GPTNeoX": lambda: transformers.GPTNeoXConfig(**SIZES, **DECODER),
    "GPTJ": lambda: transformers.GPTJConfig(**DECODER, n_embd=16, n_layer=2, n_head=2, rotary_dim=4, n_positions=32),
}
CLASSES = {
    "Bert": "BertForSequenceClassification",
    "Llama": "LlamaForCausalLM",
    "GPT2": "GPT2LMHeadModel",
    "T5": "T5ForConditionalGeneration",
    "GPTNeoX": "GPTNeoXForCausalLM",
    "GPTJ": "GPTJForCausalLM",
}
TARGETS = {  # as the reference names them
    "Bert": ["query", "value", "dense"],
    "Llama": ["q_proj", "v_proj", "down_proj"],
    "GPT2": ["c_attn", "c_proj", "c_fc"],
    "T5": ["q", "v", "wo"],
    "GPTNeoX": ["query_key_value", "dense_4h_to_h"],
    "GPTJ": ["q_proj", "k_proj", "fc_in"],
}


def reference(kind: str) -> Any:
    """The reference's model, in float64 so that differences mean something."""
    torch.manual_seed(0)
    model = getattr(transformers, CLASSES[kind])(CONFIGS[kind]()).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def base(kind: str, folder: Path) -> Path:
    """A folder with that model."""
    reference(kind).save_pretrained(folder / kind)
    return folder / kind


def load(kind: str, folder: Path) -> Any:
    return getattr(multihead, CLASSES[kind]).from_pretrained(folder)


def peft_model(kind: str, **options: Any) -> Any:
    """The reference's model with an adapter of peft's whose every parameter is random."""
    task = "SEQ_CLS" if kind == "Bert" else None
    options = {"r": 3, "lora_alpha": 5, "target_modules": TARGETS[kind], "init_lora_weights": False, **options}
    model = peft.get_peft_model(
        reference(kind), peft.LoraConfig(task_type=task, fan_in_fan_out=kind == "GPT2", **options)
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in own_parameters(model):
            if parameter.requires_grad:
                parameter.mul_(1.3) if "magnitude" in name else parameter.normal_(std=0.3)
    return model.eval()


def inputs(kind: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    ids = torch.randint(2, WORDS - 1, (2, 7))
    labels = torch.tensor([0, 2]) if kind == "Bert" else ids
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def scores(model: Any, kind: str) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs(kind)).logits


def randomized(model: Any) -> Any:
    """Gives every parameter that learns random values, as after training."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    return model
