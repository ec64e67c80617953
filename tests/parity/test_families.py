"""Every family and head equals the reference, in both directions. A new family adds a row to `cases.py`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import multihead

from .cases import CASES, IDS, PAIRS, Case, batch, labels, reference

TOLERANCE = 1e-5  # of the largest magnitude, float32


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Writes a case's checkpoint with the reference, once."""

    @cache
    def folder(case: Case, end: str) -> tuple[Any, Path]:
        path = tmp_path_factory.mktemp(f"{case.name}-{end}")
        model = reference(case, end)
        model.save_pretrained(path)
        return model, path

    return folder


def ours(case: Case, end: str, path: Path, **options: Any) -> Any:
    return getattr(multihead, case.family + end).from_pretrained(path, **options)


def close(got: torch.Tensor, expected: torch.Tensor, name: str, tolerance: float = TOLERANCE) -> None:
    assert got.shape == expected.shape, f"{name}: {tuple(got.shape)} but the reference gives {tuple(expected.shape)}"
    worst = (got.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert worst <= tolerance, f"{name} differs by {worst:.2e} of the largest magnitude"


def compare(got: Any, expected: Any, mask: torch.Tensor | None) -> set[str]:
    """All tensors of two outputs, at real positions; gives the names compared."""
    names = set()
    for name, value in expected.items():
        if name in ("past_key_values", "loss") or value == ():
            continue
        assert name in got, f"the reference gives {name}"
        for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (got[name], value)), strict=True):
            source = not name.startswith(("decoder", "cross")) and one.shape[:2] == (
                mask.shape if mask is not None else 0
            )
            if name in ("attentions", "encoder_attentions") and mask is not None:
                real = (mask[:, None, :, None] * mask[:, None, None, :]).bool().expand_as(one)
                close(one[real], other[real], name)
            elif name == "cross_attentions" and mask is not None:
                real = mask[:, None, None, :].bool().expand_as(one)
                close(one[real], other[real], name)
            elif source and mask is not None:
                close(one[mask.bool()], other[mask.bool()], name)
            else:
                close(one, other, name)
        names.add(name)
    return names


@pytest.mark.parametrize(("case", "end"), PAIRS, ids=IDS)
def test_scores_states_and_attentions_equal_the_reference_on_a_right_padded_batch(folders, case, end):
    model, path = folders(case, end)
    model.set_attn_implementation("eager")
    inputs = batch(case, end)
    shown = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        expected, got = model(**inputs, **shown), ours(case, end, path)(**inputs, **shown)
        fast = ours(case, end, path)(**inputs)
    flat = inputs["attention_mask"].flatten(0, -2)
    compared = compare(got, expected, flat)
    assert any("attentions" in name for name in compared)
    assert any("hidden_states" in name for name in compared)
    compare(fast, {k: v for k, v in expected.items() if k in fast}, flat)


@pytest.mark.parametrize(
    ("case", "end"), [p for p in PAIRS if p[1] != "ForMultipleChoice"], ids=[i for i in IDS if "Choice" not in i]
)
def test_padding_on_the_left_changes_nothing(folders, case, end):
    """The reference counts absolute positions from the first pad; we count from the first word, as in training."""
    _, path = folders(case, end)
    model = ours(case, end, path)
    right, left = batch(case, end), batch(case, end)
    for row, length in enumerate(right["attention_mask"].sum(1).tolist()):
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            if name in left:
                left[name][row] = left[name][row].roll(left[name].shape[1] - length)
    with torch.no_grad():
        one, other = model(**right), model(**left)
    for name, value in one.items():
        if name in ("past_key_values", "loss"):
            continue
        if value.shape[:2] == right["attention_mask"].shape and not name.startswith("decoder"):
            real = [x["attention_mask"].bool() for x in (right, left)]
            close(other[name][real[1]], value[real[0]], name)
        else:
            close(other[name], value, name)


@pytest.mark.parametrize(
    ("case", "end"),
    [p for p in PAIRS if not p[0].absolute],
    ids=[i for p, i in zip(PAIRS, IDS, strict=True) if not p[0].absolute],
)
def test_relative_positions_equal_the_reference_on_a_left_padded_batch(folders, case, end):
    model, path = folders(case, end)
    inputs = batch(case, end, side="left")
    with torch.no_grad():
        compare(ours(case, end, path)(**inputs), model(**inputs), inputs["attention_mask"])


@pytest.mark.parametrize(("case", "end"), PAIRS, ids=IDS)
def test_what_we_save_the_reference_loads_to_equal_outputs(folders, case, end, tmp_path):
    model, path = folders(case, end)
    ours(case, end, path).save_pretrained(tmp_path)
    again, told = getattr(transformers, case.family + end).from_pretrained(tmp_path, output_loading_info=True)
    assert not [name for name in told["missing_keys"] if not any(part in name for part in case.fixed)]
    assert not told["unexpected_keys"]
    inputs = batch(case, end)
    for either in (model, again):
        either.set_attn_implementation("eager")
    with torch.no_grad():
        one, other = again.eval()(**inputs), model(**inputs)
    for name, value in other.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(one[name], value), name


