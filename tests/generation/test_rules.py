"""Rules on scores equal the reference's processors, one by one and together."""

import pytest
import torch
import transformers.generation.logits_process as reference

from multihead.errors import InvalidInput, UnsupportedOption
from multihead.generation.config import GenerationConfig
from multihead.generation.logits.processors import logits_processors, sampling_processors

SOURCE = [2, 9, 5, 7, 2]
HISTORY = [[3, 5, 3, 5, 7], [1, 2, 1, 9, 1], [8, 8, 8, 8, 8]]


BIAS = [[[4], 2.0], [[5, 7, 1], -3.0], [[8, 8], 1.5], [[8, 2], 0.5]]


def rules(config, *args, **options):
    return [*logits_processors(config, *args, **options), *sampling_processors(config)]


def both(settings, *processors):
    torch.manual_seed(0)
    scores = torch.randn(3, 12)
    ours = scores
    for rule in rules(GenerationConfig(**settings), 3, 20, SOURCE):
        ours = rule(HISTORY, ours)
    theirs = scores
    for processor in processors:
        theirs = processor(torch.tensor(HISTORY), theirs)
    return ours, theirs


@pytest.mark.parametrize(
    ("settings", "processors"),
    [
        ({"repetition_penalty": 1.7}, [reference.RepetitionPenaltyLogitsProcessor(1.7)]),
        ({"no_repeat_ngram_size": 2}, [reference.NoRepeatNGramLogitsProcessor(2)]),
        ({"no_repeat_ngram_size": 1}, [reference.NoRepeatNGramLogitsProcessor(1)]),
        ({"bad_words_ids": [[4], [1, 6], [8, 8, 2]]}, [reference.NoBadWordsLogitsProcessor([[4], [1, 6], [8, 8, 2]])]),
        ({"suppress_tokens": [2, 3]}, [reference.SuppressTokensLogitsProcessor([2, 3])]),
        ({"min_length": 6, "eos_token_id": 4}, [reference.MinLengthLogitsProcessor(6, 4)]),
        ({"min_length": 5, "eos_token_id": 4}, [reference.MinLengthLogitsProcessor(5, 4)]),
        ({"min_new_tokens": 3, "eos_token_id": [4, 6]}, [reference.MinNewTokensLengthLogitsProcessor(3, 3, [4, 6])]),
        ({"do_sample": True, "temperature": 0.6, "top_k": 0}, [reference.TemperatureLogitsWarper(0.6)]),
        ({"do_sample": True, "top_k": 4}, [reference.TopKLogitsWarper(4)]),
        ({"do_sample": True}, [reference.TopKLogitsWarper(50)]),
        ({"do_sample": True, "top_k": 0, "top_p": 0.6}, [reference.TopPLogitsWarper(0.6)]),
        ({"do_sample": True, "top_k": 0, "top_p": 0.0}, [reference.TopPLogitsWarper(0.0)]),
        ({"do_sample": True, "top_k": 0, "min_p": 0.3}, [reference.MinPLogitsWarper(0.3)]),
        ({"do_sample": True, "top_k": 0, "typical_p": 0.6}, [reference.TypicalLogitsWarper(0.6)]),
        ({"do_sample": True, "top_k": 0, "epsilon_cutoff": 0.09}, [reference.EpsilonLogitsWarper(0.09)]),
        ({"do_sample": True, "top_k": 0, "eta_cutoff": 0.2}, [reference.EtaLogitsWarper(0.2)]),
        ({"do_sample": True, "top_k": 0, "top_h": 0.5}, [reference.TopHLogitsWarper(0.5)]),
        (
            {
                "do_sample": True,
                "top_k": 1,
                "top_p": 0.1,
                "min_p": 0.9,
                "typical_p": 0.1,
                "epsilon_cutoff": 0.5,
                "eta_cutoff": 0.9,
                "num_beams": 4,
                "eos_token_id": [4, 6],
            },
            [
                reference.TopKLogitsWarper(1, min_tokens_to_keep=3),
                reference.TopPLogitsWarper(0.1, min_tokens_to_keep=3),
                reference.MinPLogitsWarper(0.9, min_tokens_to_keep=3),
                reference.TypicalLogitsWarper(0.1, min_tokens_to_keep=3),
                reference.EpsilonLogitsWarper(0.5, min_tokens_to_keep=3),
                reference.EtaLogitsWarper(0.9, min_tokens_to_keep=3),
            ],
        ),
        (
            {"encoder_repetition_penalty": 1.6},
            [reference.EncoderRepetitionPenaltyLogitsProcessor(1.6, torch.tensor([SOURCE] * 3))],
        ),
        ({"sequence_bias": BIAS}, [reference.SequenceBiasLogitsProcessor(BIAS)]),
        (
            {"exponential_decay_length_penalty": [1, 1.4], "eos_token_id": [4, 6]},
            [reference.ExponentialDecayLengthPenalty((1, 1.4), [4, 6], 3)],
        ),
        (
            {"exponential_decay_length_penalty": (9, 1.4), "eos_token_id": 4},
            [reference.ExponentialDecayLengthPenalty((9, 1.4), 4, 3)],
        ),
        ({"watermarking_config": {}}, [reference.WatermarkLogitsProcessor(12, "cpu")]),
        ({"begin_suppress_tokens": [3]}, [reference.SuppressTokensAtBeginLogitsProcessor([3], 3)]),
        ({"renormalize_logits": True}, [reference.LogitNormalization()]),
        (
            {"do_sample": True, "repetition_penalty": 1.2, "temperature": 0.7, "top_k": 6, "top_p": 0.8},
            [
                reference.RepetitionPenaltyLogitsProcessor(1.2),
                reference.TemperatureLogitsWarper(0.7),
                reference.TopKLogitsWarper(6),
                reference.TopPLogitsWarper(0.8),
            ],
        ),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_each_rule_gives_what_the_reference_gives(settings, processors):
    ours, theirs = both(settings, *processors)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_runs_of_the_source_are_not_repeated():
    torch.manual_seed(0)
    scores, sources = torch.randn(3, 12), torch.tensor([[5, 7, 9, 5, 7, 2], [1, 1, 1, 1, 1, 4], [3, 3, 3, 3, 3, 3]])
    theirs = reference.EncoderNoRepeatNGramLogitsProcessor(3, sources)(torch.tensor(HISTORY), scores.clone())
    for text, source in enumerate(sources.tolist()):
        rule = rules(GenerationConfig(encoder_no_repeat_ngram_size=3), 3, 20, source)[0]
        assert torch.equal(rule(HISTORY[text : text + 1], scores[text : text + 1]), theirs[text : text + 1])


def test_forced_tokens_come_at_their_place_only():
    scores = torch.randn(1, 12)
    first = rules(GenerationConfig(forced_bos_token_id=3), 1, 20)[0]
    assert first([[7]], scores).argmax() == 3
    assert torch.equal(first([[7, 7]], scores), scores)
    last = rules(GenerationConfig(forced_eos_token_id=5), 1, 4)[0]
    assert last([[7, 7, 7]], scores).argmax() == 5
    assert torch.equal(last([[7, 7]], scores), scores)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"max_new_tokens": 0},
        {"num_return_sequences": 0},
        {"repetition_penalty": 0.0},
        {"do_sample": "yes"},
        {"max_time": 0},
        {"eos_token_id": "end"},
    ],
    ids=str,
)
def test_a_value_that_no_text_could_meet_is_refused(settings):
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        GenerationConfig(**settings)


