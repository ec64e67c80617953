"""A real sentence encoder gives the reference's vectors; the page in docs/ runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers as reference

from multihead import SentenceEncoder, pipeline
from multihead.pipelines.defaults import MINILM
from tests.real.test_real_weights import fetched
from tests.tokenizers.folders import TEXTS

pytestmark = pytest.mark.real
PAGE = Path(__file__).parents[2] / "docs" / "sentences.md"
SENTENCES = [*TEXTS, "The children were playing happily in the garden. " * 40, "Why?"]


def test_minilm_gives_the_references_vectors(tmp_path):
    folder = fetched(MINILM.name)
    theirs = reference.SentenceTransformer(str(folder), device="cpu")
    ours = SentenceEncoder.from_pretrained(folder)
    assert ours.max_seq_length == theirs.max_seq_length == 256
    got, expected = ours.encode(SENTENCES), theirs.encode(SENTENCES)
    assert np.abs(got - expected).max() <= 2e-6
    ours.save_pretrained(tmp_path / "back")
    again = reference.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert np.abs(again.encode(SENTENCES) - expected).max() <= 2e-6


def test_the_pipeline_compares_them():
    folder = fetched(MINILM.name)
    theirs = reference.SentenceTransformer(str(folder), device="cpu")
    source, *sentences = [text for text in TEXTS if text.strip()][:5]
    vectors = theirs.encode([source, *sentences])
    got = pipeline("sentence-similarity", MINILM.name, dtype="float32")(
        {"source_sentence": source, "sentences": sentences}
    )
    assert got == pytest.approx(theirs.similarity(vectors[:1], vectors[1:])[0].tolist(), abs=1e-5)


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    fetched(MINILM.name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"(?<!<!-- fragment -->\n)```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(code, names)
    assert "256 384" in capsys.readouterr().out
