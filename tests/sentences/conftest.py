"""Tiny sentence encoders, written by the reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers as reference
import torch
from sentence_transformers.sentence_transformer import modules

SENTENCES = [
    "The quick brown fox jumps.",
    "A dog",
    "",
    "the lazy dog doesn't mind " * 9,  # more than the 24 tokens of the tiny BERT
    "Schöne Grüße aus München!",
    "dog",
]

Make = Callable[..., Path]


@pytest.fixture
def make(bert: Path, tmp_path: Path) -> Make:
    """A folder with the tiny BERT and these steps after it, whose weights are drawn at random."""

    def made(steps: Sequence[Any], **options: Any) -> Path:
        torch.manual_seed(1)
        for step in steps:
            for parameter in step.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        transformer = reference.base.modules.Transformer(str(bert))
        reference.SentenceTransformer(modules=[transformer, *steps], **options).save(
            str(tmp_path / "made"), create_model_card=False
        )
        return tmp_path / "made"

    return made


@pytest.fixture
def encoder(make: Make) -> Path:
    """The mean of all states, then a dense layer to six numbers, then length 1."""
    return make([modules.Pooling(16), modules.Dense(16, 6), modules.Normalize()])


def changed(path: Path, **entries: Any) -> None:
    """Changes entries of a JSON file; None takes one away."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({k: v for k, v in {**known, **entries}.items() if v is not None}))
