"""What callers of `generate` give: prompts in every form, code of their own, configs; as the reference, or refused."""

from __future__ import annotations

import pytest
import torch
import transformers

import multihead
from multihead import GenerationConfig
from multihead.errors import InvalidInput, UnsupportedOption

from ..parity.case import reference
from ..parity.cases import CASES

ROWS = {case.name: case for case in CASES}
IDS = torch.tensor([[5, 9, 14, 3], [6, 7, 33, 8]])
SOURCES = torch.tensor([[5, 9, 14, 3, 2], [6, 7, 2, 1, 1]])
REAL = (SOURCES != 1).long()
FREE = {"max_new_tokens": 5, "eos_token_id": [], "pad_token_id": 1}


def both(name, end, folder, kind):
    model = reference(ROWS[name], end)
    model.save_pretrained(folder)
    return model, getattr(multihead, kind).from_pretrained(folder)


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    return both("gpt2", "LMHeadModel", tmp_path_factory.mktemp("gpt2"), "AutoModelForCausalLM")


@pytest.fixture(scope="module")
def writers(tmp_path_factory):
    return both("bart-untied", "ForConditionalGeneration", tmp_path_factory.mktemp("bart"), "AutoModelForSeq2SeqLM")


def drawn(model, *inputs, **options):
    torch.manual_seed(0)
    return model.generate(*inputs, **options)


def equal(pair, *inputs, **options):
    theirs, ours = (drawn(model, *inputs, **options) for model in pair)
    assert ours.tolist() == theirs.tolist()
    return ours


@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True}, {"do_sample": True, "top_k": 0}, {"num_beams": 3}, {"do_sample": True,
    "num_return_sequences": 3, "top_k": 0, "top_p": 0.9}], ids=str,
)  # fmt: skip
def test_a_processor_may_write_into_the_scores_that_it_gets(decoders, options):
    def only_few(ids, scores):
        scores[:, 20:] = -torch.inf
        return scores

    found = equal(decoders, IDS[:1], logits_processor=[only_few], **FREE, **options)
    assert found[:, 4:].max() < 20


def test_what_a_processor_writes_leaves_the_logits_that_are_shown(decoders):
    def no_scores(ids, scores):
        return scores.fill_(0)

    shown = {"return_dict_in_generate": True, "output_logits": True}
    with_it, without = (decoders[1].generate(IDS, **FREE, **shown, logits_processor=own) for own in ([no_scores], []))
    assert torch.equal(with_it.logits[0], without.logits[0])


@pytest.mark.parametrize("options", [{"top_k": 0, "top_p": 0.99}, {"top_k": 5}, {"num_return_sequences": 3}], ids=str)
def test_a_callers_code_sees_all_rows_once_a_step(decoders, options):
    seen = []
    for model in decoders:
        calls = []

        def processor(ids, scores, calls=calls):
            calls.append((tuple(ids.shape), tuple(scores.shape)))
            return scores * 1.0

        def allowed(number, ids, calls=calls):
            calls.append(len(ids))
            return range(3, 90)

        drawn(
            model, IDS[:1], do_sample=True, logits_processor=[processor], prefix_allowed_tokens_fn=allowed, **FREE,
            **options,
        )  # fmt: skip
        seen.append(calls)
    assert seen[0] == seen[1]


def test_allowed_tokens_may_be_a_tensor_and_must_be_tokens(decoders):
    equal(decoders, IDS, prefix_allowed_tokens_fn=lambda number, ids: torch.tensor([10, 11 + number]), **FREE)
    with pytest.raises(InvalidInput, match=r"\[900\] outside the vocabulary"):
        decoders[1].generate(IDS, prefix_allowed_tokens_fn=lambda number, ids: [10, 900], **FREE)


