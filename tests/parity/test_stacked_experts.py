"""Files that keep a layer's experts in two stacks, under the reference's own names, as it saves them on request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import multihead
from multihead.errors import CheckpointMismatch

from .case import Case, batch, reference
from .cases import CASES


def end_of(case: Case) -> str:
    return next((end for end in case.ends if end.startswith("For")), case.ends[0])


def with_experts() -> list[Case]:
    return [case for case in CASES if any("expert" in name and "token" not in name for name in case.made.to_dict())]


def stacked(case: Case, folder: Any) -> Any:
    model = reference(case, end_of(case))
    model.save_pretrained(folder, save_original_format=False)
    return model


@pytest.mark.parametrize("case", with_experts(), ids=lambda case: case.name)
def test_stacks_of_experts_give_the_references_numbers(case, tmp_path):
    theirs = stacked(case, tmp_path)
    ours = getattr(multihead, case.family + end_of(case)).from_pretrained(tmp_path)
    inputs = batch(case, end_of(case))
    with torch.no_grad():
        expected, got = theirs(**inputs)[0], ours(**inputs)[0]
    if expected.shape[:2] == inputs["attention_mask"].shape:
        real = inputs["attention_mask"].bool()
        expected, got = expected[real], got[real]
    largest = expected.abs().max().item()
    torch.testing.assert_close(got, expected, rtol=0, atol=case.tolerance * largest)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda stack: stack[:-1], "missing"),
        (lambda stack: torch.cat([stack, stack[:1]]), "unexpected"),
        (lambda stack: stack[:, :-2], "shape"),
        (lambda stack: stack[:, :1], "unexpected"),
        (lambda stack: stack[0, 0, 0], "unexpected"),
    ],
    ids=["fewer", "more", "narrower", "one-row", "number"],
)
def test_stacks_of_other_sizes_are_refused(change, named, tmp_path):
    case = next(case for case in CASES if case.name == "qwen3-moe")
    stacked(case, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors, name = load_file(path), "model.layers.0.mlp.experts.gate_up_proj"
    save_file({**tensors, name: change(tensors[name]).contiguous()}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointMismatch, match=named):
        multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
