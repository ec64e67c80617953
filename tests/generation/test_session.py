"""A session continues prompts as `generate` does, and reads only the tokens that it has not read before."""

from __future__ import annotations

import random

import pytest
import torch

from multihead import AutoModelForCausalLM, GenerationConfig, LoraConfig
from multihead.errors import InvalidInput, TextTooLong, UnsupportedConfig
from multihead.generation.generate import generate_tokens
from multihead.generation.session import GenerationSession
from multihead.nn.own_names import own_parameters

from ..parity.case import reference
from ..parity.cases import CASES

ROWS = {case.name: case for case in CASES}
FAMILIES = ["llama", "mistral", "gemma3", "mamba", "falcon-h1", "lfm2", "bloom", "rwkv", "xlstm"]
RECURRENT = {"mamba", "falcon-h1", "lfm2", "rwkv", "xlstm"}
NEW = 7


class Reads:
    """Counts the tokens of a session's passes."""

    def __init__(self, session):
        self.session, self.runner, self.tokens = session, None, 0

    def prefilled(self, prompt, **options):
        """Continue a prompt; return the new tokens, and the tokens that were read before the first of them."""
        session, self.tokens = self.session, 0
        engine, _ = session._open()
        runner = engine.runner()
        if self.runner is not runner:
            self.runner, forward = runner, runner.forward

            def counted(batch):
                self.tokens += sum(map(len, batch.tokens))
                return forward(batch)

            runner.forward = counted
        before = self.tokens
        result = session.generate(prompt, config(**options))
        steps = len(result.continuation) - 1  # one token a step, the last one is not read
        assert self.tokens - before - steps == len(prompt) - result.cached_tokens
        return result.continuation, len(prompt) - result.cached_tokens


def config(**options):
    return GenerationConfig(**{"max_new_tokens": NEW, "eos_token_id": [], **options})


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    reference(ROWS[request.param], "ForCausalLM").save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.decode_runner = "eager"  # reads one token a pass, so that they can be counted
    return request.param, model


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    reference(ROWS["llama"], "ForCausalLM").save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def words(draw, count):
    return [draw.randrange(4, 90) for _ in range(count)]


def test_the_next_turn_reads_its_new_tokens_alone_and_says_the_same(family):
    _, model = family
    draw, reads = random.Random(0), Reads(GenerationSession(model))
    prompt = words(draw, 40)
    for turn in range(4):
        said, read = reads.prefilled(prompt)
        assert said == generate_tokens(model, [prompt], config())[0]
        # the last token of an answer has not been read, as no token came after it
        assert read == (40 if turn == 0 else 1 + 9)
        prompt = [*prompt, *said, *words(draw, 9)]


def test_the_same_question_again_and_one_taken_back_say_the_same(family):
    name, model = family
    draw, reads = random.Random(1), Reads(GenerationSession(model))
    first = words(draw, 40)
    said, _ = reads.prefilled(first)
    second = [*first, *said, *words(draw, 5)]
    reads.prefilled(second)
    again, read = reads.prefilled(second)
    assert again == generate_tokens(model, [second], config())[0]
    # a recurrent state cannot be cut back: that after the first answer goes on
    assert read == (6 if name in RECURRENT else 1)
    other = [*first, *said, *words(draw, 6)]
    answer, read = reads.prefilled(other)
    assert answer == generate_tokens(model, [other], config())[0]
    assert read == (7 if name in RECURRENT else 6)


def test_a_template_that_writes_the_answer_otherwise_costs_the_answer_alone(family):
    _, model = family
    draw, reads = random.Random(2), Reads(GenerationSession(model))
    prompt = words(draw, 45)
    reads.prefilled(prompt)
    rewritten = [*prompt, *words(draw, 12)]  # without its thoughts
    answer, read = reads.prefilled(rewritten)
    assert answer == generate_tokens(model, [rewritten], config())[0]
    assert read == 12