@pytest.mark.parametrize(("case", "end"), PAIRS, ids=IDS)
def test_losses_and_gradients_equal_the_reference(folders, case, end):
    model, path = folders(case, end)
    inputs = batch(case, end, lengths=(9, 9, 9))
    flat = inputs["attention_mask"][:, 0] if end == "ForMultipleChoice" else inputs["attention_mask"]
    known = labels(case, end, flat)
    if not known:
        pytest.skip("a bare model has no loss")
    mine = ours(case, end, path)
    got, expected = mine(**inputs, **known).loss, model(**inputs, **known).loss
    close(got.detach()[None], expected.detach()[None], "loss")
    model.zero_grad()
    got.backward()
    expected.backward()
    theirs, found = mine.get_input_embeddings().weight.grad, model.get_input_embeddings().weight.grad
    close(theirs, found, "gradient of the embeddings", 1e-4)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_fully_masked_row_stays_finite_and_harms_no_other(folders, case):
    end = case.ends[0]
    _, path = folders(case, end)
    model = ours(case, end, path)
    inputs = batch(case, end)
    with torch.no_grad():
        before = model(**inputs)[0]
        inputs["attention_mask"][1] = 0
        after = model(**inputs)[0]
    assert torch.isfinite(after).all()
    close(after[[0, 2]], before[[0, 2]], "the other rows")


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.name in ("llama", "llama-llama3-rope", "bert-decoder", "marian")],
    ids=lambda c: c.name,
)
def test_reading_in_chunks_equals_one_pass_and_the_reference(folders, case):
    end = next(e for e in case.ends if e in ("ForCausalLM", "LMHeadModel", "MTModel"))
    model, path = folders(case, end)
    mine, inputs = ours(case, end, path), batch(case, end, lengths=(9, 9, 9))
    name = "decoder_input_ids" if end == "MTModel" else "input_ids"
    ids, rest = inputs[name], {k: v for k, v in inputs.items() if k not in (name, "token_type_ids")}
    with torch.no_grad():
        expected = model(**{name: ids}, **rest).logits
        memory, parts = None, []
        for piece in ids.split([4, 1, ids.shape[1] - 5], 1):
            given = rest if end == "MTModel" else {}
            out = mine(**{name: piece}, **given, past_key_values=memory, use_cache=True)
            memory = out.past_key_values
            parts.append(out.logits)
    close(torch.cat(parts, 1), expected, "logits")


@pytest.mark.parametrize(
    ("case", "end"),
    [p for p in PAIRS if p[1] in ("ForCausalLM", "ForMaskedLM", "MTModel")],
    ids=lambda x: getattr(x, "name", x),
)
def test_bfloat16_is_as_near_to_float32_as_the_reference_is(folders, case, end):
    _, path = folders(case, end)
    inputs = batch(case, end)
    whole = getattr(transformers, case.family + end).from_pretrained(path).eval()
    half = getattr(transformers, case.family + end).from_pretrained(path, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        expected = whole(**inputs).logits
        theirs, got = half(**inputs).logits.float(), ours(case, end, path, dtype="bf16")(**inputs).logits.float()
    mask = inputs["attention_mask"].bool() if end != "MTModel" else torch.ones(expected.shape[:2], dtype=torch.bool)
    error = [(x[mask] - expected[mask]).abs().mean() for x in (got, theirs)]
    assert error[0] <= 1.3 * error[1], f"our mean error {error[0]:.3e}, the reference's {error[1]:.3e}"


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name in ("llama", "llama-biased-tied-wide-heads", "marian")], ids=lambda c: c.name
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        {"min_new_tokens": 8, "suppress_tokens": [5, 6, 7], "bad_words_ids": [[9], [11, 12]]},
    ],
    ids=["plain", "penalties", "bans"],
)
def test_greedy_texts_equal_the_reference_token_for_token(folders, case, options):
    end = next(e for e in case.ends if e in ("ForCausalLM", "MTModel"))
    model, path = folders(case, end)
    lengths = (9, 9, 9) if options else (11, 7, 4)  # the reference counts pads as words of the text
    inputs = batch(case, end, side="right" if end == "MTModel" else "left", lengths=lengths)
    inputs.pop("decoder_input_ids", None)
    ending = {"eos_token_id": [3, 17, 40], "max_new_tokens": 14, "do_sample": False, **options}
    expected = model.generate(**inputs, **ending)
    assert ours(case, end, path).generate(**inputs, **ending).tolist() == expected.tolist()
