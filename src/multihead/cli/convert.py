"""`multihead convert`: a checkpoint in another precision or other files."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from .completion import complete_model
from .models import size

KINDS = ("float32", "bfloat16", "float16", "q8_0")
IN_GGUF = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "q8_0": "Q8_0"}


@click.command(name="convert")
@click.argument("model", shell_complete=complete_model)
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--dtype", type=click.Choice(KINDS), help="Of the weights, q8_0 in GGUF only; the checkpoint's own when left out."
)
@click.option("--max-shard-size", default="5GB", show_default=True, help="Of a safetensors file.")
@click.option("--overwrite", is_flag=True, help="Writes into a folder that is there already.")
def command(model: str, target: Path, dtype: str | None, max_shard_size: str, overwrite: bool) -> None:
    """Writes MODEL (safetensors, PyTorch, GGUF, Marian) to TARGET.

    TARGET is a folder for safetensors with config and tokenizer, which the reference reads too; or a name that ends
    with .gguf, for families that GGUF knows.

    \b
    Examples:
      multihead convert org/name ./bf16 --dtype bfloat16
      multihead convert model.gguf ./folder
      multihead convert ./folder ./sharded --max-shard-size 500MB
      multihead convert ./folder model.gguf --dtype q8_0
    """
    from ..auto import AutoConfig, AutoTokenizer
    from ..errors import InvalidInput
    from ..loading import load_model
    from .inspecting import best_class

    console = Console(highlight=False)
    if target.exists() and not overwrite and (target.is_file() or any(target.iterdir())):
        raise InvalidInput(f"{target} is there already; choose another name or pass --overwrite.")
    if dtype == "q8_0" and target.suffix != ".gguf":
        raise InvalidInput("q8_0 is a kind of GGUF files: give a target that ends with .gguf.")
    with console.status("Reading"):
        config = AutoConfig.from_pretrained(model)
        loaded = load_model(model, best_class(config), dtype="auto" if dtype in (None, "q8_0") else dtype)
        tokenizer = AutoTokenizer.from_pretrained(model)
    with console.status("Writing"):
        if target.suffix == ".gguf":
            from ..gguf_export import save_gguf

            save_gguf(loaded, tokenizer, target, IN_GGUF[dtype or str(loaded.dtype).removeprefix("torch.")])
        else:
            loaded.save_pretrained(target, max_shard_size=max_shard_size)
            tokenizer.save_pretrained(target)
    files = [target] if target.is_file() else sorted(path for path in target.rglob("*") if path.is_file())
    for path in files:
        console.print(f"{size(path.stat().st_size):>10}  {path}")
    kind = dtype or str(loaded.dtype).removeprefix("torch.")
    console.print(f"[dim]{type(loaded).__name__}, {loaded.num_parameters():,} parameters in {kind}[/dim]")
