"""`push_to_hub` and the commands `push` and `pull`, on a hub on loopback."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import constants

import multihead
from multihead.cli.main import cli
from multihead.errors import AccessDenied, InvalidInput, NetworkUnavailable, UnsupportedOption
from tests.training.runs import trainer

TOKEN = "a-secret-that-is-nowhere-to-be-seen"
SIZES = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.fixture
def writable(hub, monkeypatch):
    """A hub with one owner of a token, which the environment has."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.writers[TOKEN] = "me"
    return hub


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return multihead.BertForMaskedLM(multihead.BertConfig(**SIZES)).eval()


def files(hub, repo, branch="main"):
    known = hub.repositories[repo]
    return known.commits[known.branches[branch]]


def text(content):
    return content if isinstance(content, str) else content.decode()


def test_a_model_goes_up_with_its_tokenizer_and_comes_down(writable, model, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join("[PAD] [UNK] [CLS] [SEP] [MASK] a good bad film".split()))
    tokenizer = multihead.BertTokenizer(str(tmp_path / "vocab.txt"))
    link = model.push_to_hub("mine", private=True, tags="films", commit_message="first")
    assert tokenizer.push_to_hub("me/mine").startswith(f"{writable.endpoint}/me/mine/commit/")
    assert str(link).startswith(f"{writable.endpoint}/me/mine/commit/")
    known = writable.repositories["me/mine"]
    assert known.private
    assert known.messages == ["first", "Upload with multihead"]
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files(writable, "me/mine"))
    card = text(files(writable, "me/mine")["README.md"])
    assert 'library_name: "multihead"' in card
    assert "films" in card
    assert 'BertForMaskedLM.from_pretrained("me/mine")' in card
    loaded = multihead.AutoModelForMaskedLM.from_pretrained("me/mine")
    ids = multihead.AutoTokenizer.from_pretrained("me/mine")("a good film", return_tensors="pt")
    assert torch.equal(loaded(**ids).logits, model(**ids).logits)


def test_a_card_stays_and_takes_tags(writable, model):
    writable.add("me/mine", {"README.md": "---\nlibrary_name: mine\ntags:\n- one\n---\nWritten by hand.\n"})
    model.config.push_to_hub("me/mine")
    assert "Written by hand." in text(files(writable, "me/mine")["README.md"])
    model.config.push_to_hub("me/mine", tags=["one", "two"])
    card = text(files(writable, "me/mine")["README.md"])
    assert "Written by hand." in card
    assert card.count("- one") == card.count("- two") == 1


def test_saving_uploads_where_asked(writable, model, tmp_path):
    model.save_pretrained(tmp_path / "named", push_to_hub=True, revision="trial", max_shard_size="1KB")
    assert "model.safetensors.index.json" in files(writable, "me/named", "trial")
    assert not files(writable, "me/named")
    model.save_pretrained(tmp_path / "named", push_to_hub=True, is_main_process=False, repo_id="me/other")
    multihead.GenerationConfig(max_length=3).save_pretrained(tmp_path / "g", push_to_hub=True, repo_id="me/g")
    assert json.loads(text(files(writable, "me/g")["generation_config.json"]))["max_length"] == 3
    assert "me/other" not in writable.repositories
    link = model.push_to_hub("me/named", create_pr=True)
    assert link.pr_url.endswith("/discussions/1")


def test_what_cannot_be_written_says_so_without_the_token(writable, model, monkeypatch, capfd):
    with pytest.raises(InvalidInput, match="no name of a repository") as name:
        model.push_to_hub("a/b/c")
    with pytest.raises(AccessDenied, match=r"refuses to write other/mine.*403") as other:
        model.push_to_hub("other/mine", token=TOKEN)
    with pytest.raises(AccessDenied, match="401") as wrong:
        model.push_to_hub("me/mine", token="another-secret-of-nobody")
    with pytest.raises(UnsupportedOption, match="repo_url"):
        model.push_to_hub("me/mine", repo_url="x")
    with pytest.raises(UnsupportedOption, match="no option 'colour'"):
        model.config.push_to_hub("me/mine", colour=1)
    writable.down = 503
    with pytest.raises(NetworkUnavailable, match="status 503") as down:
        model.push_to_hub("me/mine")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkUnavailable, match="HF_HUB_OFFLINE=1") as offline:
        model.push_to_hub("me/mine", token=TOKEN)
    said = "".join(capfd.readouterr()) + "".join(str(one.value) for one in (name, other, wrong, down, offline))
    assert TOKEN not in said
    assert "another-secret" not in said


def test_commands_push_a_folder_and_pull_it(writable, model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "out")
    for extra in ("checkpoint-1/run.json", ".env", "_notes.txt"):
        (tmp_path / "out" / extra).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / extra).write_text("not for others")
    done = CliRunner().invoke(cli, ["push", str(tmp_path / "out"), "mine", "--private", "-m", "by hand"])
    assert done.exception is None, done.output
    assert done.stdout.strip().startswith(f"{writable.endpoint}/me/mine/commit/")
    assert set(files(writable, "me/mine")) == {"README.md", "config.json", "model.safetensors"}
    assert "BertForMaskedLM" in text(files(writable, "me/mine")["README.md"])
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["pull", "me/mine", "got"])
    assert done.stdout.strip() == "got", repr(done.exception)
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["config.json", "model.safetensors"]
    for words in (["pull", "me/mine", "got"], ["push", str(tmp_path), "mine"]):
        assert isinstance(CliRunner().invoke(cli, words).exception, InvalidInput)


def test_a_trainer_uploads_checkpoints_and_the_model_and_keeps_the_token_for_itself(writable, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    settings = {"hub_token": TOKEN, "push_to_hub": True, "hub_model_id": "me/run", "hub_strategy": "checkpoint"}
    made = trainer(
        tmp_path / "run",
        save_steps=1,
        save_total_limit=1,
        max_steps=2,
        hub_always_push=True,
        report_to="none",
        **settings,
    )
    assert TOKEN not in repr(made.args) + made.args.to_json_string()
    made.train()
    known = writable.repositories["me/run"]
    assert known.messages == [f"Training in progress, step {n}{end}" for n in (1, 2) for end in ("", ", checkpoint")]
    assert "last-checkpoint/training_state.safetensors" in files(writable, "me/run")
    assert "training_state.safetensors" not in files(writable, "me/run")
    made.save_model()
    made.push_to_hub(dataset="mine of films", dataset_tags="me/films", language="en", tasks="text-classification")
    assert known.messages[-2:] == ["Model save", "End of training"]
    card = text(files(writable, "me/run")["README.md"])
    assert all(part in card for part in ("mine of films", 'datasets:\n  - "me/films"', 'language:\n  - "en"', "# run"))
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".upload")]
    everything = [*files(writable, "me/run").values(), *(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())]
    assert not [one for one in everything if TOKEN.encode() in (one.encode() if isinstance(one, str) else one)]
    writable.writers.clear()
    with pytest.warns(UserWarning, match="An upload to me/run failed"):
        made.train()
