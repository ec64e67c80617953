"""Steps joined for a GPU, where a sum is made with the next norm: what hooks and patches do between is seen."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

pytest.importorskip("triton")
import multihead
from multihead.runtime import fused_layers as prepared
from multihead.runtime.fuse import GPU, fuse
from tests.kernels.interpreted import interpret
from tests.runtime.test_patched_models import ONE, PATCHES, Wrapped, after, hook, replace

REAL = torch.cuda.is_available()
pytestmark = pytest.mark.skipif(REAL, reason="the interpreter shows it")


def shifted(module, args, out):
    out[:, :5] += 0.7


def shifted_before(module, args):
    args[0][:, :5] += 0.7


MORE = {
    "next-layer-hooked-before-in-place": hook("backbone.layers.2", shifted_before, True),
    "next-residual-hooked-in-place": hook(f"{ONE}.ffn", shifted_before, True),
    "ffn-residual-hooked-in-place": hook(f"{ONE}.ffn", shifted),
    "last-layer-hooked-in-place": hook("backbone.layers.2", shifted),
    "norm-of-the-next-hooked": hook("backbone.layers.2.attention.before", shifted),
    "step-in-place": hook(f"{ONE}.attention.step", shifted),
    "ffn-wrapped-twice": replace(f"{ONE}.ffn", lambda inner: Wrapped(Wrapped(inner))),
}
ALL = {**PATCHES, **MORE}


@pytest.fixture(autouse=True)
def programs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        interpret(patch)
        yield


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = multihead.LlamaForCausalLM(multihead.LlamaConfig(**sizes, intermediate_size=24, eos_token_id=None)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    joined = copy.deepcopy(model)
    joined.backbone = fuse(joined.backbone, GPU)
    return model, joined


def test_sums_are_made_with_norms_while_nobody_looks(models, monkeypatch):
    made = []
    own = prepared.normed_sum
    monkeypatch.setattr(prepared, "normed_sum", lambda *a, **k: made.append(1) or own(*a, **k))
    after(models[1], [3, 4, 5])
    assert len(made) == 5  # of six steps, all but the last
    made.clear()
    handle = models[1].backbone.layers[1].register_forward_hook(lambda *_: None)
    after(models[1], [3, 4, 5])
    handle.remove()
    assert not made  # somebody looks


@pytest.mark.parametrize("name", ALL)
def test_a_patch_has_its_whole_effect(models, name):
    model, joined = (copy.deepcopy(each) for each in models)
    plain = after(joined, [3, 4, 5, 6])
    for each in (model, joined):
        ALL[name](each)
    expected, got = after(model, [3, 4, 5, 6]), after(joined, [3, 4, 5, 6])
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    if name in MORE:
        assert (plain - got).abs().max() > 1e-2
