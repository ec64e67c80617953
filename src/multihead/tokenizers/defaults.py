"""Defaults of each tokenizer class: entries of tokenizer_config.json that a folder may leave out.

Keys are the stems of class names (`Bert` of `BertTokenizerFast`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .codes import MBART50, MBART_CODES, NLLB_CODES


def tokens(**roles: str) -> dict[str, str]:
    """Return role -> token; the roles are given without `_token`."""
    return {f"{role}_token": token for role, token in roles.items()}


BERT = tokens(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
ALBERT = tokens(bos="[CLS]", eos="[SEP]", unk="<unk>", sep="[SEP]", pad="<pad>", cls="[CLS]", mask="[MASK]")
FAIRSEQ = tokens(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>", cls="<s>", mask="<mask>")
DEBERTA = tokens(bos="[CLS]", eos="[SEP]", unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
GPT2 = tokens(bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>")
LLAMA = tokens(bos="<s>", eos="</s>", unk="<unk>")
T5 = tokens(eos="</s>", unk="<unk>", pad="<pad>")
BERTS = (
    "Bert", "BertJapanese", "ConvBert", "DistilBert", "DPRContextEncoder", "DPRQuestionEncoder", "DPRReader",
    "Electra", "LayoutLM", "Lxmert", "MobileBert", "Realm", "RetriBert", "RoFormer", "Splinter", "SqueezeBert", "Tapas",
)  # fmt: skip
ROLES: Mapping[str, Mapping[str, str]] = {  # the tokens with a role
    **dict.fromkeys(BERTS, BERT),
    **dict.fromkeys(("Albert", "FNet", "RemBert"), ALBERT),
    **dict.fromkeys(("Roberta", "Bart", "Longformer", "LED", "Mvp", "Tapex", "Blenderbot", "Camembert", "MBart", "Nllb",
                     "PLBart", "XLMRoberta"), FAIRSEQ),
    **dict.fromkeys(("Deberta", "DebertaV2"), DEBERTA),
    **dict.fromkeys(("GPT2", "CodeGen"), GPT2),
    **dict.fromkeys(("CodeLlama", "Llama"), LLAMA),
    **dict.fromkeys(("Marian", "T5"), T5),
    "BertGeneration": tokens(bos="<s>", eos="</s>", unk="<unk>", sep="<::::>", pad="<pad>"),
    "BigBird": tokens(
        bos="<s>", eos="</s>", unk="<unk>", sep="[SEP]", pad="<pad>", cls="[CLS]", mask="[MASK]"
    ),
    "BioGpt": tokens(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>"),
    "BlenderbotSmall": tokens(bos="__start__", eos="__end__", unk="__unk__", pad="__null__"),
    "Canine": tokens(
        bos="\ue000", eos="\ue001", sep="\ue001", pad="\0", cls="\ue000", mask="\ue003"
    ),
    "Cohere": tokens(
        bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", unk="<UNK>", sep="<SEP>", pad="<PAD>", cls="<CLS>",
        mask="<MASK_TOKEN>",
    ),
    "CpmAnt": tokens(bos="<s>", eos="</s>", unk="<unk>", pad="<pad>"),
    "CTRL": tokens(unk="<unk>"),
    "Esm": tokens(eos="<eos>", unk="<unk>", pad="<pad>", cls="<cls>", mask="<mask>"),
    **dict.fromkeys(
        ("Flaubert", "XLM"),
        tokens(bos="<s>", unk="<unk>", sep="</s>", pad="<pad>", cls="</s>", mask="<special1>"),
    ),
    "FSMT": tokens(bos="<s>", unk="<unk>", sep="</s>", pad="<pad>"),
    "Funnel": tokens(bos="<s>", eos="</s>", unk="<unk>", sep="<sep>", pad="<pad>", cls="<cls>", mask="<mask>"),
    "Gemma": tokens(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>", mask="<mask>"),
    "GPTNeoX": GPT2 | tokens(pad="<|padding|>"),
    "Herbert": tokens(unk="<unk>", sep="</s>", pad="<pad>", cls="<s>", mask="<mask>"),
    "M2M100": tokens(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>"),
    "MBart50": tokens(eos="</s>", unk="<unk>", sep="</s>", pad="<pad>", cls="<s>", mask="<mask>"),
    "MPNet": tokens(bos="<s>", eos="</s>", unk="[UNK]", sep="</s>", pad="<pad>", cls="<s>", mask="<mask>"),
    "OpenAIGPT": tokens(unk="<unk>"),
    "Pegasus": tokens(eos="</s>", unk="<unk>", pad="<pad>", mask="<mask_2>"),
    "ProphetNet": tokens(unk="[UNK]", sep="[SEP]", pad="[PAD]", mask="[MASK]"),
    **dict.fromkeys(("Qwen2", "Qwen3_5"), tokens(eos="<|endoftext|>", unk="<|endoftext|>", pad="<|endoftext|>")),
    "GPTSw3": tokens(bos="<s>", eos="<|endoftext|>", unk="<unk>", pad="<pad>"),
    "XGLM": tokens(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>", cls="<s>"),
    "XLNet": tokens(bos="<s>", eos="</s>", unk="<unk>", sep="<sep>", pad="<pad>", cls="<cls>", mask="<mask>"),
}  # fmt: skip

TYPED = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
TYPES_LAST = {"model_input_names": ["input_ids", "attention_mask", "token_type_ids"]}
LEFT = {"padding_side": "left"}
CODE = {  # spaces before punctuation go from what PLBart writes, though byte pairs make it: so the reference decodes
    "legacy_behaviour": True,
    "clean_up_tokenization_spaces": True,
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {  # all else
    **dict.fromkeys(("Albert", "Bert", "BertJapanese", "ConvBert", "DPRContextEncoder", "DPRQuestionEncoder",
                     "DPRReader", "Electra", "LayoutLM", "Lxmert", "MobileBert", "RemBert", "RoFormer", "SqueezeBert"),
                    TYPED),
    **dict.fromkeys(("CodeLlama", "Cohere", "Gemma", "Llama"), LEFT),
    **dict.fromkeys(("Deberta", "DebertaV2"), TYPES_LAST),
    "Canine": {**TYPES_LAST, "model_max_length": 2048},
    "FNet": {"model_input_names": ["input_ids", "token_type_ids"]},
    "CpmAnt": LEFT,
    "XLNet": {**TYPED, "padding_side": "left", "pad_token_type_id": 3},
    "MBart": {"legacy_behaviour": True},
    "Tapas": {**TYPES_LAST, "model_max_length": 512, "clean_up_tokenization_spaces": True},
    "ProphetNet": {"x_sep_token": "[X_SEP]", "clean_up_tokenization_spaces": True},
    "PLBart": CODE,
}  # fmt: skip
MORE: Mapping[str, tuple[str, ...]] = {  # special tokens without a role, where tokenizer.json has them
    "Camembert": ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    "MBart": tuple(MBART_CODES),
    "MBart50": tuple(MBART50),
    "Nllb": tuple(NLLB_CODES),
    "Pegasus": ("<mask_1>", *(f"<unk_{number}>" for number in range(2, 103))),
    "Splinter": ("[QUESTION]",),
    "T5": tuple(f"<extra_id_{number}>" for number in range(100)),
    "XGLM": tuple(f"<madeupword{number}>" for number in range(7)),
    "XLNet": ("<eop>", "<eod>"),
}
