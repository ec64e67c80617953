"""zero-shot-classification: any labels, by a model of natural language inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput, UnsupportedConfig
from .base import ForwardPipeline, PipelineOptions, too_long, top_scores
from .streaming_batcher import ModelInput, Preprocessed
from .text_checks import NamedText, is_empty

TEMPLATE = "This example is {}."  # of the reference, for models of natural language inference


@dataclass(frozen=True, kw_only=True)
class ZeroShotOptions(PipelineOptions):
    """Options of zero-shot-classification.

    Args:
        candidate_labels: a list, or one string with commas between labels.
        hypothesis_template: a sentence with `{}` in the place of the label. Language models and sentence encoders have
            other defaults than models of inference.
        multi_label: scores each label alone, so several may be true. A single label is always scored alone.
    """

    candidate_labels: Any = ()
    hypothesis_template: str = TEMPLATE
    multi_label: bool = False

    @property
    def labels(self) -> list[str]:
        given = self.candidate_labels
        if isinstance(given, str):
            return [label.strip() for label in given.split(",") if label.strip()]
        return list(given)

    @property
    def alone(self) -> bool:
        """True if each label is scored alone: a choice among one label would always be sure of it."""
        return self.multi_label or len(self.labels) == 1

    def check(self) -> None:
        super().check()
        if "LABEL" not in self.hypothesis("LABEL"):
            raise InvalidInput(
                f"hypothesis_template needs {{}} where the label comes; it is {self.hypothesis_template!r}."
            )
        if any(not isinstance(label, str) or is_empty(label) for label in self.labels):
            raise InvalidInput(f"candidate_labels are strings that are not empty, not {self.candidate_labels!r}.")

    def hypothesis(self, label: str) -> str:
        """Return the sentence about a label. Raises InvalidInput for a template with other braces."""
        template = self.hypothesis_template
        # no str.format: templates come from servers' clients too, and "{:>999999999}" takes all memory
        rest = template.replace("{}", "", 1) if isinstance(template, str) else "{"
        if "{" in rest or "}" in rest:
            raise InvalidInput(
                f"hypothesis_template has one {{}}, where the label comes, and no other braces; it is {template!r}."
            )
        return template.replace("{}", label)


class ZeroShotPipeline(ForwardPipeline):
    """Base of all ways to choose among labels: `{"sequence": ..., "labels": [...], "scores": [...]}`."""

    Options: ClassVar[type[PipelineOptions]] = ZeroShotOptions

    def __call__(self, sequences: Any, candidate_labels: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Return the labels of each text, the likeliest first.

        Raises:
            InvalidInput: no labels, a template without a place for them, an input that is no string.
        """
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        if not self.resolve_options(**options).labels:
            raise InvalidInput("zero-shot-classification needs candidate_labels, one at least.")
        return super().__call__(sequences, **options)

    def validate(self, item: Any, o: Any) -> Any:
        if not o.labels:
            raise InvalidInput("needs candidate_labels, one at least.")
        return super().validate(item, o)

    def texts(self, item: str, o: Any) -> Sequence[NamedText]:
        return [NamedText("", item)]

    def rank_labels(self, item: str, probabilities: Tensor, o: ZeroShotOptions) -> dict[str, Any]:
        """Return the answer from the probability of each label (labels,)."""
        best = top_scores(probabilities, None)
        return {"sequence": item, "labels": [o.labels[i] for i, _ in best], "scores": [score for _, score in best]}


class ZeroShotClassification(ZeroShotPipeline):
    """Scores labels by whether a text entails a sentence about them (Yin et al., 2019, arXiv:1909.00161)."""

    auto = "AutoModelForSequenceClassification"

    def preprocess(self, items: Sequence[str], o: ZeroShotOptions) -> list[Preprocessed]:
        hypotheses = [o.hypothesis(label) for label in o.labels]
        pairs = [(text, hypothesis) for text in items for hypothesis in hypotheses]
        limits = self.truncation_options("only_first")  # cuts the text, never the label
        encodings = self.tokenizer.run(pairs, words=False, special=True, limits=limits)
        flat = [self.to_input(encoding) for encoding in encodings]
        rows = [flat[i : i + len(hypotheses)] for i in range(0, len(flat), len(hypotheses))]
        return [too_long(max(len(each.ids) for each in row), self.max_positions) or row for row in rows]

    def postprocess(
        self, item: str, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: ZeroShotOptions
    ) -> dict[str, Any]:
        scores, yes = torch.stack(list(outputs)), self.entailment  # (labels, classes of inference)
        if o.alone:
            probabilities = scores[:, [contradiction_label(yes), yes]].softmax(-1)[:, 1]
        else:
            probabilities = scores[:, yes].softmax(-1)
        return self.rank_labels(item, probabilities, o)

    @property
    def entailment(self) -> int:
        """Number of the entailment label. Raises UnsupportedConfig if the model has none."""
        return entailment_label(self.model, "zero-shot-classification")


def entailment_label(model: Any, task: str) -> int:
    """Return the number of a model's label of entailment. Raises UnsupportedConfig if it has none."""
    labels = model.config.id2label or {}
    for number, label in labels.items():
        if str(label).lower().startswith("entail"):
            return int(number)
    raise UnsupportedConfig(
        f"{model.name_or_path} has no label that begins with 'entail' (its labels: "
        f"{', '.join(map(str, labels.values()))}); {task} needs a model of natural language inference, or a language "
        "model."
    )


def contradiction_label(entailment: int) -> int:
    """Return the number of the label of contradiction, as the reference finds it: the last, or else the first."""
    return -1 if entailment == 0 else 0
