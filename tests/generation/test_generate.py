"""`generate` through the door: sampling, limits, ends, shapes. Equality with the reference is in tests/parity."""

from __future__ import annotations

import shutil
import time

import pytest
import torch
from scipy.stats import chisquare

from multihead import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig
from multihead.errors import InvalidInput, TextTooLong, UnsupportedOption

IDS = torch.tensor([[5, 9, 14, 3], [5, 7, 3, 8]])


@pytest.fixture(scope="module")
def model(llama):
    return AutoModelForCausalLM.from_pretrained(llama)


def test_what_is_drawn_follows_the_models_own_distribution(model):
    settings = {"do_sample": True, "temperature": 0.8, "top_k": 6}
    logits = model(IDS[:1]).logits[0, -1].detach() / settings["temperature"]
    best = logits.topk(settings["top_k"])
    torch.manual_seed(1)
    drawn = model.generate(IDS[:1], num_return_sequences=4000, max_new_tokens=1, **settings)[:, -1]
    counts = torch.tensor([(drawn == token).sum().item() for token in best.indices])
    assert counts.sum() == 4000
    assert chisquare(counts, best.values.double().softmax(-1) * 4000).pvalue > 1e-3


def test_a_seed_gives_the_same_draws_and_no_seed_follows_torchs(model):
    settings = {"do_sample": True, "max_new_tokens": 8, "top_k": 0}
    one, two = (model.generate(IDS, seed=5, **settings) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, model.generate(IDS, seed=6, **settings))
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(model.generate(IDS, **settings))
    assert torch.equal(*drawn)


def test_limits_count_what_they_say(model):
    assert model.generate(IDS).shape == (2, 24)
    assert model.generate(IDS, max_length=7).shape == (2, 7)
    assert model.generate(IDS, max_new_tokens=7).shape == (2, 11)
    with pytest.raises(InvalidInput, match="max_new_tokens"):
        model.generate(IDS, max_length=4)
    began = time.monotonic()
    assert model.generate(IDS, max_new_tokens=100_000, max_time=0.3).shape[1] > 4
    assert time.monotonic() - began < 20


def test_a_text_that_has_ended_is_padded_while_the_others_go_on(model):
    plain = model.generate(IDS, max_new_tokens=10)
    end = plain[0, 6].item()
    ended = model.generate(IDS, max_new_tokens=10, eos_token_id=end, pad_token_id=1)
    for row, whole in zip(ended, plain, strict=True):
        stops = (whole[4:] == end).nonzero()
        length = 4 + (stops[0].item() + 1 if len(stops) else 10)
        assert torch.equal(row[:length], whole[:length])
        assert (row[length:] == 1).all()


def test_left_padding_changes_no_token(model):
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), IDS], 1)
    mask = (torch.arange(7) >= 3).long().expand(2, -1)
    expected = model.generate(IDS, max_new_tokens=8)
    assert torch.equal(model.generate(padded, attention_mask=mask, max_new_tokens=8)[:, 3:], expected)


def test_scores_come_when_asked_for(model):
    result = model.generate(
        IDS, max_new_tokens=3, output_scores=True, output_logits=True, return_dict_in_generate=True, top_k=2
    )
    assert result.sequences.shape == (2, 7)
    assert len(result.scores) == len(result.logits) == 3
    torch.testing.assert_close(result.logits[0], model(IDS).logits[:, -1], rtol=1e-4, atol=1e-4)
    assert torch.equal(result.logits[2].argmax(-1), result.sequences[:, -1])


