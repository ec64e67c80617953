"""Quantized embeddings have the reference's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers.util.quantization import quantize_embeddings as their_quantize

from multihead import quantize_embeddings
from multihead.errors import InvalidInput, UnsupportedOption
from multihead.sentences.quantization import PRECISIONS, dequantize_embeddings, quantization_ranges

ROWS = np.random.default_rng(0).normal(size=(200, 13)).astype(np.float32)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["array", "tensor", "list"])
def test_the_numbers_are_the_references(precision, kind):
    rows = {"array": ROWS, "tensor": torch.tensor(ROWS), "list": [torch.tensor(row) for row in ROWS]}[kind]
    got, expected = quantize_embeddings(rows, precision), their_quantize(rows, precision)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_ranges_and_calibration_are_the_references(precision):
    ranges = np.stack([np.full(13, -1.0), np.full(13, 0.5)])
    for options in ({"ranges": ranges}, {"calibration_embeddings": ROWS[:100]}):
        np.testing.assert_array_equal(
            quantize_embeddings(ROWS, precision, **options), their_quantize(ROWS, precision, **options)
        )


def test_numbers_come_back_within_half_a_step():
    ranges = quantization_ranges(ROWS)
    back = dequantize_embeddings(quantize_embeddings(ROWS, "int8", ranges), "int8", ranges)
    assert (np.abs(back - ROWS) <= (ranges[1] - ranges[0]) / 255 * 0.501).all()


def test_a_dimension_of_one_number_comes_back_exactly():
    rows = np.array([[0.25, 1.0], [0.25, 256.0]], np.float32)
    ranges = quantization_ranges(rows)
    back = dequantize_embeddings(quantize_embeddings(rows, "uint8", ranges), "uint8", ranges)
    assert back[:, 0].tolist() == [0.25, 0.25]
    assert np.abs(back[:, 1] - rows[:, 1]).max() <= 0.5


def test_signs_come_back_at_length_one():
    back = dequantize_embeddings(quantize_embeddings(ROWS, "binary"), "binary", width=13)
    assert back.shape == ROWS.shape
    np.testing.assert_array_equal(np.sign(back), np.where(ROWS > 0, 1, -1))
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "precision", "error"),
    [
        (ROWS, "int4", UnsupportedOption),
        (ROWS[:1], "int8", InvalidInput),
        (ROWS.astype(np.int8), "binary", InvalidInput),
        ([[1.0, 2.0], [1.0]], "float32", InvalidInput),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "int8", InvalidInput),
        (np.array([[1.0, np.inf], [0.0, 1.0]]), "binary", InvalidInput),
    ],
)
def test_embeddings_without_meaning_are_refused(rows, precision, error):
    with pytest.raises(error):
        quantize_embeddings(rows, precision)


def test_ranges_of_another_width_are_refused():
    with pytest.raises(InvalidInput, match=r"\(2, 13\)"):
        quantize_embeddings(ROWS, "int8", np.zeros((2, 5)))
