"""Plan and results of a training run on a terminal. Imports torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...pipelines.catalog import TASKS, TRAINABLE
from ...training.reporting.progress_bar import duration, number
from ...training.reporting.run_summary import (
    DatasetSize,
    dataset_size,
    evaluation_datasets,
    loss_name,
    parameter_counts,
    run_length,
    training_method,
)
from .config_file import TrainConfig

if TYPE_CHECKING:
    from ...training.trainer import Trainer

MAX_METRICS = 12  # rows of the table of results


def plan_table(trainer: Trainer, config: TrainConfig) -> Any:
    """Return the plan as a table of two columns. Raises what reading the data raises."""
    args = trainer.args
    rows: list[tuple[str, str]] = [("Task", task_line(trainer)), ("Model", model_line(trainer, config))]
    train = dataset_size(trainer, trainer.train_dataset, training=True)
    rows += data_lines("Data", train)
    for name, source in evaluation_datasets(trainer).items():
        known = dataset_size(trainer, source, training=False)
        when = {"no": "not while training", "epoch": "each epoch", "steps": f"every {steps_of(args.eval_steps)}"}
        title = "Evaluation" if name == "evaluation" else name  # names of sets stay as they are written
        rows += data_lines(title, known, when[args.eval_strategy])
    rows += [("Loss", loss_name(trainer))]
    rows += [("Batches", batch_line(trainer)), ("Schedule", schedule_line(trainer))]
    rows += [("Precision", precision_line(trainer)), ("Device", device_line(trainer)), ("Output", output_line(trainer))]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, Text(text))
    return Group(table, "")


def task_line(trainer: Trainer) -> str:
    """Return the task with its labels."""
    name = str(trainer.job.name or "training")
    labels = getattr(trainer.job, "labels", None)
    if labels is None or labels.kind == "regression":
        return name + (", a score" if labels is not None else "")
    shown = ", ".join(labels.names[:6]) + (", ..." if len(labels.names) > 6 else "")
    return f"{name}, {len(labels.names)} labels: {shown}"


def model_line(trainer: Trainer, config: TrainConfig) -> str:
    """Return the model with its parameters, and the adapter if there is one."""
    learn, everything = parameter_counts(trainer)
    if learn == everything:
        return f"{config.model}: {everything:,} parameters, all trained"
    share = 100 * learn / everything
    return f"{config.model}: {everything:,} parameters\n{training_method(trainer)}: {learn:,} trained ({share:.2g} %)"


def data_lines(name: str, known: DatasetSize, when: str = "") -> list[tuple[str, str]]:
    """Return one line for a data set and one for each note on it."""
    examples = f", {known.examples:,} examples" if known.examples != known.rows else ""
    text = f"{known.name}: {known.rows:,} rows{examples}, {known.tokens:,} tokens, longest {known.longest:,}"
    return [(name, text + (f"; {when}" if when else "")), *(("", note) for note in known.notes)]


def batch_line(trainer: Trainer) -> str:
    """Return the size of a batch and the number of steps."""
    args, found = trainer.args, run_length(trainer)
    size = f"{args.per_device_train_batch_size} examples"
    if args.max_tokens_per_batch is not None:
        size = f"{args.max_tokens_per_batch:,} tokens at most"
    together = args.gradient_accumulation_steps * trainer.parallel.replicas
    size += f" x {together}" if together > 1 else ""
    epochs = f"{found.epochs:.3g} epoch{'' if found.epochs == 1 else 's'}"
    return f"{size}; {found.steps_per_epoch:,} steps an epoch, {found.steps:,} in {epochs}"


def schedule_line(trainer: Trainer) -> str:
    """Return the learning rate, its schedule and the optimizer."""
    args = trainer.args
    warm = args.warmup(run_length(trainer).steps)
    text = f"{args.lr_scheduler_type}, learning rate {number(args.learning_rate)}"
    return text + (f", {warm:,} steps of warm-up" if warm else "") + f"; {args.optim}"


def precision_line(trainer: Trainer) -> str:
    """Return the dtypes of computation and of weights."""
    args = trainer.args
    if args.bf16 or args.fp16:
        return f"{'bfloat16' if args.bf16 else 'float16'}, weights and their updates in float32"
    return "float32"


def device_line(trainer: Trainer) -> str:
    """Return the device and the number of processes."""
    size = trainer.process_group.size
    return f"{trainer.device.type}, {size} process{'' if size == 1 else 'es'}"


def output_line(trainer: Trainer) -> str:
    """Return the output folder and its contents."""
    args = trainer.args
    when = {"epoch": "each epoch", "steps": f"every {steps_of(args.save_steps)}", "best": "at each best evaluation"}
    parts = ["the model", "README.md"]
    if args.save_strategy != "no":
        limit = f", {args.save_total_limit} kept" if args.save_total_limit else ""
        parts.insert(0, f"a checkpoint {when[args.save_strategy]}{limit}")
    best = f"\nthe model with the best {args.metric_for_best_model}" if args.load_best_model_at_end else ""
    return f"{args.output_dir}: {'; '.join(parts)}{best}"


def steps_of(value: Any) -> str:
    """Return a number of steps, or a share of all steps, in words."""
    if value is None or value < 1:
        return f"{100 * (value or 0):.3g} % of the steps"
    return f"{int(value):,} steps"


def results_table(trainer: Trainer, folder: Path) -> Any:
    """Return the first, best and last evaluation, and the files of the model."""
    history, state = trainer.state.log_history, trainer.state
    runtime = next((log["train_runtime"] for log in reversed(history) if "train_runtime" in log), 0.0)
    done = f"{state.global_step:,} steps, {state.num_input_tokens_seen:,} tokens, {duration(runtime)}"
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="cyan", no_wrap=True)
    lines.add_column(overflow="fold")
    best = trainer.args.load_best_model_at_end and state.best_global_step is not None
    lines.add_row("Trained", Text(done))
    lines.add_row("Model", Text(f"{folder}" + (f", of step {state.best_global_step:,}" if best else "")))
    lines.add_row("Card", Text(str(folder / "README.md")))
    evaluations = [log for log in history if any(name.startswith("eval_") for name in log)]
    return Group("", *([Padding(metrics_table(trainer, evaluations), (0, 0, 1, 0))] if evaluations else []), lines)


def metrics_table(trainer: Trainer, evaluations: list[dict[str, Any]]) -> Table:
    """Return a table with a row a metric and a column an evaluation."""
    args = trainer.args
    metric = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
    top = max if args.greater_is_better and args.metric_for_best_model else min
    judged = [log for log in evaluations if metric in log]
    columns = [("first", evaluations[0]), ("last", evaluations[-1])]
    if judged:
        columns.insert(1, ("best", top(judged, key=lambda log: log[metric])))
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="cyan")
    found.add_column("", style="cyan")
    for name, _ in columns:
        found.add_column(name, justify="right")
    found.add_row("step", *(f"{log['step']:,}" for _, log in columns))
    names = dict.fromkeys(name for _, log in columns for name in log if name.startswith("eval_"))
    for name in [n for n in names if not n.endswith(("_runtime", "_per_second"))][:MAX_METRICS]:
        cells = (number(log[name]) if name in log else "" for _, log in columns)
        found.add_row(Text(name.removeprefix("eval_")), *cells, style="bold" if name == metric and judged else "")
    return found


def example_command(trainer: Trainer, folder: Path) -> Text:
    """Return a command that runs the model on an example of the data, unbroken, so that it can be copied."""
    job: Any = trainer.job
    example = job.example_input(trainer.features(trainer.train_dataset, training=True))
    task = TRAINABLE[job.name].pipeline or job.name
    words = ["multihead", "run", task, "-m", str(folder)]
    if isinstance(example, str):
        words.append(example)
    else:
        for each in TASKS[task].inputs:
            value = example[each.name]
            words += [f"--{each.flag}", value] if each.flag else [value] if isinstance(value, str) else value
    return Text.assemble(("Try      ", "cyan"), (shlex.join(words), "bold"))
