"""Settings of a GGUF file that change numbers are computed or refused, and tensors that carry some are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import multihead
import multihead.modeling.gguf_export
from multihead.checkpoints.gguf_writing import write
from multihead.checkpoints.key_map import join_head
from multihead.errors import CorruptFile, UnsupportedConfig

from .case import WORDS
from .cases.decoders import of
from .test_families import close
from .test_gguf import entries

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
IDS = torch.randint(1, WORDS - 1, (2, 40), generator=torch.Generator().manual_seed(3))


def model(family: str, folder: Path, **changes: Any) -> Any:
    """The reference's random model, saved in `folder`."""
    torch.manual_seed(0)
    kind = {"Gemma3": "Gemma3Text"}.get(family, family)
    made = getattr(transformers, f"{family}ForCausalLM")(of(kind, **changes)())
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.save_pretrained(folder)
    return made.eval()


def file_of(folder: Path, kind: str, more: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """The folder's model as a GGUF file with more settings and tensors; None takes a setting away."""
    ours = multihead.AutoModelForCausalLM.from_pretrained(folder)
    told = {name: v for name, v in entries(kind, ours.config).items() if ".rope.scaling" not in name}
    told |= {f"{kind}.attention.head_count_kv": ours.config.num_key_value_heads}
    told |= {name if name.startswith("tokenizer.") else f"{kind}.{name}": v for name, v in more.items()}
    words = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [f"w{n}" for n in range(WORDS)]}
    settings = {"general.architecture": kind, **words, "tokenizer.ggml.eos_token_id": 2, **told}
    table = join_head(ours.architecture.layouts["gguf"](ours.config), {})
    path = folder / "model.gguf"
    stored = {**table.export(ours), **(tensors or {})}
    write(path, {name: v for name, v in settings.items() if v is not None}, stored, "F32")
    return path


def same(path: Path, reference: Any, ids: torch.Tensor = IDS) -> Any:
    ours = multihead.AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        close(ours(ids).logits, reference(ids).logits, "scores", 3e-5)
    return ours


@pytest.mark.parametrize(("family", "kind"), [("Llama", "llama"), ("Qwen2", "qwen2")])
def test_frequencies_that_a_file_keeps_as_factors_are_read(family, kind, tmp_path):
    """Llama 3.1's converter writes what its scaling does to each channel, and no setting."""
    reference = model(family, tmp_path, rope_parameters=LLAMA3)
    rotary = reference.model.rotary_emb
    plain = 10000.0 ** -(torch.arange(len(rotary.inv_freq)) / len(rotary.inv_freq))
    factors = {"rope_freqs.weight": plain / rotary.inv_freq}
    ours = same(file_of(tmp_path, kind, {}, factors), reference)
    ours.save_pretrained(tmp_path / "folder")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder").eval()
    same(tmp_path / "folder", again)
    with torch.no_grad():
        close(again(IDS).logits, reference(IDS).logits, "scores", 3e-5)


LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.5, 2.0], "long_factor": [2.0, 3.0, 5.0], "rope_theta": 100.0}


@pytest.mark.parametrize("length", [9, 40])
def test_phi3s_two_sets_of_factors_are_read(length, tmp_path):
    reference = model("Phi3", tmp_path, rope_parameters=LONG, original_max_position_embeddings=16)
    scale = reference.model.rotary_emb.attention_scaling
    settings = {
        "rope.scaling.type": "longrope", "rope.scaling.attn_factor": float(scale),
        "rope.scaling.original_context_length": 16, "rope.dimension_count": 6,
    }  # fmt: skip
    factors = {f"rope_factors_{n}.weight": torch.tensor(LONG[f"{n}_factor"]) for n in ("long", "short")}
    same(file_of(tmp_path, "phi3", settings, factors), reference, IDS[:, :length])
    with pytest.raises(UnsupportedConfig, match="rope_factors_long"):
        multihead.AutoConfig.from_pretrained(
            file_of(tmp_path, "phi3", settings, {"rope_factors_long.weight": torch.ones(3)})
        )


