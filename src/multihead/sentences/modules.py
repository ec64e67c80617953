"""Modules after the transformer of a sentence encoder. Each one reads and writes its own config.json.

The name of a class is that in modules.json. The first module is `Pooling`; all others map embeddings (texts, in) to
embeddings (texts, out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Size, accepts, describe
from ..errors import UnsupportedConfig, nearest
from ..kernels.ragged import SequenceLayout
from ..nn.weights import LayerNorm as Norm
from ..nn.weights import Linear
from .pooling import MODES, TokenStates

Entries = Mapping[str, Any]

LEGACY = {  # switches of older folders instead of pooling_mode
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
EMBEDDING = "sentence_embedding"
NAMES = ("module_input_name", "module_output_name")  # entries that name what a module reads and writes
ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "Sigmoid", "SiLU", "Softplus", "Tanh")


def read_entry(entries: Entries, name: str, hint: Any, default: Any, where: str) -> Any:
    """Return one entry of a config. Raises UnsupportedConfig for a wrong type."""
    value = entries.get(name, default)
    if not accepts(hint, value):
        raise UnsupportedConfig(f"{where}: {name} is {value!r}; it must be {describe(hint)}.")
    return value


def check_entries(entries: Entries, where: str, *known: str) -> None:
    """Raise UnsupportedConfig for unknown entries, and for inputs or outputs that are no embeddings."""
    for name in NAMES:
        if entries.get(name) not in (None, EMBEDDING):
            raise UnsupportedConfig(
                f"{where}: {name} is {entries[name]!r}; only modules from {EMBEDDING} to {EMBEDDING} are supported."
            )
    unknown = set(entries) - {*known, *NAMES}
    if unknown:
        raise UnsupportedConfig(
            f"{where}: {', '.join(sorted(unknown))}: not known here, so the numbers could be wrong."
        )


def activation(name: Any, where: str) -> nn.Module:
    """Return the activation of a dotted name, such as `torch.nn.modules.activation.Tanh`. Raises UnsupportedConfig."""
    package, _, last = str(name).rpartition(".")
    if not isinstance(name, str) or not f"{package}.".startswith("torch.nn.") or last not in ACTIVATIONS:
        raise UnsupportedConfig(f"{where}: the activation {name!r} is not computed here. {nearest(last, ACTIVATIONS)}")
    return getattr(nn, last)()


def dotted_name(act: Any) -> str:
    """Return the name of an activation for config.json."""
    return f"{type(act).__module__}.{type(act).__name__}"


def unit_length(x: Tensor) -> Tensor:
    """Return vectors (..., width) divided by their L2 norm, which is computed in float32: bfloat16 is 0.2 % off."""
    return F.normalize(x.float(), dim=-1).to(x.dtype)


class SentenceModule(nn.Module):
    """Base of modules from embeddings to embeddings.

    Attributes:
        has_weights: whether its folder has weights. width: of its output.
        package: where the class is in sentence-transformers. maps_vectors: whether it maps vectors to vectors.
    """

    has_weights: ClassVar[bool] = False
    package: ClassVar[str] = "models"
    maps_vectors: ClassVar[bool] = True
    width: int

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> SentenceModule:
        """Return the module that a config describes, for inputs of `width`. Raises UnsupportedConfig."""
        raise NotImplementedError

    def entries(self) -> dict[str, Any]:
        """Return the entries of its config.json."""
        return {}


class Pooling(SentenceModule):
    """Maps hidden states (tokens, width) to embeddings (texts, width * modes).

    Args:
        states: width of the hidden states. modes: see `pooling.MODES`; their outputs are concatenated.
        include_prompt: whether the tokens of a prompt are pooled too.
    """

    def __init__(self, states: int, modes: Sequence[str] = ("mean",), *, include_prompt: bool = True) -> None:
        super().__init__()
        self.states, self.modes, self.include_prompt = states, tuple(modes), include_prompt
        self.width = states * len(self.modes)

    def forward(self, hidden: Tensor, runs: SequenceLayout, prompt: int = 0) -> Tensor:
        """Pool texts whose first `prompt` tokens are a prompt."""
        tokens = TokenStates.of(hidden, runs, 0 if self.include_prompt else prompt)
        return torch.cat([MODES[mode](tokens).to(hidden.dtype) for mode in self.modes], -1)

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> Pooling:
        names = ("word_embedding_dimension", "embedding_dimension")
        check_entries(entries, where, *names, "pooling_mode", "include_prompt", *LEGACY)
        for name in names:
            if read_entry(entries, name, Size, width, where) != width:
                raise UnsupportedConfig(
                    f"{where}: {name} is {entries[name]}, but the transformer's hidden states have {width}."
                )
        modes = entries.get("pooling_mode")
        if modes is None:
            modes = [mode for name, mode in LEGACY.items() if read_entry(entries, name, bool, False, where)] or ["mean"]
        modes = [modes] if isinstance(modes, str) else modes
        if not isinstance(modes, list) or not modes:
            raise UnsupportedConfig(f"{where}: pooling_mode is {modes!r}; it must be a name or a list of names.")
        for mode in modes:
            if mode not in MODES:
                raise UnsupportedConfig(f"{where}: the pooling mode {mode!r} is not known. {nearest(str(mode), MODES)}")
        return cls(width, modes, include_prompt=read_entry(entries, "include_prompt", bool, True, where))

    def entries(self) -> dict[str, Any]:
        switches = {name: mode in self.modes for name, mode in LEGACY.items()}
        usual = tuple(mode for mode in LEGACY.values() if mode in self.modes)
        modes = switches if self.modes == usual else {"pooling_mode": list(self.modes)}
        return {"word_embedding_dimension": self.states, **modes, "include_prompt": self.include_prompt}


class Dense(SentenceModule):
    """Maps x to act(linear(x)), plus x or a projection of x if `residual`."""

    has_weights = True

    def __init__(self, inner: int, width: int, act: nn.Module, *, bias: bool = True, residual: bool = False) -> None:
        super().__init__()
        self.linear, self.act, self.width = Linear(inner, width, bias=bias), act, width
        self.adds_input = residual
        self.residual = Linear(inner, width, bias=False) if residual and inner != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.linear(x))
        return out + self.residual(x) if self.adds_input else out

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> Dense:
        check_entries(entries, where, "in_features", "out_features", "bias", "activation_function", "use_residual")
        inner = read_entry(entries, "in_features", Size, None, where)
        if inner != width:
            raise UnsupportedConfig(f"{where}: in_features is {inner}, but its inputs have {width}.")
        out = read_entry(entries, "out_features", Size, None, where)
        act = activation(entries.get("activation_function", "torch.nn.modules.activation.Tanh"), where)
        bias, residual = (read_entry(entries, n, bool, d, where) for n, d in (("bias", True), ("use_residual", False)))
        return cls(inner, out, act, bias=bias, residual=residual)

    def entries(self) -> dict[str, Any]:
        sizes = {"in_features": self.linear.in_features, "out_features": self.width}
        more = {"use_residual": True} if self.adds_input else {}
        return {**sizes, "bias": self.linear.bias is not None, "activation_function": dotted_name(self.act), **more}


class LayerNorm(SentenceModule):
    """Applies layer norm to each embedding."""

    has_weights = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.width = Norm(width), width

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> LayerNorm:
        check_entries(entries, where, "dimension")
        if read_entry(entries, "dimension", Size, None, where) != width:
            raise UnsupportedConfig(f"{where}: dimension is {entries['dimension']}, but its inputs have {width}.")
        return cls(width)

    def entries(self) -> dict[str, Any]:
        return {"dimension": self.width}


class Normalize(SentenceModule):
    """Divides each embedding by its L2 norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return unit_length(x)

    @classmethod
    def read(cls, entries: Entries, width: int, where: str) -> Normalize:
        check_entries(entries, where)
        return cls(width)


MODULES: Mapping[str, type[SentenceModule]] = {cls.__name__: cls for cls in (Pooling, Dense, LayerNorm, Normalize)}
