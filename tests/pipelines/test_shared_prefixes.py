"""Prefix trees: shared tokens are read once, and every score is that of the sequence alone."""

from __future__ import annotations

import random

import pytest
import torch

import multihead
from multihead.pipelines.shared_prefixes import PrefixTree, can_share, prefix_batches, read_shared
from tests.conftest import SIZES


def make_sequences(seed):
    """Sequences that share prefixes of several lengths; some are the same, some are prefixes of others."""
    chance = random.Random(seed)

    def tokens(count):
        return [chance.randrange(5, 25) for _ in range(count)]

    found = []
    for _ in range(3):
        first = tokens(chance.choice([0, 12, 40]))
        for _ in range(chance.randrange(1, 4)):
            second = first + tokens(chance.choice([0, 1, 33]))
            found += [second + tokens(chance.randrange(1, 5)) for _ in range(chance.randrange(1, 6))]
    found += [found[0], found[0][: max(len(found[0]) // 2, 1)]]
    chance.shuffle(found)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_holds_every_sequence_and_shares_what_it_can(seed):
    sequences = make_sequences(seed)
    tree = PrefixTree.of(sequences)
    for sequence, node in zip(sequences, tree.last, strict=True):
        parts = []
        while node is not None:
            parts.insert(0, list(node.tokens))
            node = node.above
        assert [token for part in parts for token in part] == sequence
    assert tree.size <= sum(map(len, sequences))
    assert all(node.above is None or tree.nodes.index(node.above) < n for n, node in enumerate(tree.nodes))


def test_a_long_prefix_is_read_once_and_a_short_one_is_not_worth_a_pass():
    long, short = list(range(100)), [1, 2]
    assert PrefixTree.of([[*long, n] for n in range(4)]).size == 104
    assert PrefixTree.of([[*short, n] for n in range(4)]).size == 12
    assert PrefixTree.of([long, long, long[:50]]).size == 100


def test_batches_keep_what_begins_alike_together_within_the_budget():
    sequences = [[first, *range(50), last] for last in range(3) for first in (1, 2, 3)]
    found = list(prefix_batches(sequences, 60))
    assert sorted(sorted(sequences[n][0] for n in batch) for batch in found) == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    assert [len(batch) for batch in prefix_batches(sequences, 60, shares=False)] == [1] * 9
    assert [len(batch) for batch in prefix_batches(sequences, 10**6, 2)] == [2, 2, 2, 2, 1]


def make_model(family, **more):
    config = multihead.AutoConfig.for_model(family, vocab_size=30, **more)
    return multihead.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", SIZES),
        ("gpt2", {"n_embd": 16, "n_layer": 2, "n_head": 2}),
        ("mistral", {**SIZES, "num_key_value_heads": 1, "sliding_window": 24}),
    ],
)
def test_states_are_those_of_each_sequence_alone(family, more):
    model = make_model(family, **more)
    assert can_share(model)
    for seed in range(3):
        sequences = make_sequences(seed)
        states, tree = read_shared(model, sequences)
        with torch.inference_mode():
            for number, sequence in enumerate(sequences):
                alone = model.run([sequence], at=[]).hidden
                rows = [tree.row(number, position) for position in range(len(sequence))]
                torch.testing.assert_close(states[rows], alone, atol=1e-4, rtol=1e-4)


def test_a_recurrence_cannot_be_shared():
    assert not can_share(make_model("mamba", hidden_size=32, num_hidden_layers=2, state_size=4))
