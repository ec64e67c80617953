"""`pipeline(task, model)`: choose the default model and the pipeline class of a task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, NetworkUnavailable, UnknownModel, UnsupportedOption, warn
from ..extensions import find_object
from ..hub.options import DownloadOptions
from ..kernels.hardware import best_dtype, usable
from ..modeling import auto
from ..nn.inner_model import inner_model
from ..runtime.prepare import resolve_precision
from ..tokenizers.tokenizer import Tokenizer
from .batch_inference.job import Recipe
from .catalog import LANGUAGE_PAIR, get_task
from .defaults import TRANSLATORS, translator_on_hub

if TYPE_CHECKING:
    from ..config import Config
    from ..heads.head_types import HeadType
    from ..modeling.pretrained import PreTrainedModel
    from .base import Pipeline
    from .task import Task

DOWNLOAD_OPTIONS = tuple(f.name for f in fields(DownloadOptions))


def pipeline(
    task: str,
    model: str | os.PathLike[str] | PreTrainedModel | None = None,
    tokenizer: str | os.PathLike[str] | Tokenizer | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    precision: str | None = None,
    mode: str | None = None,
    **options: Any,
) -> Pipeline:
    """Load what answers a task.

    Args:
        task: `text-generation`, `translation_en_to_pt`, `sentiment-analysis`, ...
        model: a name, a folder or a loaded model. Default: the task's model on the hub; without a network, the one
            from the package index, with a warning.
        tokenizer: default: the model's own.
        dtype: of computation. None: bfloat16 where the hardware multiplies it natively, else float32. "auto": the
            checkpoint's own. `pipe.precision` and the metadata of every answer name the one in use.
        device: such as "cuda" or 0; default: the CPU.
        precision: prepares the model to run fast on a CPU: "auto", "fp32", "bf16", "int8", "int4" or "gguf", see
            `PreTrainedModel.prepare`. `dtype` is then that of hidden states, best left out.
        mode: another way to answer the task: "extractive" for summarization chooses sentences of the text.
        options: defaults of calls (`top_k`, `max_new_tokens`, ...), which a call may change; all others, and those
            in `model_kwargs`, go to `from_pretrained`.

    Raises:
        UnsupportedOption: an unknown task, or an option that comes too late for a loaded model. Otherwise what
            `from_pretrained` raises.
    """
    given = {"dtype": dtype, "device": device, "precision": precision, "mode": mode, "tokenizer": tokenizer}
    recipe = make_recipe(task, model, {name: v for name, v in given.items() if v is not None} | options)
    entry = get_task(task).in_mode(mode)
    loading = dict(options.pop("model_kwargs", None) or {})
    older = loading.pop("torch_dtype", None)
    dtype = dtype if dtype is not None else loading.pop("dtype", older)
    options |= loading
    download = {name: options.pop(name) for name in DOWNLOAD_OPTIONS if name in options}
    note, named = "", model is not None
    if model is None:
        model, note = default_model(task, entry, download)
    cls: Any = pipeline_class(task, entry, model, download)
    calls = {name: options.pop(name) for name in list(options) if name in call_options(cls)}
    if isinstance(model, (str, os.PathLike)):
        source: Any = model
        target = usable(device)
        model = cls.load(model, device=target, **dtype_options(dtype, precision, target), **download, **options)
    else:
        check_precision(model, precision)
        check_load_options(model, {"dtype": dtype, "device": device, **download, **options})
        source = model.name_or_path
    pipe: Pipeline = cls(model, choose_tokenizer(tokenizer, model, source, download), task, note=note, **calls)
    pipe.recipe = recipe
    if not named and hasattr(pipe, "guard_default"):
        pipe.guard_default()
    return pipe


def make_recipe(task: str, model: Any, options: Mapping[str, Any]) -> Recipe | None:
    """Return the arguments of `pipeline` for another process; None if an object in memory is one of them."""
    names = (model, options.get("tokenizer"))
    if not all(name is None or isinstance(name, (str, os.PathLike)) for name in names):
        return None
    return Recipe(task, None if model is None else os.fspath(model), dict(options))


def choose_tokenizer(
    tokenizer: str | os.PathLike[str] | Tokenizer | None, model: Any, source: Any, download: Mapping[str, Any]
) -> Tokenizer:
    """Return the tokenizer that is given or named; else the one that the model holds, or that of its source."""
    own = getattr(model, "tokenizer", None)
    if tokenizer is None and isinstance(own, Tokenizer):
        return own
    if tokenizer is None or isinstance(tokenizer, (str, os.PathLike)):
        return auto.AutoTokenizer.from_pretrained(tokenizer or source, **download)
    return tokenizer


def dtype_options(dtype: Any, precision: str | None, device: Any) -> dict[str, Any]:
    """Return the options of `from_pretrained` that set the dtype and the precision."""
    if precision is None:
        return {"dtype": best_dtype(device or "cpu") if dtype is None else dtype}
    return {"precision": precision} if dtype is None else {"precision": precision, "dtype": dtype}


def check_precision(model: Any, precision: str | None) -> None:
    """Raise UnsupportedOption if a loaded model was not prepared in this precision."""
    if precision is None:
        return
    own = inner_model(model).prepared
    if resolve_precision(precision, model.device) != own:
        found = f"it was prepared in {own}" if own else "it was not prepared"
        advice = "load it again" if own else f"call model.prepare({precision!r}) first"
        raise UnsupportedOption(
            f"precision={precision!r} has no effect on a model that is loaded already, and {found}: {advice}."
        )


def check_load_options(model: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """Raise UnsupportedOption for an option that would change a loaded model."""
    for name, value in options.items():
        same = name in ("dtype", "device") and value in (None, "auto", getattr(model, name))
        if not same and not (name == "device" and usable(value) == model.device):
            raise UnsupportedOption(f"{name!r} has no effect on a model that is loaded already.")


def default_model(task: str, entry: Task, download: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of a task's default model and a note for the metadata.

    Raises:
        NetworkUnavailable: the hub cannot be reached, and the package index has no model for the task.
    """
    from ..hub import resolve

    pair = LANGUAGE_PAIR.fullmatch(task)
    on_hub = translator_on_hub(pair[1], pair[2]) if pair else entry.hub
    offline = TRANSLATORS.get((pair[1], pair[2])) if pair else entry.offline
    try:
        resolve(on_hub, **download)
        return on_hub, ""
    except NetworkUnavailable as error:
        if offline is None:
            raise NetworkUnavailable(
                f"{task} has the default model {on_hub}, which is not cached and cannot be fetched, and the package "
                "index has no model for it. Name a model: a local folder, or one that is cached."
            ) from error
    note = f"{on_hub} is not cached and cannot be fetched; {offline.title} from the package index answers instead"
    warn(f"{task}: {note}.")
    return offline.name, note


