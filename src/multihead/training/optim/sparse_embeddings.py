"""Sparse embedding updates: gradients and Adam steps touch only the rows used in the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.ops import backend
from ...nn.own_names import own_parameters

MIN_ROWS = 4096  # smallest embedding table for which sparse updates are faster


@contextmanager
def sparse_gradients(model: nn.Module) -> Iterator[None]:
    """Give large embedding tables that are not tied to other layers sparse gradients inside the block.

    Tables that the C++ kernels do not support are left out: torch's operations update some rows no faster than all.
    """
    uses = Counter(id(p) for _, p in own_parameters(model, remove_duplicate=False))
    tables = [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and updates_rows(module.weight)
        and not module.sparse
        and module.num_embeddings >= MIN_ROWS
        and uses[id(module.weight)] == 1
    ]
    for module in tables:
        module.sparse = True
    try:
        yield
    finally:
        for module in tables:
            module.sparse = False


def updates_rows(table: Tensor) -> bool:
    """Return whether steps of some rows of a table are faster than those of all."""
    return backend(table.detach()).updates_rows(table)


class AdamW(torch.optim.AdamW):
    """torch's AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101), which also takes sparse gradients of rows.

    The result equals that of dense gradients. A row that no step has used yet has no moments, so only weight decay
    changes it; every other row is updated in every step. `state[table]["rows"]` lists the rows with moments.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self._slots: dict[Tensor, Tensor] = {}  # table -> index of each row in `state["rows"]`, -1 without moments

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
                    self._make_dense(parameter)
        super().step()
        for parameter, gradient in tables:
            parameter.grad = gradient
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        self._slots.clear()

    def _make_dense(self, table: Tensor) -> None:
        """Treat all rows of a table as rows with moments from now on."""
        self._slots.pop(table, None)
        self.state[table].pop("rows", None)

    def _step_rows(self, group: dict[str, Any], table: Tensor, gradient: Tensor) -> None:
        """Update a table (rows, width) from a sparse gradient."""
        state = self.state[table]
        if "exp_avg" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        if group["weight_decay"]:
            table.mul_(1 - group["lr"] * group["weight_decay"])
        used = gradient.indices()[0]
        rows = self._rows(table, state, used)
        changes = torch.zeros(len(rows), table.shape[1], dtype=table.dtype)
        changes.index_copy_(0, self._slots[table][used], gradient.values())
        state["step"] += 1
        moments = state["exp_avg"], state["exp_avg_sq"]
        backend(table.detach()).adam_rows(table, *moments, changes, rows, float(state["step"]), group)

    def _rows(self, table: Tensor, state: dict[str, Tensor], used: Tensor) -> Tensor:
        """Return the rows with moments, including the rows `used` now, ascending; updates `_slots`."""
        slots = self._slots.get(table)
        if slots is not None and bool((slots[used] >= 0).all()):
            return state["rows"]
        if slots is None:  # the first step, or the first after a checkpoint was loaded
            moved = (state["exp_avg"] != 0).any(1) | (state["exp_avg_sq"] != 0).any(1)
            moved[state.get("rows", used).long()] = True
            slots = self._slots[table] = torch.empty(len(table), dtype=torch.long)
        else:
            moved = slots >= 0
        moved[used] = True
        rows = state["rows"] = moved.nonzero().flatten()
        slots.fill_(-1)
        slots[rows] = torch.arange(len(rows))
        return rows
