"""Losses as sums: cross-entropy in chunks is the plain one in value and every gradient, and never holds all scores."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import multihead
from multihead.heads.losses import IGNORED
from multihead.kernels.ragged import SequenceLayout
from multihead.nn.own_names import own_parameters
from multihead.training.objectives import losses
from multihead.training.objectives.token import Objective, TokenLabelObjective, objective_of

WORDS = 60
SMALL = {"vocab_size": WORDS, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}


def bert(**more):
    config = multihead.BertConfig(**SMALL, intermediate_size=24, max_position_embeddings=64, **more)
    return multihead.BertForMaskedLM(config)


def gemma():
    config = multihead.AutoConfig.for_model(
        "gemma2", **SMALL, intermediate_size=24, num_key_value_heads=1, head_dim=8, final_logit_softcapping=5.0
    )
    return multihead.AutoModelForCausalLM.from_config(config)


def bart():
    config = multihead.BartConfig(
        vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64,
    )  # fmt: skip
    return multihead.BartForConditionalGeneration(config)


def llama():
    config = multihead.LlamaConfig(**SMALL, intermediate_size=24, num_key_value_heads=1, tie_word_embeddings=False)
    return multihead.LlamaForCausalLM(config)


MODELS = {
    "tied table behind a transform": bert,
    "softcap over a tied table": gemma,
    "final bias": bart,
    "table of its own": llama,
}


def examples(model, count=7, seed=0):
    """Texts with some labels left out."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        ids = torch.randint(6, WORDS, (int(torch.randint(2, 12, (), generator=draw)),), generator=draw)
        labels = ids.clone()
        labels[torch.rand(len(ids), generator=draw) < 0.3] = IGNORED
        labels[-1] = ids[-1]
        found.append({"input_ids": ids.numpy(), "labels": labels.numpy()})
    return found


def gradients(objective: Objective, batch, factor: float = 1.0):
    objective.model.zero_grad()
    loss = objective(batch)[0]
    (loss * factor).backward()
    return loss.detach(), {name: p.grad.clone() for name, p in own_parameters(objective.model) if p.grad is not None}


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_chunks_change_neither_the_loss_nor_any_gradient(make, smoothing, monkeypatch):
    torch.manual_seed(0)
    model = make().double().eval()
    objective, batch = objective_of(model, smoothing), examples(model)
    loss, plain = gradients(objective, batch, 0.25)
    monkeypatch.setattr(losses.chunked_cross_entropy, "__defaults__", (0.0, 0, 3 * WORDS))
    monkeypatch.setattr(losses, "_ChunkedCrossEntropy", spied := Spied(losses._ChunkedCrossEntropy))
    other, chunked = gradients(objective, batch, 0.25)
    assert spied.calls == 1
    assert other.dtype == torch.float64
    torch.testing.assert_close(other, loss, rtol=1e-10, atol=1e-12)
    assert plain.keys() == chunked.keys() == {name for name, p in own_parameters(model) if p.requires_grad}
    for name in plain:
        torch.testing.assert_close(chunked[name], plain[name], rtol=1e-8, atol=1e-12, msg=name)


class Spied:
    """Counts the uses of a function."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def apply(self, *given):
        self.calls += 1
        return self.function.apply(*given)


def test_chunks_change_nothing_under_autocast(monkeypatch):
    torch.manual_seed(0)
    model = bert().eval()
    objective, batch = TokenLabelObjective(model), examples(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, plain = gradients(objective, batch)
    monkeypatch.setattr(losses.chunked_cross_entropy, "__defaults__", (0.0, 0, 4 * WORDS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other, chunked = gradients(objective, batch)
    torch.testing.assert_close(other, loss, rtol=1e-3, atol=1e-3)
    for name in plain:
        scale = plain[name].abs().max().clamp(min=1e-3)
        assert ((chunked[name] - plain[name]).abs().max() / scale) < 0.03, name


def test_frozen_parts_get_no_gradient_from_chunks(monkeypatch):
    model = bert().eval()
    model.head.table.weight.requires_grad_(False)
    monkeypatch.setattr(losses.chunked_cross_entropy, "__defaults__", (0.0, 0, 4 * WORDS))
    _, found = gradients(TokenLabelObjective(model), examples(model))
    assert model.head.table.weight.grad is None
    assert any("head.transform" in name for name in found)


def test_without_gradients_chunks_give_the_same_loss(monkeypatch):
    model = bert().double().eval()
    objective, batch = TokenLabelObjective(model), examples(model)
    with torch.no_grad():
        plain = objective(batch)[0]
        monkeypatch.setattr(losses.chunked_cross_entropy, "__defaults__", (0.0, 0, 4 * WORDS))
        torch.testing.assert_close(objective(batch)[0], plain, rtol=1e-12, atol=0)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest new tensor has."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


def test_chunks_never_hold_the_scores_of_all_words():
    words, width, rows = 5_000, 8, 400
    table = torch.randn(words, width, requires_grad=True)
    states, labels = torch.randn(rows, width, requires_grad=True), torch.randint(words, (rows,))

    def largest(chunk):
        with Largest() as seen:
            losses.chunked_cross_entropy(lambda x: x @ table.T, states, labels, (table,), 0.0, words, chunk).backward()
        return seen.numbers

    assert largest(1 << 30) == rows * words
    assert largest(100_000) <= 100_000 < rows * words // 10


def test_a_batch_without_a_labeled_word_has_no_loss_and_no_gradient():
    model = bert()
    batch = [{"input_ids": torch.tensor([5, 6]).numpy(), "labels": torch.tensor([IGNORED, IGNORED]).numpy()}]
    objective = TokenLabelObjective(model)
    loss, found = gradients(objective, batch)
    assert loss == 0
    assert objective.count(batch) == 0
    assert all(not grad.any() for grad in found.values())


def test_spans_are_the_mean_of_both_sides_and_leave_out_answers_outside():
    torch.manual_seed(0)
    runs, scores = SequenceLayout.packed((4, 6, 3)), torch.randn(13, 2, dtype=torch.float64, requires_grad=True)
    starts, ends = torch.tensor([1, 6, 0]), torch.tensor([3, 6, 2])  # the second text has 6 tokens: 0 to 5
    loss = losses.span_loss(scores, runs, starts, ends)
    parts = scores.split(runs.lengths)
    wanted = sum(
        (F.cross_entropy(parts[n][:, 0], starts[n]) + F.cross_entropy(parts[n][:, 1], ends[n])) / 2 for n in (0, 2)
    )
    torch.testing.assert_close(loss, wanted)
    [gradient] = torch.autograd.grad(loss, scores)
    assert torch.isfinite(gradient).all()
    assert not gradient[4:10].any()


def test_log_probabilities_of_answers_are_the_written_sum():
    torch.manual_seed(0)
    runs, table = SequenceLayout.packed((3, 0, 4)), torch.randn(9, 5, dtype=torch.float64)
    states = torch.randn(7, 5, dtype=torch.float64)
    labels = torch.tensor([IGNORED, 4, IGNORED, 2, 8, IGNORED, 1])
    found = losses.sequence_log_probs(lambda x: x @ table.T, states, labels, runs)
    logs = (states @ table.T).log_softmax(-1)
    wanted = torch.stack([logs[1, 4], logs.new_zeros(()), logs[3, 2] + logs[4, 8] + logs[6, 1]])
    torch.testing.assert_close(found, wanted)
