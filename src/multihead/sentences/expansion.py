"""Expansion of queries by mask tokens (ColBERT, Khattab and Zaharia, 2020, arXiv:2004.12832)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedConfig
from ..kernels.ragged import AttentionMask
from ..kernels.torch.attention import attend
from ..modeling.pretrained import PreTrainedModel
from ..modeling.unpack_outputs import PackedOutput, pack_token_lists
from ..nn.forward_context import ForwardContext
from ..nn.ragged import positions_in_sequences


@dataclass(frozen=True)
class QueryExpansion:
    """Tokens that fill up a query to `length`.

    Args:
        strategy: `fixed` also cuts longer queries, `min` leaves them. attend: whether the query's tokens see them.
        token: the token; None for the mask token, or the end token where there is none.
    """

    length: int
    strategy: str = "fixed"
    attend: bool = False
    token: str | None = None

    @classmethod
    def read(cls, entries: Any, where: str) -> QueryExpansion | None:
        """Return the expansion that a config describes. Raises UnsupportedConfig."""
        if entries is None:
            return None
        if not isinstance(entries, Mapping) or set(entries) - {"strategy", "attend", "token", "length"}:
            raise UnsupportedConfig(f"{where}: query_expansion is {entries!r}, which is not known here.")
        found = cls(**{"length": 0, **entries})
        kinds = [isinstance(found.attend, bool), found.token is None or isinstance(found.token, str)]
        if not all(kinds) or found.strategy not in ("fixed", "min") or type(found.length) is not int:
            raise UnsupportedConfig(f"{where}: query_expansion is {entries!r}, which is not computed here.")
        if found.length < 1:
            raise UnsupportedConfig(f"{where}: query_expansion needs a length from 1.")
        return found

    def entries(self) -> dict[str, Any]:
        return asdict(self)


def run_expanded(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], lengths: Sequence[int], types: Any = None
) -> PackedOutput:
    """Run a forward pass in which no token sees those past the first `lengths` of its text.

    The others see these, so that the result has states of both.

    Raises:
        UnsupportedConfig: a layer of the model looks at its neighbours without attention.
    """
    ids, runs = pack_token_lists(texts, model.device)
    segments = None if types is None else pack_token_lists(types, model.device)[0]
    seen = 0

    def attend_to_words(
        q: Tensor, k: Tensor, v: Tensor, attention_mask: AttentionMask, *, bias: Any = None, **options: Any
    ) -> Tensor:
        nonlocal seen
        seen += 1
        lowest = torch.finfo(q.dtype).min / 4  # a bias is added to it

        def closed(text: int) -> Tensor:
            keys = torch.arange(attention_mask.keys.lengths[text], device=q.device)
            hidden = torch.zeros(len(keys), device=q.device, dtype=q.dtype).masked_fill(keys >= lengths[text], lowest)
            return hidden.expand(1, 1, -1) if bias is None else bias(text) + hidden

        return attend(q, k, v, attention_mask, bias=closed, **options)

    context = ForwardContext(
        positions_in_sequences(runs, model.device), runs, segments=segments, ids=ids, attend=attend_to_words
    )
    hidden = model.backbone(model.backbone.embed.look_up(ids), context)
    if seen != model.config.num_hidden_layers:
        raise UnsupportedConfig(
            f"{type(model).__name__} has layers without attention, which see the tokens that expand a query; "
            "query_expansion with attend=False is not computed for them."
        )
    return PackedOutput(hidden, None, runs)
