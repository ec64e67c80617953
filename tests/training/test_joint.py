"""A loss that compares the examples of a step is the same however the step is cut: in batches, over processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from multihead.training.objectives.preference import SentenceObjective
from tests.training.joint_program import losses

LOSSES = ["contrastive", "cosent", "cosine"]


@pytest.mark.parametrize("loss", LOSSES)
def test_accumulated_batches_are_the_one_big_batch(loss, bert, tmp_path):
    whole = losses(str(bert), tmp_path, loss, 8, 1)
    assert len({*whole}) == len(whole)
    for each, together in ((4, 2), (2, 4)):
        assert losses(str(bert), tmp_path, loss, each, together) == pytest.approx(whole, rel=1e-3), (each, together)


def test_dropout_is_drawn_alike_when_a_pass_is_computed_again(bert, tmp_path, monkeypatch):
    """The gradient is that of the vectors that the loss was computed from."""
    seen: list[torch.Tensor] = []
    forward = SentenceObjective.vectors

    def vectors(self, batch):
        found = forward(self, batch)
        if self.training:
            seen.append(torch.stack(found).detach())
        return found

    monkeypatch.setattr(SentenceObjective, "vectors", vectors)
    losses(str(bert), tmp_path, "contrastive", 4, 2, dropout=0.5)
    assert len(seen) > 8
    first, second, again, last = seen[:4]
    assert torch.equal(first, again)
    assert torch.equal(second, last)
    assert not torch.equal(first, second)


def test_two_processes_learn_what_one_does(bert, tmp_path):
    program = ["-m", "tests.training.joint_program", str(bert), str(tmp_path), "contrastive", "4", "1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=env)
    found = re.findall(r"found (\[[^\]]*\])", done.stdout)
    assert len(found) == 2, done.stdout + done.stderr
    for line in found:
        assert json.loads(line) == pytest.approx(losses(str(bert), tmp_path, "contrastive", 8, 1), rel=1e-3)
