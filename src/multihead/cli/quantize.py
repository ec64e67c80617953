"""`multihead quantize MODEL TARGET`: a checkpoint in a quantized format of the field, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ..checkpoints.gguf_mixes import OTHER_NAMES
from ..checkpoints.gguf_mixes import WRITTEN as GGUF
from ..checkpoints.quantized.writers.registry import WRITTEN
from ..consoles import progress, screen
from ..errors import InvalidInput, UnsupportedOption
from ..files import same_file
from .completion import complete_model
from .models import size

if TYPE_CHECKING:
    from ..quantization.report import QuantizationReport

LAYERS = 12  # shown in full
UNWEIGHED = ("F32", "F16", "BF16", "Q8_0")  # types whose codes importances do not change


@click.command(name="quantize")
@click.argument("model", shell_complete=complete_model)
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--format", "kind", default="int4", show_default=True,
    help=f"{', '.join(WRITTEN)}: a folder. gguf:TYPE: a file, TYPE being {', '.join(GGUF)}.",
)  # fmt: skip
@click.option("--calibration", type=click.Path(path_type=Path), metavar="FILE",
              help="Texts whose activations decide how weights are rounded; for GGUF also an imatrix.")  # fmt: skip
@click.option("--samples", default=128, show_default=True, type=click.IntRange(min=1), help="Windows of these texts.")
@click.option("--length", default=512, show_default=True, type=click.IntRange(min=8), help="Tokens of a window.")
@click.option("--evaluate", type=click.Path(path_type=Path), metavar="FILE",
              help="Held-out texts for the perplexity before and after.")  # fmt: skip
@click.option("--evaluate-windows", type=click.IntRange(min=1), help="Windows of these. Default: all.")
@click.option("--bits", type=int, help="Bits of a code. Default: the format's.")
@click.option("--group-size", type=int, help="Inputs that share a scale; -1 for a row. Default: the format's.")
@click.option("--symmetric/--asymmetric", default=None, help="Codes without or with zeros. Default: the format's.")
@click.option("--act-order", is_flag=True, help="Rounds inputs with large activations first.")
@click.option("--exclude", multiple=True, metavar="PATTERN",
              help="Leaves matrices as they are in whose name this regular expression is found.")  # fmt: skip
@click.option(
    "--dtype", default="auto", show_default=True, type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    help="Dtype of what stays.",
)  # fmt: skip
@click.option("--max-shard-size", default="5GB", show_default=True, help="Largest size of a safetensors file.")
@click.option("--overwrite", is_flag=True, help="Writes into a folder that exists already.")
@click.option("--json", "as_json", is_flag=True, help="Prints the report as JSON.")
def command(model: str, target: Path, kind: str, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Writes MODEL to TARGET, quantized, with a report of errors, sizes and perplexity.

    MODEL is what `multihead run` takes, in numbers or in another quantized format. The matrices of the layers are
    quantized; embeddings, head, norms and routers stay. TARGET is a folder that Transformers and vLLM read, with a
    model card and quantization_report.json; or a name that ends with .gguf.

    \b
    Examples:
      multihead quantize org/name ./int4 --calibration texts.txt --evaluate held-out.txt
      multihead quantize ./folder ./nf4 --format nf4
      multihead quantize ./folder model.gguf --format gguf:Q4_K_M
    """
    if target.exists() and not overwrite and (target.is_file() or any(target.iterdir())):
        raise InvalidInput(f"{target} exists already. Choose another name or pass --overwrite.")
    if same_file(Path(model), target):
        raise InvalidInput(f"{target} is the checkpoint that is read. Name another target.")
    if kind.startswith("gguf:"):
        write_gguf(model, target, kind.removeprefix("gguf:"), options)
        return
    from ..quantization.quantize import quantize

    log = screen(stderr=True)
    with progress(log, transient=True) as bar:
        task = bar.add_task("Quantizing", total=None)
        report = quantize(
            model, target, kind, **options,
            progress=lambda done, count: bar.update(task, completed=done, total=count),
        )  # fmt: skip
    if as_json:
        print(json.dumps(report.to_dict()))
    else:
        draw(screen(), report, target)


