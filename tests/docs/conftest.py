"""A scratch folder with the checkpoints and files that the pages name; all checkpoints are tiny."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from multihead import AutoModelForCausalLM, AutoTokenizer, LoraConfig
from multihead.modeling.gguf_export import save_gguf
from tests.conftest import saved, written
from tests.tokenizers import folders

WIDE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{{ tools | length if tools else 0 }}"
)
LABELS = {0: "negative", 1: "positive"}
ROWS = [("A warm and funny film.", "positive"), ("Dull, long and loud.", "negative")] * 4


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny checkpoints by kind."""
    root = tmp_path_factory.mktemp("library")
    found = {kind: root / kind for kind in ("classifier", "reranker", "reader", "encoder", "llm", "adapter")}
    for folder in found.values():
        folder.mkdir()
    written(found["classifier"], transformers.BertForSequenceClassification, id2label=LABELS)
    written(found["reranker"], transformers.BertForSequenceClassification, num_labels=1)
    written(found["reader"], transformers.BertForQuestionAnswering)
    written(found["encoder"], transformers.BertModel)
    write_llm(found["llm"])
    model = AutoModelForCausalLM.from_pretrained(found["llm"])
    model.add_adapter(LoraConfig(r=4, target_modules=["q_proj"]))
    model.save_pretrained(found["adapter"])
    config = json.loads((found["adapter"] / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(found["llm"])
    (found["adapter"] / "adapter_config.json").write_text(json.dumps(config))
    found["gguf"] = root / "model.gguf"
    save_gguf(
        AutoModelForCausalLM.from_pretrained(found["llm"]),
        AutoTokenizer.from_pretrained(found["llm"]),
        found["gguf"],
        "Q8_0",
    )
    return found


def write_llm(folder: Path) -> None:
    """Write a Llama with a byte-level tokenizer and a chat template; its head width serves every fast path."""
    folders.bytes_bpe(folder, "GPT2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        **WIDE, vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=1024,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    saved(transformers.LlamaForCausalLM, config, folder)


@pytest.fixture
def scratch(library: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a page's blocks, with what the page's reader has on the disk."""
    for place, kind in {
        "some/checkpoint": "llm", "some/model": "llm", "some/classifier": "classifier", "some/encoder": "encoder",
        "some/reranker": "reranker", "some/reader": "reader", "org/bert": "encoder", "org/llama": "llm",
        "org/llama-poems": "adapter", "org/llama-sql": "adapter", "my-llm": "llm", "model.gguf": "gguf",
    }.items():  # fmt: skip
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).symlink_to(library[kind])
    (tmp_path / "reviews.txt").write_text("".join(f"{text}\n" for text, _ in ROWS))
    for table, mark in (("train.csv", ","), ("dev.csv", ","), ("train.tsv", "\t"), ("dev.tsv", "\t")):
        lines = [f'"{text}"{mark}{label}' for text, label in ROWS]
        (tmp_path / table).write_text("\n".join([f"text{mark}label", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # default models come from the package index
    return tmp_path
