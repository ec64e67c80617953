"""Prompts stay cached from one run of the server to the next, in a folder that the settings name."""

from __future__ import annotations

from multihead.serving.models.prompt_cache import cache_file
from multihead.serving.models.served_model import ServedModel
from multihead.serving.settings import ModelSettings, ServerSettings
from tests.generation.asking import Asked, config

PROMPT = [7, 8, 9, 10] * 11  # a block of 32 tokens, and more than the 9 that are read again


def run(llama, folder, **settings):
    """Ask a model of a new server for a text; return the tokens that it knew before, and the text."""
    settings = ModelSettings(source=str(llama), name="../a model", task="text-generation", **settings)
    server = ServerSettings(models=(settings,), prompt_cache=folder, kv_cache_memory=1 << 24)
    model = ServedModel.load(settings, server)
    one = Asked(model.engine, PROMPT, config(4))
    results = one.results
    model.close()
    return one.prompt.cached_tokens, results


def test_a_prompt_is_known_in_the_next_run(llama, tmp_path):
    folder = tmp_path / "cache"
    known, text = run(llama, folder, precision="fp32")
    assert known == 0
    assert run(llama, folder, precision="fp32") == (32, text)
    (file,) = folder.iterdir()
    assert file == cache_file(folder, "../a model")
    assert run(llama, folder, precision="bf16")[0] == 0  # other numbers
    file.write_bytes(b"damaged")
    assert run(llama, folder, precision="fp32") == (0, text)
    assert run(llama, folder, precision="fp32") == (32, text)
