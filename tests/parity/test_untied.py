"""A table that the config ties and the checkpoint keeps with other numbers is read, as the reference reads it."""

from __future__ import annotations

import logging
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multihead
from multihead.errors import UnsupportedConfig

from .case import WORDS as WORDS_IN_VOCABULARY
from .case import Case, batch, ours, reference
from .cases import CASES, PAIRS
from .test_families import close

UNREAD = {("Luke", "lm_head.bias")}  # which the reference stores and never reads


@cache
def tied(case: Case, end: str) -> dict[str, str]:
    """The reference's name of each tied tensor -> that of the one it is tied to."""
    with torch.device("meta"):
        model = case.peer(end)._from_config(case.config(end))
    names = {name: to for name, to in model.all_tied_weights_keys.items() if ".shared_transf" not in name}  # below
    # Files of T5Gemma 2 name the encoder's tensors without its module for text.
    return {name: to.replace("encoder.text_model.", "encoder.") for name, to in names.items()}


def changes() -> list[tuple[Case, str, tuple[str, ...]]]:
    """(case, end, tied tensors to store with numbers of their own), each class once.

    A family's other classes tie the same tables in the same way: there, all of them are changed at once.
    """
    found, seen, names_seen = [], set(), set()
    for case, end in PAIRS:
        if (case.family, end) in seen or not tied(case, end):
            continue
        seen.add((case.family, end))
        names = tuple(name for name in tied(case, end) if (case.family, name) not in UNREAD)
        new = [name for name in names if (case.family, table(name)) not in names_seen]
        names_seen |= {(case.family, table(name)) for name in new}
        found += [(case, end, (name,)) for name in new]
        if len(names) > 1 or not new:
            found.append((case, end, names))
    return found


def table(name: str) -> str:
    """The name of a tensor without the prefix that a class with a head gives its backbone."""
    return ".".join(name.split(".")[-3:]) if "embed" in name else name


CHANGES = changes()


def write(source: Path, case: Case, end: str, names: tuple[str, ...], folder: Path, scale: float = 1.0) -> Any:
    """A checkpoint of the reference's with more tensors: noise under `names`, or copies where `scale` is 0."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    stored = load_file(source / "model.safetensors")
    torch.manual_seed(5)
    for name in names:
        words = stored[tied(case, end)[name]]
        stored[name] = words + scale * torch.randn_like(words)
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return stored


def answers(case: Case, end: str, *models: Any) -> list[Any]:
    inputs = batch(case, end, lengths=(9, 9, 9))
    with torch.no_grad():
        return [model(**inputs)[0] for model in models]


@pytest.mark.parametrize(
    ("case", "end", "names"), CHANGES, ids=[f"{c.name}/{end}-{'-'.join(names)}" for c, end, names in CHANGES]
)
def test_a_stored_copy_with_other_numbers_is_read_as_by_the_reference_and_saved(
    folders, case, end, names, tmp_path, recwarn
):
    write(folders(case, end)[1], case, end, names, tmp_path / "theirs")
    kind = case.peer(end)
    logging.disable(logging.WARNING)
    expected = kind.from_pretrained(tmp_path / "theirs", attn_implementation=case.backend).eval()
    mine = ours(case, end, tmp_path / "theirs")
    assert any("they are not tied" in str(warning.message) for warning in recwarn)
    right, got = answers(case, end, expected, mine)
    close(got, right, "scores", case.tolerance)
    mine.save_pretrained(tmp_path / "mine")
    again = ours(case, end, tmp_path / "mine")
    theirs = kind.from_pretrained(tmp_path / "mine", attn_implementation=case.backend).eval()
    logging.disable(logging.NOTSET)
    for name, value in zip(("ours", "theirs"), answers(case, end, again, theirs), strict=True):
        close(value, right, f"saved and loaded, {name}", case.tolerance)


WORDS = [(case, end, names[:1]) for case, end, names in CHANGES if names[0].endswith("weight")]
WORDS = list(dict.fromkeys(WORDS))  # one name of a class whose names are changed at once


@pytest.mark.parametrize(("case", "end", "names"), WORDS, ids=[f"{c.name}/{end}-{names[0]}" for c, end, names in WORDS])
def test_tied_words_may_be_stored_under_any_of_their_names_alone_and_equal_copies_stay_tied(
    folders, case, end, names, tmp_path
):
    theirs, source = folders(case, end)
    stored = write(source, case, end, names, tmp_path, scale=0.0)
    both = ours(case, end, tmp_path)
    del stored[tied(case, end)[names[0]]]
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    one = ours(case, end, tmp_path)
    for mine in (both, one):
        assert mine.config == both.config
        assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in both.parameters())
    expected, *found = answers(case, end, theirs, both, one)
    for got in found:
        close(got, expected, "scores", case.tolerance)


def llama(folders: Any, tmp_path: Path) -> tuple[Any, Any]:
    """The reference's model with a head of its own that its config ties, and ours."""
    case = next(case for case in CASES if case.name == "llama-biased-tied-wide-heads")
    write(folders(case, "ForCausalLM")[1], case, "ForCausalLM", ("lm_head.weight",), tmp_path)
    mine = multihead.AutoModelForCausalLM.from_pretrained(tmp_path)
    return transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval(), mine


def test_an_untied_head_is_resized_prepared_and_written_apart_from_the_words(folders, tmp_path):
    theirs, mine = llama(folders, tmp_path)
    ids = torch.randint(1, WORDS_IN_VOCABULARY - 9, (2, 9))
    with torch.no_grad():
        expected = theirs(ids).logits
        fast = multihead.AutoModelForCausalLM.from_pretrained(tmp_path, precision="fp32")
        close(fast(ids).logits, expected, "scores of a prepared model")
        fast.save_pretrained(tmp_path / "prepared")
        again = multihead.AutoModelForCausalLM.from_pretrained(tmp_path / "prepared")
        close(again(ids).logits, expected, "scores of a saved prepared model")
        mine.resize_token_embeddings(WORDS_IN_VOCABULARY - 9)
        close(mine(ids).logits, expected[..., :-9], "scores of a smaller vocabulary")


def test_an_untied_head_learns_by_itself(folders, tmp_path):
    _, mine = llama(folders, tmp_path)
    words, scores = mine.get_input_embeddings().weight, mine.get_output_embeddings().weight
    before = words.detach().clone()
    with torch.no_grad():
        scores.add_(1.0)
    assert torch.equal(words, before)


@pytest.mark.parametrize(("name", "later"), [("zamba", "layers.2.shared_transf"), ("zamba2", "layers.3.shared_transf")])
def test_a_block_that_layers_share_may_be_stored_at_any_of_them(name, later, tmp_path):
    case = next(case for case in CASES if case.name == name)
    theirs = reference(case, "Model")
    theirs.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    copies = {one: to for one, to in theirs.all_tied_weights_keys.items() if one.startswith(later)}
    assert copies
    alone = {key: value for key, value in stored.items() if key not in copies.values()}
    for file in ({**stored, **{one: stored[to].clone() for one, to in copies.items()}},
                 {**alone, **{one: stored[to].clone() for one, to in copies.items()}}):  # fmt: skip
        save_file(file, tmp_path / "model.safetensors", {"format": "pt"})
        right, got = answers(case, "Model", theirs, ours(case, "Model", tmp_path))
        close(got, right, "states", case.tolerance)
    file = {**stored, **{one: stored[to] + 1.0 for one, to in copies.items()}}
    save_file(file, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedConfig, match="is shared here"):
        ours(case, "Model", tmp_path)
