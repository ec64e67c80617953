"""Parts of a model by the reference's names: reached, replaced, frozen, hooked."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import re
import weakref

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

import multihead
from multihead.compat.tensors import Conv1D
from multihead.compat.training_names import get_parameter_names
from multihead.errors import InvalidInput, UnknownPart, UnsupportedConfig, UnsupportedOption
from multihead.nn.hooks import is_hooked

TINY = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 8, "vocab_size": 20}
IDS = torch.tensor([[1, 2, 3]])


class Louder(nn.Module):
    """A program's module around another."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.inner(x) * 2


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return multihead.BertForSequenceClassification(multihead.BertConfig(**TINY, initializer_range=0.5)).eval()


@pytest.fixture
def gpt2():
    torch.manual_seed(0)
    config = multihead.GPT2Config(n_embd=8, n_head=2, n_layer=2, vocab_size=20, initializer_range=0.5)
    return multihead.GPT2LMHeadModel(config).eval()


def test_parts_are_the_models_own_modules(bert):
    layers = bert.bert.encoder.layer
    assert [len(layers), len(list(layers)), len(layers[1:])] == [3, 3, 2]
    assert layers[-1].attention.self.query is bert.backbone.layers[2].attention.step.q
    assert bert.get_submodule("bert.pooler.dense") is bert.head.dense.linear
    assert bert.classifier is bert.head.out
    assert not hasattr(bert, "lm_head")
    with pytest.raises(UnknownPart, match=r"bert\.encoder has no 'layers': it has layer"):
        bert.bert.encoder.layers  # noqa: B018
    with pytest.raises(UnknownPart, match=r"By the reference's names they are bert, classifier"):
        bert.roberta  # noqa: B018


def test_a_joined_matrix_reads_and_writes_through(gpt2):
    part, own = gpt2.transformer.h[0].attn.c_attn, gpt2.backbone.layers[0].attention.step
    assert isinstance(part, Conv1D)
    weight = part.weight
    assert (weight.shape, part.nx, part.nf) == ((8, 24), 8, 24)
    with torch.no_grad():
        weight.mul_(2)
        weight.data[:, 8:9] = 3
        weight.data.split(8, 1)[2].fill_(5)
    assert torch.equal(weight, torch.cat([own.q.weight, own.k.weight, own.v.weight]).T)
    assert [own.k.weight[0].unique().item(), own.v.weight.unique().item()] == [3, 5]
    x = torch.randn(4, 8)
    torch.testing.assert_close(part(x), x @ weight + part.bias)
    (weight**2).sum().backward()
    torch.testing.assert_close(own.q.weight.grad, 2 * own.q.weight)
    optimizer, before = torch.optim.SGD([weight], lr=0.25), own.q.weight.detach().clone()
    optimizer.step()
    torch.testing.assert_close(own.q.weight.detach(), before / 2)
    optimizer.zero_grad()
    assert own.k.weight.grad is None
    weight.requires_grad = False
    assert not own.v.weight.requires_grad
    assert type(copy.deepcopy(weight)) is nn.Parameter
    with pytest.raises(InvalidInput, match=r"c_attn\.weight is \[8, 24\], not \[24, 8\]"):
        weight.data = torch.zeros(24, 8)


def test_a_module_takes_the_place_of_a_part(bert, gpt2):
    plain = bert(IDS).logits
    place, query = bert.bert.encoder.layer[0].attention.self, bert.bert.encoder.layer[0].attention.self.query
    place.query = Louder(query)
    assert not torch.allclose(bert(IDS).logits, plain)
    assert bert.backbone.layers[0].attention.step.q.calls == 1
    bert.get_submodule("bert.encoder.layer.0.attention.self").query = query
    assert torch.equal(bert(IDS).logits, plain)
    bert.classifier = nn.Linear(8, 5)
    assert bert(IDS).logits.shape == (1, 5)
    bert.bert.encoder.layer = bert.bert.encoder.layer[:1]
    assert len(bert.backbone.layers) == 1

    plain, joined = gpt2(IDS).logits, gpt2.transformer.h[0].attn.c_attn
    gpt2.transformer.h[0].attn.c_attn = Louder(joined)
    louder = gpt2.transformer.h[0].attn.c_attn
    found = gpt2(IDS).logits
    assert (type(louder), louder.calls) == (Louder, 1)
    with torch.no_grad():
        gpt2.transformer.h[0].attn.c_attn = joined
        joined.weight.mul_(2)
        joined.bias.mul_(2)
    torch.testing.assert_close(gpt2(IDS).logits, found)
    assert not torch.allclose(found, plain)


