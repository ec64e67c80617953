"""The cache of a prompt goes to a file and back, into another process' engine of the same model alone."""

from __future__ import annotations

import random

import pytest
import torch

from multihead import AutoModelForCausalLM
from multihead.errors import CorruptFile, InvalidInput, ModelNotFound, UnsupportedOption
from multihead.generation.engine_thread import EngineThread
from multihead.generation.generate import generate_tokens

from ..parity.case import reference
from ..parity.cases import CASES
from .asking import Asked, config

ROWS = {case.name: case for case in CASES}
PROMPT = [random.Random(0).randrange(4, 90) for _ in range(150)]


def saved(case, folder):
    reference(ROWS[case], "ForCausalLM").save_pretrained(folder)
    return folder


def model_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


def opened(folder, **options):
    return EngineThread(AutoModelForCausalLM.from_pretrained(folder, **options), memory=1 << 24)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return saved("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def file(llama, tmp_path_factory):
    """What an engine has saved of the prompt."""
    path, engine = tmp_path_factory.mktemp("file") / "prompt.safetensors", opened(llama)
    Asked(engine, PROMPT, prompt_only=True).wait()
    assert engine.save_prompt(PROMPT, path) == 128
    engine.close()
    return path


@pytest.mark.parametrize("case", ["llama", "mistral", "gemma3", "deepseek-v4"])
def test_a_prompt_is_not_read_again_after_a_restart(case, tmp_path):
    folder, path = saved(case, tmp_path / "model"), tmp_path / "prompt.safetensors"
    first = opened(folder)
    Asked(first, PROMPT, cache_salt=b"a").wait()
    assert first.save_prompt(PROMPT, path, b"a") == 128
    first.close()
    second = opened(folder)
    Asked(second, [5, 6], config(40)).wait()  # what is loaded must not hurt what is cached
    assert second.load_prompt(path, b"a") == 128
    one = Asked(second, [*PROMPT, 7, 8], config(40), cache_salt=b"a")
    expected = generate_tokens(AutoModelForCausalLM.from_pretrained(folder), [[*PROMPT, 7, 8]], config(40))
    assert one.results == expected
    assert one.prompt.cached_tokens == 128
    assert second.statistics.tokens < 150
    second.close()


def test_a_file_of_something_else_is_refused(file, llama, tmp_path):
    other = reference(ROWS["llama"], "ForCausalLM")
    with torch.no_grad():
        other.model.layers[0].self_attn.q_proj.weight.mul_(2)
    other.save_pretrained(tmp_path / "other")
    wrong = {"model": opened(tmp_path / "other"), "dtype": opened(llama, dtype=torch.bfloat16), "salt": opened(llama)}
    for name, engine in wrong.items():
        with pytest.raises(InvalidInput, match=f"another {name}"):
            engine.load_prompt(file, b"x" if name == "salt" else b"")
        assert len(Asked(engine, [5, 6]).results) == 1
    engine = wrong["salt"]
    (tmp_path / "short").write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptFile):
        engine.load_prompt(tmp_path / "short")
    with pytest.raises(ModelNotFound):
        engine.load_prompt(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="no prompt cache"):
        engine.load_prompt(llama / "model.safetensors")
    with pytest.raises(InvalidInput, match="cached"):
        engine.save_prompt([9] * 100, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    for engine in wrong.values():
        engine.close()


def test_recurrent_states_are_not_saved(tmp_path):
    engine = opened(saved("mamba", tmp_path / "model"))
    with pytest.raises(UnsupportedOption, match="recurrent"):
        engine.save_prompt(PROMPT, tmp_path / "file")
    engine.close()


@pytest.mark.parametrize("case", ["llama", "gemma3"])
def test_all_prompts_are_known_after_a_restart_to_their_salts_alone(case, tmp_path):
    folder, path = saved(case, tmp_path / "model"), tmp_path / "cache.safetensors"
    first = opened(folder)
    texts = {salt: [salt[0] % 80 + 4] * 80 + PROMPT[:60] for salt in (b"a", b"b")}
    for salt, text in texts.items():
        Asked(first, text, config(3), cache_salt=salt).wait()
    count = first.save_cache(path)
    first.close()
    second = opened(folder)
    assert second.load_cache(path) == count
    assert second.load_cache(path) == 0  # all are known
    for salt, text in texts.items():
        known, unknown = (Asked(second, text, config(12), cache_salt=one) for one in (salt, b"c"))
        assert known.results == unknown.results == generate_tokens(model_of(folder), [text], config(12))
        assert (known.prompt.cached_tokens, unknown.prompt.cached_tokens) == (128, 0)
        second._call(lambda engine: engine.store.evict_idle())
        assert second.load_cache(path) == count
    memory = second._call(lambda engine: engine.store.bytes_for(64))
    small = EngineThread(AutoModelForCausalLM.from_pretrained(folder), memory=memory)
    assert 0 < small.load_cache(path) < count
    assert small.cache_usage == 0
    small.close()
    with pytest.raises(InvalidInput, match="another salt"):
        second.load_prompt(path)
    second.close()
