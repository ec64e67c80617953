"""Names of the reference without a meaning here. They can be imported, and say so when they are used.

A program that never reaches its images or its TensorFlow runs; one that does gets an error with the name.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ..errors import MissingName
from .absent_families import STEMS

KINDS: tuple[tuple[str, str], ...] = (  # pattern of a name -> what it is for
    (r"(TF|Flax)[A-Z]\w+", "TensorFlow and Flax"),
    (r"\w*Image\w*(Processor|Pipeline|Mixin|Kwargs|Classification|Modeling|Segmentation)\w*", "images"),
    (r"\w*(Video|Vision|ObjectDetection|DepthEstimation|MaskGeneration|Keypoint)\w*", "images and video"),
    (r"\w*(Audio|Speech)\w*", "sound"),
    (r"\w*FeatureExtract(or|ion)\w*|\w*ProcessorMixin|\w+Processor(WithLM)?", "images and sound"),
    (r"\w*TimeSeries\w*", "time series"),
    (
        r"AutoBackbone|Backbone(Config)?Mixin|(AutoModelFor)?((Document|Visual)QuestionAnswering|AnyToAny)(Pipeline)?|"
        r"AutoModelFor(CTC|RNNT|TDT|(Instance|Semantic|Universal|Panoptic)Segmentation|"
        r"(Normal|Pointmap|Pose)Estimation|(Table|Text)Recognition|TextTo\w+|Image\w+)",
        "images and sound",
    ),
    (
        r"(AzureML|ClearML|CodeCarbon|Comet|DVCLive|DagsHub|Flyte|MLflow|Neptune|SwanLab|Trackio)Callback",
        "trackers of runs that are not written for",
    ),
    (
        r"(Group)?Weight(Converter|Renam(e|ing))|ConversionOps|Concatenate|Transpose|Chunk|(Merge|Split)Modulelist|"
        r"dot_natural_key|rename_source_key",
        "the reference's conversion of tensors, which key maps do here",
    ),
)
STEM = re.compile(rf"({'|'.join(sorted(STEMS))})([A-Z0-9_]\w*)?")
TEXT_PROCESSORS = re.compile(r"\w*LogitsProcessor\w*")


def purpose(name: str) -> str | None:
    """Return what a name of the reference is for that has no meaning here; None for a name that is none of these."""
    if TEXT_PROCESSORS.fullmatch(name):
        return None
    for pattern, what in KINDS:
        if re.fullmatch(pattern, name):
            return what
    return "a family that is not here" if STEM.fullmatch(name) else None


class Absent(type):
    """The type of names without a meaning: every use but `isinstance`, a subclass and a type hint is an error."""

    purpose: str

    def _refuse(cls) -> MissingName:
        return MissingName(
            f"{cls.__name__} has no meaning in multihead: it is for {cls.purpose}. docs/compatibility.md says "
            "what is here, docs/families.md lists the families."
        )

    def __call__(cls, *args: Any, **options: Any) -> Any:
        raise cls._refuse()

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise cls._refuse()


@cache
def absent(name: str) -> type | None:
    """Return the class that stands for a name without a meaning; None for a name that the reference does not have."""
    what = purpose(name)
    if what is None:
        return None
    return Absent(name, (), {"purpose": what, "__doc__": f"For {what}.", "__module__": "multihead"})
