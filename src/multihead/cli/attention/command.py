"""`multihead attention MODEL TEXT`: attention weights as a page and as a picture."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from ...consoles import screen
from ...errors import InvalidInput, ScoresNotFinite
from ...files import check_target, model_files, replace_file, write_text
from ...pages import STYLE, Html, fill_template, script_json
from ..completion import complete_model

if TYPE_CHECKING:
    from .maps import Maps

MAX_TOKENS = 512  # of a map: the cells of a larger one are too small to see
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
    if not bool(maps.weights.isfinite().all()):
        raise ScoresNotFinite(f"{model} computed attention that is not a number. Its weights are damaged.")
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
    import torch

    from ...hub import Want, resolve
    from ...modeling.auto import AutoConfig, AutoTokenizer
    from ...modeling.loading import load_model
    from ..checkpoint_class import best_class

    config = AutoConfig.from_pretrained(name)
    model = load_model(name, best_class(config, resolve(name, (Want.CONFIG,))), attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(name)
    inputs: dict[str, Any] = dict(tokenizer(text, return_tensors="pt"))
    if not config.is_encoder_decoder:
        inputs = {k: v for k, v in inputs.items() if k != "token_type_ids" or model.backbone.typed}
    elif target is not None:
        inputs["labels"] = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
    else:
        inputs["decoder_input_ids"] = torch.tensor([[config.decoder_start_token_id or 0]])
    sources = inputs["input_ids"].shape[1]
    if max(sources, inputs["labels"].shape[1] if "labels" in inputs else 0) > MAX_TOKENS:
        raise InvalidInput(f"The text has {sources} tokens; up to {MAX_TOKENS} can be drawn.")
    with torch.inference_mode():
        out = model(**inputs, output_attentions=True)
    source = token_texts(tokenizer, inputs["input_ids"][0].tolist())
    if config.is_encoder_decoder and target is not None:
        target_tokens = token_texts(tokenizer.target or tokenizer, inputs["labels"][0].tolist())
        return stack_maps(name, "decoder to encoder", out.cross_attentions, target_tokens, source)
    side = "encoder" if config.is_encoder_decoder else "self-attention"
    return stack_maps(
        name, side, out.encoder_attentions if config.is_encoder_decoder else out.attentions, source, source
    )


def stack_maps(name: str, side: str, attentions: Any, queries: list[str], keys: list[str]) -> Maps:
    """Return the attention of all layers. Raises InvalidInput if no layer has attention."""
    import torch

    from .maps import Maps

    layers = [x[0].float() for x in attentions or () if x is not None]
    if not layers:
        raise InvalidInput(f"{name} has no attention to draw.")
    return Maps(name, side, torch.stack(layers), queries, keys)


def token_texts(tokenizer: Any, ids: list[int]) -> list[str]:
    """Return readable texts of tokens: ␣ for a space, no byte-level letters."""
    words = []
    for i, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        text = token.replace("▁", "␣").replace("Ġ", "␣").replace("Ċ", "⏎")
        plain = tokenizer.decode([i])
        words.append(text if text.isascii() or "�" in plain or not plain.strip() else plain)
    return words


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