def test_random_prompts_that_share_beginnings_say_the_same_within_bounded_memory(family):
    _, model = family
    draw, session = random.Random(3), GenerationSession(model)
    known = [words(draw, 30)]
    for number in range(16):
        begin = draw.choice(known)
        prompt = [
            *begin[: draw.choice([len(begin), draw.randrange(1, len(begin))])],
            *words(draw, draw.randrange(1, 50)),
        ]
        prompt = prompt[-120:] if draw.random() < 0.2 else prompt[:120]
        options = draw.choice(
            [{}, {"do_sample": True, "seed": number}, {"num_beams": 2}, {"dry_multiplier": 1.0},
             {"penalty_alpha": 0.6, "top_k": 3}, {"prompt_lookup_num_tokens": 3}, {"guidance_scale": 1.5}]
        )  # fmt: skip
        said = session.generate(prompt, config(**options)).continuation
        assert said == generate_tokens(model, [prompt], config(**options))[0], options
        known = [*known[-3:], [*prompt, *said]]
        pools = session._engine.store.pools.values()
        assert not any(pool.idle for pool in pools)
        assert all(pool.num_used <= 5 * (session._prefixes.size + 1) for pool in pools)
        assert len(session._prefixes.kept) <= session._prefixes.size
    session.close()
    assert session._engine is None


def test_a_stopped_answer_goes_on_from_what_was_read(family):
    _, model = family
    draw, session = random.Random(4), GenerationSession(model)
    prompt, steps = words(draw, 40), iter([False, False, True])
    result = session.generate(prompt, config(max_new_tokens=50), stopped=lambda: next(steps))
    assert (result.continuation.finish_reason, len(result.continuation)) == ("abort", 3)
    longer = [*prompt, *result.continuation, *words(draw, 4)]
    after = session.generate(longer, config())
    assert after.continuation == generate_tokens(model, [longer], config())[0]
    assert after.cached_tokens == len(prompt) + 2


def test_an_error_forgets_the_cache_and_the_next_prompt_is_answered(llama):
    draw, session = random.Random(5), GenerationSession(llama)
    prompt = words(draw, 40)
    session.generate(prompt, config())

    class Broken:
        def put(self, ids):
            if len(ids.flatten()) == 1:
                raise RuntimeError("the line is dead")

        def end(self): ...

    with pytest.raises(RuntimeError, match="dead"):
        session.generate(prompt, config(), streamer=Broken())
    result = session.generate(prompt, config())
    assert (result.cached_tokens, result.continuation) == (0, generate_tokens(llama, [prompt], config())[0])
    with pytest.raises(TextTooLong if llama.max_positions else InvalidInput):
        session.generate([], config())
    assert session.generate(prompt, config()).cached_tokens == len(prompt) - 1


def test_other_weights_and_adapters_are_not_read_from_the_old_cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changing")
    reference(ROWS["llama"], "ForCausalLM").save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    draw, session = random.Random(6), GenerationSession(model)
    prompt = words(draw, 40)

    def same():
        result = session.generate(prompt, config())
        assert result.continuation == generate_tokens(model, [prompt], config())[0]
        return result.cached_tokens

    assert [same(), same()] == [0, 39]
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    assert [same(), same()] == [0, 39]
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, parameter in own_parameters(model):
            if "lora" in name:
                parameter.add_(0.5)
    assert [same(), same()] == [0, 39]
    model.disable_adapters()
    assert [same(), same()] == [0, 39]


def test_a_session_has_one_answer_of_a_decoder(llama, tmp_path):
    with pytest.raises(InvalidInput, match="one answer"):
        GenerationSession(llama).generate([5], config(do_sample=True, num_return_sequences=2))
    reference(ROWS["t5"], "ForConditionalGeneration").save_pretrained(tmp_path)
    from multihead import AutoModelForSeq2SeqLM

    with pytest.raises(InvalidInput, match="encoder-decoder"):
        GenerationSession(AutoModelForSeq2SeqLM.from_pretrained(tmp_path))


def test_a_model_that_reads_both_ways_writes_nothing_word_by_word(tmp_path):
    reference(ROWS["big-bird"], "ForCausalLM").save_pretrained(tmp_path)  # is_decoder=False
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    prompt = words(random.Random(0), 54)
    for ask in (
        lambda: generate_tokens(model, [prompt], config()),
        lambda: GenerationSession(model).generate(prompt, config()),
    ):
        with pytest.raises(UnsupportedConfig, match="both directions"):
            ask()
