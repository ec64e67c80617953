"""Reformer's gradients, which the reference has in training alone, and its advised number of buckets."""

from __future__ import annotations

import pytest
import torch

import multihead

from .case import reference
from .cases.hashed import CASES, reformer

ROWS = {case.name: case for case in CASES}
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout_prob", "local_attention_probs_dropout_prob", "lsh_attention_probs_dropout_prob"), 0.0
)


@pytest.mark.parametrize(
    "changes", [{}, {"num_buckets": None, "max_position_embeddings": 20}], ids=["given", "advised"]
)
def test_gradients_equal_those_of_the_reference_in_training(tmp_path, changes):
    case = ROWS["reformer-decoder"]
    entries = {"is_decoder": True, "axial_pos_embds": False, **NO_DROPOUT, **changes}
    trained = type(case)("reformer", reformer(**entries), case.ends)
    theirs = reference(trained, "ModelWithLMHead").train()
    theirs.save_pretrained(tmp_path)
    ours = multihead.ReformerModelWithLMHead.from_pretrained(tmp_path).train()
    torch.manual_seed(0)
    ids = torch.randint(1, 98, (2, 16))
    losses = [model(ids, labels=ids).loss for model in (theirs, ours)]
    assert abs(float(losses[0].detach() - losses[1].detach())) < 1e-5
    for loss in losses:
        loss.backward()
    found, known = ours.get_input_embeddings().weight.grad, theirs.get_input_embeddings().weight.grad
    assert float((found - known).abs().max() / known.abs().max()) < 1e-4


@pytest.mark.parametrize(("name", "end"), [("reformer", "ForMaskedLM"), ("reformer-decoder", "ModelWithLMHead")])
def test_the_bare_model_is_read_from_files_of_each_head(tmp_path, name, end):
    """A config allows one of two heads of words, and the other refuses it."""
    theirs = reference(ROWS[name], end)
    theirs.save_pretrained(tmp_path)
    ours = multihead.AutoModel.from_pretrained(tmp_path).eval()
    ids = torch.randint(1, 98, (2, 12))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).last_hidden_state, theirs.reformer(ids).last_hidden_state)
