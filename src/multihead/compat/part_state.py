"""State dicts and names of modules by the reference's names, from and to our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..nn.own_names import own_modules, own_parameters
from .part_tree import PartTree, part_tree
from .parts import learned_pieces
from .stored_tensors import gathered, plain_tensor, sharded_like, state_value


def named_modules(
    model: nn.Module, memo: set[nn.Module] | None, prefix: str, remove_duplicate: bool
) -> Iterator[tuple[str, nn.Module]]:
    """Yield a model's parts by the reference's names, then what no part holds (dropout, layers) by ours.

    Without `remove_duplicate` all modules come by our names first.
    """
    memo, dot = set() if memo is None else memo, f"{prefix}." if prefix else ""
    if model not in memo:
        memo.add(model)
        yield prefix, model
        if not remove_duplicate:  # fully_shard takes a parameter's first place, and reads it there in our layout
            yield from (x for x in own_modules(model, prefix, remove_duplicate=False) if x[1] is not model)
        root = part_tree(model).root
        named, held = {model}, set(map(id, root._parameters.values()))
        for name, part in root._modules.items():
            for path, module in () if part is None else part.named_modules(memo, dot + name, remove_duplicate):
                named.add(module)
                held.update(map(id, module._parameters.values()))
                yield path, module
        for path, module in own_modules(model):
            own = [id(p) for p in module._parameters.values() if p is not None]
            whole = own and not module._modules and held.issuperset(own)  # a part shows it: GPT-2's `c_attn` its `q`
            if module not in named and module not in memo and not whole:
                memo.add(module)
                yield dot + path, module


def named_parameters(model: nn.Module, prefix: str, remove_duplicate: bool) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield a model's parameters by the reference's names, in the order of `parameters`.

    Programs take names and gradients of the two in pairs, and optimizers number parameters in this order.
    """
    names: dict[int, list[str]] = {}
    # A module with two names is one place: `functional_call` would exchange its parameters twice, and put none back.
    for path, module in part_tree(model).root.named_modules(prefix=prefix):
        for leaf, parameter in module._parameters.items():
            # BART's `final_logits_bias` is a buffer of the reference
            buffer = path == prefix and parameter is not None and not parameter.requires_grad
            if parameter is not None and not buffer:
                names.setdefault(id(parameter), []).append(f"{path}.{leaf}" if path else leaf)
    for path, parameter in own_parameters(model):
        known = names.get(id(parameter)) or [f"{prefix}.{path}" if prefix else path]
        yield from ((name, parameter) for name in known[: 1 if remove_duplicate else None])


def state_dict(model: nn.Module, own: Mapping[str, Tensor], keep_vars: bool) -> dict[str, Tensor]:
    """Return a state dict by the reference's names of one by ours; what is written into its values reaches the model.

    Args:
        own: with the parameters themselves. keep_vars: gives these, under the names of `named_parameters`.
    """
    tree = part_tree(model)
    out: dict[str, Tensor] = {}
    done = {id(piece.parameter) for tensor in tree.tensors.values() for piece in tensor.pieces}
    for name, tensor in tree.tensors.items():
        if keep_vars:
            stem = name.rpartition(".")[0]
            parts = learned_pieces(name.rpartition(".")[2], tensor)
            out.update({f"{stem}.{leaf}" if stem else leaf: piece.parameter for leaf, piece in parts.items()})
        else:
            out[name] = state_value(tensor)
    for path, value in own.items():
        if id(value) not in done:
            out[_reference_name(tree, path)] = value if keep_vars else value.detach()
    return out


def _reference_name(tree: PartTree, path: str) -> str:
    """Return the name of what is inside of one of our modules; our own where no part is the module."""
    stem = path
    while stem:
        if stem in tree.table.slots:
            rest = path[len(stem) :].removeprefix(tree.table.inside(stem))
            return tree.table.slots[stem] + rest
        stem = stem.rpartition(".")[0]
    return path


def uses_reference_names(model: Any, given: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Return whether more names of a state dict are the reference's than ours."""
    tensors, keys = part_tree(model).tensors, model.keys
    theirs = sum(name in tensors or keys.current_name(name) in tensors for name in given)
    return theirs > sum(name in own for name in given)


def own_state(
    model: Any, given: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a state dict by our names of one by the reference's, and the reference's name of each.

    A name that is nobody's stays as it is. A tensor of which a part is missing is left out.

    Args:
        own: our state dict, with the parameters themselves.
    """
    tree, keys = part_tree(model), model.keys
    given = {name: plain_tensor(value) for name, value in given.items()}
    named = {name if name in tree.tensors else keys.current_name(name): value for name, value in given.items()}
    for name in keys.check_computed(named, {name: name for name in named}, "state_dict"):
        del named[name]
    named = dict(keys.split_parts(named)) if not named.keys() <= tree.tensors.keys() else named
    out: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    values: dict[int, Tensor] = {}
    pieces: dict[str, list[tuple[str, Any]]] = {}
    for name, tensor in tree.tensors.items():
        for piece in tensor.pieces:
            pieces.setdefault(piece.path, []).append((name, piece))
    for path, found in pieces.items():
        wanted = found if found[0][1].index is not None else [next((x for x in found if x[0] in named), found[0])]
        names[path] = wanted[0][0]
        if all(name in named for name, _ in wanted):
            piece, tensors = wanted[0][1], [named[name] for name, _ in wanted]
            tensors = tensors if piece.is_plain else [gathered(one) for one in tensors]
            values[id(piece.parameter)] = sharded_like(piece.parameter, piece.source.read(*tensors))
    for path, parameter in own.items():
        if id(parameter) in values:
            out[path] = values[id(parameter)]
    for name, value in named.items():
        if name not in tree.tensors:
            path = _own_path(tree, name)
            out[path], names[path] = value, name
    return out, names


def _own_path(tree: PartTree, name: str) -> str:
    """Return our path of what is inside of a part that is one of our modules; the name where none is."""
    stem = name
    while stem:
        if stem in tree.table.paths:
            return tree.table.paths[stem] + tree.table.inside(tree.table.paths[stem]) + name[len(stem) :]
        stem = stem.rpartition(".")[0]
    return name
