"""Pictures of an evaluation, by matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..files import replace_file
from ..training.optional_packages import optional
from .records import EvaluationRecord

INSTALL = 'python -m pip install "multihead[pictures]"'
BLUE, ORANGE, GREY = "#0b3d91", "#d9480f", "#6b7280"
MOST_LABELS = 25  # of a confusion matrix that is drawn


def draw_report(result: EvaluationRecord, path: Path) -> None:
    """Draw metrics with intervals, the reliability diagram and the confusion matrix, those that there are.

    Raises:
        UnsupportedOption: matplotlib is not installed. InvalidInput: an ending that is no image format.
    """
    figures = optional("matplotlib.figure", "matplotlib", "A picture", INSTALL)
    optional("matplotlib.backends.backend_agg", "matplotlib", "A picture", INSTALL)
    panels = [draw_metrics]
    panels += [draw_reliability] if result.reliability else []
    panels += [draw_confusion] if result.confusion and len(result.confusion.columns) <= MOST_LABELS else []
    figure = figures.Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    for place, (panel, draw) in enumerate(zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)):
        draw(panel, result)
        if not place:
            panel.set_title(f"{result.task}, {result.scored:,} rows", fontsize=11)
    try:
        with replace_file(path) as new:
            figure.savefig(new, dpi=144, format=path.suffix.lstrip(".").lower() or None)
    except ValueError as error:
        raise InvalidInput(f"{path} must end in .png or another image format: {error}.") from error


def draw_metrics(panel: Any, result: EvaluationRecord) -> None:
    """Draw each metric with its interval, as a share of the largest possible value where there is one."""
    names = [name for name, value in result.metrics.items() if math.isfinite(value)]
    names = [name for name in names if result.full_scale(name) is not None]
    for place, name in enumerate(names):
        full = result.full_scale(name) or 1.0
        low, high = (each / full for each in result.intervals[name])
        panel.plot([low, high], [place, place], color=BLUE, alpha=0.4, linewidth=7, solid_capstyle="butt")
        panel.plot([result.metrics[name] / full], [place], "|", color=BLUE, markersize=14, markeredgewidth=2)
        panel.annotate(f"{result.metrics[name]:.4g}", (result.metrics[name] / full, place), xytext=(0, 9),
                       textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.7)
    panel.set_xlim(0, 1.04)
    panel.set_xlabel(f"share of the best value; {result.confidence:.0%} intervals")
    panel.grid(axis="x", alpha=0.3)


def draw_reliability(panel: Any, result: EvaluationRecord) -> None:
    """Draw the share of right answers by confidence."""
    bins, total = result.reliability, sum(each.count for each in result.reliability)
    panel.bar([each.low for each in bins], [each.accuracy for each in bins], width=bins[0].high - bins[0].low,
              align="edge", color=BLUE, alpha=0.55, edgecolor="white", label="share of right answers")  # fmt: skip
    panel.step([each.low for each in bins], [each.count / total for each in bins], where="post", color=GREY,
               label="share of answers")  # fmt: skip
    panel.plot([each.confidence for each in bins], [each.confidence for each in bins], "_", color=ORANGE,
               markeredgewidth=2, markersize=12, label="mean confidence")  # fmt: skip
    panel.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    panel.set(xlabel="confidence", ylabel="share", xlim=(0, 1), ylim=(0, 1), title=f"ECE {result.metrics['ece']:.3f}")
    panel.legend(fontsize=8, loc="upper left")


def draw_confusion(panel: Any, result: EvaluationRecord) -> None:
    """Draw the confusion matrix, shaded by the share of each row."""
    matrix = result.confusion
    assert matrix is not None
    shares = [[count / max(sum(line), 1) for count in line] for line in matrix.counts]
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(matrix.columns) <= 10 else 6
    for row, line in enumerate(matrix.counts):
        for column, count in enumerate(line):
            dark = shares[row][column] > 0.5
            panel.text(column, row, f"{count:,}", ha="center", va="center", fontsize=size,
                       color="white" if dark else "black")  # fmt: skip
    panel.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=30, ha="right", fontsize=size)
    panel.set_yticks(range(len(matrix.labels)), matrix.labels, fontsize=size)
    panel.set(xlabel="answer", ylabel="right label", title="Confusion")
