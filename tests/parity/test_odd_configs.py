"""Configs that are legal and rare: each changes numbers, or is refused, as in the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import multihead
from multihead.models import dots3_note
from multihead.models.common.registry import FAMILIES, parse_config

from .test_families import close

IDS = torch.arange(10, 23)[None]
SMALL = {
    "vocab_size": 99,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 29,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
LLAMA = {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2}
MOE = {"moe_intermediate_size": 16, "num_experts_per_tok": 2, "num_hidden_layers": 4, "use_sliding_window": True}
BART = {
    "vocab_size": 99, "d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 29, "decoder_ffn_dim": 29, "max_position_embeddings": 64,
}  # fmt: skip


def saved(kind: str, config: Any, folder: Path, **entries: Any) -> Any:
    """The reference's random model of a config whose file then says `entries` too, None to leave one out."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.25)
    model.save_pretrained(folder)
    said = {**json.loads((folder / "config.json").read_text()), **entries}
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in said.items() if k not in entries or v is not None})
    )
    return getattr(transformers, kind).from_pretrained(folder, attn_implementation="eager").eval()


def alike(kind: str, theirs: Any, folder: Path, **inputs: Any) -> Any:
    mine = getattr(multihead, kind).from_pretrained(folder)
    inputs = inputs or {"input_ids": IDS}
    with torch.no_grad():
        close(mine(**inputs)[0], theirs(**inputs)[0], "scores", 3e-5)
    return mine