def test_without_a_length_twenty_tokens_follow_while_there_are_positions(decoders, writers):
    settings = {"eos_token_id": [], "pad_token_id": 1}
    positions = decoders[0].config.n_positions
    assert equal(decoders, IDS, **settings).shape[1] == 24
    assert equal(decoders, torch.full((1, positions - 3), 5), **settings).shape[1] == positions
    assert equal(writers, SOURCES, attention_mask=REAL, **settings).shape[1] == 21
    with pytest.raises(InvalidInput, match="at most"):
        decoders[1].generate(torch.full((1, positions), 5))


def test_without_a_prompt_texts_begin_with_the_first_token(decoders):
    assert equal(decoders, bos_token_id=7, **FREE)[0, 0] == 7
    with pytest.raises(InvalidInput, match="bos_token_id"):
        decoders[1].generate(generation_config=GenerationConfig(bos_token_id=None), bos_token_id=None)


def test_what_a_tokenizer_gives_may_come_whole(decoders):
    padded = torch.tensor([[0, 0, 5, 9], [6, 7, 33, 8]])
    given = transformers.BatchEncoding({"input_ids": padded, "attention_mask": torch.tensor([[0, 0, 1, 1], [1] * 4])})
    spread = decoders[0].generate(**given, **FREE)
    for form in ({"inputs": given}, {"input_ids": dict(given)}, {**given}):
        assert decoders[1].generate(**form, **FREE).tolist() == spread.tolist()


@pytest.mark.parametrize("mask", [[[0, 1, 1, 1], [1, 1, 1, 1]], torch.tensor([[False, True, True, True], [True] * 4])])
def test_a_mask_counts_beside_lists_too(decoders, mask):
    expected = decoders[0].generate(IDS, attention_mask=torch.as_tensor(mask).long(), **FREE)
    assert decoders[1].generate(IDS.tolist(), attention_mask=mask, **FREE).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "given",
    [
        {"input_ids": [6, 7, 33], "attention_mask": [1, 1, 1]},
        {"input_ids": [[5], [6, 7, 33]], "attention_mask": [[1], [1, 1, 1]]},
        {"input_ids": [[8, 8, 5], [6, 7, 33]], "attention_mask": [[0, 0, 1], [1, 1, 1]]},
    ],
)
def test_an_encoding_of_lists_brings_its_mask(decoders, given):
    rows, masks = given["input_ids"], given["attention_mask"]
    if isinstance(rows[0], int):
        rows, masks = [rows], [masks]
    texts = [[token for token, real in zip(*row, strict=True) if real] for row in zip(rows, masks, strict=True)]
    expected = decoders[1].generate(texts, **FREE)[:, max(map(len, texts)) :]
    assert decoders[1].generate(given, **FREE)[:, max(map(len, rows)) :].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"input_ids": IDS, "attention_mask": torch.ones(2, 3)}, r"\(2, 4\) and its mask \(2, 3\)"),
        ({"input_ids": IDS, "attention_mask": torch.ones(3, 4)}, r"mask \(3, 4\)"),
        ({"input_ids": IDS, "attention_mask": torch.ones(2, 1, 4, 4)}, "must be equal"),
        ({"input_ids": [[5], [6, 7]], "attention_mask": torch.ones(2, 2)}, "lists of several lengths"),
        ({"inputs": IDS, "input_ids": IDS}, "two names"),
        ({"input_ids": []}, r"\(batch, length\)"),
        ({"input_ids": IDS[0]}, r"\(batch, length\)"),
        ({"input_ids": IDS.float()}, "whole numbers"),
        ({"input_ids": IDS, "negative_prompt_ids": IDS[:1], "guidance_scale": 2.0}, "1 rows, and there are 2 prompts"),
    ],
    ids=lambda given: ",".join(given) if isinstance(given, dict) else "",
)
def test_inputs_that_do_not_fit_each_other_are_refused(decoders, inputs, said):
    with pytest.raises(InvalidInput, match=said):
        decoders[1].generate(**inputs, **FREE)


