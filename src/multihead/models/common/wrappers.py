"""Table of multimodal families: what surrounds the language model in their checkpoints. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOWERS = ("vision_tower", "multi_modal_projector")
SPEECH = ("audio_tower", "multi_modal_projector")
VISUAL = ("visual",)
NAMES = (  # (pattern, replacement): tensor names of the hub's and the reference's files to those of a text family
    (r"^(?:model\.)?language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model."),
    (r"^(?:model\.)?(?:language_model|text_model)\.", "model."),
)
INNER = (*((rf"^(?:thinker\.)?{pattern[1:]}", new) for pattern, new in NAMES), (r"^thinker\.", ""))


@dataclass(frozen=True)
class Wrapper:
    """A multimodal family.

    Args:
        name: stem of its class names. text: model_type of a `text_config` that names none.
        unread: modules of its other inputs and outputs, whose tensors are not read.
        tokens: ids that stand for images and sound, by entry, where config.json does not name them.
        tied: whether scores share the word vectors where config.json does not say it; None for what the text config
            says, unless the outer one ties them.
        flat: whether older files keep the entries of both halves side by side, without `text_config`.
        usual: entries that its text config leaves out. fixed: entries of the text half whatever its config says.
        older: another name of `text_config`.
        inside: entries that lead from config.json to the object with `text_config`.
        names: (pattern, replacement) pairs of tensor names.
        classes: (class name, Auto class) pairs of classes that are not made of `name` and `SUFFIXES`.
        heads: entries of the outer config that its heads follow, whatever the text config says.
        quantization: `quantization_config` of the authors' quantized files, whose config.json has none.
    """

    name: str
    text: str
    unread: tuple[str, ...] = TOWERS
    tokens: Mapping[str, int] = field(default_factory=dict)
    tied: bool | None = False
    flat: bool = False
    usual: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    older: str = ""
    inside: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = NAMES
    classes: tuple[tuple[str, str], ...] = ()
    heads: tuple[str, ...] = ()
    quantization: Mapping[str, Any] = field(default_factory=dict)

    def skips(self, name: str) -> bool:
        """Return whether a tensor belongs to images or sound."""
        return re.match(rf"(?:thinker\.)?(?:model\.)?(?:{'|'.join(self.unread)})(?:\.|$)", name) is not None

    def text_name(self, name: str) -> str:
        """Return the name of a tensor in a checkpoint of the language model alone."""
        fitting = ((pattern, new) for pattern, new in self.names if re.match(pattern, name))
        return next((re.sub(pattern, new, name) for pattern, new in fitting), name)


PLAIN_SCORES = {"logit_scale": 1.0}  # the scores of these classes are not scaled, unlike those of their text families
LLAVA = (*TOWERS, "image_newline")
IDEFICS = ("vision_model", "connector")
DEEPSEEK_VL = ("vision_model", "aligner", r"high_res_vision_\w+")
JANUS = ("vision_model", "aligner", "vqmodel", r"generation_\w+")
GRANITE_SPEECH = ("encoder", "projector")
GEMMA4 = ("vision_tower", "audio_tower", "embed_vision", "embed_audio", "vision_embedder")
BLIP = ("vision_model", "qformer", "query_tokens", "language_projection")
THINKER = ("visual", "audio_tower", "talker", "token2wav", "code2wav")
QWEN_VL = {"image_token_id": 151655, "video_token_id": 151656}
QWEN35 = {"image_token_id": 248056, "video_token_id": 248057}
GLM_V = {"image_token_id": 151343, "video_token_id": 151344}
NEMOTRON = ("mlp1", "sound_encoder", "sound_projection")  # as the hub's files call towers and projectors
MISTRAL_NATIVE = ("vision_encoder", "pre_mm_projector_norm", "patch_merger", "vision_language_adapter")
MINICPM = ("vision_tower", "merger", "vit_merger")
COSMOS = (  # modules of a unified file that make images, sound and actions
    *("blocks", "merger", "patch_embed", "pos_embed", "deepstack_merger_list", "proj_in", "proj_out", "time_embedder"),
    *(r"audio_(?:proj_in|proj_out|modality_embed)", r"action_(?:proj_in|proj_out|modality_embed)"),
    r".*(?:\.add_[qkv]_proj|\.to_add_out|\.norm_added_[qk]|moe_gen).*",
)
COSMOS_NAMES = (  # a unified file has no prefixes, and names of attention as Diffusers has them
    *(
        (rf"^(?:model\.)?(?:language_model\.)?layers\.(\d+)\.self_attn\.{old}\.", rf"model.layers.\1.self_attn.{new}.")
        for old, new in (
            *(("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj")),
            *(("to_out", "o_proj"), ("norm_q", "q_norm"), ("norm_k", "k_norm")),
        )
    ),
    *NAMES,
    (r"^(layers|embed_tokens|norm)\.", r"model.\1."),
)
MOLMO2_NAMES = (
    (r"^model\.transformer\.blocks\.", "model.layers."),
    (r"^model\.transformer\.ln_f\.", "model.norm."),
    (r"^model\.transformer\.", "model."),
    *NAMES,
)
ENCODER_NAMES = (*NAMES, (r"^projection_head\.", "head."))
PHI4_TOKENS = {"image_token_id": 200010, "audio_token_id": 200011}
GEMMA4_TOKENS = {"image_token_id": 258880, "video_token_id": 258884, "audio_token_id": 258881}


def encoders(name: str) -> tuple[tuple[str, str], ...]:
    """Return the classes of a text encoder that also reads images."""
    return tuple(
        (f"{name}{end}", f"AutoModel{end}")
        for end in ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
    )


GLM_ASR = {
    "vocab_size": 59264,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "eos_token_id": [59246, 59253, 59255],
}
VOXTRAL = {
    "vocab_size": 131072,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 30,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000000.0,
}
WRAPPERS: Mapping[str, Wrapper] = {  # by the model_type of config.json
    "aria": Wrapper("Aria", "aria_text", TOWERS, {"image_token_index": 9}),
    "aya_vision": Wrapper("AyaVision", "cohere2", TOWERS, {"image_token_index": 255036}, True, fixed=PLAIN_SCORES),
    "blip-2": Wrapper("Blip2", "opt", BLIP, tied=None),
    "cohere2_vision": Wrapper("Cohere2Vision", "cohere2", TOWERS, {"image_token_id": 255036}, True, fixed=PLAIN_SCORES),
    "cohere_compass": Wrapper(
        "CohereCompass", "cohere_compass_text", VISUAL, {"image_token_id": 255031, "video_token_id": 255032}
    ),
    "cosmos3_edge": Wrapper(
        "Cosmos3Edge",
        "cosmos3_edge_text",
        (*VISUAL, "projector", *COSMOS, r".*\.k_norm_und_for_gen"),
        {"image_token_id": 19, "video_token_id": 18},
        names=COSMOS_NAMES,
    ),
    "cosmos3_omni": Wrapper("Cosmos3Omni", "qwen3_vl_text", (*VISUAL, *COSMOS), QWEN_VL, names=COSMOS_NAMES),
    "deepseek_ocr2": Wrapper(
        "DeepseekOcr2",
        "deepseek_ocr2_text",
        (*TOWERS, "sam_model", "qwen2_model", "projector", "view_sep[ae]rator"),
        {"image_token_id": 128815},
    ),
    "deepseek_vl": Wrapper("DeepseekVL", "llama", DEEPSEEK_VL, {"image_token_id": 100015}, True),
    "deepseek_vl_hybrid": Wrapper("DeepseekVLHybrid", "llama", DEEPSEEK_VL, {"image_token_id": 100015}, True),
    "embedding_gemma2": Wrapper("EmbeddingGemma2", "embedding_gemma2_text", GEMMA4, GEMMA4_TOKENS, None),
    "dots3_note": Wrapper(
        "Dots3Note",
        "dots3_note_text",
        ("vision_tower", "audio_tower", "vision_encoder", "audio_encoder", "audio_adapter"),
        {"image_token_id": 151660, "video_token_id": 151680, "audio_token_id": 151720},
        flat=True,
    ),
    "ernie4_5_vl_moe": Wrapper(
        "Ernie4_5_VLMoe",
        "ernie4_5_vl_moe_text",
        ("vision_tower", "vision_model", "resampler_model"),
        {"image_token_id": 100295, "video_token_id": 103367},
        True,
    ),
    "ernie4_5_moe_vl": Wrapper(  # as Baidu's own files say it
        "Ernie4_5_VLMoe",
        "ernie4_5_vl_moe_text",
        ("vision_tower", "vision_model", "resampler_model"),
        {"image_token_id": 100295},
        True,
        flat=True,
    ),
    "exaone4_5": Wrapper("Exaone4_5_", "exaone4", (*VISUAL, "mtp"), {"image_token_id": 67, "video_token_id": 68}),
    "fast_vlm": Wrapper("FastVlm", "qwen2", TOWERS, {"image_token_index": 151646}, None),
    "fun_asr_nano": Wrapper("FunAsrNano", "qwen3", SPEECH, {"audio_token_id": 151646}, True),
    "fuyu": Wrapper(
        "Fuyu",
        "persimmon",
        ("vision_embed_tokens",),
        {"image_token_id": 71011},
        flat=True,
        classes=(("FuyuForCausalLM", "AutoModelForCausalLM"),),
    ),
    "gemma3": Wrapper(
        "Gemma3",
        "gemma3_text",
        TOWERS,
        {"image_token_index": 262144},
        True,
        fixed={"final_logit_softcapping": None},
        classes=(("Gemma3ForSequenceClassification", "AutoModelForSequenceClassification"),),
    ),
    "gemma3n": Wrapper("Gemma3n", "gemma3n_text", GEMMA4, {"image_token_id": 262145, "audio_token_id": 262273}, True),
    "gemma4": Wrapper("Gemma4", "gemma4_text", GEMMA4, GEMMA4_TOKENS, True),
    "gemma4_unified": Wrapper("Gemma4Unified", "gemma4_unified_text", GEMMA4, GEMMA4_TOKENS, True),
    "glm46v": Wrapper("Glm46V", "glm4v_text", VISUAL, GLM_V),
    "glm4v": Wrapper("Glm4v", "glm4v_text", VISUAL, GLM_V, None),
    "glm4v_moe": Wrapper(
        "Glm4vMoe", "glm4v_moe_text", VISUAL, {"image_token_id": 151363, "video_token_id": 151364}, None
    ),
    "glm5_next": Wrapper(
        "Glm5Next",
        "glm5_next_text",
        VISUAL,
        {"image_token_id": 154854, "video_token_id": 154855},
        flat=True,
    ),
    "glm_ocr": Wrapper("GlmOcr", "glm_ocr_text", VISUAL, {"image_token_id": 59280, "video_token_id": 59281}, None),
    "glmasr": Wrapper("GlmAsr", "llama", SPEECH, {"audio_token_id": 59260}, True, usual=GLM_ASR),
    "glmga": Wrapper("Glmga", "glm4v_text", VISUAL, GLM_V),
    "got_ocr2": Wrapper("GotOcr2", "qwen2", TOWERS, {"image_token_index": 151859}, True),
    "granite4_vision": Wrapper(
        "Granite4Vision",
        "granite4_vision_text",
        (*TOWERS, "image_newline", r"\w+_projectors?", "qformer"),
        {"image_token_index": 32000},
    ),
    "granite_docling": Wrapper(
        "GraniteDocling", "granite_docling_text", (*IDEFICS, "mtp"), {"image_token_id": 100337}, True
    ),
    "granite_speech": Wrapper(
        "GraniteSpeech",
        "granite",
        GRANITE_SPEECH,
        {"audio_token_index": 49155},
        True,
        fixed={"logits_scaling": 1.0},
    ),
    "granite_speech_plus": Wrapper(
        "GraniteSpeechPlus",
        "granite",
        GRANITE_SPEECH,
        {"audio_token_index": 49155},
        True,
        fixed={"logits_scaling": 1.0},
    ),
    "hunyuan_vl": Wrapper(
        "HunYuanVL", "hunyuan_vl_text", ("vit", *TOWERS), {"image_token_id": 120120}, True, flat=True
    ),
    "hyperclovax_vision_v2": Wrapper(
        "HyperCLOVAXVisionV2",
        "hyperclovax",
        ("vision_model", "projector", "vision_projector"),
        {"image_token_id": 128060, "video_token_id": 128061},
        True,
    ),
    "idefics2": Wrapper("Idefics2", "mistral", IDEFICS, {"image_token_id": 32001}),
    "idefics3": Wrapper("Idefics3", "llama", IDEFICS, {"image_token_id": 128257}),
    "inkling2": Wrapper(
        "Inkling2",
        "inkling2_text",
        ("visual", "vision_tower", "mtp"),
        {"image_token_id": 200054},
        quantization={"quant_method": "fp8", "weight_block_size": [1, 32], "scale_fmt": "ue8m0"},  # MXFP8
    ),
    "inkling_mm_model": Wrapper(
        "Inkling",
        "inkling_text",
        ("audio", "visual", "audio_tower", "vision_tower", "mtp"),
        {"image_token_id": 200054, "audio_token_id": 200053},
        names=((r"^model\.llm\.unembed\.", "lm_head."), (r"^model\.llm\.", "model."), *NAMES),
    ),
    "instructblip": Wrapper("InstructBlip", "opt", BLIP, tied=None),
    "instructblipvideo": Wrapper("InstructBlipVideo", "opt", BLIP, tied=None),
    "internvl": Wrapper("InternVL", "qwen2", TOWERS, {"image_token_id": 151667}, True),
    "janus": Wrapper("Janus", "llama", JANUS, {"image_token_id": 100581}, True),
    "kimi_k25": Wrapper(
        "Kimi_K25",
        "deepseek_v3",
        ("vision_tower", "mm_projector"),
        {"image_token_id": 163605, "video_token_id": 163840},
        True,
        names=((r"^language_model\.model\.blocks\.", "model.layers."), *NAMES),  # as the reference saves it
    ),
    "lfm2_vl": Wrapper("Lfm2Vl", "lfm2", TOWERS, {"image_token_id": 396}, True),
    "lfm3_vl": Wrapper("Lfm3Vl", "lfm3", TOWERS, {"image_token_id": 125030, "video_token_id": 125029}, True),
    "lighton_ocr": Wrapper(
        "LightOnOcr", "qwen3", ("vision_encoder", "vision_projection"), {"image_token_id": 151655}, True
    ),
    "llama4": Wrapper("Llama4", "llama4_text", ("vision_model", *TOWERS), {"image_token_index": 200092}, None),
    "llava": Wrapper("Llava", "llama", TOWERS, {"image_token_index": 32000}, None),
    "llava_next": Wrapper("LlavaNext", "llama", LLAVA, {"image_token_index": 32000}),
    "llava_next_video": Wrapper(
        "LlavaNextVideo", "llama", LLAVA, {"image_token_index": 32001, "video_token_index": 32000}, None
    ),
    "llava_onevision": Wrapper(
        "LlavaOnevision", "qwen2", LLAVA, {"image_token_index": 151646, "video_token_index": 151647}, None
    ),
    "minicpm_ocr": Wrapper("MiniCPMOcr", "qwen3_5_text", MINICPM, tied=True),
    "minicpmv4_6": Wrapper("MiniCPMV4_6", "qwen3_5_text", MINICPM),
    "minicpmv4_7": Wrapper("MiniCPMV4_7", "qwen3_5_text", MINICPM),
    "minimax_m3_vl": Wrapper(
        "MiniMaxM3VL",
        "minimax_m3_vl_text",
        (*TOWERS, "patch_merge_mlp"),
        {"image_token_index": 200025, "video_token_index": 200026},
        None,
        classes=(("MiniMaxM3SparseForConditionalGeneration", "AutoModelForImageTextToText"),),
    ),
    "mistral3": Wrapper("Mistral3", "mistral", TOWERS, {"image_token_index": 10}, True),
    "mistral_large4": Wrapper(
        "MistralLarge4",
        "mistral_large4_text",
        (*TOWERS, *MISTRAL_NATIVE, "mtp_dspark"),
        {"image_token_index": 10},
    ),
    "mllama": Wrapper(
        "Mllama",
        "mllama_text_model",
        ("vision_model", *TOWERS),
        {"image_token_index": 128256},
        classes=(("MllamaForCausalLM", "AutoModelForCausalLM"),),
    ),
    "modernvbert": Wrapper(
        "ModernVBert",
        "modernbert",
        IDEFICS,
        {"image_token_id": 50407},
        names=(*ENCODER_NAMES, (r"^lm_head\.", "decoder.")),
        classes=encoders("ModernVBert"),
        heads=("classifier_pooling", "classifier_dropout"),
    ),
    "molmo2": Wrapper("Molmo2", "molmo2_text", ("vision_backbone", *TOWERS), names=MOLMO2_NAMES),
    "moss_transcribe_diarize": Wrapper("MossTranscribeDiarize", "qwen3", SPEECH, {"audio_token_id": 151671}, True),
    "muse_glimmer": Wrapper(
        "MuseGlimmer",
        "muse_glimmer_text",
        ("vision_tower", "vision_adapter", "vision_projection"),
        {"image_token_id": 200092, "video_token_id": 200091},
        None,
    ),
    "muse_spark": Wrapper(
        "MuseSpark",
        "muse_spark_text",
        ("vision_tower", "audio_tower", "vision_adapter", "vision_projection"),
        {"image_token_id": 200092, "video_token_id": 200091, "audio_token_id": 200038},
        None,
    ),
    "nemotron_h_omni": Wrapper(
        "NemotronH_Omni_Reasoning_V3",
        "nemotron_h",
        ("vision_model", "vision_final_layernorm", "audio_tower", "embed_audio", "multi_modal_projector", *NEMOTRON),
        names=((r"^language_model\.backbone\.", "backbone."), *NAMES),
        classes=(("NemotronH_Omni_Reasoning_V3", "AutoModelForImageTextToText"),),
        older="llm_config",
    ),
    "ovis2": Wrapper("Ovis2", "qwen2", ("vision_tower", "visual_embeddings_table"), {"image_token_id": 151665}, True),
    "paddleocr_vl": Wrapper(
        "PaddleOCRVL",
        "paddleocr_vl_text",
        ("visual", "projector", "mlp_AR", "packing_position_embedding"),
        {"image_token_id": 100295, "video_token_id": 100296},
        None,
        flat=True,
    ),
    "paligemma": Wrapper(
        "PaliGemma",
        "gemma",
        TOWERS,
        {"image_token_index": 256000},
        True,
        fixed={"use_bidirectional_attention": None},  # which says that an image and its question see each other
    ),
    "perception_lm": Wrapper(
        "PerceptionLM", "llama", TOWERS, {"image_token_id": 128002, "video_token_id": 128003}, None
    ),
    "phi4_multimodal": Wrapper(
        "Phi4Multimodal",
        "phi4_multimodal_text",
        ("embed_tokens_extend",),
        PHI4_TOKENS,
        None,
        flat=True,
        classes=(("Phi4MultimodalForCausalLM", "AutoModelForCausalLM"),),
    ),
    "phi4mm": Wrapper(  # the file's own code turns both adapters off where it reads text alone
        "Phi4MM",
        "phi4_multimodal_text",
        ("embed_tokens_extend", r".*\.lora_[AB]"),
        PHI4_TOKENS,
        None,
        flat=True,
        names=((r"^(.+)\.base_layer\.", r"\1."),),
        classes=(("Phi4MMForCausalLM", "AutoModelForCausalLM"),),
    ),
    "pp_chart2table": Wrapper("GotOcr2", "qwen2", TOWERS, {"image_token_index": 151859}, True),
    "qianfan_ocr": Wrapper(
        "QianfanOCR",
        "qwen3",
        ("vision_model", "mlp1", *TOWERS),
        {"image_token_id": 151667},
        names=((r"^language_model\.model\.encoder\.", "model."), *NAMES),
    ),
    "qwen2_5_omni": Wrapper(
        "Qwen2_5Omni",
        "qwen2_5_omni_text",
        THINKER,
        {"audio_token_index": 151646, "image_token_index": 151655, "video_token_index": 151656},
        inside=("thinker_config",),
        names=INNER,
    ),
    "qwen2_5_omni_thinker": Wrapper(
        "Qwen2_5OmniThinker",
        "qwen2_5_omni_text",
        THINKER,
        {"audio_token_index": 151646, "image_token_index": 151655, "video_token_index": 151656},
        names=INNER,
    ),
    "qwen2_5_vl": Wrapper("Qwen2_5_VL", "qwen2_5_vl_text", VISUAL, QWEN_VL, None, flat=True),
    "qwen2_audio": Wrapper("Qwen2Audio", "qwen2", SPEECH, {"audio_token_index": 151646}),
    "qwen2_vl": Wrapper("Qwen2VL", "qwen2_vl_text", VISUAL, QWEN_VL, None, flat=True),
    "qwen3_5": Wrapper("Qwen3_5", "qwen3_5_text", (*VISUAL, "mtp"), QWEN35),
    "qwen3_5_moe": Wrapper("Qwen3_5Moe", "qwen3_5_moe_text", (*VISUAL, "mtp"), QWEN35),
    "qwen3_asr": Wrapper("Qwen3ASR", "qwen3", SPEECH, {"audio_token_id": 151676}, True),
    "qwen3_omni_moe": Wrapper(
        "Qwen3OmniMoe",
        "qwen3_omni_moe_text",
        THINKER,
        {"audio_token_id": 151646, **QWEN_VL},
        inside=("thinker_config",),
        names=INNER,
    ),
    "qwen3_omni_moe_thinker": Wrapper(
        "Qwen3OmniMoeThinker", "qwen3_omni_moe_text", THINKER, {"audio_token_id": 151646, **QWEN_VL}, names=INNER
    ),
    "qwen3_vl": Wrapper("Qwen3VL", "qwen3_vl_text", VISUAL, QWEN_VL),
    "qwen3_vl_moe": Wrapper("Qwen3VLMoe", "qwen3_vl_moe_text", VISUAL, QWEN_VL),
    "qwen4_exp": Wrapper("Qwen4Exp", "qwen4_exp_text", (*VISUAL, "mtp"), QWEN35),
    "shieldgemma2": Wrapper("ShieldGemma2", "gemma3_text", TOWERS, {"image_token_index": 262144}, True),
    "smolvlm": Wrapper("SmolVLM", "llama", IDEFICS, {"image_token_id": 128257}),
    "step3p7": Wrapper(
        "Step3p7",
        "step3p5",
        ("vision_model", "vit_large_projector", "multi_modal_projector"),
        {"image_token_id": 151679},
    ),
    "ultravbert": Wrapper(
        "UltraVBert",
        "ultrabert",
        IDEFICS,
        {"image_token_id": 49191},
        names=(*ENCODER_NAMES, (r"^lm_head\.", "head.decoder.")),
        classes=encoders("UltraVBert"),
        heads=("classifier_pooling", "classifier_dropout"),
    ),
    "vibevoice_asr": Wrapper(
        "VibeVoiceAsr",
        "qwen2",
        ("acoustic_tokenizer_encoder", "semantic_tokenizer_encoder", "multi_modal_projector"),
        {"audio_token_id": 151648},
    ),
    "video_llama_3": Wrapper("VideoLlama3", "qwen2", ("vision_model", "projector"), QWEN_VL, None),
    "video_llava": Wrapper(
        "VideoLlava",
        "llama",
        ("image_tower", "video_tower", "multi_modal_projector"),
        {"image_token_index": 32000, "video_token_index": 32001},
    ),
    "vipllava": Wrapper("VipLlava", "llama", TOWERS, {"image_token_index": 32000}),
    "voxtral": Wrapper("Voxtral", "llama", SPEECH, usual=VOXTRAL),
}