@pytest.mark.parametrize("width", [1, 3])
def test_a_watermark_that_hashes_the_token_itself_equals_the_reference(width):
    torch.manual_seed(0)
    scores, settings = torch.randn(3, 90), {"seeding_scheme": "selfhash", "bias": 1.5, "context_width": width}
    theirs = reference.WatermarkLogitsProcessor(90, "cpu", 0.25, 1.5, seeding_scheme="selfhash", context_width=width)
    rule = rules(GenerationConfig(watermarking_config=settings), 3, 20)[0]
    assert torch.equal(rule(HISTORY, scores), theirs(torch.tensor(HISTORY), scores))


def test_frequency_and_presence_cost_what_they_say():
    rule = rules(GenerationConfig(frequency_penalty=0.5, presence_penalty=0.25), 0, 20)[0]
    scores = rule(HISTORY, torch.zeros(3, 12))
    assert scores[1].tolist() == [0, -1.75, -0.75, 0, 0, 0, 0, 0, 0, -0.75, 0, 0]
    assert scores[2, 8] == -2.75
    new = rules(GenerationConfig(frequency_penalty=0.5, presence_penalty=0.25), 3, 20)[0]
    assert new(HISTORY, torch.zeros(3, 12))[1].tolist() == [
        0,
        -0.75,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        -0.75,
        0,
        0,
    ]  # prompts are free


