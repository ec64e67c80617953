"""`multihead attention MODEL TEXT`: who attends to whom, as a page and as a picture."""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from ...consoles import screen
from ...errors import InvalidInput, ScoresNotFinite
from ...files import check_target, held, replacing, write_text
from ..completion import complete_model

if TYPE_CHECKING:
    from torch import Tensor

MOST = 512  # tokens of a map: more cannot be told apart
TEMPLATE = Path(__file__).with_name("attention.html")


@dataclass(frozen=True)
class Maps:
    """Attention of one text: (layers, heads, queries, keys), each row a distribution."""

    model: str
    side: str
    weights: Tensor
    queries: list[str]
    keys: list[str]


@click.command(name="attention")
@click.argument("model", shell_complete=complete_model)
@click.argument("text")
@click.option("--target", help="Of an encoder-decoder: what is written, whose attention to TEXT is drawn.")
@click.option("--html", "page", type=click.Path(path_type=Path), default=Path("attention.html"), show_default=True,
              help="The page: one file, which needs no network.")  # fmt: skip
@click.option("--png", "picture", type=click.Path(path_type=Path), help="A picture of every layer and head.")
@click.option("--layer", type=int, help="With --head: a picture of this one alone, counted from 0.")
@click.option("--head", type=int, help="With --layer.")
def command(model: str, text: str, target: str | None, page: Path, picture: Path | None, layer: int | None,
            head: int | None) -> None:  # fmt: skip
    """Draws the attention of every layer and head while MODEL reads TEXT.

    The page shows all of them small, and one large with its tokens; point at a cell to read it, move with the arrow
    keys.

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
            check_target(path, option, held(model))
    maps = computed(model, text, target)
    if not bool(maps.weights.isfinite().all()):
        raise ScoresNotFinite(f"{model} computed attention that is not a number. Its weights are damaged.")
    write_text(page, drawn(maps, text))
    sizes = f"{maps.weights.shape[0]} layers, {maps.weights.shape[1]} heads, {len(maps.queries)} tokens"
    console.print(Text.assemble(f"{page}  ", (sizes, "dim")))
    if picture is not None:
        from .plot import one, overview

        if layer is not None and head is not None:
            if not (0 <= layer < maps.weights.shape[0] and 0 <= head < maps.weights.shape[1]):
                raise InvalidInput(f"There are layers 0 to {maps.weights.shape[0] - 1} and heads 0 to "
                                   f"{maps.weights.shape[1] - 1}.")  # fmt: skip
            drawing = one(maps, layer, head)
        else:
            drawing = overview(maps)
        try:
            with replacing(picture) as new:
                drawing.save(new)
        except ValueError as error:
            raise InvalidInput(f"--png {picture} must end in .png, or as another kind of picture: {error}.") from error
        console.print(str(picture))


def computed(name: str, text: str, target: str | None) -> Maps:
    """The maps of a text. Raises InvalidInput for a model without attention, or a text of too many tokens."""
    import torch

    from ...hub import Want, resolve
    from ...modeling.auto import AutoConfig, AutoTokenizer
    from ...modeling.loading import load_model
    from ..inspect_checkpoint import best_class

    config = AutoConfig.from_pretrained(name)
    model = load_model(name, best_class(config, resolve(name, (Want.CONFIG,))), attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(name)
    given: dict[str, Any] = dict(tokenizer(text, return_tensors="pt"))
    if not config.is_encoder_decoder:
        given = {k: v for k, v in given.items() if k != "token_type_ids" or model.backbone.typed}
    elif target is not None:
        given["labels"] = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
    else:
        given["decoder_input_ids"] = torch.tensor([[config.decoder_start_token_id or 0]])
    sources = given["input_ids"].shape[1]
    if max(sources, given["labels"].shape[1] if "labels" in given else 0) > MOST:
        raise InvalidInput(f"The text has {sources} tokens; up to {MOST} can be drawn.")
    with torch.inference_mode():
        out = model(**given, output_attentions=True)
    words = shown(tokenizer, given["input_ids"][0].tolist())
    if config.is_encoder_decoder and target is not None:
        written = shown(tokenizer.target or tokenizer, given["labels"][0].tolist())
        return maps(name, "decoder to encoder", out.cross_attentions, written, words)
    side = "encoder" if config.is_encoder_decoder else "self-attention"
    return maps(name, side, out.encoder_attentions if config.is_encoder_decoder else out.attentions, words, words)


def maps(name: str, side: str, found: Any, queries: list[str], keys: list[str]) -> Maps:
    """Raises InvalidInput where no layer attends."""
    import torch

    layers = [x[0].float() for x in found or () if x is not None]
    if not layers:
        raise InvalidInput(f"{name} has no attention to draw.")
    return Maps(name, side, torch.stack(layers), queries, keys)


def shown(tokenizer: Any, ids: list[int]) -> list[str]:
    """Tokens as people read them: a mark for a space, no byte-level letters."""
    words = []
    for i, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        text = token.replace("▁", "␣").replace("Ġ", "␣").replace("Ċ", "⏎")
        plain = tokenizer.decode([i])
        words.append(text if text.isascii() or "�" in plain or not plain.strip() else plain)
    return words


def drawn(found: Maps, text: str) -> str:
    """The page, with the maps inside as bytes: 255 is the largest weight of its map."""
    peaks = found.weights.amax((2, 3)).clamp_min(1e-9)
    cells = (found.weights / peaks[..., None, None] * 255).round().byte()
    layers, heads = cells.shape[:2]
    data = {
        "model": found.model, "side": found.side, "layers": layers, "heads": heads, "queries": found.queries,
        "keys": found.keys, "peaks": [[round(p, 4) for p in row] for row in peaks.tolist()],
        "cells": base64.b64encode(cells.numpy().tobytes()).decode(),
    }  # fmt: skip
    page = TEMPLATE.read_text(encoding="utf-8")
    escaped = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    title = html.escape(f"{found.model}: {text[:60]}")
    return page.replace("{{title}}", title).replace("{{text}}", html.escape(text)).replace("{{data}}", escaped)
