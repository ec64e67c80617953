"""What layers remember: reading in chunks, reordering and going back change nothing."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead.kernels.ragged import SequenceLayout
from multihead.nn.attention.attention import Attention
from multihead.nn.cache.store import BatchCache
from multihead.nn.forward_context import ForwardContext
from multihead.nn.ragged import positions_in_sequences
from multihead.nn.recurrence import SSRU
from multihead.nn.weights import initialize

WIDTH = 8


def layer(kind):
    torch.manual_seed(0)
    module = Attention(WIDTH, 2, causal=True) if kind == "attention" else SSRU(WIDTH)
    initialize(module, 0.5)
    return module.eval()


def run(module, texts, memory):
    """One pass over each text's next tokens, in a cache when one is given."""
    runs = SequenceLayout.packed(tuple(len(t) for t in texts))
    past = memory.lengths if memory else None
    context = ForwardContext(positions_in_sequences(runs, torch.device("cpu"), past), runs, cache=memory)
    with torch.no_grad():
        out = module(torch.cat(texts), context, memory.layers[0] if memory else None)
    if memory:
        memory.advance(runs)
    return list(out.split(list(runs.lengths)))


chunks = st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=2, max_size=5)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["attention", "ssru"]), chunks)
def test_reading_in_chunks_of_any_size_equals_one_pass(kind, sizes):
    module = layer(kind)
    texts = [torch.randn(sum(chunk[t] for chunk in sizes), WIDTH) for t in range(3)]
    expected = run(module, texts, None)
    memory = BatchCache.of([module.memory()], 3)
    got, begin = [[], [], []], [0, 0, 0]
    for chunk in sizes:
        parts = [text[b : b + n] for text, b, n in zip(texts, begin, chunk, strict=True)]
        for text, out in enumerate(run(module, parts, memory)):
            got[text].append(out)
        begin = [b + n for b, n in zip(begin, chunk, strict=True)]
    for one, many in zip(expected, got, strict=True):
        torch.testing.assert_close(torch.cat(many), one, rtol=1e-4, atol=1e-5)


def test_texts_that_leave_or_fork_keep_their_own_past():
    for kind in ("attention", "ssru"):
        module = layer(kind)
        texts = [torch.randn(n, WIDTH) for n in (3, 5, 2)]
        memory = BatchCache.of([module.memory()], 3)
        run(module, texts, memory)
        run(module, [torch.randn(1, WIDTH)] * 3, memory)
        memory.select(torch.tensor([2, 0, 0]))
        assert memory.lengths == (3, 4, 4)
        more = [torch.randn(1, WIDTH) for _ in range(3)]
        again = run(module, more, memory)
        assert torch.isfinite(torch.cat(again)).all()
        assert not torch.equal(again[1], again[2])


def test_a_long_text_grows_its_storage_and_forgets_nothing():
    module = layer("attention")
    text = torch.randn(300, WIDTH)
    memory = BatchCache.of([module.memory()], 1)
    got = [run(module, [text[i : i + 7]], memory)[0] for i in range(0, 300, 7)]
    torch.testing.assert_close(torch.cat(got), run(module, [text], None)[0], rtol=1e-4, atol=1e-5)


def test_a_cropped_cache_goes_on_from_the_crop():
    module = layer("attention")
    text = torch.randn(9, WIDTH)
    memory = BatchCache.of([module.memory()], 1)
    run(module, [text[:4]], memory)
    run(module, [torch.randn(3, WIDTH)], memory)
    memory.crop(4)
    torch.testing.assert_close(
        run(module, [text[4:]], memory)[0], run(module, [text], None)[0][4:], rtol=1e-4, atol=1e-5
    )
