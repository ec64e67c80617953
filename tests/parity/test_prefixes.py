"""Prompts whose prefix is read in both directions, which token types say (HRM-Text)."""

from __future__ import annotations

import pytest
import torch

import multihead
from multihead.errors import InvalidInput, UnsupportedOption

from .cases import CASES

CASE = next(case for case in CASES if case.name == "hrm-text")


@pytest.fixture(scope="module")
def prompts() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    ids, mask, types = torch.randint(1, 90, (3, 12)), torch.ones(3, 12).long(), torch.ones(3, 12).long()
    mask[1, :5], types[1, 9:], types[2, :] = 0, 0, 0  # padded at the left; a part, and nothing, both ways
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": types * mask}


@pytest.fixture
def model(folders):
    return multihead.AutoModelForCausalLM.from_pretrained(folders(CASE, "ForCausalLM")[1])


@pytest.mark.parametrize("way", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=["greedy", "beams"])
def test_texts_after_a_prefix_equal_the_reference(folders, model, prompts, way):
    theirs = folders(CASE, "ForCausalLM")[0]
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, **way}
    expected = theirs.generate(**prompts, **options)
    assert torch.equal(model.generate(**prompts, **options), expected)
    causal = model.generate(**{k: v for k, v in prompts.items() if k != "token_type_ids"}, **options)
    assert not torch.equal(causal, expected)


def test_a_prompt_read_both_ways_shares_no_cache_with_the_same_tokens_read_causally(model):
    torch.manual_seed(8)
    ids = torch.randint(1, 90, (1, 70)).expand(2, 70)
    types = torch.tensor([[1], [0]]).expand(2, 70)
    options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    both = model.generate(ids, token_type_ids=types, **options)
    for row in range(2):
        alone = model.generate(ids[:1], token_type_ids=types[row : row + 1], **options)
        assert torch.equal(both.sequences[row], alone.sequences[0])
        torch.testing.assert_close(both.logits[0][row], alone.logits[0][0])
    assert not torch.allclose(both.logits[0][0], both.logits[0][1])


def test_types_of_another_shape_and_of_models_without_prefixes_are_refused(folders, model, prompts):
    with pytest.raises(InvalidInput, match="token_type_ids are"):
        model.generate(prompts["input_ids"], token_type_ids=prompts["token_type_ids"][:, 1:])
    case = next(case for case in CASES if case.name == "gpt2")
    other = multihead.AutoModelForCausalLM.from_pretrained(folders(case, "LMHeadModel")[1])
    with pytest.raises(UnsupportedOption, match="token_type_ids is no input"):
        other.generate(prompts["input_ids"], token_type_ids=prompts["token_type_ids"])
