"""Attention weights as an image, by Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import InvalidInput

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ...modeling.attention_maps import Maps

TILE, GAP, EDGE = 96, 8, 54  # pixels of a small map, between two maps, and around all
WHITE, TEXT_COLOR = (255, 255, 255), (40, 44, 52)
FULL_COLOR = (11, 61, 145)  # of the largest weight


def import_pillow() -> Any:
    """Return Image, ImageDraw and ImageFont. Raises InvalidInput if Pillow is not installed."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise InvalidInput(
            "A picture needs Pillow: python -m pip install pillow. The page (--html) needs nothing."
        ) from error
    return Image, ImageDraw, ImageFont


def color_map(weights: Tensor) -> Image:
    """Return weights (queries, keys) as an image: 0 is white, the largest weight is the darkest."""
    image, _, _ = import_pillow()
    import torch

    share = (weights / weights.max().clamp_min(1e-9)).sqrt()[..., None]  # makes small weights visible
    low, high = torch.tensor(WHITE).float(), torch.tensor(FULL_COLOR).float()
    return image.fromarray((low + share * (high - low)).round().byte().numpy())


def draw_all(maps: Maps) -> Image:
    """Return all heads as one image: a row a layer, a column a head."""
    image, draw, font = import_pillow()
    layers, heads = maps.weights.shape[:2]
    size = (EDGE + heads * (TILE + GAP) + GAP, 2 * EDGE + layers * (TILE + GAP))
    canvas = image.new("RGB", size, WHITE)
    pen, letters = draw.Draw(canvas), font.load_default(14)
    pen.text(
        (EDGE, 8),
        f"{maps.model.rsplit('/', 1)[-1]}: {maps.side}, {len(maps.queries)} tokens",
        TEXT_COLOR,
        font.load_default(16),
    )
    for head in range(heads):
        pen.text((EDGE + head * (TILE + GAP) + TILE // 2, EDGE - 16), f"head {head}", TEXT_COLOR, letters, anchor="mm")
    for layer in range(layers):
        top = EDGE + layer * (TILE + GAP)
        pen.text((EDGE // 2, top + TILE // 2), f"L{layer}", TEXT_COLOR, letters, anchor="mm")
        for head in range(heads):
            tile = color_map(maps.weights[layer, head]).resize((TILE, TILE), image.Resampling.BOX if max(
                maps.weights.shape[2:]) > TILE else image.Resampling.NEAREST)  # fmt: skip
            left = EDGE + head * (TILE + GAP)
            canvas.paste(tile, (left, top))
            pen.rectangle((left - 1, top - 1, left + TILE, top + TILE), outline=(205, 210, 218))
    return canvas


def draw_head(maps: Maps, layer: int, head: int) -> Image:
    """Return one head with its tokens, queries down and keys across."""
    image, draw, font = import_pillow()
    cell = max(12, min(34, 1100 // max(len(maps.keys), 1)))
    letters = font.load_default(min(cell - 2, 15))
    widest = round(max((letters.getlength(token) for token in [*maps.keys, *maps.queries]), default=0)) + 14
    canvas = image.new("RGB", (widest + cell * len(maps.keys) + 20, widest + cell * len(maps.queries) + 50), WHITE)
    pen, top = draw.Draw(canvas), widest + 34
    pen.text((8, 8), f"{maps.model.rsplit('/', 1)[-1]}: layer {layer}, head {head}", TEXT_COLOR, font.load_default(16))
    for position, token in enumerate(maps.queries):
        pen.text((widest - 6, top + position * cell + cell // 2), token, TEXT_COLOR, letters, anchor="rm")
    for position, token in enumerate(maps.keys):
        label = image.new("RGB", (widest, cell), WHITE)
        draw.Draw(label).text((6, cell // 2), token, TEXT_COLOR, letters, anchor="lm")
        canvas.paste(label.rotate(90, expand=True), (widest + position * cell, 34))
    size = (cell * len(maps.keys), cell * len(maps.queries))
    canvas.paste(color_map(maps.weights[layer, head]).resize(size, image.Resampling.NEAREST), (widest, top))
    pen.rectangle((widest - 1, top - 1, widest + size[0], top + size[1]), outline=(205, 210, 218))
    return canvas
