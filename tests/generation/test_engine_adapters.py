"""Requests name LoRA adapters of one model, and each gets what the model with that adapter writes."""

from __future__ import annotations

import pytest
import torch

from multihead import AutoModelForCausalLM, LoraConfig
from multihead.errors import InvalidInput, ModelNotFound
from multihead.generation.engine_thread import EngineThread, NewToken
from multihead.generation.generate import generate_tokens
from multihead.nn.own_names import own_parameters

from ..parity.case import reference
from ..parity.cases import CASES
from .asking import Asked, config

ROWS = {case.name: case for case in CASES}
PROMPTS = [[5, 6, 7], [8] * 40, [9, 10] * 22]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base and two adapters, one of which replaces the norms' weights too."""
    root = tmp_path_factory.mktemp("adapters")
    reference(ROWS["llama"], "ForCausalLM").save_pretrained(root / "base")
    for number, saved in enumerate((None, ["norm"])):
        model = AutoModelForCausalLM.from_pretrained(root / "base")
        model.add_adapter(LoraConfig(r=4, target_modules=["q_proj", "down_proj"], modules_to_save=saved))
        torch.manual_seed(number)
        for name, parameter in own_parameters(model):
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.6) if "lora" in name else parameter.data.mul_(1.7)
        model.save_adapter(root / f"v{number}.0")
    return root


@pytest.fixture(scope="module")
def expected(folders):
    found = {}
    for name in (None, "v0.0", "v1.0"):
        model = AutoModelForCausalLM.from_pretrained(folders / "base")
        if name is not None:
            model.load_adapter(folders / name)
        found[name] = [generate_tokens(model, [prompt], config(12)) for prompt in PROMPTS]
    assert found[None] != found["v0.0"] != found["v1.0"]
    return found


@pytest.fixture
def engine(folders):
    engine = EngineThread(AutoModelForCausalLM.from_pretrained(folders / "base"), memory=1 << 24)
    yield engine
    assert engine.alive
    engine.close()


def test_each_request_gets_what_its_adapter_writes_whatever_else_runs(engine, folders, expected):
    for name in ("v0.0", "v1.0"):
        engine.load_adapter(name, folders / name)
    for _ in range(2):  # the second time with cached prefixes
        asked = [Asked(engine, p, config(12), adapter=name) for name in expected for p in PROMPTS]
        assert [one.results for one in asked] == [result for name in expected for result in expected[name]]
    assert generate_tokens(engine.model, PROMPTS[:1], config(12)) == expected[None][0]
    assert asked[-1].prompt.cached_tokens == 32


def test_an_adapter_comes_and_goes_while_texts_grow(engine, folders, expected):
    base = AutoModelForCausalLM.from_pretrained(folders / "base")
    grows = Asked(engine, [5, 6, 7], config(600))
    grows.wait(NewToken)
    engine.load_adapter("v1.0", folders / "v1.0")
    first = Asked(engine, PROMPTS[0], config(12), adapter="v1.0")
    fails = Asked(engine, PROMPTS[1], config(5000), adapter="v1.0")
    assert first.results == expected["v1.0"][0]
    fails.wait(NewToken)
    engine.unload_adapter("v1.0")
    with pytest.raises(InvalidInput, match="unloaded"):
        _ = fails.results
    assert engine.model.adapters is None
    assert grows.results == generate_tokens(base, [[5, 6, 7]], config(600))


def test_adapters_that_are_not_there_are_refused(engine, folders):
    with pytest.raises(InvalidInput, match="no adapter 'none'"):
        _ = Asked(engine, [5], adapter="none").results
    with pytest.raises(InvalidInput, match="no adapter"):
        engine.unload_adapter("none")
    with pytest.raises(ModelNotFound):
        engine.load_adapter("one", folders / "nowhere")
    engine.load_adapter("one", folders / "v0.0")
    with pytest.raises(InvalidInput, match="already"):
        engine.load_adapter("one", folders / "v0.0")
    assert Asked(engine, [5]).results
