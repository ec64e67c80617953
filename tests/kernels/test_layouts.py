"""Every kernel gives what its definition gives of tensors however they lie, and is not asked about others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import multihead
from multihead.errors import InvalidInput
from multihead.kernels.activations import ACTIVATIONS
from multihead.kernels.cpu import native
from multihead.kernels.cpu.attention import decode, prefill
from multihead.kernels.cpu.backend import SeededDropout
from multihead.kernels.ops import backend, fused_attention, linear
from multihead.kernels.quantization.registry import FORMATS
from multihead.kernels.ragged import AttentionMask, SequenceLayout
from multihead.kernels.torch.attention import attend
from multihead.kernels.torch.backend import TorchBackend, rotate
from multihead.kernels.triton import launch as gpu
from multihead.nn.cache.layer_cache import KVLayerCache
from multihead.nn.experts import ExpertList
from multihead.nn.feedforward import GatedFeedForward
from multihead.nn.norms import RMSNorm
from multihead.runtime.fuse import fuse, pack_experts
from multihead.runtime.fused_linear_cpu import FusedLinear
from multihead.runtime.fused_linear_gpu import FusedLinearGPU, normed_sum

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"no C++ kernels: {native.why_not()}")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def transposed(x: Tensor) -> Tensor:
    """The same numbers with the first dimension's side by side."""
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def apart(x: Tensor) -> Tensor:
    """The same numbers, each beside one that is not to be read."""
    return torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0]


def offset(x: Tensor) -> Tensor:
    """The same numbers at an odd place within others."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 5), torch.nan, dtype=x.dtype)
    wide[..., 3 : 3 + x.shape[-1]] = x
    return wide[..., 3 : 3 + x.shape[-1]]


def expanded(x: Tensor) -> Tensor:
    """The first row, as many times; nothing is repeated in memory."""
    return x[:1].expand_as(x)


WAYS: list[Callable[[Tensor], Tensor]] = [transposed, apart, offset, expanded, torch.clone]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    return request.param


@pytest.fixture(params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The C++ kernels, or the GPU's programs in Triton's interpreter."""
    if request.param == "cpu" or torch.cuda.is_available():
        if request.param == "gpu":
            pytest.skip("tests/kernels/test_gpu.py runs the programs there")
        with torch.no_grad():
            yield "cpu"
        return
    pytest.importorskip("triton")
    from tests.kernels.interpreted import interpret

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        interpret(patch)
        yield "gpu"


