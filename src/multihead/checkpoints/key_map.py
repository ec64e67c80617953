"""Maps parameters to stored tensors: one table for each family, used for loading and for saving.

A row is `our path: their path`, without the last `.weight` or `.bias`; `*` stands for a layer's number and is the same
on both sides. A key that starts with `/` is outside the backbone's prefix. A row that does more than rename holds a
`Source`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import Tensor, nn

from ..errors import CheckpointMismatch, UnsupportedConfig
from ..kernels.quantization.coded_tensor import matrices, move_rows
from ..load_progress import READING, LoadSteps
from ..nn.own_names import own_modules
from .tensor_sources import Source

ParameterOwner = tuple[str, nn.Module, str, Tensor]  # path, owning module, leaf name, parameter
# (path, owner, leaf, parameter) -> whether the parameter was initialized
InitParameter = Callable[[str, nn.Module, str, Tensor], bool]
Rows = Mapping[str, "str | Source"]
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # dtypes that weights may be stored in
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)  # of parameters that a module lists as `integers`
FallbackNames = tuple[tuple[str, str], ...]  # (our path, the stored name that it has instead)


@dataclass(frozen=True)
class StoredLocation:
    """Location of a parameter in a checkpoint: the names of its tensors, and their conversion."""

    source: Source
    keys: tuple[str, ...]


@dataclass(frozen=True)
class KeyMap:
    """The table of one model.

    Args:
        prefix: before every key, where the checkpoint holds a backbone under a head.
        prefixes: other prefixes that checkpoints of this family use.
        ignored: patterns of stored tensors that are no parameters: derived values, or copies of tied weights.
        computed: (pattern, function of rows and columns) pairs: ignored tables that are computed here instead.
        renamed: (pattern, replacement) pairs that bring old names to current ones, before any look-up.
        split_fused: (pattern, replacements) pairs: a file's tensor that concatenates several current ones. Where the
            replacements hold `#`, it stacks such tensors, and `#` is the number of each (experts). Rows of separate
            experts give such pairs themselves: files may keep a layer's experts in two stacks.
        first: the number that stored names give to the first layer.
        aliases: (key, other name) pairs: one tensor under two names; either is read, both are written.
        fallback_names: (our path, stored name) pairs: where a file keeps the only copy of tied weights instead.
        constants: (key, integers) pairs: buffers that follow from the config. They are written; a file with other
            ones is refused.
        joined: (pattern, replacement) pairs: written tensors that get one new name are concatenated, and stacked where
            the pattern has a group `expert`, their number.
        own: first names of our paths that are stored under the same names: parts that a subclass added.
    """

    rows: Rows
    prefix: str = ""
    prefixes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    computed: tuple[tuple[str, Callable[[int, int], Tensor]], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    split_fused: tuple[tuple[str, tuple[str, ...]], ...] = ()
    first: int = 0
    aliases: tuple[tuple[str, str], ...] = ()
    fallback_names: FallbackNames = ()
    joined: tuple[tuple[str, str], ...] = ()
    constants: tuple[tuple[str, Tensor], ...] = ()
    own: tuple[str, ...] = ()

    def locate(self, path: str, prefix: str) -> tuple[Source, tuple[str, ...]] | None:
        """Return the source of a parameter and the names of its stored tensors; None without a row."""
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
        initialize: InitParameter | None = None,
        known: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Give every parameter of `module` its stored tensor, without a copy where nothing has to change.

        Args:
            source: what is being loaded, for messages.
            dtype, device: of floating-point parameters; None keeps the checkpoint's.
            initialize: called for a parameter without a tensor or with a misshapen one.
            known: patterns of stored tensors that belong to other heads of this family; called only when some remain.

        Raises:
            CheckpointMismatch: a parameter has no tensor, a tensor no parameter, a shape differs, or a tensor holds no
                floating-point numbers; all are listed.
        """
        stored = self.split_parts(stored)
        names = self.current_names(stored)
        prefix = self._prefix(names)
        missing, misshapen, used, aliases = [], {}, set(), dict(self.aliases)
        wrong: dict[str, Tensor] = {}
        owners = [(*row, self.locate(row[0], prefix)) for row in parameter_owners(module)]
        owned = {key for *_, where in owners if where for key in where[1]}
        stored = RecentTensors(stored)
        self.check_computed(stored, names, source)
        self._check_constants(stored, names, prefix, source)
        steps = LoadSteps(READING, sum(parameter.numel() for _, _, _, parameter, _ in owners))
        for path, owner, leaf, parameter, where in owners:
            wanted = [key if key in names else aliases.get(key, key) for key in (where[1] if where else (path,))]
            fallbacks = [other for own, other in self.fallback_names if path == own and other in names]
            wanted, lent = (fallbacks[:1], True) if fallbacks and wanted[0] not in names else (wanted, False)
            used.update(wanted)
            absent = [key for key in wanted if key not in names]
            if where is not None and absent and where[0].default_if_missing is not None:
                kind = dtype or next((t.dtype for t in stored.values()), torch.float32)
                value = torch.full(parameter.shape, where[0].default_if_missing, dtype=kind, device=device)
                owner._parameters[leaf] = nn.Parameter(value, requires_grad=parameter.requires_grad)
                continue
            if where is None or absent:
                if initialize is None or not initialize(path, owner, leaf, parameter):
                    missing += [f"{path} ({key})" for key in absent or wanted]
                continue
            tensor = where[0].read_stored(*(stored[names[key]] for key in wanted))
            if tensor.shape != parameter.shape:
                if initialize is None or not initialize(path, owner, leaf, parameter):
                    misshapen[f"{path} ({wanted[0]})"] = (tuple(parameter.shape), tuple(tensor.shape))
                continue
            if tensor.dtype not in (INTEGERS if leaf in getattr(owner, "integers", ()) else FLOATS):
                wrong[f"{path} ({wanted[0]})"] = tensor
                continue
            value = tensor.to(device, stored_kind(owner, leaf, tensor.dtype if dtype is None else dtype))
            value = value.clone() if lent and wanted[0] in owned else value  # the other's own numbers stay its own
            owned.update(wanted)
            learns = value.is_floating_point() and parameter.requires_grad
            owner._parameters[leaf] = nn.Parameter(value, requires_grad=learns)
            steps.finish(parameter.numel())
        unexpected = self._left_over(names, used, known)
        if missing or misshapen or unexpected or wrong:
            raise CheckpointMismatch(
                source, missing=missing, unexpected=unexpected, misshapen=misshapen, mistyped=mistyped(wrong)
            )

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of `module` as a checkpoint stores them, the inverse of `load`.

        Raises:
            CheckpointMismatch: a parameter has no row.
        """
        out = self._written(parameter_owners(module))
        out.update({self.prefix + key: value.clone() for key, value in self.constants})
        return self._join(out)

    def export_some(self, owners: Iterable[ParameterOwner]) -> dict[str, Tensor]:
        """Return the stored tensors of some parameters of a model: all of those that share a tensor, as `export` does.

        Args:
            owners: as `parameter_owners` yields them.
        """
        return self._join(self._written(owners))

    def written_names(self, path: str) -> tuple[str, ...]:
        """Return the names of the tensors that `export` stores a parameter in; none without a row."""
        where = self.locate(path, self.prefix)
        names = [] if where is None else list(where[1])
        for pattern, new in self.joined:
            names = [re.sub(pattern, new, name) for name in names]
        return tuple(dict.fromkeys(names))

    def fill_some(self, owners: Iterable[ParameterOwner], stored: Mapping[str, Tensor]) -> None:
        """Give some parameters the numbers of tensors that `export_some` returned, in the parameters' precision."""
        stored = self.split_parts(stored)
        names = self.current_names(stored)
        for path, owner, leaf, parameter in owners:
            where = self.locate(path, self.prefix)
            assert where is not None
            value = where[0].read_stored(*(stored[names[key]] for key in where[1])).to(parameter.dtype)
            owner._parameters[leaf] = nn.Parameter(value, requires_grad=parameter.requires_grad)

    def _written(self, owners: Iterable[ParameterOwner]) -> dict[str, Tensor]:
        """Return the tensors of parameters before some are joined. Raises CheckpointMismatch."""
        out: dict[str, Tensor] = {}
        missing = []
        for path, _, _, parameter in owners:
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
        out.update({alias: out[key].clone() for key, alias in self.aliases if key in out})
        return out

    def _join(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors to write, those of `joined` in one."""
        for pattern, new in self.joined:
            found: dict[str, dict[int, list[Tensor]]] = {}  # new name -> number of an expert -> its parts
            for match in [match for name in tensors if (match := re.search(pattern, name))]:
                number, name = int(match.groupdict().get("expert", 0)), match.string
                found.setdefault(re.sub(pattern, new, name), {}).setdefault(number, []).append(tensors.pop(name))
            for name, parts in found.items():
                each = [torch.cat(parts[number]) for number in sorted(parts)]
                tensors[name] = torch.stack(each) if "(?P<expert>" in pattern else each[0]
        return tensors

    def patterns(self) -> tuple[str, ...]:
        """Return regular expressions for the keys of this table, with any of its prefixes."""
        out = []
        for row in self.rows.values():
            key = row.key if isinstance(row, Source) else row
            prefix = "" if key.startswith("/") else f"(?:{'|'.join(map(re.escape, (self.prefix, *self.prefixes, '')))})"
            stem = re.escape(key.removeprefix("/")).replace(r"\*", r"\d+").replace(r"\#", r"\d+")
            out.append(f"^{prefix}{stem}" + r"(?:\.\w+)?$")
        out += [rf"{re.escape(key)}$" for key, _ in self.constants]
        return (*out, *self.ignored, *(re.escape(alias) for _, alias in self.aliases))

    def current_names(self, stored: Iterable[str]) -> dict[str, str]:
        """Return the current name of each stored tensor -> its name in the file."""
        return {self.current_name(name): name for name in stored}

    def locations(self, module: nn.Module, stored: Iterable[str]) -> dict[str, StoredLocation]:
        """Return our path of each parameter with a row -> its location in a checkpoint with these names."""
        prefix = self._prefix(self.current_names(stored))
        found = {path: self.locate(path, prefix) for path, _, _, _ in parameter_owners(module)}
        return {path: StoredLocation(*where) for path, where in found.items() if where is not None}

    def current_name(self, name: str) -> str:
        """Return the name that this table has for a tensor, which may have an older one."""
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        return name

    def split_parts(self, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the stored tensors, fused ones as views of their parts."""
        fused = [*self.split_fused, *self._stacks_of_experts()]
        if not any(re.search(pattern, name) for name in stored for pattern, _ in fused):
            return stored
        out: dict[str, Tensor] = {}
        for name, tensor in stored.items():
            names = _names_of_parts(name, fused) or [name]
            stacked = "#" in names[0]
            if tensor.ndim <= stacked or tensor.shape[stacked] < len(names):
                names, stacked = [name], False  # reported under its own name
            for number, one in enumerate(matrices(tensor) if stacked else [tensor]):
                own = [each.replace("#", str(number)) for each in names] if stacked else names
                out.update(zip(own, chunks(one, len(own)) if len(own) > 1 else [one], strict=True))
        return out

    def names_of_parts(self, name: str) -> list[str]:
        """Return the names of what a fused tensor concatenates, with `#` for the number of each in a stack."""
        return _names_of_parts(name, [*self.split_fused, *self._stacks_of_experts()])

    def _stacks_of_experts(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return pairs as in `split_fused` for stacks of experts that this table has one by one."""
        found: list[tuple[str, tuple[str, ...]]] = []
        experts = {ours: row for ours, row in self.rows.items() if ".experts.*." in ours and isinstance(row, str)}
        for ours, row in experts.items():
            stem, _, part = ours.rpartition(".")
            names, stack = [row], f"{part}_proj"
            if f"{stem}.gate" in experts and part in ("gate", "up"):
                names, stack = [experts[f"{stem}.gate"], experts[f"{stem}.up"]], "gate_up_proj"
            ends = [f".experts.#.{name.rpartition('.')[2]}" for name in names]
            for pattern, leaf in ((rf"\.experts\.{stack}$", ".weight"), (rf"\.experts\.{stack}_bias$", ".bias")):
                pair = (pattern, tuple(end + leaf for end in ends))
                found += [pair] if pair not in found else []
        return found

    def check_computed(self, stored: Mapping[str, Tensor], names: Mapping[str, str], source: str) -> set[str]:
        """Return the names of stored tables that are computed here. Raises UnsupportedConfig for other numbers."""
        tables: set[str] = set()
        for pattern, table in self.computed:
            for name in (name for name in names if re.search(pattern, name)):
                tables.add(name)
                found = stored[names[name]].float()
                if found.ndim == 2 and not torch.allclose(found, table(*found.shape).to(found), atol=0.02):
                    raise UnsupportedConfig(
                        f"{source}: {names[name]} is a table of its own, and this family computes its positions."
                    )
        return tables

    def _check_constants(
        self, stored: Mapping[str, Tensor], names: Mapping[str, str], prefix: str, source: str
    ) -> None:
        for key, value in self.constants:
            found = stored[names[prefix + key]] if prefix + key in names else value
            if found.is_floating_point() or not torch.equal(found.to(value.device), value.to(found.dtype)):
                raise UnsupportedConfig(
                    f"{source}: {prefix + key} holds other numbers than those that follow from its config.json, which "
                    "are computed here."
                )

    def _prefix(self, names: Mapping[str, str]) -> str:
        candidates = (self.prefix, *self.prefixes)
        return next((p for p in candidates if p and any(n.startswith(p) for n in names)), "")

    def _left_over(self, names: Mapping[str, str], used: set[str], known: Callable[[], Iterable[str]]) -> list[str]:
        used = used | {name for pair in self.aliases if used & {*pair} for name in pair}
        known_here = (*self.ignored, *(rf"(^|\.){re.escape(key)}$" for key, _ in self.constants))
        left = [name for name in names if name not in used and not any(re.search(p, name) for p in known_here)]
        if not left:
            return []
        patterns = [re.compile(p) for p in known()]
        return [names[name] for name in left if not any(p.search(name) for p in patterns)]


def chunks(x: Tensor, count: int) -> list[Tensor]:
    """Return so many equal parts of a tensor's rows, in a file's codes where it is."""
    rows = -(-x.shape[0] // count)
    return [move_rows(x, itemgetter(slice(begin, begin + rows))) for begin in range(0, x.shape[0], rows)]


def _names_of_parts(name: str, fused: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    return next(([re.sub(p, new, name) for new in to] for p, to in fused if re.search(p, name)), [])


def stored_kind(owner: nn.Module, leaf: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a module's parameter in a model of `dtype`."""
    if leaf in getattr(owner, "integers", ()):
        return torch.int64
    return torch.float32 if dtype in getattr(owner, "widened", ()) else dtype


def mistyped(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """Return the dtypes of tensors of a wrong kind, as (expected, found) for `CheckpointMismatch`."""
    wanted = {name: "whole numbers" if x.dtype in FLOATS else "floating-point numbers" for name, x in tensors.items()}
    return {name: (wanted[name], str(x.dtype).removeprefix("torch.")) for name, x in tensors.items()}


class RecentTensors(Mapping[str, Tensor]):
    """Stored tensors with a cache of the last three: reading may mean decoding, and experts share one tensor."""

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


def parameter_owners(module: nn.Module) -> Iterator[ParameterOwner]:
    """Yield (path, owning module, leaf name, parameter) of each parameter, shared modules once.

    Modules with `not_in_checkpoint` hold parameters that no checkpoint of the model has (adapters); they are left out.
    """
    skipped: tuple[str, ...] = ()
    for prefix, owner in own_modules(module):
        if getattr(owner, "not_in_checkpoint", False):
            skipped = (*skipped, f"{prefix}.")
        if f"{prefix}.".startswith(skipped):
            continue
        for leaf, parameter in owner.named_parameters(recurse=False):
            yield f"{prefix}.{leaf}" if prefix else leaf, owner, leaf, parameter


def join_head(body: KeyMap, head: Rows, *, prefix: str | None = None) -> KeyMap:
    """Return the table of a whole model: the rows of its backbone and of its head.

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
