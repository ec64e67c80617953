"""Every family and head equals the reference, in both directions. A new family adds a row to `cases.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .case import WORDS, Case, batch, eager, labels, ours, writes
from .cases import CASES, IDS, PAIRS

SHOWN = ("hidden_states", "attentions")


def close(got: torch.Tensor, expected: torch.Tensor, name: str, tolerance: float = 1e-5) -> float:
    """The worst difference over the largest magnitude, checked."""
    assert got.shape == expected.shape, f"{name}: {tuple(got.shape)} but the reference gives {tuple(expected.shape)}"
    worst = (got.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert worst <= tolerance, f"{name} differs by {worst:.2e} of the largest magnitude"
    return float(worst)


def compare(case: Case, got: Any, expected: Any, mask: torch.Tensor | None) -> dict[str, float]:
    """All tensors of two outputs, at real positions; gives the worst difference of each name."""
    names: dict[str, float] = {}
    for name, value in expected.items():
        if name.endswith(SHOWN) and not (case.hidden if name.endswith(SHOWN[0]) else case.attentions):
            continue
        if name in ("past_key_values", "mems", "loss", "cache_params", *case.left_out) or value == ():
            continue
        assert name in got, f"the reference gives {name}"
        for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (got[name], value)), strict=True):
            source = mask is not None and one.shape[:2] == mask.shape  # or a target that is the source, shifted
            if name.endswith("attentions") and mask is not None:
                queries, keys = (mask if n == mask.shape[1] else mask.new_ones(len(mask), n) for n in one.shape[2:])
                real = (queries[:, None, :, None] * keys[:, None, None, :]).bool().expand_as(one)
                worst = close(one[real], other[real], name, case.tolerance)
            elif source and mask is not None:
                worst = close(one[mask.bool()], other[mask.bool()], name, case.tolerance)
            else:
                worst = close(one, other, name, case.tolerance)
            names[name] = max(names.get(name, 0.0), worst)
    return names


@pytest.mark.parametrize(("case", "end"), PAIRS, ids=IDS)
def test_scores_states_and_attentions_equal_the_reference_on_a_right_padded_batch(
    folders, loaded, expected, case, end, record_property
):
    model, inputs, known = loaded(case, end), batch(case, end), expected(case, end)
    shown = {"output_hidden_states": case.hidden} | ({"output_attentions": True} if case.attentions else {})
    with torch.no_grad():
        got, fast = model(**inputs, **shown), model(**inputs)
    flat = inputs["attention_mask"].flatten(0, -2)
    compared = compare(case, got, known, flat)
    assert any("attentions" in name for name in compared) == case.attentions
    assert any("hidden_states" in name for name in compared) == case.hidden
    compare(case, fast, {k: v for k, v in known.items() if k in fast}, flat)
    record_property("measured", (case.made.model_type, case.name, end, "outputs", max(compared.values())))


@pytest.mark.parametrize(
    ("case", "end"), [p for p in PAIRS if p[1] != "ForMultipleChoice"], ids=[i for i in IDS if "Choice" not in i]
)
def test_padding_on_the_left_changes_nothing(folders, loaded, case, end):
    """The reference counts absolute positions from the first pad; we count from the first word, as in training."""
    model = loaded(case, end)
    right, left = batch(case, end), batch(case, end)
    for row, length in enumerate(right["attention_mask"].sum(1).tolist()):
        for name in left:
            if left[name].shape[:2] == right["attention_mask"].shape and not name.startswith("decoder"):
                left[name][row] = left[name][row].roll(left[name].shape[1] - length, 0)
    with torch.no_grad():
        one, other = model(**right), model(**left)
    for name, value in one.items():
        if name in ("past_key_values", "loss", "logits_ngram") or not isinstance(value, torch.Tensor):
            continue  # ProphetNet's further predictions have the text in another dimension
        if value.shape[:2] == right["attention_mask"].shape and not name.startswith("decoder"):
            real = [x["attention_mask"].bool() for x in (right, left)]
            close(other[name][real[1]], value[real[0]], name, case.tolerance)
        else:
            close(other[name], value, name, case.tolerance)


@pytest.mark.parametrize(
    ("case", "end"),
    [p for p in PAIRS if not p[0].absolute],
    ids=[i for p, i in zip(PAIRS, IDS, strict=True) if not p[0].absolute],
)
def test_relative_positions_equal_the_reference_on_a_left_padded_batch(folders, loaded, case, end):
    model, _ = folders(case, end)
    inputs = batch(case, end, side="left")
    with torch.no_grad():
        expected = {k: v for k, v in model(**inputs).items() if not k.endswith(SHOWN)}  # some show them unasked
        compare(case, loaded(case, end)(**inputs), expected, inputs["attention_mask"])


@pytest.mark.parametrize(("case", "end"), PAIRS, ids=IDS)
def test_what_we_save_the_reference_loads_to_equal_outputs(folders, loaded, expected, case, end, tmp_path):
    if not case.reloads:
        pytest.skip("the reference does not load such files")
    loaded(case, end).save_pretrained(tmp_path)
    again, told = case.peer(end).from_pretrained(tmp_path, output_loading_info=True, attn_implementation=case.backend)
    known = (*case.fixed, *case.unused)
    assert not [name for name in told["missing_keys"] if not any(part in name for part in known)]
    assert not told["unexpected_keys"]
    eager(again)
    with torch.no_grad():
        one = again.eval()(**batch(case, end))
    for name, value in expected(case, end).items():
        if isinstance(value, torch.Tensor):  # where tensors lie changes the last bit of a product on some processors
            close = 1e-6 * max(float(value.abs().max()), 1.0) if value.is_floating_point() else 0
            assert torch.allclose(one[name], value, rtol=0, atol=close), name


def input_table(model: Any) -> torch.Tensor:
    """The reference's table of words; CANINE names none, and the first of several is its first parameter."""
    try:
        return model.get_input_embeddings().weight
    except NotImplementedError:
        return next(model.parameters())


