"""/inspect/attention: attention weights of a text, one head at a time."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....modeling.attention_maps import SIDES, Maps, attention_maps
from ....nn.inner_model import inner_model
from ....runtime.turns import turn
from ...body import Body, read_body
from ...errors import ApiError
from ...models.served_model import ServedModel
from ...routing import route
from ...state import state_of

MAX_TOKENS = 256  # of a text
SMALL = 32  # rows and columns of a small map at most
DIGITS = 4  # of a weight
KEPT = 96 << 20  # bytes of maps that are kept for the next head


class AttentionRequest(Body):
    """A text, and the layer and head to show.

    Args:
        target: for encoder-decoders: a text that the model might write from `text`. side: which attention; one of
            `sides` of the answer. layer: counted from 0. head: without it, small maps of all heads of the layer.
    """

    model: str | None = None
    text: str = Field(min_length=1, max_length=20_000)
    target: str | None = Field(None, min_length=1, max_length=20_000)
    side: str | None = None
    layer: int = Field(0, ge=0)
    head: int | None = Field(None, ge=0)


class MapCache:
    """Maps of the last texts, the oldest forgotten first, so that the next head needs no further pass."""

    def __init__(self, limit: int = KEPT) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, dict[str, Maps]] = OrderedDict()
        self._mutex = threading.Lock()

    def get(self, key: Hashable) -> dict[str, Maps] | None:
        with self._mutex:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, maps: dict[str, Maps]) -> None:
        with self._mutex:
            self._kept[key] = maps
            while len(self._kept) > 1 and sum(map(size_of, self._kept.values())) > self.limit:
                self._kept.popitem(last=False)


def size_of(maps: dict[str, Maps]) -> int:
    """Return the memory of maps in bytes."""
    return sum(layer.nbytes for each in maps.values() for layer in each.layers)


cache = MapCache()


async def attention(request: Request) -> Response:
    body = await read_body(request, AttentionRequest)
    model = await state_of(request).models.get(body.model)
    # callers with different keys share nothing
    key = (request.headers.get("authorization"), model.id, model.created, body.text, body.target)
    return JSONResponse(await asyncio.to_thread(answer, model, body, key))


def answer(model: ServedModel, body: AttentionRequest, key: Hashable) -> dict[str, Any]:
    """Return the response to a request. Raises ApiError, InvalidInput."""
    found = cache.get(key)
    if found is None:
        # a sentence encoder holds its model
        inner = inner_model(model.model)
        with turn():
            found = attention_maps(inner, model.tokenizer, model.id, body.text, body.target, MAX_TOKENS)
        cache.put(key, found)
    side = next(iter(found)) if body.side is None else body.side
    if side not in found:
        known = ", ".join(map(repr, found))
        missing = " Give a target text." if side in SIDES[2:] and body.target is None and "encoder" in found else ""
        raise ApiError(f"side: {model.id} has {known}, not {side!r:.40}.{missing}", param="side")
    maps = found[side]
    if body.layer >= len(maps.layers):
        raise ApiError(f"layer: there are layers 0 to {len(maps.layers) - 1}, not {body.layer}.", param="layer")
    layer = maps.layers[body.layer]
    if body.head is not None and body.head >= len(layer):
        raise ApiError(f"head: there are heads 0 to {len(layer) - 1}, not {body.head}.", param="head")
    out: dict[str, Any] = {
        "model": model.id, "side": side, "sides": list(found), "layers": len(maps.layers),
        "layer_numbers": list(maps.numbers), "heads": len(layer), "layer": body.layer, "queries": maps.queries,
        "keys": maps.keys,
    }  # fmt: skip
    if body.head is None:
        return {**out, "thumbnails": [thumbnail(head) for head in layer]}
    return {**out, "head": body.head, "weights": [[round(w, DIGITS) for w in row] for row in layer[body.head].tolist()]}


def thumbnail(head: Any) -> dict[str, Any]:
    """Return a small map: the largest weights of each area, as bytes in base64; 255 is the peak."""
    from torch.nn.functional import adaptive_max_pool2d

    rows, columns = (min(size, SMALL) for size in head.shape)
    small = adaptive_max_pool2d(head[None], (rows, columns))[0]
    peak = float(small.max())
    cells = (small / max(peak, 1e-9) * 255).round().byte()
    return {"rows": rows, "columns": columns, "peak": round(peak, DIGITS),
            "cells": base64.b64encode(cells.numpy().tobytes()).decode()}  # fmt: skip


ROUTES = [route("/inspect/attention", attention, bodies=[AttentionRequest])]
