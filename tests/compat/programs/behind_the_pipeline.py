"""What a pipeline does: tokens, a model, probabilities, labels."""

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(f"{models}/classifier")
model = AutoModelForSequenceClassification.from_pretrained(f"{models}/classifier")
texts = ["The film was a joy from the first scene to the last.", "A dull plot!"]
inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
hidden = AutoModel.from_pretrained(f"{models}/classifier")(**inputs).last_hidden_state
shares = torch.nn.functional.softmax(outputs.logits, dim=-1)
single = model(torch.tensor([tokenizer.convert_tokens_to_ids(tokenizer.tokenize(texts[1]))])).logits
model.save_pretrained(f"{work}/saved")
config = AutoConfig.from_pretrained(f"{work}/saved")
answer = {
    "ids": inputs["input_ids"].tolist(),
    "mask": inputs.attention_mask.tolist(),
    "hidden": list(hidden.shape),
    "shares": shares.tolist(),
    "single": single.tolist(),
    "labels": [model.config.id2label[n] for n in shares.argmax(-1).tolist()],
    "config": [config.model_type, config.hidden_size, config.num_labels],
}
