"""Tables of vectors, of which a step reads few rows: their gradients and Adam's work are of those rows alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.ops import backend

LEAST = 4096  # rows of a table for which it pays


@contextmanager
def by_rows(model: nn.Module) -> Iterator[None]:
    """Inside, gradients of large tables that serve as nothing else are sparse tensors of the rows that were read.

    Only where the C++ kernels serve: in torch's operations the steps of some rows take as long as those of all.
    """
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and updates_rows(module.weight)
        and not module.sparse
        and module.num_embeddings >= LEAST
        and uses[id(module.weight)] == 1
    ]
    for module in found:
        module.sparse = True
    try:
        yield
    finally:
        for module in found:
            module.sparse = False


def updates_rows(table: Tensor) -> bool:
    """Return whether steps of some rows of a table are faster than those of all."""
    return backend(table.detach()).updates_rows(table)


class AdamW(torch.optim.AdamW):
    """torch's AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101), which also takes sparse gradients of rows.

    The result is that of dense gradients: a row that no step has read yet has no moments, so that only weight decay
    changes it; all others take every step. `state[table]["rows"]` says which those are.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self._places: dict[Tensor, Tensor] = {}  # of a table's rows among those with moments, -1 for none

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        tables: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse and not updates_rows(parameter):
                    parameter.grad = parameter.grad.to_dense()
                if parameter.grad is not None and parameter.grad.is_sparse:
                    tables.append((parameter, parameter.grad))
                    self._step_rows(group, parameter, parameter.grad.coalesce())
                    parameter.grad = None
                elif parameter.grad is not None and "rows" in self.state.get(parameter, ()):
                    self._forget(parameter)
        super().step()
        for parameter, gradient in tables:
            parameter.grad = gradient
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        self._places.clear()

    def _forget(self, table: Tensor) -> None:
        """All rows may have moments from now on."""
        self._places.pop(table, None)
        self.state[table].pop("rows", None)

    def _step_rows(self, group: dict[str, Any], table: Tensor, gradient: Tensor) -> None:
        """One step of a table (rows, width)."""
        state = self.state[table]
        if "exp_avg" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        if group["weight_decay"]:
            table.mul_(1 - group["lr"] * group["weight_decay"])
        read = gradient.indices()[0]
        rows = self._rows(table, state, read)
        changes = torch.zeros(len(rows), table.shape[1], dtype=table.dtype)
        changes.index_copy_(0, self._places[table][read], gradient.values())
        state["step"] += 1
        moments = state["exp_avg"], state["exp_avg_sq"]
        backend(table.detach()).adam_rows(table, *moments, changes, rows, float(state["step"]), group)

    def _rows(self, table: Tensor, state: dict[str, Tensor], read: Tensor) -> Tensor:
        """Rows that have moments or get some now, in ascending order; `_places` says where each is among them."""
        places = self._places.get(table)
        if places is not None and bool((places[read] >= 0).all()):
            return state["rows"]
        if places is None:  # a first step, or one after a checkpoint
            moved = (state["exp_avg"] != 0).any(1) | (state["exp_avg_sq"] != 0).any(1)
            moved[state.get("rows", read).long()] = True
            places = self._places[table] = torch.empty(len(table), dtype=torch.long)
        else:
            moved = places >= 0
        moved[read] = True
        rows = state["rows"] = moved.nonzero().flatten()
        places.fill_(-1)
        places[rows] = torch.arange(len(rows))
        return rows
