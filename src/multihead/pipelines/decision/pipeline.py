"""decision: typed questions about an input, with a probability for each possible answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ...errors import InvalidInput
from ...nn.inner_model import inner_model
from ..base import ForwardPipeline, PipelineOptions
from ..calibration import Calibration, find_calibration
from ..streaming_batcher import ModelInput, check_unicode
from ..text_checks import NamedText
from .questions import FIELDS, Question
from .settings import DecisionSettings, find_settings
from .state import DecisionInput, read_request


@dataclass(frozen=True, kw_only=True)
class DecisionOptions(PipelineOptions):
    """Options of decision.

    Args:
        calibration: True divides scores by the temperatures that the checkpoint's `decision.json` has, if any; False by
            none. Or a `Calibration`, or a file with one; or a mapping of types of questions to such.
    """

    calibration: Any = True

    def check(self) -> None:
        super().check()
        if isinstance(self.calibration, Mapping) and (other := set(self.calibration) - set(FIELDS)):
            raise InvalidInput(
                f"calibration maps types of questions, which are {', '.join(FIELDS)}; {other.pop()!r} is none."
            )


class DecisionPipeline(ForwardPipeline):
    """Base of all ways to decide: `{"answers": [...]}`, one answer a question, in the order of the questions.

    An input is `{"input": text or messages, "questions": [...]}`, or a `DecisionInput`.
    """

    Options: ClassVar[type[PipelineOptions]] = DecisionOptions

    def __init__(self, model: Any, tokenizer: Any, name: str, **options: Any) -> None:
        source = inner_model(model).name_or_path
        self.settings: DecisionSettings = find_settings(source, local_files_only=True)
        super().__init__(model, tokenizer, name, **options)

    def validate(self, item: Any, o: Any) -> DecisionInput:
        if isinstance(item, DecisionInput):
            words = (part for each in item.questions for part in (each.instructions, *(x.words for x in each.options)))
            check_unicode([item.state, *words])
        else:
            item = read_request(item)
        return DecisionInput(item.state, [self.settings.order(question) for question in item.questions])

    def texts(self, item: DecisionInput, o: Any) -> Sequence[NamedText]:
        return [NamedText("input", item.state)]

    def calibration(self, question: Question, o: Any) -> Calibration | None:
        """Return the calibration of a question, if any. Raises InvalidInput for one of other options."""
        given = o.calibration
        if isinstance(given, Mapping):
            given = given.get(question.type, False)
        if given is True:
            return self.settings.calibration(question.type)
        return find_calibration(given, self.model)

    def probabilities(self, question: Question, scores: Tensor, o: Any) -> list[float]:
        """Return the probability of each option, from scores (options,) whose softmax they are."""
        calibration = self.calibration(question, o)
        if calibration is not None:
            scores = calibration.apply(scores, [option.text or option.value for option in question.options])
        found: list[float] = scores.softmax(-1).tolist()
        return found

    def scores(
        self, item: DecisionInput, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any
    ) -> Sequence[Tensor]:
        """Return the scores (options,) of each question from the outputs of an item."""
        raise NotImplementedError

    def postprocess(
        self, item: DecisionInput, inputs: Sequence[ModelInput], outputs: Sequence[Any], o: Any
    ) -> dict[str, Any]:
        scores = self.scores(item, inputs, outputs, o)
        pairs = zip(item.questions, scores, strict=True)
        return {"answers": [question.answer(self.probabilities(question, own, o)) for question, own in pairs]}
