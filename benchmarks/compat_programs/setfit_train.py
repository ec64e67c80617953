"""setfit: few-shot classification."""

import sys

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

models, work = sys.argv[1:3]
rows = Dataset.from_dict(
    {"text": ["a joy to watch", "worth it", "a dull plot", "a cast that does not care"] * 2, "label": [1, 1, 0, 0] * 2}
)


def accuracy(found, expected):
    return {"accuracy": sum(one == other for one, other in zip(found, expected, strict=True)) / len(expected)}


model = SetFitModel.from_pretrained(f"{models}/bert", labels=["bad", "good"], device="cpu")
args = TrainingArguments(output_dir=work, batch_size=4, num_epochs=1, max_steps=4, report_to="none", save_strategy="no")
trainer = Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows, metric=accuracy)
trainer.train()
answer = {
    "metrics": trainer.evaluate(),
    "scores": model.predict_proba(["a joy", "dull"]).tolist(),
    "labels": list(model.predict(["a joy", "dull"])),
}
