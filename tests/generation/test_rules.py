"""Rules on scores equal the reference's processors, one by one and together."""

import pytest
import torch
import transformers.generation.logits_process as reference

from multihead.errors import InvalidInput, UnsupportedOption
from multihead.generation.config import GenerationConfig
from multihead.generation.rules import rules

HISTORY = [[3, 5, 3, 5, 7], [1, 2, 1, 9, 1], [8, 8, 8, 8, 8]]


def both(settings, *processors):
    torch.manual_seed(0)
    scores = torch.randn(3, 12)
    ours = scores
    for rule in rules(GenerationConfig(**settings), [3, 3, 3], [20, 20, 20]):
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
        ({"do_sample": True, "top_k": 0, "min_p": 0.3}, [reference.MinPLogitsWarper(0.3)]),
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
    rule = rules(GenerationConfig(encoder_no_repeat_ngram_size=3), [3, 3, 3], [20, 20, 20], sources.tolist())[0]
    theirs = reference.EncoderNoRepeatNGramLogitsProcessor(3, sources)(torch.tensor(HISTORY), scores.clone())
    assert torch.equal(rule(HISTORY, scores), theirs)


def test_forced_tokens_come_at_their_place_only():
    scores = torch.randn(1, 12)
    first = rules(GenerationConfig(forced_bos_token_id=3), [1], [20])[0]
    assert first([[7]], scores).argmax() == 3
    assert torch.equal(first([[7, 7]], scores), scores)
    last = rules(GenerationConfig(forced_eos_token_id=5), [1], [4])[0]
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


def test_what_is_not_computed_is_refused_by_name_and_not_ignored():
    with pytest.raises(UnsupportedOption, match="num_beams"):
        GenerationConfig().changed(num_beams=4)
    asked = GenerationConfig.read({"guidance_scale": 2.0, "num_beams": 4, "max_new_tokens": 3})
    assert asked.to_dict() == {"guidance_scale": 2.0, "num_beams": 4, "max_new_tokens": 3}
    with pytest.raises(UnsupportedOption, match="guidance_scale"):
        asked.computed()
    with pytest.raises(UnsupportedOption, match="num_beams"):
        asked.changed(guidance_scale=1.0).computed()
    assert asked.changed(guidance_scale=None, num_beams=1).computed().max_new_tokens == 3
    with pytest.raises(UnsupportedOption, match="max_new_tokens"):
        GenerationConfig().changed(max_new_token=4)
    assert GenerationConfig.read({"num_beams": 1, "use_cache": True, "transformers_version": "5"}).chosen == {}


def test_a_saved_config_is_read_by_the_reference(tmp_path):
    import transformers

    GenerationConfig(max_new_tokens=7, do_sample=True, temperature=0.5, eos_token_id=[1, 2]).save_pretrained(tmp_path)
    again = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (again.max_new_tokens, again.do_sample, again.temperature, again.eos_token_id) == (7, True, 0.5, [1, 2])
