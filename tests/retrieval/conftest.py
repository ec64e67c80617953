"""A tiny sentence encoder and documents that it tells apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentence_transformers as reference
import torch
from sentence_transformers.sentence_transformer import modules

from multihead import SentenceEncoder

DOCUMENTS = [
    "the quick brown fox jumps",
    "a dog",
    "the lazy dog doesn't mind",
    "der Hund schläft",
    "dog fox dog fox",
    "the fox",
]


@pytest.fixture(scope="session")
def encoder_folder(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    transformer = reference.base.modules.Transformer(str(bert))
    torch.manual_seed(1)
    reference.SentenceTransformer(
        modules=[transformer, modules.Pooling(16)], prompts={"query": "dog ", "document": "the "}
    ).save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> SentenceEncoder:
    return SentenceEncoder.from_pretrained(encoder_folder)
