"""A last layer that computes only selected tokens gives the same states for them as the whole layer."""

from __future__ import annotations

import pytest
import torch

import multihead
from multihead.kernels.ragged import SequenceLayout
from multihead.nn.forward_context import SelectedTokens
from multihead.nn.own_names import own_parameters
from multihead.training.objectives.packed_batch import PackedSequences, hidden_states, hidden_states_at

SMALL = {"vocab_size": 60, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 24}
MODELS = {  # class -> (config, whether its last layer narrows)
    "BertForSequenceClassification": (lambda: multihead.BertConfig(**SMALL), True),
    "RobertaForSequenceClassification": (lambda: multihead.RobertaConfig(**SMALL, max_position_embeddings=40), True),
    "ElectraForSequenceClassification": (lambda: multihead.ElectraConfig(**SMALL, embedding_size=8), True),
    "DistilBertForSequenceClassification": (
        lambda: multihead.DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=24), True,
    ),
    "MPNetForSequenceClassification": (lambda: multihead.MPNetConfig(**SMALL), False),
    "LlamaForSequenceClassification": (lambda: multihead.LlamaConfig(**SMALL, num_key_value_heads=1), False),
}  # fmt: skip


def model_of(name):
    torch.manual_seed(0)
    model = getattr(multihead, name)(MODELS[name][0]()).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def gradients(model, hidden, weight):
    (hidden * weight).sum().backward()
    found = {n: p.grad.clone() for n, p in own_parameters(model) if p.grad is not None and bool(p.grad.any())}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("rows", ["firsts", "some", "none of a text"])
def test_states_and_gradients_are_those_of_the_whole_layer(name, rows):
    model = model_of(name)
    assert model.backbone.supports_selected_tokens is MODELS[name][1]
    runs = SequenceLayout.packed((7, 3, 5))
    tokens = PackedSequences(torch.randint(6, 60, (15,), generator=torch.Generator().manual_seed(1)), runs)
    selected = {
        "firsts": SelectedTokens.firsts(runs, tokens.ids.device),
        "some": SelectedTokens(torch.tensor([1, 6, 7, 8, 14]), SequenceLayout.packed((2, 2, 1))),
        "none of a text": SelectedTokens(torch.tensor([2, 13]), SequenceLayout.packed((1, 0, 1))),
    }[rows]
    whole = hidden_states(model, tokens)[0][selected.rows]
    weight = torch.randn_like(whole)
    wanted = gradients(model, whole, weight)
    found, context = hidden_states_at(model, tokens, selected)
    assert context.runs == selected.runs
    assert torch.allclose(found, whole, atol=1e-12)
    own = gradients(model, found, weight)
    assert own.keys() == wanted.keys()
    for path, gradient in wanted.items():
        assert torch.allclose(own[path], gradient, atol=1e-10), path
