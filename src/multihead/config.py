"""config.json as typed, checked dataclasses under its own names.

A family's config class has a field for every entry that changes a number. A field's type lists the values that are
computed: `Literal["absolute"]` refuses all others by name. Entries without a field are kept, reported by `unknown`, and
written back. Only entries that a call reads (`IN_CALLS`) can be set later: layers were built from the others.

A class that a program derives, with a constructor that sets attributes, is no dataclass: its attributes are its
entries, of any type.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import (
    CorruptFile,
    InvalidInput,
    ModelNotFound,
    UnsupportedConfig,
    UnsupportedOption,
    describe_error,
    nearest,
    read_errors,
    warn,
)
from .files import write_text
from .hub.push import PushToHub, pop_upload, refuse_options

C = TypeVar("C", bound="Config")

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
LOADER = "multihead.modeling.model_config"

Size = Annotated[int, range(1, 2**31)]  # a width, a number of rows or heads
Count = Annotated[int, range(1001)]  # of layers
Copies = Annotated[int, range(1, 2049)]  # of experts of a layer, or groups of layers: each is a module
Labels = Annotated[int, range(1, 2**20 + 1)]  # all of which have names

# Entries that say nothing about the numbers of a forward pass: provenance, defaults of generation, training switches.
INERT = frozenset(
    """
    _name_or_path _commit_hash _attn_implementation _attn_implementation_autoset attn_implementation auto_map
    transformers_version multihead_version model_type architectures torch_dtype dtype finetuning_task use_cache
    gradient_checkpointing return_dict return_dict_in_generate output_attentions output_hidden_states torchscript
    use_bfloat16 pruned_heads task_specific_params prefix num_beams num_beam_groups max_length min_length do_sample
    early_stopping temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences diversity_penalty output_scores
    forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens sep_token_id cls_token_id tokenizer_class bos_token_id eos_token_id pad_token_id
    decoder_start_token_id tf_legacy_loss chunk_size_feed_forward cross_attention_hidden_size is_composition
    keys_to_ignore_at_inference is_decoder add_cross_attention pretraining_tp language directionality classif_dropout
    down_scale_factor summary_type summary_use_proj summary_activation summary_last_dropout summary_first_dropout
    summary_proj_to_labels reorder_and_upcast_attn attention_softmax_in_fp32 scale_attention_softmax_in_fp32
    eos_token_ids output_past gap_size net_structure_type num_memory_blocks sentence_transformers
    sbert_ce_default_activation_function
    _num_labels add_bias_logits add_final_layer_norm extra_pos_embeddings extra_layer_norm normalize_before
    normalize_embedding static_position_embeddings force_bos_token_to_be_generated do_blenderbot_90_layernorm
    layernorm_variant n_positions save_step unk_token_id mask_token_id deterministic_flash_attn sparse_prediction
    sparse_pred_ignore_index initializer_cutoff_factor reference_compile repad_logits_with_grad untie_r bos_index
    unk_index mask_index embed_init_std id2lang lang2id
    is_causal use_mems_train lang_id esmfold_config vocab_list n_ctx from_tf seq_length inference_runner max_batch_size
    max_sequence_length pad_key_length pre_allocate_kv_cache validate_runner_input output_projection
    bias_dropout_fusion masked_softmax_fusion offset_alibi skip_bias_add skip_bias_add_qkv init_config tokenizer_name
    verbose is_llama_config transformers.js_config cache_implementation model_max_length layer_switch
    order_of_interleaved_layers use_embedding_sharing use_gated_activation use_parallel_block use_parallel_embedding
    max_window_layers aux_loss_alpha seq_aux ep_size fused_add_norm ssm_cfg pad_vocab_size_multiple pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type tie_weights_ padding_idx
    attention_mode ignore_attention_mask dense_seq_output fused_bias_fc fused_dropout_add_ln max_trained_positions
    use_flash_attn use_xentropy max_vocab min_count same_enc_dec share_inout_emb actual_seq_length use_latest
    """.split()
)


IN_CALLS = frozenset(
    """
    architectures id2label label2id problem_type calibration pad_token_id bos_token_id eos_token_id sep_token_id
    cls_token_id decoder_start_token_id forced_bos_token_id forced_eos_token_id task_specific_params prefix
    tokenizer_class dtype
    torch_dtype _name_or_path name_or_path use_cache output_attentions output_hidden_states return_dict
    output_router_logits
    """.split()
)


@dataclasses.dataclass(kw_only=True)
class Config(PushToHub):
    """Base class of every family's config.

    Args:
        num_labels: labels of a classification head; their number in `id2label` where that is given.
        problem_type: the loss of a text classifier; None: chosen by the labels.
        calibration: what makes the scores of the labels probabilities; see `pipelines.calibration`. None for nothing.
        placeholder_token_ids: ids that stand for images and sound in the checkpoint that a text half comes from, by the
            names of their entries. Inputs with one are refused.
        extra: entries of the file without a field, written back by `to_dict`.
    """

    model_type: ClassVar[str] = ""
    _attn_implementation: ClassVar[str] = "sdpa"  # of the model that was made of it; `set_attention` notes another
    inert: ClassVar[tuple[str, ...]] = ()  # this family's own entries that change no number
    aliases: ClassVar[Mapping[str, str]] = {}  # names that users know -> this family's own field
    sub_configs: ClassVar[Mapping[str, Any]] = {}  # a config describes one model here, of text
    attribute_map: ClassVar[Mapping[str, str]] = {}  # aliases of a program's own class

    architectures: list[str] | None = None
    num_labels: Labels = 2
    id2label: dict[Any, Any] | None = None
    label2id: dict[str, Any] | None = None
    problem_type: Literal[None, "regression", "single_label_classification", "multi_label_classification"] = None
    calibration: dict[str, Any] | None = None
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    placeholder_token_ids: dict[str, int] | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__init__ is Config.__init__:
            cls.__init__ = Config.__init__  # type: ignore[method-assign]  # the decorator of dataclasses leaves it

    def __init__(self, **entries: Any) -> None:
        """A config of these entries, and the family's defaults for others.

        Raises:
            TypeError: no entry of the family, and none of those that change no number.
        """
        cls = type(self)
        fields = {field.name: field for field in complete(cls)}
        given = {cls.aliases.get(name, name): value for name, value in entries.items()}
        more = {name: given.pop(name) for name in list(given) if name not in fields}
        known = INERT | IN_CALLS | {*cls.inert}
        if cls is not Config and not is_open(cls) and (wrong := [name for name in more if name not in known]):
            raise TypeError(f"{cls.__name__} has no entry {wrong[0]!r}. {nearest(wrong[0], fields)}")
        for name, field in fields.items():
            make = field.default_factory
            made = field.default if make is dataclasses.MISSING else make()
            object.__setattr__(self, name, given.get(name, made))
        self.extra = {**self.extra, **{name: plain(value) for name, value in more.items()}}
        self.__post_init__()

    def __post_init__(self) -> None:
        for name, hint in type_hints(family_class(type(self))).items():
            value = getattr(self, name)
            if not accepts(hint, value):
                raise UnsupportedConfig(
                    f"{type(self).__name__}.{name} is {value!r}; this library computes {describe(hint)}."
                )
            if name.endswith(("_eps", "_epsilon")) and isinstance(value, (int, float)) and not value >= 0:
                raise UnsupportedConfig(f"{type(self).__name__}.{name} is {value!r}; it must be 0 or more.")
        if self.id2label is not None:
            self.id2label = _numbered(self.id2label)
            self.num_labels = len(self.id2label)
        else:
            self.id2label = {i: f"LABEL_{i}" for i in range(self.num_labels)}
        if self.label2id is None:
            self.label2id = {label: i for i, label in (self.id2label or {}).items()}
        if kind := self.extra.get("quantization_config"):
            name = kind.get("quant_method", "?") if isinstance(kind, Mapping) else kind
            raise UnsupportedConfig(
                f"The checkpoint's weights are quantized by {name!r}, which is not read here; load one that is not."
            )
        if self.extra.get("per_layer_config"):
            raise UnsupportedConfig(
                f"per_layer_config changes entries of single layers, which {type(self).__name__} does not compute."
            )
        self.check()
        if not is_open(type(self)):
            self.freeze()

    def freeze(self) -> None:
        """Refuse changes of entries that layers are built from, from now on."""
        self.__dict__["_made"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Change an entry that a call reads.

        Raises:
            UnsupportedOption: layers were built from the entry, or there is no such entry. UnsupportedConfig: a wrong
                type.
        """
        if is_open(type(self)) and ("_made" not in self.__dict__ or name not in type_hints(family_class(type(self)))):
            self._set_open(self.attribute_map.get(name, name), value)
            return
        if "_made" not in self.__dict__:
            object.__setattr__(self, name, value)
            return
        held = getattr(self, name, None)
        if held is not None and type(held) is type(value) and held == value:
            return  # programs set what is set already
        kinds, title = type_hints(type(self)), f"{type(self).__name__}.{name}"
        if name not in IN_CALLS or (name == "id2label" and len(_numbered(value)) != self.num_labels):
            changed = f"num_labels={len(value)}" if name == "id2label" else f"{name}={value!r}"
            raise UnsupportedOption(
                f"{title} cannot be set any more: a model's layers are built from its config. Load the model with "
                f"from_pretrained(..., {changed}), or make another config with config.changed({changed})."
            )
        if name not in kinds:
            self.extra[name] = value
            return
        if not accepts(kinds[name], value):
            raise UnsupportedConfig(f"{title} is {value!r}; this library computes {describe(kinds[name])}.")
        object.__setattr__(self, name, _numbered(value) if name == "id2label" else value)

    def _set_open(self, name: str, value: Any) -> None:
        """Set an entry of a program's own class."""
        if name in IN_CALLS and name not in self.__dataclass_fields__ and "extra" in self.__dict__:
            self.extra[name] = plain(value)
            return
        object.__setattr__(self, name, value)
        labels = self.__dict__.get("id2label")
        if name == "num_labels" and isinstance(labels, dict) and len(labels) != value:
            object.__setattr__(self, "id2label", {i: f"LABEL_{i}" for i in range(value)})
            object.__setattr__(self, "label2id", {f"LABEL_{i}": i for i in range(value)})
        elif name == "id2label" and isinstance(value, dict):
            object.__setattr__(self, "num_labels", len(value))

    def check(self) -> None:
        """Raise UnsupportedConfig if entries contradict each other. Families extend this method."""

    def __getattr__(self, name: str) -> Any:
        aliases = {**type(self).aliases, **type(self).attribute_map}
        if name in aliases:
            return getattr(self, aliases[name])
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no entry {name!r}.")

    @property
    def unknown(self) -> tuple[str, ...]:
        """Entries without a field that are not in the list of entries without effect."""
        if is_open(type(self)):
            return ()  # a program reads them
        return tuple(sorted(name for name in self.extra if name not in INERT and name not in self.inert))

    @classmethod
    def from_pretrained(cls: type[C], name: str | os.PathLike[str], **options: Any) -> C:
        """Return the config of a checkpoint; see `AutoConfig.from_pretrained`.

        Raises:
            UnsupportedConfig: the checkpoint is another family's.
        """
        load: Any = import_module(LOADER)  # of a room above, since a name is looked up there
        return load.load_config_of(cls, name, **options)

    @classmethod
    def from_dict(cls: type[C], config_dict: Mapping[str, Any], **changes: Any) -> C:
        """Return a config of the entries of a config.json, some of them changed."""
        return cls.read({**config_dict, **changes})

    @classmethod
    def from_json_file(cls: type[C], json_file: str | os.PathLike[str]) -> C:
        """Return the config in a file. Raises ModelNotFound, CorruptFile."""
        return cls.read(read_json(Path(json_file)))

    @classmethod
    def read(cls: type[C], entries: Mapping[str, Any]) -> C:
        """Build a config from the entries of a parsed config.json.

        Raises:
            UnsupportedConfig: an entry has a type or value that is not computed here.
        """
        with read_errors(f"The config of {cls.__name__}", UnsupportedConfig, "Check the types of its entries."):
            entries = cls.normalized({cls.aliases.get(k, k): v for k, v in entries.items() if k != "model_type"})
            names = {f.name for f in complete(cls)} - {"extra"}
            if isinstance(entries.get("num_labels"), int) and isinstance(entries.get("id2label"), dict):
                entries = cls._relabeled(entries)
            known = {k: v for k, v in entries.items() if k in names and not (v is None and not accepts_none(cls, k))}
            if is_open(cls):
                return cls(**known, **{k: v for k, v in entries.items() if k not in names})
            return cls(**known, extra={k: v for k, v in entries.items() if k not in names})

    @classmethod
    def normalized(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Return entries with older names replaced by current ones. Families extend this method."""
        return entries

    @classmethod
    def _relabeled(cls, entries: dict[str, Any]) -> dict[str, Any]:
        """Drop names of labels that do not fit a new number of labels."""
        if len(entries["id2label"]) == entries["num_labels"]:
            return entries
        return {k: v for k, v in entries.items() if k not in ("id2label", "label2id")}

    def changed(self: C, **changes: Any) -> C:
        """Return a copy with some entries changed."""
        if "num_labels" in changes and "id2label" not in changes and changes["num_labels"] != self.num_labels:
            changes = {"id2label": None, "label2id": None, **changes}
        elif "id2label" in changes and "label2id" not in changes:
            changes = {"label2id": None, **changes}
        if self.calibration is not None and not self._keeps_labels(changes):  # it was fitted for other labels
            changes = {"calibration": None, **changes}
        return self.read({**self.to_dict(), **changes})

    def _keeps_labels(self, changes: Mapping[str, Any]) -> bool:
        """Return whether a config has the same labels after some changes."""
        if changes.get("id2label") is not None:
            return _numbered(changes["id2label"]) == self.id2label
        return "id2label" not in changes

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Config:
        """Return the config of the language model, which this is."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of config.json."""
        entries = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        del entries["num_labels"]  # the format derives it from id2label
        entries = {k: v for k, v in entries.items() if v is not None or k in self._always_written}
        own = {name: plain(value) for name, value in vars(self).items() if name in self._own_entries}
        return {"model_type": self.model_type, **entries, **self.extra, **own}

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the entries of config.json that differ from the defaults of the class."""
        usual = type(self)().to_dict()
        same = {name for name, value in usual.items() if name != "model_type" and self.to_dict().get(name) == value}
        return {name: value for name, value in self.to_dict().items() if name not in same}

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set entries that a call reads. Raises UnsupportedOption for others."""
        for name, value in config_dict.items():
            setattr(self, name, value)

    @property
    def _own_entries(self) -> set[str]:
        """Return the names of attributes that a program's own class set."""
        if not is_open(type(self)):
            return set()
        return {name for name in vars(self) if not name.startswith("_")} - {f.name for f in complete(type(self))}

    @property
    def name_or_path(self) -> str:
        """Name that the config was loaded from; empty where a program made it."""
        return str(self.extra.get("name_or_path") or self.extra.get("_name_or_path") or "")

    @name_or_path.setter
    def name_or_path(self, value: str) -> None:
        self.extra["_name_or_path"] = str(value)

    @property
    def use_return_dict(self) -> bool:
        """True if a pass returns an output, and no tuple."""
        return bool(self.extra.get("return_dict", True))

    @property
    def _always_written(self) -> set[str]:
        """Return fields whose None must be written, since a missing entry has another meaning."""
        usual = {f.name for f in dataclasses.fields(self) if f.default is not None}
        return {"pad_token_id", "eos_token_id"} | (usual - {"extra", "id2label", "label2id"})

    def to_json_string(self) -> str:
        """Return the text of config.json. Raises InvalidInput for a value that JSON cannot have."""
        return to_json(self.to_dict(), CONFIG_FILE)

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Write config.json into `folder`, whole or not at all.

        Args:
            options: `push_to_hub=True` uploads it, with the options of `push_to_hub` and `repo_id`.

        Raises:
            UnsupportedOption: another option.
        """
        path, upload = Path(folder), pop_upload(options, folder)
        refuse_options(options, "save_pretrained")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / CONFIG_FILE, self.to_dict())
        if upload is not None:
            self.push_to_hub(**upload)

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the entries into a file, whole or not at all."""
        write_json(Path(json_file_path), self.to_dict())


def complete(cls: type[Config]) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields of a config class; annotations of a program's own class become fields first."""
    if is_open(cls) and "__dataclass_fields__" not in vars(cls) and "__annotations__" in vars(cls):
        dataclasses.dataclass(kw_only=True)(cls)
    return dataclasses.fields(cls)


def is_open(cls: Any) -> bool:
    """Return whether a class is a program's own, whose author did not decorate it as a dataclass, or derives from one.

    It is asked first when an object of the class is made, after a decorator had its turn.
    """
    return _is_open(cls)


@cache
def _is_open(cls: Any) -> bool:
    return "__dataclass_fields__" not in vars(cls) or any(_is_open(c) for c in cls.__bases__ if issubclass(c, Config))


def family_class(cls: type[Config]) -> type[Config]:
    """Return the class that declares the types of a config's entries, which a program's own class derives from."""
    return next(base for base in cls.__mro__ if issubclass(base, Config) and not is_open(base))


def plain(value: Any) -> Any:
    """Return a value of an entry as JSON has it, where it is a config or a dtype of torch."""
    if isinstance(value, Config):
        return value.to_dict()
    return str(value).removeprefix("torch.") if type(value).__name__ == "dtype" else value


def _numbered(labels: Any) -> dict[int, Any]:
    try:
        numbered = {int(k): v for k, v in labels.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UnsupportedConfig(f"id2label must map numbers to names, not {labels!r:.200}.") from error
    wrong = next((v for v in numbered.values() if not isinstance(v, (str, int)) or isinstance(v, bool)), None)
    if wrong is not None:
        raise UnsupportedConfig(f"id2label must map numbers to names; {wrong!r:.80} is none.")
    return numbered


def check_label_order(config: C, given: Mapping[str, Any]) -> C:
    """Return the config. Raises UnsupportedOption if `id2label` has the labels of the head in another order."""
    own, names = config.id2label or {}, given.get("id2label")
    if not isinstance(names, Mapping):
        return config
    asked, known = _numbered(dict(names)), [str(own[number]).casefold() for number in sorted(own)]
    wanted = [str(asked[number]).casefold() for number in sorted(asked)]
    if known != wanted and sorted(known) == sorted(wanted):
        raise UnsupportedOption(
            f"id2label gives the checkpoint's labels in another order, and its head has them as {own}. Leave id2label "
            "out; a task reads rows by the names of their labels."
        )
    return config


def changed(config: C, entries: Mapping[str, Any]) -> C:
    """Return a config with entries that a caller changes. Raises UnsupportedOption for an unknown name."""
    names = {f.name for f in dataclasses.fields(config)} | set(config.extra) | set(type(config).aliases) | IN_CALLS
    names |= {*type(config).inert, *type(config).attribute_map, *config._own_entries}
    wrong = [name for name in entries if name not in names]
    if wrong:
        raise UnsupportedOption(
            f"{', '.join(wrong)}: no option of from_pretrained and no entry of {type(config).__name__}."
        )
    if config.unknown:
        warn(
            f"{type(config).__name__}: entries that are not known here are kept but change nothing: "
            f"{', '.join(config.unknown)}."
        )
    return config.changed(**entries) if entries else config


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        ModelNotFound: there is no such file. CorruptFile: it cannot be read, is not JSON, or not an object.
    """
    entries = parse_json(path)
    if not isinstance(entries, dict):
        raise CorruptFile(f"{path} holds a {type(entries).__name__}, not an object of named entries.")
    return entries


def parse_json(path: Path) -> Any:
    """Read any value from a JSON file. Raises as `read_json` does."""
    try:
        return _decode_non_finite(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path.parent} has no {path.name}.") from error
    except (OSError, MemoryError) as error:
        raise CorruptFile(f"{path} cannot be read: {describe_error(error)}.") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and numbers of too many digits among them
        raise CorruptFile(f"{path} is not valid JSON: {describe_error(error)}.") from error


WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # that JSON has no sign for


def _decode_non_finite(value: Any) -> Any:
    """Replace numbers that JSON cannot have as the format writes them: {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            word = value["__float__"]
            if not isinstance(word, str) or word not in WORDS:
                raise ValueError(f'"__float__" is {word!r}, which is none of {", ".join(WORDS)}')
            return WORDS[word]
        return {k: _decode_non_finite(v) for k, v in value.items()}
    return [_decode_non_finite(item) for item in value] if isinstance(value, list) else value


def _encode_non_finite(value: Any) -> Any:
    """Replace NaN and infinities by {"__float__": name}, which strict JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, Mapping):
        return {k: _encode_non_finite(v) for k, v in value.items()}
    return [_encode_non_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def to_json(entries: Mapping[str, Any], name: str) -> str:
    """Return entries as the text of a JSON file. Raises InvalidInput."""
    try:
        return (
            json.dumps(_encode_non_finite(entries), indent=2, ensure_ascii=False, default=list, allow_nan=False) + "\n"
        )
    except TypeError as error:
        raise InvalidInput(f"{name} cannot be written: {error}.") from error


def write_json(path: Path, entries: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, to_json(entries, path.name))


def type_hints(cls: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    return _hints(cls)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    found = get_type_hints(cls, include_extras=True)
    return {f.name: found[f.name] for f in dataclasses.fields(cls)}


def accepts_none(cls: type[Config], name: str) -> bool:
    return accepts(type_hints(cls)[name], None)


def accepts(hint: Any, value: Any) -> bool:
    """True if a value is of a hint's type. An int is accepted as a float; a bool is not a number."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        kind, allowed = get_args(hint)
        return accepts(kind, value) and value in allowed
    if origin is Literal:
        return any(value is a or (type(value) is type(a) and value == a) for a in get_args(hint))
    if origin in (Union, UnionType):
        return any(accepts(part, value) for part in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(accepts(get_args(hint)[0], item) for item in value)
    kind = origin or hint
    if kind in (int, float) and (isinstance(value, bool) or not _computable(value)):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _computable(value: Any) -> bool:
    """True for a number that tensors can hold: not NaN, and at most 64 bits if it is whole."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return not (isinstance(value, float) and math.isnan(value))


def describe(hint: Any) -> str:
    """Return a type in words for a message: `int`, `one of 'absolute'`."""
    if get_origin(hint) is Literal:
        return "only " + ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(describe(part) for part in get_args(hint))
    if get_origin(hint) is Annotated:
        allowed = get_args(hint)[1]
        return f"whole numbers from {allowed[0]} to {allowed[-1]}"
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
