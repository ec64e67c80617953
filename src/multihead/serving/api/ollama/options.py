"""`options` of Ollama's requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import nearest
from ....pipelines.generation_base import context_length
from ...errors import ApiError
from ...generation.sampling import base_config
from ...models.served_model import ServedModel

FIELDS = {  # option -> field of GenerationConfig
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "typical_p": "typical_p",
    "seed": "seed", "repeat_penalty": "repetition_penalty", "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}  # fmt: skip
WHOLE = ("top_k", "seed", "num_predict", "num_ctx", "repeat_last_n")
OWN = ("num_predict", "num_ctx", "stop", "repeat_last_n")
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "mirostat": (0,), "tfs_z": (1, 1.0), "penalize_newline": (True,), "num_keep": (0,), "vocab_only": (False,),
    "logits_all": (False,), "embedding_only": (False,),
}  # fmt: skip
AT_START = frozenset(
    "numa num_batch num_gpu main_gpu low_vram f16_kv use_mmap use_mlock num_thread".split()
)  # a server decides them when it starts
INT64 = 1 << 63
LIMITS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 100), "top_k": (-1, INT64), "top_p": (0, 1), "min_p": (0, 1), "typical_p": (0, 1),
    "seed": (-INT64, INT64 - 1024), "repeat_penalty": (1e-3, 100), "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2), "num_predict": (-2, INT64), "num_ctx": (1, INT64), "repeat_last_n": (-1, INT64),
}  # fmt: skip


def read_options(model: ServedModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Sampling` that options give. Raises ApiError with the name of a wrong one."""
    found = {name: value for name, value in given.items() if value is not None}
    for name, value in found.items():
        check_option(name, value)
    if found.get("repeat_last_n", -1) != -1 and penalizes(model, found):
        raise refused("repeat_last_n", "repetition is looked for in the whole text; send -1, or leave it out.")
    options = {field: found[name] for name, field in FIELDS.items() if name in found}
    if options.get("typical_p") in (0, 1):
        del options["typical_p"]  # off
    stop = found.get("stop", ())
    return {
        "options": options, "stops": (stop,) if isinstance(stop, str) else tuple(stop),
        "limit": new_tokens(model, found), "limit_name": "options.num_predict",
        "context": found.get("num_ctx"),
    }  # fmt: skip


def penalizes(model: ServedModel, options: Mapping[str, Any]) -> bool:
    """Return True if options, or the checkpoint where they are silent, penalize repetition."""
    own = base_config(model).repetition_penalty or 1
    return options.get("repeat_penalty", own) != 1 or any(
        options.get(name, 0) != 0 for name in ("presence_penalty", "frequency_penalty")
    )


def check_option(name: str, value: Any) -> None:
    """Raise ApiError for an option that is not known, not computed, or out of its range."""
    if name in AT_START:
        raise refused(name, "it is decided when the server starts.")
    if name in NEUTRAL:
        if value not in NEUTRAL[name] or isinstance(value, bool) != isinstance(NEUTRAL[name][0], bool):
            raise refused(name, f"it is not computed here; leave it out, or send {NEUTRAL[name][0]!r}.")
        return
    if name not in FIELDS and name not in OWN:
        known = (*FIELDS, *OWN)
        raise ApiError(
            f"options.{name:.80} is no option. {nearest(name, known)}", param=f"options.{name:.80}",
            code="unknown_parameter",
        )  # fmt: skip
    if name == "stop":
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise ApiError("options.stop must be texts, none of them empty.", param="options.stop")
        return
    low, high = LIMITS[name]
    is_number = isinstance(value, int) or (isinstance(value, float) and name not in WHOLE)
    if isinstance(value, bool) or not is_number or not low <= value <= high:
        raise ApiError(f"options.{name} must be a number from {low:g} to {high:g}.", param=f"options.{name}")


def refused(name: str, why: str) -> ApiError:
    return ApiError(f"options.{name}: {why}", param=f"options.{name}", code="unsupported_parameter")


def new_tokens(model: ServedModel, options: Mapping[str, Any]) -> int | None:
    """Return the most new tokens; None for up to the end of the context. Raises ApiError."""
    longest, asked = context_length(model.model.config), options.get("num_ctx")
    if asked is not None and longest is not None and asked > longest:
        raise refused("num_ctx", f"the context of this model has {longest} tokens.")
    count = options.get("num_predict", -1)
    if count == 0:
        raise ApiError("options.num_predict is 0: there is nothing to write.", param="options.num_predict")
    return None if count < 0 else int(count)
