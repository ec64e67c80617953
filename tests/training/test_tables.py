"""Tables that learn by rows end where dense gradients end, and go on from checkpoints exactly."""

from __future__ import annotations

import random

import pytest
import torch

import multihead
from multihead.kernels.cpu import native
from multihead.training.optim import sparse_embeddings as tables
from multihead.training.optim.sparse_embeddings import AdamW, sparse_gradients
from tests.training.runs import examples, losses, same, tiny, trainer, weights
from tests.training.test_resume import crashed

pytestmark = pytest.mark.skipif(native.library() is None, reason="without the kernels all gradients are dense")

FEW = [{"input_ids": [6 + n % 7, 7, 9 + n % 5, 7], "labels": n % 3} for n in range(60)]  # of 60 rows 12 are read


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(tables, "MIN_ROWS", 30)


def trained(folder, monkeypatch, least, data, **settings):
    monkeypatch.setattr(tables, "MIN_ROWS", least)
    run = trainer(folder, data=data, **settings)
    run.train()
    return run


@pytest.mark.parametrize("data", [FEW, examples()], ids=["few", "all"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.2, "max_grad_norm": 0.3},
        {"gradient_accumulation_steps": 3, "bf16": True},
        {"max_tokens_per_batch": 60, "max_tokens_per_pass": 24, "ema_decay": 0.9},
        {"optim": "muon"},
        {"optim": "adamw_torch", "layerwise_lr_decay": 0.8},
    ],
    ids=lambda settings: ",".join(settings) or "plain",
)
def test_runs_end_as_with_dense_gradients(settings, data, tmp_path, monkeypatch):
    settings = {**settings, "save_strategy": "no"}
    dense = trained(tmp_path, monkeypatch, 10**9, data, **settings)
    rows = trained(tmp_path, monkeypatch, 30, data, **settings)
    assert any("rows" in state for state in rows.optimizer.state.values())
    assert not any("rows" in state for state in dense.optimizer.state.values())
    near = 5e-3 if "bf16" in settings or settings.get("optim") == "muon" else 2e-5  # Muon computes in bfloat16 too
    for (name, one), two in zip(weights(rows.model).items(), weights(dense.model).values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=near, msg=name)
    assert losses(rows) == pytest.approx(losses(dense), rel=1e-3)


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1, "bf16": True}, {"optim": "muon"}], ids=str)
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(settings, tmp_path, small):
    whole = trainer(tmp_path / "whole", data=FEW, **{**settings, "save_strategy": "no"})
    whole.train()
    crashed(tmp_path / "parts", 7, data=FEW, **settings)
    run = trainer(tmp_path / "parts", data=FEW, **settings)
    run.train(resume_from_checkpoint=True)
    assert any("rows" in state for state in run.optimizer.state.values())
    assert same(weights(run.model), weights(whole.model))


@pytest.mark.parametrize("first", [True, False], ids=["rows first", "dense first"])
def test_a_checkpoint_of_either_kind_is_gone_on_from_by_the_other(first, tmp_path, monkeypatch):
    dense = trained(tmp_path / "dense", monkeypatch, 10**9, FEW, save_strategy="no")
    monkeypatch.setattr(tables, "MIN_ROWS", 30 if first else 10**9)
    crashed(tmp_path / "parts", 12, data=FEW)
    monkeypatch.setattr(tables, "MIN_ROWS", 10**9 if first else 30)
    run = trainer(tmp_path / "parts", data=FEW)
    run.train(resume_from_checkpoint=True)
    assert any("rows" in state for state in run.optimizer.state.values()) is not first
    for (name, one), two in zip(weights(run.model).items(), weights(dense.model).values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("seed", range(5))
def test_sparse_and_dense_gradients_in_any_order_are_torchs_adamw(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    own, plain = (torch.nn.Parameter(x) for x in [torch.randn(40, 6)] * 2)
    plain = torch.nn.Parameter(plain.detach().clone())
    settings = {"lr": 0.01, "weight_decay": draw.choice([0.0, 0.1]), "betas": (0.8, 0.95)}
    ours, theirs = AdamW([own], **settings), torch.optim.AdamW([plain], **settings)
    kept = ours.state_dict()
    for step in range(24):
        read = torch.tensor([draw.randrange(40) for _ in range(draw.choice([1, 7]))])
        sparse = torch.sparse_coo_tensor(read[None], torch.randn(len(read), 6), (40, 6), check_invariants=True)
        plain.grad = sparse.to_dense()
        own.grad = plain.grad.clone() if draw.random() < 0.2 else sparse
        if step == 15:  # what a caller saves and loads
            ours = AdamW([own], **settings)
            ours.load_state_dict(kept)
        ours.step()
        theirs.step()
        kept = ours.state_dict()
        torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-6)


def test_without_kernels_sparse_gradients_count_as_dense_ones(monkeypatch):
    monkeypatch.setattr(tables, "updates_rows", lambda table: False)
    own, plain = (torch.nn.Parameter(torch.ones(9, 2)) for _ in range(2))
    sparse = torch.sparse_coo_tensor(torch.tensor([[3, 3, 1]]), torch.randn(3, 2), (9, 2), check_invariants=True)
    own.grad, plain.grad = sparse, sparse.to_dense()
    AdamW([own]).step()
    torch.optim.AdamW([plain]).step()
    assert torch.equal(own, plain)


def test_tables_that_serve_as_something_else_stay_dense(small):
    tied = multihead.GPT2LMHeadModel(
        multihead.GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    )
    apart = tiny()
    with sparse_gradients(tied), sparse_gradients(apart):
        for model, wanted in ((tied, False), (apart, True)):
            words = max((m for m in model.modules() if isinstance(m, torch.nn.Embedding)), key=lambda m: len(m.weight))
            assert len(words.weight) == 60
            assert words.sparse is wanted
    assert not any(m.sparse for m in apart.modules() if isinstance(m, torch.nn.Embedding))


def test_gradients_are_dense_again_after_training(tmp_path, small):
    run = trainer(tmp_path, data=FEW, save_strategy="no")
    run.train()
    run.model(input_ids=torch.tensor([[6, 7, 8]]), labels=torch.tensor([1])).loss.backward()
    assert not any(p.grad.is_sparse for p in run.model.parameters() if p.grad is not None)
