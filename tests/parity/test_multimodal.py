"""Text halves of multimodal checkpoints against the reference's whole models on text alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multihead
from multihead.errors import CheckpointMismatch, InvalidInput, UnknownModel, UnsupportedConfig, UnsupportedOption

from .cases.deepseek_kin import INDEX, LARGE4
from .cases.delta import NEXT
from .cases.latent_windows import DOTS
from .cases.profiles import INKLING, INKLING2
from .multimodal import TEXT, VISION, Whole, difference

SECTIONS = {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [1, 1, 2]}}
HALF_SECTIONS = {
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 5000.0, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5,
    }
}  # fmt: skip
GROWING = {
    "rope_type": "default", "rope_theta": 5000.0, "original_max_position_embeddings": 4, "llama_4_scaling_beta": 0.4,
}  # fmt: skip
WINDOWS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 4}
LAYERED = {"full_attention": None, "sliding_attention": {"rope_theta": 300.0, "rope_type": "default",
           "mrope_section": [2, 1, 1]}}  # fmt: skip
PER_LAYER = {"global_head_dim": 12, "hidden_size_per_layer_input": 6, "vocab_size_per_layer_input": 99}
SCALED = {"embedding_multiplier": 3.0, "logits_scaling": 4.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
DELTA = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 10, **HALF_SECTIONS,
}  # fmt: skip
DEEPSEEK = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 2,
}  # fmt: skip
NEMOTRON = {"mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 6, "chunk_size": 4,
            "layers_block_type": ["linear_attention", "mlp", "full_attention"]}  # fmt: skip
LATENT = {
    "kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14,
    "num_key_value_heads": 4, "head_dim": 6, "first_k_dense_replace": 3,
}  # fmt: skip
LLAMA4 = {
    "intermediate_size_mlp": 40, "num_local_experts": 4, "attention_chunk_size": 4, "no_rope_layers": [1, 0, 1],
    "moe_layers": [0, 2], "floor_scale": 3,
}  # fmt: skip
STREAMS = {
    "hc_count": 2, "hc_lowrank": 6, "ple_layer_ids": [1], "ngram_vocab_size_base": 20, "split_ngram_parts": 2,
    "heads_per_ngram": 2, "indexer_n_heads": 5, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4,
    "indexer_compress_ratio": 2, "shared_expert_intermediate_size": 16,
}  # fmt: skip
WIDE = {"intermediate_size": 64, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16}
M3 = {
    "num_local_experts": 3, "num_experts_per_tok": 2, "dense_intermediate_size": 40, "shared_intermediate_size": 20,
    "index_n_heads": 2, "index_head_dim": 8, "index_block_size": 3, "index_topk_blocks": 2,
    "layer_types": ["full_attention", *["minimax_m3_sparse"] * 2], "mlp_layer_types": ["dense", "sparse", "sparse"],
}  # fmt: skip
MOLMO2 = {"image_size": [16, 16], "num_key_value_heads": 2, "head_dim": 8, "vision_feature_layer": [0],
          "text_hidden_size": 32, "vision_hidden_size": 16}  # fmt: skip
OLMO = {
    "additional_vocab_size": 5, "qk_norm_type": "olmo", "norm_after": True, "rope_scaling_layers": [2],
    "rope_parameters": {"rope_type": "linear", "rope_theta": 300.0, "factor": 4.0},
}  # fmt: skip
ERNIE = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [1, 1, 2]}, "moe_k": 2,
    "moe_num_experts": 4, "moe_intermediate_size": [16, 12], "moe_num_shared_experts": 1,
    "mlp_layer_types": ["dense", "sparse", "sparse"],
}  # fmt: skip
SHARED = {k: v for k, v in {**DEEPSEEK, **LATENT, **INDEX, **LARGE4, "n_routed_experts": 6}.items() if v is not None}
LARGE = Whole(
    "mistral_large4",
    text=SHARED,
    alone="MistralLarge4TextModel",
    tolerance=2e-5,
)
ADAPTED = {"adapter_in_dim": 16, "adapter_input_size": 16, "adapter_out_dim": 32, "num_key_value_heads": 2,
           "mlp_layer_types": ["dense"], "per_layer_config": {}, "downsample_hidden_size": 4}  # fmt: skip
WHOLES = (
    Whole("aria", text={"moe_num_experts": 4, "moe_num_shared_experts": 1}, outer={"pad_token_id": 0}),
    Whole("aya_vision", text={**WINDOWS, "logit_scale": 0.25}),
    Whole("cohere_compass", text={**WINDOWS, "rope_parameters": LAYERED, "logit_scale": 0.25}),
    Whole("cosmos3_edge", text={**SECTIONS, "mlp_bias": True}),
    Whole("cosmos3_omni", text=SECTIONS),
    Whole("minicpm_ocr", text=DELTA, tolerance=2e-5),
    Whole("minicpmv4_6", text=DELTA, tolerance=2e-5),
    Whole("minicpmv4_7", text=DELTA, tolerance=2e-5),
    Whole("cohere2_vision", text=WINDOWS),
    Whole(
        "deepseek_ocr2",
        text={**DEEPSEEK, "mlp_layer_types": ["dense", "sparse", "sparse"]},
        vision={"encoder_config": {**TEXT, "max_window_layers": 1}},
        alone="DeepseekOcr2TextModel",
    ),
    Whole("deepseek_vl"),
    Whole("gemma3", text={**WINDOWS, "final_logit_softcapping": 3.0}),
    Whole("gemma4", text={**WINDOWS, **PER_LAYER, "num_kv_shared_layers": 1}),
    Whole("gemma4_unified", text={**WINDOWS, "global_head_dim": 12, "attention_k_eq_v": True}),
    Whole("glm4v", text=HALF_SECTIONS),
    Whole("dots3_note", text={**DOTS, "hidden_size": 32}, vision=ADAPTED, tolerance=2e-5),
    Whole("ernie4_5_vl_moe", text=ERNIE, outer={"tie_word_embeddings": False}),
    Whole("exaone4_5", text=WINDOWS),
    Whole("fuyu", text={"num_key_value_heads": None, "head_dim": None}, name="FuyuForCausalLM"),
    Whole("glm4v_moe", text={**HALF_SECTIONS, **DEEPSEEK}),
    Whole("glm5_next", text={**NEXT, "num_attention_heads": 6}, alone="Glm5NextTextModel", tolerance=2e-5),
    Whole("glm_ocr", text=HALF_SECTIONS),
    Whole("glmasr"),
    Whole("hunyuan_vl", text=SECTIONS),
    Whole("hyperclovax_vision_v2"),
    Whole("kimi_k25", text={**DEEPSEEK, **LATENT}),
    Whole("lfm2_vl", text={"layer_types": ["conv", "full_attention", "conv"]}),
    Whole("paddleocr_vl", text={**SECTIONS, "use_bias": True}),
    Whole("got_ocr2"),
    Whole("granite_docling", text=SCALED),
    Whole("granite_speech", text=SCALED),
    Whole("idefics2"),
    Whole("idefics3"),
    Whole("inkling_mm_model", text=INKLING, vision={"patch_size": 4, "num_hidden_layers": 2}, tolerance=2e-5),
    Whole("inkling2", text=INKLING2, vision={"text_hidden_size": 48}),
    Whole("internvl"),
    Whole("llama4", text=LLAMA4, vision=WIDE),
    Whole("llava"),
    Whole("llava", text_name="gemma", outer={"tie_word_embeddings": False}),
    Whole("llava_next"),
    Whole("llava_onevision"),
    Whole("minimax_m3_vl", text=M3, name="MiniMaxM3SparseForConditionalGeneration"),
    LARGE,
    Whole("mistral3"),
    Whole("mistral3", text_name="ministral3", text={"rope_parameters": GROWING, "head_dim": 8}),
    Whole("mllama", text={"cross_attention_layers": [1], "num_hidden_layers": 4}, outer={"image_token_index": 99}),
    Whole("paligemma", text_name="gemma2", text=WINDOWS),
    Whole("molmo2", text={"additional_vocab_size": 5}, vision=MOLMO2),
    Whole("molmo2", text=OLMO, vision=MOLMO2),
    Whole("nemotron_h_omni", text=NEMOTRON, name="NemotronH_Omni_Reasoning_V3"),
    Whole("qianfan_ocr"),
    Whole("qwen2_5_omni_thinker", text=SECTIONS),
    Whole("qwen2_5_vl", text=SECTIONS),
    Whole("qwen2_audio"),
    Whole("qwen2_vl", text=SECTIONS),
    Whole("qwen3_5", text=DELTA),
    Whole("qwen3_5_moe", text={**DELTA, **EXPERTS, "shared_expert_intermediate_size": 16}, tolerance=2e-5),
    Whole("qwen3_omni_moe_thinker", text={**SECTIONS, **EXPERTS}),
    Whole("qwen3_vl", text=SECTIONS),
    Whole("qwen3_vl_moe", text={**SECTIONS, **EXPERTS}),
    Whole("qwen4_exp", text={**DELTA, **EXPERTS, **STREAMS}, tolerance=2e-5),
    Whole("smolvlm"),
    Whole("video_llava"),
    Whole("vipllava"),
    Whole("voxtral"),
)


@pytest.fixture
def ids() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(20, 90, (2, 9))


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
@pytest.mark.parametrize("whole", WHOLES, ids=lambda whole: whole.kind)
def test_the_text_half_equals_the_whole_model_on_text(whole: Whole, ids: torch.Tensor, tmp_path: Path):
    """With the names of the hub's files, which the reference saves, and with those of its modules."""
    model = whole.model()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    for _ in range(2):
        half = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
        with torch.no_grad():
            assert difference(half(input_ids=ids).logits, expected) < whole.tolerance
        modules = {name: x.clone().contiguous() for name, x in model.state_dict().items()}
        save_file(modules, tmp_path / "model.safetensors")
    half.save_pretrained(tmp_path / "text")
    kind = getattr(transformers, whole.alone, None) or transformers.AutoModelForCausalLM
    again = kind.from_pretrained(tmp_path / "text", attn_implementation="eager")
    if whole.alone:
        scores = again(input_ids=ids).last_hidden_state @ half.get_output_embeddings().weight.T
        cap = getattr(half.config, "final_logit_softcapping", None)
        scores = scores if cap is None else torch.tanh(scores / cap) * cap
        assert difference(scores.detach(), expected) < whole.tolerance
        return
    assert type(again).__name__ == type(half).__name__
    with torch.no_grad():
        assert difference(again(input_ids=ids).logits, expected) < whole.tolerance


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
@pytest.mark.parametrize("whole", [whole for whole in WHOLES if whole.alone], ids=lambda whole: whole.kind)
def test_text_halves_that_have_no_class_of_their_own_continue_texts_as_the_whole_model(whole: Whole, tmp_path: Path):
    """In one pass, piece by piece, with one gradient, and token by token after padding."""
    model, ids = whole.model(), torch.randint(20, 90, (2, 9), generator=torch.Generator().manual_seed(1))
    model.save_pretrained(tmp_path)
    half = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    losses = [x(input_ids=ids, labels=ids).loss for x in (half, model)]
    for loss in losses:
        loss.backward()
    assert difference(losses[0].detach(), losses[1].detach()) < whole.tolerance
    assert difference(*(x.get_input_embeddings().weight.grad for x in (half, model))) < 10 * whole.tolerance
    memory, parts = None, []
    with torch.no_grad():
        for piece in ids.split([4, 1, 4], 1):
            out = half(input_ids=piece, past_key_values=memory, use_cache=True)
            memory = out.past_key_values
            parts.append(out.logits)
        assert difference(torch.cat(parts, 1), model(input_ids=ids).logits) < whole.tolerance
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": [3], "pad_token_id": 0}
    expected = [model.generate(input_ids=row[None], **options)[0, len(row) :].tolist() for row in (ids[0], ids[1, 4:])]
    padded = torch.stack([ids[0], torch.cat([ids.new_zeros(4), ids[1, 4:]])])
    texts = half.generate(input_ids=padded, attention_mask=(padded > 0).long(), **options)[:, 9:].tolist()
    assert [text[: len(known)] for text, known in zip(texts, expected, strict=True)] == expected


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
def test_ernies_own_files_say_numbers_of_texts_and_images_side_by_side(ids: torch.Tensor, tmp_path: Path):
    model = Whole("ernie4_5_vl_moe", text=ERNIE).model()
    model.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())["text_config"]
    flat = {name: said[name] for name in (*TEXT, "moe_k", "moe_intermediate_size", "moe_num_shared_experts")}
    flat |= {"model_type": "ernie4_5_moe_vl", "rope_theta": 5000.0, "moe_num_experts": [4, 4], "im_patch_id": 98,
             "moe_layer_start_index": [1, 1], "moe_layer_end_index": [4, 3], "freq_allocation": 20, "rope_3d": True,
             "moe_layer_interval": 1, "vision_config": {}, "tie_word_embeddings": True}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(flat))
    own = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert own.config.unknown == ()
    assert own.config.placeholder_token_ids == {"image_token_id": 100295, "im_patch_id": 98}
    with torch.no_grad():
        assert difference(own(input_ids=ids).logits, model(input_ids=ids).logits) < 3e-6
    (tmp_path / "config.json").write_text(json.dumps({**flat, "moe_num_experts": [4, 2]}))
    with pytest.raises(UnsupportedConfig, match="moe_num_experts"):
        multihead.AutoConfig.from_pretrained(tmp_path)


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint", "ignore:.*entries that are not known here")
@pytest.mark.parametrize("kind", ["modernvbert", "ultravbert"])
@pytest.mark.parametrize("end", ["ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"])
def test_encoders_that_also_read_images_have_their_heads(kind: str, end: str, ids: torch.Tensor, tmp_path: Path):
    stem = {"modernvbert": "ModernVBert", "ultravbert": "UltraVBert"}[kind]
    outer = {"classifier_pooling": "mean", "num_labels": 3}
    model = Whole(kind, text={"classifier_pooling": "cls"}, name=f"{stem}{end}", outer=outer).model()
    model.save_pretrained(tmp_path)
    own = getattr(multihead, f"{stem}{end}").from_pretrained(tmp_path)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    with torch.no_grad():
        ours, theirs = (x(input_ids=ids, attention_mask=mask).logits for x in (own, model))
    real = mask.bool() if ours.ndim == 3 else slice(None)
    assert difference(ours[real], theirs[real]) < 3e-6


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
def test_phi_4_answers_texts_without_its_adapters(ids: torch.Tensor, tmp_path: Path):
    """As the reference saves it, and as Microsoft's file wraps each matrix beside adapters of sight and speech."""
    rope = {"rope_type": "longrope", "rope_theta": 300.0, "short_factor": [1.5] * 3, "long_factor": [4.0] * 3,
            "partial_rotary_factor": 0.75}  # fmt: skip
    towers = {
        "vision_config": {**VISION, "crop_size": 16, "image_token_id": 98},
        "audio_config": {"hidden_size": 16, "intermediate_size": 16, "num_blocks": 1, "num_attention_heads": 2,
                         "ext_pw_out_channel": 16, "nemo_conv_channels": 16, "audio_token_id": 97},
    }  # fmt: skip
    sizes = {name: value for name, value in TEXT.items() if name != "head_dim"}
    more = {"rope_parameters": rope, "original_max_position_embeddings": 6, "tie_word_embeddings": True}
    config = transformers.Phi4MultimodalConfig(**sizes, **towers, **more)
    torch.manual_seed(0)
    model = transformers.Phi4MultimodalForCausalLM._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.2)
        expected = model(input_ids=ids).logits
    model.save_pretrained(tmp_path)
    entries = json.loads((tmp_path / "config.json").read_text())
    stored = load_file(tmp_path / "model.safetensors")
    with torch.no_grad():
        half = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
        assert half.config.placeholder_token_ids == {"image_token_id": 98, "audio_token_id": 97}
        assert difference(half(input_ids=ids).logits, expected) < 3e-6
    tensors = {}
    for name, x in stored.items():
        stem = name.removesuffix(".weight")
        wrapped = stem.endswith(("qkv_proj", "o_proj", "gate_up_proj", "down_proj")) and "extend" not in name
        tensors[f"{stem}.base_layer.weight" if wrapped else name] = x
        if wrapped:
            tensors[f"{stem}.lora_A.speech.weight"], tensors[f"{stem}.lora_B.vision.weight"] = (
                torch.ones(2, 2),
                torch.ones(2),
            )
    save_file(tensors, tmp_path / "model.safetensors")
    old = {name: value for name, value in entries.items() if name not in ("rope_parameters", "vision_config")}
    kept = {name: value for name, value in rope.items() if name.endswith("factor") and name != "partial_rotary_factor"}
    old |= {"model_type": "phi4mm", "rope_scaling": {"type": "longrope", **kept}, "rope_theta": 300.0,
            "partial_rotary_factor": 0.75, "speech_lora": {"r": 2}, "vision_lora": {"r": 2}, "lm_head_bias": False,
            "audio_processor": {"name": "cascades"}, "embd_layer": {"embedding_cls": "image_audio"},
            "attention_bias": False, "mlp_bias": False, "full_attn_mod": 1, "interpolate_factor": 1}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(old))
    half = multihead.Phi4MMForCausalLM.from_pretrained(tmp_path)
    assert half.config.unknown == ()
    with torch.no_grad():
        assert difference(half(input_ids=ids).logits, expected) < 3e-6
    (tmp_path / "config.json").write_text(json.dumps({**old, "lm_head_bias": True}))
    with pytest.raises(UnsupportedConfig, match="lm_head_bias"):
        multihead.AutoConfig.from_pretrained(tmp_path)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gemma3")
    Whole("gemma3", text=WINDOWS, outer={"image_token_index": 7}).model().save_pretrained(folder)
    return folder


