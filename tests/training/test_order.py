"""The plan of examples: the reference's order, nothing lost, budgets kept, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.errors import UnsupportedOption
from multihead.training.data.sampler import EpochSampler
from multihead.training.objectives.packed_batch import split_by_tokens

lengths = st.lists(st.integers(0, 30), min_size=1, max_size=60)


def flat(steps):
    return [number for step in steps for batch in step for number in batch]


def order(lengths, **changes):
    given = {"batch_size": 4, "batches_per_step": 1, "seed": 3, **changes}
    return EpochSampler(np.array(lengths), **given)


@pytest.mark.parametrize("count", [24, 25])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_batches_are_the_reference_trainers_epoch_after_epoch(count, accumulation, tmp_path):
    seen = []

    class Watching(transformers.Trainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            seen.append(inputs["input_ids"][:, 0].tolist())
            return super().training_step(model, inputs, num_items_in_batch)

    config = transformers.BertConfig(
        vocab_size=60, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=3, per_device_train_batch_size=4, gradient_accumulation_steps=accumulation,
        seed=3, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    data = [{"input_ids": [n, 1], "labels": n % 2} for n in range(count)]
    model = transformers.BertForSequenceClassification(config)
    Watching(model, arguments, train_dataset=data, data_collator=transformers.default_data_collator).train()
    own = order([2] * count, batches_per_step=accumulation)
    steps = [own.steps(epoch) for epoch in range(3)]
    assert [batch for epoch in steps for step in epoch for batch in step] == seen
    assert {len(epoch) for epoch in steps} == {own.count()}


@given(lengths, st.integers(30, 90), st.integers(1, 4), st.sampled_from(["random", "sequential", "group_by_length"]))
@settings(max_examples=60, deadline=None)
def test_batches_of_tokens_keep_their_budget_and_lose_no_example(lengths, budget, together, kind):
    own = order(lengths, max_tokens=budget, batches_per_step=together, strategy=kind)
    for epoch in (0, 1):
        steps = own.steps(epoch)
        assert sorted(flat(steps)) == list(range(len(lengths)))
        assert flat(steps) == list(own.examples(epoch)), "examples are taken in their order"
        assert all(sum(lengths[n] for n in batch) <= budget for step in steps for batch in step)
        assert all(batch for step in steps for batch in step)
        assert all(len(step) == together for step in steps[:-1])
        assert len(steps) == own.count(epoch)


def test_an_example_that_fits_no_batch_is_named():
    with pytest.raises(UnsupportedOption, match="Example 1 has 9 tokens, more than max_tokens_per_batch = 8"):
        order([3, 9], max_tokens=8, strategy="sequential").steps(0)


@given(lengths, st.integers(1, 7), st.integers(1, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_batches_of_texts_lose_none_but_what_drop_last_says(lengths, batch, together, whole):
    own = order(lengths, batch_size=batch, batches_per_step=together, drop_last=whole)
    steps = own.steps(0)
    left = len(lengths) % batch if whole else 0
    assert len(flat(steps)) == len(set(flat(steps))) == len(lengths) - left
    assert {len(b) for step in steps for b in step} <= ({batch} if whole else {batch, len(lengths) % batch})
    assert len(steps) == own.count()


@given(lengths, st.sampled_from([(1, 4), (2, 2), (4, 1)]))
@settings(max_examples=30, deadline=None)
def test_steps_do_not_depend_on_how_devices_and_accumulation_share_them(lengths, split):
    """A step is its batches, whoever reads each."""
    devices, accumulation = split
    own = order(lengths, batches_per_step=devices * accumulation)
    assert own.steps(1) == order(lengths, batches_per_step=4).steps(1)
    shares = [[step[rank::devices] for step in own.steps(1)] for rank in range(devices)]
    assert sorted(flat([step for share in shares for step in share])) == list(range(len(lengths)))


def test_orders_differ_by_epoch_and_seed_and_are_the_same_when_asked_again():
    own = order(range(1, 40))
    first = own.steps(0)
    assert own.steps(1) != first
    assert own.steps(0) == first
    assert order(range(1, 40), seed=4).steps(0) != first
    assert flat(order(range(1, 40), strategy="sequential").steps(5)) == list(range(39))


def test_grouping_by_length_puts_alike_lengths_together():
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 500, 1000)
    own = order(sizes, batch_size=8, strategy="group_by_length")
    padding = {
        kind: waste(order(sizes, batch_size=8, strategy=kind).steps(0), sizes) for kind in ("random", "group_by_length")
    }
    assert padding["group_by_length"] < 0.1 * padding["random"]
    assert sizes[own.steps(0)[0][0]].max() == sizes[list(own.examples(0))[:400]].max()
    assert sorted(flat(own.steps(0))) == list(range(1000))


def waste(steps, sizes):
    return sum(sizes[b].max() * len(b) - sizes[b].sum() for step in steps for b in step)


@given(lengths, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_passes_keep_the_order_and_the_budget(lengths, budget):
    found = list(split_by_tokens([{"n": n} for n in range(len(lengths))], lengths, budget))
    assert [example["n"] for part in found for example in part] == list(range(len(lengths)))
    for part in found:
        assert len(part) == 1 or sum(lengths[example["n"]] for example in part) <= budget
    assert len(list(split_by_tokens([{}] * len(lengths), lengths, None))) == 1


def test_drawing_an_order_leaves_torchs_generator_alone():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    order(range(1, 9)).steps(2)
    assert torch.equal(torch.rand(3), wanted)