@pytest.mark.parametrize(("case", "end"), PAIRS, ids=IDS)
def test_losses_and_gradients_equal_the_reference(folders, loaded, case, end, record_property):
    model, _ = folders(case, end)
    inputs = batch(case, end, lengths=(9, 9, 9))
    flat = inputs["attention_mask"][:, 0] if end == "ForMultipleChoice" else inputs["attention_mask"]
    known = labels(case, end, flat) if case.loss else {}
    if not known:
        pytest.skip("no loss to compare")
    mine = loaded(case, end)
    got, expected = mine(**inputs, **known).loss, model(**inputs, **known).loss
    close(got.detach()[None], expected.detach()[None], "loss")
    for either in (mine, model):
        either.zero_grad()
    got.backward()
    expected.backward()
    theirs, found = mine.get_input_embeddings().weight.grad, input_table(model).grad
    worst = close(theirs, found, "gradient of the embeddings", 1e-4)
    record_property("measured", (case.made.model_type, case.name, end, "gradients", worst))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_fully_masked_row_stays_finite_and_harms_no_other(folders, loaded, case):
    end = case.ends[0]
    model = loaded(case, end)
    inputs = batch(case, end)
    with torch.no_grad():
        before = model(**inputs)[0]
        inputs["attention_mask"][1] = 0
        after = model(**inputs)[0]
    assert torch.isfinite(after).all()
    close(after[[0, 2]], before[[0, 2]], "the other rows")


WRITERS = [(case, end) for case, end in PAIRS if writes(case, end)]
WRITER_IDS = [f"{case.name}/{end}" for case, end in WRITERS]


