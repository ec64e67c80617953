"""Collators of language models, and rows that are held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from multihead import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.training.data.source import Rows
from multihead.training.data.split import train_eval_split

TEXTS = ["the quick brown fox jumps", "over the lazy dog", "a dog", "the fox"] * 8


def run(folder, model, collator, examples, **more):
    settings = {"max_steps": 4, "logging_steps": 1, "use_cpu": True, "save_strategy": "no", "learning_rate": 1e-3}
    made = Trainer(model, TrainingArguments(folder, **{**settings, **more}), collator, examples)
    made.train()
    return made


def test_hidden_words_are_drawn_at_the_shares_asked_for_and_special_tokens_never(bert):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=3)
    examples = [dict(tokenizer(text)) for text in TEXTS]
    batches = [collator(examples) for _ in range(20)]
    ids, labels = (torch.cat([batch[name] for batch in batches]) for name in ("input_ids", "labels"))
    true = torch.cat([collator._pad([np.array(e["input_ids"]) for e in examples], 0)] * 20)
    learned = labels != -100
    special = torch.isin(true, torch.tensor(tokenizer.all_special_ids))
    unknown = torch.tensor(tokenizer.unk_token_id)
    assert not (learned & special & (true != unknown)).any()
    assert torch.equal(labels[learned], true[learned])
    assert torch.equal(ids[~learned], true[~learned])
    assert abs(float(learned.sum() / (~special).sum()) - 0.5) < 0.05
    assert abs(float((ids[learned] == tokenizer.mask_token_id).float().mean()) - 0.8) < 0.05
    assert not torch.equal(batches[0]["labels"], batches[1]["labels"])
    again = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=3)
    assert torch.equal(again(examples)["labels"], batches[0]["labels"])


def test_a_words_pieces_are_hidden_together(bert):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3, whole_word_mask=True, seed=1)
    example = dict(tokenizer("jumps jumps jumps jumps jumps jumps"))
    pieces = tokenizer.convert_ids_to_tokens(example["input_ids"])
    assert any(piece.startswith("##") for piece in pieces)
    chosen = (collator([example])["labels"][0] != -100).tolist()
    assert any(chosen)
    assert not all(chosen[1:-1])
    for place, piece in enumerate(pieces):
        if piece.startswith("##"):
            assert chosen[place] == chosen[place - 1]


def test_a_trainer_hides_words_anew_in_each_epoch_without_padding(bert, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    examples = [tokenizer(text) for text in TEXTS[:4]]
    made = run(tmp_path, AutoModelForMaskedLM.from_pretrained(bert), collator, examples, per_device_train_batch_size=4)
    assert not made.job.uses_padding
    assert made.state.num_input_tokens_seen == 4 * sum(len(example["input_ids"]) for example in examples)
    example = made.features(made.train_dataset, training=True)[0]
    one, same, other = (made.objective.prepare_example(example, (42, epoch, 0))["labels"] for epoch in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_every_next_word_is_learned_whatever_the_labels(llama, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    examples = [dict(tokenizer(text)) for text in TEXTS[:4]]
    batch = collator(examples)
    assert torch.equal(batch["labels"] == -100, batch["attention_mask"] == 0)
    assert torch.equal(batch["labels"][batch["labels"] != -100], batch["input_ids"][batch["attention_mask"] == 1])
    losses = []
    for extra in ({}, {"labels": True}):
        given = [{**e, **({"labels": [-100] * len(e["input_ids"])} if extra else {})} for e in examples]
        made = run(tmp_path, AutoModelForCausalLM.from_pretrained(llama, dtype="float32"), collator, given)
        losses.append([log["loss"] for log in made.state.log_history if "loss" in log])
    assert losses[0] == losses[1]


def test_a_collator_for_words_is_refused_where_none_are_learned(bert, llama, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    with pytest.raises(UnsupportedOption, match="AutoModelForMaskedLM"):
        run(tmp_path, AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2),
            DataCollatorForLanguageModeling(tokenizer), [tokenizer("a dog")])  # fmt: skip
    with pytest.raises(InvalidInput, match="mask token"):
        DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(llama))
    with pytest.raises(UnsupportedOption, match="whole_word_mask"):
        DataCollatorForLanguageModeling(tokenizer, mlm=False, whole_word_mask=True)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_rows_that_are_held_out_are_each_on_one_side_and_still_say_where_they_stand(tmp_path, size):
    path = tmp_path / "rows.csv"
    path.write_text("text,n\n" + "".join(f"text,{n}\n" for n in range(20)))
    sides = train_eval_split([path, path], 0.25, 7)
    assert [len(side) for side in sides] == [30, 10]
    found = []
    for side in sides:
        chunks = list(side.chunks(size))
        assert [begin for begin, _ in chunks] == [size * place for place in range(len(chunks))]
        rows = [row for _, chunk in chunks for row in chunk]
        assert rows == list(side) == side[:]
        assert [side.location(place) for place in range(len(side))] == [
            f"line {int(r['n']) + 2} of rows.csv" for r in rows
        ]
        found += [row["n"] for row in rows]
    assert sorted(found, key=int) == sorted([str(n) for n in range(20)] * 2, key=int)
    again = train_eval_split(path, 0.25, 8), train_eval_split(path, 0.25, 8)
    assert list(again[0][1]) == list(again[1][1])
    with pytest.raises(InvalidInput, match="cannot be held out"):
        train_eval_split(Rows.of([{"text": "one"}]), 0.5, 0)
