"""ProphetNet's predictions equal the reference's own decoding, step by step."""

from __future__ import annotations

import pytest
import torch

import multihead

from .case import WORDS, reference
from .cases.older_pairs import CASES, NGRAM_ATTENTION, OWN_SCORES

CASE = next(case for case in CASES if case.name == "prophetnet")


@pytest.mark.parametrize("count", [1, 3])
def test_one_pass_gives_what_the_references_steps_give(tmp_path, monkeypatch, count):
    """The reference's attention as it is, which is right for one query at a time."""
    monkeypatch.setattr(NGRAM_ATTENTION, "get_predict_relative_pos_embeddings", OWN_SCORES)
    theirs = reference(CASE, "ForConditionalGeneration")
    theirs.save_pretrained(tmp_path)
    mine = multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    torch.manual_seed(3)
    source, target = (torch.randint(3, WORDS - 1, (count, length)) for length in (9, 12))
    memory, steps = None, []
    with torch.no_grad():
        for column in target.T:
            read = theirs(input_ids=source, decoder_input_ids=column[:, None], past_key_values=memory, use_cache=True)
            memory = read.past_key_values
            steps.append(read.logits)
        got = mine(input_ids=source, decoder_input_ids=target).logits
        whole = theirs(input_ids=source, decoder_input_ids=target).logits
    expected = torch.cat(steps, 1)
    assert (got - expected).abs().max() <= 2e-5 * expected.abs().max()
    assert (whole - expected).abs().max() > 1e-4 * expected.abs().max()  # its pass over all words is another one


def test_a_source_longer_than_its_positions_ends_with_the_last_one(tmp_path):
    theirs = reference(CASE, "Model")
    theirs.save_pretrained(tmp_path)
    mine = multihead.ProphetNetModel.from_pretrained(tmp_path)
    ids, start = torch.randint(3, WORDS - 1, (1, 70)), torch.tensor([[5, 6]])
    with torch.no_grad():
        got, expected = (model(input_ids=ids, decoder_input_ids=start)[0] for model in (mine, theirs))
    assert (got - expected).abs().max() <= 2e-5 * expected.abs().max()
    with pytest.raises(multihead.errors.TextTooLong), torch.no_grad():
        mine(input_ids=ids, decoder_input_ids=ids)
