"""Libraries that are written over the reference run over multihead: peft, sentence-transformers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import transformers

import multihead
from multihead.compat import library_names as ours
from multihead.errors import MissingName, ModelNotFound

PROGRAM = """
import multihead.alias
import os, sys, peft, torch, transformers
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel, BertTokenizer
from multihead import SentenceEncoder

os.chdir(sys.argv[1])
open("vocab.txt", "w").write("\\n".join("[PAD] [UNK] [CLS] [SEP] [MASK] a good bad film".split()))
sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
BertModel(BertConfig(vocab_size=9, **sizes)).save_pretrained("bert")
BertTokenizer("vocab.txt").save_pretrained("bert")
library = SentenceTransformer("bert", device="cpu")
found = library.encode(["a good film", "bad"])
library.save_pretrained("sentences")
assert abs(SentenceEncoder.from_pretrained("sentences").encode(["a good film", "bad"]) - found).max() < 1e-5

CLASSES = {
    "BertForSequenceClassification": dict(vocab_size=9, **sizes),
    "LlamaForCausalLM": dict(vocab_size=9, **sizes),
    "GPT2LMHeadModel": dict(vocab_size=9, n_embd=8, n_head=2, n_layer=1),
    "T5ForConditionalGeneration": dict(
        vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    ),
}
TASKS = ("SEQ_CLS", "CAUSAL_LM", "CAUSAL_LM", "SEQ_2_SEQ_LM")
ids = torch.tensor([[1, 2, 3]])
for task, (name, entries) in zip(TASKS, CLASSES.items()):
    config = name.partition("For")[0].removesuffix("LMHeadModel") + "Config"
    model = getattr(transformers, name)(getattr(transformers, config)(**entries)).eval()
    model.save_pretrained(name)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type=task, r=2, init_lora_weights=False))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    labels = torch.tensor([1]) if task == "SEQ_CLS" else ids
    model(input_ids=ids, labels=labels).loss.backward()
    optimizer.step()
    inputs = dict(input_ids=ids, **(dict(decoder_input_ids=ids) if task == "SEQ_2_SEQ_LM" else {}))
    logits = model.eval()(**inputs).logits.detach()
    model.save_pretrained(f"{name}-lora")
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits.detach(), logits, atol=1e-5, rtol=1e-4)
    torch.save(dict(logits=logits, merged=merged.state_dict()), f"{name}.pt")
files = [str(getattr(one, "__file__", "")) for one in sys.modules.values()]
assert not [file for file in files if "site-packages/transformers" in file]
"""


def test_libraries_run_without_the_reference(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peft = pytest.importorskip("peft")
    for name in (
        "BertForSequenceClassification", "LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration",
    ):  # fmt: skip
        model, found = getattr(transformers, name).from_pretrained(tmp_path / name), torch.load(tmp_path / f"{name}.pt")
        inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
        inputs |= {"decoder_input_ids": inputs["input_ids"]} if name.startswith("T5") else {}
        trained = peft.PeftModel.from_pretrained(model, tmp_path / f"{name}-lora").eval()
        torch.testing.assert_close(trained(**inputs).logits, found["logits"], atol=1e-5, rtol=1e-4)
        merged = getattr(transformers, name)(model.config).eval()
        merged.load_state_dict(found["merged"])
        torch.testing.assert_close(merged(**inputs).logits, found["logits"], atol=1e-5, rtol=1e-4)


def test_peft_trains_generates_and_merges():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = multihead.LlamaForCausalLM(multihead.LlamaConfig(vocab_size=20, num_key_value_heads=2, **sizes)).eval()
    ids, plain = torch.tensor([[1, 2, 3]]), model(torch.tensor([[1, 2, 3]])).logits
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    changed = peft.get_peft_model(model, config).eval()
    changed(input_ids=ids, labels=ids).loss.backward()
    trained = [name for name, one in changed.named_parameters() if one.grad is not None]
    assert len(trained) == 4
    assert all("lora_" in name for name in trained)
    logits, text = changed(input_ids=ids).logits, ids
    assert not torch.allclose(logits, plain, atol=1e-3)
    for _ in range(4):
        text = torch.cat([text, changed(input_ids=text).logits[:, -1:].argmax(-1)], dim=1)
    found = changed.generate(input_ids=ids, max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert found.tolist() == text.tolist()
    torch.testing.assert_close(changed.merge_and_unload()(ids).logits, logits)


def test_a_loop_of_ones_own_prepares_its_inputs():
    sizes = {"n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 20}
    model = multihead.GPT2LMHeadModel(multihead.GPT2Config(**sizes)).eval()
    cache, text = multihead.DynamicCache(), torch.tensor([[1, 2, 3]])
    for size in (3, 1, 1):
        inputs = model.prepare_inputs_for_generation(text, past_key_values=cache, use_cache=True)
        assert inputs["input_ids"].shape == (1, size)
        text = torch.cat([text, model(**inputs).logits[:, -1:].argmax(-1)], dim=1)
    expected = model.generate(text[:, :3], max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert text.tolist() == expected.tolist()


def test_files_of_a_folder(tmp_path):
    shards = {"a.weight": "two.safetensors", "b.weight": "one.safetensors", "c.weight": "one.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 3}, "weight_map": shards}))
    for name in ("one.safetensors", "two.safetensors", "adapter_config.json"):
        (tmp_path / name).touch()
    paths, metadata = ours.get_checkpoint_shard_files(tmp_path, index)
    assert paths == [str(tmp_path / "one.safetensors"), str(tmp_path / "two.safetensors")]
    assert metadata == {"total_size": 3, "all_checkpoint_keys": list(shards), "weight_map": shards}
    assert ours.find_adapter_config_file(tmp_path) == str(tmp_path / "adapter_config.json")
    assert ours.find_adapter_config_file(tmp_path, subfolder="other") is None
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        ours.cached_file(tmp_path, "config.json")
    (tmp_path / "first.py").write_text("from .second import one\nfrom . import third\nimport os\n")
    (tmp_path / "second.py").write_text("from .third import two\n")
    (tmp_path / "third.py").write_text("from .first import three\n")
    files = ours.get_relative_import_files(tmp_path / "first.py")
    assert sorted(files) == [str(tmp_path / f"{name}.py") for name in ("first", "second", "third")]


def test_small_functions_are_the_references():
    from transformers import modelcard
    from transformers.utils import chat_template_utils

    rows = [{"step": 1, "loss": 0.123456}, {"step": 20, "loss": 2.5}]
    cells = [
        [cell.strip() for line in module.make_markdown_table(rows).splitlines()[::2] for cell in line.split("|")]
        for module in (ours, modelcard)
    ]
    assert cells[0] == cells[1]
    template = "{% for m in messages %}{{ m.content }}{{ bos_token if x }}{% endfor %}"
    assert ours._get_template_variables(template) == chat_template_utils._get_template_variables(template)
    assert "multihead" in ours.http_user_agent({"a": 1})


def test_a_class_without_a_meaning_may_be_a_base():
    from multihead.core_model_loading import Concatenate

    class Mine(Concatenate):
        """A class of a library, which nothing here makes."""

    with pytest.raises(MissingName, match="key maps"):
        Mine()
