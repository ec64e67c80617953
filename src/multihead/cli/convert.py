"""`multihead convert`: a checkpoint in another dtype, precision or file format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..checkpoints.gguf_mixes import WRITTEN
from ..checkpoints.quantized.writers.registry import WRITTEN as QUANTIZED_FORMATS
from ..consoles import screen
from ..errors import InvalidInput, UnsupportedOption
from ..files import check_target, model_files, same_file
from ..kernels.quantization.registry import PRECISIONS
from .completion import complete_model
from .models import size

if TYPE_CHECKING:
    from rich.console import Console

    from ..modeling.pretrained import PreTrainedModel
    from ..sentences.cross import CrossEncoder
    from ..sentences.encoder import SentenceEncoder
    from ..tokenizers.tokenizer import Tokenizer

GGUF_TYPES = {row.dtype or name.lower(): name for name, row in WRITTEN.items()}  # choice of --dtype -> type of GGUF
QUANTIZED = [name for name, kind in GGUF_TYPES.items() if not WRITTEN[kind].dtype]


@click.command(name="convert")
@click.argument("model", shell_complete=complete_model)
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(list(GGUF_TYPES), case_sensitive=False),
    help="Dtype of the weights; those that begin with q in GGUF only. Default: the checkpoint's.",
)
@click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    help="Writes weights prepared for inference on a CPU, which only multihead reads (docs/fast.md).",
)
@click.option(
    "--format", "kind", type=click.Choice(list(QUANTIZED_FORMATS)),
    help="Writes a checkpoint of quantized integers in another format, with the same codes (docs/quantization.md).",
)  # fmt: skip
@click.option("--max-shard-size", default="5GB", show_default=True, help="Largest size of a safetensors file.")
@click.option("--overwrite", is_flag=True, help="Writes into a folder that exists already.")
def command(
    model: str, target: Path, dtype: str | None, precision: str | None, kind: str | None, max_shard_size: str,
    overwrite: bool,
) -> None:  # fmt: skip
    """Writes MODEL (safetensors, PyTorch, GGUF, Marian) to TARGET.

    TARGET is a folder for safetensors with config and tokenizer, which Transformers reads too; or a name that ends with
    .gguf, for families that GGUF knows. An adapter is merged into its base model. A sentence encoder or reranker keeps
    its pooling and further modules.

    \b
    Examples:
      multihead convert org/name ./bf16 --dtype bfloat16
      multihead convert model.gguf ./folder
      multihead convert ./folder ./sharded --max-shard-size 500MB
      multihead convert ./folder model.gguf --dtype q4_k_m
      multihead convert org/name ./int8 --precision int8
      multihead convert org/name-gptq ./int4 --format int4
    """
    console = screen()
    if target.exists() and not overwrite and (target.is_file() or any(target.iterdir())):
        raise InvalidInput(f"{target} exists already. Choose another name or pass --overwrite.")
    if same_file(Path(model), target):
        raise InvalidInput(
            f"{target} is the checkpoint that is read, which writing would destroy. Name another target."
        )
    if target.suffix == ".gguf":
        check_target(target, "TARGET", model_files(model))
    if file := next((path for path in target.parents if path.is_file()), None):
        raise InvalidInput(f"{target} cannot be created, because {file} is a file. Choose another name.")
    if dtype in QUANTIZED and target.suffix != ".gguf":
        raise InvalidInput(f"{dtype} is a type of GGUF files. Give a target that ends with .gguf.")
    if precision and (dtype or target.suffix == ".gguf"):
        raise InvalidInput("--precision writes a folder of prepared weights: give a folder as TARGET, and no --dtype.")
    if kind is not None:
        if precision or dtype or target.suffix == ".gguf":
            raise InvalidInput("--format writes a folder of codes: give a folder as TARGET, no --dtype or --precision.")
        convert_quantized(console, model, target, kind, max_shard_size)
        return
    with console.status("Reading"):
        checkpoint = load(model, "auto" if dtype in (None, *QUANTIZED) else dtype, precision)
    name = precision or dtype or str(checkpoint.model.dtype).removeprefix("torch.")
    with console.status("Writing"):
        if target.suffix != ".gguf":
            checkpoint.save_pretrained(target, max_shard_size=max_shard_size)
        elif isinstance(checkpoint, ModelAndTokenizer):
            from ..modeling.gguf_export import save_gguf

            save_gguf(checkpoint.model, checkpoint.tokenizer, target, GGUF_TYPES[name])
        else:
            raise UnsupportedOption(
                f"{model} has modules.json, and a GGUF file would lose its modules after the transformer, such as "
                "pooling. Give a folder as the target."
            )
    files = [target] if target.is_file() else sorted(path for path in target.rglob("*") if path.is_file())
    for path in files:
        console.print(f"{size(path.stat().st_size):>10}  {path}")
    summary = f"{type(checkpoint.model).__name__}, {checkpoint.model.num_parameters():,} parameters in {name}"
    console.print(summary, style="dim")


def convert_quantized(console: Console, model: str, target: Path, kind: str, max_shard_size: str) -> None:
    """Write a checkpoint of quantized integers in another format, with its tokenizer."""
    from ..modeling.auto import AutoTokenizer
    from ..modeling.saving import shard_bytes
    from ..quantization.convert_codes import convert_codes

    with console.status("Writing"):
        count = convert_codes(model, target, kind, size=shard_bytes(max_shard_size))
        AutoTokenizer.from_pretrained(model).save_pretrained(target)
    console.print(f"{count} weights in {kind}, with the same codes", style="dim")


@dataclass(frozen=True)
class ModelAndTokenizer:
    """Model with its tokenizer, without further modules."""

    model: PreTrainedModel
    tokenizer: Tokenizer

    def save_pretrained(self, folder: Path, **options: Any) -> None:
        """Save both. `options` are those of a model's `save_pretrained`."""
        self.model.save_pretrained(folder, **options)
        self.tokenizer.save_pretrained(folder)


def load(
    name: str, dtype: str | None, precision: str | None = None
) -> ModelAndTokenizer | SentenceEncoder | CrossEncoder:
    """Load a checkpoint with the modules of modules.json, an adapter merged into its base model."""
    from ..hub import Want, resolve
    from ..modeling.auto import AutoConfig, AutoTokenizer
    from ..modeling.checkpoint_class import best_class
    from ..modeling.loading import load_model
    from ..sentences.cross import CrossEncoder
    from ..sentences.encoder import SentenceEncoder
    from ..sentences.folder import MODULES_FILE, SETTINGS_FILE, Settings

    root = resolve(name, (Want.CONFIG, Want.MODULES))
    if (root / MODULES_FILE).is_file():
        kind = Settings.read(root / SETTINGS_FILE).model_type
        return (CrossEncoder if kind == "CrossEncoder" else SentenceEncoder).from_pretrained(
            name, dtype=dtype, precision=precision
        )
    model = load_model(name, best_class(AutoConfig.from_pretrained(name), root), dtype=dtype, precision=precision)
    if model.adapters is not None:
        model.merge_adapters()
    return ModelAndTokenizer(model, AutoTokenizer.from_pretrained(name))
