"""Report of a quantized model: errors by layer, bits, sizes, perplexity; as numbers, JSON and a model card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class MatrixReport:
    """A quantized matrix.

    Args:
        name: stored. layer: its path. shape: (outputs, inputs), or more axes. bits: a weight, with scales and zeros.
        noise, signal: sums of squares of what rounding changes and of what there was: of outputs over calibration
            tokens, or of weights without any. tokens: that it multiplied in calibration.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    bits: float
    noise: float
    signal: float
    tokens: int

    @property
    def error(self) -> float:
        """Relative error: the root of noise over signal."""
        return math.sqrt(self.noise / self.signal) if self.signal > 0 else 0.0


@dataclass(frozen=True)
class LayerReport:
    """The quantized matrices of a layer together; see `MatrixReport`.

    Args:
        worst: the matrix with the largest error, and that error.
    """

    layer: str
    matrices: int
    weights: int
    bits: float
    error: float
    worst: tuple[str, float]


@dataclass(frozen=True)
class Comparison:
    """The model before and after, on held-out texts.

    Args:
        tokens: that were scored. windows: of texts. kind: of perplexity: "causal", "masked"; None for no word scores.
        perplexity_before, perplexity_after: None for models without word scores.
        divergence: mean Kullback-Leibler divergence of the scores of a token, in nats; None without scores.
        same_top: share of tokens whose likeliest word is the same.
        states_error: relative error of the last hidden states.
    """

    tokens: int
    windows: int
    kind: str | None
    perplexity_before: float | None
    perplexity_after: float | None
    divergence: float | None
    same_top: float | None
    states_error: float


@dataclass(frozen=True)
class QuantizationReport:
    """Result of `quantize`.

    Args:
        model, format: their names. description: of the format, as `inspect` says it.
        matrices: that are quantized. parameters: of the whole model. left: linear layers that stay as they are.
        bytes_before, bytes_after: of all stored tensors. calibration_tokens: 0 without texts.
        comparison: None where no texts were given to compare on.
    """

    model: str
    format: str
    description: str
    matrices: Sequence[MatrixReport]
    parameters: int
    left: Sequence[str]
    bytes_before: int
    bytes_after: int
    calibration_tokens: int
    comparison: Comparison | None = None

    @property
    def bits_per_weight(self) -> float:
        """Bits of a quantized weight, with its share of scales and zeros."""
        return _mean_bits(self.matrices)

    @property
    def bits_per_parameter(self) -> float:
        """Bits of a parameter of the whole file."""
        return self.bytes_after * 8 / max(1, self.parameters)

    @property
    def error_of(self) -> str:
        """Base of the relative errors, in words."""
        return "outputs over calibration tokens" if self.calibration_tokens else "weights"

    def layers(self) -> Iterator[LayerReport]:
        """Yield a report of each layer."""
        found: dict[str, list[MatrixReport]] = {}
        for each in self.matrices:
            found.setdefault(each.layer, []).append(each)
        for layer, matrices in found.items():
            noise, signal = sum(m.noise for m in matrices), sum(m.signal for m in matrices)
            worst = max(matrices, key=lambda m: m.error)
            error = math.sqrt(noise / signal) if signal > 0 else 0.0
            weights = sum(math.prod(m.shape) for m in matrices)
            yield LayerReport(layer, len(matrices), weights, _mean_bits(matrices), error, (worst.name, worst.error))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        own = {name: value for name, value in asdict(self).items() if name not in ("matrices", "left")}
        return {
            **own,
            "bits_per_weight": self.bits_per_weight,
            "bits_per_parameter": self.bits_per_parameter,
            "error_of": self.error_of,
            "layers": [asdict(layer) for layer in self.layers()],
            "matrices": [{**asdict(m), "shape": list(m.shape), "error": m.error} for m in self.matrices],
            "left": list(self.left),
        }

    def card(self) -> str:
        """Return the text of a README.md."""
        return "\n".join([*self._front_matter(), *self._sentences(), "", *self._table(), ""])

    def _front_matter(self) -> list[str]:
        tags = ["---", "library_name: multihead", "tags:", "- quantized", f'- "{self.format}"']
        on_hub = self.model.count("/") == 1 and not self.model.startswith((".", "/"))
        return [
            *tags,
            *([f'base_model: "{self.model}"', "base_model_relation: quantized"] if on_hub else []),
            "---",
            "",
        ]

    def _sentences(self) -> list[str]:
        title = self.model.rstrip("/").rpartition("/")[2]
        calibrated = f", calibrated on {self.calibration_tokens:,} tokens" if self.calibration_tokens else ""
        return [
            f"# {title} in {self.format}",
            "",
            f"{len(self.matrices)} matrices in {self.description}{calibrated}. Embeddings, norms and the head stay as "
            "they were.",
        ]

    def _table(self) -> list[str]:
        rows = [
            ("size", f"{self.bytes_before:,} bytes", f"{self.bytes_after:,} bytes"),
            ("bits a parameter", f"{self.bytes_before * 8 / max(1, self.parameters):.2f}",
             f"{self.bits_per_parameter:.2f}"),
        ]  # fmt: skip
        found = self.comparison
        if found is not None and found.perplexity_before is not None and found.perplexity_after is not None:
            what = f"perplexity ({found.kind}, {found.tokens:,} held-out tokens)"
            rows.append((what, f"{found.perplexity_before:.4g}", f"{found.perplexity_after:.4g}"))
        if found is not None and found.divergence is not None:
            rows.append(("KL divergence from the model before, nats a token", "", f"{found.divergence:.4g}"))
        return ["| | before | after |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]


def _mean_bits(matrices: Sequence[MatrixReport]) -> float:
    weights = sum(math.prod(m.shape) for m in matrices)
    return sum(math.prod(m.shape) * m.bits for m in matrices) / max(1, weights)
