"""Why a text ended, and texts that are cut before a stop string, in whatever pieces they come."""

from __future__ import annotations

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from multihead import AutoModelForCausalLM, AutoTokenizer, TextCallbackStreamer
from multihead.errors import InvalidInput
from multihead.generation.config import GenerationConfig
from multihead.generation.logits.processors import MAX_COST, dry_penalty, loop_penalty, repeated_runs, tokens_with
from multihead.generation.stopping import StopStringFilter, completed_stop, text_before_stop
from tests.tokenizers import folders


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A model and a byte-level tokenizer of as many tokens."""
    root = tmp_path_factory.mktemp("pair")
    (root / "bytes").mkdir()
    folders.bytes_bpe(root / "bytes", "GPT2")
    tokenizer = AutoTokenizer.from_pretrained(root / "bytes")
    config = transformers.GPT2Config(vocab_size=600, n_positions=64, n_embd=8, n_layer=1, n_head=1)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(root / "model")
    return AutoModelForCausalLM.from_pretrained(root / "model"), tokenizer


def writes(wanted, prompt):
    """Allow the wanted tokens alone, one after another."""
    return lambda number, ids: [wanted[min(len(ids) - prompt, len(wanted) - 1)]]


@pytest.mark.parametrize(
    ("options", "length", "reason"),
    [({}, 6, "length"), ({"eos_token_id": 7}, 3, "stop"), ({"eos_token_id": 10}, 6, "stop"),
     ({"max_time": 1e-9}, 1, "length"),
     ({"forced_eos_token_id": 7, "eos_token_id": 7, "max_new_tokens": 3}, 3, "length")], ids=str,
)  # fmt: skip
def test_generate_says_why_each_text_ended(pair, options, length, reason):
    model, _ = pair
    given = {"max_new_tokens": 6, "eos_token_id": [], "pad_token_id": 0, **options}
    allowed = writes([5, 6, 7, 8, 9, 10], 1)
    result = model.generate(
        torch.tensor([[4], [4]]), prefix_allowed_tokens_fn=allowed, return_dict_in_generate=True, **given
    )
    assert result.finish_reasons == [reason, reason]
    assert result.sequences.shape[1] == 1 + length
    assert list(result.keys()) == ["sequences"]  # as the reference's


@pytest.mark.parametrize(
    "strategy",
    [{"num_beams": 3, "num_return_sequences": 2}, {"prompt_lookup_num_tokens": 2}, {"penalty_alpha": 0.6, "top_k": 4},
     {"do_sample": True, "num_return_sequences": 3, "seed": 0}], ids=str,
)  # fmt: skip
def test_every_strategy_says_why_its_texts_ended(pair, strategy):
    model, tokenizer = pair
    prompt, count = tokenizer("hello", return_tensors="pt").input_ids, strategy.get("num_return_sequences", 1)
    asked = {"return_dict_in_generate": True, "pad_token_id": 0, "max_new_tokens": 5, **strategy}
    assert model.generate(prompt, eos_token_id=[], **asked).finish_reasons == ["length"] * count
    stops = {"stopping_criteria": [lambda ids, scores: ids.shape[1] >= prompt.shape[1] + 2]}
    ended = model.generate(prompt, eos_token_id=[], **asked, **stops)
    assert ended.finish_reasons == ["stop"] * count
    assert ended.sequences.shape[1] == prompt.shape[1] + 2


CASES = [("xé more", ["é"], "x"), ("你好。再见", ["。"], "你好"), ("x😀y", ["😀"], "x"), ("hello", ["lo"], "hel"),
         ("aab", ["bx"], "aab"), ("aabc", ["abx", "bc"], "aa"), ("<end", ["<end>"], "<end"),
         ("one\n\ntwo", ["\n\n"], "one"), ("ababac", ["abac"], "ab")]  # fmt: skip


@pytest.mark.parametrize(("text", "stops", "wanted"), CASES)
def test_a_stream_is_cut_before_a_stop_string_in_whatever_tokens_it_comes(text, stops, wanted, pair):
    model, tokenizer = pair
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = []
    streamer = TextCallbackStreamer(tokenizer, pieces.append, skip_prompt=True)
    streamer.cut_before(stops)
    result = model.generate(
        torch.tensor([[5]]), prefix_allowed_tokens_fn=writes(ids, 1), stop_strings=stops, tokenizer=tokenizer,
        max_new_tokens=len(ids), eos_token_id=[], pad_token_id=0, streamer=streamer, return_dict_in_generate=True,
    )  # fmt: skip
    assert "".join(pieces) == wanted
    assert "" not in pieces
    assert streamer.finish_reason == result.finish_reasons[0] == ("length" if wanted == text else "stop")


@given(
    st.text("ab\u00e9", max_size=12),
    st.lists(st.text("ab\u00e9", min_size=1, max_size=4), min_size=1, max_size=3),
    st.data(),
)
def test_pieces_of_any_size_give_the_text_before_the_first_stop_string(text, stops, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    filter_ = StopStringFilter(stops)
    shown = "".join(filter_.add(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))
    shown += filter_.finish()
    found = [text.find(stop) for stop in stops if stop in text]
    if not found:
        assert shown == text
    else:  # the stop string that is complete first ends the text; within one piece the one that begins first
        ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
        assert text.startswith(shown)
        assert min(found) <= len(shown) < min(ends)


def test_a_stop_string_may_begin_in_the_prompt():
    assert text_before_stop("er: hi", "User:", "\nUs") == ""
    assert text_before_stop("no User: hi", "User:", "User:") == "no "
    filter_ = StopStringFilter(["User:"], "\nUs")
    assert [filter_.add(piece) for piece in ("e", "r", ":", " hi")] == ["", "", "", ""]
    other = StopStringFilter(["User:"], "\nUs")
    assert other.add("ually") == "ually"


def test_of_several_stop_strings_the_first_in_the_text_counts():
    assert completed_stop("a", "a b.", [".", "b"]) == "b"
    assert completed_stop("old.", "old. new", ["."]) is None


def test_dry_lowers_what_would_prolong_a_repeated_run_of_new_tokens():
    assert list(repeated_runs([1, 2, 3, 9, 1, 2, 3])) == [(9, 3, 4)]
    assert list(repeated_runs([1, 2, 3, 9, 1, 2, 3], frozenset([2]))) == [(9, 1, 4)]
    assert list(repeated_runs([1, 2, 3, 9, 1, 2, 3], frozenset([3]))) == []
    assert list(repeated_runs([5])) == list(repeated_runs([])) == []
    assert max(length for _, length, _ in repeated_runs([1] * 300)) == 128
    penalize = dry_penalty(2.0, 3.0, 2, prompt=3)
    scores = torch.zeros(1, 12)
    assert penalize([[1, 2, 3, 7, 8, 9, 7, 8]], scores)[0].tolist() == [0.0] * 9 + [-2.0, 0.0, 0.0]
    assert penalize([[4, 5, 6, 7, 8, 9, 4, 5]], scores).equal(scores)  # only the prompt has the run
    assert penalize([[0, 0, 0, 5, 6, 7, 9, 5, 6, 7]], scores)[0, 9] == -6.0
    assert scores.equal(torch.zeros(1, 12))


def test_a_large_base_of_dry_costs_the_most_and_overflows_nothing():
    tokens = [[1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]]
    for base, cost in ((1e300, MAX_COST), (1.0, 2.0), (2.0, 2.0 * 2**4)):
        assert dry_penalty(2.0, base, 1, 0)(tokens, torch.zeros(1, 9))[0].tolist() == [0.0] * 6 + [-cost, 0.0, 0.0]


def test_dry_ends_a_loop_and_off_changes_nothing(pair):
    model, _ = pair
    given = {"max_new_tokens": 40, "eos_token_id": [], "pad_token_id": 0}
    plain = model.generate(torch.tensor([[4]]), **given)[0, 1:].tolist()
    assert len(set(zip(plain, plain[1:], plain[2:], strict=False))) < 30  # a random model repeats itself
    assert model.generate(torch.tensor([[4]]), dry_multiplier=0.0, **given)[0, 1:].tolist() == plain
    dry = model.generate(torch.tensor([[4]]), dry_multiplier=5.0, dry_allowed_length=2, **given)[0, 1:].tolist()
    runs = list(zip(dry, dry[1:], dry[2:], dry[3:], strict=False))
    assert len(set(runs)) == len(runs)
    for wrong in ({"dry_multiplier": -1.0}, {"dry_base": 0.5}, {"dry_allowed_length": 0}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            GenerationConfig(**wrong)


def test_structure_breaks_runs_and_costs_nothing(pair):
    _, tokenizer = pair
    text = 'the fox jumps {"fox": 1} the fox jumps {'
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    breakers = tokens_with(tokenizer, ["{", '"'])
    assert {tokenizer.decode([token]) for token in breakers} >= {"{", '"'}
    scores = torch.zeros(1, 600)
    assert not dry_penalty(1.0, 1.75, 2, 0)([ids], scores).equal(scores)
    assert dry_penalty(1.0, 1.75, 2, 0, breakers)([ids], scores).equal(scores)
    assert dry_penalty(1.0, 1.75, 2, 0, breakers)([ids[:-1]], scores).equal(scores)  # { itself stays free


@pytest.mark.parametrize(
    ("tokens", "costs"),
    [([5] * 8, {}), ([5] * 9, {5: 1.0}), ([5] * 11, {5: 1.2**2}), ([5, 6, 7] * 3, {}),
     ([1, *[5, 6, 7, 8, 9, 10] * 3], {5: 1.0}), ([5, 6, 1, 7, 5, 6, 2, 7, 5, 6, 3, 7, 5, 6, 4, 7], {}),
     ([*range(60), 70, *range(60)], {70: 1.2**20}), ([*range(39), 70, *range(39)], {})], ids=str,
)  # fmt: skip
def test_a_loop_costs_more_and_more_and_what_is_alike_but_not_equal_nothing(tokens, costs):
    found = loop_penalty(1.0, 2)([[98, 99, *tokens]], torch.zeros(1, 100))[0]
    assert {token: -value for token, value in enumerate(found.tolist()) if value} == pytest.approx(costs)
    assert loop_penalty(1.0, 2 + len(tokens))([[98, 99, *tokens]], torch.zeros(1, 100)).eq(0).all()


def test_breakers_need_the_tokenizer_and_a_text(pair):
    model, _ = pair
    with pytest.raises(InvalidInput, match="tokenizer"):
        model.generate(torch.tensor([[4]]), dry_multiplier=1.0, dry_sequence_breakers=["x"])
    with pytest.raises(InvalidInput, match="empty"):
        GenerationConfig(dry_sequence_breakers=[""])