@pytest.mark.parametrize(("case", "end"), WRITERS, ids=WRITER_IDS)
def test_reading_in_chunks_equals_one_pass_and_the_reference(folders, loaded, case, end):
    if not case.chunks:
        pytest.skip("this family reads a text in one pass")
    model, _ = folders(case, end)
    mine, inputs = loaded(case, end), batch(case, end, lengths=(9, 9, 9))
    both = case.reads_a_source(end)
    name = "decoder_input_ids" if both else "input_ids"
    ids, rest = inputs[name], {k: v for k, v in inputs.items() if k not in (name, "token_type_ids")}
    with torch.no_grad():
        expected = model(**{name: ids}, **rest).logits
        memory, parts = None, []
        for piece in ids.split([4, 1, ids.shape[1] - 5], 1):
            given = rest if both else {}
            out = mine(**{name: piece}, **given, past_key_values=memory, use_cache=True)
            memory = out.past_key_values
            parts.append(out.logits)
    close(torch.cat(parts, 1), expected, "logits", case.tolerance)


@pytest.mark.parametrize(
    ("case", "end"),
    [p for p in PAIRS if writes(*p) or p[1] == "ForMaskedLM"],
    ids=[i for p, i in zip(PAIRS, IDS, strict=True) if writes(*p) or p[1] == "ForMaskedLM"],
)
def test_bfloat16_is_as_near_to_float32_as_the_reference_is(folders, case, end):
    if not case.half:
        pytest.skip("the reference does not compute this family in bfloat16")
    whole, path = folders(case, end)
    models = ours(case, end, path, dtype="bf16"), case.peer(end).from_pretrained(path, dtype=torch.bfloat16).eval()

    def errors(seed: int | None = None) -> torch.Tensor:
        """Return the mean error of our scores and of the reference's, (2,), in a batch, or with other words in it."""
        inputs = batch(case, end)
        if seed is not None:
            words = torch.randint(
                1, WORDS - 1, inputs["input_ids"].shape, generator=torch.Generator().manual_seed(seed)
            )
            inputs["input_ids"] = words.where(inputs["attention_mask"].bool(), inputs["input_ids"])
        with torch.no_grad():
            expected, *both = (model(**inputs).logits.float() for model in (whole, *models))
        source = case.reads_a_source(end)
        mask = torch.ones(expected.shape[:2]).bool() if source else inputs["attention_mask"].bool()
        return torch.stack([(scores[mask] - expected[mask]).abs().mean() for scores in both])

    found = errors()
    if found[0] > 1.3 * found[1]:  # a token that takes another expert outweighs the rounding of all others
        found = torch.stack([found, *(errors(seed) for seed in range(4))]).mean(0)
    assert found[0] <= 1.3 * found[1], f"our mean error {found[0]:.3e}, the reference's {found[1]:.3e}"


PENALTIES = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}
BANS = {"min_new_tokens": 8, "suppress_tokens": [5, 6, 7], "bad_words_ids": [[9], [11, 12]]}
WAYS = {"plain": {}, "penalties-and-bans": {**PENALTIES, **BANS}, "beams": {"num_beams": 3, "pad_token_id": 1}}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("case", "end"), WRITERS, ids=WRITER_IDS)
def test_texts_equal_the_reference_token_for_token(folders, loaded, case, end, options):
    if not case.greedy or ("num_beams" in options and not case.beams):
        pytest.skip("the reference does not continue texts of this class rightly")
    model, _ = folders(case, end)
    counted = case.absolute and case.made.is_encoder_decoder and not case.reads_a_source(end)
    same = options or counted or case.counts_pads  # there pads count as words, or as places
    lengths = (9, 9, 9) if same else (11, 7, 4)
    inputs = batch(case, end, side="right" if case.reads_a_source(end) else "left", lengths=lengths)
    inputs.pop("decoder_input_ids", None)
    ending = {"eos_token_id": [3, 17, 40], "max_new_tokens": 14, "do_sample": False, **options}
    expected = model.generate(**inputs, **ending)
    assert loaded(case, end).generate(**inputs, **ending).tolist() == expected.tolist()
