"""An engine in a thread of its own answers each request as if it were alone, and fails each alone."""

from __future__ import annotations

import queue
import random
import subprocess
import sys
import threading
import time
from functools import cache

import pytest
import torch

from multihead import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from multihead.errors import InvalidInput, MemoryFull, ScoresNotFinite, UnsupportedOption
from multihead.generation.abandonment import Abandoned, Abandonment
from multihead.generation.engine_thread import EngineStopped, EngineThread, NewToken, PromptRead
from multihead.generation.generate import generate_tokens
from multihead.generation.prompt_salt import prompt_salt
from multihead.generation.strategies.base import Extras

from ..parity.case import reference
from ..parity.cases import CASES
from .asking import Asked, config

ROWS = {case.name: case for case in CASES}
SETTINGS = (
    {},
    {"num_beams": 3, "num_return_sequences": 2},
    {"do_sample": True, "seed": 3, "top_k": 8},
    {"do_sample": True, "seed": 9, "num_return_sequences": 3},
    {"repetition_penalty": 1.4},
    {"guidance_scale": 1.5},
    {"prompt_lookup_num_tokens": 3},
    {"penalty_alpha": 0.6, "top_k": 3},
)


@pytest.fixture(scope="module", params=["llama", "gemma3", "falcon-h1"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    folder = tmp_path_factory.mktemp(family)
    reference(ROWS[family], "ForCausalLM").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    engine = EngineThread(AutoModelForCausalLM.from_pretrained(folder))
    yield engine
    assert engine.alive
    engine.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a decoder with a cache of keys and values alone."""
    folder = tmp_path_factory.mktemp("plain")
    reference(ROWS["llama"], "ForCausalLM").save_pretrained(folder)
    return folder


@pytest.fixture
def llama(plain):
    engine = EngineThread(AutoModelForCausalLM.from_pretrained(plain), memory=1 << 24)
    yield engine
    engine.close()


def words(draw, count):
    return [draw.randrange(4, 90) for _ in range(count)]


@cache
def model_of(folder):
    """A model of a folder that no engine hosts."""
    return AutoModelForCausalLM.from_pretrained(folder)


def alone(folder, prompt, settings):
    return generate_tokens(model_of(folder), [prompt], settings)


def test_each_of_many_requests_gets_what_it_gets_alone(engine, folder):
    draw = random.Random(0)
    prompts = [[7] * draw.choice([0, 33, 70]) + words(draw, draw.randrange(1, 30)) for _ in range(16)]
    asked = [Asked(engine, prompt, config(9, **SETTINGS[n % len(SETTINGS)])) for n, prompt in enumerate(prompts)]
    for one, prompt in zip(asked, prompts, strict=True):
        results = one.results
        assert results == alone(folder, prompt, one.request.config)
        for number, result in enumerate(results):  # every continuation is told token by token
            assert [event.token for event in one.tokens(number)] == result
        assert isinstance(one.events[0], PromptRead)


@pytest.mark.parametrize(
    "options",
    [{}, {"do_sample": True, "seed": 4, "num_return_sequences": 3, "temperature": 0.3, "repetition_penalty": 1.5},
     {"prompt_lookup_num_tokens": 3}, {"guidance_scale": 1.5}],
    ids=str,
)  # fmt: skip
def test_log_probabilities_are_those_of_the_references_logits(engine, family, folder, options):
    draw, kind = random.Random(1), reference(ROWS[family], "ForCausalLM")
    prompt = [9] * 40 + words(draw, 300)  # longer than one part of a prompt that is scored
    one = Asked(engine, prompt, config(5, **options), logprobs=4, prompt_logprobs=2)
    results = one.results
    assert results == alone(folder, prompt, config(5, **options))
    for number, result in enumerate(results):
        with torch.no_grad():
            scores = kind(torch.tensor([[*prompt, *result]])).logits[0].float().log_softmax(-1)
        for place, event in enumerate(one.tokens(number)):
            row = scores[len(prompt) - 1 + place]
            check(row, event.token, event.logprob, event.top, 4)
    assert len(one.prompt.logprobs) == len(prompt) - 1
    assert one.prompt.cached_tokens == 0
    for place, (logprob, top) in enumerate(one.prompt.logprobs):
        check(scores[place], prompt[place + 1], logprob, top, 2)


def check(row, token, logprob, top, count):
    """Compare with the reference's log-probabilities of a place, (vocabulary,)."""
    assert logprob == pytest.approx(row[token].item(), abs=2e-3)
    values = torch.tensor([value for _, value in top])
    torch.testing.assert_close(values, row.topk(count).values, rtol=0, atol=2e-3)
    torch.testing.assert_close(values, row[[token for token, _ in top]], rtol=0, atol=2e-3)


def test_requests_without_a_seed_get_different_texts(llama):
    asked = [Asked(llama, [5, 6], config(20, do_sample=True, temperature=2.0)) for _ in range(3)]
    assert len({tuple(one.results[0]) for one in asked}) == 3


def test_a_prompt_alone_is_scored_and_left_for_others(llama):
    prompt = words(random.Random(2), 75)
    scored = Asked(llama, prompt, prompt_only=True, prompt_logprobs=0)
    (result,) = scored.results
    assert (result, result.finish_reason) == ([], "length")
    assert len(scored.prompt.logprobs) == 74
    assert not scored.tokens()
    again = Asked(llama, prompt)
    again.wait()
    assert again.prompt.cached_tokens == 64  # at least 9 tokens are read again
    assert Asked(llama, [5], prompt_only=True, prompt_logprobs=3).results == [[]]


@pytest.mark.parametrize("given", [-1, 257])
def test_log_probabilities_that_are_not_computed_are_refused(llama, given):
    with pytest.raises(InvalidInput, match="from 0 to 256"):
        _ = Asked(llama, [5, 6], logprobs=given).results
    with pytest.raises(UnsupportedOption, match="num_beams"):
        _ = Asked(llama, [5, 6], config(num_beams=2), logprobs=1).results


def test_a_request_ends_within_a_step_of_its_cancellation(llama):
    one, other = Asked(llama, [5, 6], config(5000)), Asked(llama, [8, 9], config(300))
    one.wait(NewToken)
    one.cancel()
    ended = one.wait()
    assert ended.error is None
    (result,) = ended.results
    assert 0 < len(result) < 5000
    assert result.finish_reason == "abort"
    assert [event.token for event in one.tokens()] == result
    assert len(other.results[0]) == 300
    one.cancel()  # again, and after its end
    assert Asked(llama, [5, 6]).results
    assert one.box.empty()


def test_a_request_that_waits_is_cancelled_too(plain):
    engine = EngineThread(AutoModelForCausalLM.from_pretrained(plain), max_sequences=1, memory=1 << 24)
    runs = Asked(engine, [5, 6], config(5000))
    runs.wait(NewToken)
    waits = Asked(engine, [5, 6], config(5, do_sample=True, num_return_sequences=2))
    waits.cancel()
    assert [result.finish_reason for result in waits.wait().results] == ["abort", "abort"]
    assert not runs.request.ended
    engine.close()
    assert isinstance(runs.wait().error, EngineStopped)


def test_a_wrong_request_fails_alone(llama, plain):
    right = Asked(llama, [5, 6], config(200))

    def broken(ids, scores):
        raise ZeroDivisionError("the caller's own")

    def not_finite(ids, scores):
        return scores * torch.nan

    wrong = {
        InvalidInput: [Asked(llama, [5, 5000]), Asked(llama, []), Asked(llama, [-1]),
                       Asked(llama, [5], config(regex="("))],
        ZeroDivisionError: [Asked(llama, [5, 6], extras=Extras(processors=[broken]))],
        ScoresNotFinite: [Asked(llama, [5, 6], extras=Extras(processors=[not_finite]))],
        MemoryFull: [Asked(llama, [5, 6], config(10_000_000))],
    }  # fmt: skip
    for error, asked in wrong.items():
        for one in asked:
            with pytest.raises(error):
                _ = one.results
    assert right.results == alone(plain, [5, 6], config(200))
    assert llama.alive


def test_a_listener_that_fails_ends_its_request_alone(llama):
    calls = []

    def fails(events):
        calls.append(events)
        raise ZeroDivisionError("the caller's own")

    one = Asked(llama, [5, 6], config(5000))
    one.request.listener = fails
    assert len(Asked(llama, [8, 9], config(50)).results[0]) == 50
    assert llama.running <= 1
    assert calls


def test_the_call_after_a_step_comes_once_for_all_that_share_it(llama):
    told, calls = [], []

    def after():
        calls.append(len(told))

    begin = threading.Event()
    blocked = Asked(llama, [3, 4], config(1))
    blocked.request.listener = lambda events: begin.wait(60)  # until all are in the inbox
    asked = [Asked(llama, [5, 6 + number], config(40), after_step=after) for number in range(4)]
    for one in asked:
        one.request.listener = lambda events, box=one.box: (told.append(events), box.put(events))
    begin.set()
    assert all(len(one.results[0]) == 40 for one in asked)
    assert len(told) > 4 * 30
    assert calls == sorted(set(calls)), "after each step that told something, once"
    assert len(calls) < 60
    wrong = Asked(llama, [], config(40), after_step=after)
    with pytest.raises(InvalidInput):
        _ = wrong.results


def test_an_engine_that_fails_ends_all_requests_and_says_why(llama, monkeypatch):
    asked = [Asked(llama, [5, 6], config(5000)), Asked(llama, [8], config(5000))]
    asked[1].wait(NewToken)

    def broken(batch):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(llama._engine.runner(), "forward", broken)
    for one in asked:
        error = one.wait().error
        assert isinstance(error, EngineStopped)
        assert "CUDA" not in str(error)
        assert "CUDA" in str(error.__cause__)
    llama.thread.join(10)
    assert not llama.alive
    assert "CUDA" in str(llama.error)
    with pytest.raises(EngineStopped):
        Asked(llama, [5, 6])
    assert llama.stalled == 0


def test_an_engine_that_drains_ends_what_runs_and_takes_nothing_new(plain):
    engine = EngineThread(AutoModelForCausalLM.from_pretrained(plain), max_sequences=1, memory=1 << 24)
    asked = [Asked(engine, [5, 6], config(50)) for _ in range(3)]
    closing = threading.Thread(target=engine.close, kwargs={"drain": True})
    closing.start()
    while engine.alive:
        time.sleep(0.001)
    with pytest.raises(EngineStopped):
        Asked(engine, [5, 6])
    assert [len(one.results[0]) for one in asked] == [50] * 3
    closing.join(10)
    assert engine.error is None


def test_a_drain_has_an_end(llama):
    one = Asked(llama, [5, 6], config(10_000))
    one.wait(NewToken)
    llama.close(drain=True, timeout=0.05)
    assert isinstance(one.wait().error, EngineStopped)


def test_the_next_turn_of_a_conversation_reads_its_new_tokens_alone(llama, plain):
    text = words(random.Random(3), 50)
    for _ in range(4):
        before = llama.statistics.tokens
        one = Asked(llama, text, config(40))
        (said,) = one.results
        read = llama.statistics.tokens - before
        assert said == alone(plain, text, config(40))[0]
        known = one.prompt.cached_tokens
        assert read <= len(text) - known + 48  # a call of the runner makes some steps more
        text = [*text, *said, *words(random.Random(len(text)), 20)]
    assert known > 150
    assert llama.statistics.prefix_hits > 0.5 * llama.statistics.prefix_queries


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_cached_prompt_changes_no_number(plain, precision):
    """Products of few rows may add in another order: the last pass over a prompt has more rows than that."""
    engine = EngineThread(AutoModelForCausalLM.from_pretrained(plain, precision=precision))
    prompt = words(random.Random(6), 96)
    Asked(engine, prompt, config(4)).wait()
    for tail, cached in ((1, 32), (2, 32), (8, 32), (9, 64), (20, 64)):
        known = Asked(engine, prompt[: 64 + tail], config(4), logprobs=2)
        expected = known.results
        new = Asked(engine, prompt[: 64 + tail], config(4), logprobs=2, cache_salt=b"%d" % tail)
        assert (new.results, new.tokens()) == (expected, known.tokens())
        assert (known.prompt.cached_tokens, new.prompt.cached_tokens) == (cached, 0)
    engine.close()


def test_prompts_of_another_salt_share_nothing(llama):
    prompt, known = words(random.Random(4), 110), []
    for salt in (b"a", b"b", b"a", b""):
        one = Asked(llama, prompt, cache_salt=salt)
        one.wait()
        known.append(one.prompt.cached_tokens)
    assert known == [0, 0, 96, 0]


def test_generate_shares_prompts_under_one_salt_alone(llama):
    text = words(random.Random(8), 110)

    def found(salt):
        before = llama.statistics.prefix_hits
        with prompt_salt(salt):
            generate_tokens(llama.model, [text], config(3))
        return llama.statistics.prefix_hits - before

    assert found(b"a") == 0
    assert found(b"b") == 0
    assert found(b"") == 0
    assert found(b"a") == 96  # whole blocks of 32


def test_what_is_idle_gives_room_to_what_runs(plain):
    model = AutoModelForCausalLM.from_pretrained(plain)
    one_block = 32 * 2 * 2 * 8 * 2 * 4
    engine, draw = EngineThread(model, memory=24 * one_block), random.Random(5)
    for _ in range(30):
        prompt = words(draw, draw.randrange(1, 100))
        assert Asked(engine, prompt, config(12)).results == alone(plain, prompt, config(12))
    asked = [Asked(engine, words(draw, 90), config(60)) for _ in range(8)]
    for one in asked:
        assert one.results == alone(plain, one.request.prompt, config(60))
    assert 0 <= engine.cache_usage <= 1
    engine.close()


def test_generate_and_requests_share_an_engine(engine, folder):
    prompts = [words(random.Random(n), 20) for n in range(4)]
    expected = [alone(folder, prompt, config(20)) for prompt in prompts]
    asked = [Asked(engine, prompt, config(20)) for prompt in prompts]
    before = engine.statistics.tokens
    told = []

    class Streamer:
        def put(self, value):
            told.append((threading.current_thread(), value.flatten().tolist()))

        def end(self):
            told.append(None)

    assert generate_tokens(engine.model, prompts, config(20)) == [one for each in expected for one in each]
    assert engine.statistics.tokens > before
    assert generate_tokens(engine.model, prompts[:1], config(20), streamer=Streamer()) == expected[0]
    assert [one.results for one in asked] == expected
    assert told.pop() is None
    assert {thread for thread, _ in told} == {threading.current_thread()}
    assert [token for _, tokens in told[1:] for token in tokens] == expected[0][0]
    with pytest.raises(InvalidInput):
        generate_tokens(engine.model, [[5, 5000]], config())


def test_an_encoder_decoder_is_hosted(tmp_path):
    reference(ROWS["t5"], "ForConditionalGeneration").save_pretrained(tmp_path)
    model, draw = AutoModelForSeq2SeqLM.from_pretrained(tmp_path), random.Random(6)
    sources = [torch.tensor([words(draw, draw.randrange(1, 30))]) for _ in range(6)]
    expected = [model.generate(source, max_new_tokens=12, num_beams=1 + n % 2) for n, source in enumerate(sources)]
    engine, found = EngineThread(model), {}

    def ask(number):
        found[number] = model.generate(sources[number], max_new_tokens=12, num_beams=1 + number % 2)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert engine.statistics.tokens > 0
    engine.close()
    for number, tokens in enumerate(expected):
        assert torch.equal(found[number], tokens)


def test_what_is_abandoned_ends_within_a_step(llama):
    abandonment, ended = Abandonment(), queue.SimpleQueue()

    def work():
        with abandonment.watch():
            try:
                generate_tokens(llama.model, [[5, 6], [7, 8]], config(5000))
            except Abandoned as error:
                ended.put(error)
            with pytest.raises(Abandoned):  # a pipeline's next call does not begin
                generate_tokens(llama.model, [[5, 6]], config(5000))
        ended.put(generate_tokens(llama.model, [[5, 6]], config(3)))

    thread = threading.Thread(target=work)
    thread.start()
    while llama.running < 2:
        time.sleep(0.001)
    abandonment.abandon()
    assert isinstance(ended.get(timeout=5), Abandoned)
    assert ended.get(timeout=60) == generate_tokens(llama.model, [[5, 6]], config(3))
    thread.join()
    assert llama.alive
    assert not llama.busy


def test_a_program_may_end_without_closing_its_engine(plain):
    program = (
        "import sys; from multihead import AutoModelForCausalLM; "
        "from multihead.generation.engine_thread import EngineThread; "
        "engine = EngineThread(AutoModelForCausalLM.from_pretrained(sys.argv[1])); print('end')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(plain)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
