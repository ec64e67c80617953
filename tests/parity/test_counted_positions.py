"""Families that count positions by ids: a pad among a text's words takes none, masked or not."""

from __future__ import annotations

import pytest
import torch

import multihead
from multihead.models.common.registry import parse_config

from .case import batch, reference
from .cases import CASES

ROWS = {case.name: case for case in CASES}
READERS = [("roberta", "ForMaskedLM"), ("xlm-roberta", "Model"), ("camembert", "Model"), ("mpnet", "ForMaskedLM"),
           ("esm-1b", "Model"), ("longformer", "Model")]  # fmt: skip


@pytest.mark.parametrize(("name", "end"), READERS, ids=[name for name, _ in READERS])
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "ones"])
def test_pads_among_words_take_no_position(name, end, masked, tmp_path):
    case = next(case for case in CASES if case.name.startswith(name) and end in case.ends)
    theirs = reference(case, end)
    theirs.save_pretrained(tmp_path)
    ours = getattr(multihead, case.family + end).from_pretrained(tmp_path)
    torch.manual_seed(5)
    ids = torch.randint(2, 98, (3, 12))
    ids[0, 7:] = ids[1, :3] = ids[2, 4] = ids[2, 8:10] = theirs.config.pad_token_id
    inputs = {"input_ids": ids, **({"attention_mask": torch.ones_like(ids)} if masked else {})}
    with torch.no_grad():
        torch.testing.assert_close(ours(**inputs)[0], theirs(**inputs)[0], rtol=1e-4, atol=1e-4)


def test_both_sides_of_m2m_count_so(tmp_path):
    theirs = reference(ROWS["m2m100"], "ForConditionalGeneration")
    theirs.save_pretrained(tmp_path)
    ours = multihead.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    source, target = torch.tensor([[9, 1, 14, 1, 1], [1, 1, 5, 6, 7]]), torch.tensor([[7, 9, 1, 4], [7, 1, 3, 3]])
    with torch.no_grad():
        expected = theirs(input_ids=source, decoder_input_ids=target).logits
        torch.testing.assert_close(
            ours(input_ids=source, decoder_input_ids=target).logits, expected, rtol=1e-4, atol=1e-4
        )
        memory, parts = None, []
        for piece in target.split([1, 2, 1], 1):
            theirs_so_far = ours(input_ids=source, decoder_input_ids=piece, past_key_values=memory)
            memory = theirs_so_far.past_key_values
            parts.append(theirs_so_far.logits)
        again, known = [], None
        for piece in target.split([1, 2, 1], 1):
            out = theirs(input_ids=source, decoder_input_ids=piece, past_key_values=known, use_cache=True)
            known = out.past_key_values
            again.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, 1), torch.cat(again, 1), rtol=1e-4, atol=1e-4)


ROWED = ("roberta", "roberta-prelayernorm", "xlm-roberta-xl", "mpnet", "esm-1b", "luke", "lilt", "markuplm", "ibert",
         "yoso", "nystromformer")  # fmt: skip


@pytest.mark.parametrize("name", ROWED)
def test_positions_that_are_given_are_rows_of_the_table_as_the_reference_takes_them(name, tmp_path):
    case = ROWS[name]
    theirs = reference(case, "Model")
    theirs.save_pretrained(tmp_path)
    mine = getattr(multihead, f"{case.family}Model").from_pretrained(tmp_path)
    inputs = {k: v for k, v in batch(case, "Model", lengths=(9,)).items() if k != "attention_mask"}
    for first in (0, 4):
        given = torch.arange(first, first + 9)[None]
        with torch.no_grad():
            torch.testing.assert_close(
                mine(**inputs, position_ids=given)[0], theirs(**inputs, position_ids=given)[0], rtol=1e-4, atol=1e-4
            )


def test_positions_that_are_given_are_not_counted(tmp_path):
    reference(ROWS["roberta"], "ForMaskedLM").save_pretrained(tmp_path)
    ours = multihead.AutoModelForMaskedLM.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 1, 6, 7]])
    with torch.no_grad():
        given, counted = ours(ids, position_ids=torch.arange(2, 6)[None]).logits, ours(ids).logits
        as_counted = ours(ids, position_ids=torch.tensor([[2, 1, 3, 4]])).logits
    torch.testing.assert_close(as_counted, counted)
    assert (given - counted).abs().max() > 1e-2
    with pytest.raises(multihead.errors.TextTooLong):
        ours(ids, position_ids=torch.full((1, 4), ours.config.max_position_embeddings))
    with pytest.raises(multihead.errors.InvalidInput, match="below the first"):
        ours(ids, position_ids=torch.full((1, 4), -1))


WITHOUT = ("xlnet", "funnel", "bloom", "mpt", "mamba", "mamba2", "rwkv", "xlstm", "t5", "longt5-local")


@pytest.mark.parametrize("name", WITHOUT)
def test_positions_that_a_family_does_not_read_are_refused_unless_it_counts_the_same(name):
    """The reference's classes take no `position_ids`, or drop them as unknown arguments."""
    case = ROWS[name]
    kind = f"{case.family}{'EncoderModel' if case.made.is_encoder_decoder else 'Model'}"
    model = getattr(multihead, kind)(parse_config(case.made.to_dict())).eval()
    ids, counted = torch.randint(5, 90, (2, 9)), torch.arange(9)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids, position_ids=counted)[0], model(ids)[0])
        for given in (counted + 3, counted.flip(1) * 2):
            with pytest.raises(multihead.errors.InvalidInput, match="position_ids"):
                model(ids, position_ids=given)
