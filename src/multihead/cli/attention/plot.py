"""Attention maps as a picture, by Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import InvalidInput

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .command import Maps

TILE, GAP, EDGE = 96, 8, 54  # pixels of a small map, between two, and around all
PAPER, INK = (255, 255, 255), (40, 44, 52)
HIGH = (11, 61, 145)


def pillow() -> Any:
    """The library. Raises InvalidInput where it is not installed."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise InvalidInput(
            "A picture needs Pillow: python -m pip install pillow. The page (--html) needs nothing."
        ) from error
    return Image, ImageDraw, ImageFont


def coloured(weights: Tensor) -> Image:
    """A map (queries, keys), white where nothing is seen; its largest weight is the darkest."""
    image, _, _ = pillow()
    import torch

    share = (weights / weights.max().clamp_min(1e-9)).sqrt()[..., None]  # so that small weights are seen
    low, high = torch.tensor(PAPER).float(), torch.tensor(HIGH).float()
    return image.fromarray((low + share * (high - low)).round().byte().numpy())


def overview(maps: Maps) -> Image:
    """A row a layer, a column a head."""
    image, draw, font = pillow()
    layers, heads = maps.weights.shape[:2]
    size = (EDGE + heads * (TILE + GAP) + GAP, 2 * EDGE + layers * (TILE + GAP))
    canvas = image.new("RGB", size, PAPER)
    pen, letters = draw.Draw(canvas), font.load_default(14)
    pen.text(
        (EDGE, 8),
        f"{maps.model.rsplit('/', 1)[-1]}: {maps.side}, {len(maps.queries)} tokens",
        INK,
        font.load_default(16),
    )
    for head in range(heads):
        pen.text((EDGE + head * (TILE + GAP) + TILE // 2, EDGE - 16), f"head {head}", INK, letters, anchor="mm")
    for layer in range(layers):
        top = EDGE + layer * (TILE + GAP)
        pen.text((EDGE // 2, top + TILE // 2), f"L{layer}", INK, letters, anchor="mm")
        for head in range(heads):
            tile = coloured(maps.weights[layer, head]).resize((TILE, TILE), image.Resampling.BOX if max(
                maps.weights.shape[2:]) > TILE else image.Resampling.NEAREST)  # fmt: skip
            left = EDGE + head * (TILE + GAP)
            canvas.paste(tile, (left, top))
            pen.rectangle((left - 1, top - 1, left + TILE, top + TILE), outline=(205, 210, 218))
    return canvas


def one(maps: Maps, layer: int, head: int) -> Image:
    """One map with its tokens, queries down and keys across."""
    image, draw, font = pillow()
    cell = max(12, min(34, 1100 // max(len(maps.keys), 1)))
    letters = font.load_default(min(cell - 2, 15))
    widest = round(max((letters.getlength(token) for token in [*maps.keys, *maps.queries]), default=0)) + 14
    canvas = image.new("RGB", (widest + cell * len(maps.keys) + 20, widest + cell * len(maps.queries) + 50), PAPER)
    pen, top = draw.Draw(canvas), widest + 34
    pen.text((8, 8), f"{maps.model.rsplit('/', 1)[-1]}: layer {layer}, head {head}", INK, font.load_default(16))
    for place, token in enumerate(maps.queries):
        pen.text((widest - 6, top + place * cell + cell // 2), token, INK, letters, anchor="rm")
    for place, token in enumerate(maps.keys):
        label = image.new("RGB", (widest, cell), PAPER)
        draw.Draw(label).text((6, cell // 2), token, INK, letters, anchor="lm")
        canvas.paste(label.rotate(90, expand=True), (widest + place * cell, 34))
    size = (cell * len(maps.keys), cell * len(maps.queries))
    canvas.paste(coloured(maps.weights[layer, head]).resize(size, image.Resampling.NEAREST), (widest, top))
    pen.rectangle((widest - 1, top - 1, widest + size[0], top + size[1]), outline=(205, 210, 218))
    return canvas
