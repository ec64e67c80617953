"""Calling a model: inputs in, outputs out, and what wrong inputs are told."""

from __future__ import annotations

import pytest
import torch

from multihead import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from multihead.errors import InvalidInput, MissingHead, TextTooLong, UnsupportedConfig

IDS = torch.tensor([[2, 9, 14, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def test_the_classic_first_program(classifier):
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    model = AutoModelForSequenceClassification.from_pretrained(classifier)
    inputs = tokenizer("This is a great movie!", return_tensors="pt")
    predicted_class_id = model(**inputs).logits.argmax(-1).item()
    assert model.config.id2label[predicted_class_id] in ("bad", "fair", "good")


def test_scores_of_a_bare_model_name_the_class_to_load(bert, classifier):
    output = AutoModel.from_pretrained(classifier)(IDS)
    for name in ("logits", "loss", "start_logits"):
        with pytest.raises(MissingHead, match="AutoModelForSequenceClassification"):
            getattr(output, name)
    with pytest.raises(AttributeError, match="AutoModelForMaskedLM"):
        _ = AutoModel.from_pretrained(bert)(IDS).logits
    assert not hasattr(output, "nonsense")
    with pytest.raises(MissingHead, match="AutoModelForCausalLM"):
        AutoModel.from_pretrained(bert).generate(IDS)


def test_outputs_index_unpack_and_look_up(classifier):
    model = AutoModel.from_pretrained(classifier)
    output = model(IDS, MASK, output_hidden_states=True)
    states, pooled, layers = output.to_tuple()
    assert torch.equal(output[0], states)
    assert torch.equal(output["last_hidden_state"], states)
    assert list(output) == ["last_hidden_state", "pooler_output", "hidden_states"]
    assert torch.equal(output[:2][1], pooled)
    assert output.get("attentions", 7) == 7
    assert output.get("hidden_states") is layers
    assert dict(output).keys() == dict(output.items()).keys()
    assert "hidden_states" in output
    assert "attentions" not in output
    assert len(output) == 3
    with pytest.raises(KeyError, match="attentions"):
        output["attentions"]
    plain = model(IDS, MASK, return_dict=False)
    assert isinstance(plain, tuple)
    assert torch.equal(plain[0], states)


@pytest.mark.parametrize("kind", [torch.long, torch.bool, torch.float32, torch.int32])
def test_a_mask_may_have_any_dtype(bert, kind):
    model = AutoModel.from_pretrained(bert)
    assert torch.equal(model(IDS, MASK.to(kind))[0], model(IDS, MASK)[0])


def test_a_row_without_any_real_token_is_zero_and_disturbs_nobody(bert, llama):
    for model in (AutoModelForMaskedLM.from_pretrained(bert), AutoModelForCausalLM.from_pretrained(llama)):
        mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
        both, alone = model(IDS, mask).logits, model(IDS[:1]).logits
        assert both.isfinite().all()
        assert not both[1].any()
        torch.testing.assert_close(both[:1], alone, rtol=1e-5, atol=1e-5)


def test_a_batch_of_nothing_gives_nothing(bert):
    model = AutoModelForMaskedLM.from_pretrained(bert)
    words = model.config.vocab_size
    assert model(torch.zeros(0, 4, dtype=torch.long)).logits.shape == (0, 4, words)
    assert model(torch.zeros(2, 0, dtype=torch.long)).logits.shape == (2, 0, words)


def test_vectors_may_stand_for_ids(bert, llama):
    for model in (AutoModelForMaskedLM.from_pretrained(bert), AutoModelForCausalLM.from_pretrained(llama)):
        vectors = model.get_input_embeddings()(IDS)
        expected = model(IDS, MASK).logits
        assert torch.equal(model(inputs_embeds=vectors, attention_mask=MASK).logits, expected)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"input_ids": IDS + 10**6}, InvalidInput, "1000014"),
        ({"input_ids": -IDS}, InvalidInput, "-14"),
        ({"input_ids": [[1, 2]]}, InvalidInput, 'return_tensors="pt"'),
        ({"input_ids": IDS[0]}, InvalidInput, r"input_ids\[None\]"),
        ({"input_ids": IDS.float()}, InvalidInput, "whole numbers"),
        ({"input_ids": IDS[None]}, InvalidInput, r"\[1, 2, 4\]"),
        ({}, InvalidInput, "either input_ids or inputs_embeds"),
        ({"input_ids": IDS, "inputs_embeds": torch.zeros(2, 4, 16)}, InvalidInput, "not both"),
        ({"inputs_embeds": torch.zeros(2, 16)}, InvalidInput, "batch, length, width"),
        ({"input_ids": IDS, "attention_mask": MASK[:1]}, InvalidInput, "attention_mask"),
        ({"input_ids": IDS, "attention_mask": MASK[:, :3]}, InvalidInput, "attention_mask"),
        ({"input_ids": IDS, "attention_mask": torch.ones(2, 1, 4, 4)}, InvalidInput, "attention_mask"),
        ({"input_ids": IDS, "token_type_ids": MASK[:, :2]}, InvalidInput, "token_type_ids"),
        ({"input_ids": IDS, "token_type_ids": MASK + 5}, InvalidInput, "token_type_id 6"),
        ({"input_ids": IDS, "position_ids": MASK - 1}, InvalidInput, "-1"),
        ({"input_ids": IDS, "position_ids": MASK + 50}, TextTooLong, "24"),
        ({"input_ids": torch.ones(1, 25, dtype=torch.long)}, TextTooLong, "24"),
        ({"input_ids": IDS, "labels": IDS[:, :2]}, InvalidInput, "labels"),
        ({"input_ids": IDS, "label": IDS}, TypeError, "label"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_are_told_what_would(bert, given, error, said):
    model = AutoModelForMaskedLM.from_pretrained(bert)
    with pytest.raises(error, match=said):
        model(**given)


def test_a_cache_continues_its_own_texts_only(llama):
    model = AutoModelForCausalLM.from_pretrained(llama)
    whole = model(IDS, MASK.flip(1)).logits
    first = model(IDS[:, :3], MASK.flip(1)[:, :3], use_cache=True)
    rest = model(IDS[:, 3:], MASK.flip(1), past_key_values=first.past_key_values)
    torch.testing.assert_close(rest.logits, whole[:, 3:], rtol=1e-5, atol=1e-5)
    with pytest.raises(InvalidInput, match="remember 2 texts"):
        model(IDS[:1], past_key_values=first.past_key_values)
    with pytest.raises(InvalidInput, match="earlier tokens"):
        model(IDS[:, 3:], torch.ones(2, 9), past_key_values=first.past_key_values)


def test_an_encoder_decoder_needs_a_target(marian):
    model = AutoModelForSeq2SeqLM.from_pretrained(marian)
    with pytest.raises(InvalidInput, match="decoder_input_ids"):
        model(IDS)
    assert model(IDS, labels=IDS).loss.isfinite()


def test_a_model_that_reads_both_ways_does_not_write(bert):
    with pytest.raises(UnsupportedConfig, match="is_decoder=True"):
        AutoModelForCausalLM.from_pretrained(bert).generate(IDS, max_new_tokens=2)
    writer = AutoModelForCausalLM.from_pretrained(bert, is_decoder=True)
    assert writer.generate(IDS[:1], max_new_tokens=2, eos_token_id=None).shape == (1, 6)


def test_training_changes_what_inference_reads(classifier):
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = AutoModelForSequenceClassification.from_pretrained(classifier, **still).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    torch.manual_seed(0)
    losses = []
    for _ in range(60):
        loss = model(IDS, MASK, labels=torch.tensor([0, 2])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert model.eval()(IDS, MASK).logits.argmax(-1).tolist() == [0, 2]


@pytest.mark.parametrize("hole", [[[1, 0, 1, 1], [1, 1, 1, 0]], [[1, 1, 1, 1], [0, 1, 0, 1]]])
def test_padding_between_tokens_is_refused_and_padding_at_either_end_is_not(bert, marian, hole):
    model, pair = AutoModelForMaskedLM.from_pretrained(bert), AutoModelForSeq2SeqLM.from_pretrained(marian)
    for mask in (hole, torch.tensor(hole).float().tolist()):
        with pytest.raises(InvalidInput, match="zeros between the ones of text"):
            model(IDS, torch.tensor(mask))
        with pytest.raises(InvalidInput, match="zeros between the ones of text"):
            pair(input_ids=IDS, attention_mask=torch.tensor(mask), decoder_input_ids=IDS)
    for ends in ([[0, 0, 1, 1], [1, 1, 0, 0]], [[0, 1, 1, 0], [0, 0, 0, 0]]):
        assert model(IDS, torch.tensor(ends)).logits.isfinite().all()


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_whole_numbers_of_any_width_are_ids_and_labels(bert, kind):
    model = AutoModelForMaskedLM.from_pretrained(bert)
    expected = model(IDS, MASK, token_type_ids=IDS * 0, position_ids=torch.arange(4)[None], labels=IDS)
    given = {"token_type_ids": IDS * 0, "position_ids": torch.arange(4)[None], "labels": IDS}
    got = model(IDS.to(kind), MASK.to(kind), **{name: x.to(kind) for name, x in given.items()})
    assert torch.equal(got.logits, expected.logits)
    assert torch.equal(got.loss, expected.loss)


def test_scores_of_chosen_columns_are_those_of_the_whole_pass(llama):
    model = AutoModelForCausalLM.from_pretrained(llama)
    left = MASK.flip(1)
    for mask in (None, MASK, left):
        whole = model(IDS, mask).logits
        for columns in ([1, 3], [3, 0, 0], [-1], []):
            some = model(IDS, mask, logits_to_keep=torch.tensor(columns, dtype=torch.long)).logits
            torch.testing.assert_close(some, whole[:, columns], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model(IDS, mask, logits_to_keep=2).logits, whole[:, -2:], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model(IDS, mask, logits_to_keep=9).logits, whole, rtol=1e-5, atol=1e-6)
    for wrong in (torch.tensor([4]), torch.tensor([-5]), torch.tensor([[1]])):
        with pytest.raises(InvalidInput, match="from 0 to 3"):
            model(IDS, logits_to_keep=wrong)