COMPUTED = {
    "llama-linear": ("Llama", "llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
                     {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    "llama-factor-alone": ("Llama", "llama",
                           {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
                           {"rope.scaling.factor": 4.0}),
    "llama-old-linear": ("Llama", "llama",
                         {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
                         {"rope.scale_linear": 4.0}),
    "qwen2-yarn-betas": ("Qwen2", "qwen2",
                         {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "beta_fast": 9.0,
                                              "beta_slow": 2.0, "original_max_position_embeddings": 16}},
                         {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_beta_fast": 9.0,
                          "rope.scaling.yarn_beta_slow": 2.0, "rope.scaling.original_context_length": 16}),
    "phi3-part": ("Phi3", "phi3",
                  {"hidden_size": 48, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
                  {"rope.dimension_count": 4}),
    "gemma2-pattern": ("Gemma2", "gemma2", {"head_dim": 256, "sliding_window": 4, "layer_types":
                       ["sliding_attention", "sliding_attention", "full_attention"]},
                       {"attention.sliding_window_pattern": 3}),
    "gemma3-signs": ("Gemma3", "gemma3", {"head_dim": 256, "sliding_window": 4, "layer_types":
                     ["full_attention", "sliding_attention", "full_attention"]},
                     {"attention.sliding_window_pattern": [False, True, False]}),
    "gemma3-local-base": ("Gemma3", "gemma3", {"head_dim": 256, "sliding_window": 4, "rope_parameters":
                          {"sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
                           "full_attention": {"rope_type": "default", "rope_theta": 90.0}}},
                          {"rope.freq_base_swa": 50.0, "rope.freq_base": 90.0}),
    "phi3-sees-all": ("Phi3", "phi3", {"sliding_window": None}, {"attention.sliding_window": 0}),
    "gemma3-said-twice": ("Gemma3", "gemma3", {"head_dim": 256, "sliding_window": 4}, {
        "mm.tokens_per_image": 256, "vision.block_count": 27, "attention.key_length_swa": 256,
        "attention.value_length_swa": 256, "rope.dimension_count_swa": 256}),
    "llama-without-experts": ("Llama", "llama", {}, {
        "expert_gating_func": 2, "expert_weights_norm": True, "rope.dimension_sections": [0, 0, 0, 0],
        "embedding_length_out": 36}),
    "llama-defaults": ("Llama", "llama", {}, {
        "rope.scaling.finetuned": True, "attention.scale": 0.0, "logit_scale": 1.0, "expert_count": 0,
        "expert_used_count": 0, "attention.causal": True, "rope.dimension_count": 6, "attention.value_length": 6,
        "rope.scaling.type": "none", "rope.scaling.attn_factor": 1.0, "attention.head_count_kv": [2, 2, 2]}),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_settings_that_the_family_computes_are_read(name, tmp_path):
    family, kind, config, settings = COMPUTED[name]
    reference = model(family, tmp_path, **config)
    same(file_of(tmp_path, kind, settings), reference)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"logit_scale": 0.25}),
        ("llama", {"attention.scale": 0.5}),
        ("llama", {"embedding_scale": 12.0}),
        ("llama", {"residual_scale": 0.2}),
        ("llama", {"final_logit_softcapping": 30.0}),
        ("llama", {"attn_logit_softcapping": 50.0}),
        ("llama", {"attention.clamp_kqv": 8.0}),
        ("llama", {"attention.max_alibi_bias": 8.0}),
        ("llama", {"attention.causal": False}),
        ("llama", {"attention.value_length": 7}),
        ("llama", {"rope.dimension_count": 4}),
        ("llama", {"rope.dimension_sections": [1, 1, 1, 0]}),
        ("llama", {"rope.scaling.attn_factor": 1.2}),
        ("llama", {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_attn_factor": 0.8}),
        ("llama", {"rope.scaling.type": "longrope"}),
        ("llama", {"attention.key_length_swa": 4}),
        ("llama", {"embedding_length_out": 7}),
        ("llama", {"expert_weights_scale": 2.5}),
        ("llama", {"attention.sliding_window": 4}),
        ("llama", {"attention.sliding_window_pattern": 2}),
        ("llama", {"attention.temperature_scale": 0.1}),
        ("llama", {"use_parallel_residual": True}),
        ("llama", {"something.new": 3}),
        ("qwen2", {"attention.sliding_window": 4}),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_settings_that_would_change_numbers_are_refused_by_name(kind, settings, tmp_path):
    model({"llama": "Llama", "qwen2": "Qwen2"}[kind], tmp_path)
    path = file_of(tmp_path, kind, settings)
    with pytest.raises(UnsupportedConfig, match=r"|".join(name.rpartition(".")[2] for name in settings)):
        multihead.AutoModelForCausalLM.from_pretrained(path)


@pytest.mark.parametrize("name", ["attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor"])
def test_a_whole_number_in_place_of_a_floating_point_one_is_refused(name, tmp_path):
    model("Llama", tmp_path)
    path = file_of(tmp_path, "llama", {name: 4294967295})
    with pytest.raises(CorruptFile, match=rf"llama\.{name} is the whole number"):
        multihead.AutoModelForCausalLM.from_pretrained(path)


def test_the_ends_of_turns_and_of_messages_end_an_answer_and_are_written_again(tmp_path):
    model("Llama", tmp_path)
    more = {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 7}
    ours = multihead.AutoModelForCausalLM.from_pretrained(file_of(tmp_path, "llama", more))
    assert ours.generation_config.eos_token_id == [2, 5, 7]
    told = {"tokenizer.ggml.eos_token_id": 2}
    assert multihead.modeling.gguf_export.extra_end_tokens(ours, told) == more
    one = multihead.AutoModelForCausalLM.from_pretrained(file_of(tmp_path, "llama", {"tokenizer.ggml.eot_token_id": 2}))
    assert one.generation_config.eos_token_id == 2


def test_a_plain_phi3_says_nothing_that_a_file_would_lose(tmp_path):
    model("Phi3", tmp_path)
    ours = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    exact = multihead.modeling.gguf_export.model_metadata(ours, "phi3", "F32")
    again = type(ours.config).read(ours.architecture.foreign_config["gguf"](exact))
    assert not list(multihead.modeling.gguf_export.changed_entries(ours.config, again))


def test_configs_that_say_the_same_in_other_words_are_written(tmp_path):
    """The reference writes kinds of layers out that a file leaves to the family."""
    model("Qwen2", tmp_path)
    ours = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert ours.config.layer_types
    computes_as = multihead.modeling.gguf_export.computes_as
    assert computes_as(ours, ours.config.changed(layer_types=None))
    rope = {"rope_type": "default", "rope_theta": 7.0}
    changes = {"hidden_act": "gelu", "rms_norm_eps": 0.5, "rope_parameters": rope, "num_key_value_heads": 1}
    for name, value in changes.items():
        assert not computes_as(ours, ours.config.changed(**{name: value})), name
