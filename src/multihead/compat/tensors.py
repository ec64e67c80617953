"""Small functions of tensors, layers and values that programs import from the reference's utilities."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InvalidInput
from ..nn.activations import ACTIVATIONS, LEARNED, activation
from .argument_parser import string_to_bool


class Conv1D(nn.Module):
    """A linear layer whose weight is (inputs, outputs), as GPT-2's files have it.

    Args:
        nf: outputs. nx: inputs.
    """

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., outputs) of (..., inputs)."""
        return x @ self.weight + self.bias


def apply_chunking_to_forward(
    forward_fn: Callable[..., Tensor], chunk_size: int, chunk_dim: int, *input_tensors: Tensor
) -> Tensor:
    """Apply a function to pieces of `chunk_size` along a dimension, and join the results; to the whole for size 0.

    Raises:
        InvalidInput: no tensors, tensors of unlike sizes, or a size that the chunk's size does not divide.
    """
    sizes = {tensor.shape[chunk_dim] for tensor in input_tensors}
    if len(sizes) != 1:
        raise InvalidInput("The tensors to chunk must have one size in that dimension.")
    if chunk_size <= 0:
        return forward_fn(*input_tensors)
    size = sizes.pop()
    if size % chunk_size:
        raise InvalidInput(f"A dimension of {size} is no multiple of the chunk size {chunk_size}.")
    pieces = [tensor.chunk(size // chunk_size, dim=chunk_dim) for tensor in input_tensors]
    return torch.cat([forward_fn(*piece) for piece in zip(*pieces, strict=True)], dim=chunk_dim)


def prune_linear_layer(layer: nn.Linear, index: Tensor, dim: int = 0) -> nn.Linear:
    """Return a linear layer with only these outputs (`dim` 0) or inputs (`dim` 1)."""
    index = index.to(layer.weight.device)
    weight = layer.weight.index_select(dim, index).detach().clone()
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None).to(weight)
    with torch.no_grad():
        new.weight.copy_(weight)
        if layer.bias is not None:
            new.bias.copy_(layer.bias if dim == 1 else layer.bias[index])
    return new


def find_pruneable_heads_and_indices(
    heads: Sequence[int], n_heads: int, head_size: int, already_pruned_heads: set[int]
) -> tuple[set[int], Tensor]:
    """Return the heads still to prune, and the rows of a projection that stay."""
    left = set(heads) - already_pruned_heads
    keep = torch.ones(n_heads, head_size, dtype=torch.bool)
    for head in left:
        keep[head - sum(1 for pruned in already_pruned_heads if pruned < head)] = False
    return left, keep.flatten().nonzero().flatten()


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Return torch's coordinate grids."""
    return torch.meshgrid(*tensors, indexing=indexing)


def map_nested(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to the tensors of nested lists, tuples and mappings."""
    if isinstance(value, (list, tuple)):
        return type(value)(map_nested(function, one) for one in value)
    if isinstance(value, Mapping):
        return type(value)({name: map_nested(function, one) for name, one in value.items()})  # type: ignore[call-arg]
    return function(value)


def nested_detach(tensors: Any) -> Any:
    """Return nested tensors without their gradients."""
    return map_nested(lambda one: one.detach() if isinstance(one, Tensor) else one, tensors)


def nested_numpify(tensors: Any) -> Any:
    """Return nested tensors as arrays; bfloat16, which numpy lacks, as float32."""

    def array(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        one = one.detach().cpu()
        return (one.float() if one.dtype == torch.bfloat16 else one).numpy()

    return map_nested(array, tensors)


def nested_concat(tensors: Any, new_tensors: Any, padding_index: int = -100) -> Any:
    """Join nested tensors or arrays row by row; the shorter rows are padded."""
    if isinstance(tensors, (list, tuple)):
        pairs = zip(tensors, new_tensors, strict=True)
        return type(tensors)(nested_concat(one, new, padding_index) for one, new in pairs)
    if isinstance(tensors, Mapping):
        joined = {name: nested_concat(one, new_tensors[name], padding_index) for name, one in tensors.items()}
        return type(tensors)(joined)  # type: ignore[call-arg]
    if isinstance(tensors, Tensor):
        one, new = torch.atleast_1d(tensors), torch.atleast_1d(new_tensors)
        width = max(one.shape[1], new.shape[1]) if one.ndim > 1 else 0
        return torch.cat([_widened(part, width, padding_index) for part in (one, new)])
    left, right = np.atleast_1d(tensors), np.atleast_1d(new_tensors)
    width = max(left.shape[1], right.shape[1]) if left.ndim > 1 else 0
    return np.concatenate([_widened(torch.from_numpy(part), width, padding_index).numpy() for part in (left, right)])


def _widened(rows: Tensor, width: int, padding: int) -> Tensor:
    """Pad (rows, length, ...) to a length."""
    if rows.ndim < 2 or rows.shape[1] == width:
        return rows
    wide = rows.new_full((rows.shape[0], width, *rows.shape[2:]), padding)
    wide[:, : rows.shape[1]] = rows
    return wide


def find_batch_size(tensors: Any) -> int | None:
    """Return the number of rows of the first tensor in nested ones."""
    if isinstance(tensors, (list, tuple)):
        return next((size for one in tensors if (size := find_batch_size(one)) is not None), None)
    if isinstance(tensors, Mapping):
        return find_batch_size(list(tensors.values()))
    shape: Any = getattr(tensors, "shape", ())
    return int(shape[0]) if len(shape) else None


def is_torch_tensor(x: Any) -> bool:
    """Return whether this is a tensor of torch."""
    return isinstance(x, Tensor)


def is_numpy_array(x: Any) -> bool:
    """Return whether this is an array of numpy."""
    return isinstance(x, np.ndarray)


def is_tensor(x: Any) -> bool:
    """Return whether this is a tensor or an array."""
    return isinstance(x, (Tensor, np.ndarray))


def is_torch_device(x: Any) -> bool:
    """Return whether this is a device of torch."""
    return isinstance(x, torch.device)


def is_torch_dtype(x: Any) -> bool:
    """Return whether this is a dtype of torch, or the name of one."""
    return isinstance(getattr(torch, x, None) if isinstance(x, str) else x, torch.dtype)


def to_py_obj(obj: Any) -> Any:
    """Return tensors and arrays as lists and numbers, also in nested values."""
    if isinstance(obj, Mapping):
        return {name: to_py_obj(value) for name, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [to_py_obj(one) for one in obj]
    return obj.tolist() if isinstance(obj, (Tensor, np.ndarray, np.number)) else obj


def to_numpy(obj: Any) -> Any:
    """Return tensors and lists as arrays."""
    if isinstance(obj, Mapping):
        return {name: to_numpy(value) for name, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return np.array(obj)
    return obj.detach().cpu().numpy() if isinstance(obj, Tensor) else obj


def find_labels(model_class: Any) -> list[str]:
    """Return the arguments of a model class's forward pass that are labels."""
    names = inspect.signature(model_class.forward).parameters
    answers = ("start_positions", "end_positions") if "QuestionAnswering" in model_class.__name__ else ()
    return [name for name in names if "label" in name or name in answers]


def can_return_loss(model_class: Any) -> bool:
    """Return whether the forward pass computes a loss when it is asked to, without labels."""
    asked = inspect.signature(model_class.forward).parameters.get("return_loss")
    return asked is not None and asked.default is True


def strtobool(val: str) -> int:
    """Return 1 or 0 for a word such as "yes" or "off". Raises ValueError."""
    word = val.lower()
    if word in ("on", "off"):
        return int(word == "on")
    try:
        return int(string_to_bool(word))
    except Exception as error:  # argparse's own class of error
        raise ValueError(str(error)) from error


def flatten_dict(d: MutableMapping[str, Any], parent_key: str = "", delimiter: str = ".") -> dict[str, Any]:
    """Return nested mappings as one, whose names are joined."""

    def entries(one: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
        for name, value in one.items():
            key = f"{before}{delimiter}{name}" if before else str(name)
            if isinstance(value, MutableMapping) and value:
                yield from entries(value, key)
            else:
                yield key, value

    return dict(entries(d, parent_key))


class ContextManagers:
    """Several context managers as one."""

    def __init__(self, context_managers: Sequence[Any]) -> None:
        self.context_managers, self.stack = context_managers, ExitStack()

    def __enter__(self) -> None:
        for manager in self.context_managers:
            self.stack.enter_context(manager)

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)


def shift_tokens_right(input_ids: Tensor, pad_token_id: int, decoder_start_token_id: int | None = None) -> Tensor:
    """Return a decoder's inputs for labels: the start token before all but the last; -100 becomes padding.

    Without a start token, the last token of each row that is no padding is put first, as mBART has it.
    """
    labels = input_ids.masked_fill(input_ids == -100, pad_token_id)
    shifted = labels.roll(1, dims=1)
    if decoder_start_token_id is not None:
        shifted[:, 0] = decoder_start_token_id
        return shifted
    last = labels.ne(pad_token_id).sum(1) - 1
    shifted[:, 0] = labels.gather(1, last[:, None])[:, 0]
    return shifted


class ActivationModule(nn.Module):
    """An activation function as a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.function = name, activation(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class ActivationTable(dict[str, Any]):
    """Name -> a new module of the activation."""

    def __getitem__(self, name: str) -> nn.Module:
        made = super().__getitem__(name)
        return made() if made in LEARNED.values() else ActivationModule(name)


ACT2FN = ActivationTable({**ACTIVATIONS, **LEARNED})