@pytest.mark.parametrize("name", ["inputs_embeds", "past_key_values", "position_ids", "token_type_ids", "synced_gpus"])
def test_inputs_that_are_not_read_are_refused_with_what_to_do(decoders, name):
    with pytest.raises(UnsupportedOption, match=f"{name} is no input of generate here. [A-Z]?"):
        decoders[1].generate(IDS, **{name: torch.zeros_like(IDS) if name != "synced_gpus" else True})
    assert decoders[1].generate(IDS, **FREE, **{name: None if name != "synced_gpus" else False}).shape == (2, 9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_beams": 2, "diversity_penalty": 0.5}, "diversity_penalty has no effect without num_beam_groups"),
        ({"penalty_alpha": 0.5, "top_k": 1}, "penalty_alpha has no effect without top_k"),
        ({"num_assistant_tokens": 3}, "num_assistant_tokens has no effect without assistant_model"),
        ({"assistant_confidence_threshold": 0.1}, "without assistant_model"),
        ({"assistant_tokenizer": object()}, "without assistant_model"),
        ({"max_matching_ngram_size": 3}, "without prompt_lookup_num_tokens"),
        ({"negative_prompt_ids": IDS}, "without guidance_scale"),
        ({"negative_prompt_attention_mask": IDS}, "without negative_prompt_ids"),
        ({"decoder_input_ids": IDS}, "without an encoder-decoder"),
    ],
    ids=lambda given: ",".join(given) if isinstance(given, dict) else "",
)
def test_an_option_without_effect_is_refused_by_name(decoders, options, said):
    with pytest.raises(UnsupportedOption, match=said):
        decoders[1].generate(IDS, **FREE, **options)


def test_settings_of_draws_where_nothing_is_drawn_are_warned_of(decoders):
    with pytest.warns(UserWarning, match="seed, temperature: without effect"):
        found = decoders[1].generate(IDS, temperature=0.5, seed=3, top_p=1.0, top_k=50, **FREE)
    assert torch.equal(found, decoders[1].generate(IDS, **FREE))


def test_contrastive_search_looks_at_fifty_tokens_where_nothing_says_how_many(decoders):
    expected = decoders[1].generate(IDS, penalty_alpha=0.9, top_k=50, **FREE)
    assert torch.equal(decoders[1].generate(IDS, penalty_alpha=0.9, **FREE), expected)
    assert not torch.equal(decoders[1].generate(IDS, **FREE), expected)


def test_ended_texts_are_padded_with_the_first_end_where_there_is_no_padding(decoders):
    options = {"max_new_tokens": 5, "no_repeat_ngram_size": 1, "attention_mask": torch.ones_like(IDS)}
    one, other = decoders[1].generate(IDS, **options, eos_token_id=[])[:, 4:].tolist()
    end = next(token for token in one[:-1] if token not in other)
    assert equal(decoders, IDS, **options, eos_token_id=[88, end, 87], pad_token_id=None)[0, -1] == 88


def test_a_given_config_is_filled_from_the_models_own(decoders):
    own = [model.generation_config for model in decoders]
    first = decoders[1].generate(IDS, **FREE)[0, 4].item()
    try:
        for config in own:
            config.suppress_tokens, config.eos_token_id, config.pad_token_id = [first], [], 1
        theirs, ours = (kind.GenerationConfig(max_new_tokens=4) for kind in (transformers, multihead))
        expected = decoders[0].generate(IDS, generation_config=theirs)
        for config in (ours, theirs):  # another library's object gives its entries
            found = decoders[1].generate(IDS, generation_config=config)
            assert found.tolist() == expected.tolist()
        assert found[0, 4] != first
        with pytest.raises(InvalidInput, match="must be a GenerationConfig, not int"):
            decoders[1].generate(IDS, generation_config=3)
    finally:
        own[0].suppress_tokens = own[1].suppress_tokens = None


