"""Table of recipes: tokenizer class and files -> the function that builds it.

A recipe gives the library's tokenizer and the special tokens' roles, from the settings in tokenizer_config.json. A
class that is in no list here is refused: another class's recipe would give other ids without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import bytepairs, code_classes, pieces, translators, wordpieces
from .bytepairs import byt5
from .characters import canine
from .moses import biogpt, flaubert, xlm
from .parts import BuiltTokenizer, Settings, bert_normalizer, merges_of
from .pieces import marian_small
from .spm import SentencePiece
from .translators import m2m100, marian_sides
from .wordpieces import prophetnet, wordpiece

__all__ = [
    "BPES", "FAMILIES", "LINES", "MOSES", "PROPHETNET", "SPM", "WORDPIECE", "bert_normalizer", "byt5", "canine",
    "m2m100", "marian_sides", "marian_small", "merges_of", "prophetnet", "wordpiece",
]  # fmt: skip

SPM: Mapping[str, Callable[[SentencePiece, Settings], BuiltTokenizer]] = {
    **pieces.RECIPES,
    **translators.RECIPES,
    **code_classes.RECIPES,
}
BPES = bytepairs.RECIPES
LINES = wordpieces.RECIPES
MOSES = {"BioGpt": biogpt, "Flaubert": flaubert, "XLM": xlm}
PROPHETNET = {"ProphetNet": prophetnet}
FAMILIES = {  # model_type in config.json -> stem of the tokenizer's class
    "albert": "Albert",
    "baichuan": "Baichuan",
    "bart": "Roberta",
    "bert": "Bert",
    "bert-generation": "BertGeneration",
    "big_bird": "BigBird",
    "bigbird_pegasus": "Pegasus",
    "biogpt": "BioGpt",
    "blenderbot": "Blenderbot",
    "blenderbot-small": "BlenderbotSmall",
    "camembert": "Camembert",
    "canine": "Canine",
    "chatglm": "ChatGLM",
    "codegen": "CodeGen",
    "cohere": "Cohere",
    "cohere2": "Cohere",
    "convbert": "ConvBert",
    "cpmant": "CpmAnt",
    "ctrl": "CTRL",
    "data2vec-text": "Roberta",
    "deberta": "Deberta",
    "deberta-v2": "DebertaV2",
    "distilbert": "DistilBert",
    "dpr": "DPRQuestionEncoder",
    "electra": "Electra",
    "ernie": "Bert",
    "esm": "Esm",
    "flaubert": "Flaubert",
    "fnet": "FNet",
    "fsmt": "FSMT",
    "funnel": "Funnel",
    "gemma": "Gemma",
    "gemma2": "Gemma",
    "gemma3_text": "Gemma",
    "gpt-sw3": "GPTSw3",
    "gpt2": "GPT2",
    "gpt_bigcode": "GPT2",
    "gpt_neo": "GPT2",
    "gpt_neox": "GPTNeoX",
    "gptj": "GPT2",
    "gte": "XLMRoberta",
    "ibert": "Roberta",
    "internlm2": "InternLM2",
    "jina_embeddings_v3": "XLMRoberta",
    **dict.fromkeys(("kimi_k2", "kimi_linear"), "TikToken"),
    "layoutlm": "LayoutLM",
    "led": "LED",
    "llama": "Llama",
    "longformer": "Longformer",
    "longt5": "T5",
    "lxmert": "Lxmert",
    "m2m_100": "M2M100",
    "mamba": "GPTNeoX",
    "mamba2": "GPTNeoX",
    "marian": "Marian",
    "mbart": "MBart",
    "megatron-bert": "Bert",
    "mistral": "Llama",
    "mixtral": "Llama",
    "mobilebert": "MobileBert",
    "mpnet": "MPNet",
    "mpt": "GPTNeoX",
    "mt5": "T5",
    "mvp": "Mvp",
    "nllb-moe": "Nllb",
    "nomic_bert": "Bert",
    "olmo": "GPTNeoX",
    "openai-gpt": "OpenAIGPT",
    "opt": "GPT2",
    "pegasus": "Pegasus",
    "phi": "CodeGen",
    "plbart": "PLBart",
    "prophetnet": "ProphetNet",
    "qwen": "QWen",
    "qwen2": "Qwen2",
    "qwen2_moe": "Qwen2",
    "qwen3": "Qwen2",
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text"), "Qwen3_5"),
    "qwen3_moe": "Qwen2",
    "qwen3_next": "Qwen2",
    "recurrent_gemma": "Gemma",
    "rembert": "RemBert",
    "roberta": "Roberta",
    "roberta-prelayernorm": "Roberta",
    "roformer": "RoFormer",
    "splinter": "Splinter",
    "squeezebert": "SqueezeBert",
    "starcoder2": "GPT2",
    "switch_transformers": "T5",
    "t5": "T5",
    "t5gemma": "Gemma",
    "tapas": "Tapas",
    "umt5": "T5",
    "xglm": "XGLM",
    "xlm": "XLM",
    "xlm-roberta": "XLMRoberta",
    "xlm-roberta-xl": "XLMRoberta",
    "xlnet": "XLNet",
    "xmod": "XLMRoberta",
}
WORDPIECE = frozenset(name for name, recipe in LINES.items() if recipe is wordpiece) | {"Funnel", "MPNet", "Splinter"}
