"""What only XLNet has: a memory of states, targets in padded batches, answers with labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import multihead

from .case import batch, reference
from .cases import CASES
from .cases.xl import targets

ROWS = {case.name: case for case in CASES}


def both(name: str, end: str, tmp_path: Any) -> tuple[Any, Any]:
    model = reference(ROWS[name], end)
    model.save_pretrained(tmp_path)
    return getattr(multihead, f"XLNet{end}").from_pretrained(tmp_path), model


@pytest.mark.parametrize(("limit", "share"), [(None, None), (5, None), (5, 3), (512, None)])
def test_memories_carry_over_as_the_references_do(tmp_path, limit, share):
    model = reference(ROWS["xlnet"], "LMHeadModel")
    model.config.mem_len, model.config.reuse_len = limit, share
    model.transformer.mem_len, model.transformer.reuse_len = limit, share
    model.save_pretrained(tmp_path)
    mine = multihead.XLNetLMHeadModel.from_pretrained(tmp_path)
    torch.manual_seed(3)
    mems, known = None, None
    for length in (6, 4, 1, 5):
        ids, kinds = torch.randint(1, 98, (2, length)), torch.randint(0, 2, (2, length))
        with torch.no_grad():
            expected = model(ids, token_type_ids=kinds, mems=mems, use_mems=True, output_attentions=True)
            got = mine(ids, token_type_ids=kinds, mems=known, use_mems=True, output_attentions=True)
        torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(got.attentions[1], expected.attentions[1], rtol=1e-4, atol=1e-5)
        mems, known = expected.mems, got.mems


def test_nothing_is_remembered_when_not_asked(tmp_path):
    mine, _ = both("xlnet", "Model", tmp_path)
    assert mine(torch.tensor([[1, 2]]), use_mems=False).mems is None
    assert mine(torch.tensor([[1, 2]])).mems is not None


@pytest.mark.parametrize(  # padding after a memory would be counted as distance by the reference
    ("lengths", "after"), [((9, 9, 9), 0), ((9, 6, 4), 0), ((9, 9, 9), 4)]
)
def test_targets_in_left_padded_batches_equal_the_reference(tmp_path, lengths, after):
    case = ROWS["xlnet"]
    mine, model = both(case.name, "LMHeadModel", tmp_path)
    inputs = batch(case, "LMHeadModel", side="left", lengths=lengths)
    inputs |= targets(inputs, "LMHeadModel")
    shift = 9 - min(lengths)  # targets at real tokens
    inputs["target_mapping"] = inputs["target_mapping"][..., : 9 - shift]
    inputs["target_mapping"] = torch.nn.functional.pad(inputs["target_mapping"], (shift, 0))
    mems = {}, {}
    with torch.no_grad():
        if after:
            before = torch.randint(1, 98, (3, after))
            mems = {"mems": mine(before).mems}, {"mems": model(before).mems}
        got = mine(**inputs, **mems[0], labels=torch.tensor([[1, 2, 3]] * 3))
        expected = model(**inputs, **mems[1], labels=torch.tensor([[1, 2, 3]] * 3))
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.loss, expected.loss, rtol=1e-4, atol=1e-4)


def test_classification_of_left_padded_batches_equals_the_reference(tmp_path):
    case = ROWS["xlnet-last-token"]
    mine, model = both(case.name, "ForSequenceClassification", tmp_path)
    inputs = batch(case, "ForSequenceClassification", side="left", lengths=(9, 6, 4))
    with torch.no_grad():
        torch.testing.assert_close(mine(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_losses_of_answers_equal_the_reference(tmp_path):
    case = ROWS["xlnet-spans"]
    mine, model = both(case.name, "ForQuestionAnswering", tmp_path)
    inputs = batch(case, "ForQuestionAnswering", lengths=(9, 9, 9))
    labels = {"start_positions": torch.tensor([1, 2, 3]), "end_positions": torch.tensor([4, 2, 8])}
    more = {"cls_index": torch.tensor([8, 0, 3]), "is_impossible": torch.tensor([0.0, 1.0, 0.0])}
    closed = {"p_mask": torch.zeros(3, 9).index_fill(1, torch.tensor([0, 5]), 1.0)}
    for given in (labels, {**labels, **more}, {**labels, **more, **closed}):
        with torch.no_grad():
            expected = model(**inputs, **{k: v.clone() for k, v in given.items()}).loss
            torch.testing.assert_close(mine(**inputs, **given).loss, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        got, expected = mine(**inputs, **closed), model(**inputs, **closed)
    for name in ("start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index", "cls_logits"):
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-4)


def test_shapes_of_orders_and_targets_are_checked(tmp_path):
    mine, _ = both("xlnet", "Model", tmp_path)
    ids = torch.randint(1, 98, (2, 5))
    with pytest.raises(multihead.errors.InvalidInput, match="perm_mask"):
        mine(ids, perm_mask=torch.zeros(2, 5))
    with pytest.raises(multihead.errors.InvalidInput, match="target_mapping"):
        mine(ids, target_mapping=torch.zeros(2, 5))
