"""Tensors by the reference's paths: equal values, and what is written there is written here."""

from __future__ import annotations

import re

import pytest
import torch

from multihead.compat.stored_tensors import StoredParameter

from .case import reference
from .cases import CASES

# (part of a case's name, part of a path) of the reference's tensors that no parameter here holds, and why.
ABSENT = (
    (r"marian|pegasus|fsmt|roformer", r"embed_positions"),  # positions are computed
    (
        r"-untied|two-vocabularies|fsmt|pegasus-x-even",
        r"\b(shared|word_embeddings)\.weight",
    ),  # it reads no such table
    (r"-untied|other-blocks|layer-norms", r"(cls\.predictions|lm_head)\.bias"),  # it reads `decoder.bias` alone
    (r"kimi|olmo-hybrid|bailing|glm5-next", r"\.conv1d\."),  # its files have three matrices
    (r"minimax-m3", r"gate_up_proj"),  # its files have two matrices
    (r"-with-", r"encoder\.pooler\."),  # no decoder attends to the pooled state
    (r"neomme", r"\bpatch_embeddings\."),  # of images
    (r"t5gemma2", r"\b(vision_tower|multi_modal_projector)\."),  # of images
    (r"zamba2", r"\.(shared_transformer|linear)\b"),  # layers share blocks, which have one name each
    (r"longcat", r"\.experts\."),  # it stacks experts that compute nothing with the others
    (r"hrm-text", r"[HL]_module\."),  # its files call its two stacks otherwise
)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name}/{case.ends[-1]}" for case in CASES])
def test_tensors_are_found_by_the_references_paths(case, folders, loaded):
    end = case.ends[-1]
    theirs, ours = folders(case, end)[0], loaded(case, end)
    if case.made.model_type == "rwkv":  # inference scales the reference's weights in place
        theirs = reference(case, end)
    absent = [path for name, path in ABSENT if re.search(name, case.name)]
    made = []
    for name, value in theirs.named_parameters(remove_duplicate=False):
        if not any(re.search(path, name) for path in absent):
            found = ours.get_parameter(name)
            assert torch.equal(found, value), name
            made += [(name, found)] if isinstance(found, StoredParameter) else []
    for name, found in made[:2]:
        before = found.detach().clone()
        with torch.no_grad():
            found.add_(1)
            assert torch.equal(ours.get_parameter(name), before + 1), name
            found.copy_(before)
        assert torch.equal(ours.get_parameter(name), before), name
