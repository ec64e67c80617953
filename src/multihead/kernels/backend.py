"""The contract of a backend, the registry of all of them, and the choice of the one that computes with a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .ragged import AttentionMask
from .state_space import ConvolutionWeights, MambaWeights

Bias = Callable[[int], Tensor]  # number of a sequence -> (heads, queries, keys), added to the scaled scores
Angles = tuple[Tensor, Tensor]  # cosines and sines


class AttentionFunction(Protocol):
    """A function that computes attention over ragged sequences; `kernels.torch.attention.attend` is the definition."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention_mask: AttentionMask,
        *,
        scale: float,
        bias: Bias | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return (tokens, heads, width) of queries (tokens, heads, width) over keys (rows, key heads, width).

        Args:
            scale: factor of the scores. bias: added to the scaled scores. dropout: probability, on the weights.
            softcap: squeezes scores into (-softcap, softcap) (Gemma 2, arXiv:2408.00118).
            sinks: (heads,), scores of a key that is always visible and has no value (GPT-OSS, arXiv:2309.17453);
                (tokens, heads) where each query has its own (Inkling 2).
        """


class Backend(ABC):
    """Implementation of the operations that layers and optimizers need.

    `backend(x)` returns the first of `BACKENDS` that serves x. A method then takes any tensors: where its own kernel
    does not fit them, it computes the same in another way. Methods that return None belong to no definition but the
    caller's: None means that this backend has no faster way.

    Attributes:
        name: key in `BACKENDS`. device: type of the devices that it serves; None for all.
    """

    name: str
    device: str | None = None

    @abstractmethod
    def reason(self) -> str:
        """Return why it cannot be used on this machine; empty where it can."""

    @abstractmethod
    def serves(self, x: Tensor) -> bool:
        """Return whether it computes with a tensor: its device, precision, and no gradient that it would not give.

        Kernels of our own serve nothing while torch compiles, which fuses what torch does and looks into no kernel.
        """

    @abstractmethod
    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x @ weight.T + bias: (rows, inputs) to (rows, outputs); the weight is (outputs, inputs)."""

    @abstractmethod
    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, centre: float = 0.0, wide: bool = False) -> Tensor:
        """Return x (..., width) over its root mean square, in float32, times weight (Zhang and Sennrich, 2019).

        Args:
            centre: added to the weight. wide: multiply by the weight in float32, then round to x's precision; else
                round to the weight's precision first.
        """

    @abstractmethod
    def rotary(
        self, q: Tensor, k: Tensor, angles: Callable[[], Angles], table: Callable[[], Angles]
    ) -> tuple[Tensor, Tensor]:
        """Return queries and keys (tokens, heads, width) with pairs of channels rotated (arXiv:2104.09864).

        Args:
            angles: gives float32 cosines and sines (tokens, rotated / 2). table: gives both (tokens, 1, rotated) in q's
                precision, the sines of the first half negated. Only the one that is needed is called.
        """

    @abstractmethod
    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attention_mask: AttentionMask,
        *,
        scale: float,
        bias: Bias | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return what `AttentionFunction` describes, for prefill and for decode steps."""

    @abstractmethod
    def top_k(self, scores: Tensor, count: int, banned: Sequence[int], log_probs: bool) -> tuple[Tensor, Tensor] | None:
        """Return the `count` highest of each row of scores (rows, width), best first, and their columns, or None.

        Both are (rows, count). The first score of a row is not below infinity where one of its scores is not a number
        or infinite.

        Args:
            banned: columns that are left out; where too few are left, the rest is minus infinity.
            log_probs: log-probabilities instead of scores; banned columns count in their sum.
        """

    @abstractmethod
    def dropout(self, x: Tensor, p: float) -> Tensor:
        """Return x with each number zero with probability p, the others divided by 1 - p; with gradients."""

    @abstractmethod
    def updates_rows(self, table: Tensor) -> bool:
        """Return whether `adam_rows` of this table is faster than a step of all of its rows."""

    @abstractmethod
    def adam_rows(
        self, table: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rows: Tensor, step: float,
        group: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Make one step of Adam (Kingma and Ba, 2015, arXiv:1412.6980) on some rows of a table, in place.

        Args:
            table: (all rows, width), float32. first, second: its moments. gradient: (rows, width). rows: which, int64.
            step: counted from 1. group: `lr`, `betas` and `eps`.

        Raises:
            InvalidInput: tensors of other shapes or precisions, or with gaps, or rows that the table does not have.
        """

    # Fusions: two or more operations in one kernel. A backend without them lets the layers run one after another.

    def activation_gate(self, x: Tensor, act: str) -> Tensor | None:
        """Return act(first half) * second half of x (..., 2 * inner), or None."""
        return None

    def add_norm(
        self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, kind: int, centre: float,
        keep_sum: bool,
    ) -> tuple[Tensor, Tensor] | None:  # fmt: skip
        """Return x + y, (rows, width) each, and its norm, or None.

        Args:
            kind: 1 root mean square, 2 layer norm. centre: added to the weight.
            keep_sum: whether the sum is needed; else the norm stands in its place.
        """
        return None

    def delta_step(
        self, mixed: Tensor, gate: Tensor, rates: Tensor, inputs: Tensor, states: Tensor, slots: Tensor | slice,
        weights: Mapping[str, Any],
    ) -> Tensor | None:  # fmt: skip
        """Return gated outputs (sequences, heads * value width) of a decode step of a gated DeltaNet, or None.

        Args:
            mixed: (sequences, channels), before the convolution. gate: (sequences, heads * value width).
            rates: (sequences, 2 * heads), how much is written, then the times of the decay.
            inputs: the convolution's last inputs, (slots, kernel - 1, channels), changed in place.
            states: (slots, heads, key width, value width), changed in place. slots: of the sequences.
            weights: `taps` (kernel, channels), `decay` (heads,), below 0, `step` (heads,) and `norm` (value width,) in
                float32; `heads`, `key_heads`, `key_width`, `value_width`, `kernel`, `channels`, `norm_eps`, `strength`;
                `act` and `gate_act`, names of activations.
        """
        return None

    # Decode steps of mixers with a state, one token of each sequence.

    def convolution_step(
        self, x: Tensor, weights: ConvolutionWeights, inputs: Tensor, slots: Tensor | slice
    ) -> Tensor | None:
        """Return b * convolution(a * y) of rows (a, b, y), x (sequences, 3 * channels); or None, and nothing changes.

        Args:
            inputs: the last ones of the convolution, (all slots, kernel - 1, channels); they change in place.
            slots: of each sequence.
        """
        return None

    def mamba_step(
        self, x: Tensor, weights: MambaWeights, inputs: Tensor, states: Tensor, slots: Tensor | slice
    ) -> Tensor | None:
        """Return what Mamba 2 projects last, (sequences, heads * width); or None, and nothing changes.

        Args:
            x: what it projects first, rows of gates, of what is convolved, and of times.
            inputs, slots: as in `convolution_step`. states: (all slots, heads, width, count); they change in place.
        """
        return None

    # Paged KV caches and captured decode steps.

    def reads_pages(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Return whether `attention` of such tensors reads keys in the blocks of a paged cache, without a copy."""
        return False

    def write_pages(
        self, q: Tensor, k: Tensor, v: Tensor, angles: Angles | None, k_store: Tensor, v_store: Tensor, rows: Tensor
    ) -> Tensor:
        """Rotate queries and keys (tokens, heads, width), write keys and values to rows of a cache, return the queries.

        Only for tensors of which `reads_pages`.

        Args:
            angles: as `rotary` takes them; None rotates nothing. k_store, v_store: (all rows, key heads, width).
            rows: (tokens,); a row below 0 is not written.
        """
        raise NotImplementedError(f"The backend {self.name!r} has no paged cache.")

    def captures(self, dtype: torch.dtype, widest: int) -> bool:
        """Return whether decode steps with heads of at most this width can be captured in a graph of the device."""
        return False

    def advance_step(self, inputs: Tensor, tokens: Tensor, windows: int, blocks: int) -> None:
        """Make `tokens` (sequences,) the next inputs of a captured step, in place, without asking the device.

        Args:
            inputs: (sequences, columns), see `GraphStaticCache`. windows, blocks: block tables, and entries of each.
        """
        raise NotImplementedError(f"The backend {self.name!r} captures no steps.")

    def runs_stacks(self, dtype: torch.dtype) -> bool:
        """Return whether it runs whole stacks of layers in one call, with states of this precision."""
        return False


BACKENDS: dict[str, Backend] = {}  # in the order in which they are asked; `ops` fills it


def backend(x: Tensor) -> Backend:
    """Return the backend that computes with a tensor."""
    for candidate in BACKENDS.values():
        if candidate.serves(x):
            return candidate
    raise AssertionError("The last backend serves every tensor.")


def backend_of(device: torch.device) -> Backend:
    """Return the first backend that can be used on a device, whatever the tensors."""
    # the rest of a choice, such as the dtype, is left to `serves`
    usable = (one for one in BACKENDS.values() if one.device in (None, device.type) and not one.reason())
    return next(usable, BACKENDS["torch"])