def edited(source: Path, target: Path, tensors: Any = None, entries: Any = None) -> Path:
    """Copy a checkpoint with other tensors and entries."""
    target.mkdir(exist_ok=True)
    stored = load_file(source / "model.safetensors")
    save_file(tensors(stored) if tensors else stored, target / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(entries(config) if entries else config))
    return target


def test_one_warning_says_what_is_loaded(gemma: Path):
    with pytest.warns(UserWarning, match=r"multimodal checkpoint \(gemma3\): its language model is loaded") as said:
        multihead.AutoModelForCausalLM.from_pretrained(gemma)
    assert len(said) == 1


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
class TestNames:
    @pytest.mark.parametrize(
        ("name", "loaded"),
        [
            ("AutoModel", "Gemma3TextModel"),
            ("AutoModelForCausalLM", "Gemma3ForCausalLM"),
            ("AutoModelForImageTextToText", "Gemma3ForCausalLM"),
            ("AutoModelForMultimodalLM", "Gemma3ForCausalLM"),
            ("Gemma3ForConditionalGeneration", "Gemma3ForCausalLM"),
            ("Gemma3ForCausalLM", "Gemma3ForCausalLM"),
            ("Gemma3Model", "Gemma3TextModel"),
        ],
    )
    def test_classes_of_the_reference_load_the_text_half(self, gemma: Path, name: str, loaded: str):
        assert type(getattr(multihead, name).from_pretrained(gemma)).__name__ == loaded

    def test_the_config_is_the_language_models(self, gemma: Path):
        config = multihead.AutoConfig.from_pretrained(gemma)
        assert (config.model_type, config.hidden_size, config.unknown) == ("gemma3_text", 32, ())
        assert config.placeholder_token_ids == {"image_token_index": 7}
        assert config.architectures == ["Gemma3ForCausalLM"]

    def test_a_classifier_loads_its_scores(self, ids: torch.Tensor, tmp_path: Path):
        model = Whole("gemma3", text=WINDOWS, name="Gemma3ForSequenceClassification", outer={"num_labels": 3}).model()
        model.save_pretrained(tmp_path)
        own = multihead.Gemma3ForSequenceClassification.from_pretrained(tmp_path)
        assert (type(own).__name__, own.config.num_labels) == ("Gemma3TextForSequenceClassification", 3)
        with torch.no_grad():
            assert difference(own(input_ids=ids).logits, model(input_ids=ids).logits) < 3e-6

    def test_a_backbone_saved_alone_loads(self, gemma: Path, ids: torch.Tensor, tmp_path: Path):
        model = transformers.Gemma3Model.from_pretrained(gemma)
        model.save_pretrained(tmp_path)
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state
            assert difference(multihead.AutoModel.from_pretrained(tmp_path)(input_ids=ids)[0], expected) < 3e-6


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
class TestRefusals:
    @pytest.mark.parametrize("name", ["pixel_values", "image_grid_thw", "input_features", "pixel_values_videos"])
    def test_images_and_sound_are_refused_by_name(self, gemma: Path, ids: torch.Tensor, name: str):
        model = multihead.AutoModelForCausalLM.from_pretrained(gemma)
        assert model(input_ids=ids, **{name: None}).logits is not None
        for call in (model, model.generate):
            with pytest.raises(UnsupportedOption, match=f"{name}: this library computes the text half"):
                call(input_ids=ids, **{name: torch.zeros(1, 3, 16, 16)})

    def test_the_token_of_an_image_is_refused(self, gemma: Path, tmp_path: Path):
        with_image = torch.tensor([[20, 7, 30]])
        model = multihead.AutoModelForCausalLM.from_pretrained(gemma)
        model.save_pretrained(tmp_path)
        for own in (model, multihead.AutoModelForCausalLM.from_pretrained(tmp_path)):
            for call in (own, lambda ids: own.generate(ids, max_new_tokens=2), lambda ids: own.run(ids.tolist())):  # noqa: B023
                with pytest.raises(InvalidInput, match="image_token_index = 7"):
                    call(with_image)

    def test_an_unknown_tensor_is_an_error(self, gemma: Path, tmp_path: Path):
        folder = edited(gemma, tmp_path, lambda stored: {**stored, "language_model.model.extra.weight": torch.ones(2)})
        with pytest.raises(CheckpointMismatch, match=r"extra\.weight"):
            multihead.AutoModelForCausalLM.from_pretrained(folder)
        folder = edited(gemma, tmp_path, lambda stored: {**stored, "ear_tower.weight": torch.ones(2)})
        with pytest.raises(CheckpointMismatch, match=r"ear_tower\.weight"):
            multihead.AutoModelForCausalLM.from_pretrained(folder)

    def test_an_absent_text_family_is_named(self, gemma: Path, tmp_path: Path):
        folder = edited(gemma, tmp_path, entries=lambda c: {**c, "text_config": {"model_type": "gemma9_text"}})
        with pytest.raises(UnknownModel, match="gemma3: its language model is of the family 'gemma9_text'"):
            multihead.AutoConfig.from_pretrained(folder)


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
class TestEntries:
    def test_older_files_keep_the_entries_of_both_halves_side_by_side(self, ids: torch.Tensor, tmp_path: Path):
        rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [1, 1, 2]}}
        model = Whole("qwen2_vl", text=rope).model()
        model.save_pretrained(tmp_path)
        said = json.loads((tmp_path / "config.json").read_text())
        text = said.pop("text_config")
        old = {k: text[k] for k in ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size",
                                    "num_attention_heads", "num_key_value_heads", "rms_norm_eps")}  # fmt: skip
        old |= {"rope_theta": 1000000.0, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
        (tmp_path / "config.json").write_text(json.dumps({**said, **old}))
        with torch.no_grad():
            got = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids=ids).logits
            assert difference(got, model(input_ids=ids).logits) < 3e-6

    def test_a_text_config_without_a_type_or_entries_gets_the_references_defaults(self, gemma: Path, tmp_path: Path):
        folder = edited(gemma, tmp_path, entries=lambda c: {**c, "text_config": {"hidden_size": 64}})
        own = multihead.AutoConfig.from_pretrained(folder)
        theirs = transformers.AutoConfig.from_pretrained(folder).get_text_config()
        assert own.model_type == theirs.model_type
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "sliding_window"):
            assert getattr(own, name) == getattr(theirs, name)

    @pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True), (False, False)])
    def test_ties_follow_the_outer_config_as_in_the_reference(
        self, outer: bool, inner: bool, ids: torch.Tensor, tmp_path: Path
    ):
        model = Whole("mistral3", text={"tie_word_embeddings": inner}, outer={"tie_word_embeddings": outer}).model()
        model.save_pretrained(tmp_path)
        own = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
        assert own.config.tie_word_embeddings is outer
        with torch.no_grad():
            assert difference(own(input_ids=ids).logits, model(input_ids=ids).logits) < 3e-6

    @pytest.mark.parametrize("kind", ["glm4v", "glm4v_moe", "glm_ocr", "paddleocr_vl", "qwen2_vl", "qwen2_5_vl"])
    def test_a_tie_of_the_text_config_alone_counts_where_the_reference_forwards_it(
        self, kind: str, ids: torch.Tensor, tmp_path: Path
    ):
        """As earlier versions of the reference save models whose scores share the word vectors."""
        more = next(whole.text for whole in WHOLES if whole.kind == kind)
        model = Whole(kind, text={**more, "tie_word_embeddings": True}, outer={"tie_word_embeddings": True}).model()
        model.save_pretrained(tmp_path)
        entries = json.loads((tmp_path / "config.json").read_text())
        del entries["tie_word_embeddings"]
        (tmp_path / "config.json").write_text(json.dumps(entries))
        theirs, found = type(model).from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
        assert not found["missing_keys"]
        own = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
        assert own.config.tie_word_embeddings is True
        with torch.no_grad():
            assert difference(own(input_ids=ids).logits, theirs.eval()(input_ids=ids).logits) < 3e-6

    @pytest.mark.parametrize("kind", ["fuyu", "paddleocr_vl"])
    def test_entries_of_both_halves_may_be_side_by_side(self, kind: str, ids: torch.Tensor, tmp_path: Path):
        """As in the hub's files."""
        model = next(whole for whole in WHOLES if whole.kind == kind).model()
        model.save_pretrained(tmp_path)
        entries = json.loads((tmp_path / "config.json").read_text())
        text = {name: value for name, value in entries.pop("text_config").items() if name != "model_type"}
        rope = text.pop("rope_parameters")
        scaling = rope if "mrope_section" in rope else None
        flat = {**text, **entries, "rope_theta": rope.pop("rope_theta"), "rope_scaling": scaling}
        (tmp_path / "config.json").write_text(json.dumps(flat))
        theirs = type(model).from_pretrained(tmp_path, attn_implementation="eager").eval()
        own = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
        with torch.no_grad():
            assert difference(own(input_ids=ids).logits, theirs(input_ids=ids).logits) < 3e-6

    def test_scores_stored_beside_a_tie_are_kept_apart(self, gemma: Path, ids: torch.Tensor, tmp_path: Path):
        torch.manual_seed(3)
        scores = torch.randn(99, 32)
        folder = edited(gemma, tmp_path, lambda stored: {**stored, "language_model.lm_head.weight": scores})
        model = transformers.Gemma3ForConditionalGeneration.from_pretrained(folder).eval()
        with pytest.warns(UserWarning, match="they are not tied"):
            own = multihead.AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            assert difference(own(input_ids=ids).logits, model(input_ids=ids).logits) < 3e-6


