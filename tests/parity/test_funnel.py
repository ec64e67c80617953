"""Funnel beyond its parity rows: lengths of texts, batches, token lists."""

from __future__ import annotations

import pytest
import torch

import multihead

from .case import WORDS, reference
from .cases import CASES
from .test_families import close

ROWS = {case.name: case for case in CASES if case.family == "Funnel"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write a case's checkpoint; return the reference's model and the folder."""

    def made(name: str, end: str):
        theirs, folder = reference(ROWS[name], end), tmp_path_factory.mktemp(name)
        theirs.save_pretrained(folder)
        return theirs, getattr(multihead, f"Funnel{end}").from_pretrained(folder)

    return made


@pytest.mark.parametrize("name", ["funnel", "funnel-whole-keys"])
def test_texts_of_any_length_equal_the_reference(folders, name):
    theirs, mine = folders(name, "Model")
    shorter = (1, 2, 3, 4) if name == "funnel-whole-keys" else ()  # where the reference fails by default
    for length in (*shorter, 5, 6, 7, 8, 9, 15, 16, 17, 33):
        ids = torch.randint(1, WORDS, (2, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            want, got = theirs(ids, output_hidden_states=True), mine(ids, output_hidden_states=True)
        close(got.last_hidden_state, want.last_hidden_state, f"states of {length}", 2e-5)
        assert [x.shape for x in got.hidden_states] == [x.shape for x in want.hidden_states]


@pytest.mark.parametrize("end", ["Model", "BaseModel"])
def test_each_text_of_a_batch_is_what_it_is_alone(folders, end):
    _, mine = folders("funnel", end)
    lengths = [1, 2, 3, 9, 17]
    ids, mask = torch.randint(1, WORDS, (5, 17)), torch.zeros(5, 17, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    with torch.no_grad():
        whole = mine(ids, attention_mask=mask).last_hidden_state
        for row, length in enumerate(lengths):
            alone = mine(ids[row : row + 1, :length]).last_hidden_state[0]
            close(whole[row, : len(alone)], alone, f"states of {length}")


def test_a_pass_over_token_lists_tells_the_lengths_of_pooled_states(folders):
    _, mine = folders("funnel", "BaseModel")
    texts = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [4], [3, 9, 8, 7, 6]]
    with torch.no_grad():
        out = mine.run(texts)
        alone = [mine(torch.tensor([text])).last_hidden_state[0] for text in texts]
    assert list(out.runs.lengths) == [len(states) for states in alone]
    assert sum(out.runs.lengths) == len(out.hidden) < sum(map(len, texts))
    close(out.hidden, torch.cat(alone), "states")
