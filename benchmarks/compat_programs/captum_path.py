"""captum: layer integrated gradients of a part by its path, and layer activations."""

import sys

import torch
from captum.attr import LayerActivation, LayerIntegratedGradients
from transformers import AutoModelForSequenceClassification, AutoTokenizer

models, work = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(f"{models}/classifier")
model = AutoModelForSequenceClassification.from_pretrained(f"{models}/classifier").eval()
batch = tokenizer("the film was a joy", return_tensors="pt")
forward = lambda ids, mask: model(ids, attention_mask=mask).logits  # noqa: E731
gradients = LayerIntegratedGradients(forward, model.bert.embeddings)
base = torch.full_like(batch["input_ids"], tokenizer.pad_token_id)
found, delta = gradients.attribute(
    batch["input_ids"],
    baselines=base,
    additional_forward_args=(batch["attention_mask"],),
    target=1,
    n_steps=20,
    return_convergence_delta=True,
)
layer = LayerActivation(forward, model.bert.encoder.layer[0].output.dense).attribute(
    batch["input_ids"], additional_forward_args=(batch["attention_mask"],)
)
answer = {
    "words": found.sum(-1).tolist(),
    "delta": delta.tolist(),
    "layer": list(layer.shape),
    "values": layer.flatten()[:6].tolist(),
}
