"""Text families of the reference's Auto classes that are not here, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from transformers.models.auto import modeling_auto

from multihead.models.common.registry import FAMILIES, architecture
from multihead.models.common.text_types import TEXT_TYPES
from multihead.models.common.wrappers import WRAPPERS

TASKS = (
    *("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "SEQUENCE_CLASSIFICATION", "TOKEN_CLASSIFICATION"),
    *("QUESTION_ANSWERING", "TEXT_ENCODING", "MULTIPLE_CHOICE", "NEXT_SENTENCE_PREDICTION"),
)
DENOISES = "writes by denoising blocks of tokens, and no text from its left to its right"
SOUND = "reads or writes sound; its language model is no checkpoint of its own"
SIGHT = "reads images or page layouts beside its text, in every layer"
DRAFTS = "drafts for Gemma 4 and writes nothing alone; `DraftHead` loads it"
PARTS = "is a part of a model that reads images, and is not published alone"
KERNEL = (
    "attends with a CUDA kernel alone; without it the reference's attention is zero, so that nothing can be compared"
)
REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        """
        audioflamingo3 moshi musicflamingo musicgen musicgen_melody nemo_speechlm seamless_m4t seamless_m4t_v2
        voxtral_realtime whisper
        """.split(),
        SOUND,
    ),
    **dict.fromkeys(
        """
        bros git layoutlmv2 layoutlmv3 lxmert perceiver
        """.split(),
        SIGHT,
    ),
    **dict.fromkeys(("gemma4_assistant", "gemma4_unified_assistant"), DRAFTS),
    "mra": KERNEL,
    **dict.fromkeys(("clip_text_model", "emu3", "tipsv2_text_model", "trocr"), PARTS),
}
WRAPPER_REASONS: Mapping[str, str] = {
    **dict.fromkeys(("blip", "chameleon", "evolla", "idefics", "pi0", "pix2struct", "pp_formulanet", "udop"), SIGHT),
    **dict.fromkeys(
        ("florence2", "kosmos-2", "kosmos-2.5", "vision-encoder-decoder"),
        "answers about an image; its text half has no task",
    ),
    "kyutai_speech_to_text": SOUND,
    "unlimited_ocr": "reads pages; an answer sees its whole prompt and a window of itself, a mask that is not here",
    "diffusion_gemma": DENOISES,
}
HEAD_REASONS: Mapping[str, str] = {}  # class name -> why a family that is here has no such head


def mapped(task: str) -> dict[str, set[str]]:
    """The class names of each model type of a task, as the reference maps them."""
    names = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
    return {kind: {found} if isinstance(found, str) else set(found) for kind, found in names.items()}


def text_classes() -> dict[str, set[str]]:
    """The class names of each text model type of the reference."""
    out: dict[str, set[str]] = {}
    for task in TASKS:
        for kind, names in mapped(task).items():
            out.setdefault(kind, set()).update(names)
    return out


def text_half(kind: str) -> str:
    """The family that loads the text half of a wrapper."""
    text = WRAPPERS[kind].text
    return TEXT_TYPES[text].family if text in TEXT_TYPES else text


def wrapper_types() -> set[str]:
    """Model types of the reference's multimodal Auto classes that are no text family."""
    found = {*mapped("IMAGE_TEXT_TO_TEXT"), *mapped("MULTIMODAL_LM")}
    return {kind for kind in found if kind not in FAMILIES and kind not in REASONS}


def missing_types() -> list[str]:
    """Text model types of the reference that are not here."""
    here = {*FAMILIES, *TEXT_TYPES, *WRAPPERS}
    return sorted(kind for kind in text_classes() if kind not in here)


def missing_wrappers() -> list[str]:
    """Multimodal model types of the reference whose text half is not loaded."""
    return sorted(kind for kind in wrapper_types() if kind not in WRAPPERS or text_half(kind) not in FAMILIES)


def missing_heads() -> list[tuple[str, str]]:
    """(model type, class name) of heads that the reference has for a family that is here."""
    every = {entry.class_name(end) for kind, entry in FAMILIES.items() for end in architecture(kind).heads}
    return sorted((kind, name) for kind, names in text_classes().items() if kind in FAMILIES for name in names - every)
