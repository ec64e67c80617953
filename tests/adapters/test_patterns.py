"""Regular expressions of adapter files mean what Python's mean, and end."""

from __future__ import annotations

import re

import pytest

from multihead.adapters import patterns
from multihead.errors import InvalidInput, UnsupportedOption

NAMES = [f"model.layers.{n}.{part}" for n in (0, 1, 11) for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up")]


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.(q|v)_proj",
        r"(?:.*?(?:self_attn|mlp).*?(?:\b(?:q_proj|up)\b).*?)|(?:\bmodel\.layers\.[\d]{1,}\.mlp\.(?:(?:up)))",
        r"(model\.)+layers\.(\d+\.)*mlp\.up",
        r".*layers\.(\d)\1\..*",
        "",
    ],
)
def test_patterns_mean_what_pythons_mean(pattern):
    assert patterns.matches(pattern, NAMES) == {name for name in NAMES if re.fullmatch(pattern, name)}


@pytest.mark.parametrize("pattern", [r"(([a-z_.0-9]+)+)+X", r"(.*)*(.*)*(.*)*\1X", r"(a|aa)+X"])
def test_a_pattern_that_does_not_end_is_refused(pattern, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    with pytest.raises(InvalidInput, match="seconds"):
        patterns.matches(pattern, [*NAMES, "a" * 64])


@pytest.mark.parametrize("pattern", ["(", "[a", "a" * 20_000, "*", "(" * 5000 + ")" * 5000])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(InvalidInput, match="regular expression"):
        patterns.matches(pattern, NAMES)


def test_an_adapter_that_names_itself_as_its_base_is_refused(tmp_path):
    import json

    import multihead

    told = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path), "r": 2, "target_modules": ["query"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    for auto in (multihead.AutoModel, multihead.AutoConfig, multihead.AutoTokenizer):
        with pytest.raises(UnsupportedOption, match="adapter itself"):
            auto.from_pretrained(tmp_path)
