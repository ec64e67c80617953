"""Every text family and head of the reference is here, or the table of `coverage` says why it is not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import multihead
from multihead.models.common.multimodal import text_half
from multihead.models.common.registry import FAMILIES, parse_config
from multihead.models.common.wrappers import WRAPPERS

from . import coverage


def differences(missing: list[str], reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Return names that are missing without a reason, and reasons of names that are here."""
    found = {"no reason": {*missing} - {*reasons}, "here now": {*reasons} - {*missing}}
    return {name: sorted(kinds) for name, kinds in found.items() if kinds}


def test_every_text_family_is_here_or_its_absence_has_a_reason():
    assert not differences(coverage.missing_types(), coverage.REASONS)


def test_every_text_half_loads_or_its_absence_has_a_reason():
    assert not differences(coverage.missing_wrappers(), coverage.WRAPPER_REASONS)


def test_every_head_of_a_family_is_here_or_its_absence_has_a_reason():
    assert not differences([name for _, name in coverage.missing_heads()], coverage.HEAD_REASONS)


READY = [kind for kind in WRAPPERS if kind in CONFIG_MAPPING and coverage.text_half(kind) in FAMILIES]
SHARED = (
    *("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size", "rms_norm_eps"),
    *("max_position_embeddings", "moe_intermediate_size", "num_experts", "num_experts_per_tok"),
)
ODD = {  # whose default config cannot be built, or is of encoders
    "embedding_gemma2": "has no text config of its own",
    "exaone4_5": "the reference needs the model_type of its text config",
    "fun_asr_nano": "its default sizes contradict each other",
    "glm4v_moe": "4096 channels are not shared evenly by its 96 heads",
    "phi4_multimodal": "has no text config of its own",
    "qwen3_omni_moe": "2048 channels are not shared evenly by its 28 heads",
    "qwen3_omni_moe_thinker": "2048 channels are not shared evenly by its 28 heads",
}


@pytest.mark.parametrize("kind", sorted({*READY} - {*ODD}))
def test_a_wrapper_has_the_references_defaults(kind):
    """Ties, placeholder ids, and the entries of a text config that says next to nothing."""
    row, whole = WRAPPERS[kind], CONFIG_MAPPING[kind]()
    outer = getattr(whole, row.inside[0]) if row.inside else whole
    said = {"use_cache": True}
    theirs = type(outer)(text_config=dict(said)).get_text_config()
    nested = {row.inside[0]: {"text_config": said}} if row.inside else {"text_config": said}
    half, own = text_half({"model_type": kind, **nested}), parse_config({"model_type": kind, **nested})
    assert half is not None
    assert half.kind == theirs.model_type
    shown = theirs.to_dict()
    for name in SHARED:
        if isinstance(shown.get(name), (int, float)) and hasattr(own, name):
            assert getattr(own, name) == shown[name], name
    assert {name: outer.to_dict()[name] for name in row.tokens} == dict(row.tokens)
    if row.tied is not None:
        assert row.tied is bool(getattr(outer, "tie_word_embeddings", False))


@pytest.mark.parametrize("kind", READY)
def test_the_classes_of_a_wrapper_load_its_text_half(kind):
    wanted = {
        name
        for task in ("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "CAUSAL_LM", "SEQUENCE_CLASSIFICATION")
        for name in coverage.mapped(task).get(kind, ())
    }
    for name in wanted:
        assert hasattr(multihead, name), name