def test_a_decode_step_sees_what_was_put_in_a_parts_place(gpt2):
    gpt2.generate(IDS, max_new_tokens=2, do_sample=False, eos_token_id=None)  # with the fast path
    gpt2.transformer.h[1].mlp.c_fc = Louder(gpt2.transformer.h[1].mlp.c_fc)
    seen: list[torch.Size] = []
    gpt2.transformer.h[0].register_forward_hook(lambda module, given, out: seen.append(out.shape))
    text = IDS
    for _ in range(4):
        text = torch.cat([text, gpt2(text).logits[:, -1:].argmax(-1)], dim=1)
    seen.clear()
    found = gpt2.generate(IDS, max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert found.tolist() == text.tolist()
    assert len(seen) == 4


def test_freezing_and_modes_reach_the_part_alone(bert):
    bert.train()
    for parameter in bert.bert.parameters():
        parameter.requires_grad = False
    bert.bert.eval()
    assert [n for n, p in bert.named_parameters() if p.requires_grad] == ["classifier.weight", "classifier.bias"]
    assert not any(module.training for module in bert.backbone.modules())
    assert bert.training
    assert bert.head.dropout.training
    bert.bert.encoder.to(torch.float64)
    assert {p.dtype for p in bert.backbone.layers.parameters()} == {torch.float64}
    assert bert.classifier.weight.dtype is torch.float32


def test_what_has_no_meaning_is_refused(bert, gpt2):
    with pytest.raises(UnsupportedOption, match=r"bert\.encoder cannot be called.* Its inner parts can: layer"):
        bert.bert.encoder(torch.zeros(1, 8))
    with pytest.raises(UnsupportedOption, match=r"bert\.extra is no part"):
        bert.bert.extra = nn.Linear(2, 2)
    with pytest.raises(UnsupportedOption, match="lm_head cannot be replaced"):
        gpt2.lm_head = nn.Linear(8, 20)
    assert torch.equal(gpt2.lm_head.weight, gpt2.transformer.wte.weight)


@pytest.fixture
def reference_names():
    yield
    multihead.use_reference_names()


SIZES = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 20}
ROWS = {
    "BertForSequenceClassification": SIZES,
    "RobertaForMaskedLM": SIZES,
    "LlamaForCausalLM": SIZES,
    "GPT2LMHeadModel": {"n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 20},
    "BloomForCausalLM": {"hidden_size": 8, "n_head": 2, "n_layer": 1, "vocab_size": 20},
    "T5ForConditionalGeneration": {
        "vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2,
    },
}  # fmt: skip


def both(name: str, **more: int) -> tuple[nn.Module, nn.Module]:
    """Return the reference's model and ours, of the same config, with other numbers."""
    config, row = f"{name.partition('For')[0].removesuffix('LMHeadModel')}Config", {**ROWS.get(name, SIZES), **more}
    theirs, ours = (getattr(each, name)(getattr(each, config)(**row)) for each in (transformers, multihead))
    return theirs, ours


@pytest.mark.parametrize("name", ROWS)
def test_state_dicts_go_both_ways(name, reference_names):
    theirs, ours = both(name)
    stored = theirs.state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: .*\n\tUnexpected key\(s\).*spare"):
        ours.load_state_dict({"spare": torch.zeros(1), **dict(list(stored.items())[:3])})
    assert ours.load_state_dict(stored) == ([], [])
    found, file = ours.state_dict(), io.BytesIO()
    assert found.keys() == stored.keys()
    assert all(torch.equal(value, stored[key]) for key, value in found.items())
    torch.save(found, file)
    file.seek(0)
    theirs.load_state_dict(torch.load(file))
    parameters = dict(ours.named_parameters())
    assert {id(p) for p in parameters.values()} == {id(p) for p in ours.parameters()}
    names = {name for name, _ in theirs.named_parameters()}
    several = {name for name in names if name.rpartition(".")[0].endswith(("c_attn", "query_key_value"))}
    assert names - several <= parameters.keys()
    assert all(re.search(r"(c_attn|query_key_value)\.[qkv]\.\w+$", name) for name in parameters.keys() - names)
    assert len(parameters) == len(names) + 2 * len(several)

    assert [id(p) for p in parameters.values()] == [id(p) for p in ours.parameters()]
    assert all(name in found or ours.get_parameter(name) is p for name, p in parameters.items())

    holder, own = nn.ModuleDict({"model": ours}), nn.Module.state_dict(ours)
    assert holder.state_dict().keys() == {f"model.{key}" for key in stored}
    zeros = {f"model.{key}": torch.zeros_like(value) for key, value in stored.items()}
    multihead.use_reference_names(False)
    holder.load_state_dict(zeros)
    assert not any(p.any() for p in ours.parameters())
    assert ours.state_dict().keys() == own.keys()
    ours.load_state_dict({key: torch.ones_like(value) for key, value in own.items()})
    assert all((p == 1).all() for p in ours.parameters())


def test_names_reach_groups_hooks_and_files(bert, reference_names, tmp_path):
    names = [name for name, _ in bert.named_parameters()]
    kept = [name for name in names if "LayerNorm.weight" not in name and not name.endswith("bias")]
    assert sorted(set(get_parameter_names(bert, [nn.LayerNorm], ["bias"]))) == sorted(kept)
    linear = {name for name, module in bert.named_modules() if isinstance(module, nn.Linear)}
    assert {"classifier", "bert.pooler.dense", "bert.encoder.layer.2.attention.self.key"} <= linear
    assert any(isinstance(module, nn.Dropout) for _, module in bert.named_modules())
    assert all(bert.get_submodule(name) is module for name, module in bert.named_modules() if name)
    bert.save_pretrained(tmp_path)
    again = multihead.BertForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, bert(IDS).logits)
    again.add_adapter(multihead.LoraConfig(r=2))
    assert "bert.encoder.layer.0.attention.self.query.lora.default.A" in dict(again.named_parameters())
    assert next(iter(bert.prepare("fp32").named_parameters()))[0].startswith("backbone.")