# config and class of the text half, its entries, and the prefix of its names in the hub's files
NAMED = {
    "gemma3n": (
        "Gemma3nTextConfig", "Gemma3nForCausalLM",
        {"num_kv_shared_layers": 1, "laurel_rank": 4, "hidden_size_per_layer_input": 6,
         "vocab_size_per_layer_input": 99},
        "model.language_model.",
    ),
    "embedding_gemma2": (
        "EmbeddingGemma2TextConfig", "EmbeddingGemma2TextModel",
        {"global_head_dim": 12, "hidden_size_per_layer_input": 6, "embedding_dim": 20}, "language_model.",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is a multimodal checkpoint")
@pytest.mark.parametrize("kind", NAMED)
def test_files_whose_towers_the_reference_cannot_build_here_load_by_their_names(
    kind: str, ids: torch.Tensor, tmp_path: Path
):
    config_name, name, own, before = NAMED[kind]
    config = getattr(transformers, config_name)(**TEXT, **WINDOWS, **own)
    torch.manual_seed(0)
    model = getattr(transformers, name)._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
    tensors = {f"{before}{key.removeprefix('model.')}": x.contiguous() for key, x in model.state_dict().items()}
    tensors.pop(f"{before}lm_head.weight", None)  # tied
    towers = {"model.vision_tower.stem.weight": torch.ones(2), "audio_tower.stem.weight": torch.ones(2)}
    save_file({**tensors, **towers}, tmp_path / "model.safetensors")
    entries = {"model_type": kind, "text_config": config.to_dict(), "vision_config": {}, "audio_config": None}
    (tmp_path / "config.json").write_text(json.dumps(entries))
    auto = multihead.AutoModelForCausalLM if name.endswith("ForCausalLM") else multihead.AutoModel
    with torch.no_grad():
        got, expected = auto.from_pretrained(tmp_path)(input_ids=ids), model(input_ids=ids)
    assert difference(got[0], expected[0]) < 3e-6
