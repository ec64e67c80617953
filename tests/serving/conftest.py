"""Running servers on free ports: one over tiny checkpoints, one over the small real models of `multihead serve`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers
import uvicorn

from multihead.serving.app import build_app
from multihead.serving.models.defaults import default_models
from multihead.serving.settings import ModelSettings, ServerSettings
from tests.conftest import SIZES, saved, written
from tests.real.test_real_weights import fetched
from tests.tokenizers import folders

CHATML = """
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or '' }}{% for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""


@dataclass(frozen=True)
class RunningServer:
    """A server in a thread of this process.

    Args:
        url: "http://127.0.0.1:PORT". app: the Starlette application, whose `state.server` tests may look into.
    """

    url: str
    app: Any

    @property
    def state(self) -> Any:
        return self.app.state.server

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """Send JSON (bytes go as they are)."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return httpx.post(self.url + path, content=content, headers=headers, timeout=120, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=120, **options)


@contextmanager
def running(settings: ServerSettings) -> Iterator[RunningServer]:
    """Serve on a free port until the block ends; the models that are loaded at the start are loaded."""
    app = build_app(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=300) as client:
            while client.get(f"{url}/ready").status_code != 200:
                assert not app.state.server.models.failed, app.state.server.models.failed
                threading.Event().wait(0.02)
        yield RunningServer(url, app)
    finally:
        server.should_exit = True
        thread.join()


def chat_checkpoint(folder: Path, positions: int = 512) -> Path:
    """Llama with a byte-level tokenizer, control tokens of ChatML and a template that knows tools."""
    folders.bytes_bpe(folder, "GPT2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])
    tokenizer.eos_token, tokenizer.chat_template = "<|im_end|>", CHATML
    tokenizer.model_max_length = positions
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        **SIZES, vocab_size=len(tokenizer), num_key_value_heads=1, max_position_embeddings=positions,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return saved(transformers.LlamaForCausalLM, config, folder)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_checkpoint(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="session")
def server(chat_model: Path, bert: Path, classifier: Path, marian: Path) -> Iterator[RunningServer]:
    """Tiny checkpoints: "chat" (alias "gpt-tiny"), and loaded on their first use "bert", "classifier", "marian"."""
    models = [ModelSettings(source=str(chat_model), name="chat", aliases=("gpt-tiny",), precision="float32")]
    for name, folder in {"bert": bert, "classifier": classifier, "marian": marian}.items():
        models.append(ModelSettings(source=str(folder), name=name, preload=False, precision="float32"))
    with running(ServerSettings(models=tuple(models))) as server:
        yield server


@pytest.fixture(scope="session")
def real_server() -> Iterator[RunningServer]:
    """The models of `multihead serve` without arguments; for tests marked `real`."""
    models = default_models()
    fetched(models[0].source)
    with running(ServerSettings(models=tuple(models))) as server:
        yield server


def sentence_encoder(folder: Path, bert: Path) -> Path:
    """The mean of BERT's states, a dense layer to six numbers, then length 1; with two prompts."""
    import sentence_transformers as reference
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(1)
    steps = [modules.Pooling(16, include_prompt=False), modules.Dense(16, 6), modules.Normalize()]
    for parameter in steps[1].parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made = reference.SentenceTransformer(
        modules=[reference.base.modules.Transformer(str(bert)), *steps],
        prompts={"query": "the dog: ", "document": "a fox: "},
    )
    made.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def task_models(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> dict[str, Path]:
    """Tiny checkpoints, one for each kind of head."""
    make = tmp_path_factory.mktemp
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    tags = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
    back = {name: number for number, name in labels.items()}
    return {
        "encoder": sentence_encoder(make("encoder"), bert),
        "reranker": written(make("reranker"), transformers.BertForSequenceClassification, num_labels=1),
        "judge": written(
            make("judge"), transformers.BertForSequenceClassification, id2label=labels, label2id=back
        ),
        "tagger": written(make("tagger"), transformers.BertForTokenClassification, id2label=tags),
        "reader": written(make("reader"), transformers.BertForQuestionAnswering),
    }  # fmt: skip


@pytest.fixture(scope="session")
def task_server(
    task_models: dict[str, Path], chat_model: Path, bert: Path, classifier: Path, marian: Path
) -> Iterator[RunningServer]:
    """All kinds of heads, each model loaded on its first use."""
    folders_ = {**task_models, "mask": bert, "labels": classifier, "translator": marian, "chat": chat_model}
    models = [
        ModelSettings(source=str(folder), name=name, preload=False, precision="float32")
        for name, folder in folders_.items()
    ]
    with running(ServerSettings(models=tuple(models), max_inputs=300)) as server:
        yield server
