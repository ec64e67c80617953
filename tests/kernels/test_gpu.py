"""The GPU's programs against their definitions: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")
import multihead
from multihead.generation.strategies.base import GenerationJob
from multihead.kernels.ops import fused_attention
from multihead.kernels.ragged import BLOCK, AttentionMask, PagedLayout, SequenceLayout
from multihead.kernels.torch.attention import attend
from multihead.kernels.torch.backend import rotate as turned
from multihead.kernels.triton import launch as gpu
from multihead.runtime.cuda_graph_runner import CudaGraphRunner, Graph, blocks_for, rounded
from multihead.runtime.fuse import GPU, fuse
from multihead.runtime.graph_cache import GraphStaticCache, capture_refusal
from multihead.runtime.select_runner import keep_idle_runner, take_idle_runner
from tests.kernels.interpreted import interpret

REAL = torch.cuda.is_available()
DEVICE = "cuda" if REAL else "cpu"
LONG = 300 if REAL else 20  # tokens of a text


@pytest.fixture(scope="module", autouse=True)
def programs() -> Iterator[None]:
    """The programs, interpreted where there is no GPU."""
    if REAL:
        assert gpu.why_not() == ""
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        interpret(patch)
        with torch.no_grad():
            yield


def close(found: Tensor, wanted: Tensor, bound: float = 3e-5) -> None:
    torch.testing.assert_close(found.float().cpu(), wanted.float().cpu(), rtol=bound, atol=bound)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE)


@pytest.mark.parametrize("width", [1, 48, 576])
def test_root_mean_square_norm(width: int) -> None:
    x, weight = drawn(5, 2 * width)[:, :width], drawn(width)
    wanted = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * (weight + 1)
    close(gpu.rms_norm(x, weight, 1e-5, 1.0), wanted)
    assert gpu.rms_norm(x[:0], weight, 1e-5, 1.0).shape == (0, width)


@pytest.mark.parametrize(("width", "pairs"), [(24, 8), (16, 8), (64, 32), (10, 1)])
def test_turning_pairs_of_channels(width: int, pairs: int) -> None:
    x, angles = drawn(7, 5, width)[:, :3], drawn(7, pairs)
    cos, sin = angles.cos(), angles.sin()
    wanted = turned(x, torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None])
    close(gpu.rotate(x, cos, sin), wanted)


@pytest.mark.parametrize(("width", "pairs"), [(24, 8), (64, 32), (10, 1)])
def test_placing_keys_and_values(width: int, pairs: int) -> None:
    """As turning and keeping alone do it; a row below 0 is nowhere."""
    q, k, v = drawn(5, 9, width)[:, :4], drawn(5, 2, width), drawn(5, 2, 12)
    angles, rows = drawn(5, pairs), torch.tensor([3, -1, 7, 0, -1], device=DEVICE)
    stores = [torch.zeros(8, 2, n, device=DEVICE) for n in (width, 12, width, 12)]
    found = gpu.rotate_and_write(q, k, v, (angles.cos(), angles.sin()), stores[0], stores[1], rows)
    close(found, gpu.rotate(q, angles.cos(), angles.sin()))
    gpu.write_rows(gpu.rotate(k, angles.cos(), angles.sin()), v, stores[2], stores[3], rows)
    close(stores[0], stores[2])
    close(stores[1], stores[3])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("width", [1, 48, 576])
def test_a_sum_and_its_norm(width: int, keep: bool) -> None:
    x, y, weight, bias = drawn(5, width), drawn(5, width), drawn(width), drawn(width)
    total, normed = gpu.add_norm(x, y, 2, weight, bias, 1e-5, 0.0, keep)
    close(normed, F.layer_norm(x + y, (width,), weight, bias, 1e-5))
    close(total, x + y if keep else normed)
    close(gpu.add_norm(x, y, 1, weight, None, 1e-5, 1.0, keep)[1], gpu.rms_norm(x + y, weight, 1e-5, 1.0))


@pytest.mark.parametrize(
    ("act", "definition"),
    [(1, F.relu), (2, F.gelu), (3, lambda x: F.gelu(x, approximate="tanh")), (4, F.silu), (6, torch.tanh),
     (5, lambda x: x * torch.sigmoid(1.702 * x)), (7, torch.sigmoid)],
)  # fmt: skip
def test_gates(act: int, definition: Any) -> None:
    x = 4 * drawn(4, 140)
    close(gpu.activation_gate(x, act), definition(x[:, :70]) * x[:, 70:])


def paged(k: Tensor, v: Tensor, runs: SequenceLayout) -> tuple[Tensor, Tensor, PagedLayout]:
    """The same keys and values in blocks of storage, in no order; what is in none of them is not a number."""
    counts = [-(-length // BLOCK) for length in runs.lengths]
    free = torch.randperm(sum(counts) + 2).tolist()
    tables = [[free.pop() for _ in range(count)] for count in counts]
    rows = [blocks[p // BLOCK] * BLOCK + p % BLOCK for blocks, n in zip(tables, runs.lengths, strict=True)
            for p in range(n)]  # fmt: skip
    stores = [torch.full(((sum(counts) + 2) * BLOCK, *x.shape[1:]), torch.nan, device=DEVICE) for x in (k, v)]
    gpu.write_rows(k, v, stores[0], stores[1], torch.tensor(rows, device=DEVICE))
    table = torch.tensor([t + [0] * (max(counts) - len(t)) for t in tables], dtype=torch.int32, device=DEVICE)
    lengths = torch.tensor(runs.lengths, dtype=torch.int32, device=DEVICE)
    return (
        stores[0],
        stores[1],
        PagedLayout((), runs.lengths, table, lengths, lambda: torch.tensor(rows, device=DEVICE)),
    )


HEADS = [(4, 4, 16, 16), (6, 2, 24, 40), (3, 1, 64, 64)]


@settings(max_examples=40 if REAL else 12, deadline=None)
@given(st.data())
def test_attention_equals_its_definition(data: st.DataObject) -> None:
    """Over texts of any lengths, laid end to end and in blocks of storage."""
    heads, key_heads, width, values = data.draw(st.sampled_from(HEADS))
    one = data.draw(st.booleans())
    new = data.draw(st.lists(st.just(1) if one else st.integers(0, LONG), min_size=1, max_size=3))
    old = [data.draw(st.integers(0 if n else 1, 3 * LONG)) for n in new]
    queries, keys = (
        SequenceLayout.packed(tuple(new)),
        SequenceLayout.packed(tuple(a + b for a, b in zip(new, old, strict=True))),
    )
    window, causal = data.draw(st.sampled_from([None, 1, 9, 70])), True if one else data.draw(st.booleans())
    softcap = data.draw(st.sampled_from([None, 5.0]))
    q, k, v = (drawn(sum(r.lengths), n, w) for r, n, w in (
        (queries, heads, width), (keys, key_heads, width), (keys, key_heads, values),
    ))  # fmt: skip
    sinks = drawn(heads) if data.draw(st.booleans()) else None
    told = {"scale": 0.3, "softcap": softcap, "sinks": sinks}
    wanted = attend(q, k, v, AttentionMask(queries, keys, causal, window), **told)
    close(gpu.attention(q, k, v, AttentionMask(queries, keys, causal, window), 0.3, softcap, sinks), wanted)
    k, v, pages = paged(k, v, keys)
    attention_mask = AttentionMask(queries, pages, causal, window)
    close(gpu.attention(q, k, v, attention_mask, 0.3, softcap, sinks), wanted)
    nothing = [torch.zeros(heads, a, b, device=DEVICE) for a, b in zip(queries.lengths, keys.lengths, strict=True)]
    close(
        fused_attention(q, k, v, attention_mask, bias=nothing.__getitem__, **told), wanted
    )  # what a bias is added to reads no pages


def test_half_precision() -> None:
    for dtype in (torch.bfloat16, torch.float16) if REAL else (torch.float16,):  # Triton's interpreter has no bfloat16
        q, k, v = (drawn(100, heads, 64).to(dtype) for heads in (6, 2, 2))
        for runs in (SequenceLayout.packed((60, 40)), SequenceLayout.packed((100,))):
            wanted = attend(q.float(), k.float(), v.float(), AttentionMask(runs, runs, True), scale=0.1)
            close(gpu.attention(q, k, v, AttentionMask(runs, runs, True), 0.1, None, None), wanted, 2e-2)


@pytest.mark.parametrize("window", [24, 33, 64, 97])
@pytest.mark.parametrize("blocks", range(3, 8))
def test_blocks_that_a_window_has_left_are_not_read(window: int, blocks: int) -> None:
    """A text that goes on after a shared beginning, whose first blocks are gone: their rows hold anything."""
    old, new = blocks * BLOCK, 40
    gone, count = max(old + 1 - window, 0) // BLOCK, -(-(old + new) // BLOCK)
    q, k, v = (drawn(n, 2, 16).half() for n in (new, old + new, old + new))
    stores = [torch.full(((count + 1) * BLOCK, 2, 16), torch.nan, dtype=torch.float16, device=DEVICE) for _ in "kv"]
    for store, rows in zip(stores, (k, v), strict=True):
        store[BLOCK : BLOCK + len(rows)] = rows
    table = torch.tensor([[0] * gone + list(range(gone + 1, count + 1))], dtype=torch.int32, device=DEVICE)
    counts = torch.tensor([old + new], dtype=torch.int32, device=DEVICE)
    pages = PagedLayout((), (old + new - gone * BLOCK,), table, counts, lambda: None)
    found = gpu.attention(
        q, *stores, AttentionMask(SequenceLayout.packed((new,)), pages, True, window), 0.2, None, None
    )
    attention_mask = AttentionMask(SequenceLayout.packed((new,)), SequenceLayout.packed((old + new,)), True, window)
    close(found, attend(q.float(), k.float(), v.float(), attention_mask, scale=0.2), 1e-2)


@pytest.mark.parametrize(("kind", "width"), [("fp32", 128), ("fp32", 256), ("bf16", 128), ("bf16", 256)])
def test_attention_fits_the_shared_memory_of_small_gpus(kind: str, width: int) -> None:
    """99 KiB a program on compute capability 8.6, whatever GPU is here."""
    told = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("compiled_programs.py")), kind, str(width), "86"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken = [int(line) for line in done.stdout.split()]
    assert len(taken) == 4
    assert max(taken) <= 99 * 1024


def test_rows_below_zero_are_not_kept() -> None:
    store = torch.zeros(4, 2, 8, device=DEVICE)
    k = drawn(3, 2, 8)
    gpu.write_rows(k, k, store, store, torch.tensor([2, -1, 0], device=DEVICE))
    close(store, torch.stack([k[2], torch.zeros(2, 8, device=DEVICE), k[0], torch.zeros(2, 8, device=DEVICE)]))


class Recomputed:
    """Stands in for a captured graph on machines without a GPU: each replay computes the step again."""

    def __init__(self, runner: CudaGraphRunner, inputs: GraphStaticCache) -> None:
        self.runner, self.inputs = runner, inputs
        self.results = runner._compute(inputs)

    def replay(self) -> None:
        for old, new in zip(self.results, self.runner._compute(self.inputs), strict=True):
            old.copy_(new)


def recompute(self: CudaGraphRunner, size: int, blocks: int) -> Graph:
    graph = Recomputed(self, GraphStaticCache(self.store, size, blocks, self.model.device))
    return Graph(graph.inputs, graph, *graph.results)


REUSABLE = CudaGraphRunner.reusable


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph runner for every model; without a GPU its graphs are computed."""
    monkeypatch.setenv("MULTIHEAD_RUNNER", "graph")
    monkeypatch.setattr(CudaGraphRunner, "reusable", True)
    if not REAL:
        monkeypatch.setattr(CudaGraphRunner, "refusal", classmethod(lambda cls, model, store: ""))
        monkeypatch.setattr(CudaGraphRunner, "_capture", recompute)
        monkeypatch.setattr(gpu, "processors", lambda device: 1)


SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 128, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {"num_key_value_heads": 1},
    "Mistral": {"num_key_value_heads": 1, "sliding_window": 24, "head_dim": 16},
    "Gemma2": {"num_key_value_heads": 1, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 20},
    "Qwen3": {"num_key_value_heads": 1, "head_dim": 16},
    "Olmo2": {"num_key_value_heads": 1},
    "GPTNeoX": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
}


def built(family: str) -> Any:
    """A model with weights that make its texts differ."""
    config = getattr(multihead, f"{family}Config")(**SIZES, **FAMILIES[family])
    model = getattr(multihead, f"{family}ForCausalLM")(config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().to(DEVICE)


RECORDED = [(family, joins) for family in FAMILIES for joins in (False, True)]
if not REAL:  # the interpreter is slow
    RECORDED = [("Llama", True), ("Mistral", False), ("Gemma2", False)]


@pytest.mark.parametrize(("family", "joins"), RECORDED)
def test_recorded_steps_give_the_same_texts(
    family: str, joins: bool, monkeypatch: pytest.MonkeyPatch, graphs: None
) -> None:
    """Requests of many lengths that begin and end at different times, some in several branches."""
    prompts, new = [[5, 6, 7], list(range(3, 31)), [9]], 40 if REAL else 8
    options = {"do_sample": False, "max_new_tokens": new, "pad_token_id": 0, "eos_token_id": 1}
    model = built(family)
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "programs", lambda: None)
        patch.setattr(gpu, "why_not", lambda: "off")
        patch.setattr(gpu, "serves", lambda x: False)
        patch.setenv("MULTIHEAD_RUNNER", "eager")
        wanted = [model.generate([p], **options) for p in prompts]
        beams = model.generate(prompts, num_beams=2, **options)
    if joins:
        model.backbone = fuse(model.backbone, GPU)
    found = model.generate(prompts, **options)
    for row, alone, prompt in zip(found, wanted, prompts, strict=True):
        own = alone[0, len(prompt) :].tolist()
        assert row[-new:].tolist()[: len(own)] == own
    runner = take_idle_runner(model)
    assert isinstance(runner, CudaGraphRunner)
    assert runner._graphs
    keep_idle_runner(runner)
    assert runner.model is None
    assert take_idle_runner(copy.deepcopy(model)) is None
    assert model.generate(prompts, num_beams=2, **options).tolist() == beams.tolist()
    assert take_idle_runner(model) is runner  # which served both


