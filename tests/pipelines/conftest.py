"""Tiny checkpoints with the heads that tasks need, and both sides' pipelines of a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import transformers

import multihead
from tests.conftest import SIZES, saved, written
from tests.tokenizers import folders

IOB = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}

exact = partial(multihead.pipeline, dtype="float32")  # the default is what the hardware multiplies fastest


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT that tags tokens."""
    return written(tmp_path_factory.mktemp("tagger"), transformers.BertForTokenClassification, id2label=IOB)


@pytest.fixture(scope="session")
def byte_tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RoBERTa that tags tokens of a byte-level tokenizer, which knows no subword mark."""
    folder = folders.bytes_bpe(tmp_path_factory.mktemp("byte_tagger"), "Roberta", add_prefix_space=True)
    words = len(transformers.AutoTokenizer.from_pretrained(folder))
    config = transformers.RobertaConfig(
        **SIZES, vocab_size=words, max_position_embeddings=66, pad_token_id=1, id2label=IOB
    )
    return saved(transformers.RobertaForTokenClassification, config, folder)


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT for natural language inference."""
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    return written(tmp_path_factory.mktemp("judge"), transformers.BertForSequenceClassification,
                   id2label=names, label2id={name: number for number, name in names.items()})  # fmt: skip


@pytest.fixture(scope="session")
def masked_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = folders.bytes_bpe(tmp_path_factory.mktemp("masked_roberta"), "Roberta")
    words = len(transformers.AutoTokenizer.from_pretrained(folder))
    config = transformers.RobertaConfig(**SIZES, vocab_size=words, max_position_embeddings=66, pad_token_id=1)
    return saved(transformers.RobertaForMaskedLM, config, folder)


def both(task, folder, **options):
    """Our pipeline and the reference's."""
    return exact(task, folder, **options), transformers.pipeline(task, str(folder), **options)


def same(ours, theirs, *, score=1e-5):
    """Equal, but for floats within `score`."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            same(ours[key], theirs[key], score=score)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other, score=score)
    elif hasattr(theirs, "dtype") or isinstance(theirs, float):
        assert ours == pytest.approx(float(theirs), abs=score)
    else:
        assert ours == theirs
