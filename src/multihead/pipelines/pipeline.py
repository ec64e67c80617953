"""`pipeline(task, model)`: from a task's name to what answers it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, NetworkUnavailable, UnknownModel, UnsupportedOption, warn
from ..hub.options import Place
from ..kernels.hardware import best_dtype, usable
from ..modeling import auto
from ..runtime.prepare import precision_of
from ..tokenizers.tokenizer import Tokenizer
from .catalog import TASK, Entry, Kinds, entry_of
from .defaults import TRANSLATORS, translator_on_hub

if TYPE_CHECKING:
    from ..config import Config
    from ..heads.head_types import Kind
    from ..modeling.pretrained import PreTrainedModel
    from .base import Task

PLACES = tuple(f.name for f in fields(Place))


def pipeline(
    task: str,
    model: str | os.PathLike[str] | PreTrainedModel | None = None,
    tokenizer: str | os.PathLike[str] | Tokenizer | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    precision: str | None = None,
    **options: Any,
) -> Task:
    """What answers a task.

    Args:
        task: `text-generation`, `translation_en_to_pt`, `sentiment-analysis`, ...
        model: a name, a folder, a model. Left out, the task's default on the hub; without a network, the one that the
            package index carries, which is said.
        tokenizer: the model's own when left out.
        dtype: what the model computes in: None for bfloat16 where the hardware multiplies it natively and float32
            elsewhere, "auto" for the checkpoint's own, or a dtype. `pipe.precision` and every answer's metadata say it.
        device: such as "cuda" or 0; the CPU when left out.
        precision: makes the model ready to run fast on a CPU: "auto", "fp32", "bf16", "int8", "int4" or
            "gguf", as `PreTrainedModel.prepare` says. `dtype` is then that of states between products, best left out.
        options: of calls (`top_k`, `max_new_tokens`, ...), which later calls may change; others of `from_pretrained`.

    Raises:
        UnsupportedOption: an unknown task, or an option that comes too late for a loaded model. Otherwise what
            `from_pretrained` raises.
    """
    entry = entry_of(task)
    place = {name: options.pop(name) for name in PLACES if name in options}
    if model is None:
        model, note = default_of(task, entry, place)
    else:
        note = ""
    maker: Any = maker_of(entry, model, place, task)
    calls = {name: options.pop(name) for name in list(options) if name in call_options(maker)}
    if isinstance(model, (str, os.PathLike)):
        source: Any = model
        where = usable(device)
        model = maker.load(model, device=where, **in_numbers(dtype, precision, where), **place, **options)
    else:
        refuse_preparing(model, precision)
        refuse_loading(model, {"dtype": dtype, "device": device, **place, **options})
        source = model.name_or_path
    own: Any = getattr(model, "tokenizer", None)
    if tokenizer is None and isinstance(own, Tokenizer):
        tokenizer = own
    elif tokenizer is None or isinstance(tokenizer, (str, os.PathLike)):
        tokenizer = auto.AutoTokenizer.from_pretrained(tokenizer or source, **place)
    return maker(model, tokenizer, task, note=note, **calls)


def in_numbers(dtype: Any, precision: str | None, device: Any) -> dict[str, Any]:
    """What `from_pretrained` is told of the numbers that a model computes with."""
    if precision is None:
        return {"dtype": best_dtype(device or "cpu") if dtype is None else dtype}
    return {"precision": precision} if dtype is None else {"precision": precision, "dtype": dtype}


def refuse_preparing(model: Any, precision: str | None) -> None:
    """Raises UnsupportedOption for a precision that a loaded model was not prepared in."""
    if precision is None:
        return
    own = getattr(model, "model", model).prepared
    if precision_of(precision, model.device) != own:
        found = f"it was prepared in {own}" if own else "it was not prepared"
        advice = "load it again" if own else f"call model.prepare({precision!r}) first"
        raise UnsupportedOption(
            f"precision={precision!r} has no effect on a model that is loaded already, and {found}: {advice}."
        )


def refuse_loading(model: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """Raises UnsupportedOption for what would change a model that is loaded already."""
    for name, value in options.items():
        same = name in ("dtype", "device") and value in (None, "auto", getattr(model, name))
        if not same and not (name == "device" and usable(value) == model.device):
            raise UnsupportedOption(f"{name!r} has no effect on a model that is loaded already.")


def default_of(task: str, entry: Entry, place: Mapping[str, Any]) -> tuple[str, str]:
    """The name of a task's default model, and what is to be said of it. Raises NetworkUnavailable without any."""
    from ..hub import resolve

    pair = TASK.fullmatch(task)
    on_hub = translator_on_hub(pair[1], pair[2]) if pair else entry.hub
    offline = entry.offline
    if pair:
        offline = TRANSLATORS.get((pair[1], pair[2]))
    try:
        resolve(on_hub, **place)
        return on_hub, ""
    except NetworkUnavailable as error:
        if offline is None:
            raise NetworkUnavailable(
                f"{task} has the default model {on_hub}, which is not here and cannot be fetched, and none that the "
                "package index carries. Name a model: a local folder, or one that is cached."
            ) from error
    note = f"{on_hub} is not cached and cannot be fetched; {offline.title} from the package index answers instead"
    warn(f"{task}: {note}.")
    return offline.name, note


def maker_of(entry: Entry, model: Any, place: Mapping[str, Any], task: str) -> type[Task]:
    """The class that answers a task with a model, by what the checkpoint was saved with.

    Raises:
        InvalidInput: a model without a head for the task.
    """
    if isinstance(model, (str, os.PathLike)):
        kind = kind_of(entry.kinds, auto.AutoConfig.from_pretrained(model, **place))
    else:
        own = ending(getattr(model, "model", model).kind)
        kind = own if own in entry.kinds else "Model" if "Model" in entry.kinds else None
    if kind is None:
        wanted = " or ".join(f"AutoModelFor{kind}" for kind in entry.kinds)
        raise InvalidInput(f"{task} needs a model with a head for it: load one with {wanted}.")
    module, _, name = entry.kinds[kind].partition(".")
    found: type[Task] = getattr(import_module(f".{module}", __package__), name)
    return found


def kind_of(kinds: Kinds, config: Config) -> str | None:
    """The kind of model that a checkpoint is, among those that a task takes."""
    from ..models.common.registry import architecture, by_class_name

    family = architecture(config.model_type)
    saved = by_class_name((config.architectures or [""])[0])
    if saved is not None and saved[1] in family.heads:
        own = ending(family.kind(saved[1]))
        if own in kinds:
            return own
    able = [kind for kind in kinds if has_head(kind, config)]
    if saved is None and "CausalLM" in able and not has_head("MaskedLM", config):  # files that name no class
        return "CausalLM"
    return "Model" if "Model" in able else next(iter(able), None)


def ending(kind: Kind) -> str:
    """What the Auto class of a kind of model is called after its common beginning: "CausalLM", "Model"."""
    return kind.auto.removeprefix("AutoModelFor").removeprefix("Auto")


def has_head(kind: str, config: Config) -> bool:
    """Whether a family has a head of this kind."""
    try:
        getattr(auto, "AutoModel" if kind == "Model" else f"AutoModelFor{kind}").class_for(config)
    except UnknownModel:
        return False
    return True


def call_options(maker: type[Task]) -> set[str]:
    """Names of a task's options of calls."""
    from .writing import FIELDS, Writer

    names = {f.name for f in fields(maker.Options)}
    return names | FIELDS if issubclass(maker, Writer) else names
