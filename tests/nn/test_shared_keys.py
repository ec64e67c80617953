"""Layers that read the keys and values of an earlier layer: stored once, and right when layers are computed again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import multihead
from multihead import GenerationConfig
from multihead.generation.engine.scheduler import Engine
from multihead.generation.generate import submit_job
from multihead.generation.strategies.base import GenerationJob
from multihead.nn.cache.layer_cache import EmptyLayerCache, KVLayerCache
from multihead.nn.own_names import own_parameters
from multihead.nn.stack import set_gradient_checkpointing

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "num_kv_shared_layers": 3,
    "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention", "full_attention"],
    "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 60, "eos_token_id": None,
}  # fmt: skip


@pytest.fixture(params=["Gemma4ForCausalLM", "Gemma3nForCausalLM"])
def model(request: Any) -> Any:
    torch.manual_seed(0)
    kind = getattr(multihead, request.param)
    own = {"global_head_dim": 12} if request.param.startswith("Gemma4") else {"laurel_rank": 4}
    model = kind(kind.architecture.config(**SIZES, **own)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_layers_that_read_others_keys_store_none(model):
    kinds = [type(memory) for memory in model.backbone.memories()]
    assert kinds == [KVLayerCache] * 2 + [EmptyLayerCache] * 3


def test_recomputed_layers_have_the_same_gradients(model):
    ids, found = torch.arange(5, 40).view(5, 7), []
    for whether in (False, True):
        set_gradient_checkpointing(model, whether)
        model.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        found.append({name: p.grad.clone() for name, p in own_parameters(model) if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_forks_prefixes_and_cut_back_texts_are_those_of_whole_passes(model):
    prompt = [5 + n % 50 for n in range(0, 40 * 7, 7)]  # longer than a block, and than the window
    options = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
    expected = []
    for text in (prompt, [*prompt, 9]):
        ids = torch.tensor([text])
        for _ in range(8):  # without a cache
            with torch.no_grad():
                ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        expected.append(ids[0, len(text) :].tolist())
    for text, tokens in zip((prompt, [*prompt, 9]), expected, strict=True):
        assert model.generate([text], **options)[0, len(text) :].tolist() == tokens
        # Guesses from the prompt are read ahead and cut back.
        assert model.generate([text], **options, prompt_lookup_num_tokens=3)[0, len(text) :].tolist() == tokens
    both = model.generate([[*prompt, 9]] * 2, **options, num_beams=2)
    alone = model.generate([[*prompt, 9]], **options, num_beams=2)
    assert both.tolist() == alone.tolist() * 2


def test_prompts_leave_out_all_but_the_last_token_in_the_last_layers(model, monkeypatch):
    layer, seen = model.backbone.layers[3], []
    prompts = [[5 + n % 50 for n in range(0, 40 * 7, 7)], [9, 8, 7]]
    options = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6}
    alone = [model.generate([prompt], **options)[0, len(prompt) :].tolist() for prompt in prompts]
    # A hook asks for all tokens.
    handle = layer.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    whole = [model.generate([prompt], **options)[0, len(prompt) :].tolist() for prompt in prompts]
    handle.remove()
    assert max(seen) == len(prompts[0])
    assert whole == alone
    forward = type(layer).forward
    seen.clear()
    monkeypatch.setattr(
        type(layer), "forward",
        lambda self, x, *args: (seen.append(len(x)) if self is layer else None, forward(self, x, *args))[1],
    )  # fmt: skip
    together = model.generate(prompts, **options)
    assert max(seen) == 2  # one token of each text
    assert [row[-6:] for row in together.tolist()] == alone
    contrastive = model.generate(prompts[:1], **options, penalty_alpha=0.6, top_k=3)
    assert max(seen) == len(prompts[0])  # which compares the states of all tokens
    handle = layer.register_forward_hook(lambda module, args, out: None)
    assert model.generate(prompts[:1], **options, penalty_alpha=0.6, top_k=3).tolist() == contrastive.tolist()
    handle.remove()


def test_prompts_in_parts_and_shared_prefixes_are_read_alike(model):
    prompt = [5 + n % 50 for n in range(0, 75 * 7, 7)]
    texts = [prompt, [*prompt[:72], 9, 8], [9, 8, 7]]  # 64 tokens are shared, and at least 9 are read again
    config = GenerationConfig(max_new_tokens=6, min_new_tokens=6, do_sample=False)
    expected = [model.generate([text], config)[0, len(text) :].tolist() for text in texts]
    # 20 tokens a pass: several for each prompt, beside others' decode steps, in a memory that evicts and shares.
    engine = Engine(model, max_tokens=20, memory=60_000)
    jobs = [GenerationJob(text, config, len(text) + 6) for text in texts]
    for job in jobs:
        submit_job(engine, job)
    engine.run()
    again = GenerationJob(texts[1], config, len(texts[1]) + 6)
    submit_job(engine, again)
    engine.run()
    assert [job.results[0] for job in jobs] == expected
    assert again.results[0] == expected[1]
    assert engine.statistics.prefix_hits >= 64
