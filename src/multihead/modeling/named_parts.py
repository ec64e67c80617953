"""Names of a model's parts: our own, and the reference's where a program asks for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..nn.own_names import own_modules, own_parameters
from .reference_names import are_shown, reference_names


class NamedParts(nn.Module):
    """Methods of torch's modules that give or take names."""

    prepared: str | None

    def _reference_names(self) -> Any:
        """Return the module of the reference's names; None for a model without a key map, or one that is not built."""
        return reference_names() if "body_keys" in self.__dict__ else None

    def _shown_names(self) -> Any:
        """Return the same where the model shows these names; a prepared one has parts of its own."""
        return self._reference_names() if are_shown() and not self.prepared else None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (nn.Module, Tensor)) and name not in self._modules and name not in self._buffers:
            names = self._reference_names()
            if names is not None and name in names.top_names(self):
                names.set_part(self, name, value)
                return
        super().__setattr__(name, value)

    def get_submodule(self, target: str) -> nn.Module:
        """Return a part by its path, ours or the reference's. Raises AttributeError without one."""
        try:
            return super().get_submodule(target)
        except AttributeError:
            found = None if (names := self._reference_names()) is None else names.find_module(self, target)
            if found is None:
                raise
            return found

    def get_parameter(self, target: str) -> nn.Parameter:
        """Return a parameter by its path, ours or the reference's. Raises AttributeError without one."""
        try:
            return super().get_parameter(target)
        except AttributeError:
            found = None if (names := self._reference_names()) is None else names.find_tensor(self, target)
            if found is None:
                raise
            return found

    def modules(self, remove_duplicate: bool = True) -> Iterator[nn.Module]:
        """Yield the model and all modules inside of it, each once; no parts that only the reference has."""
        return (module for _, module in own_modules(self, remove_duplicate=remove_duplicate))

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield the parameters, each once."""
        return (p for _, p in own_parameters(self)) if recurse else super().parameters(recurse)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield (name, module), by the names of `use_reference_names`."""
        names = self._shown_names()
        if names is None:
            return super().named_modules(memo, prefix, remove_duplicate)
        return names.named_modules(self, memo, prefix, remove_duplicate)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield (name, parameter) in the order of `parameters`, by the names of `use_reference_names`."""
        names = self._shown_names() if recurse else None
        if names is None:
            return super().named_parameters(prefix, recurse, remove_duplicate)
        return names.named_parameters(self, prefix, remove_duplicate)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return all tensors, by the names of `use_reference_names`."""
        names = self._shown_names()
        if names is None:
            return super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        made = names.state_dict(self, super().state_dict(keep_vars=True), keep_vars)
        destination.update({prefix + name: tensor for name, tensor in made.items()})
        return destination

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy tensors into the model, by our names or by the reference's; see `torch.nn.Module.load_state_dict`."""
        own, names = self._own_state(state_dict)
        if own is None:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        found = super().load_state_dict(own, strict=False, assign=assign)
        for keys in (found.missing_keys, found.unexpected_keys):
            keys[:] = dict.fromkeys(names.get(name, name) for name in keys)
        wrong = {"Missing": found.missing_keys, "Unexpected": found.unexpected_keys}
        if strict and any(wrong.values()):
            lines = [f"\t{kind} key(s) in state_dict: {', '.join(keys)}." for kind, keys in wrong.items() if keys]
            raise RuntimeError("\n".join([f"Error(s) in loading state_dict for {type(self).__name__}:", *lines]))
        return found

    def _own_state(self, given: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, str]]:
        """Return a state dict by our names and the reference's name of each; None for one that has ours."""
        names = None if self.prepared else self._reference_names()
        if names is None:
            return None, {}
        own = super().state_dict(keep_vars=True)
        if not names.uses_reference_names(self, given, own):
            return None, {}
        return names.own_state(self, given, own)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take the reference's names where a module that holds the model loads."""
        if prefix:
            given = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
            own, _ = self._own_state({name.removeprefix(prefix): value for name, value in given.items()})
            if own is not None:
                for name in given:
                    del state_dict[name]
                state_dict.update({prefix + name: value for name, value in own.items()})
        super()._load_from_state_dict(state_dict, prefix, *args)
