"""The choice of cells in half precision."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead
from tests.parity.case import batch, reference
from tests.parity.cases.tables import CASES


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_the_column_that_the_states_tell(tmp_path, dtype):
    """Columns a hundredth apart are equal in half precision, and the first of them would be chosen."""
    end = "ForQuestionAnswering"
    reference(CASES[0], end).save_pretrained(tmp_path)
    ours = multihead.TapasForQuestionAnswering.from_pretrained(tmp_path, dtype=dtype).eval()
    bare = multihead.TapasModel.from_pretrained(tmp_path, dtype=dtype).eval()
    theirs = transformers.TapasForQuestionAnswering.from_pretrained(tmp_path).eval()
    inputs = batch(CASES[0], end)
    with torch.no_grad():
        got, states = ours(**inputs).logits, bare(**inputs).last_hidden_state.float()
        theirs.tapas.forward = lambda *_, **__: (states, states[:, 0])  # its float32 choice of these states
        expected = theirs(**inputs, return_dict=False)[0]
    real = inputs["attention_mask"].bool()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got[real], expected[real], rtol=2e-3, atol=2e-2)
    assert (got[real] > -1000).any()
