"""adapter_config.json as a checked dataclass, under the names of the peft library's `LoraConfig`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import accepts, describe, read_json, write_json
from ..errors import InvalidInput, UnsupportedConfig, nearest
from ..hub.choice import ADAPTER_CONFIG

ALL_LINEAR = "all-linear"
INITIAL = (True, False, "gaussian")
TASK_HEADS: Mapping[str, tuple[str, ...]] = {  # task_type -> modules of a head that are always trained and saved
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
    "CAUSAL_LM": (),
    "SEQ_2_SEQ_LM": (),
    "FEATURE_EXTRACTION": (),
}
# Entries without effect on a trained adapter: provenance, and settings of features that other entries turn on.
INERT = frozenset(
    "auto_mapping peft_version megatron_config megatron_core loftq_config eva_config corda_config".split()
)
INERT |= {"lora_ga_config", "qalora_group_size", "runtime_config"}

Names = list[str] | str | None


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Settings of an adapter: low-rank changes of some matrices (LoRA, Hu et al., 2021, arXiv:2106.09685).

    Args:
        r: rank. lora_alpha: the change is scaled by lora_alpha / r.
        target_modules: the linear layers that are changed: names as the checkpoint has them ("query", "q_proj",
            "c_attn") or paths as `model.named_modules()` has them, the last parts being enough; a string is a regular
            expression for the whole path, or "all-linear" for every linear layer of the backbone but routers and
            routed experts. None: queries and values of all attention, as in the paper.
        exclude_modules: as target_modules, of layers that stay as they are.
        layers_to_transform: numbers of the layers that are changed. layers_pattern: the name before that number.
        lora_dropout: of the inputs of A, in training.
        use_rslora: scales by lora_alpha / sqrt(r) (Kalajdzievski, 2023, arXiv:2312.03732).
        use_dora: learns the length of each row separately (DoRA, Liu et al., 2024, arXiv:2402.09353).
        modules_to_save: parts that are copied, trained and saved whole.
        rank_pattern, alpha_pattern: regular expressions for ends of paths -> another r or lora_alpha there.
        init_lora_weights: True: no change at first; "gaussian": the same, with other draws; False: drawn at random.
        task_type: SEQ_CLS, TOKEN_CLS and QUESTION_ANS add the head's modules to modules_to_save.
        base_model_name_or_path, revision: where the frozen model comes from.
        fan_in_fan_out: written for other readers; the key maps know which matrices are stored transposed.
        extra: entries of a file without effect; they are written back.

    Raises:
        InvalidInput: a value that is not allowed. UnsupportedConfig: a value that is not computed here.
    """

    r: int = 8
    lora_alpha: float = 8
    target_modules: Names = None
    exclude_modules: Names = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: Names = None
    lora_dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    init_lora_weights: bool | str = True
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = False
    fan_in_fan_out: bool = False
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern"):
            object.__setattr__(self, name, _listed(name, getattr(self, name)))
        for name, kind in _KINDS.items():
            if not accepts(kind, value := getattr(self, name)):
                raise InvalidInput(f"LoraConfig.{name} is {value!r:.80}; it must be {describe(kind)}.")
        task = getattr(self.task_type, "value", self.task_type)  # an enumeration's member stands for its value
        object.__setattr__(self, "task_type", task)
        for name in ("rank_pattern", "alpha_pattern"):
            object.__setattr__(self, name, dict(getattr(self, name) or {}))
        self._check_numbers()
        if self.bias != "none":
            raise UnsupportedConfig(f'LoraConfig.bias is {self.bias!r}; biases are not trained here: use "none".')
        if self.init_lora_weights not in INITIAL or not isinstance(self.init_lora_weights, (bool, str)):
            raise UnsupportedConfig(
                f"LoraConfig.init_lora_weights is {self.init_lora_weights!r}; it is one of True, False, 'gaussian' "
                "here. Others start from a changed base model, which the file of an adapter does not hold."
            )
        if task is not None and (not isinstance(task, str) or task not in TASK_HEADS):
            raise UnsupportedConfig(f"LoraConfig.task_type is {task!r}. {nearest(str(task), TASK_HEADS)}")

    def _check_numbers(self) -> None:
        ranks, alphas = self.rank_pattern, self.alpha_pattern
        for name, value in {"r": self.r, **{f"rank_pattern[{k!r}]": v for k, v in ranks.items()}}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInput(f"LoraConfig.{name} is {value!r}; a rank is a whole number from 1.")
        for name, number in {
            "lora_alpha": self.lora_alpha,
            **{f"alpha_pattern[{k!r}]": v for k, v in alphas.items()},
        }.items():
            if not isinstance(number, (int, float)) or isinstance(number, bool) or not math.isfinite(number):
                raise InvalidInput(f"LoraConfig.{name} is {number!r}; it is a number.")
        if not isinstance(self.lora_dropout, (int, float)) or not 0 <= self.lora_dropout < 1:
            raise InvalidInput(f"LoraConfig.lora_dropout is {self.lora_dropout!r}; it is a number from 0 to below 1.")

    @property
    def head_modules(self) -> tuple[str, ...]:
        """Modules that the task type adds to `modules_to_save`."""
        return TASK_HEADS.get(self.task_type or "", ())

    def scale(self, alpha: float, rank: int) -> float:
        """Return the factor of a change with this alpha and rank."""
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank

    @classmethod
    def read(cls, entries: Mapping[str, Any], source: str = ADAPTER_CONFIG) -> LoraConfig:
        """Build a config from the entries of an adapter_config.json.

        Raises:
            UnsupportedConfig: another kind of adapter, or an entry that changes numbers and is not computed here.
        """
        kind = entries.get("peft_type", "LORA")
        if kind != "LORA":
            raise UnsupportedConfig(f"{source} describes an adapter of type {kind!r}; only 'LORA' is computed here.")
        names = {f.name for f in fields(cls)} - {"extra"}
        known = {k: v for k, v in entries.items() if k in names and not (v is None and k not in _NULLABLE)}
        extra = {k: v for k, v in entries.items() if k not in names and k != "peft_type"}
        wrong = [k for k, v in extra.items() if v not in (None, False, {}, [], ()) and k not in INERT]
        if wrong:
            listed = ", ".join(f"{k} = {extra[k]!r}" for k in sorted(wrong))
            raise UnsupportedConfig(f"{source} asks for what is not computed here: {listed}.")
        return cls(**known, extra=extra)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> LoraConfig:
        """Read the config of a local folder. Raises ModelNotFound, CorruptFile, and as `read` does."""
        path = Path(folder) / ADAPTER_CONFIG
        return cls.read(read_json(path), str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of adapter_config.json."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return {"peft_type": "LORA", **dict(sorted({**own, **self.extra}.items()))}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write adapter_config.json into `folder`, whole or not at all."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / ADAPTER_CONFIG, self.to_dict())


_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("use_rslora", "use_dora", "inference_mode", "fan_in_fan_out"), bool),
    **dict.fromkeys(("rank_pattern", "alpha_pattern"), dict | None), "layers_to_transform": list[int] | int | None,
    "base_model_name_or_path": str | os.PathLike | None, "revision": str | None,
}  # fmt: skip
_NULLABLE = frozenset(
    "target_modules exclude_modules layers_to_transform layers_pattern modules_to_save task_type "
    "base_model_name_or_path revision".split()
)


def _listed(name: str, value: Any) -> Names:
    """Return names as a list; a set's in alphabetical order."""
    if value is None or (isinstance(value, str) and name != "modules_to_save"):
        return value
    if isinstance(value, str) or not isinstance(value, Iterable) or not all(isinstance(v, str) for v in value):
        raise InvalidInput(f"LoraConfig.{name} is {value!r}; it is a list of names.")
    return sorted(value) if isinstance(value, (set, frozenset)) else list(value)
