"""A decoder's classifier reads the last token that is no padding by its id, as the reference's do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import multihead
from multihead.training.objectives.packed_batch import PackedSequences

from .case import Case, reference
from .cases import CASES

END = "ForSequenceClassification"
READ = ("llama", "gpt2", "opt", "opt-350m", "ctrl", "bloom", "falcon", "mpt", "gpt-neo", "gpt-neox", "gptj", "gpt")
ROWS = {case.name: case for case in CASES if END in case.ends}
DECODERS = [ROWS[name] for name in READ if name in ROWS]
PAD = 7
IDS = torch.tensor([[9, 14, 3, PAD, 22], [5, 8, PAD, PAD, PAD], [PAD, PAD, PAD, 11, 4], [PAD] * 5, [1, 2, 3, 4, PAD]])


def pair(case: Case, folder: Any, pad: int | None = PAD) -> tuple[Any, Any]:
    model = reference(case, END)
    model.config.pad_token_id = pad
    model.save_pretrained(folder)
    return model, multihead.AutoModelForSequenceClassification.from_pretrained(folder)


def test_the_families_are_there():
    assert len(DECODERS) >= 9


@pytest.mark.parametrize("case", DECODERS, ids=lambda case: case.name)
def test_padding_is_known_by_its_id_without_a_mask(case, tmp_path):
    theirs, ours = pair(case, tmp_path)
    with torch.no_grad():
        for inputs in ({"input_ids": IDS}, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}):
            torch.testing.assert_close(ours(**inputs).logits, theirs(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_vectors_and_configs_without_a_pad_are_read_at_their_end(tmp_path):
    theirs, ours = pair(ROWS["llama"], tmp_path / "pad")
    with torch.no_grad():
        vectors = theirs.get_input_embeddings()(IDS)
        got, expected = (model(inputs_embeds=vectors).logits for model in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    theirs, ours = pair(ROWS["llama"], tmp_path / "none", pad=None)
    with torch.no_grad():
        got, expected = (model(IDS[4:]).logits for model in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_texts_without_padding_are_pooled_as_padded_ones_where_the_end_is_the_pad(tmp_path):
    """GPT-2's users set pad = eos: the end that a tokenizer adds is then never what is read."""
    theirs, ours = pair(ROWS["gpt2"], tmp_path)
    texts = [[9, 14, 3, PAD], [5, 8, 12, 13, 6, PAD], [PAD]]
    ids = torch.full((3, 6), PAD)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=(ids != PAD).long().index_fill(1, torch.tensor([0]), 1)).logits
        torch.testing.assert_close(ours.run(texts).scores, expected, rtol=1e-4, atol=1e-4)
        tokens = PackedSequences.of([{"input_ids": text} for text in texts], ours.device)  # as training reads them
        context = tokens.context(ours)
        states = ours.backbone(ours.backbone.embed.look_up(tokens.ids), context)
        torch.testing.assert_close(ours.head(states, context), expected, rtol=1e-4, atol=1e-4)