def write_gguf(model: str, target: Path, kind: str, options: dict[str, Any]) -> None:
    """Write a GGUF file of a type. Raises UnsupportedOption for another type, or options that the file lacks."""
    from ..modeling.gguf_export import save_gguf
    from ..quantization.importances import importances
    from .convert import ModelAndTokenizer, load

    names = {name.lower(): name for name in (*GGUF, *OTHER_NAMES)}
    if kind.lower() not in names:
        raise UnsupportedOption(f"GGUF type {kind!r} is none of {', '.join(GGUF)}.")
    default = {"samples": 128, "length": 512, "dtype": "auto", "max_shard_size": "5GB", "act_order": False}
    calibration, own = options["calibration"], {name: options[name] for name in ("samples", "length")}
    asked = {k: v for k, v in options.items() if calibration is None or k not in ("calibration", *own)}
    wrong = [name for name, value in asked.items() if value != default.get(name) and value not in (None, ())]
    if wrong:
        raise UnsupportedOption(f"--{wrong[0].replace('_', '-')} has no meaning for a GGUF file, whose type says all.")
    if target.suffix != ".gguf":
        raise InvalidInput(f"{target} does not end with .gguf, as the name of a GGUF file does.")
    if calibration is not None and names[kind.lower()] in UNWEIGHED:
        raise UnsupportedOption(f"--calibration changes nothing in {kind}, which rounds each weight alone.")
    checkpoint = load(model, "auto")
    if not isinstance(checkpoint, ModelAndTokenizer):
        raise UnsupportedOption(f"{model} has modules after its transformer, which a GGUF file would lose.")
    found = None
    if calibration is not None:
        found = importances(checkpoint.model, checkpoint.tokenizer, calibration, **own)
    save_gguf(checkpoint.model, checkpoint.tokenizer, target, names[kind.lower()], found)
    screen().print(f"{size(target.stat().st_size):>10}  {target}")


def draw(console: Console, report: QuantizationReport, target: Path) -> None:
    """Print the report as tables."""
    console.print(f"{len(report.matrices)} matrices in {report.description}", style="green")
    console.print(layer_table(report))
    table = Table(show_header=True, header_style="bold", border_style="cyan")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("weights", size(report.bytes_before), size(report.bytes_after))
    before = report.bytes_before * 8 / max(1, report.parameters)
    table.add_row("bits a parameter", f"{before:.2f}", f"{report.bits_per_parameter:.2f}")
    found = report.comparison
    if found is not None:
        if found.perplexity_before is not None and found.perplexity_after is not None:
            name = f"perplexity ({found.kind}, {found.tokens:,} tokens)"
            table.add_row(name, f"{found.perplexity_before:.4g}", f"{found.perplexity_after:.4g}")
        if found.divergence is not None:
            table.add_row("KL divergence, nats a token", "", f"{found.divergence:.4g}")
        if found.same_top is not None:
            table.add_row("same likeliest word", "", f"{found.same_top:.1%}")
        table.add_row("relative error of the last states", "", f"{found.states_error:.4g}")
    console.print(table)
    console.print(f"{target}", style="dim")


def layer_table(report: QuantizationReport) -> Table:
    """Return errors and bits of layers; of many, the first and last ones."""
    table = Table(title=f"relative error of {report.error_of}", title_justify="left", header_style="bold",
                  border_style="cyan")  # fmt: skip
    for column in ("layer", "matrices", "bits a weight", "error", "largest", "of"):
        table.add_column(column, justify="left" if column in ("layer", "of") else "right")
    rows = list(report.layers())
    for number, row in enumerate(rows):
        if len(rows) > LAYERS and LAYERS // 2 <= number < len(rows) - LAYERS // 2:
            if number == LAYERS // 2:
                table.add_row(f"{len(rows) - LAYERS} more", "", "", "", "", "")
            continue
        worst, error = row.worst
        table.add_row(row.layer.removeprefix("backbone."), str(row.matrices), f"{row.bits:.2f}", f"{row.error:.4f}",
                      f"{error:.4f}", worst.removesuffix(".weight"))  # fmt: skip
    return table
