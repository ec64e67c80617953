"""Which stored tensor is which parameter: one table for each family, read both ways.

A row is `our path: their path`, without the last `.weight` or `.bias`; `*` stands for a layer's number and is the same
on both sides. A key that starts with `/` is outside the backbone's prefix. Rows that do more than rename hold a
`Source`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import CheckpointMismatch, UnsupportedConfig
from .tensor_sources import Source

Fresh = Callable[[str, nn.Module, str, Tensor], bool]  # (path, owner, leaf, parameter) -> whether it was filled anew


Rows = Mapping[str, "str | Source"]
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # what weights may be stored in
Spare = tuple[tuple[str, str], ...]  # (our path, the stored name that it has instead)


@dataclass(frozen=True)
class Where:
    """Where a checkpoint keeps a parameter: how, and under which names."""

    source: Source
    keys: tuple[str, ...]


@dataclass(frozen=True)
class KeyMap:
    """The table of one model.

    Args:
        prefix: before every key, when the checkpoint holds a backbone under a head.
        prefixes: other prefixes that checkpoints of this family use.
        ignored: patterns of stored tensors that are no parameters: derived, or copies of tied ones.
        computed: (pattern, table of so many rows and columns) pairs: ignored tensors that are computed here instead.
        renamed: (pattern, replacement) pairs that bring old names to today's, before any look-up.
        unfused: (pattern, replacements) pairs: an older file's tensor that holds several of today's, stacked.
        first: the number that stored names give to the first layer.
        twins: (key, other name) pairs: one tensor under two names; either is read, both are written.
        spare: (our path, stored name) pairs: where a file keeps the one copy of tied weights instead.
        own: first names of our paths that are stored under the same names: parts that a subclass added.
    """

    rows: Rows
    prefix: str = ""
    prefixes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    computed: tuple[tuple[str, Callable[[int, int], Tensor]], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    unfused: tuple[tuple[str, tuple[str, ...]], ...] = ()
    first: int = 0
    twins: tuple[tuple[str, str], ...] = ()
    spare: Spare = ()
    own: tuple[str, ...] = ()

    def locate(self, path: str, prefix: str) -> tuple[Source, tuple[str, ...]] | None:
        """Where a parameter is stored: how, and under which names; None without a row."""
        if path.partition(".")[0] in self.own:
            return Source(path), (path,)
        found_numbers = [int(number) for number in re.findall(r"\.(\d+)(?=\.)", path)]
        numbers = iter(found_numbers)
        pattern = re.sub(r"\.\d+(?=\.)", ".*", path)
        one = re.sub(r"\.\d+(?=\.)", ".*", path, count=1)  # parts of a layer that are counted themselves
        for found in dict.fromkeys((pattern, one)):
            row, leaf = self.rows.get(found), ""
            if row is None:
                found, _, last = found.rpartition(".")
                row, leaf = self.rows.get(found), f".{last}"
            if row is not None:
                break
        if row is None:
            return None
        source = (row if isinstance(row, Source) else Source(row)).numbered(found_numbers)
        key = source.key[1:] if source.key.startswith("/") else prefix + source.key
        return source, source.names(re.sub(r"\*", lambda _: str(next(numbers) + self.first), key), leaf)

    def load(
        self,
        module: nn.Module,
        stored: Mapping[str, Tensor],
        *,
        source: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        fresh: Fresh | None = None,
        known: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Gives every parameter of `module` its stored tensor: by reference where nothing has to change.

        Args:
            source: what is being loaded, for messages.
            dtype, device: of floating-point parameters; None keeps the checkpoint's.
            fresh: is asked to fill a parameter that has no tensor or a misshapen one.
            known: patterns of stored tensors that belong to other heads of this family; asked only when some are left.

        Raises:
            CheckpointMismatch: a parameter has no tensor, a tensor no parameter, a shape differs, or a tensor holds no
                floating-point numbers; all are listed.
        """
        stored = self._parts(stored)
        names = self.today(stored)
        prefix = self._prefix(names)
        missing, misshapen, used, twins = [], {}, set(), dict(self.twins)
        wrong: dict[str, Tensor] = {}
        owned = {key for path, _, _, _ in owners(module) if (at := self.locate(path, prefix)) for key in at[1]}
        stored = Kept(stored)
        self._check_computed(stored, names, source)
        for path, owner, leaf, parameter in owners(module):
            where = self.locate(path, prefix)
            wanted = [key if key in names else twins.get(key, key) for key in (where[1] if where else (path,))]
            spare = [other for own, other in self.spare if path == own and other in names]
            wanted, lent = (spare[:1], True) if spare and wanted[0] not in names else (wanted, False)
            used.update(wanted)
            absent = [key for key in wanted if key not in names]
            if where is not None and absent and where[0].lacking is not None:
                kind = dtype or next((t.dtype for t in stored.values()), torch.float32)
                value = torch.full(parameter.shape, where[0].lacking, dtype=kind, device=device)
                owner._parameters[leaf] = nn.Parameter(value, requires_grad=parameter.requires_grad)
                continue
            if where is None or absent:
                if fresh is None or not fresh(path, owner, leaf, parameter):
                    missing += [f"{path} ({key})" for key in absent or wanted]
                continue
            tensor = where[0].taken(*(stored[names[key]] for key in wanted))
            if tensor.shape != parameter.shape:
                if fresh is None or not fresh(path, owner, leaf, parameter):
                    misshapen[f"{path} ({wanted[0]})"] = (tuple(parameter.shape), tuple(tensor.shape))
                continue
            if tensor.dtype not in FLOATS:
                wrong[f"{path} ({wanted[0]})"] = tensor
                continue
            kind = tensor.dtype if dtype is None else dtype
            kind = torch.float32 if kind in getattr(owner, "widened", ()) else kind
            learns = kind.is_floating_point and parameter.requires_grad
            value = tensor.to(device, kind)
            value = value.clone() if lent and wanted[0] in owned else value  # the other's own numbers stay its own
            owned.update(wanted)
            owner._parameters[leaf] = nn.Parameter(value, requires_grad=learns)
        unexpected = self._left_over(names, used, known)
        if missing or misshapen or unexpected or wrong:
            raise CheckpointMismatch(
                source, missing=missing, unexpected=unexpected, misshapen=misshapen, mistyped=mistyped(wrong)
            )

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        """The tensors of `module` as a checkpoint stores them: the inverse of `load`.

        Raises:
            CheckpointMismatch: a parameter has no row.
        """
        out: dict[str, Tensor] = {}
        missing = []
        for path, _, _, parameter in owners(module):
            where = self.locate(path, self.prefix)
            if where is None:
                missing.append(path)
                continue
            source, keys = where
            written = source.write(parameter.detach(), out.get(keys[0]))
            for key, tensor in zip(keys, [written] if isinstance(written, Tensor) else written, strict=True):
                out[key] = tensor.contiguous()
        if missing:
            raise CheckpointMismatch("The key map", missing=missing)
        out.update({twin: out[key].clone() for key, twin in self.twins if key in out})
        return out

    def patterns(self) -> tuple[str, ...]:
        """Regular expressions for the keys of this table, with any of its prefixes."""
        out = []
        for row in self.rows.values():
            key = row.key if isinstance(row, Source) else row
            prefix = "" if key.startswith("/") else f"(?:{'|'.join(map(re.escape, (self.prefix, *self.prefixes, '')))})"
            stem = re.escape(key.removeprefix("/")).replace(r"\*", r"\d+").replace(r"\#", r"\d+")
            out.append(f"^{prefix}{stem}" + r"(?:\.\w+)?$")
        return (*out, *self.ignored, *(re.escape(twin) for _, twin in self.twins))

    def today(self, stored: Iterable[str]) -> dict[str, str]:
        """Today's name of each stored tensor -> its name in the file."""
        return {self._today(name): name for name in stored}

    def located(self, module: nn.Module, stored: Iterable[str]) -> dict[str, Where]:
        """Our path of each parameter with a row -> where a checkpoint with these names keeps it."""
        prefix = self._prefix(self.today(stored))
        found = {path: self.locate(path, prefix) for path, _, _, _ in owners(module)}
        return {path: Where(*where) for path, where in found.items() if where is not None}

    def _today(self, name: str) -> str:
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        return name

    def _parts(self, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The stored tensors, fused ones as views of their parts."""
        if not self.unfused:
            return stored
        out: dict[str, Tensor] = {}
        for name, tensor in stored.items():
            names = next(([re.sub(p, new, name) for new in to] for p, to in self.unfused if re.search(p, name)), [name])
            out.update(zip(names, tensor.chunk(len(names)) if len(names) > 1 else [tensor], strict=True))
        return out

    def _check_computed(self, stored: Mapping[str, Tensor], names: Mapping[str, str], source: str) -> None:
        for pattern, table in self.computed:
            for name in (name for name in names if re.search(pattern, name)):
                found = stored[names[name]].float()
                if found.ndim == 2 and not torch.allclose(found, table(*found.shape).to(found), atol=0.02):
                    raise UnsupportedConfig(
                        f"{source}: {names[name]} is a table of its own, and this family computes its positions."
                    )

    def _prefix(self, names: Mapping[str, str]) -> str:
        candidates = (self.prefix, *self.prefixes)
        return next((p for p in candidates if p and any(n.startswith(p) for n in names)), "")

    def _left_over(self, names: Mapping[str, str], used: set[str], known: Callable[[], Iterable[str]]) -> list[str]:
        used = used | {name for twins in self.twins if used & {*twins} for name in twins}
        left = [name for name in names if name not in used and not any(re.search(p, name) for p in self.ignored)]
        if not left:
            return []
        patterns = [re.compile(p) for p in known()]
        return [names[name] for name in left if not any(p.search(name) for p in patterns)]


def mistyped(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """Those of some tensors that hold no numbers of `FLOATS`, as `CheckpointMismatch` tells of them."""
    return {
        name: ("floating-point numbers", str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
        if tensor.dtype not in FLOATS
    }


class Kept(Mapping[str, Tensor]):
    """Stored tensors, the last few of which are kept: reading one may mean to decode it, and experts share one."""

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self._stored = stored
        self._last: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._last:
            self._last[name] = self._stored[name]
            if len(self._last) > 3:  # gates, ups and downs
                del self._last[next(iter(self._last))]
        return self._last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def owners(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """(path, owning module, leaf name, parameter) of each parameter, shared modules once.

    Modules that say `apart` hold parameters that no checkpoint of the model has (adapters); they are left out.
    """
    apart: tuple[str, ...] = ()
    for prefix, owner in module.named_modules():
        if getattr(owner, "apart", False):
            apart = (*apart, f"{prefix}.")
        if f"{prefix}.".startswith(apart):
            continue
        for leaf, parameter in owner.named_parameters(recurse=False):
            yield f"{prefix}.{leaf}" if prefix else leaf, owner, leaf, parameter


def joined(body: KeyMap, head: Rows, *, prefix: str | None = None) -> KeyMap:
    """The table of a whole model: its `backbone`'s rows and its `head`'s.

    Args:
        body: a row of it whose own path starts with `/` belongs to the head already.
        head: more rows of the head.
        prefix: of the backbone in this model, where it is not the family's own.
    """
    rows = {f"head.{path[1:]}" if path.startswith("/") else f"backbone.{path}": row for path, row in body.rows.items()}
    rows.update({f"head.{path}": row for path, row in head.items()})
    if prefix is None or prefix == body.prefix:
        return replace(body, rows=rows)
    return replace(body, rows=rows, prefix=prefix, prefixes=(*body.prefixes, body.prefix))
