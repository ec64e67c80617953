"""Wide twins: every parity case again with heads that the C++ kernels compute, on the fast paths that users run.

A twin's checkpoint is saved by the reference once. As loaded in float32 it equals the reference and our own layers one
by one; prepared, its fast path equals the same prepared layers one by one. `paths/` says which path each twin
takes: a twin that leaves its fast path fails here.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from . import wide
from .case import eager
from .test_families import close, compare
from .wide import NAMES, TWINS, Twin

# Of the largest magnitude. In int8 states are rounded to codes: a last bit may make one of them the next.
EXACT = {"float32": 2e-6, "bf16": 1e-4, "int8": 5e-3, "int4": 1e-4}
ROUNDED = 0.03  # of the largest magnitude, where one path rounds states that the other does not
# Families of which the kernels keep numbers in float32 that layers round, or the other way round.
ROUNDING = {
    **dict.fromkeys(["qwen3", "gemma3_text"], "between a head's norm and its rotation"),
    **dict.fromkeys(["t5", "mt5", "umt5", "longt5", "mpt", "falcon", "bloom"], "attention with biases is torch's"),
}


@pytest.fixture(scope="module", params=list(zip(TWINS, NAMES, strict=True)), ids=lambda param: param[1])
def twin(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    (case, end), name = request.param
    return Twin(case, end, tmp_path_factory.mktemp(name.replace("/", "-")))


def test_outputs_as_loaded_equal_the_reference(twin: Twin):
    eager(twin.reference)
    mask = twin.inputs["attention_mask"].flatten(0, -2)
    with torch.no_grad():
        expected = twin.reference(**twin.inputs)
    got = twin.fast("float32").results["forward"]
    compare(twin.case, got, {name: value for name, value in expected.items() if name in got}, mask)


def test_greedy_tokens_and_scores_equal_the_reference(twin: Twin):
    """The reference reads what we have written, once, and must find each token likeliest, with the same scores."""
    if not twin.writes or twin.case.name in wide.BY_PASS:
        pytest.skip("no decode steps that the reference's one pass gives")
    found = twin.fast("float32").results["greedy"]
    scores, new = found["scores"].transpose(0, 1), found["sequences"][:, -wide.NEW :]
    expected = twin.reference_scores(found["sequences"])
    close(scores, expected, "scores", max(twin.case.tolerance, 2e-5))
    assert new.tolist() == expected.argmax(-1).tolist()
    again = twin.fast("float32").results["continued"]
    assert again["sequences"].tolist() == found["sequences"].tolist(), "continued in a second call"


@pytest.mark.parametrize("precision", wide.PRECISIONS)
def test_the_fast_path_gives_what_layers_one_by_one_give(twin: Twin, precision: str):
    if precision != "float32" and precision not in twin.prepared:
        pytest.skip("nothing to pack")
    fast = twin.fast(precision)
    if not any(calls.total() for calls in fast.calls.values()):
        pytest.skip("this twin runs layer by layer, see paths/")
    expected, rounding = twin.layers(precision), ROUNDING.get(twin.kind) if precision != "float32" else None
    tolerance = ROUNDED if rounding else EXACT[precision]
    for task, results in expected.results.items():
        got = fast.results[task]
        if "sequences" in results:
            same_search(task, got, results, tolerance, exact=not rounding)
            continue
        for name, value in results.items():
            if rounding and not value.is_floating_point():
                continue  # tokens without their scores: near ones may be exchanged
            close_where_finite(got[name], value, f"{task}: {name}", tolerance)


@pytest.mark.skipif(bool(wide.no_table()), reason=f"the table of paths is for AVX-512 kernels: {wide.no_table()}")
def test_each_kind_of_work_takes_the_path_of_the_table(twin: Twin):
    known = wide.table().get(twin.name)
    assert known is not None, f"The tables of paths/ have no {twin.name!r}. Write them anew with `{wide.COMMAND}`."
    changed = {kind: f"{known.get(kind)} -> {path}" for kind, path in twin.paths().items() if known.get(kind) != path}
    assert not changed, (
        f"{twin.name} takes another path than paths/ says: {changed}. If that is meant, write the table anew with "
        f"`{wide.COMMAND}`."
    )


def test_the_table_names_every_twin_and_no_other():
    assert list(wide.table()) == NAMES, f"Write the tables of paths/ anew with `{wide.COMMAND}`."


def close_where_finite(got: torch.Tensor, expected: torch.Tensor, name: str, tolerance: float) -> None:
    """Compare numbers that are real scores; whole numbers must be equal."""
    assert got.shape == expected.shape, name
    if not expected.is_floating_point():
        assert torch.equal(got, expected), name
        return
    real = expected.isfinite() & (expected > -1e30)
    assert torch.equal(real, got.isfinite() & (got > -1e30)), f"{name}: other places are minus infinity"
    close(got[real], expected[real], name, tolerance)


def same_search(task: str, got: dict[str, Any], expected: dict[str, Any], tolerance: float, *, exact: bool) -> None:
    """Compare what two searches found.

    Args:
        exact: whether tokens must be equal; else two tokens that the layers score alike may be exchanged, and a text
            is compared up to there.
    """
    if exact:
        assert got["sequences"].tolist() == expected["sequences"].tolist(), f"{task}: other tokens"
        for name, value in expected.items():
            close_where_finite(got[name], value, f"{task}: {name}", tolerance)
        return
    if "sequences_scores" in expected:  # beams may have changed places
        close(got["sequences_scores"], expected["sequences_scores"], f"{task}: scores of texts", tolerance)
        return
    most = float(expected["scores"][expected["scores"] > -1e30].abs().max())
    steps = len(expected["scores"])
    for row, (mine, theirs) in enumerate(zip(got["sequences"], expected["sequences"], strict=True)):
        for step in range(steps):
            scores = expected["scores"][step, row]
            close_where_finite(got["scores"][step, row], scores, f"{task}: scores of step {step}", tolerance)
            one, other = int(mine[step - steps]), int(theirs[step - steps])
            if one != other:
                assert scores[other] - scores[one] <= 2 * tolerance * most, f"{task}: token {one} instead of {other}"
                break
