"""Hooks by path, as ecco and notebooks write them: neurons of the feed-forward layers, changed attention, gradients."""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

models, work = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(f"{models}/llama")
model = AutoModelForCausalLM.from_pretrained(f"{models}/llama").eval()
batch = tokenizer(["the film was a joy", "a dull plot"], return_tensors="pt", padding=True)
batch.pop("token_type_ids", None)
seen = {}
handles = [
    layer.mlp.act_fn.register_forward_hook(lambda m, i, o, n=n: seen.__setitem__(n, o.detach()))
    for n, layer in enumerate(model.model.layers)
]
embeddings = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
model(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).logits[0, -1].max().backward()
for handle in handles:
    handle.remove()
zero = model.model.layers[0].self_attn.register_forward_hook(lambda m, i, o: (torch.zeros_like(o[0]), *o[1:]))
changed = model(**batch).logits[0, -1, :6].tolist()
zero.remove()
answer = {
    "gradient": embeddings.grad[0].norm(dim=-1).tolist(),
    "neurons": seen[0][0, :, :3].tolist(),
    "changed": changed,
}
