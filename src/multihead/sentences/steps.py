"""What follows the transformer in a sentence encoder: each step reads its own config.json and writes it back.

A step's class has the name that modules.json gives it. The first is `Pooling`; the others are from vectors (texts, in)
to vectors (texts, out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Size, admits, describe
from ..errors import UnsupportedConfig, nearest
from ..kernels.ragged import SequenceLayout
from ..nn.weights import LayerNorm as Norm
from ..nn.weights import Linear
from .pooling import MODES, Tokens

Entries = Mapping[str, Any]

LEGACY = {  # switches that older folders have instead of pooling_mode
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
VECTORS = "sentence_embedding"
ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "Sigmoid", "SiLU", "Softplus", "Tanh")


def entry(entries: Entries, name: str, hint: Any, default: Any, where: str) -> Any:
    """One entry of a config, checked. Raises UnsupportedConfig."""
    value = entries.get(name, default)
    if not admits(hint, value):
        raise UnsupportedConfig(f"{where}: {name} is {value!r}; it must be {describe(hint)}.")
    return value


def only(entries: Entries, where: str, *known: str) -> None:
    """Raises UnsupportedConfig for entries that are not read here, and for steps between other things than vectors."""
    for name in ("module_input_name", "module_output_name"):
        if entries.get(name) not in (None, VECTORS):
            raise UnsupportedConfig(
                f"{where}: {name} is {entries[name]!r}; only steps from {VECTORS} to {VECTORS} are done here."
            )
    wrong = set(entries) - {*known, "module_input_name", "module_output_name"}
    if wrong:
        raise UnsupportedConfig(f"{where}: {', '.join(sorted(wrong))}: not known here, so the numbers could be wrong.")


def activation(name: Any, where: str) -> nn.Module:
    """The activation that a dotted name such as `torch.nn.modules.activation.Tanh` means. Raises UnsupportedConfig."""
    package, _, last = str(name).rpartition(".")
    if not isinstance(name, str) or not f"{package}.".startswith("torch.nn.") or last not in ACTIVATIONS:
        raise UnsupportedConfig(f"{where}: the activation {name!r} is not computed here. {nearest(last, ACTIVATIONS)}")
    return getattr(nn, last)()


def dotted(act: Any) -> str:
    """The name of an activation as config.json holds it."""
    return f"{type(act).__module__}.{type(act).__name__}"


class Step(nn.Module):
    """From vectors to vectors.

    Attributes:
        stored: whether its folder has weights. width: of the vectors it gives.
    """

    stored: ClassVar[bool] = False
    width: int

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> Step:
        """The step that a config describes, for vectors of `width`. Raises UnsupportedConfig."""
        raise NotImplementedError

    def entries(self) -> dict[str, Any]:
        """Its config.json."""
        return {}


class Pooling(Step):
    """States (tokens, width) to vectors (texts, width * modes).

    Args:
        modes: see `pooling.MODES`; their vectors are laid side by side.
        include_prompt: whether a prompt's tokens are pooled too.
    """

    def __init__(self, states: int, modes: Sequence[str] = ("mean",), *, include_prompt: bool = True) -> None:
        super().__init__()
        self.states, self.modes, self.include_prompt = states, tuple(modes), include_prompt
        self.width = states * len(self.modes)

    def forward(self, hidden: Tensor, runs: SequenceLayout, prompt: int = 0) -> Tensor:
        """Pools texts whose first `prompt` tokens are a prompt's."""
        tokens = Tokens.of(hidden, runs, 0 if self.include_prompt else prompt)
        return torch.cat([MODES[mode](tokens).to(hidden.dtype) for mode in self.modes], -1)

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> Pooling:
        names = ("word_embedding_dimension", "embedding_dimension")
        only(entries, where, *names, "pooling_mode", "include_prompt", *LEGACY)
        for name in names:
            if entry(entries, name, Size, width, where) != width:
                raise UnsupportedConfig(
                    f"{where}: {name} is {entries[name]}, but the transformer's states have {width}."
                )
        modes = entries.get("pooling_mode")
        if modes is None:
            modes = [mode for name, mode in LEGACY.items() if entry(entries, name, bool, False, where)] or ["mean"]
        modes = [modes] if isinstance(modes, str) else modes
        if not isinstance(modes, list) or not modes:
            raise UnsupportedConfig(f"{where}: pooling_mode is {modes!r}; it must be a name or a list of names.")
        for mode in modes:
            if mode not in MODES:
                raise UnsupportedConfig(f"{where}: the pooling mode {mode!r} is not known. {nearest(str(mode), MODES)}")
        return cls(width, modes, include_prompt=entry(entries, "include_prompt", bool, True, where))

    def entries(self) -> dict[str, Any]:
        switches = {name: mode in self.modes for name, mode in LEGACY.items()}
        usual = tuple(mode for mode in LEGACY.values() if mode in self.modes)
        modes = switches if self.modes == usual else {"pooling_mode": list(self.modes)}
        return {"word_embedding_dimension": self.states, **modes, "include_prompt": self.include_prompt}


class Dense(Step):
    """act(linear(x)), and x or a projection of it added where the config says so."""

    stored = True

    def __init__(self, inner: int, width: int, act: nn.Module, *, bias: bool = True, residual: bool = False) -> None:
        super().__init__()
        self.linear, self.act, self.width = Linear(inner, width, bias=bias), act, width
        self.added = residual
        self.residual = Linear(inner, width, bias=False) if residual and inner != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.linear(x))
        return out + self.residual(x) if self.added else out

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> Dense:
        only(entries, where, "in_features", "out_features", "bias", "activation_function", "use_residual")
        inner = entry(entries, "in_features", Size, None, where)
        if inner != width:
            raise UnsupportedConfig(f"{where}: in_features is {inner}, but the vectors before it have {width}.")
        out = entry(entries, "out_features", Size, None, where)
        act = activation(entries.get("activation_function", "torch.nn.modules.activation.Tanh"), where)
        bias, residual = (entry(entries, n, bool, d, where) for n, d in (("bias", True), ("use_residual", False)))
        return cls(inner, out, act, bias=bias, residual=residual)

    def entries(self) -> dict[str, Any]:
        sizes = {"in_features": self.linear.in_features, "out_features": self.width}
        more = {"use_residual": True} if self.added else {}
        return {**sizes, "bias": self.linear.bias is not None, "activation_function": dotted(self.act), **more}


class LayerNorm(Step):
    """Layer norm of each vector."""

    stored = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.width = Norm(width), width

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> LayerNorm:
        only(entries, where, "dimension")
        if entry(entries, "dimension", Size, None, where) != width:
            raise UnsupportedConfig(
                f"{where}: dimension is {entries['dimension']}, but the vectors before it have {width}."
            )
        return cls(width)

    def entries(self) -> dict[str, Any]:
        return {"dimension": self.width}


class Normalize(Step):
    """Each vector over its length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> Normalize:
        only(entries, where)
        return cls(width)


STEPS: Mapping[str, type[Step]] = {step.__name__: step for step in (Pooling, Dense, LayerNorm, Normalize)}