def test_each_source_can_have_several_translations(marian):
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(marian), AutoTokenizer.from_pretrained(marian)
    inputs = tokenizer(["The quick fox", "The lazy dog and the fox"], padding=True, return_tensors="pt")
    settings = {"do_sample": True, "top_k": 1, "max_new_tokens": 6}  # the likeliest of one: equal draws
    several = model.generate(**inputs, num_return_sequences=3, **settings)
    assert several.shape[0] == 6
    single = model.generate(**inputs, max_new_tokens=6)
    assert torch.equal(several, single.repeat_interleave(3, 0))
    target = torch.full((2, 1), model.config.decoder_start_token_id)
    assert torch.equal(model.generate(**inputs, decoder_input_ids=target, max_new_tokens=6), single)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"num_beams": 0}, InvalidInput, "num_beams"),
        ({"num_beams": 2, "num_return_sequences": 3}, InvalidInput, "num_beams = 2"),
        ({"num_beams": 3, "num_beam_groups": 2}, InvalidInput, "num_beam_groups = 2"),
        ({"num_beams": 4, "num_beam_groups": 2, "do_sample": True}, InvalidInput, "do_sample"),
        ({"length_penalty": 2.0}, UnsupportedOption, "length_penalty"),
        ({"early_stopping": True}, UnsupportedOption, "early_stopping"),
        ({"stop_strings": "."}, InvalidInput, "tokenizer"),
        ({"stop_strings": [""]}, InvalidInput, "empty"),
        ({"max_new_token": 4}, UnsupportedOption, "max_new_tokens"),
        ({"temperature": -1.0}, InvalidInput, "temperature"),
        ({"num_return_sequences": 2}, InvalidInput, "do_sample"),
        ({"bad_words_ids": [3]}, InvalidInput, "bad_words_ids"),
        ({"forced_bos_token_id": 99999}, InvalidInput, "outside the vocabulary"),
        ({"bad_words_ids": [[4, 99999]]}, InvalidInput, "outside the vocabulary"),
        ({"suppress_tokens": [-4]}, InvalidInput, "outside the vocabulary"),
        ({"eos_token_id": "x"}, InvalidInput, "eos_token_id"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_by_name(model, options, error, said):
    with pytest.raises(error, match=said):
        model.generate(IDS, **options)


def test_a_checkpoint_that_asks_for_what_is_not_computed_loads_and_says_so_when_it_generates(llama, tmp_path):
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"is_assistant": true, "max_new_tokens": 3}')
    model = AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(UnsupportedOption, match="is_assistant=False"):
        model.generate(IDS)
    assert model.generate(IDS, is_assistant=False).shape == (2, 7)
    model.save_pretrained(tmp_path / "again")
    assert '"is_assistant": true' in (tmp_path / "again" / "generation_config.json").read_text()


def test_a_prompt_needs_a_token(model):
    with pytest.raises(InvalidInput, match="no token"):
        model.generate(torch.zeros(1, 0, dtype=torch.long), max_new_tokens=3)
    with pytest.raises(InvalidInput, match="no token"):
        model.generate(IDS, attention_mask=torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]), max_new_tokens=3)
    with pytest.raises(InvalidInput, match="input_ids"):
        model.generate(bos_token_id=None)


def test_a_config_of_the_callers_own_is_used(model, tmp_path):
    config = GenerationConfig(max_new_tokens=3, suppress_tokens=[int(model.generate(IDS)[0, 4])])
    found = model.generate(IDS, generation_config=config)
    assert found.shape == (2, 7)
    assert found[0, 4] != config.suppress_tokens[0]
    config.save_pretrained(tmp_path)
    from multihead.config import read_json

    assert GenerationConfig.read(read_json(tmp_path / "generation_config.json")) == config


@pytest.mark.parametrize("name", ["gpt2", "opt", "bart"])
def test_a_text_ends_at_the_last_learned_position(models, name):
    model, most = models[name], 128
    prompt = torch.tensor([[5, 6, 7]])
    room = most if name == "bart" else most - 2  # the last token need not be read
    assert model.generate(prompt, max_new_tokens=room, eos_token_id=[], pad_token_id=0).shape[1] == most + 1
    with pytest.raises(TextTooLong, match=f"learned {most} positions; set max_new_tokens to {room} or less"):
        model.generate(prompt, max_new_tokens=room + 1)
    if name != "bart":
        with pytest.raises(TextTooLong, match=f"shorten it to at most {most}"):
            model.generate(torch.full((1, most + 1), 5), max_new_tokens=1)
    assert models["llama"].generate(prompt, max_new_tokens=most + 20, eos_token_id=[], pad_token_id=0).shape[1] > most
