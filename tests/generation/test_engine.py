"""Requests that come and go at any time get what each alone would get, and leave nothing behind."""

from __future__ import annotations

import random

import pytest
import torch

from multihead import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig
from multihead.errors import MemoryFull
from multihead.generation.engine.scheduler import Engine
from multihead.generation.generate import generate_tokens, submit_job
from multihead.generation.strategies.base import Extras, GenerationJob

from ..parity.case import reference
from ..parity.cases import CASES

ROWS = {case.name: case for case in CASES}
SETTINGS = (
    {},
    {"num_beams": 3},
    {"do_sample": True, "seed": 3, "top_k": 8},
    {"do_sample": True, "seed": 9, "num_return_sequences": 2},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3},
    {"guidance_scale": 1.5},
)


class Counted:
    """A model that counts the tokens it reads."""

    def __init__(self, model):
        self.model, self.tokens, self.most = model, 0, 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def read(self, ids, runs, memory, capture=None):
        self.tokens += len(ids)
        self.most = max(self.most, len(ids))
        return self.model.read(ids, runs, memory, capture)


@pytest.fixture(scope="module", params=["llama", "mistral", "mamba", "falcon-h1", "nemotron-h", "gemma3"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    reference(ROWS[request.param], "ForCausalLM").save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def job(tokens, options, new=6, **more):
    config = GenerationConfig(max_new_tokens=new, eos_token_id=[3, 17], **options)
    return GenerationJob(tokens, config, len(tokens) + new, **more)


def prompt(draw, low=1, high=40):
    """Half of them begin alike, so that they share blocks."""
    begin = [7] * draw.choice([0, 33, 70])
    return begin + [draw.randrange(4, 90) for _ in range(draw.randrange(low, high))]


def alone(model, one):
    return generate_tokens(model, [one.prompt], one.config)


def bytes_of(model, tokens):
    return Engine(model, memory=10**9).store.bytes_for(tokens)


@pytest.mark.parametrize("tight", [False, True], ids=["free", "tight"])
def test_requests_that_enter_at_any_time_get_what_each_alone_gets(model, tight):
    draw = random.Random(0)
    engine = Engine(model, memory=bytes_of(model, 140) * 3 if tight else None, max_tokens=48)
    jobs = [job(prompt(draw), draw.choice(SETTINGS), new=draw.randrange(1, 30)) for _ in range(24)]
    for one in jobs:
        submit_job(engine, one)
        for _ in range(draw.randrange(4)):
            engine.step()
    engine.run()
    assert engine.store.num_used == 0
    for one in jobs:
        assert one.results == alone(model, one), f"{one.config.file_entries} after {len(one.prompt)} tokens"


@pytest.mark.parametrize(
    "options",
    [
        lambda n: {"suppress_tokens": [20 + n]},
        lambda n: {"suppress_tokens": [20 + n], "num_beams": 2},
        lambda n: {"do_sample": True, "seed": n, "top_k": 2 + n},
        lambda n: {"do_sample": True, "seed": n, "temperature": 0.5 + n / 10, "top_k": 6},
    ],
    ids=["bans", "beams", "top_k", "temperature"],
)
def test_requests_that_all_ask_for_something_else_get_what_each_alone_gets(model, options):
    draw, engine = random.Random(2), Engine(model)
    jobs = [job(prompt(draw), options(n)) for n in range(9)]
    for one in jobs:
        submit_job(engine, one)
    engine.run()
    for one in jobs:
        assert one.results == alone(model, one), one.config.file_entries


@pytest.mark.parametrize("options", [{"penalty_alpha": 0.6, "top_k": 4}, {"output_hidden_states": True}], ids=str)
def test_what_must_be_seen_of_a_whole_prompt_is_read_in_one_pass(model, options):
    draw, found = random.Random(3), []
    texts = [[draw.randrange(4, 90) for _ in range(length)] for length in (20, 45, 33, 90)]
    for tokens in (32, 100_000):
        engine, jobs = Engine(model, max_tokens=tokens), [job(text, options) for text in texts]
        requests = [submit_job(engine, one) for one in jobs]
        engine.run()
        assert [request.error for request in requests] == [None] * 4
        found.append(jobs)
    for one, other in zip(*found, strict=True):
        assert one.results == other.results
        for step, same in zip(one.steps, other.steps, strict=True):
            for record, known in zip(step.records, same.records, strict=True):
                torch.testing.assert_close(record.hidden, known.hidden, rtol=1e-4, atol=1e-4)
    if "output_hidden_states" in options:
        assert [len(one.steps[0].records[0].hidden[0]) for one in found[0]] == [20, 45, 33, 90]


def test_a_prompt_that_is_read_whole_waits_for_no_text_that_grows(model):
    engine = Engine(model, max_tokens=32)
    grows = submit_job(engine, job([5, 6], {}, new=60))
    for _ in range(5):
        engine.step()
    short = submit_job(engine, job([7] * 32, {"penalty_alpha": 0.6, "top_k": 2}, new=2))
    for _ in range(6):
        engine.step()
    assert short.done
    assert not grows.done
    engine.close()


def test_two_thousand_requests_and_many_cancelled_leave_every_block_free(model):
    draw = random.Random(1)
    engine = Engine(model, memory=bytes_of(model, 300) * 6, max_tokens=256)
    requests = []
    for _ in range(400 if model.config.model_type != "llama" else 2000):
        one = job(prompt(draw, high=20), draw.choice(SETTINGS), new=draw.randrange(1, 9))
        requests.append(submit_job(engine, one))
        if draw.random() < 0.3:
            engine.step()
        if draw.random() < 0.1:
            draw.choice(requests[-20:]).cancel()
        assert engine.store.budget.free >= 0
    engine.run()
    assert all(request.done and request.error is None for request in requests)
    assert not any(request.sequences for request in requests)
    assert engine.store.num_used == 0
    assert engine.store.budget.used == sum(pool.size * pool.idle for pool in engine.store.pools.values())


def test_what_two_prompts_begin_with_is_read_once(model):
    counted = Counted(model)
    engine = Engine(counted)
    shared = [5] * 200
    results = []
    for end in (8, 9):
        one = job([*shared, end], {})
        before = counted.tokens
        submit_job(engine, one)
        engine.run()
        results.append(counted.tokens - before)
        assert one.results == alone(model, one)
    assert results[1] < 20 if engine.store.shares else results[1] > 200


def test_requests_that_enter_together_read_their_common_beginning_once(model):
    counted, begin = Counted(model), [7, 8, 9, 10] * 24
    jobs = [job([*begin, 20 + i], {}, new=3) for i in range(6)]
    engine = Engine(counted)
    for one in jobs:
        submit_job(engine, one)
    engine.run()
    most = len(begin) + 6 * (3 + 64) if engine.store.shares else 6 * (len(begin) + 3)
    assert counted.tokens <= most
    for one in jobs:
        assert one.results == alone(model, one)


@pytest.mark.parametrize("options", [{"penalty_alpha": 0.6, "top_k": 3}, {"output_hidden_states": True}], ids=str)
def test_what_needs_every_state_reads_a_known_beginning_again(model, options):
    if "penalty_alpha" in options and not Engine(model).store.shares:
        pytest.skip("a recurrence remembers no beginning for others")
    engine = Engine(model)
    submit_job(engine, job([7] * 70, {}, new=3))
    engine.run()
    one = job([7] * 70, options, new=4)
    submit_job(engine, one)
    engine.run()
    assert one.results == alone(model, one)
    if "penalty_alpha" not in options:
        assert one.steps[0].records[0].hidden[0].shape[0] == 70


def test_several_continuations_read_their_prompt_once(model):
    counted = Counted(model)
    engine = Engine(counted)
    submit_job(engine, job([5] * 100, {"num_beams": 4}, new=3))
    engine.run()
    assert counted.tokens <= 100 + 4 * 3


def test_a_long_prompt_is_read_in_parts_while_others_go_on(model):
    counted = Counted(model)
    engine = Engine(counted, max_tokens=32)
    short, long = job([5, 6], {}, new=20), job([4] * 300, {}, new=2)
    short.config = short.config.changed(eos_token_id=None)
    submit_job(engine, short)
    engine.step()
    submit_job(engine, long)
    engine.step()
    said = len(short.results[0])
    engine.step()
    assert len(short.results[0]) == said + 1
    assert not long.results or not long.results[0]
    engine.run()
    assert counted.most <= 32
    assert long.results == alone(model, long)


def test_a_pace_below_the_number_of_texts_holds_none_of_them_back(model):
    engine = Engine(model, stall=1e-9)
    engine.pace.tokens = 2
    engine.pace.stall = None  # stays as it is
    grow = [job([5, n], {}, new=40) for n in range(4, 12)]
    for one in grow:
        one.config = one.config.changed(eos_token_id=None)
        submit_job(engine, one)
    engine.step()
    late = job([4] * 9, {}, new=2)
    submit_job(engine, late)
    before = [len(one.results[0]) for one in grow]
    for _ in range(8):
        engine.step()
    assert late.results == alone(model, late)
    assert min(len(one.results[0]) - said for one, said in zip(grow, before, strict=True)) >= 8
    engine.close()


def test_one_request_that_fails_takes_no_other_with_it(model):
    def broken(ids, scores):
        raise ZeroDivisionError("the caller's own")

    engine = Engine(model)
    wrong = submit_job(engine, job([5, 6, 7], {}, extras=Extras(processors=[broken])))
    right = job([5, 6, 7], {})
    submit_job(engine, right)
    engine.run()
    assert isinstance(wrong.error, ZeroDivisionError)
    assert right.results == alone(model, right)
    assert engine.store.num_used == 0


def test_a_request_that_can_never_fit_is_refused_before_any_work(model):
    counted = Counted(model)
    engine = Engine(counted, memory=bytes_of(model, 64))
    before = counted.tokens
    if engine.store.pools:
        with pytest.raises(MemoryFull, match="more memory"):
            submit_job(engine, job([5] * 50, {"num_beams": 50}, new=50))
        assert counted.tokens == before
        assert not engine.busy
    fits = job([5, 6], {}, new=3)
    submit_job(engine, fits)
    engine.run()
    assert fits.results == alone(model, fits)


def test_a_windows_memory_is_bounded_by_the_window(tmp_path):
    reference(ROWS["mistral"], "ForCausalLM").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    engine = Engine(model, max_tokens=32)
    one = job([5] * 300, {}, new=300)
    one.config = one.config.changed(eos_token_id=None)
    submit_job(engine, one)
    most = 0
    while engine.busy:
        engine.step()
        most = max(most, engine.store.num_used)
    assert most <= 5  # blocks of 32 for a window of a few tokens
    assert len(one.results[0]) == 300


def test_sources_of_other_requests_do_not_mix(tmp_path):
    reference(ROWS["t5"], "ForConditionalGeneration").save_pretrained(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    draw, engine = random.Random(2), Engine(model)
    jobs, expected = [], []
    for _ in range(12):
        source = [draw.randrange(4, 90) for _ in range(draw.randrange(1, 30))]
        options = draw.choice(SETTINGS)
        with torch.inference_mode():
            encoder_output = model.encode_texts([source])
        one = job([0], options, new=draw.randrange(1, 12), encoder_output=encoder_output, source=source)
        expected.append(generate_tokens(model, [[0]], one.config, encoder_output=encoder_output))
        jobs.append(one)
        submit_job(engine, one)
        engine.step()
    engine.run()
    assert [one.results for one in jobs] == expected
    assert engine.store.num_used == 0


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_a_prompt_that_is_read_beside_growing_texts_changes_none_of_their_scores(precision, tmp_path):
    """Decode steps and prompts are computed in different ways; in one pass, scores would be rounded in another way."""
    import transformers

    wide = transformers.LlamaConfig(
        vocab_size=96, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(wide).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, precision=precision)
    draw = random.Random(5)
    prompts = [[draw.randrange(4, 90) for _ in range(draw.randrange(20, 60))] for _ in range(6)]

    def scores(one):
        return [step.logits.tolist() for step in one.steps]

    options = {"output_logits": True, "return_dict_in_generate": True}
    expected = []
    for tokens in prompts:
        engine = Engine(model)
        expected.append(job(tokens, options, new=12))
        submit_job(engine, expected[-1])
        engine.run()
        engine.store.evict_idle()
        engine.close()
    engine, late = Engine(model), []
    for tokens in prompts:  # each comes while those before grow
        late.append(job(tokens, options, new=12))
        submit_job(engine, late[-1])
        engine.step()
        engine.step()
    engine.run()
    engine.close()
    assert [scores(one) for one in late] == [scores(one) for one in expected]
    assert [list(one.results[0]) for one in late] == [list(one.results[0]) for one in expected]