LINEAR = {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("Llama", {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
        ("Llama", {"rope_scaling": {**LINEAR, "rope_theta": 70.0}, "rope_parameters": {"rope_theta": 50.0}}),
        ("Llama", {"rope_scaling": LINEAR, "rope_theta": 90.0, "rope_parameters": {"rope_theta": 50.0}}),
        ("Llama", {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": {"rope_theta": 50.0}}),
        ("Mistral", {"rope_scaling": {}, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
        ("Qwen2", {"rope_scaling": LINEAR, "rope_theta": 90.0, "rope_parameters": None}),
        ("Granite", {"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 50.0}}),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_a_rope_scaling_takes_the_place_of_rope_parameters(kind, entries, tmp_path):
    theirs = saved(f"{kind}ForCausalLM", getattr(transformers, f"{kind}Config")(**LLAMA), tmp_path, **entries)
    alike(f"{kind}ForCausalLM", theirs, tmp_path)


@pytest.mark.parametrize(
    ("kind", "config", "entries"),
    [
        ("Gemma3ForCausalLM", "Gemma3Text", {"rope_scaling": {**LINEAR, "rope_theta": 70.0}}),
        ("Olmo3ForCausalLM", "Olmo3", {"rope_scaling": {**LINEAR, "rope_theta": 70.0}}),
        ("Gemma3ForCausalLM", "Gemma3Text", {"rope_theta": 70.0, "rope_local_base_freq": 9.0, "rope_parameters": None}),
        (
            "Gemma3ForCausalLM",
            "Gemma3Text",
            {"rope_theta": 70.0, "rope_parameters": {"full_attention": {"rope_type": "default"}}},
        ),
        ("ModernBertForMaskedLM", "ModernBert", {"rope_scaling": LINEAR}),
        ("ModernBertForMaskedLM", "ModernBert", {"global_rope_theta": 70.0, "rope_parameters": None}),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_rotary_numbers_for_each_kind_of_layer_in_old_and_new_names(kind, config, entries, tmp_path):
    own = {"num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    ids = {"cls_token_id": 1, "sep_token_id": 2} if config == "ModernBert" else {}
    sizes = {name: value for name, value in LLAMA.items() if config == "Gemma3Text" or name != "head_dim"}
    config = getattr(transformers, f"{config}Config")(**{**sizes, **own, **ids}, sliding_window=3)
    alike(kind, saved(kind, config, tmp_path, **entries), tmp_path)


def test_rotary_numbers_for_no_kind_of_layer_are_refused_where_each_has_its_own():
    with pytest.raises(multihead.errors.UnsupportedConfig, match="full_attention"):
        multihead.Gemma3TextConfig.read({"rope_parameters": {"rope_type": "default", "rope_theta": 70.0}})


PART = {"rope_type": "default", "rope_theta": 77.0, "partial_rotary_factor": 0.5}
WHOLE = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Olmo2", "Granite", "Starcoder2", "SmolLM3", "Cohere")


@pytest.mark.parametrize("family", [*WHOLE, "Phi3", "Phi", "StableLm", "Glm"])
def test_a_part_of_the_channels_is_turned_where_the_family_turns_a_part(family, tmp_path):
    sizes = {
        k: v for k, v in LLAMA.items() if k != "head_dim" or family in ("Llama", "Qwen3", "Gemma", "Gemma2", "Glm")
    }
    config = getattr(transformers, f"{family}Config")(**{**sizes, "hidden_size": 32}, rope_parameters=PART)
    alike(f"{family}ForCausalLM", saved(f"{family}ForCausalLM", config, tmp_path), tmp_path)


def test_a_scaled_part_of_the_channels_is_refused_where_the_family_turns_all(tmp_path):
    config = multihead.LlamaConfig(**LLAMA, rope_parameters={**PART, **LINEAR})
    with pytest.raises(multihead.errors.UnsupportedConfig, match="partial_rotary_factor"):
        multihead.LlamaForCausalLM(config)


@pytest.mark.parametrize(
    ("family", "entries"),
    [
        ("Qwen2Moe", {"max_window_layers": 2}),
        ("Qwen2Moe", {"max_window_layers": 9}),
        ("Qwen2Moe", {"layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]}),
        ("Qwen2Moe", {"use_sliding_window": False, "max_window_layers": 4}),
        ("Qwen3Moe", {"max_window_layers": 2}),
        ("Qwen3Moe", {"use_sliding_window": False}),
        ("Qwen2", {"max_window_layers": 2}),
        ("Qwen3", {"max_window_layers": 2}),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values())),
)
def test_windows_slide_in_the_layers_that_the_reference_has_them_in(family, entries, tmp_path):
    more = {"shared_expert_intermediate_size": 16, "num_experts": 4, "num_local_experts": 4} if "Moe" in family else {}
    config = getattr(transformers, f"{family}Config")(**{**LLAMA, **MOE, **more, "sliding_window": 3, **entries})
    layers = {} if "layer_types" in entries else {"layer_types": None}  # as published files are
    alike(f"{family}ForCausalLM", saved(f"{family}ForCausalLM", config, tmp_path, **layers), tmp_path)


@pytest.mark.parametrize("groups", [(1, 1), (2, 1), (1, 2), (3, 2)], ids=str)
def test_an_albert_of_several_groups_and_of_several_layers_a_group(groups, tmp_path):
    sizes = {**SMALL, "num_hidden_layers": 4, "embedding_size": 20}
    config = transformers.AlbertConfig(**sizes, num_hidden_groups=groups[0], inner_group_num=groups[1])
    mine = alike("AlbertForMaskedLM", saved("AlbertForMaskedLM", config, tmp_path / "theirs"), tmp_path / "theirs")
    mine.save_pretrained(tmp_path / "mine")
    alike("AlbertForMaskedLM", transformers.AlbertForMaskedLM.from_pretrained(tmp_path / "mine").eval(),
          tmp_path / "theirs")  # fmt: skip


@pytest.mark.parametrize("norm", ["none", "layer_norm"])
def test_a_deberta_v2_without_relative_attention(norm, tmp_path):
    config = transformers.DebertaV2Config(**SMALL, relative_attention=False, norm_rel_ebd=norm)
    alike("DebertaV2ForMaskedLM", saved("DebertaV2ForMaskedLM", config, tmp_path), tmp_path)


def test_a_deepseek_v2_whose_feed_forwards_have_biases(tmp_path):
    sizes = {**SMALL, "kv_lora_rank": 10, "q_lora_rank": 12, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    config = transformers.DeepseekV2Config(
        **sizes, **experts, v_head_dim=5, moe_intermediate_size=16, first_k_dense_replace=1, mlp_bias=True
    )
    alike("DeepseekV2ForCausalLM", saved("DeepseekV2ForCausalLM", config, tmp_path), tmp_path)


@pytest.mark.parametrize("window", [4, 5, 30])
def test_a_gemma3_that_reads_in_both_directions_is_an_encoder(window, tmp_path):
    kinds = ["sliding_attention", "full_attention"]
    config = transformers.Gemma3TextConfig(
        **LLAMA, sliding_window=window, layer_types=kinds, use_bidirectional_attention=True
    )
    theirs = saved("Gemma3TextModel", config, tmp_path / "theirs", sliding_window=window)
    mine = alike("Gemma3TextModel", theirs, tmp_path / "theirs")
    mask = torch.ones(2, 13, dtype=torch.long)
    mask[1, 9:] = 0
    padded = {"input_ids": IDS.repeat(2, 1), "attention_mask": mask}
    with torch.no_grad():
        got, expected = mine(**padded)[0], theirs(**padded)[0]
    close(got[mask.bool()], expected[mask.bool()], "scores of a padded batch", 3e-5)
    mine.save_pretrained(tmp_path / "mine")
    again = transformers.Gemma3TextModel.from_pretrained(tmp_path / "mine", attn_implementation="eager").eval()
    alike("Gemma3TextModel", again, tmp_path / "theirs")
    with pytest.raises(multihead.errors.MultiheadError, match="both directions"):
        multihead.Gemma3ForCausalLM(mine.config).generate(IDS)


def test_n_ctx_changes_nothing_beside_n_positions(tmp_path):
    config = transformers.GPT2Config(vocab_size=99, n_embd=24, n_layer=1, n_head=4, n_positions=64)
    alike("GPT2LMHeadModel", saved("GPT2LMHeadModel", config, tmp_path, n_ctx=32), tmp_path)
    changed = multihead.AutoConfig.from_pretrained(tmp_path, n_ctx=16)
    assert (changed.n_positions, changed.n_ctx) == (64, 16)
    saved("GPT2LMHeadModel", config, tmp_path, n_ctx=None)
    assert multihead.AutoConfig.from_pretrained(tmp_path, n_ctx=16).n_positions == 64


def test_led_has_the_references_number_of_labels():
    assert multihead.LEDConfig().num_labels == transformers.LEDConfig().num_labels


POOLED = {
    "BigBird": ("ForMaskedLM", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification"),
    "FNet": ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering"),
    "SqueezeBert": ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering"),
}


@pytest.mark.parametrize(("family", "end"), [(family, end) for family, ends in POOLED.items() for end in ends])
def test_a_pooler_that_a_class_stores_and_does_not_read_is_saved_again(family, end, tmp_path):
    sizes = {k: v for k, v in SMALL.items() if family != "FNet" or k != "num_attention_heads"}
    more = {
        "BigBird": {"attention_type": "original_full", "is_decoder": end == "ForCausalLM"},
        "SqueezeBert": {"embedding_size": 24, "intermediate_size": 32},
        "FNet": {},
    }
    kind, config = f"{family}{end}", getattr(transformers, f"{family}Config")(**{**sizes, **more[family]})
    mine = alike(kind, saved(kind, config, tmp_path / "theirs"), tmp_path / "theirs")
    mine.save_pretrained(tmp_path / "mine")
    theirs, ours = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "mine"))
    assert set(ours) == set(theirs)
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name
    fast = getattr(multihead, kind).from_pretrained(tmp_path / "theirs", precision="fp32")
    fast.save_pretrained(tmp_path / "fast")
    with torch.no_grad():
        again = getattr(multihead, kind).from_pretrained(tmp_path / "fast")
        close(again(IDS)[0], mine(IDS)[0], "scores")
    for name in [name for name in theirs if "pooler" in name]:
        del theirs[name]
    save_file(theirs, tmp_path / "theirs" / "model.safetensors", {"format": "pt"})
    without = getattr(multihead, kind).from_pretrained(tmp_path / "theirs")
    assert without.new_weights == ()
    without.save_pretrained(tmp_path / "without")
    assert set(load_file(tmp_path / "without" / "model.safetensors")) == set(theirs)


@pytest.mark.parametrize("family", ["Gte", "NomicBert", "JinaEmbeddingsV3"])
def test_an_encoder_without_decoders_reads_both_ways_whatever_its_file_says(family, tmp_path):
    config = getattr(transformers, f"{family}Config")(**SMALL)
    alike(f"{family}Model", saved(f"{family}Model", config, tmp_path, is_decoder=True), tmp_path)


@pytest.mark.parametrize("family", ["IBert", "LayoutLM", "Lilt", "MarkupLM"])
def test_an_encoder_that_the_reference_never_makes_a_decoder_of_refuses_to_be_one(family):
    with pytest.raises(multihead.errors.UnsupportedConfig, match="is_decoder"):
        getattr(multihead, f"{family}Config").read({"is_decoder": True})


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Phi3", "Olmo2"])
def test_a_decoder_that_is_not_causal_reads_both_ways(family, tmp_path):
    """Encoders of sentences are stored so, as gte-Qwen2."""
    sizes = {k: v for k, v in LLAMA.items() if k != "head_dim" or family in ("Llama", "Qwen3", "Gemma")}
    options = {"sliding_window": None} if family in ("Mistral", "Phi3") else {}
    config = getattr(transformers, f"{family}Config")(**sizes, **options)
    theirs = saved(f"{family}Model", config, tmp_path, is_causal=False)
    mine = alike(f"{family}Model", theirs, tmp_path)
    padded = {"input_ids": IDS.repeat(2, 1), "attention_mask": torch.ones(2, 13, dtype=torch.long)}
    padded["attention_mask"][1, 5:] = 0
    with torch.no_grad():
        got, expected = mine(**padded)[0], theirs(**padded)[0]
    close(got[1, :5], expected[1, :5], "states of a shorter text", 3e-5)
    mine.save_pretrained(tmp_path / "saved")
    alike(f"{family}Model", theirs, tmp_path / "saved")
    with pytest.raises(multihead.errors.UnsupportedConfig, match=r"later ones|cannot"):
        multihead.AutoModelForCausalLM.from_config(mine.config).generate(IDS, max_new_tokens=2)


@pytest.mark.parametrize(
    ("family", "name"),
    [("Llama", "modeling_llama_encoder.LlamaEncoderModel"), ("Qwen2", "owner/name--modeling.Qwen2BidirectionalModel")],
)
def test_a_file_whose_own_code_reads_both_ways_is_read_so(family, name, tmp_path):
    sizes = {k: v for k, v in LLAMA.items() if k != "head_dim" or family == "Llama"}
    config = getattr(transformers, f"{family}Config")(**sizes)
    theirs = saved(f"{family}Model", config, tmp_path, is_causal=False)
    entries = json.loads((tmp_path / "config.json").read_text())
    del entries["is_causal"]
    (tmp_path / "config.json").write_text(json.dumps({**entries, "auto_map": {"AutoModel": name}}))
    alike(f"{family}Model", theirs, tmp_path)
    code = {"auto_map": {"AutoModelForCausalLM": f"modeling.{family}ForCausalLM", "AutoConfig": "a_encoder.Config"}}
    (tmp_path / "config.json").write_text(json.dumps({**entries, **code}))
    alike(f"{family}Model", getattr(transformers, f"{family}Model").from_pretrained(tmp_path).eval(), tmp_path)
    windowed = multihead.MistralConfig.read({**LLAMA, "sliding_window": 3, "auto_map": {"AutoModel": name}})
    with pytest.raises(multihead.errors.UnsupportedConfig, match="auto_map names"):
        multihead.AutoModel.from_config(windowed)


def test_windows_and_state_spaces_that_are_not_causal_are_refused():
    for config in (multihead.Gemma3TextConfig, multihead.MambaConfig):
        with pytest.raises(multihead.errors.UnsupportedConfig, match="is_causal"):
            multihead.AutoModel.from_config(config.read({**LLAMA, "is_causal": False}))


@pytest.mark.parametrize(
    ("kind", "config"),
    [("LlamaForCausalLM", "GraniteConfig"), ("BertModel", "JinaBertConfig"), ("LlamaModel", "Qwen2Config")],
)
def test_a_family_computes_no_file_of_one_derived_from_it(kind, config):
    """Its multipliers, positions and windows would be left out in silence."""
    with pytest.raises(multihead.errors.InvalidInput, match=f"not a {config}"):
        getattr(multihead, kind)(getattr(multihead, config)())


def test_a_family_computes_a_file_of_one_that_is_built_alike():
    config = multihead.XLMRobertaConfig.read({**SMALL, "pad_token_id": 1})
    assert multihead.RobertaModel(config).config is config


NO_DEFAULTS = ("dbrx", "deepseek_v2", "dots1", "encoder-decoder", "glm4_moe")  # which contradict themselves


def test_ids_and_widths_of_new_weights_have_the_references_defaults():
    found = {}
    for kind in set(FAMILIES) & set(CONFIG_MAPPING) - set(NO_DEFAULTS):
        theirs, mine = CONFIG_MAPPING[kind](), parse_config({"model_type": kind})
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range"):
            one, other = getattr(mine, name, None), getattr(theirs, name, None)
            if one != other and (name != "initializer_range" or None not in (one, other)):
                found[f"{kind}.{name}"] = one, other
    assert not found


def test_a_new_youtu_draws_its_weights():
    model = multihead.AutoModelForCausalLM.from_config(multihead.YoutuConfig.read({**SMALL, "num_key_value_heads": 4}))
    assert model.config.initializer_range == pytest.approx(2 / (5 * SMALL["hidden_size"]) ** 0.5)


def test_a_stored_balance_of_the_choice_of_no_expert_is_read(tmp_path):
    """The reference sets it to -1 after it has read the file."""
    sizes = {**LLAMA, "num_experts": 3, "router_hidden_size": 8, "moe_intermediate_size": 16}
    model = transformers.ZayaForCausalLM(transformers.ZayaConfig(**sizes))
    model.model.layers[1].mlp.gate.balancing_biases[-1] = 0.5
    model.save_pretrained(tmp_path)
    mine = multihead.ZayaForCausalLM.from_pretrained(tmp_path)
    assert mine.backbone.layers[1].ffn.step.rule.correction.tolist() == [0.0, 0.0, 0.0, 0.5]


@pytest.mark.parametrize("name", ["su", "yarn", "longrope"])
def test_factors_of_phi3_have_older_names_too(name, tmp_path):
    factors = {"type": name, "long_factor": [2.0, 3.0, 9.0], "short_factor": [1.1, 1.5, 4.0],
               "original_max_position_embeddings": 8}  # fmt: skip
    config = transformers.Phi3Config(**{**LLAMA, "head_dim": 6}, original_max_position_embeddings=8)
    theirs = saved("Phi3ForCausalLM", config, tmp_path, rope_parameters=None, rope_scaling=factors, rope_theta=90.0)
    alike("Phi3ForCausalLM", theirs, tmp_path)


@pytest.mark.parametrize(
    "entries",
    [
        {"rotary_emb_base": 123, "rotary_pct": 0.5},
        {"rope_theta": 123, "rotary_emb_base": 123, "partial_rotary_factor": 0.5, "rotary_pct": 0.5},
        {"rotary_pct": 1.0, "rope_scaling": {"type": "linear", "factor": 2}},
    ],
    ids="-".join,
)
def test_a_gpt_neox_turns_by_its_own_names(entries, tmp_path):
    config = transformers.GPTNeoXConfig(**{**SMALL, "hidden_size": 64})
    theirs = saved("GPTNeoXForCausalLM", config, tmp_path, rope_parameters=None, **entries)
    alike("GPTNeoXForCausalLM", theirs, tmp_path)


REFUSED: tuple[tuple[str, dict[str, Any]], ...] = (
    # the reference reads these names in other families alone
    *[(name, {"model_type": "gpt_neox", **entries}) for name, entries in (
        ("rope_theta = 55", {"rope_theta": 55}),
        ("rope_theta = 55", {"rope_theta": 55, "rotary_emb_base": 66}),
        ("rope_theta = 55", {"rope_theta": 55, "rope_parameters": {"rope_theta": 66}}),
        ("partial_rotary_factor = 0.5", {"partial_rotary_factor": 0.5}),
    )],
    ("num_key_value_heads", {"model_type": "mistral_large4_text", "num_key_value_heads": 8}),
    # the reference reads what the last layer of the same rotation shared, whatever the entry says
    ("kv_source_layers", {"model_type": "mistral_large4_text", "num_hidden_layers": 5, "no_rope_layers": [1] * 5,
                          "kv_source_layers": [0, 0, 2, 2, 0]}),
    ("kv_source_layers", {"model_type": "mistral_large4_text", "num_hidden_layers": 2, "no_rope_layers": [1, 0],
                          "kv_source_layers": [0, 0]}),
    ("no_rope_layers", {"model_type": "mistral_large4_text", "no_rope_layers": [1]}),
    ("indexer_types", {"model_type": "glm5_next_text", "num_hidden_layers": 4,
                       "indexer_types": ["full", "full", "full", "shared"]}),
    ("index_topk", {"model_type": "glm5_next_text", "index_kpool": 15}),
    ("index_kpool_always_select_tail", {"model_type": "glm5_next_text", "index_kpool_always_select_tail": False}),
    ("qk_rope_head_dim", {"model_type": "glm5_next_text", "qk_rope_head_dim": 64}),
    ("layer_types", {"model_type": "inkling2_text", "layer_types": ["hybrid"]}),
    ("indexer", {"model_type": "mistral_large4_text", "num_hidden_layers": 1, "indexer_types": ["shared"]}),
    ("rope_parameters", {"model_type": "neomme", "rope_parameters": {"rope_theta": 7.0}}),
    ("layer_types", {"model_type": "neomme", "layer_types": ["full_attention"]}),
    *[("per_layer_config", {"model_type": "neomme", "num_hidden_layers": 2, "per_layer_config": given})
      for given in (None, {}, {"00": {"sliding_window": None}}, {"1": {"sliding_window": 4}})],
    ("per_layer_config", {"model_type": "llama", "per_layer_config": {"0": {"rms_norm_eps": 0.1}}}),
    ("must see all", {"model_type": "neomme", "layer_types": ["sliding_attention"] * 17}),
    ("num_experts_per_tok", {"model_type": "zaya", "num_experts_per_tok": 2}),
    ("sliding_window", {"model_type": "zaya", "layer_types": ["hybrid_sliding"] * 40}),
    ("layer_types", {"model_type": "zaya", "layer_types": ["full_attention"] * 40}),
    ("hybrid", {"model_type": "zaya", "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}),
    ("rope_scaling", {"model_type": "zaya", "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ("whole number", {"model_type": "zaya", "num_key_value_heads": 1, "head_dim": 25}),
    ("rope_scaling", {"model_type": "dots3_note_text", "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ("num_key_value_heads", {"model_type": "dots3_note_text", "swa_num_key_value_heads": 2}),
    ("head_dim", {"model_type": "dots3_note_text", "swa_qk_rope_head_dim": 4}),
    ("q_lora_rank", {"model_type": "dots3_note_text", "swa_q_lora_rank": None}),
    ("group", {"model_type": "dots3_note_text", "n_group": 200, "n_routed_experts": 200}),
    ("index_head_dim", {"model_type": "dots3_note_text", "index_head_dim": 32}),
    ("layer_types", {"model_type": "dots3_note_text", "layer_types": ["chunked_attention"] * 46}),
    ("per_layer_config", {"model_type": "dots3_note_text", "per_layer_config": {"0": {"head_dim": 1}}}),
    ("per_layer_config", {"model_type": "dots3_note_text", "per_layer_config": {"02": {"hidden_size": 1}}}),
    # the reference turns as many channels as `head_dim` says, and fails, or turns all by one angle where it is 2
    *[("head_dim = 2 ", {"model_type": kind, "head_dim": 2, "num_experts_per_tok": 1})
      for kind in ("deepseek_v3", "kimi_k2", "glm4_moe_lite", "axk1", "youtu", "longcat_flash", "mistral4")],
)  # fmt: skip


@pytest.mark.parametrize(("name", "entries"), REFUSED, ids=lambda value: value if isinstance(value, str) else None)
def test_what_cannot_be_computed_is_refused_by_name(name: str, entries: dict[str, Any]):
    with pytest.raises(multihead.errors.UnsupportedConfig, match=name):
        parse_config(entries)


def test_layers_of_a_file_are_numbered_with_zeros_before():
    """As the reference writes them where a model has ten layers or more."""
    own = {"09": {"num_attention_heads": 96}, "10": {"num_attention_heads": 32}}
    step = multihead.Step3p5Config.read({"num_hidden_layers": 11, "per_layer_config": own})
    assert [step.heads(i) for i in (0, 9, 10)] == [64, 96, 32]
    layers = {"num_hidden_layers": 11, "layer_types": ["sliding_attention"] * 10 + ["full_attention"]}
    bounds = {"09": {"sliding_window": 7}, "10": {"sliding_window": None}}
    neomme = multihead.NeoMMEConfig.read({**layers, "per_layer_config": bounds})
    assert neomme.windows == [*[256] * 9, 7, None]


@pytest.mark.parametrize(
    "sizes", [{"n_group": 6}, {"num_experts_per_tok": 7}, {"n_group": 4}, {"topk_group": 3}], ids=str
)
def test_experts_that_no_token_could_choose_are_refused(sizes):
    entries = {**LLAMA, "head_dim": 4, "n_routed_experts": 6, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2,
               "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4,
               "num_key_value_heads": 4, "first_k_dense_replace": 0}  # fmt: skip
    with pytest.raises(multihead.errors.UnsupportedConfig, match="experts"):
        multihead.AutoModelForCausalLM.from_config(multihead.DeepseekV3Config.read({**entries, **sizes}))


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"use_dsa": False, "swa_rope_theta": 7.0, "rope_theta": 9.0, "moe_layer_freq": [1, 0, 1, 1, 0, 1]},
        {"use_sliding_window": False, "first_k_dense_replace": 2, "moe_layer_freq": 2},
        {"swa_head_dim": 96, "swa_qk_nope_head_dim": 64, "swa_num_attention_heads": 3, "swa_num_key_value_heads": 3,
         "layer_types": ["full_attention", "sliding_attention"] * 3, "sliding_window_size": 9},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}, "moe_shared_expert_intermediate_size": 7},
    ],
)  # fmt: skip
def test_the_authors_entries_of_dots_3_note_mean_what_they_mean_to_the_reference(entries):
    theirs = transformers.Dots3NoteTextConfig(num_hidden_layers=6, **entries)
    mine = multihead.Dots3NoteTextConfig.read({"num_hidden_layers": 6, **entries})
    assert (mine.kinds, mine.sliding_window, mine.shared_experts_intermediate_size) == (
        theirs.layer_types, theirs.sliding_window, theirs.shared_experts_intermediate_size,
    )  # fmt: skip
    assert ["dense" if dense else "sparse" for dense in dots3_note.dense_layers(mine)] == theirs.mlp_layer_types
    for i, kind in enumerate(mine.kinds):
        own, known = mine.of(kind), theirs.per_layer_config[i]
        assert all(getattr(own, name) == getattr(known, name) for name in dots3_note.SIZES)
        assert mine.rope_parameters[kind]["rope_theta"] == theirs.rope_parameters[kind]["rope_theta"]
    assert multihead.Dots3NoteTextConfig.read(theirs.to_dict()).kinds == mine.kinds
