"""/inspect: attention beside the reference's, and facts on models."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import torch
import transformers
from starlette.testclient import TestClient

from multihead.serving.app import build_app
from multihead.serving.settings import ModelSettings, ServerSettings

from .conftest import RunningServer

TEXT = "the fox jumps over the dog"


def weights(server: RunningServer, body: dict[str, object]) -> torch.Tensor:
    found = server.post("/inspect/attention", body)
    assert found.status_code == 200, found.text
    return torch.tensor(found.json()["weights"])


@pytest.mark.parametrize("name", ["bert", "chat"])
def test_attention_is_the_references(server: RunningServer, bert: Path, chat_model: Path, name: str) -> None:
    folder = {"bert": bert, "chat": chat_model}[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = model(**tokenizer(TEXT, return_tensors="pt"), output_attentions=True).attentions
    for layer, head in ((0, 0), (len(expected) - 1, expected[0].shape[1] - 1)):
        found = weights(server, {"model": name, "text": TEXT, "layer": layer, "head": head})
        assert (found - expected[layer][0, head]).abs().max() < 1e-3
        assert found.sum(-1) == pytest.approx(1, abs=2e-3)


def test_an_encoder_decoder_has_several_sides(server: RunningServer) -> None:
    body = {"model": "marian", "text": TEXT, "target": "a dog"}
    found = server.post("/inspect/attention", body).json()
    assert found["sides"] == ["encoder", "decoder", "decoder to encoder"]
    cross = server.post("/inspect/attention", {**body, "side": "decoder to encoder", "head": 0}).json()
    assert cross["keys"] == found["keys"]
    assert len(cross["weights"]) == len(cross["queries"]) != len(cross["keys"]) == len(cross["weights"][0])
    alone = server.post("/inspect/attention", {"model": "marian", "text": TEXT}).json()
    assert alone["sides"] == ["encoder"]


def test_a_layer_is_small_maps_of_its_heads(server: RunningServer) -> None:
    found = server.post("/inspect/attention", {"model": "chat", "text": "fox " * 36, "layer": 1}).json()
    assert found["layer"] == 1
    assert len(found["thumbnails"]) == found["heads"]
    for small in found["thumbnails"]:
        cells = base64.b64decode(small["cells"])
        assert len(cells) == small["rows"] * small["columns"] == 32 * 32
        assert max(cells) == 255


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "bert", "text": TEXT, "layer": 99}, "layer"),
        ({"model": "bert", "text": TEXT, "head": 99}, "head"),
        ({"model": "bert", "text": TEXT, "side": "decoder"}, "side"),
        ({"model": "marian", "text": TEXT, "side": "decoder to encoder"}, "side"),
        ({"model": "bert", "text": ""}, "text"),
        ({"model": "bert", "text": TEXT, "layer": -1}, "layer"),
        ({"model": "bert", "text": TEXT, "layers": 1}, "layers"),
        ({"model": "bert", "text": TEXT, "target": "a dog"}, None),
        ({"model": "chat", "text": "fox " * 400}, None),
    ],
)
def test_what_cannot_be_shown_is_an_error(server: RunningServer, body: dict[str, object], param: str | None) -> None:
    found = server.post("/inspect/attention", body)
    assert found.status_code == 400, found.text
    assert found.json()["error"]["param"] == param


def test_facts_on_models(server: RunningServer, bert: Path) -> None:
    listed = {each["id"]: each for each in server.get("/inspect/models").json()["data"]}
    assert listed["chat"]["task"] == "text-generation"
    assert listed["chat"]["chat"] is True
    assert {"bert", "classifier", "marian"} <= set(listed)
    found = server.get("/inspect/model/bert").json()
    assert found["family"] == "bert"
    assert found["parameters"] == transformers.AutoModelForMaskedLM.from_pretrained(bert).num_parameters()
    assert sum(found["bytes"].values()) >= 4 * found["parameters"]
    assert found["mask"] == "[MASK]"
    assert server.get("/inspect/model/none").status_code == 404


def test_facts_on_the_machine(server: RunningServer) -> None:
    assert server.get("/inspect/machine").json()["versions"]["torch"] == torch.__version__


def test_an_unloaded_translator_of_a_pair_is_listed_as_a_translator():
    model = ModelSettings(source="somebody/translator", name="en-pt", task="translation_en_to_pt", preload=False)
    with TestClient(build_app(ServerSettings(models=(model,))), base_url="http://127.0.0.1:8000") as client:
        (listed,) = client.get("/inspect/models").json()["data"]
    assert (listed["status"], listed["task"], listed["tasks"]) == ("unloaded", "translation", ["translation"])