@pytest.mark.parametrize(("name", "part"), [("BertForSequenceClassification", "bert"), ("LlamaForCausalLM", "model")])
def test_the_model_without_its_head_is_called(name, part):
    theirs, ours = (model.eval() for model in both(name))
    ours.load_state_dict(theirs.state_dict())
    inputs = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    found, expected = (getattr(model, part)(**inputs) for model in (ours, theirs))
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found.last_hidden_state[real], expected.last_hidden_state[real], atol=1e-5, rtol=1e-4)
    if part == "bert":
        torch.testing.assert_close(found.pooler_output, expected.pooler_output, atol=1e-5, rtol=1e-4)
    found.last_hidden_state.sum().backward()
    assert next(ours.backbone.parameters()).grad is not None


def test_a_tree_keeps_no_model_in_memory():
    model = multihead.GPT2LMHeadModel(multihead.GPT2Config(**ROWS["GPT2LMHeadModel"]))
    assert len(model.transformer.h) == 1
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BloomForCausalLM", "T5ForConditionalGeneration"])
def test_functional_calls_reach_each_parameter_by_its_name_and_put_it_back(name):
    """Tied parameters have several names, and split ones are in no module of the reference's."""
    _, ours = both(name)
    ours.eval()
    ids = torch.tensor([[3, 4, 5]])
    more = {"decoder_input_ids": ids} if ours.config.is_encoder_decoder else {}
    before, held = ours(ids, **more).logits, list(ours.parameters())
    for path, parameter in ours.named_parameters():
        other = torch.randn_like(parameter)
        got = torch.func.functional_call(ours, {path: other}, (ids,), more).logits
        with torch.no_grad():
            kept = parameter.clone()
            parameter.copy_(other)
            torch.testing.assert_close(got, ours(ids, **more).logits, msg=path)
            parameter.copy_(kept)
    assert all(one is other for one, other in zip(held, ours.parameters(), strict=True))
    assert torch.equal(ours(ids, **more).logits, before)


