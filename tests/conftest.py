"""Tiny checkpoints in Hugging Face format, a folder each, and tokenizers for them."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():  # said before anything imports Triton
    os.environ["TRITON_INTERPRET"] = "1"

import transformers

from tests.tokenizers import folders

# Processes that tests start would else compile the whole package each time, which takes as long as their work.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):  # else each one's threads wait for the other's
    torch.set_num_threads(max((os.cpu_count() or 1) // workers, 1))

if not torch.cuda.is_available():  # else each seed is queued for devices that never come, with a formatted stack
    for device in (torch.cuda, torch.xpu, torch.mtia):
        device.manual_seed_all = lambda seed: None

gc.disable()  # until all tests are collected: nothing of them is garbage


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what lives until the end (tests, imported modules) out of every later garbage collection."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.distribution import CaseScheduling

    return CaseScheduling(config, log)


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT with a masked language model's head and a WordPiece tokenizer, written by the reference."""
    return written(tmp_path_factory.mktemp("bert"), transformers.BertForMaskedLM)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT with a head for three labels that have names."""
    names = {0: "bad", 1: "fair", 2: "good"}
    return written(tmp_path_factory.mktemp("classifier"), transformers.BertForSequenceClassification, id2label=names)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama with a byte-level tokenizer, so that any text can be written."""
    folder = folders.bytes_bpe(tmp_path_factory.mktemp("llama"), "GPT2")
    words = len(transformers.AutoTokenizer.from_pretrained(folder))
    config = transformers.LlamaConfig(
        **SIZES, vocab_size=words, num_key_value_heads=1, max_position_embeddings=64, eos_token_id=None
    )
    return saved(transformers.LlamaForCausalLM, config, folder)


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian translator with its two SentencePiece models."""
    folder = folders.marian(tmp_path_factory.mktemp("marian"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.MarianConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64, num_beams=1,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, forced_eos_token_id=None,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return saved(transformers.MarianMTModel, config, folder)


def written(folder: Path, kind: Any, **options: Any) -> Path:
    folders.wordpiece(folder)
    words = len(transformers.AutoTokenizer.from_pretrained(folder))
    config = transformers.BertConfig(**SIZES, vocab_size=words, max_position_embeddings=24, **options)
    return saved(kind, config, folder)


def saved(kind: Any, config: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