def test_what_a_function_allows_is_all_that_may_come():
    scores = torch.full((2, 5), 1.0)
    rule = rules(GenerationConfig(), 1, 9, allowed=lambda ids: [int(ids[-1]), 4])[0]
    assert rule([[1], [2]], scores).isfinite().nonzero().tolist() == [[0, 1], [0, 4], [1, 2], [1, 4]]
    assert rule([[1], [2]], scores.fill_(-torch.inf)).max() == 0
    with pytest.raises(InvalidInput, match="allows no token"):
        rules(GenerationConfig(), 1, 9, allowed=lambda ids: [])[0]([[1]], scores[:1])


def test_scores_that_are_no_numbers_become_some():
    rule = rules(GenerationConfig(remove_invalid_values=True), 1, 9)[0]
    assert rule([[1]], torch.tensor([[torch.nan, torch.inf, 2.0]])).isfinite().all()


@pytest.mark.parametrize(
    "settings",
    [
        {"sequence_bias": [[[], 1.0]]},
        {"sequence_bias": [3]},
        {"watermarking_config": {"greenlist_ratio": 2}},
        {"watermarking_config": {"seeding_scheme": "none"}},
        {"exponential_decay_length_penalty": 3},
        {"stop_strings": [".", ""]},
        {"num_beams": 0},
        {"early_stopping": "always"},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(InvalidInput):
        GenerationConfig(**settings)


def test_what_is_not_computed_is_refused_by_name_and_not_ignored():
    with pytest.raises(UnsupportedOption, match="is_assistant"):
        GenerationConfig().changed(is_assistant=True)
    asked = GenerationConfig.read({"token_healing": True, "is_assistant": True, "max_new_tokens": 3})
    assert asked.to_dict() == {"token_healing": True, "is_assistant": True, "max_new_tokens": 3}
    with pytest.raises(UnsupportedOption, match="token_healing"):
        asked.computed()
    with pytest.raises(UnsupportedOption, match="is_assistant"):
        asked.changed(token_healing=False).computed()
    assert asked.changed(token_healing=None, is_assistant=False).computed().max_new_tokens == 3
    with pytest.raises(UnsupportedOption, match="max_new_tokens"):
        GenerationConfig().changed(max_new_token=4)
    assert GenerationConfig.read({"is_assistant": False, "use_cache": True}).file_entries == {}
    with pytest.raises(UnsupportedOption, match="greenlist_ratio"):
        GenerationConfig(watermarking_config={"greenlist_ration": 0.5})


def test_a_saved_config_is_read_by_the_reference(tmp_path):
    import transformers

    GenerationConfig(max_new_tokens=7, do_sample=True, temperature=0.5, eos_token_id=[1, 2]).save_pretrained(tmp_path)
    again = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (again.max_new_tokens, again.do_sample, again.temperature, again.eos_token_id) == (7, True, 0.5, [1, 2])