def pipeline_class(task: str, entry: Task, model: Any, download: Mapping[str, Any]) -> type[Pipeline]:
    """Return the class that answers a task with a model, by the head that the checkpoint was saved with.

    Raises:
        InvalidInput: the model has no head for the task.
    """
    if isinstance(model, (str, os.PathLike)):
        head = choose_head(entry, auto.AutoConfig.from_pretrained(model, **download))
    else:
        inner = inner_model(model)
        if not hasattr(inner, "head_type"):
            raise InvalidInput(f"{task} runs models of a family or derived from one, not a {type(model).__name__}.")
        own = head_name(inner.head_type)
        head = own if own in entry.pipelines else "Model" if "Model" in entry.pipelines else None
    if head is None:
        wanted = " or ".join(f"AutoModelFor{head}" for head in entry.pipelines)
        raise InvalidInput(f"{task} needs a model with a head for it: load one with {wanted}.")
    found: type[Pipeline] = find_object(entry.pipelines[head].path, __package__)
    return found


def choose_head(entry: Task, config: Config) -> str | None:
    """Return the head type that a checkpoint is loaded with, among those of a task; None if it has none of them."""
    from ..models.common.registry import architecture, find_class

    family = architecture(config.model_type)
    saved = find_class((config.architectures or [""])[0])
    if saved is not None and saved[1] in family.heads:
        own = head_name(family.head_type(saved[1]))
        if own in entry.pipelines:
            return own
    able = [head for head in entry.pipelines if has_head(head, config)]
    if saved is None and "CausalLM" in able and not has_head("MaskedLM", config):  # files that name no class
        return "CausalLM"
    return "Model" if "Model" in able else next(iter(able), None)


def head_name(head_type: HeadType) -> str:
    """Return the name of an Auto class without its prefix: "CausalLM", or "Model" for AutoModel."""
    return head_type.auto.removeprefix("AutoModelFor").removeprefix("Auto")


def has_head(head: str, config: Config) -> bool:
    """Return whether the family of a config has a head of this type."""
    try:
        getattr(auto, "AutoModel" if head == "Model" else f"AutoModelFor{head}").class_for(config)
    except UnknownModel:
        return False
    return True


def call_options(cls: type[Pipeline]) -> set[str]:
    """Return the names of a pipeline's options of calls."""
    from .generation_base import FIELDS, GenerationPipeline

    names = {f.name for f in fields(cls.Options)}
    return names | FIELDS if issubclass(cls, GenerationPipeline) else names
