"""`multihead train`: from a pretrained model and a file of rows to a folder that every command reads."""

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
from .config_file import PRECISION, PRECISIONS, TrainConfig, data_files

if TYPE_CHECKING:
    from ...training.trainer import Trainer

COMMAND_LINE = "multihead.train.command_line"  # key in a context's `meta`


class TrainCommand(click.Command):
    """Keeps its command line for the model card, and lists the tasks at the end of the help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[COMMAND_LINE] = list(args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Tasks, and what an evaluation measures in addition to the loss"):
            formatter.write_dl([(name, metrics_help(task)) for name, task in TRAINABLE.items()])


def metrics_help(task: TrainingTask) -> str:
    """Return the names of a task's metrics, with those that need generated text in brackets."""
    generated = f" (with predict_with_generate: {', '.join(task.text_metrics)})" if task.text_metrics else ""
    return ", ".join(task.metrics) + generated


def complete_task(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of tasks that can be trained."""
    return [task for task in TRAINABLE if task.startswith(incomplete)]


@click.command(name="train", cls=TrainCommand)
@click.argument("task", required=False, shell_complete=complete_task)
@click.option("--model", "-m", shell_complete=complete_model,
              help="The model to train: a folder, a hub name or pypi:NAME==VERSION/path.")  # fmt: skip
@click.option("--data", multiple=True, metavar="FILE",
              help="Rows to train on: .csv, .tsv, .jsonl, .json, .parquet, .txt. Repeat it for several files; "
              "COLUMN=FILE names text files with parallel lines.")  # fmt: skip
@click.option("--eval-data", multiple=True, metavar="FILE", help="Rows to evaluate on.")
@click.option(
    "--holdout", type=float, metavar="SHARE", help="Evaluates on this share of --data, which is not trained on."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="The folder for checkpoints, the model and its model card."
)
@click.option("--epochs", type=float, help="Passes over the data. Default: 3.")
@click.option("--steps", type=int, help="Optimizer steps, instead of --epochs.")
@click.option("--batch-size", type=int, help="Examples of a batch on each device. Default: 8.")
@click.option("--tokens-per-batch", type=int, help="Tokens of a batch at most, instead of --batch-size.")
@click.option("--accumulate", type=int, metavar="N", help="Batches of one optimizer step.")
@click.option("--lr", type=float, help="Peak learning rate. Default: 5e-5.")
@click.option("--schedule", help="Learning rate schedule: linear, cosine, constant, ...")
@click.option("--warmup", type=float, help="Warm-up steps; below 1, their share of all steps.")
@click.option("--weight-decay", type=float, help="Weight decay of the optimizer.")
@click.option("--max-length", type=int, help="Tokens of an example at most.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Default: auto, which is bf16 if this machine multiplies it natively, else float32.",
)
@click.option("--seed", type=int, help="Seed of all random numbers.")
@click.option(
    "--lora", "rank", type=int, metavar="RANK", help="Trains a LoRA adapter of this rank instead of all weights."
)
@click.option("--lora-set", multiple=True, metavar="NAME=VALUE", help="Sets any field of LoraConfig.")
@click.option("--load-in", type=click.Choice(["4bit", "8bit"]), help="Quantizes the frozen model under an adapter.")
@click.option("--eval-every", metavar="STEPS|epoch|no", help="When to evaluate. Default: each epoch.")
@click.option("--save-every", metavar="STEPS|epoch|no", help="When to write a checkpoint. Default: each epoch.")
@click.option("--keep", type=int, help="Number of checkpoints to keep. Default: 2.")
@click.option("--best", metavar="METRIC", help="Keeps the weights with the best loss, accuracy, f1, ...")
@click.option("--report-to", help="Logs to tensorboard, wandb or all.")
@click.option("--resume", is_flag=True, help="Continues from the newest complete checkpoint in --output.")
@click.option("--overwrite", is_flag=True, help="Removes the checkpoints of an earlier run in --output.")
@click.option("--dry-run", is_flag=True, help="Prints the plan and stops.")
@click.option(
    "--option", multiple=True, metavar="NAME=VALUE", help="Sets any option of the task: text_column, labels, ..."
)
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Sets any other field of TrainingArguments.")
@click.pass_context
def command(ctx: click.Context, /, task: str | None, model: str | None, data: tuple[str, ...],
            eval_data: tuple[str, ...], holdout: float | None, output: Path | None, rank: int | None,
            lora_set: tuple[str, ...], load_in: str | None, max_length: int | None, resume: bool, overwrite: bool,
            dry_run: bool, option: tuple[str, ...], more: tuple[str, ...], **settings: Any) -> None:  # fmt: skip
    """Trains a model for TASK, or by a YAML file.

    A file has the entries task, model, data, eval_data, holdout, output, options, lora and settings. Options of the
    command line replace its entries. After Ctrl-C, the same command with --resume continues exactly.

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
    entries = {"model": model, "data": data_files(data), "eval_data": data_files(eval_data), "holdout": holdout,
               "output": output, "lora_rank": rank}  # fmt: skip
    config = TrainConfig.of(task, entries, settings, {"option": options, "lora": lora_set, "set": more})
    train(config, ctx.meta[COMMAND_LINE], resume=resume, overwrite=overwrite, dry_run=dry_run)


def train(config: TrainConfig, words: Sequence[str], *, resume: bool, overwrite: bool, dry_run: bool) -> None:
    """Print the plan, train, save, and print the results. Raises what the Trainer raises."""
    first = os.environ.get("RANK", "0") == "0"
    console, log = (screen(stderr=stderr, quiet=not first) for stderr in (False, True))
    if not first:
        warnings.simplefilter("ignore")
    checkpoint = find_checkpoint(
        config.output, resume=resume, overwrite=overwrite and first, dry_run=dry_run or not first
    )
    check_output(config)
    with log.status("Reading the model and the data"):
        trainer = make_trainer(config)
        from .plan import example_command, plan_table, results_table

        if trainer.eval_dataset is not None:
            check_packages(trainer)
        plan = plan_table(trainer, config)
    console.print(plan)
    if resume:
        text = (
            f"Continuing from {checkpoint}."
            if checkpoint
            else f"{config.output} has no checkpoint; starting at step 0."
        )
        console.print(text, style="cyan", soft_wrap=True)
    if dry_run:
        return
    run(trainer, log, words, bool(checkpoint))
    folder = finish(trainer, words, resumed=bool(checkpoint))
    console.print(results_table(trainer, folder))
    console.print(example_command(trainer, folder), soft_wrap=True)


def find_checkpoint(output: Path, *, resume: bool, overwrite: bool, dry_run: bool) -> Path | None:
    """Return the newest checkpoint of the output folder if the run resumes; remove old ones if it overwrites.

    Raises:
        UnsupportedOption: there are checkpoints, and the run neither resumes nor overwrites.
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
            f"{output} has checkpoints of an earlier run, up to {found.all()[-1].name}. Continue from there "
            "with --resume, remove them with --overwrite, or choose another --output."
        )
    return None


def check_output(config: TrainConfig) -> None:
    """Raise UnsupportedOption if the trained model could not be written to the output folder."""
    from ...adapters.files import is_model
    from ...hub.choice import ADAPTER_CONFIG

    output = config.output
    if Path(config.model).exists() and Path(config.model).resolve() == output.resolve():
        raise UnsupportedOption(f"--output {output} holds the model to train; choose another.")
    names = os.listdir(output) if output.is_dir() else []
    whole, adapter = any(map(is_model, names)), ADAPTER_CONFIG in names
    if whole if config.lora is not None else adapter:
        held, new = ("a whole model", "an adapter") if whole else ("an adapter", "a whole model")
        raise UnsupportedOption(
            f"--output {output} holds {held}; {new} cannot be saved into the same folder. Choose another."
        )


def make_trainer(config: TrainConfig) -> Trainer:
    """Return the Trainer of a run. Raises what the Trainer raises."""
    from ...adapters.config import LoraConfig
    from ...training.arguments import TrainingArguments
    from ...training.data.split import train_eval_split
    from ...training.trainer import Trainer

    arguments = TrainingArguments(config.output, **resolve_precision(config.settings))
    data, other = config.data, config.eval_data
    if config.holdout is not None:
        data, other = train_eval_split(data, config.holdout, arguments.seed)
    lora = None
    if config.lora is not None:
        lora = LoraConfig(**config.lora)
    elif any(config.options.get(name) for name in ("load_in_4bit", "load_in_8bit")):
        raise UnsupportedOption("--load-in quantizes a frozen model, on which an adapter is trained: give --lora RANK.")
    return Trainer(
        config.model, arguments, train_dataset=data, eval_dataset=other, task=config.task, options=config.options,
        peft_config=lora,
    )  # fmt: skip


def check_packages(trainer: Trainer) -> None:
    """Raise UnsupportedOption if a package that the task's metrics need is missing: now, not after an epoch."""
    from ...machine_facts import PACKAGES
    from ...training.optional_packages import optional

    name = str(trainer.job.name)
    task = TRAINABLE[name]
    for module in (*task.packages, *(task.text_packages if trainer.args.predict_with_generate else ())):
        package = next(package.name for package in PACKAGES if package.module == module)
        optional(module, package, f"Evaluating {name}")


def resolve_precision(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the fields that `precision` means on this machine."""
    import torch

    from ...kernels.hardware import best_device, best_dtype

    fields = {name: value for name, value in settings.items() if name != PRECISION}
    kind = settings[PRECISION]
    if kind == "auto":
        device = "cpu" if settings.get("use_cpu") else best_device()
        kind = "bf16" if best_dtype(device) is torch.bfloat16 else "float32"
    return fields | {kind: True} if kind != "float32" else fields


def run(trainer: Trainer, log: Console, words: Sequence[str], resume: bool) -> None:
    """Train. If the run is stopped, print how to continue it."""
    try:
        trainer.train(resume_from_checkpoint=resume or None)
    except (KeyboardInterrupt, SystemExit):
        newest = trainer.checkpoints.newest()
        again = f"  {shell_command([*words, *(() if '--resume' in words else ('--resume',))])}"
        text = f"Stopped at step {trainer.state.global_step:,}. "
        text += f"Continue from {newest} with:\n{again}" if newest else "There is no checkpoint yet."
        log.print(f"\n{text}", soft_wrap=True, markup=False)
        raise


def finish(trainer: Trainer, words: Sequence[str], *, resumed: bool) -> Path:
    """Write the model, the state of the run and the model card. Returns the output folder."""
    trainer.save_model()
    trainer.save_state()
    facts: dict[str, Any] = {"seconds": None} if resumed else {}
    trainer.create_model_card(command=shell_command(words), **facts)
    return trainer.output_dir


def shell_command(words: Sequence[str]) -> str:
    """Return the command line, quoted for a shell."""
    size = os.environ.get("WORLD_SIZE", "1")
    begin = ["multihead"] if size == "1" else ["torchrun", "--nproc-per-node", size, "-m", "multihead"]
    return shlex.join([*begin, "train", *(word for word in words if word != "--overwrite")])
