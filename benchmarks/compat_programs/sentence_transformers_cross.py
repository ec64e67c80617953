"""sentence-transformers: train a CrossEncoder, rank."""

import sys

import torch
from datasets import Dataset
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

models, work = sys.argv[1:3]
texts = ["the film was a joy", "a dull plot", "where does the river begin", "anna lives in berlin"] * 4
rows = Dataset.from_dict({"query": texts, "passage": texts[1:] + texts[:1], "label": [1.0, 0.0] * 8})
torch.manual_seed(0)
model = CrossEncoder(f"{models}/bert", num_labels=1, device="cpu")
with torch.no_grad():  # the new head of one label: the same in every library
    for name, parameter in model.named_parameters():
        if "classifier" in name:
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).reshape(parameter.shape))
args = CrossEncoderTrainingArguments(
    output_dir=work,
    max_steps=4,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
)
trainer = CrossEncoderTrainer(model=model, args=args, train_dataset=rows, loss=BinaryCrossEntropyLoss(model))
trainer.train()
model.save_pretrained(f"{work}/saved")
again = CrossEncoder(f"{work}/saved", device="cpu")
ranks = again.rank("where does the river begin", texts[:4])
answer = {
    "losses": [one["loss"] for one in trainer.state.log_history if "loss" in one],
    "scores": again.predict([(texts[0], texts[1]), (texts[2], texts[3])]).tolist(),
    "ranks": [{"id": int(one["corpus_id"]), "score": float(one["score"])} for one in ranks],
}