def close(got: Tensor | None, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal, or left to the definition."""
    if got is not None:
        assert got.shape == expected.shape
        torch.testing.assert_close(got.float(), expected.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 16), (16,), (7, 1), (0, 16), (3, 0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_norms(device, way, shape, dtype, monkeypatch):
    x, weight = way(drawn(*shape).to(dtype)), drawn(shape[-1], seed=1).to(dtype)
    tolerance = 1e-5 if dtype.itemsize > 2 else 2e-2

    def definition(weight: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5) * weight.float()).to(dtype)

    norm = backend(x).rms_norm
    for given in (weight, way(weight[None])[0], weight.flip(0).flip(0)):
        close(norm(x, given, 1e-5), definition(given), tolerance)
    close(norm(x, weight.double(), 1e-5), definition(weight), tolerance)
    if shape[-1] > 1:
        with pytest.raises(RuntimeError):  # torch's own, which names the sizes
            norm(x, weight.repeat(2)[:-1], 1e-5)
    if x.numel() and dtype is torch.float32:
        monkeypatch.setattr(TorchBackend, "rms_norm", lambda *args: pytest.fail("torch's norm"))
        norm(x, weight, 1e-5)


@pytest.mark.parametrize("width", [16, 24])
def test_turns(device, way, width):
    x, angles = way(drawn(6, 4, width)), drawn(6, 8)
    cos, sin = angles.cos(), angles.sin()
    table = torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]
    expected = rotate(x, *table)

    def rotary(x: Tensor, *angles: Tensor) -> Tensor:
        first, second = backend(x).rotary(x, x[:, :2], lambda: angles, lambda: table)
        close(second, first[:, :2])
        return first

    close(rotary(x, cos, sin), expected)
    if way is not expanded:
        close(rotary(x, way(cos), way(sin)), expected)
    if device == "gpu":
        close(gpu.rotate(x, apart(cos), transposed(sin)), expected)
    for wrong in (cos.double(), cos[:5], cos[:, :7], drawn(6, 13), cos[None]):
        close(rotary(x, wrong, sin), expected)  # by the table, which is right


RUNS = SequenceLayout.packed((3, 1, 4))
ONE = SequenceLayout.packed((1, 1, 1))


@pytest.mark.parametrize("queries", [ONE, RUNS], ids=["one", "many"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention(device, way, queries, dtype):
    if device == "gpu" and dtype is torch.bfloat16:
        dtype = torch.float16  # Triton's interpreter multiplies no matrices in bfloat16
    count = sum(queries.lengths)
    q, k, v = (
        way(drawn(count, 4, 16).to(dtype)),
        way(drawn(8, 2, 16, seed=1).to(dtype)),
        way(drawn(8, 2, 32, seed=2).to(dtype)),
    )
    attention_mask, tolerance = AttentionMask(queries, RUNS, causal=True), 1e-5 if dtype is torch.float32 else 2e-2
    expected = attend(q.float(), k.float(), v.float(), attention_mask, scale=0.3)
    close(fused_attention(q, k, v, attention_mask, scale=0.3), expected, tolerance)
    if device == "cpu":
        close(decode(q, k, v, attention_mask, 0.3), expected, tolerance)
        close(prefill(q, k, v, attention_mask, 0.3), expected, tolerance)
    else:
        close(gpu.attention(q, k, v, attention_mask, 0.3, None, None), expected, tolerance)


def test_attention_of_what_does_not_go_together_is_nothing_for_kernels(device):
    q, k, v = drawn(3, 4, 16), drawn(8, 2, 16), drawn(8, 2, 16)
    beyond, before = SequenceLayout((0, 3, 4), (3, 1, 5)), SequenceLayout((-1, 3, 4), (3, 1, 4))
    wrong = [
        (q, k[:, :1], v), (q, k, v[:7]), (q, k, v.bfloat16()), (q[..., :8], k, v), (q[:, :3], k, v),
        (q.double(), k.double(), v.double()), (q, k[:, :0], v[:, :0]),
    ]  # fmt: skip
    for parts in wrong:
        for half in (parts, [x.bfloat16() if x.dtype is torch.float32 else x for x in parts]):
            one = AttentionMask(ONE, RUNS)
            assert decode(*half, one, 0.3) is None or half is not parts
            assert prefill(*half, one, 0.3) is None or half is not parts
    for runs in (beyond, before):
        assert decode(q, k, v, AttentionMask(ONE, runs), 0.3) is None
        assert prefill(q.bfloat16(), k.bfloat16(), v.bfloat16(), AttentionMask(ONE, runs), 0.3) is None
        if device == "gpu":
            with pytest.raises(InvalidInput, match="beyond"):
                gpu.attention(q, k, v, AttentionMask(ONE, runs), 0.3, None, None)
    nothing = AttentionMask(ONE, SequenceLayout.packed((3, 0, 4)))
    assert decode(q, k, v, nothing, 0.3) is None
    if device == "gpu":
        assert not gpu.fits(q, k[:, :1], v)
        assert not gpu.fits(q, k, v.bfloat16())
        assert gpu.attention(q, k, v, nothing, 0.3, None, None)[1].abs().max() == 0


def test_the_highest(way):
    scores = way(drawn(5, 40))
    for given in (scores, scores.bfloat16(), scores.double(), scores.long()):
        found = backend(given).top_k(given, 3, [7, 99, -2], False)
        if found is not None:
            expected = given.float().index_fill(1, torch.tensor([7]), -torch.inf).topk(3, -1).values
            torch.testing.assert_close(found[0], expected)
    assert backend(scores).top_k(scores, 0, [], False) is None
    assert backend(scores).top_k(scores, 41, [], False) is None
    assert backend(scores).top_k(scores[0], 1, [], False) is None
    none = backend(scores).top_k(scores[:0], 2, [], False)
    assert none is None or none[0].shape == (0, 2)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_as_they_lie(way, dtype):
    x, weight, bias = drawn(2, 24).to(dtype), drawn(40, 24, seed=1).to(dtype), drawn(40, seed=2).to(dtype)
    tolerance = 1e-4 if dtype is torch.float32 else 5e-2
    for given, of, add in ((way(x), weight, bias), (x, way(weight), bias), (x, weight, way(bias[None])[0])):
        close(linear(given, of, add), F.linear(given.double(), of.double(), add.double()), tolerance)
    for of, add in ((weight[:, :23], None), (weight, bias[:39]), (weight, bias.double())):
        with pytest.raises(RuntimeError):  # torch's own, which names the shapes
            linear(x, of, add)
    assert linear(x[:0], weight, bias).shape == (0, 40)


@torch.no_grad()
@pytest.mark.parametrize("kind", FORMATS)
def test_packed_products(way, kind):
    part = FusedLinear([drawn(40, 64)], [drawn(40, seed=1)], kind)
    for shape in ((5, 64), (2, 3, 64), (64,), (0, 64)):
        x = way(drawn(*shape, seed=2))
        add = way(drawn(*shape[:-1], 40, seed=3))
        for given, other in ((x, None), (x, add), (x.bfloat16(), add), (x.double(), None)):
            got, expected = part(given, other), part.definition(given, other)
            assert got.dtype is given.dtype
            close(got, expected, 5e-2 if given.dtype is torch.bfloat16 else 2e-2)
    x = drawn(5, 64)
    for wrong in (x[:, :63], drawn(5, 65)):
        with pytest.raises(RuntimeError):
            part(wrong)
    for add in (drawn(4, 40), drawn(5, 39)):
        with pytest.raises(RuntimeError):
            part(x, add)


@torch.no_grad()
def test_packed_experts(way):
    experts = ExpertList([GatedFeedForward(32, 48, "silu") for _ in range(3)])
    for number, parameter in enumerate(experts.parameters()):
        parameter.copy_(drawn(*parameter.shape, seed=number) * 0.2)
    known = [FusedLinear([e.gate.weight, e.up.weight], [None, None], "int8", act="silu", gated=True) for e in experts]
    into = pack_experts(experts, "int8").into
    x, visits = way(drawn(6, 32)), [(2, 0, 3), (0, 3, 4), (1, 4, 6)]
    expected = torch.cat([known[e].definition(x[begin:end]) for e, begin, end in visits])
    close(into(x, visits), expected, 2e-2)
    with pytest.raises(RuntimeError):
        into(drawn(6, 31), visits)
    with pytest.raises((RuntimeError, IndexError)):
        into(x, [(3, 0, 6)])


def test_rows_of_a_table_of_an_optimizer():
    table, moments = drawn(6, 8), torch.zeros(6, 8)
    group = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}
    rows, changes = torch.tensor([1, 4]), drawn(2, 8)
    wrong = [
        (table, moments[:5], moments, changes, rows), (table, moments, moments.double(), changes, rows),
        (table, moments, moments, transposed(changes), rows), (table, moments, moments, changes, rows.int()),
        (table, moments, moments, changes, torch.tensor([1, 6])),
        (table, moments, moments, changes, torch.tensor([-1, 2])),
        (transposed(table), moments, moments, changes, rows), (table, moments, moments, changes[:1], rows),
    ]  # fmt: skip
    before, adam_rows = table.clone(), backend(table).adam_rows
    for parts in wrong:
        with pytest.raises(InvalidInput):
            adam_rows(*parts, 1.0, group)
    adam_rows(table, moments, moments.clone(), changes[:0], rows[:0], 1.0, group)
    assert torch.equal(table, before)
    adam_rows(table, moments, moments.clone(), changes, rows, 1.0, group)
    assert (table != before).any(1).tolist() == [False, True, False, False, True, False]


def test_dropout(way):
    x = way(drawn(40, 50))
    y = SeededDropout.apply(x, 0.3, 5)
    assert torch.equal(y, SeededDropout.apply(x.contiguous(), 0.3, 5))
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.7, rtol=1e-3, atol=1e-3)
    assert SeededDropout.apply(x[:0], 0.3, 5).shape == (0, 50)


def test_gates_sums_and_places_of_a_gpu(device, way):
    if device == "cpu":
        pytest.skip("programs alone")
    x = way(drawn(5, 32))
    close(gpu.activation_gate(x, ACTIVATIONS["silu"]), F.silu(x[:, :16]) * x[:, 16:])
    deep = way(drawn(2, 3, 32))
    close(gpu.activation_gate(deep, ACTIVATIONS["silu"]), F.silu(deep[..., :16]) * deep[..., 16:])
    part = FusedLinearGPU([drawn(6, 8), drawn(6, 8, seed=1)], [None, None], act="silu", gated=True)
    assert part(drawn(2, 3, 8)).shape == (2, 3, 6)
    y, norm = way(drawn(5, 32, seed=1)), RMSNorm(32, 1e-5)
    norm.weight.copy_(drawn(32, seed=2))
    found = normed_sum(x, y, norm, keep=True)
    assert found is not None
    close(found[0], x + y)
    close(found[1], TorchBackend().rms_norm(x + y, norm.weight, 1e-5))
    norm.weight = torch.nn.Parameter(apart(norm.weight.detach()))
    assert normed_sum(x, y, norm, keep=True) is None
    assert normed_sum(x, y[:4], norm, keep=True) is None
    k, v, rows = way(drawn(3, 2, 16)), way(drawn(3, 2, 16, seed=1)), torch.tensor([4, 0, 2])
    stores = [torch.zeros(5, 2, 16) for _ in range(4)]
    gpu.write_rows(k, v, *stores[:2], rows)
    close(stores[0][rows], k)
    close(stores[1][rows], v)
    q, angles = way(drawn(3, 4, 16, seed=2)), drawn(3, 8)
    out = gpu.rotate_and_write(q, k, v, (apart(angles.cos()), transposed(angles.sin())), *stores[2:], rows)
    close(out, gpu.rotate(q, angles.cos(), angles.sin()))
    close(stores[2][rows], gpu.rotate(k, angles.cos(), angles.sin()))
    close(stores[3][rows], v)


@torch.no_grad()
@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Bert", "GPT2"])
@pytest.mark.parametrize("precision", [None, "bf16", "int8"])
def test_vectors_may_lie_in_any_way(way, family, precision):
    torch.manual_seed(0)
    sizes = {
        "Llama": {"num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
        "Gemma2": {
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 2,
        },
        "Bert": {"num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
        "GPT2": {"n_head": 2, "n_embd": 32, "n_layer": 2, "n_positions": 32},
    }[family]  # fmt: skip
    config = getattr(multihead, f"{family}Config")(vocab_size=50, **sizes)
    model = getattr(multihead, f"{family}Model")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if precision is not None:
        model.prepare(precision)
    x = way(drawn(2, 5, 32).to(model.dtype))
    got, expected = (model(inputs_embeds=given).last_hidden_state for given in (x, x.contiguous()))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_what_is_remembered_in_another_precision_is_refused():
    for prepared in (False, True):
        torch.manual_seed(0)
        config = multihead.LlamaConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
        )
        model, ids = multihead.LlamaForCausalLM(config).eval(), torch.tensor([[3, 4, 5]])
        memory = model(ids, use_cache=True).past_key_values
        other = model.to(torch.bfloat16)
        if prepared:
            other.backbone = fuse(other.backbone, "bf16")
        with pytest.raises(InvalidInput, match="past_key_values"):
            other(ids, past_key_values=memory)
    assert isinstance(memory.layers[0], KVLayerCache)