def test_min_new_tokens_goes_before_min_length(writers):
    settings = {"attention_mask": REAL, "max_new_tokens": 9, "min_length": 8, "pad_token_id": 1}
    end = writers[1].generate(SOURCES, **{**settings, "eos_token_id": []})[0, 4].item()
    short = equal(writers, SOURCES, eos_token_id=[end], min_new_tokens=1, **settings)
    long = equal(writers, SOURCES, eos_token_id=[end], **settings)
    assert end in short[0, :8]
    assert end not in long[0, :8]


@pytest.mark.parametrize("given", [[[11, 8]], [[2, 11, 8]]], ids=["without", "with"])
def test_a_targets_beginning_has_the_start_token(writers, given):
    start = writers[0].config.decoder_start_token_id
    given = torch.tensor([[start if token == 2 else token for token in row] for row in given]).repeat(2, 1)
    found = equal(writers, SOURCES, attention_mask=REAL, decoder_input_ids=given, **FREE)
    assert found[:, :3].tolist() == [[start, 11, 8]] * 2


def test_padding_in_a_targets_beginning_is_never_read(writers):
    settings = {"attention_mask": REAL, **FREE}
    given, mask = torch.tensor([[7, 8], [7, 1]]), torch.tensor([[1, 1], [1, 0]])
    found = writers[1].generate(SOURCES, decoder_input_ids=given, decoder_attention_mask=mask, **settings)
    for row, length in enumerate((2, 1)):
        alone = writers[1].generate(SOURCES, decoder_input_ids=given[:, :length], **settings)[row]
        assert found[row, 3:].tolist() == alone[1 + length :].tolist()


def test_a_target_belongs_to_a_source(writers):
    for rows in (1, 3):
        with pytest.raises(InvalidInput, match=f"decoder_input_ids has {rows} rows, and there are 2 sources"):
            writers[1].generate(SOURCES, decoder_input_ids=torch.full((rows, 1), 7), **FREE)


def test_encoded_sources_keep_their_tokens_for_the_rules(writers):
    states = writers[0].get_encoder()(input_ids=SOURCES, attention_mask=REAL)
    options = {"encoder_outputs": states, "attention_mask": REAL, "encoder_repetition_penalty": 3.0, **FREE}
    equal(writers, SOURCES, **options)
    with pytest.raises(InvalidInput, match="pass input_ids in addition to encoder_outputs"):
        writers[1].generate(**options)
    with pytest.raises(InvalidInput, match="encoder_outputs is"):
        writers[1].generate(SOURCES[:1], encoder_outputs=states, **FREE)


@pytest.mark.parametrize("beams", [1, 2])
def test_an_encoder_decoder_shows_its_source(writers, beams):
    writers[0].set_attn_implementation("eager")
    options = {"return_dict_in_generate": True, "output_hidden_states": True, "output_attentions": True, **FREE}
    theirs, ours = (m.generate(SOURCES, attention_mask=REAL, num_beams=beams, **options) for m in writers)
    for mine, other in zip(ours.encoder_hidden_states, theirs.encoder_hidden_states, strict=True):
        torch.testing.assert_close(mine[REAL.bool()], other[REAL.bool()], rtol=1e-4, atol=1e-4)
    for mine, other in zip(ours.encoder_attentions, theirs.encoder_attentions, strict=True):
        torch.testing.assert_close(mine[0], other[0], rtol=1e-4, atol=1e-4)


def test_past_a_texts_end_a_token_has_no_score(decoders):
    once = {**FREE, "no_repeat_ngram_size": 1}
    end = decoders[1].generate(IDS, **once)[0, 5].item()
    found = decoders[1].generate(
        IDS, **{**once, "eos_token_id": end, "return_dict_in_generate": True, "output_scores": True}
    )
    for normalize in (False, True):
        chosen = decoders[1].compute_transition_scores(found.sequences, found.scores, normalize_logits=normalize)
        assert (chosen[0, 2:] == 0).all()
        assert (chosen[0, :2] != 0).all()
