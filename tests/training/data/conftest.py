"""Small tokenizers of three kinds, ours and the reference's, and the real data where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from multihead import AutoTokenizer
from tests.tokenizers import folders

CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="session")
def wordpiece_folder(tmp_path_factory):
    return folders.wordpiece(tmp_path_factory.mktemp("wordpiece"))


@pytest.fixture(scope="session")
def bytes_folder(tmp_path_factory):
    return folders.bytes_bpe(tmp_path_factory.mktemp("bytes"), "GPT2", eos_token="<|endoftext|>")


@pytest.fixture(scope="session")
def wordpiece(wordpiece_folder):
    """BERT's kind: [CLS] and [SEP] around a text."""
    return AutoTokenizer.from_pretrained(wordpiece_folder)


@pytest.fixture(scope="session")
def their_wordpiece(wordpiece_folder):
    return transformers.AutoTokenizer.from_pretrained(wordpiece_folder)


@pytest.fixture(scope="session")
def bytes_bpe(bytes_folder):
    """GPT-2's kind: nothing around a text; with a chat template."""
    found = AutoTokenizer.from_pretrained(bytes_folder)
    found.chat_template = CHAT
    return found


@pytest.fixture(scope="session")
def their_bytes(bytes_folder):
    return transformers.AutoTokenizer.from_pretrained(bytes_folder)


@pytest.fixture(scope="session")
def t5(tmp_path_factory):
    """T5's kind: </s> behind a text."""
    return AutoTokenizer.from_pretrained(folders.pieces(tmp_path_factory.mktemp("t5"), "spiece.model", "T5"))


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real data sets."""
    folder = Path(__file__).parents[3].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not here: ../shared/data beside the repository")
    return folder
