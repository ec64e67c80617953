"""Texts that share blocks read what they would read alone, and every block comes back."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from multihead.errors import InvalidInput, MemoryFull
from multihead.kernels.ragged import SequenceLayout
from multihead.nn.attention.attention import Attention
from multihead.nn.cache.block_pool import BLOCK, BlockPool, MemoryBudget
from multihead.nn.cache.store import BatchCache, KVCacheManager
from multihead.nn.forward_context import ForwardContext
from multihead.nn.ragged import positions_in_sequences
from multihead.nn.weights import initialize

WIDTH, WORDS = 8, 3
CPU = torch.device("cpu")


def attention(window=None):
    torch.manual_seed(0)
    module = Attention(WIDTH, 2, causal=True, window=window)
    initialize(module, 0.5)
    return module.eval()


TABLE = torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(1))


def alone(modules, tokens):
    runs = SequenceLayout.packed((len(tokens),))
    context = ForwardContext(positions_in_sequences(runs, CPU), runs)
    with torch.inference_mode():
        return [module(TABLE[tokens], context, None) for module in modules]


def read(modules, store, texts, news):
    """One pass over the next tokens of some texts: each module's outputs, a text."""
    runs, cache = SequenceLayout.packed(tuple(map(len, news))), BatchCache(store, texts)
    context = ForwardContext(positions_in_sequences(runs, CPU, cache.lengths), runs, cache=cache)
    words = TABLE[[token for new in news for token in new]]
    with torch.inference_mode():
        out = [m(words, context, layer).split(runs.lengths) for m, layer in zip(modules, cache.layers, strict=True)]
    cache.advance(runs)
    return out


class Sharing(RuleBasedStateMachine):
    """A layer that sees all and one that sees 40 tokens; words repeat, so that beginnings are found again."""

    def __init__(self):
        super().__init__()
        self.modules = [attention(), attention(window=40)]
        probe = KVCacheManager([m.memory() for m in self.modules])
        read(self.modules, probe, [probe.begin()], [[0]])
        self.budget = MemoryBudget(40 * (probe.size(None) + probe.size(40)))
        self.store = KVCacheManager([m.memory() for m in self.modules], self.budget, probe)
        self.texts = []  # (text, tokens)

    @rule(length=st.integers(1, 160), adopts=st.booleans(), word=st.integers(0, WORDS - 1))
    def begin(self, length, adopts, word):
        tokens = [word] * length
        text = self.store.begin()
        if adopts:
            text.reuse_prefix(tokens)
            assert text.length < length
        self.texts.append((text, tokens))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def extend(self, data):
        chosen = data.draw(st.lists(st.sampled_from(range(len(self.texts))), min_size=1, max_size=4, unique=True))
        news = []
        for i in chosen:
            text, tokens = self.texts[i]
            if text.length >= len(tokens):
                tokens += data.draw(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=40))
            news.append(tokens[text.length :])
        try:
            for i, new in zip(chosen, news, strict=True):
                self.texts[i][0].prepare(len(new))
        except MemoryFull:
            return
        out = read(self.modules, self.store, [self.texts[i][0] for i in chosen], news)
        for place, i in enumerate(chosen):
            text, tokens = self.texts[i]
            for mine, whole in zip(out, alone(self.modules, tokens), strict=True):
                torch.testing.assert_close(mine[place], whole[-len(news[place]) :], rtol=1e-4, atol=1e-5)
            text.publish(tokens)

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def fork(self, data):
        text, tokens = data.draw(st.sampled_from(self.texts))
        self.texts.append((text.fork(), list(tokens)))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def crop(self, data):
        text, tokens = data.draw(st.sampled_from(self.texts))
        length = max(text.length - data.draw(st.integers(0, BLOCK)), 0)
        try:
            text.crop(length)
        except InvalidInput:  # what it adopted, of the window's layer, ends before
            assert text.tables[40].num_released
            return
        del tokens[max(length, 1) :]
        if length == 0:
            return
        tokens.append(data.draw(st.integers(0, WORDS - 1)))

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def free(self, data):
        text, _ = self.texts.pop(data.draw(st.integers(0, len(self.texts) - 1)))
        text.free()

    @invariant()
    def counts_agree(self):
        for window, pool in self.store.pools.items():
            held = [b for text, _ in self.texts for b in text.tables[window].blocks if b is not None]
            assert [held.count(block) for block in range(len(pool.ref_counts))] == pool.ref_counts
        assert self.budget.free >= 0

    def teardown(self):
        for text, _ in self.texts:
            text.free()
        assert self.store.num_used == 0


Sharing.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_any_order_of_forks_crops_and_passes_reads_what_each_text_alone_reads = Sharing.TestCase


def test_a_block_is_not_released_twice_and_not_held_after():
    pool = BlockPool()
    block = pool.take(0)
    pool.release(block)
    with pytest.raises(ValueError, match="released twice"):
        pool.release(block)
    with pytest.raises(ValueError, match="held by nobody"):
        pool.hold(block)


def test_a_full_budget_says_so_and_idle_blocks_make_room():
    pool = BlockPool(MemoryBudget(2), 1)
    first = pool.take(0)
    pool.take(0, first)
    with pytest.raises(MemoryFull):
        pool.take(1)
    pool.publish(first, b"a")
    pool.release(first)
    assert pool.find(b"a") == first
    pool.take(1)
    assert pool.find(b"a") is None


def test_texts_that_grow_side_by_side_lie_straight():
    module = attention()
    store = KVCacheManager([module.memory()])
    texts = [store.begin() for _ in range(3)]
    for text in texts:
        text.expected = 5 * BLOCK
    for _ in range(5):
        read([module], store, texts, [[0] * BLOCK] * 3)
    assert all(text.tables[None].contiguous for text in texts)


def test_a_window_lets_go_and_cannot_be_cut_back_further():
    module = attention(window=10)
    store = KVCacheManager([module.memory()])
    text = store.begin()
    for _ in range(20):
        read([module], store, [text], [[0] * BLOCK])
    assert store.num_used <= 3
    with pytest.raises(InvalidInput, match="window of 10"):
        text.crop(5)
