"""A decode runner that is named serves, or says why it cannot; "auto" takes the fastest that can."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import multihead
from multihead.errors import UnsupportedOption
from multihead.kernels.cpu import native
from multihead.nn.cache.store import KVCacheManager
from multihead.runtime.cpu_decode_runner import CpuDecodeRunner
from multihead.runtime.cuda_graph_runner import CudaGraphRunner
from multihead.runtime.runner import EagerRunner
from multihead.runtime.select_runner import select_runner

SIZES = {
    "vocab_size": 60, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "eos_token_id": None, "pad_token_id": 0, "bos_token_id": 2,
}  # fmt: skip
KERNELS = pytest.mark.skipif(native.library() is None, reason=f"no C++ kernels: {native.why_not()}")


def llama(**sizes: Any) -> Any:
    torch.manual_seed(0)
    return multihead.LlamaForCausalLM(multihead.LlamaConfig(**{**SIZES, **sizes})).eval()


def chosen(model: Any) -> str:
    return select_runner(model, KVCacheManager(model.memories())).name


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MULTIHEAD_RUNNER", raising=False)
    monkeypatch.delenv("MULTIHEAD_GRAPHS", raising=False)


@KERNELS
def test_auto_takes_the_fastest_runner_that_can_serve_the_model() -> None:
    model = llama()
    assert model.decode_runner == "auto"
    assert chosen(model) == "cpu"
    assert chosen(llama(num_attention_heads=8)) == "eager"  # the kernels compute heads of 16 and its multiples


@KERNELS
def test_a_models_own_runner_comes_before_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    monkeypatch.setenv("MULTIHEAD_RUNNER", "eager")
    assert model.decode_runner == chosen(model) == "eager"
    model.decode_runner = "cpu"
    assert chosen(model) == "cpu"
    model.decode_runner = None
    assert chosen(model) == "eager"


@KERNELS
def test_the_runner_that_is_named_computes_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, served = llama(), list[str]()
    for kind in (EagerRunner, CpuDecodeRunner):
        forward = kind.forward

        def counted(self: Any, batch: Any, forward: Any = forward, name: str = kind.name) -> Any:
            served.append(name)
            return forward(self, batch)

        monkeypatch.setattr(kind, "forward", counted)
    texts = {}
    for name in ("eager", "cpu"):
        served.clear()
        model.decode_runner = name
        texts[name] = model.generate([[5, 6, 7]], max_new_tokens=9, do_sample=True, seed=1).tolist()
        assert served == (["eager"] * 9 if name == "eager" else ["cpu", "eager", *["cpu"] * 8])  # the prompt is eager
    assert texts["cpu"] == texts["eager"]


def test_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, names = llama(), "auto, cpu, eager, graph"
    with pytest.raises(UnsupportedOption, match=f"decode_runner = 'gpu' is none of {names}"):
        model.decode_runner = "gpu"
    monkeypatch.setenv("MULTIHEAD_RUNNER", "gpu")
    with pytest.raises(UnsupportedOption, match=f"MULTIHEAD_RUNNER = 'gpu' is none of {names}"):
        model.generate([[5]], max_new_tokens=1)


def refusal(model: Any, name: str) -> str:
    model.decode_runner = name
    with pytest.raises(UnsupportedOption, match=f"'{name}' cannot serve this {type(model).__name__}") as error:
        model.generate([[5, 6]], max_new_tokens=2)
    model.decode_runner = "auto"
    assert model.generate([[5, 6]], max_new_tokens=2, min_new_tokens=2).shape == (1, 4)
    return str(error.value)


@KERNELS
def test_the_cpu_runner_says_which_layer_it_cannot_compute() -> None:
    model = llama()
    model.backbone.layers[1].attention.step.temperature = 2.0
    assert "backbone.layers.1.attention.step" in (said := refusal(model, "cpu"))
    assert "'temperature'" in said
    model = llama()
    model.backbone.layers[0].ffn.register_forward_hook(lambda *_: None)
    assert "backbone.layers.0.ffn (Residual) has hooks" in refusal(model, "cpu")
    model = llama()
    model.set_attention("eager")
    assert "its attention is set to" in refusal(model, "cpu")


@KERNELS
def test_the_cpu_runner_names_a_kind_of_layer_that_it_cannot_compute() -> None:
    experts = multihead.PhimoeConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)
    said = refusal(multihead.PhimoeForCausalLM(experts).eval(), "cpu")
    assert "layer 0 has a RoutedExperts that runs layer by layer" in said


@KERNELS
def test_the_cpu_runner_refuses_layers_with_a_state_space() -> None:
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "eos_token_id": None}
    model = multihead.MambaForCausalLM(multihead.MambaConfig(**sizes)).eval()
    assert "layer 0 caches more than keys and values" in refusal(model, "cpu")


def test_the_graph_runner_refuses_a_model_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the model is on cpu" in refusal(llama(), "graph")
    monkeypatch.setenv("MULTIHEAD_GRAPHS", "0")
    assert "MULTIHEAD_GRAPHS=0" in CudaGraphRunner.unavailable()


def test_without_kernels_the_cpu_runner_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(native, "why_not", lambda: "MULTIHEAD_NATIVE=0 turns them off")
    assert "MULTIHEAD_NATIVE=0" in refusal(llama(), "cpu")