def test_captured_steps_are_not_replayed_after_frequencies_are_set(
    monkeypatch: pytest.MonkeyPatch, graphs: None
) -> None:
    monkeypatch.setattr(CudaGraphRunner, "reusable", REUSABLE)
    if not REAL:
        properties = SimpleNamespace(total_memory=1 << 40)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    model = built("Llama")
    model.generate([[5, 6, 7]], max_new_tokens=6, eos_token_id=None)
    runner = take_idle_runner(model)
    assert isinstance(runner, CudaGraphRunner)
    assert runner._graphs
    keep_idle_runner(runner)
    turned = model.backbone.layers[0].attention.step.positions
    turned.frequencies = turned.frequencies * 3
    assert take_idle_runner(model) is None


def test_what_is_read_ahead_changes_no_text(monkeypatch: pytest.MonkeyPatch, graphs: None) -> None:
    """Ends, limits and bans that come in the middle of it, for several requests at once."""
    model, prompts = built("Llama"), [[5, 6, 7], list(range(3, 30))]
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 9, "pad_token_id": 0, "eos_token_id": None}
    plain = model.generate(prompts, **options)
    ends = [int(plain[0, -3]), int(plain[1, -5])]
    changes: list[dict[str, Any]] = [
        {"eos_token_id": ends}, {"max_new_tokens": 4}, {"min_new_tokens": 6, "eos_token_id": ends},
    ]  # fmt: skip
    found = [model.generate(prompts, **{**options, **change}).tolist() for change in changes]
    monkeypatch.setattr(GenerationJob, "add_lookahead", lambda *a: None)
    assert model.generate(prompts, **options).tolist() == plain.tolist()
    assert [model.generate(prompts, **{**options, **change}).tolist() for change in changes] == found


