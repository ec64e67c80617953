"""Caches of a program's own, in the loops that the field's guides write: the same lines over both libraries."""

from __future__ import annotations

import copy
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
import transformers

from multihead.errors import InvalidInput, UnsupportedOption

SIZES = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
IDS = torch.tensor([[1, 2, 3, 4, 5], [5, 6, 7, 8, 9]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2)
    transformers.LlamaForCausalLM(config).eval().save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=["multihead", "transformers"])
def side(request, folder):
    library = import_module(request.param)
    model = library.LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        whole = model(IDS).logits
    return SimpleNamespace(library=library, ours=request.param == "multihead", model=model, whole=whole)


@torch.no_grad()
def test_a_loop_grows_its_cache(side):
    cache = side.library.DynamicCache(config=side.model.config)
    logits = []
    for column in range(IDS.shape[1]):
        place = torch.tensor([column])
        out = side.model(IDS[:, column : column + 1], past_key_values=cache, cache_position=place, use_cache=True)
        assert out.past_key_values is cache
        assert cache.get_seq_length() == column + 1
        logits.append(out.logits)
    torch.testing.assert_close(torch.cat(logits, 1), side.whole)
    assert len(cache) == 2
    assert [layer.keys.shape for layer in cache.layers] == [(2, 2, 5, 4)] * 2
    cache.crop(-2)
    again = copy.deepcopy(cache)
    cache.batch_repeat_interleave(2)
    found = side.model(IDS[:, 3:].repeat_interleave(2, 0), past_key_values=cache).logits
    torch.testing.assert_close(found, side.whole[:, 3:].repeat_interleave(2, 0))
    again.reorder_cache(torch.tensor([1, 0]))
    torch.testing.assert_close(side.model(IDS[[1, 0], 3:], past_key_values=again).logits, side.whole[[1, 0], 3:])
    cache.reset()
    assert side.library.DynamicCache().get_seq_length() == 0


@torch.no_grad()
def test_keys_and_values_are_taken_out_and_given_back(side):
    cache = side.library.DynamicCache()
    side.model(IDS[:, :4], past_key_values=cache)
    pairs = [(keys, values) for keys, values, *_ in cache]
    assert [x.shape for pair in pairs for x in pair] == [(2, 2, 4, 4)] * 4
    other = side.library.DynamicCache(pairs)
    assert (len(other), other.get_seq_length()) == (2, 4)
    torch.testing.assert_close(side.model(IDS[:, 4:], past_key_values=other).logits, side.whole[:, 4:])
    third = side.library.DynamicCache()
    for layer, (keys, values) in enumerate(pairs):
        third.update(keys[:, :, :2], values[:, :, :2], layer)
        assert third.update(keys[:, :, 2:], values[:, :, 2:], layer)[0].shape == keys.shape
    torch.testing.assert_close(side.model(IDS[:, 4:], past_key_values=third).logits, side.whole[:, 4:])
    if side.ours:  # as version 4
        older = side.library.DynamicCache.from_legacy_cache(other.to_legacy_cache())
        assert torch.equal(older[0][0], other.key_cache[0])
        assert torch.equal(older.value_cache[1], other[1][1])


@torch.no_grad()
def test_keys_equal_the_references(folder):
    found = []
    for name in ("multihead", "transformers"):
        library = import_module(name)
        cache = library.DynamicCache()
        library.LlamaForCausalLM.from_pretrained(folder)(IDS, past_key_values=cache)
        found.append([x for keys, values, *_ in cache for x in (keys, values)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_does_not_fit_is_refused(side):
    if not side.ours:
        pytest.skip("the reference fails inside of its layers")
    cache = side.library.DynamicCache([(torch.zeros(2, 2, 3, 4), torch.zeros(2, 2, 3, 4))])
    with pytest.raises(InvalidInput, match="1 layers, and the model has 2"):
        side.model(IDS, past_key_values=cache)
    with pytest.raises(InvalidInput, match="layer 0 has no keys yet"):
        side.library.DynamicCache().update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 1)
    with pytest.raises(UnsupportedOption, match="cache_position is computed here"):
        side.model(IDS, cache_position=torch.arange(1, 6))
    filled = side.library.DynamicCache()
    side.model(IDS, past_key_values=filled)
    with pytest.raises(UnsupportedOption, match="passes of a model fill this cache"):
        filled.update(torch.zeros(1), torch.zeros(1), 0)
    recurrent = side.library.MambaForCausalLM(
        side.library.MambaConfig(vocab_size=20, hidden_size=8, state_size=4, num_hidden_layers=1)
    )
    state = side.library.DynamicCache()
    recurrent(torch.tensor([[1, 2]]), cache_params=state)
    with pytest.raises(UnsupportedOption, match="more than keys and values"):
        state.to_legacy_cache()
