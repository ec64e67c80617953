"""Parts of a model by the reference's names: reached, replaced, frozen, hooked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import multihead
from multihead.compat.tensors import Conv1D
from multihead.errors import InvalidInput, UnknownPart, UnsupportedOption

TINY = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 8, "vocab_size": 20}
IDS = torch.tensor([[1, 2, 3]])


class Louder(nn.Module):
    """A program's module around another."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(x) * 2


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return multihead.BertForSequenceClassification(multihead.BertConfig(**TINY, initializer_range=0.5)).eval()


@pytest.fixture
def gpt2():
    torch.manual_seed(0)
    config = multihead.GPT2Config(n_embd=8, n_head=2, n_layer=2, vocab_size=20, initializer_range=0.5)
    return multihead.GPT2LMHeadModel(config).eval()


def test_parts_are_the_models_own_modules(bert):
    layers = bert.bert.encoder.layer
    assert [len(layers), len(list(layers)), len(layers[1:])] == [3, 3, 2]
    assert layers[-1].attention.self.query is bert.backbone.layers[2].attention.step.q
    assert bert.get_submodule("bert.pooler.dense") is bert.head.dense.linear
    assert bert.classifier is bert.head.out
    assert not hasattr(bert, "lm_head")
    with pytest.raises(UnknownPart, match=r"bert\.encoder has no 'layers': it has layer"):
        bert.bert.encoder.layers  # noqa: B018
    with pytest.raises(UnknownPart, match=r"By the reference's names they are bert, classifier"):
        bert.roberta  # noqa: B018


def test_a_joined_matrix_reads_and_writes_through(gpt2):
    part, own = gpt2.transformer.h[0].attn.c_attn, gpt2.backbone.layers[0].attention.step
    assert isinstance(part, Conv1D)
    weight = part.weight
    assert (weight.shape, part.nx, part.nf) == ((8, 24), 8, 24)
    with torch.no_grad():
        weight.mul_(2)
        weight.data[:, 8:9] = 3
        weight.data.split(8, 1)[2].fill_(5)
    assert torch.equal(weight, torch.cat([own.q.weight, own.k.weight, own.v.weight]).T)
    assert [own.k.weight[0].unique().item(), own.v.weight.unique().item()] == [3, 5]
    x = torch.randn(4, 8)
    torch.testing.assert_close(part(x), x @ weight + part.bias)
    (weight**2).sum().backward()
    torch.testing.assert_close(own.q.weight.grad, 2 * own.q.weight)
    optimizer, before = torch.optim.SGD([weight], lr=0.25), own.q.weight.detach().clone()
    optimizer.step()
    torch.testing.assert_close(own.q.weight.detach(), before / 2)
    optimizer.zero_grad()
    assert own.k.weight.grad is None
    weight.requires_grad = False
    assert not own.v.weight.requires_grad
    assert type(copy.deepcopy(weight)) is nn.Parameter
    with pytest.raises(InvalidInput, match=r"c_attn\.weight is \[8, 24\], not \[24, 8\]"):
        weight.data = torch.zeros(24, 8)


def test_a_module_takes_the_place_of_a_part(bert, gpt2):
    plain = bert(IDS).logits
    place, query = bert.bert.encoder.layer[0].attention.self, bert.bert.encoder.layer[0].attention.self.query
    place.query = Louder(query)
    assert not torch.allclose(bert(IDS).logits, plain)
    assert bert.backbone.layers[0].attention.step.q.calls == 1
    bert.get_submodule("bert.encoder.layer.0.attention.self").query = query
    assert torch.equal(bert(IDS).logits, plain)
    bert.classifier = nn.Linear(8, 5)
    assert bert(IDS).logits.shape == (1, 5)
    bert.bert.encoder.layer = bert.bert.encoder.layer[:1]
    assert len(bert.backbone.layers) == 1

    plain, joined = gpt2(IDS).logits, gpt2.transformer.h[0].attn.c_attn
    gpt2.transformer.h[0].attn.c_attn = Louder(joined)
    louder = gpt2.transformer.h[0].attn.c_attn
    found = gpt2(IDS).logits
    assert (type(louder), louder.calls) == (Louder, 1)
    with torch.no_grad():
        gpt2.transformer.h[0].attn.c_attn = joined
        joined.weight.mul_(2)
        joined.bias.mul_(2)
    torch.testing.assert_close(gpt2(IDS).logits, found)
    assert not torch.allclose(found, plain)


def test_a_decode_step_sees_what_was_put_in_a_parts_place(gpt2):
    gpt2.generate(IDS, max_new_tokens=2, do_sample=False, eos_token_id=None)  # with the fast path
    gpt2.transformer.h[1].mlp.c_fc = Louder(gpt2.transformer.h[1].mlp.c_fc)
    seen: list[torch.Size] = []
    gpt2.transformer.h[0].register_forward_hook(lambda module, given, out: seen.append(out.shape))
    text = IDS
    for _ in range(4):
        text = torch.cat([text, gpt2(text).logits[:, -1:].argmax(-1)], dim=1)
    seen.clear()
    found = gpt2.generate(IDS, max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert found.tolist() == text.tolist()
    assert len(seen) == 4


def test_freezing_and_modes_reach_the_part_alone(bert):
    bert.train()
    for parameter in bert.bert.parameters():
        parameter.requires_grad = False
    bert.bert.eval()
    assert [n for n, p in bert.named_parameters() if p.requires_grad] == ["head.out.weight", "head.out.bias"]
    assert not any(module.training for module in bert.backbone.modules())
    assert bert.training
    assert bert.head.dropout.training
    bert.bert.encoder.to(torch.float64)
    assert {p.dtype for p in bert.backbone.layers.parameters()} == {torch.float64}
    assert bert.classifier.weight.dtype is torch.float32


def test_what_has_no_meaning_is_refused(bert, gpt2):
    with pytest.raises(UnsupportedOption, match=r"bert\.encoder cannot have hooks"):
        bert.bert.encoder.register_forward_hook(print)
    with pytest.raises(UnsupportedOption, match=r"bert\.extra is no part"):
        bert.bert.extra = nn.Linear(2, 2)
    with pytest.raises(UnsupportedOption, match="lm_head cannot be replaced"):
        gpt2.lm_head = nn.Linear(8, 20)
    assert torch.equal(gpt2.lm_head.weight, gpt2.transformer.wte.weight)