def test_computed_tables_and_buffers_of_the_reference(reference_names):
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes |= {"vocab_size": 20, "d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "pad_token_id": 0}
    theirs, ours = (lib.MarianMTModel(lib.MarianConfig(**sizes)) for lib in (transformers, multihead))
    stored = theirs.state_dict()
    assert ours.load_state_dict(stored) == ([], [])
    learned = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert learned == {name for name, p in theirs.named_parameters() if p.requires_grad}
    table = "model.encoder.embed_positions.weight"
    with pytest.raises(UnsupportedConfig, match=table):
        ours.load_state_dict({**stored, table: stored[table] + 1})
    ours.final_logits_bias = torch.ones(1, 20)
    assert (ours.state_dict()["final_logits_bias"] == 1).all()


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BloomForCausalLM", "Phi3ForCausalLM"])
def test_what_is_written_into_a_state_dict_reaches_the_model(name, tmp_path):
    theirs, ours = both(name, **({"num_key_value_heads": 2, "pad_token_id": 0} if name[0] == "P" else {}))
    ours.load_state_dict(theirs.state_dict())
    again = "lm_head.weight" if ours.config.tie_word_embeddings else ""
    live = {key: value for key, value in ours.state_dict().items() if key != again}
    kept, file = copy.deepcopy(live), io.BytesIO()
    with torch.no_grad():
        for key, value in live.items():  # a moving average of weights
            value.mul_(0.5).add_(kept[key], alpha=2)
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key] * 2.5)
    safetensors.torch.save_file(live, tmp_path / "live.safetensors")
    torch.save(live, file)
    file.seek(0)
    stored, *others = safetensors.torch.load_file(tmp_path / "live.safetensors"), torch.load(file), copy.deepcopy(live)
    others += [pickle.loads(pickle.dumps(live)), {key: value.clone() for key, value in live.items()}]
    for other in others:
        assert {type(value) for value in other.values()} == {torch.Tensor}
        assert all(torch.equal(value, stored[key]) for key, value in other.items())
    theirs.load_state_dict(ours.state_dict())
    assert all(torch.equal(value, stored[key]) for key, value in theirs.state_dict().items() if key in stored)
    torch._foreach_mul_(list(live.values()), 0.0)
    assert not any(parameter.any() for parameter in ours.parameters())
    ours.load_state_dict(theirs.state_dict(), assign=True)
    ours.load_state_dict(ours.state_dict(), assign=True)
    assert {type(parameter) for parameter in ours.parameters()} == {nn.Parameter}
    assert all(torch.equal(value, stored[key]) for key, value in ours.state_dict().items() if key in stored)


@pytest.fixture
def one_process(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "GPT2LMHeadModel"])
def test_models_that_torch_shards_learn_and_keep_the_references_names(name, one_process):
    from torch.distributed.fsdp import fully_shard

    (theirs, plain), (_, ours), (_, again) = (both(name) for _ in range(3))
    for model in (plain, ours):
        model.load_state_dict(theirs.state_dict())
    part, layers = next((n, m) for n, m in again.named_modules() if n.endswith((".layer", ".h")))
    with pytest.raises(UnsupportedOption, match=rf"{part}\.0 shows modules of the model .* call it with our module"):
        fully_shard(layers[0])
    fully_shard(ours)
    for model in (plain, ours):
        optimizer = torch.optim.SGD(model.eval().parameters(), lr=0.5)
        (model(IDS).logits ** 2).sum().backward()
        optimizer.step()
    expected, found = plain.state_dict(), ours.state_dict()
    assert found.keys() == theirs.state_dict().keys()
    for key, value in found.items():
        assert isinstance(value, torch.distributed.tensor.DTensor)
        torch.testing.assert_close(value.full_tensor(), expected[key])
    doubled = {key: value * 2 for key, value in found.items()}
    assert ours.load_state_dict(doubled) == ([], [])
    assert all(torch.equal(value.full_tensor(), doubled[key].full_tensor()) for key, value in ours.state_dict().items())


def hooked(model: nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, list[list[float]]]:
    """Return what hooks on every module see by its name: input, output, gradients of both."""
    names = {module: name for name, module in model.named_modules() if name}
    seen: dict[str, list[list[float]]] = {}

    def see(module: nn.Module, *given: object) -> None:
        for one in given:
            first = one[0] if isinstance(one, (tuple, transformers.utils.ModelOutput)) and len(one) else one
            seen.setdefault(names[module], []).append(first.flatten().tolist() if torch.is_tensor(first) else [])

    handles = [module.register_forward_hook(see) for module in names]
    handles += [module.register_full_backward_hook(see) for module in names]
    (model(**inputs).logits ** 2).sum().backward()
    for handle in handles:
        handle.remove()
    return seen


