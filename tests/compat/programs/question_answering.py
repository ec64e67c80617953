"""Extractive answers: windows of a long context, labels of spans, training, and the best span."""

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained(f"{models}/bert")
context = "Anna lives in Berlin and works for a bank in Paris. The film was a joy from the first scene to the last."
raw = Dataset.from_list(
    [
        {
            "id": str(n),
            "question": "Where does Anna live?",
            "context": context,
            "answers": {"text": ["Berlin"], "answer_start": [14]},
        }
        for n in range(3)
    ]
)


def windows(examples):
    """Return windows of the contexts, with the places of the answers."""
    inputs = tokenizer(
        examples["question"],
        examples["context"],
        max_length=24,
        truncation="only_second",
        stride=6,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    sources = inputs.pop("overflow_to_sample_mapping")
    starts, ends, ids = [], [], []
    for n, offsets in enumerate(inputs["offset_mapping"]):
        answers = examples["answers"][sources[n]]
        begin, end = answers["answer_start"][0], answers["answer_start"][0] + len(answers["text"][0])
        kinds = inputs.sequence_ids(n)
        first, last = kinds.index(1), len(kinds) - 1 - kinds[::-1].index(1)
        inside = offsets[first][0] <= begin and offsets[last][1] >= end
        places = [k for k in range(first, last + 1) if offsets[k][1] > begin and offsets[k][0] < end]
        starts.append(places[0] if inside else 0)
        ends.append(places[-1] if inside else 0)
        ids.append(examples["id"][sources[n]])
        inputs["offset_mapping"][n] = [o if kinds[k] == 1 else None for k, o in enumerate(offsets)]
    inputs["start_positions"], inputs["end_positions"], inputs["example_id"] = starts, ends, ids
    return inputs


data = raw.map(windows, batched=True, remove_columns=raw.column_names)
model = AutoModelForQuestionAnswering.from_pretrained(f"{models}/reader")
plain = data.remove_columns(["example_id", "offset_mapping"])
start, end, losses = [], [], []
for row in plain:
    with torch.no_grad():
        outputs = model(**{name: torch.tensor([value]) for name, value in row.items()})
    start.append(outputs.start_logits[0].numpy())
    end.append(outputs.end_logits[0].numpy())
    losses.append(outputs.loss.item())
best = []
for n in range(len(data)):
    offsets = data[n]["offset_mapping"]
    pairs = [
        (float(start[n][a] + end[n][b]), context[offsets[a][0] : offsets[b][1]])
        for a in np.argsort(start[n])[-1:-6:-1].tolist()
        for b in np.argsort(end[n])[-1:-6:-1].tolist()
        if offsets[a] and offsets[b] and a <= b < a + 8
    ]
    best.append(max(pairs) if pairs else None)
trainer = Trainer(
    model,
    TrainingArguments(
        f"{work}/out", max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no"
    ),
    train_dataset=plain,
    processing_class=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer),
)
trainer.train()
answer = {
    "windows": len(data),
    "starts": list(plain["start_positions"]),
    "ends": list(plain["end_positions"]),
    "losses": losses,
    "best": best,
    "steps": trainer.state.global_step,
}
