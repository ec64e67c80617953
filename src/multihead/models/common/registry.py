"""Registry of model families: the file of each `model_type`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...errors import InvalidInput, UnknownModel, nearest
from ...extensions import Registry
from .multimodal import TextHalf, text_half

if TYPE_CHECKING:
    from ...config import Config
    from .architecture import Architecture


FAMILY_PACKAGE = "multihead.models"
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")  # suffixes of heads that continue texts


@dataclass(frozen=True)
class Entry:
    """The file and the names of a family.

    Args:
        file: module in this folder. name: stem of its class names. constant: the Architecture's name in the file.
        package: that holds the file, of a family from outside (docs/add-a-family.md).
        layouts: (layout, name in such a file) pairs for other file formats.
        others: (class name, head suffix) pairs of classes whose names do not begin with `name`'s stem.
    """

    file: str
    name: str
    constant: str = "ARCHITECTURE"
    package: str = FAMILY_PACKAGE
    layouts: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    def class_name(self, suffix: str) -> str:
        """Return the class name of a head suffix: `BertForMaskedLM` for `ForMaskedLM`."""
        return next((name for name, other in self.others if other == suffix), f"{self.name}{suffix}")


OWN: Mapping[str, Entry] = {  # by model_type, as config.json has it
    "afmoe": Entry("laguna", "Afmoe", "AFMOE"),
    "albert": Entry("albert", "Albert"),
    "apertus": Entry("apertus", "Apertus"),
    "arcee": Entry("arcee", "Arcee", layouts=(("gguf", "arcee"),)),
    "aria_text": Entry("aria", "AriaText"),
    "axk1": Entry("axk1", "AXK1"),
    "axk2": Entry("axk2", "AXK2"),
    "baichuan": Entry("baichuan", "Baichuan"),
    "bailing_hybrid": Entry("bailing_hybrid", "BailingHybrid"),
    "bamba": Entry("bamba", "Bamba"),
    "bart": Entry("bart", "Bart"),
    "beam": Entry("beam", "Beam"),
    "bert": Entry("bert", "Bert", layouts=(("gguf", "bert"),)),
    "bert-generation": Entry(
        "bert_generation",
        "BertGeneration",
        others=(("BertGenerationEncoder", "Model"), ("BertGenerationDecoder", "ForCausalLM")),
    ),
    "big_bird": Entry("big_bird", "BigBird"),
    "bigbird_pegasus": Entry("bigbird_pegasus", "BigBirdPegasus"),
    "biogpt": Entry("biogpt", "BioGpt"),
    "bitnet": Entry("bitnet", "BitNet"),
    "blenderbot": Entry("blenderbot", "Blenderbot"),
    "blenderbot-small": Entry("blenderbot", "BlenderbotSmall", "SMALL"),
    "bloom": Entry("bloom", "Bloom", layouts=(("gguf", "bloom"),)),
    "blt": Entry("blt", "Blt"),
    "camembert": Entry("roberta", "Camembert", "CAMEMBERT"),
    "canine": Entry("canine", "Canine"),
    "chatglm": Entry("chatglm", "ChatGLM", others=(("ChatGLMForConditionalGeneration", "ForCausalLM"),)),
    "codegen": Entry("codegen", "CodeGen"),
    "cohere": Entry("cohere", "Cohere", layouts=(("gguf", "command-r"),)),
    "cohere2": Entry("cohere", "Cohere2", "COHERE2", layouts=(("gguf", "cohere2"),)),
    "cohere2_moe": Entry("cohere2_moe", "Cohere2Moe"),
    "cohere_compass_text": Entry(
        "cohere_compass",
        "CohereCompass",
        others=(
            ("CohereCompassTextConfig", "Config"),
            ("CohereCompassTextModel", "Model"),
            ("CohereCompassTextForSequenceClassification", "ForSequenceClassification"),
        ),
    ),
    "convbert": Entry("convbert", "ConvBert"),
    "cpmant": Entry("cpmant", "CpmAnt"),
    "ctrl": Entry("ctrl", "CTRL"),
    "cwm": Entry("cwm", "Cwm"),
    "data2vec-text": Entry("roberta", "Data2VecText", "DATA2VEC_TEXT"),
    "dbrx": Entry("dbrx", "Dbrx"),
    "deberta": Entry("deberta", "Deberta"),
    "deberta-v2": Entry("deberta_v2", "DebertaV2"),
    "deepseek_ocr2_text": Entry(
        "deepseek_ocr",
        "DeepseekOcr2",
        others=(("DeepseekOcr2TextConfig", "Config"), ("DeepseekOcr2TextModel", "Model")),
    ),
    "deepseek_v2": Entry("deepseek", "DeepseekV2", "V2", layouts=(("gguf", "deepseek2"),)),
    "deepseek_v3": Entry("deepseek", "DeepseekV3", "V3"),
    "deepseek_v32": Entry("deepseek_sparse", "DeepseekV32", "V32"),
    "deepseek_v4": Entry("deepseek_v4", "DeepseekV4"),
    "diffllama": Entry("diffllama", "DiffLlama"),
    "distilbert": Entry("distilbert", "DistilBert"),
    "dpr": Entry("dpr", "DPR"),
    "doge": Entry("doge", "Doge"),
    "dots1": Entry("glm_moe", "Dots1", "DOTS1"),
    "dots3_note_text": Entry("dots3_note", "Dots3NoteText", others=(("Dots3NoteForCausalLM", "ForCausalLM"),)),
    "Dream": Entry("llada", "Dream", "DREAM", others=(("DreamModel", "ForCausalLM"), ("DreamBaseModel", "Model"))),
    "electra": Entry("electra", "Electra"),
    "embedding_gemma2_text": Entry(
        "embedding_gemma2",
        "EmbeddingGemma2",
        others=(("EmbeddingGemma2TextConfig", "Config"), ("EmbeddingGemma2TextModel", "Model")),
    ),
    "encoder-decoder": Entry(
        "encoder_decoder", "EncoderDecoder", others=(("EncoderDecoderModel", "ForConditionalGeneration"),)
    ),
    "ernie": Entry("ernie", "Ernie"),
    "ernie4_5": Entry("ernie4_5", "Ernie4_5", layouts=(("gguf", "ernie4_5"),)),
    "ernie4_5_moe": Entry("ernie4_5_moe", "Ernie4_5_Moe", layouts=(("gguf", "ernie4_5-moe"),)),
    "esm": Entry("esm", "Esm"),
    "esmc": Entry("esmc", "Esmc"),
    "eurobert": Entry("eurobert", "EuroBert"),
    "exaone4": Entry("exaone4", "Exaone4", layouts=(("gguf", "exaone4"),)),
    "exaone_moe": Entry("exaone_moe", "ExaoneMoe"),
    "falcon": Entry("falcon", "Falcon", layouts=(("gguf", "falcon"),)),
    "falcon_h1": Entry("falcon_h1", "FalconH1", layouts=(("gguf", "falcon-h1"),)),
    "falcon_mamba": Entry("mamba", "FalconMamba", "FALCON"),
    "flaubert": Entry("xlm", "Flaubert", "FLAUBERT"),
    "flex_olmo": Entry("olmoe", "FlexOlmo", "FLEX_OLMO"),
    "flint": Entry("mellum", "Flint", "FLINT"),
    "fnet": Entry("fnet", "FNet"),
    "fsmt": Entry("fsmt", "FSMT"),
    "funnel": Entry("funnel", "Funnel"),
    "gemma": Entry("gemma", "Gemma", layouts=(("gguf", "gemma"),)),
    "gemma2": Entry("gemma2", "Gemma2", layouts=(("gguf", "gemma2"),)),
    "gemma3_text": Entry(
        "gemma3",
        "Gemma3",
        layouts=(("gguf", "gemma-embedding"), ("gguf", "gemma3")),
        others=(
            ("Gemma3TextConfig", "Config"),
            ("Gemma3TextModel", "Model"),
            ("Gemma3TextForSequenceClassification", "ForSequenceClassification"),
        ),
    ),
    "gemma3n_text": Entry(
        "gemma3n", "Gemma3n", others=(("Gemma3nTextConfig", "Config"), ("Gemma3nTextModel", "Model"))
    ),
    "gemma4_text": Entry("gemma4", "Gemma4", others=(("Gemma4TextConfig", "Config"), ("Gemma4TextModel", "Model"))),
    "gemma4_unified_text": Entry(
        "gemma4",
        "Gemma4Unified",
        "UNIFIED",
        others=(("Gemma4UnifiedTextConfig", "Config"), ("Gemma4UnifiedTextModel", "Model")),
    ),
    "glm": Entry("glm", "Glm"),
    "glm4": Entry("glm", "Glm4", "GLM4", layouts=(("gguf", "glm4"),)),
    "glm4_moe": Entry("glm_moe", "Glm4Moe", "GLM4_MOE", layouts=(("gguf", "glm4moe"),)),
    "glm4_moe_lite": Entry("deepseek", "Glm4MoeLite", "GLM4_MOE_LITE"),
    "glm5_next_text": Entry(
        "glm5_next", "Glm5Next", others=(("Glm5NextTextConfig", "Config"), ("Glm5NextTextModel", "Model"))
    ),
    "glm_moe_dsa": Entry("deepseek_sparse", "GlmMoeDsa", "GLM"),
    "gpt2": Entry("gpt2", "GPT2", layouts=(("gguf", "gpt2"),)),
    "gpt_bigcode": Entry("gpt2", "GPTBigCode", "BIGCODE", layouts=(("gguf", "starcoder"),)),
    "gpt_neo": Entry("gpt_neo", "GPTNeo"),
    "gpt_neox": Entry("gpt_neox", "GPTNeoX", layouts=(("gguf", "gptneox"),)),
    "gpt_neox_japanese": Entry("gpt_neox_japanese", "GPTNeoXJapanese"),
    "gpt_oss": Entry("gpt_oss", "GptOss", layouts=(("gguf", "gpt-oss"),)),
    "gpt-sw3": Entry("gpt2", "GPT2"),
    "gptj": Entry("gptj", "GPTJ"),
    "granite": Entry("granite", "Granite", layouts=(("gguf", "granite"),)),
    "granite_swa": Entry("granite_swa", "GraniteSWA"),
    "granitemoe": Entry("granite_moe", "GraniteMoe", layouts=(("gguf", "granitemoe"),)),
    "granitemoe_swa": Entry("granite_swa", "GraniteMoeSWA", "MOE"),
    "granitemoehybrid": Entry("granite_moe", "GraniteMoeHybrid", "HYBRID", layouts=(("gguf", "granitehybrid"),)),
    "granitemoeshared": Entry("granite_moe", "GraniteMoeShared", "SHARED_EXPERT"),
    "gte": Entry("gte", "Gte"),
    "helium": Entry("helium", "Helium"),
    "hrm_text": Entry("hrm_text", "HrmText"),
    "hunyuan_v1_dense": Entry("hunyuan", "HunYuanDenseV1", "DENSE", layouts=(("gguf", "hunyuan-dense"),)),
    "hunyuan_v1_moe": Entry("hunyuan", "HunYuanMoEV1", "MOE", layouts=(("gguf", "hunyuan-moe"),)),
    "hy_v3": Entry("hy_v3", "HYV3"),
    "hy_v4": Entry("hy_v4", "HYV4"),
    "hyperclovax": Entry("hyperclovax", "HyperCLOVAX"),
    "ibert": Entry("ibert", "IBert"),
    "inkling2_text": Entry("inkling2", "Inkling2Text", others=(("Inkling2ForCausalLM", "ForCausalLM"),)),
    "inkling_text": Entry("inkling", "InklingText", others=(("InklingForCausalLM", "ForCausalLM"),)),
    "internlm2": Entry("internlm", "InternLM2", "SECOND"),
    "internlm3": Entry("internlm", "InternLM3"),
    "iquestcoder": Entry("iquestcoder", "IQuestCoder"),
    "jais2": Entry("jais2", "Jais2"),
    "jamba": Entry("jamba", "Jamba"),
    "jetmoe": Entry("jetmoe", "JetMoe"),
    "jina_bert": Entry("jina_bert", "JinaBert"),
    "jina_embeddings_v3": Entry("gte", "JinaEmbeddingsV3", "JINA_V3"),
    "kimi_k2": Entry("deepseek", "KimiK2", "KIMI_K2"),
    "kimi_linear": Entry("kimi_linear", "KimiLinear"),
    "kolibri1": Entry("mellum", "Kolibri1", "KOLIBRI1"),
    "laguna": Entry("laguna", "Laguna", "LAGUNA"),
    "layoutlm": Entry("layoutlm", "LayoutLM"),
    "led": Entry("led", "LED"),
    "lfm2": Entry("lfm2", "Lfm2", layouts=(("gguf", "lfm2"),)),
    "lfm2_moe": Entry("lfm2", "Lfm2Moe", "MOE", layouts=(("gguf", "lfm2moe"),)),
    "lfm3": Entry("lfm2", "Lfm3", "LFM3"),
    "lilt": Entry("layoutlm", "Lilt", "LILT"),
    "llada": Entry("llada", "LLaDA", "LLADA", others=(("LLaDAModelLM", "ForMaskedLM"),)),
    "llama": Entry("llama", "Llama", layouts=(("gguf", "llama"),)),
    "llama4_text": Entry(
        "llama4",
        "Llama4",
        layouts=(("gguf", "llama4"),),
        others=(("Llama4TextConfig", "Config"), ("Llama4TextModel", "Model")),
    ),
    "longcat_flash": Entry("longcat_flash", "LongcatFlash"),
    "longformer": Entry("longformer", "Longformer"),
    "longt5": Entry("longt5", "LongT5"),
    "luke": Entry("luke", "Luke"),
    "m2m_100": Entry("m2m_100", "M2M100"),
    "mamba": Entry("mamba", "Mamba", layouts=(("gguf", "mamba"),)),
    "mamba2": Entry("mamba", "Mamba2", "MAMBA2", layouts=(("gguf", "mamba2"),)),
    "marian": Entry("marian", "Marian"),
    "marian_ssru": Entry("marian_ssru", "MarianSSRU", layouts=(("marian", "ssru"),)),
    "markuplm": Entry("markuplm", "MarkupLM"),
    "mbart": Entry("mbart", "MBart"),
    "megatron-bert": Entry("pre_norm_bert", "MegatronBert"),
    "mellum": Entry("mellum", "Mellum", "MELLUM"),
    "mimo_v2_flash": Entry("mimo_v2", "MiMoV2Flash"),
    "minicpm": Entry("minicpm", "MiniCPM"),
    "minicpm3": Entry("minicpm", "MiniCPM3", "THIRD"),
    "minimax": Entry("minimax", "MiniMax"),
    "minimax_m2": Entry("minimax_m2", "MiniMaxM2", layouts=(("gguf", "minimax-m2"),)),
    "minimax_m3_vl_text": Entry(
        "minimax_m3",
        "MiniMaxM3VL",
        others=(("MiniMaxM3VLTextConfig", "Config"), ("MiniMaxM3VLTextModel", "Model")),
    ),
    "ministral": Entry("mistral", "Ministral", "MINISTRAL"),
    "ministral3": Entry("mistral", "Ministral3", "MINISTRAL3"),
    "mistral": Entry("mistral", "Mistral"),
    "mistral4": Entry("mistral4", "Mistral4"),
    "mistral_large4_text": Entry(
        "mistral_large4",
        "MistralLarge4",
        others=(("MistralLarge4TextConfig", "Config"), ("MistralLarge4TextModel", "Model")),
    ),
    "mixtral": Entry("mixtral", "Mixtral"),
    "mobilebert": Entry("mobilebert", "MobileBert"),
    "modernbert": Entry("modernbert", "ModernBert", layouts=(("gguf", "modern-bert"),)),
    "modernbert-decoder": Entry("modernbert_decoder", "ModernBertDecoder"),
    "mpnet": Entry("mpnet", "MPNet"),
    "mpt": Entry("mpt", "Mpt", layouts=(("gguf", "mpt"),)),
    "mt5": Entry("mt5", "MT5"),
    "muse_glimmer_text": Entry("muse_glimmer", "MuseGlimmerText"),
    "muse_spark_text": Entry("muse_spark", "MuseSparkText"),
    "mvp": Entry("mvp", "Mvp"),
    "nanochat": Entry("nanochat", "NanoChat"),
    "nemotron": Entry("nemotron", "Nemotron", layouts=(("gguf", "nemotron"),)),
    "nemotron_h": Entry("nemotron_h", "NemotronH", layouts=(("gguf", "nemotron_h"), ("gguf", "nemotron_h_moe"))),
    "neomme": Entry("neomme", "NeoMME"),
    "nllb-moe": Entry("nllb_moe", "NllbMoe"),
    "nomic_bert": Entry("nomic_bert", "NomicBert", layouts=(("gguf", "nomic-bert"),)),
    "nomic_bert_moe": Entry("nomic_moe", "NomicBertMoe"),
    "nystromformer": Entry("nystromformer", "Nystromformer"),
    "olmo": Entry("olmo", "Olmo", layouts=(("gguf", "olmo"),)),
    "olmo2": Entry("olmo2", "Olmo2", layouts=(("gguf", "olmo2"),)),
    "olmo3": Entry("olmo2", "Olmo3", "OLMO3"),
    "olmo_hybrid": Entry("olmo_hybrid", "OlmoHybrid"),
    "olmoe": Entry("olmoe", "Olmoe", layouts=(("gguf", "olmoe"),)),
    "openai-gpt": Entry("openai_gpt", "OpenAIGPT"),
    "openai_privacy_filter": Entry("privacy_filter", "OpenAIPrivacyFilter"),
    "opt": Entry("opt", "OPT"),
    "pegasus": Entry("pegasus", "Pegasus"),
    "pegasus_x": Entry("pegasus_x", "PegasusX"),
    "persimmon": Entry("persimmon", "Persimmon"),
    "phi": Entry("phi", "Phi", layouts=(("gguf", "phi2"),)),
    "phi3": Entry("phi3", "Phi3", layouts=(("gguf", "phi3"),)),
    "phi3small": Entry("phi3_small", "Phi3Small"),
    "phimoe": Entry("phimoe", "Phimoe"),
    "plbart": Entry("mbart", "PLBart", "PLBART"),
    "prophetnet": Entry("prophetnet", "ProphetNet"),
    "qwen": Entry("qwen", "QWen", others=(("QWenLMHeadModel", "ForCausalLM"),)),
    "qwen2": Entry("qwen2", "Qwen2", layouts=(("gguf", "qwen2"),)),
    "qwen2_moe": Entry("qwen_moe", "Qwen2Moe", "QWEN2_MOE", layouts=(("gguf", "qwen2moe"),)),
    "qwen3": Entry("qwen3", "Qwen3", layouts=(("gguf", "qwen3"),)),
    "qwen3_5_moe_text": Entry(
        "qwen3_next",
        "Qwen3_5Moe",
        "MOE_TEXT",
        layouts=(("gguf", "qwen35moe"),),
        others=(("Qwen3_5MoeTextConfig", "Config"), ("Qwen3_5MoeTextModel", "Model")),
    ),
    "qwen3_5_text": Entry(
        "qwen3_next",
        "Qwen3_5",
        "TEXT",
        layouts=(("gguf", "qwen35"),),
        others=(
            ("Qwen3_5TextConfig", "Config"),
            ("Qwen3_5TextModel", "Model"),
            ("Qwen3_5TextForSequenceClassification", "ForSequenceClassification"),
        ),
    ),
    "qwen3_moe": Entry("qwen_moe", "Qwen3Moe", "QWEN3_MOE", layouts=(("gguf", "qwen3moe"),)),
    "qwen3_next": Entry("qwen3_next", "Qwen3Next", "NEXT", layouts=(("gguf", "qwen3next"),)),
    "qwen4_exp_text": Entry(
        "qwen4_exp", "Qwen4Exp", others=(("Qwen4ExpTextConfig", "Config"), ("Qwen4ExpTextModel", "Model"))
    ),
    "recurrent_gemma": Entry("recurrent_gemma", "RecurrentGemma"),
    "RefinedWeb": Entry("falcon", "Falcon", "REFINED_WEB"),
    "RefinedWebModel": Entry("falcon", "Falcon"),
    "reformer": Entry("reformer", "Reformer", others=(("ReformerModelWithLMHead", "ForCausalLM"),)),
    "rembert": Entry("rembert", "RemBert"),
    "roberta": Entry("roberta", "Roberta"),
    "roberta-prelayernorm": Entry("pre_norm_bert", "RobertaPreLayerNorm", "ROBERTA"),
    "roc_bert": Entry("roc_bert", "RoCBert"),
    "roformer": Entry("roformer", "RoFormer"),
    "rwkv": Entry("rwkv", "Rwkv"),
    "seed_oss": Entry("seed_oss", "SeedOss", layouts=(("gguf", "seed_oss"),)),
    "smollm3": Entry("smollm3", "SmolLM3", layouts=(("gguf", "smollm3"),)),
    "solar_open": Entry("glm_moe", "SolarOpen", "SOLAR_OPEN"),
    "splinter": Entry("splinter", "Splinter"),
    "squeezebert": Entry("squeezebert", "SqueezeBert"),
    "stablelm": Entry("stablelm", "StableLm", layouts=(("gguf", "stablelm"),)),
    "starcoder2": Entry("starcoder2", "Starcoder2", layouts=(("gguf", "starcoder2"),)),
    "step3p5": Entry("step3p7", "Step3p5"),
    "switch_transformers": Entry("switch_transformers", "SwitchTransformers"),
    "t5": Entry("t5", "T5", layouts=(("gguf", "t5"),)),
    "t5gemma": Entry("t5gemma", "T5Gemma"),
    "t5gemma2": Entry("t5gemma2", "T5Gemma2"),
    "ultrabert": Entry("eurobert", "Ultrabert", "ULTRABERT"),
    "tapas": Entry("tapas", "Tapas"),
    "umt5": Entry("mt5", "UMT5", "UMT5"),
    "vaultgemma": Entry("vaultgemma", "VaultGemma"),
    "xglm": Entry("xglm", "XGLM"),
    "xlm": Entry("xlm", "XLM"),
    "xlm-roberta": Entry("roberta", "XLMRoberta", "XLM_ROBERTA"),
    "xlm-roberta-xl": Entry("pre_norm_bert", "XLMRobertaXL", "XLM_ROBERTA_XL"),
    "xlnet": Entry("xlnet", "XLNet"),
    "xlstm": Entry("xlstm", "xLSTM"),
    "xmod": Entry("xmod", "Xmod"),
    "yoso": Entry("yoso", "Yoso"),
    "youtu": Entry("youtu", "Youtu"),
    "zamba": Entry("zamba", "Zamba"),
    "zamba2": Entry("zamba", "Zamba2", "ZAMBA2"),
    "zaya": Entry("zaya", "Zaya"),
}
FAMILIES: Mapping[str, Entry] = Registry("families", OWN, lambda found: isinstance(found, Entry))


OWN_CODE: Mapping[tuple[str, str], str] = {
    # Files that come with code of their own have the model_type of another family, or none of the reference's:
    # (model_type, position_embedding_type) -> the family that they are.
    ("bert", "alibi"): "jina_bert",
    ("new", "None"): "gte",
    ("new", "rope"): "gte",
    ("xlm-roberta", "rotary"): "jina_embeddings_v3",
}


def architecture(model_type: str) -> Architecture:
    """Return the family of a `model_type`.

    Raises:
        UnknownModel: no file here implements it.
    """
    model_type = DERIVED.get(model_type, model_type)
    if model_type not in FAMILIES:
        raise UnknownModel(f"The model_type {model_type!r} is not implemented here. {nearest(model_type, FAMILIES)}")
    entry = FAMILIES[model_type]
    return getattr(import_module(f"{entry.package}.{entry.file}"), entry.constant)


OWN_CONFIGS: dict[str, type[Config]] = {}  # by model_type: classes that a program registered
DERIVED: dict[str, str] = {}  # model_type of a program's config that derives from a family's -> that family


def note_family(config_class: type[Config]) -> None:
    """Let a program's config class that derives from a family's be built as that family."""
    kinds = [vars(base).get("model_type") for base in config_class.__mro__]
    family = next((kind for kind in kinds if kind in FAMILIES), None)
    if family is not None and config_class.model_type not in FAMILIES:
        DERIVED[config_class.model_type] = family


def register_config(model_type: str, config_class: type[Config], exist_ok: bool = False) -> None:
    """Let files of a model_type be read by a program's own config class, in this process.

    Raises:
        InvalidInput: the class has another model_type, or the type is known already.
    """
    if config_class.model_type != model_type:
        raise InvalidInput(
            f"{config_class.__name__} has the model_type {config_class.model_type!r}, not {model_type!r}: set it."
        )
    if not exist_ok and (model_type in FAMILIES or OWN_CONFIGS.get(model_type, config_class) is not config_class):
        raise InvalidInput(f"The model_type {model_type!r} is known already; exist_ok=True replaces it.")
    OWN_CONFIGS[model_type] = config_class
    note_family(config_class)


def model_type_of_layout(layout: str, name: str) -> str:
    """Return the model_type that a file of another layout calls `name` (GGUF's `general.architecture`, say)."""
    known = {given: kind for kind, entry in FAMILIES.items() for where, given in entry.layouts if where == layout}
    if name not in known:
        raise UnknownModel(f"A {layout} file of architecture {name!r} cannot be loaded here. {nearest(name, known)}")
    return known[name]


def find_class(name: str) -> tuple[str, str] | None:
    """Return (model_type, head suffix) of a class name: ("bert", "ForMaskedLM") for `BertForMaskedLM`, or None."""
    for kind, entry in FAMILIES.items():
        if name in dict(entry.others):
            return kind, dict(entry.others)[name]
    fits = [(len(e.name), kind, name[len(e.name) :]) for kind, e in FAMILIES.items() if name.startswith(e.name)]
    return max(fits)[1:] if fits else None


def parse_config(entries: Mapping[str, Any], default_type: str | None = None) -> Any:
    """Return the typed config of parsed config.json entries.

    Args:
        default_type: the `model_type` to assume where the entries name none, as files before 2020 do.
    """
    half = text_half(entries)
    if half is not None:
        return _text_config(half, entries)
    kind = entries.get("model_type", default_type)
    if not isinstance(kind, str):
        raise UnknownModel(
            'config.json has no model_type, so its family is unknown. Add the entry, e.g. "bert", or load it with a '
            "family's own class, e.g. BertModel."
        )
    if kind in OWN_CONFIGS:
        return OWN_CONFIGS[kind].read(entries)
    kind = OWN_CODE.get((kind, str(entries.get("position_embedding_type"))), kind)
    if kind == "nomic_bert" and entries.get("moe_every_n_layers"):
        kind = "nomic_bert_moe"
    return architecture(kind).config.read(entries)


def _text_config(half: TextHalf, entries: Mapping[str, Any]) -> Any:
    """Return the config of a multimodal checkpoint's language model.

    Raises:
        UnknownModel: its family is not implemented here.
    """
    own = half.entries
    kind = own["model_type"]
    if kind not in FAMILIES:
        raise UnknownModel(
            f"{half.outer}: its language model is of the family {kind!r}, which is not implemented here."
        )
    saved = str((entries.get("architectures") or [""])[0])
    wanted = ("ForSequenceClassification",) if saved.endswith("ForSequenceClassification") else WRITERS
    suffix = next((end for end in wanted if end in architecture(kind).heads), None)
    if saved and suffix is not None:
        own["architectures"] = [FAMILIES[kind].class_name(suffix)]
    return architecture(kind).config.read(own)
