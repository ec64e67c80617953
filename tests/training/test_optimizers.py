"""Optimizers, groups of parameters, schedules and averages: those of the reference, or as their papers say."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import transformers

import multihead
from multihead.errors import UnsupportedOption
from multihead.nn.own_names import own_parameters
from multihead.training.arguments import SCHEDULES as NAMED
from multihead.training.arguments import TrainingArguments
from multihead.training.optim.adafactor import Adafactor
from multihead.training.optim.optimizers import (
    SCHEDULES,
    WeightAverage,
    create_optimizer,
    no_decay_names,
    parameter_groups,
    schedule,
    trainable_parameters,
)
from tests.training.models import CASES, ours, saved, theirs
from tests.training.runs import tiny

KWARGS = [
    ("linear", {}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.2}),
    ("cosine_with_min_lr", {"min_lr": 1e-4}),
    ("polynomial", {}),
    ("polynomial", {"power": 2.0, "lr_end": 1e-4}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 5}),
    ("warmup_stable_decay", {"num_decay_steps": 6}),
    ("warmup_stable_decay", {"num_decay_steps": 6, "decay_type": "linear", "warmup_type": "cosine"}),
    ("warmup_stable_decay", {"num_decay_steps": 6, "decay_type": "1-sqrt", "warmup_type": "1-sqrt"}),
    ("warmup_stable_decay", {"num_decay_steps": 6, "num_stable_steps": 4, "min_lr_ratio": 0.1}),
]
RATE = 2e-3


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize(("name", "options"), KWARGS, ids=str)
def test_schedules_are_the_references_at_every_step(name, options, warmup):
    steps = 23
    arguments = TrainingArguments(
        learning_rate=RATE, lr_scheduler_type=name, lr_scheduler_kwargs=options, warmup_steps=warmup
    )
    own = schedule(arguments, steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=RATE)
    their = transformers.get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=options)
    for step in range(steps + 3):
        assert RATE * own(step) == pytest.approx(their.get_last_lr()[0], rel=1e-9, abs=1e-13), step
        optimizer.step()
        their.step()


def test_every_schedule_that_the_settings_name_is_there_and_wrong_options_are_named():
    assert set(NAMED) == set(SCHEDULES)
    with pytest.raises(UnsupportedOption, match=r"cycles.*do not fit 'linear'"):
        schedule(TrainingArguments(lr_scheduler_kwargs={"cycles": 2}), 10)
    with pytest.raises(UnsupportedOption, match="decay_type 'straight' is none of linear, cosine, 1-sqrt"):
        schedule(TrainingArguments(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs={
            "decay_type": "straight"}), 10)  # fmt: skip


def test_a_short_decay_may_be_a_share_of_all_steps():
    arguments = TrainingArguments(
        lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs={"num_decay_steps": 0.25, "decay_type": "linear"}
    )
    found = [schedule(arguments, 40)(step) for step in range(41)]
    assert found[:31] == [1.0] * 31
    assert found[35] == pytest.approx(0.5)
    assert found[40] == 0.0


@pytest.mark.parametrize("name", CASES)
def test_what_learns_and_what_weight_decay_leaves_alone_is_as_in_the_reference(name, tmp_path):
    saved(name, tmp_path)
    model, reference = ours(name, tmp_path), theirs(name, tmp_path)
    trainer = transformers.Trainer(reference, transformers.TrainingArguments(str(tmp_path / "t"), report_to="none"))
    decayed = set(trainer.get_decay_parameter_names(reference))
    alone = no_decay_names(model)
    for path, _ in trainable_parameters(model):
        _, names = model.keys.locate(path, "")
        stored = {their for their in dict(reference.named_parameters()) for n in names if theirs_name(their, n)}
        assert stored, f"{path} learns here alone: it is stored under {names}"
        wanted = {n in decayed for n in stored}
        assert wanted == {path not in alone}, f"{path}: {sorted(stored)}"


def theirs_name(parameter, stored):
    return parameter == stored or parameter.endswith("." + re.sub(r"^/", "", stored))


def settings(**changes):
    return TrainingArguments(learning_rate=1e-3, weight_decay=0.1, **changes)


def test_groups_hold_every_learning_parameter_once():
    model = tiny()
    model.backbone.embed.requires_grad_(False)
    found = parameter_groups(model, settings(layerwise_lr_decay=0.5, head_learning_rate=1.0))
    names = [name for group in found for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in trainable_parameters(model))
    assert sum(len(group["params"]) for group in found) == len(names)
    assert not any("embed" in name for name in names)
    for group in found:
        bare = {name in no_decay_names(model) for name in group["names"]}
        assert bare == {group["weight_decay"] == 0.0}


def rates(model, **changes):
    return {name: group["lr"] for group in parameter_groups(model, settings(**changes)) for name in group["names"]}


def test_lower_layers_learn_slower_and_the_head_at_its_own_rate():
    found = rates(tiny(), layerwise_lr_decay=0.5, head_learning_rate=0.2)
    of = {key: {rate for name, rate in found.items() if key in name} for key in ("layers.1.", "layers.0.", "embed")}
    assert of == {"layers.1.": {5e-4}, "layers.0.": {2.5e-4}, "embed": {1.25e-4}}
    assert {rate for name, rate in found.items() if name.startswith("head.")} == {0.2}
    assert set(rates(tiny()).values()) == {1e-3}


def test_nothing_to_learn_is_refused():
    model = tiny()
    model.requires_grad_(False)
    with pytest.raises(UnsupportedOption, match="No parameter of the model is trainable"):
        create_optimizer(model, settings())


def update(model, optimizer):
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("adamw_torch", lambda groups, lr: torch.optim.AdamW(groups, lr=lr, betas=(0.8, 0.9), eps=1e-6)),
        ("adamw_torch_fused", lambda groups, lr: torch.optim.AdamW(groups, lr=lr, betas=(0.8, 0.9), eps=1e-6)),
        ("sgd", lambda groups, lr: torch.optim.SGD(groups, lr=lr)),
    ],
)
def test_optimizers_are_torchs_with_the_settings(name, made):
    model = tiny()
    other = copy.deepcopy(model)
    changes = settings(optim=name, adam_beta1=0.8, adam_beta2=0.9, adam_epsilon=1e-6)
    bare = no_decay_names(other)
    kinds = [[(n, p) for n, p in own_parameters(other) if (n in bare) is alone] for alone in (False, True)]
    split = [
        {"params": [p for _, p in kind], "weight_decay": decay} for kind, decay in zip(kinds, (0.1, 0.0), strict=True)
    ]
    own, plain = create_optimizer(model, changes), made(split, 1e-3)
    for _ in range(3):
        update(model, own)
        update(other, plain)
    for (path, one), two in zip(own_parameters(model), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7, msg=path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_adafactor_is_the_references_over_steps_for_vectors_and_matrices(dtype):
    torch.manual_seed(0)
    shapes = [(7,), (), (12, 5), (1, 6), (3, 4, 5)]
    own = [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]
    other = [torch.nn.Parameter(p.detach().clone()) for p in own]
    ours = Adafactor(own, lr=1e-2, weight_decay=0.1)
    plain = transformers.Adafactor(other, lr=1e-2, weight_decay=0.1, scale_parameter=False, relative_step=False)
    for step in range(12):
        rate = 1e-2 / (step + 1)
        for one, two in zip(own, other, strict=True):
            one.grad = torch.randn_like(one) * 10.0 ** (step % 4 - 2)
            if one.ndim:
                one.grad[..., 0] = 0  # what no step has moved
            two.grad = one.grad.clone()
        for optimizer in (ours, plain):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
    for one, two in zip(own, other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_adafactor_of_the_settings_is_the_references():
    model = tiny()
    other = copy.deepcopy(model)
    own = create_optimizer(model, TrainingArguments(learning_rate=1e-3, optim="adafactor"))
    plain = transformers.Adafactor(other.parameters(), lr=1e-3, scale_parameter=False, relative_step=False)
    for _ in range(3):
        update(model, own)
        update(other, plain)
    for (path, one), two in zip(own_parameters(model), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7, msg=path)


def test_muon_updates_matrices_of_layers_by_torchs_muon_and_all_else_by_adamw():
    model = tiny()
    other = copy.deepcopy(model)
    own = create_optimizer(model, settings(optim="muon"))
    named = dict(own_parameters(other))
    matrices = [name for name, p in named.items() if "layers." in name and p.ndim == 2]
    assert len(matrices) == 12
    bare = no_decay_names(other)
    muon = torch.optim.Muon([named[n] for n in matrices], lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(
        [
            {"params": [p for n, p in named.items() if n not in matrices and n not in bare], "weight_decay": 0.1},
            {"params": [p for n, p in named.items() if n in bare], "weight_decay": 0.0},
        ],
        lr=1e-3,
    )
    for rate in (1e-3, 5e-4, 1e-4):
        for optimizer in (own, muon, adam):
            for group in optimizer.param_groups:
                group["lr"] = rate
        update(model, own)
        update(other, muon)
        adam.step()
    for path, one in own_parameters(model):
        torch.testing.assert_close(one, named[path], rtol=1e-5, atol=1e-7, msg=path)
    assert all(own.state[p] for p in model.parameters()), "what a checkpoint keeps is the optimizer's own state"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_averages_follow_their_recurrence_and_swap_without_loss(dtype):
    model = tiny().to(dtype)
    name, parameter = next(iter(trainable_parameters(model)))
    average, wanted = WeightAverage(model, 0.9), parameter.detach().to(torch.float64).clone()
    for step in range(1, 30):
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * parameter.detach().double()
    torch.testing.assert_close(average.weights[name].double(), wanted, rtol=1e-4, atol=1e-5)
    before, kept = parameter.detach().clone(), average.weights[name].clone()
    average.swap(model)
    torch.testing.assert_close(parameter.detach(), kept.to(dtype))
    average.swap(model)
    assert torch.equal(parameter, before)
    assert average.weights[name].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_adapters_alone_are_in_the_groups():
    model = tiny()
    model.add_adapter(multihead.LoraConfig(r=2, target_modules=["query"]))
    names = [name for group in parameter_groups(model, settings(head_learning_rate=0.5)) for name in group["names"]]
    assert names == [name for name, _ in trainable_parameters(model)]
    assert all("lora" in name for name in names)