def test_a_step_that_cannot_be_recorded_is_computed(monkeypatch: pytest.MonkeyPatch, graphs: None) -> None:
    """It is said once, and nothing is tried again."""
    tries = []

    def full(self: CudaGraphRunner, size: int, blocks: int) -> Graph:
        tries.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model, prompts = built("Llama"), [[5, 6, 7], list(range(3, 30))]
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": 9, "pad_token_id": 0, "eos_token_id": None}
    model.decode_runner = "eager"
    wanted = model.generate(prompts, **options).tolist()
    model.decode_runner = "graph"
    monkeypatch.setattr(CudaGraphRunner, "_capture", full)
    with pytest.warns(UserWarning, match=r"capture failed for batch size 2 .*out of memory"):
        assert model.generate(prompts, **options).tolist() == wanted
    assert tries == [2]


@pytest.mark.parametrize("how", ["hook", "replaced", "inside the head"])
def test_a_model_that_somebody_looks_into_is_not_recorded(how: str) -> None:
    model = built("Llama")
    assert not capture_refusal(model)
    part = model.head if how == "inside the head" else model.backbone.layers[1]
    if how == "replaced":
        part.forward = part.forward
    else:
        part.register_forward_hook(lambda *a: None)
    assert "hooks or a replaced method" in capture_refusal(model)


def test_sizes_of_recorded_steps() -> None:
    assert [rounded(n) for n in (1, 2, 3, 5, 31, 33, 48, 49, 65, 97, 255)] == [1, 2, 4, 8, 32, 48, 48, 64, 96, 128, 256]
    assert all(blocks_for(n) * BLOCK >= n + BLOCK for n in range(1, 5000, 7))


def test_models_that_cannot_be_recorded_are_not() -> None:
    model = SimpleNamespace(device=torch.device("cpu"))
    assert "the model is on cpu" in CudaGraphRunner.refusal(model, SimpleNamespace(slots=[]))  # type: ignore[arg-type]
