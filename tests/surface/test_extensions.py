"""What an installed package adds: a folder on sys.path with the metadata of entry points."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from multihead.errors import InvalidInput
from multihead.extensions import Registry, find_object

MODEL = """
from dataclasses import dataclass, replace
from multihead.models import llama

@dataclass(kw_only=True)
class TinyConfig(llama.LlamaConfig):
    model_type = "tiny-outside"
    hidden_size: int = 8
    intermediate_size: int = 8
    num_hidden_layers: int = 1
    num_attention_heads: int = 2
    vocab_size: int = 20

ARCHITECTURE = replace(llama.ARCHITECTURE, name="TinyOutside", config=TinyConfig, layouts={}, foreign_config={})
"""
ENTRY = """
from multihead.models.common.registry import Entry

ENTRY = Entry("model", "TinyOutside", package="tiny_outside")
"""
FORMAT = "class Codes:\n    def __init__(self, entries): self.entries = entries\n"
TASK = """
from multihead.pipelines.catalog import OWN
from dataclasses import replace
from multihead.pipelines.task import ModelPipeline

TASK = replace(
    OWN["text-generation"], aliases=(), training=None,
    pipelines={"CausalLM": ModelPipeline("tiny_outside.pipe:Shout", "a language model")},
)
"""
PIPE = """
from multihead.pipelines.text_generation import TextGeneration

class Shout(TextGeneration):
    \"\"\"A pipeline from outside.\"\"\"
"""
BACKEND = """
from multihead.kernels.torch.backend import TorchBackend

class Slow(TorchBackend):
    name = "slow"
    device = "meta"
    def serves(self, x): return x.device.type == "meta"

BACKEND = Slow()
"""
POINTS = """
[multihead.families]
tiny-outside = tiny_outside:ENTRY
bert = tiny_outside:ENTRY
[multihead.tasks]
shout = tiny_outside.task:TASK
[multihead.formats]
codes = tiny_outside.codes:Codes
[multihead.backends]
slow = tiny_outside.backend:BACKEND
"""
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
import torch, multihead
from multihead import AutoModelForCausalLM, AutoConfig, CONFIG_MAPPING

config = AutoConfig.for_model("tiny-outside")
model = multihead.TinyOutsideForCausalLM(config).eval()
model.save_pretrained(sys.argv[1])
again = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = torch.tensor([[1, 2, 3]])
torch.testing.assert_close(again(ids).logits, model(ids).logits)
assert again.generate(ids, max_new_tokens=2, eos_token_id=None).shape == (1, 5)
assert type(again).__name__ == "TinyOutsideForCausalLM" and "tiny-outside" in CONFIG_MAPPING
assert multihead.BertConfig.model_type == "bert"

from multihead.pipelines.pipeline import pipeline_class
from multihead.pipelines.catalog import get_task
assert pipeline_class("shout", get_task("shout"), again, {}).__name__ == "Shout"
from multihead.checkpoints.quantized.format import open_format
from multihead.checkpoints.quantized.registry import quantization_entries
entries = quantization_entries({"quantization_config": {"quant_method": "codes"}})
assert open_format(entries).entries == entries
from multihead.kernels.ops import BACKENDS, backend
assert next(iter(BACKENDS)) == "slow" and backend(torch.empty(1, device="meta")).name == "slow"
assert backend(torch.empty(1)).name != "slow"
"""


def test_a_package_adds_a_family_a_task_a_format_and_a_backend(tmp_path):
    folder, info = tmp_path / "tiny_outside", tmp_path / "tiny_outside-1.0.dist-info"
    folder.mkdir()
    info.mkdir()
    files = {"__init__": ENTRY, "model": MODEL, "task": TASK, "pipe": PIPE, "codes": FORMAT, "backend": BACKEND}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    paths = [str(tmp_path), str(Path(__file__).parents[2] / "src")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{PROGRAM}", str(tmp_path / "saved")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_a_package_gives_is_checked():
    points = {
        "good": EntryPoint("good", "os:sep", "multihead.things"),
        "other": EntryPoint("other", "os:getcwd", "multihead.things"),
        "broken": EntryPoint("broken", "no_such_module:x", "multihead.things"),
    }
    registry: Registry[str] = Registry("things", {"own": "a"}, lambda found: isinstance(found, str))
    vars(registry)["added"] = points
    assert list(registry) == ["own", "good", "other", "broken"]
    assert (registry["own"], registry["good"], len(registry), "good" in registry) == ("a", "/", 4, True)
    with pytest.raises(InvalidInput, match=r"things: broken of the package .* cannot be loaded.*no_such_module"):
        registry["broken"]
    with pytest.raises(InvalidInput, match="which is none of multihead's things"):
        registry["other"]
    with pytest.raises(KeyError):
        registry["none"]
    assert find_object("os:sep", "") == "/"
