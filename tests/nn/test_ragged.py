"""Padding is dropped at the door and put back after the head, whatever the mask."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.kernels.ragged import SequenceLayout
from multihead.nn.ragged import Layout, mean_pool, positions_in_sequences, select_tokens

masks = st.integers(1, 5).flatmap(
    lambda length: st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=5)
)


@settings(deadline=None)
@given(masks)
def test_unpacking_what_was_packed_gives_it_back_with_zeros_at_padding(rows):
    mask = torch.tensor(rows).long()
    layout = Layout.of(mask, tuple(mask.shape))
    x = torch.randn(*mask.shape, 3)
    assert torch.equal(layout.unpack(layout.pack(x)), x * mask[..., None])
    assert list(layout.runs.lengths) == mask.sum(1).tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=5))
def test_places_go_on_from_what_is_remembered(texts):
    past, new = zip(*texts, strict=True)
    order = positions_in_sequences(SequenceLayout.packed(new), torch.device("cpu"), past)
    assert order.tolist() == [p + i for p, n in texts for i in range(n)]


def test_first_last_and_mean_of_each_text_skip_an_empty_one():
    hidden, runs = torch.arange(8.0).view(4, 2), SequenceLayout.packed((3, 0, 1))
    assert select_tokens(hidden, runs, 0).tolist() == [[0, 1], [0, 0], [6, 7]]
    assert select_tokens(hidden, runs, -1).tolist() == [[4, 5], [0, 0], [6, 7]]
    assert mean_pool(hidden, runs).tolist() == [[2, 3], [0, 0], [6, 7]]


def test_a_batch_of_empty_texts_pools_to_zeros():
    assert select_tokens(torch.zeros(0, 3), SequenceLayout.packed((0, 0)), 0).tolist() == [[0, 0, 0]] * 2
