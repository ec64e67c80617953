"""Every way to compute attention gives what the definition gives, and the definition what three loops give."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.kernels.ops import fused_attention
from multihead.kernels.ragged import AttentionMask, SequenceLayout
from multihead.kernels.torch import attention, sdpa

HEADS, KEY_HEADS, WIDTH = 4, 2, 8


def loops(q, k, v, attention_mask, scale):
    """Attention of one query at a time, in Python."""
    out = torch.zeros_like(q)
    for text in range(len(attention_mask.queries)):
        qb, ql = attention_mask.queries.begins[text], attention_mask.queries.lengths[text]
        kb, kl = attention_mask.keys.begins[text], attention_mask.keys.lengths[text]
        for i in range(ql):
            place = kl - ql + i
            seen = [
                j
                for j in range(kl)
                if (not attention_mask.causal or j <= place)
                and (attention_mask.window is None or abs(j - place) < attention_mask.window)
            ]
            for head in range(HEADS):
                group = head // (HEADS // KEY_HEADS)
                scores = [float(q[qb + i, head] @ k[kb + j, group]) * scale for j in seen]
                top = max(scores, default=0.0)
                shares = [math.exp(s - top) for s in scores]
                for j, share in zip(seen, shares, strict=True):
                    out[qb + i, head] += share / sum(shares) * v[kb + j, group]
    return out


def tensors(attention_mask, seed=0):
    torch.manual_seed(seed)
    rows = max((b + n for b, n in zip(attention_mask.keys.begins, attention_mask.keys.lengths, strict=True)), default=0)
    q = torch.randn(sum(attention_mask.queries.lengths), HEADS, WIDTH)
    return q, torch.randn(rows, KEY_HEADS, WIDTH), torch.randn(rows, KEY_HEADS, WIDTH)


lengths = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@settings(max_examples=80, deadline=None)
@given(lengths, st.booleans(), st.sampled_from([None, 1, 3, 20]), st.integers(0, 6))
def test_every_backend_equals_three_loops(new, causal, window, past):
    """Texts of any lengths, some of them empty, after any number of remembered tokens."""
    queries, keys = SequenceLayout.packed(tuple(new)), SequenceLayout.packed(tuple(n + past for n in new))
    attention_mask = AttentionMask(queries, keys, causal, window)
    q, k, v = tensors(attention_mask)
    expected = loops(q, k, v, attention_mask, 0.3)
    for backend in (attention.attend, fused_attention):
        torch.testing.assert_close(backend(q, k, v, attention_mask, scale=0.3), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_evenly_spaced_keys_with_room_between_are_read_in_place(length, causal):
    """A cache keeps each text's keys on a strip with free places at its end."""
    strip, texts = 16, 3
    keys = SequenceLayout(tuple(t * strip for t in range(texts)), (9,) * texts)
    attention_mask = AttentionMask(SequenceLayout.packed((length,) * texts), keys, causal)
    q, _, _ = tensors(attention_mask)
    k, v = torch.randn(2, texts * strip, KEY_HEADS, WIDTH)
    torch.testing.assert_close(
        fused_attention(q, k, v, attention_mask, scale=0.5), loops(q, k, v, attention_mask, 0.5), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("begins", [(0, 9), (0, 4), (4, 9), (9, 0), (0, 0), (0, 10)])
def test_texts_whose_keys_lie_anywhere_among_more_rows_are_found(begins):
    """Texts that left a batch leave their rows behind; forks share theirs."""
    attention_mask = AttentionMask(SequenceLayout.packed((1, 1)), SequenceLayout(begins, (4, 4)))
    q, k, v = torch.randn(2, HEADS, WIDTH), *torch.randn(2, 14, KEY_HEADS, WIDTH)
    torch.testing.assert_close(
        fused_attention(q, k, v, attention_mask, scale=0.5), loops(q, k, v, attention_mask, 0.5), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("new", [(5,), (5, 5), (3, 70, 6), (130, 90), (2, 3, 4)])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_bias_and_a_softcap_mean_the_same_in_every_backend(new, softcap):
    attention_mask = AttentionMask(SequenceLayout.packed(new), SequenceLayout.packed(new), True)
    q, k, v = tensors(attention_mask)
    table = torch.randn(HEADS, max(new), max(new))

    def bias(text):
        return table[:, : new[text], : new[text]]

    expected = attention.attend(q, k, v, attention_mask, scale=0.3, bias=bias, softcap=softcap)
    given_ = fused_attention(q, k, v, attention_mask, scale=0.3, bias=bias, softcap=softcap)
    torch.testing.assert_close(given_, expected, rtol=1e-4, atol=1e-5)


def test_a_text_without_keys_gives_zeros_and_harms_no_other():
    attention_mask = AttentionMask(SequenceLayout.packed((2, 3)), SequenceLayout.packed((0, 3)))
    q, k, v = tensors(attention_mask)
    for backend in (attention.attend, fused_attention):
        out = backend(q, k, v, attention_mask, scale=0.3)
        assert torch.equal(out[:2], torch.zeros_like(out[:2]))
        torch.testing.assert_close(out, loops(q, k, v, attention_mask, 0.3), rtol=1e-4, atol=1e-5)


def test_the_definition_shows_probabilities_that_sum_to_one():
    attention_mask = AttentionMask(SequenceLayout.packed((3, 5)), SequenceLayout.packed((3, 5)), True)
    q, k, v = tensors(attention_mask)
    seen: list[torch.Tensor] = []
    attention.attend(q, k, v, attention_mask, scale=0.3, probabilities=seen)
    assert [tuple(p.shape) for p in seen] == [(HEADS, 3, 3), (HEADS, 5, 5)]
    for p in seen:
        torch.testing.assert_close(p.sum(-1), torch.ones(p.shape[:2]))
        assert p.triu(1).abs().max() == 0


def test_gradients_flow_through_every_backend_alike():
    attention_mask = AttentionMask(SequenceLayout.packed((4, 4, 4)), SequenceLayout.packed((4, 4, 4)), True)
    grads = []
    for backend in (attention.attend, fused_attention):
        q, k, v = (x.requires_grad_() for x in tensors(attention_mask))
        backend(q, k, v, attention_mask, scale=0.3).square().sum().backward()
        grads.append((q.grad, k.grad, v.grad))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_runs_know_their_spacing_only_when_it_is_even():
    assert SequenceLayout.packed((4, 4, 4)).stride == 4
    assert SequenceLayout.packed((4,)).stride == 4
    assert SequenceLayout.packed((4, 3)).stride is None
    assert SequenceLayout((0, 16, 32), (5, 5, 5)).stride == 16
    assert SequenceLayout((3, 8), (5, 5)).stride is None
    assert SequenceLayout((0, 16, 20), (4, 4, 4)).stride is None


@settings(max_examples=50, deadline=None)
@given(lengths)
def test_a_grid_points_at_each_token_once(new):
    runs = SequenceLayout.packed(tuple(new))
    rows, real = runs.padded(torch.device("cpu"))
    assert rows[real].tolist() == list(range(sum(new)))
    assert real.sum(1).tolist() == new


def test_many_short_texts_share_one_grid(monkeypatch):
    """The path that pads attention alone is really taken, and gives the same."""
    random.seed(0)
    new = tuple(random.randint(1, 12) for _ in range(20))
    attention_mask = AttentionMask(SequenceLayout.packed(new), SequenceLayout.packed(new))
    q, k, v = tensors(attention_mask)
    calls = []
    original = sdpa._padded
    monkeypatch.setattr(sdpa, "_padded", lambda *a: calls.append(1) or original(*a))
    out = fused_attention(q, k, v, attention_mask, scale=0.3)
    assert calls
    torch.testing.assert_close(out, loops(q, k, v, attention_mask, 0.3), rtol=1e-4, atol=1e-5)
