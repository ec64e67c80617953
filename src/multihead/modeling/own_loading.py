"""Loads a program's own model: its constructor builds it, and each part takes its tensors from the checkpoint."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.folder import Checkpoint
from ..config import CONFIG_FILE, Config, changed, is_open, read_json
from ..errors import CheckpointMismatch, InvalidInput, UnsupportedOption, read_errors
from ..generation.config import GenerationConfig
from ..hub.local import is_adapter
from .fill_weights import NewWeights, check_pattern, fill, other_heads, unify_dtypes, warn_new_weights
from .load_request import LoadRequest, Name
from .loading import ResolvedModel, open_files, read_generation_config, resolve
from .loading_info import loading_info
from .own_parts import OwnTensor, SharedParameters, family_models, own_tensors, with_prefix


def load_own(cls: Any, name: Name, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Return a model of a program's own class with a checkpoint's weights.

    Args:
        arguments: of the constructor, after the config. options: as in `loading.load_model`, and the constructor's by
            their names.

    Raises:
        UnsupportedOption: an adapter's folder, or weights of fewer bits. CheckpointMismatch: tensors that do not fit,
            all listed. Others as `load_model`.
    """
    options = dict(options)
    shows = options.pop("output_loading_info", False)
    taken = list(inspect.signature(cls.__init__).parameters.values())[2:]
    named = {each.name for each in taken if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)}
    given = {option: options.pop(option) for option in list(options) if option in named}
    request = LoadRequest.parse(name, lambda config: cls, options)
    if request.bits or request.precision:
        raise UnsupportedOption(f"{cls.__name__} is a program's own class: its weights are not quantized when loaded.")
    resolved = resolve(request)
    if is_adapter(resolved.path):
        raise UnsupportedOption(f"{name} holds an adapter: load its base model, and the adapter with peft.")
    resolved = replace(resolved, request=with_own_config(cls, resolved))
    opened = open_files(resolved)
    model = cls(opened.config, *arguments, **given)
    if getattr(model, "config", None) is None:
        raise InvalidInput(f"The constructor of {cls.__name__} does not call super().__init__(config).")
    fill_own(model, opened.checkpoint, resolved.request, opened.dtype)
    model.name_or_path, model.checkpoint_folder = str(name or ""), resolved.path
    for part in family_models(model).values():
        if request.attn_implementation is not None:
            part.set_attention(request.attn_implementation)
    read_generation_config(model, resolved.path)
    if request.generation_config is not None:
        model.generation_config = GenerationConfig.coerce(request.generation_config)
    model.eval()
    return (model, loading_info(model, request.state_dict)) if shows else model


def with_own_config(cls: Any, resolved: ResolvedModel) -> LoadRequest:
    """Return the request with the config as the class's own config class reads it, where it has one."""
    request, config_class = resolved.request, cls.config_class
    if request.config is None and config_class is not None and is_open(config_class):
        config: Config = config_class.read(read_json(resolved.path / CONFIG_FILE))
        return replace(request, config=changed(config, request.entries), entries={})
    kind = None if config_class is None else config_class.model_type
    return replace(request, default_type=request.default_type or kind)


class View(Mapping[str, Tensor]):
    """Some of a checkpoint's tensors under other names.

    Args:
        names: their names here -> those of the checkpoint.
    """

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass
class Found:
    """Missing and misshapen tensors of a checkpoint, by stored names."""

    new: list[str] = field(default_factory=list)
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)


def fill_own(model: nn.Module, checkpoint: Checkpoint, request: LoadRequest, dtype: torch.dtype | None) -> None:
    """Give each part of a model its tensors; what the checkpoint lacks keeps the constructor's values, with a warning.

    Raises:
        CheckpointMismatch: tensors of other shapes, or that nothing reads; or one is missing in a file of this class.
    """
    for pattern in (request.new, request.ignore):
        check_pattern(pattern)
    device: Any = request.device
    shared, before = SharedParameters.of(model), {id(parameter) for parameter in model.parameters()}
    own = list(own_tensors(model))
    names = with_prefix(model, list(checkpoint.tensors), own)
    left = dict(names)
    found = Found()
    with read_errors(checkpoint.source):
        for path, part in family_models(model).items():
            theirs = {name: stored for name, stored in left.items() if name.startswith(f"{path}.")}
            if theirs:
                view = {name.removeprefix(f"{path}."): stored for name, stored in theirs.items()}
            else:  # a file of the family's model itself
                view = theirs = {name: stored for name, stored in left.items() if name not in {x.name for x in own}}
            left = {name: stored for name, stored in left.items() if name not in theirs}
            tensors = View(checkpoint.tensors, view)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NewWeights)
                fill(
                    part, replace(checkpoint, tensors=tensors), dtype=dtype, device=device, ignore=request.ignore,
                    reshape=request.ignore_mismatched_sizes, new=request.new, keep_heads=True,
                )  # fmt: skip
            found.new += [f"{path}.{name}" for name in part.new_weights]
        tied = {id(part[0]._parameters[part[1]]) for group in shared.places for part in group}
        for one in own:
            fill_tensor(one, left.pop(one.name, None), checkpoint, request, dtype, found, id(one.value) in tied)
    shared.restore(before)
    report(model, checkpoint, request, left, found)


def fill_tensor(
    one: OwnTensor, stored: str | None, checkpoint: Checkpoint, request: LoadRequest, dtype: torch.dtype | None,
    found: Found, tied: bool,
) -> None:  # fmt: skip
    """Give one parameter or buffer its stored tensor, or note why not. `tied`: it stands in other places too."""
    device: Any = request.device
    floats = one.value.is_floating_point()
    tensor = one.value.detach() if stored is None else checkpoint.tensors[stored]
    fits = tensor.shape == one.value.shape and tensor.is_floating_point() == floats
    if stored is not None and fits:
        one.replace(tensor.to(device, dtype if floats else tensor.dtype))
        return
    if stored is not None and not request.ignore_mismatched_sizes:
        found.misshapen[one.name] = (tuple(one.value.shape), tuple(tensor.shape))
        return
    if not tied:
        one.replace(one.value.detach().to(device, dtype if floats else None))
        found.new.append(one.name)


def report(model: Any, checkpoint: Checkpoint, request: LoadRequest, left: Iterable[str], found: Found) -> None:
    """Warn of new weights. Raises CheckpointMismatch."""
    heads = [pattern for part in family_models(model).values() for pattern in other_heads(part, part.keys)]
    known = [*heads, *(model._keys_to_ignore_on_load_unexpected or ()), *([request.ignore] if request.ignore else [])]
    unexpected = [name for name in left if not any(re.search(pattern, name) for pattern in known)]
    whole = type(model).__name__ in (model.config.architectures or []) and not request.ignore_mismatched_sizes
    waived = model._keys_to_ignore_on_load_missing or ()
    lacking = [name for name in found.new if whole and not any(re.search(pattern, name) for pattern in waived)]
    if lacking or unexpected or found.misshapen:
        advice = ""
        if unexpected and not lacking and not found.misshapen:
            advice = 'To load without tensors that are not wanted, name them: ignore=r"^their[.]prefix".'
        elif found.misshapen and not lacking:
            advice = "For new values of these, pass ignore_mismatched_sizes=True."
        raise CheckpointMismatch(
            checkpoint.source, missing=lacking, unexpected=unexpected, misshapen=found.misshapen, mistyped={},
            advice=advice,
        )  # fmt: skip
    unify_dtypes(model)
    model.new_weights = tuple(sorted(found.new))
    if found.new:
        warn_new_weights(model, f"{checkpoint.source} has")