SPANS = {
    "BertForMaskedLM": ["bert.encoder", "bert.encoder.layer.1", "bert.encoder.layer.0.attention.self",
                        "bert.encoder.layer.0.attention.output", "bert.encoder.layer.0.intermediate",
                        "bert.encoder.layer.1.output", "cls.predictions.decoder"],
    "AlbertForMaskedLM": ["albert.encoder"],
    "GPT2LMHeadModel": ["transformer.h.0.attn.c_attn", "transformer.h.1.mlp", "lm_head"],
    "T5ForConditionalGeneration": ["encoder.block.0", "decoder.block.0", "lm_head"],
    "Gemma2ForCausalLM": ["model.layers.0.mlp", "lm_head"],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*backward hook")
@pytest.mark.parametrize("name", SPANS)
def test_hooks_on_every_part_see_what_the_references_see(name):
    more = {"BertForMaskedLM": {"num_hidden_layers": 2}, "GPT2LMHeadModel": {"n_layer": 2}}.get(name, {})
    more |= {"embedding_size": 4, "num_hidden_layers": 3} if name == "AlbertForMaskedLM" else {}
    more |= {"head_dim": 4, "num_key_value_heads": 1} if name == "Gemma2ForCausalLM" else {}
    theirs, ours = (model.eval() for model in both(name, **more))
    ours.load_state_dict(theirs.state_dict())
    inputs = {"input_ids": torch.tensor([[3, 4, 5]])}
    inputs |= {"decoder_input_ids": torch.tensor([[0, 6]])} if ours.config.is_encoder_decoder else {}
    expected, found = hooked(theirs, inputs), hooked(ours, inputs)
    for part in SPANS[name]:
        pairs = list(zip(found[part], expected[part], strict=False))  # the reference's encoders have no gradients
        assert len(found[part]) == 4
        assert any(want for _, want in pairs), part
        for got, want in pairs:  # the reference passes states to some parts by keyword
            assert not want or got == pytest.approx(want, rel=1e-3, abs=1e-5), part
    assert not any(map(is_hooked, ours.modules()))


def test_what_a_hook_returns_takes_the_place_of_a_parts_input_or_output(bert, gpt2):
    attention, doubled = bert.bert.encoder.layer[0].attention.self, lambda *given: given[-1] * 2
    with attention.register_forward_hook(doubled):
        found = bert(IDS).logits
    with torch.no_grad():
        attention.value.weight.mul_(2)
        attention.value.bias.mul_(2)
    torch.testing.assert_close(bert(IDS).logits, found)
    with torch.no_grad(), bert.bert.encoder.register_forward_pre_hook(lambda part, given: (given[0] * 0, *given[1:])):
        assert torch.equal(bert(IDS).logits, bert(IDS + 4).logits)
    assert not torch.equal(bert(IDS).logits, bert(IDS + 4).logits)

    joined, seen = gpt2.transformer.h[0].attn.c_attn, []
    gpt2.generate(IDS, max_new_tokens=2, do_sample=False)  # with the fast path
    with joined.register_forward_hook(doubled), gpt2.lm_head.register_forward_hook(lambda *given: seen.append(given)):
        found = gpt2(IDS).logits
        gpt2.generate(IDS, max_new_tokens=3, do_sample=False, eos_token_id=None)
        torch.testing.assert_close(seen[0][2], found[0])
        assert [(given[0], len(given[2])) for given in seen[1:]] == [(gpt2.lm_head, 1)] * 3
    with torch.no_grad():
        joined.weight.mul_(2)
        joined.bias.mul_(2)
    torch.testing.assert_close(gpt2(IDS).logits, found)
    with gpt2.lm_head.register_forward_hook(doubled), gpt2.transformer.h[0].mlp.register_forward_hook(doubled):
        torch.testing.assert_close(copy.deepcopy(gpt2)(IDS).logits, gpt2(IDS).logits)
    with (
        joined.register_forward_hook(doubled),
        pytest.raises(UnsupportedOption, match="remove the hook, copy, and hook both"),
    ):
        copy.deepcopy(gpt2)(IDS)
