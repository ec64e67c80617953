"""Adapters in a model: what learns, several of them, switching them off, merging, and what is refused."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from multihead import LoraConfig
from multihead.errors import CheckpointMismatch, InvalidInput, MultiheadError, UnsupportedConfig, UnsupportedOption
from multihead.nn.own_names import own_parameters
from tests.adapters import tiny

KINDS = list(tiny.CLASSES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {kind: tiny.base(kind, root) for kind in KINDS}


@pytest.fixture
def llama(folders):
    return tiny.load("Llama", folders["Llama"])


@pytest.fixture
def adapted(llama):
    """A Llama with two random adapters, the second of which is active."""
    llama.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "down_proj"]), "one")
    tiny.randomized(llama)
    llama.add_adapter(LoraConfig(r=3, target_modules=["v_proj", "down_proj"], use_dora=True), "two")
    return tiny.randomized(llama)


def learning(model):
    return [name for name, parameter in own_parameters(model) if parameter.requires_grad]


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_changes_nothing_and_alone_learns(kind, folders):
    model = tiny.load(kind, folders[kind])
    before = tiny.scores(model, kind)
    model.add_adapter(LoraConfig())
    assert torch.equal(tiny.scores(model, kind), before)
    assert learning(model)
    assert all(".lora.default." in name for name in learning(model))
    model(**tiny.inputs(kind)).loss.backward()
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_queries_and_values_are_the_usual_targets(llama):
    llama.add_adapter(LoraConfig())
    ends = {name.rpartition(".")[2] for name in llama.adapters.configs["default"].target_modules}
    assert ends == {"q_proj", "v_proj"}


def test_a_seed_decides_what_is_drawn(folders):
    models = [tiny.load("GPT2", folders["GPT2"]) for _ in range(2)]
    for model in models:
        torch.manual_seed(7)
        model.add_adapter(LoraConfig(target_modules="all-linear"))
    pairs = list(zip(own_parameters(models[0]), own_parameters(models[1]), strict=True))
    assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)
    downs = [p for (name, p), _ in pairs if name.endswith(".A")]
    assert not torch.equal(downs[0], downs[1])
    assert max(p.abs().max() for p in downs) <= 16**-0.5


def test_parts_of_one_stored_matrix_share_their_down_projection(folders):
    model = tiny.load("GPT2", folders["GPT2"])
    model.add_adapter(LoraConfig(target_modules=["c_attn"]))
    layer = model.backbone.layers[0].attention.step
    assert layer.q.lora["default"].A is layer.v.lora["default"].A
    assert model.trainable_parameters()[0] == 2 * 8 * (16 + 48)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dora", [False, True])
def test_merging_keeps_the_scores_and_leaves_a_plain_model(kind, dora, folders, tmp_path):
    model = tiny.load(kind, folders[kind]).float()
    model.add_adapter(LoraConfig(target_modules=tiny.TARGETS[kind], use_dora=dora))
    before = tiny.scores(tiny.randomized(model), kind)
    names = [name for name, _ in own_parameters(tiny.load(kind, folders[kind]))]
    model.merge_adapters()
    torch.testing.assert_close(tiny.scores(model, kind), before, rtol=1e-5, atol=1e-5)
    assert sorted(name for name, _ in own_parameters(model)) == sorted(names)
    assert len(learning(model)) == len(names)
    model.save_pretrained(tmp_path / "merged")
    assert torch.equal(tiny.scores(tiny.load(kind, tmp_path / "merged"), kind), tiny.scores(model, kind))


def test_switching_between_adapters_and_the_base(adapted, folders):
    base = tiny.scores(tiny.load("Llama", folders["Llama"]), "Llama")
    two = tiny.scores(adapted, "Llama")
    assert adapted.active_adapters == ["two"]
    adapted.set_adapter("one")
    one = tiny.scores(adapted, "Llama")
    assert all(".one." in name for name in learning(adapted))
    adapted.set_adapter(["one", "two"])
    both = tiny.scores(adapted, "Llama")
    assert len({round(float(x.sum()), 6) for x in (base, one, two, both)}) == 4
    with adapted.adapters_disabled():
        assert torch.equal(tiny.scores(adapted, "Llama"), base)
        assert adapted.active_adapters == []
    assert torch.equal(tiny.scores(adapted, "Llama"), both)
    adapted.disable_adapters()
    assert torch.equal(tiny.scores(adapted, "Llama"), base)
    adapted.enable_adapters()
    adapted.delete_adapter("one")
    assert torch.equal(tiny.scores(adapted, "Llama"), two)
    adapted.delete_adapter("two")
    assert torch.equal(tiny.scores(adapted, "Llama"), base)
    assert adapted.adapters is None
    assert len(learning(adapted)) == len(list(adapted.parameters()))


def test_active_adapters_add_up_and_merge_alike(adapted):
    adapted.set_adapter(["one", "two"])
    before = tiny.scores(adapted, "Llama")
    adapted.merge_adapters()
    torch.testing.assert_close(tiny.scores(adapted, "Llama"), before, rtol=1e-5, atol=1e-5)


def test_a_copy_is_a_model_of_its_own(adapted, folders):
    other = copy.deepcopy(adapted)
    before = tiny.scores(adapted, "Llama")
    assert torch.equal(tiny.scores(other, "Llama"), before)
    tiny.randomized(other.train())
    other.set_adapter("one")
    tiny.randomized(other)
    assert torch.equal(tiny.scores(adapted, "Llama"), before)


def test_the_base_is_exported_without_its_adapters(adapted, folders):
    stored = load_file(folders["Llama"] / "model.safetensors")
    found = adapted.keys.export(adapted)
    assert found.keys() == stored.keys()
    assert all(torch.equal(found[name], stored[name]) for name in stored)


def test_dropout_belongs_to_training(llama):
    llama.add_adapter(LoraConfig(lora_dropout=0.5))
    tiny.randomized(llama)
    given = tiny.inputs("Llama")
    for learning in (False, True, False):
        llama.train(learning)
        assert torch.equal(llama(**given).logits, llama(**given).logits) is not learning


def test_what_reads_a_weight_sees_the_adapter(llama):
    llama.add_adapter(LoraConfig(target_modules=["q_proj"]))
    tiny.randomized(llama)
    layer = llama.backbone.layers[0].attention.step.q
    x = torch.randn(5, 16, dtype=torch.float64)
    torch.testing.assert_close(x @ layer.weight.T, layer(x))
    assert layer.weight.requires_grad


def test_learning_lowers_the_loss_and_moves_nothing_else(llama):
    before = {name: p.clone() for name, p in own_parameters(llama)}
    llama.add_adapter(LoraConfig())
    optimizer = torch.optim.AdamW([p for p in llama.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(8):
        loss = llama(**tiny.inputs("Llama")).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(p, before[name]) for name, p in own_parameters(llama) if name in before)


def test_half_precision_bases_learn_in_full_precision(folders):
    model = tiny.load("Llama", folders["Llama"]).to(torch.bfloat16)
    model.add_adapter(LoraConfig())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert tiny.scores(model, "Llama").dtype == torch.bfloat16


def test_replaced_heads_switch_with_their_adapters(folders):
    model = tiny.load("Bert", folders["Bert"])
    base = tiny.scores(model, "Bert")
    model.add_adapter(LoraConfig(task_type="SEQ_CLS"), "one")
    assert [n for n in learning(model) if ".lora." not in n] == ["head.out.weight", "head.out.bias"]
    one = tiny.scores(tiny.randomized(model), "Bert")
    model.add_adapter(LoraConfig(modules_to_save=["classifier"]), "two")
    assert torch.equal(tiny.scores(model, "Bert"), base)
    with pytest.raises(InvalidInput, match=r"'one' and 'two' both replace head\.out"):
        model.set_adapter(["one", "two"])
    model.set_adapter("one")
    assert torch.equal(tiny.scores(model, "Bert"), one)
    with model.adapters_disabled():
        assert torch.equal(tiny.scores(model, "Bert"), base)
    model.merge_adapters()
    torch.testing.assert_close(tiny.scores(model, "Bert"), one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"target_modules": ["q_prj"]}, InvalidInput, "'q_prj' is no linear layer of LlamaForCausalLM.*'q_proj'"),
        ({"target_modules": r".*nothing"}, InvalidInput, "nothing"),
        ({"target_modules": r"(q_proj"}, InvalidInput, "no regular expression"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [9]}, InvalidInput, "no layer"),
        ({"modules_to_save": ["lm_had"]}, InvalidInput, "'lm_had' is no module.*'lm_head'"),
        ({"r": 0}, InvalidInput, "r is 0"),
        ({"lora_dropout": 1.0}, InvalidInput, "lora_dropout"),
        ({"lora_alpha": "much"}, InvalidInput, "lora_alpha"),
        ({"bias": "all"}, UnsupportedConfig, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, UnsupportedConfig, "init_lora_weights is 'pissa'"),
        ({"task_type": "SEQ_CLASS"}, UnsupportedConfig, "SEQ_CLS"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(options, error, told, llama):
    with pytest.raises(error, match=told):
        llama.add_adapter(LoraConfig(**options))
    assert llama.adapters is None
    assert len(learning(llama)) == len(list(llama.parameters()))


def test_a_shared_table_is_not_replaced(folders):
    model = tiny.load("GPT2", folders["GPT2"])
    with pytest.raises(UnsupportedOption, match="wte"):
        model.add_adapter(LoraConfig(modules_to_save=["wte"]))


def test_names_of_adapters_are_checked(adapted):
    with pytest.raises(InvalidInput, match="has an adapter 'one' already"):
        adapted.add_adapter(LoraConfig(), "one")
    with pytest.raises(InvalidInput, match="cannot name an adapter"):
        adapted.add_adapter(LoraConfig(), "a.b")
    with pytest.raises(InvalidInput, match=r"no adapter 'tow'.*'two'"):
        adapted.set_adapter("tow")
    with pytest.raises(InvalidInput, match="no adapter 'three'"):
        adapted.delete_adapter("three")
    adapted.set_adapter(["one", "two"])
    with pytest.raises(InvalidInput, match=r"Say which adapter to save: .*'one', 'two'"):
        adapted.save_adapter("nowhere")


def test_a_model_without_adapters_says_so(llama):
    for call in (llama.merge_adapters, llama.disable_adapters, lambda: llama.set_adapter("one")):
        with pytest.raises(InvalidInput, match="has no adapter"):
            call()


def damaged(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop(next(k for k in t if "lora_B" in k)), "missing .*lora_B"),
        (lambda t: t.update({"base_model.model.extra.lora_A.weight": torch.zeros(2)}), "unexpected .*extra"),
        (lambda t: t.update({k: v[:1].clone() for k, v in t.items() if "lora_A" in k}), "misshapen .*lora_A"),
    ],
)
def test_tensors_that_do_not_fit_are_listed_and_the_model_stays_as_it_was(change, told, adapted, folders, tmp_path):
    adapted.save_adapter(tmp_path / "adapter", "one")
    damaged(tmp_path / "adapter", change)
    before = tiny.scores(adapted, "Llama")
    with pytest.raises(CheckpointMismatch, match=told):
        adapted.load_adapter(tmp_path / "adapter", "three")
    assert torch.equal(tiny.scores(adapted, "Llama"), before)
    assert adapted.active_adapters == ["two"]


def test_an_adapter_of_another_model_is_refused(adapted, folders, tmp_path):
    adapted.save_adapter(tmp_path / "adapter", "one")
    with pytest.raises(MultiheadError, match="GPT2LMHeadModel"):
        tiny.load("GPT2", folders["GPT2"]).load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"peft_type": "IA3"}, "'IA3'; only 'LORA'"),
        ({"use_qalora": True}, "use_qalora = True"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"of_the_future": 3}, "of_the_future = 3"),
    ],
)
def test_a_config_that_means_other_numbers_is_refused(entries, told, adapted, tmp_path):
    adapted.save_adapter(tmp_path / "adapter", "one")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    with pytest.raises(UnsupportedConfig, match=told):
        adapted.load_adapter(tmp_path / "adapter", "three")


def test_entries_that_change_nothing_are_kept(tmp_path):
    entries = {"peft_type": "LORA", "r": 4, "peft_version": "0.18.0", "eva_config": None, "loftq_config": {}}
    LoraConfig.read(entries).save_pretrained(tmp_path)
    assert entries.items() <= json.loads((tmp_path / "adapter_config.json").read_text()).items()


def test_how_much_learns_is_told(llama, capsys):
    everything = llama.num_parameters()
    llama.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    llama.print_trainable_parameters()
    assert f"{2 * 2 * 32} of {everything + 128:,} parameters" in capsys.readouterr().out
