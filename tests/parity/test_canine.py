"""CANINE beyond its parity rows: lengths of texts, batches, vectors, characters as tokens."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead
from multihead import AutoTokenizer

from ..tokenizers.folders import TEXTS, write
from .case import reference
from .cases import CASES
from .test_families import close

CASE = next(case for case in CASES if case.name == "canine-blocks")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    theirs, folder = reference(CASE, "Model"), tmp_path_factory.mktemp("canine")
    theirs.save_pretrained(folder)
    return theirs, multihead.CanineModel.from_pretrained(folder)


@pytest.mark.parametrize("length", [3, 4, 5, 6, 7, 10, 11, 23])
def test_texts_of_any_length_equal_the_reference(models, length):
    theirs, mine = models
    ids = torch.randint(1, 0x10FFFF, (2, length), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        want, got = theirs(ids, output_hidden_states=True), mine(ids, output_hidden_states=True)
        vectors = mine(inputs_embeds=mine.get_input_embeddings()(ids)).last_hidden_state
    close(got.last_hidden_state, want.last_hidden_state, "states")
    close(got.pooler_output, want.pooler_output, "pooled")
    close(vectors, want.last_hidden_state, "states of vectors")
    assert [x.shape for x in got.hidden_states] == [x.shape for x in want.hidden_states]


def test_each_text_of_a_batch_is_what_it_is_alone(models):
    _, mine = models
    lengths = [1, 2, 3, 9, 17]
    ids, mask = torch.randint(1, 1000, (5, 17)), torch.zeros(5, 17, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    shown = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        whole = mine(ids, attention_mask=mask, **shown)
        for row, length in enumerate(lengths):
            alone = mine(ids[row : row + 1, :length], **shown)
            close(whole.last_hidden_state[row, :length], alone.last_hidden_state[0], "states")
            close(whole.pooler_output[row], alone.pooler_output[0], "pooled")
            for many, one in zip(whole.hidden_states, alone.hidden_states, strict=True):
                close(many[row, : one.shape[1]], one[0], "hidden states")
            for many, one in zip(whole.attentions, alone.attentions, strict=True):
                close(many[row, :, : one.shape[2], : one.shape[3]], one[0], "attentions")


def test_attention_of_blocks_is_shown_within_the_text(models):
    _, mine = models
    with torch.no_grad():
        first = mine(torch.randint(1, 1000, (1, 13)), output_attentions=True).attentions[0][0]
    block = torch.arange(13) // 5
    assert torch.allclose(first.sum(-1), torch.ones(4, 13), atol=1e-5)
    assert torch.equal(first > 0, (block[:, None] == block).expand(4, 13, 13))


def test_characters_are_the_reference_tokens(tmp_path):
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "CanineTokenizer", "model_max_length": 2048})
    write(tmp_path, "config.json", {"model_type": "canine"})
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.CanineTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "Hi 你\n😀 a\r\n\t\u0301\ue003 \x00x", "\U0010fffd"]:
        got, want = ours(text), theirs(text)
        assert got["input_ids"] == want["input_ids"], text
        assert list(got) == list(want)
        assert ours.decode(got["input_ids"], True) == theirs.decode(want["input_ids"], skip_special_tokens=True), text
    pair, other = ours("ab", "c"), theirs("ab", "c")
    assert {**pair} == {**other}
    assert ours.model_max_length == theirs.model_max_length == 2048
    assert len(ours) == len(theirs) - 0x800  # halves of characters are none
    assert ours.mask_token == theirs.mask_token
    ours.save_pretrained(tmp_path / "to")
    assert AutoTokenizer.from_pretrained(tmp_path / "to")(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]
