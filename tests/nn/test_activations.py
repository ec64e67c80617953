"""Activations: the reference's names and numbers, and fast paths that never compute another one in their place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from transformers.activations import ACT2FN

import multihead
from multihead.errors import UnsupportedConfig
from multihead.kernels.activations import ACTIVATIONS as KERNEL_ACTIVATIONS
from multihead.nn.activations import ACTIVATIONS, LEARNED, activation
from multihead.runtime.fused_layers import kernel_activation

NAMES = sorted(ACT2FN)
TINY = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip


def test_every_activation_of_the_reference_is_known():
    assert set(ACT2FN) <= {*ACTIVATIONS, *LEARNED}


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_equal_the_references(name: str):
    ours, theirs = activation(name), ACT2FN[name]
    if name in LEARNED:
        theirs = theirs.float()
        with torch.no_grad():
            for n, parameter in enumerate(theirs.parameters()):
                parameter.fill_(0.3 + n)
        ours.load_state_dict(theirs.state_dict())
    x, y = (torch.linspace(-15, 15, 4001).requires_grad_() for _ in range(2))
    got, expected = ours(x), theirs(y)
    torch.testing.assert_close(got, expected, rtol=2e-6, atol=2e-6)
    got.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=2e-5, atol=2e-6)
    for one, other in zip(getattr(ours, "parameters", list)(), getattr(theirs, "parameters", list)(), strict=False):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_any_activation_gives_the_references_tokens(name: str, tmp_path: Path):
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY, hidden_act=name)).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.5 if parameter.ndim == 1 else 0.0, 0.25)
    theirs.save_pretrained(tmp_path)
    ids = torch.randint(1, 63, (1, 9))
    with torch.no_grad():
        expected = theirs(ids).logits
    for precision in (None, "bf16"):
        ours = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
        if precision:
            ours.prepare(precision)
        with torch.no_grad():
            got = ours(ids).logits
        allowed = (0.1 if precision else 2e-5) * float(expected.abs().max())
        assert (got - expected).abs().max() <= allowed, precision
        fast, ours.decode_runner = ours.generate(ids, max_new_tokens=6), "eager"
        assert fast.tolist() == ours.generate(ids, max_new_tokens=6).tolist(), precision


def test_the_kernels_compute_what_they_are_known_to():
    """A name of the kernels is an activation here, and functions that they do not compute have no name there."""
    assert set(KERNEL_ACTIVATIONS) <= set(ACTIVATIONS)
    known = {id(ACTIVATIONS[name]) for name in KERNEL_ACTIVATIONS}
    for name in NAMES:
        act = activation(name)
        assert (kernel_activation(act) is not None) == (id(act) in known), name


def test_an_unknown_activation_is_refused_by_name():
    with pytest.raises(UnsupportedConfig, match="relu3"):
        activation("relu3")
