"""`multihead attention MODEL TEXT`: attention weights as a page and as a picture."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from ...consoles import screen
from ...errors import InvalidInput
from ...files import check_target, model_files, replace_file, write_text
from ...pages import STYLE, Html, fill_template, script_json
from ..completion import complete_model

if TYPE_CHECKING:
    from ...modeling.attention_maps import Maps

TEMPLATE = Path(__file__).with_name("attention.html")


@click.command(name="attention")
@click.argument("model", shell_complete=complete_model)
@click.argument("text")
@click.option("--target", help="For encoder-decoders: a target text, whose attention to TEXT is drawn.")
@click.option("--html", "page", type=click.Path(path_type=Path), default=Path("attention.html"), show_default=True,
              help="Writes the page to this file. It needs no network.")  # fmt: skip
@click.option("--png", "picture", type=click.Path(path_type=Path), help="Draws every layer and head to this file.")
@click.option("--layer", type=int, help="With --head: draws one layer and head only, counted from 0.")
@click.option("--head", type=int, help="With --layer: the head to draw.")
def command(model: str, text: str, target: str | None, page: Path, picture: Path | None, layer: int | None,
            head: int | None) -> None:  # fmt: skip
    """Draws the attention of every layer and head for TEXT.

    The page shows all heads small, and one large with its tokens. Point at a cell to read it; move with the arrow keys.

    \b
    Examples:
      multihead attention ./checkpoint "The animal didn't cross the street because it was too tired."
      multihead attention ./checkpoint "The cat sat." --png maps.png
      multihead attention ./checkpoint "The cat sat." --png one.png --layer 4 --head 2
      multihead attention ./translator "The cat sat." --target "O gato sentou-se." --html cross.html
    """
    if (layer is None) != (head is None):
        raise InvalidInput("Name both --layer and --head, or neither.")
    console = screen()
    for path, option in ((page, "--html"), (picture, "--png")):
        if path is not None:
            check_target(path, option, model_files(model))
    maps = compute_maps(model, text, target)
    write_text(page, html_page(maps, text))
    sizes = f"{maps.weights.shape[0]} layers, {maps.weights.shape[1]} heads, {len(maps.queries)} tokens"
    console.print(Text.assemble(f"{page}  ", (sizes, "dim")))
    if picture is not None:
        from .plot import draw_all, draw_head

        if layer is not None and head is not None:
            if not (0 <= layer < maps.weights.shape[0] and 0 <= head < maps.weights.shape[1]):
                raise InvalidInput(f"There are layers 0 to {maps.weights.shape[0] - 1} and heads 0 to "
                                   f"{maps.weights.shape[1] - 1}.")  # fmt: skip
            image = draw_head(maps, layer, head)
        else:
            image = draw_all(maps)
        try:
            with replace_file(picture) as new:
                image.save(new)
        except ValueError as error:
            raise InvalidInput(f"--png {picture} must end in .png or another image format: {error}.") from error
        console.print(str(picture))


def compute_maps(name: str, text: str, target: str | None) -> Maps:
    """Return the attention of a text. Raises InvalidInput for a model without attention or a text that is too long."""
    from ...hub import Want, resolve
    from ...modeling.attention_maps import attention_maps
    from ...modeling.auto import AutoConfig, AutoTokenizer
    from ...modeling.checkpoint_class import best_class
    from ...modeling.loading import load_model

    config = AutoConfig.from_pretrained(name)
    model = load_model(name, best_class(config, resolve(name, (Want.CONFIG,))), attn_implementation="eager")
    target = target if config.is_encoder_decoder else None
    found = attention_maps(model, AutoTokenizer.from_pretrained(name), name, text, target)
    side = "self-attention" if not config.is_encoder_decoder else "encoder" if target is None else "decoder to encoder"
    if side not in found:
        raise InvalidInput(f"{name} has no attention to draw.")
    return found[side]


def html_page(maps: Maps, text: str) -> str:
    """Return the page, with the weights as bytes: 255 is the largest weight of its head."""
    peaks = maps.weights.amax((2, 3)).clamp_min(1e-9)
    cells = (maps.weights / peaks[..., None, None] * 255).round().byte()
    layers, heads = cells.shape[:2]
    data = {
        "model": maps.model, "side": maps.side, "layers": layers, "heads": heads, "queries": maps.queries,
        "keys": maps.keys, "peaks": [[round(p, 4) for p in row] for row in peaks.tolist()],
        "cells": base64.b64encode(cells.numpy().tobytes()).decode(),
    }  # fmt: skip
    return fill_template(
        TEMPLATE.read_text(encoding="utf-8"), style=Html(STYLE), title=f"{maps.model}: {text[:60]}", text=text,
        data=script_json(data),
    )  # fmt: skip
