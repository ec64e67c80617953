"""The options of a tokenizer's call, and encoding of texts to padded rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, UnsupportedOption, nearest
from .encodings import Encodings, to_tensors

if TYPE_CHECKING:
    from .core import TokenizerCore

STRATEGIES = {
    True: "longest_first",
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a tokenizer's call.

    Args:
        add_special_tokens: frames each text as the model expects.
        padding: True or "longest" to the batch's longest, "max_length" to max_length, False for none.
        truncation: True or "longest_first", "only_first", "only_second", False for none.
        max_length: tokens a row, special ones included; the model's own limit when left out.
        stride: tokens that a window shares with the one before; with return_overflowing_tokens.
        is_split_into_words: texts are lists of words. pad_to_multiple_of: rounds padded lengths up.
        return_tensors: "pt", "np", or None for lists.
        split_special_tokens: reads special tokens in texts as any other text; as the tokenizer says, when left out.
    """

    add_special_tokens: bool = True
    padding: bool | str = False
    truncation: bool | str | None = None
    max_length: int | None = None
    stride: int = 0
    is_split_into_words: bool = False
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    return_tensors: str | None = None
    return_token_type_ids: bool | None = None
    return_attention_mask: bool | None = None
    return_overflowing_tokens: bool = False
    return_special_tokens_mask: bool = False
    return_offsets_mapping: bool = False
    return_length: bool = False
    verbose: bool = True
    split_special_tokens: bool | None = None


def options_of(given: Mapping[str, Any]) -> Options:
    """Build Options. Raises UnsupportedOption for an unknown name, InvalidInput for values that conflict."""
    names = {f.name for f in fields(Options)}
    for name in given:
        if name not in names:
            raise UnsupportedOption(f"{name!r} is no option of a tokenizer's call. {nearest(name, names)}")
    options = Options(**given)
    if options.padding not in (True, False, "longest", "max_length", "do_not_pad", None):
        raise InvalidInput(f"padding is True, False, 'longest' or 'max_length', not {options.padding!r}.")
    if options.truncation not in (None, False, "do_not_truncate", *STRATEGIES):
        known = ", ".join(map(str, list(STRATEGIES)[1:]))
        raise InvalidInput(f"truncation is True, False or one of {known}, not {options.truncation!r}.")
    if options.padding_side not in (None, "left", "right"):
        raise InvalidInput(f"padding_side is 'left' or 'right', not {options.padding_side!r}.")
    if (options.max_length is not None and options.max_length < 0) or options.stride < 0:
        raise InvalidInput("max_length and stride are numbers of tokens, not negative.")
    return options


def encode(
    tokenizer: TokenizerCore, text: Any, pair: Any, given: Mapping[str, Any], *, as_target: bool = False
) -> Encodings:
    """Implement `Tokenizer.__call__`; `as_target` encodes the texts as targets."""
    options = options_of(given)
    inputs, batched = batch_of(text, pair, options.is_split_into_words)
    limits = limits_of(tokenizer, options)
    found = tokenizer.run(
        inputs,
        words=options.is_split_into_words,
        special=options.add_special_tokens,
        limits=limits,
        as_target=as_target,
        split=options.split_special_tokens,
    )
    rows, samples = [], []
    for number, encoding in enumerate(found):
        windows = [encoding, *encoding.overflowing] if options.return_overflowing_tokens else [encoding]
        rows += windows
        samples += [number] * len(windows)
    pad_encodings(tokenizer, rows, options)
    data = columns(tokenizer, rows, options)
    if options.return_overflowing_tokens:
        data["overflow_to_sample_mapping"] = samples
    if options.return_tensors is not None:
        data = to_tensors(data, options.return_tensors)
    elif not batched and not options.return_overflowing_tokens:
        data = {name: values if name == "length" else values[0] for name, values in data.items()}  # as the reference
    return Encodings(data, rows)


def batch_of(text: Any, pair: Any, words: bool) -> tuple[list[Any], bool]:
    """Return the inputs as a list of texts or pairs, and whether they were a batch.

    Raises:
        InvalidInput: something that is no text, or texts and pairs of unlike number.
    """
    batched = isinstance(text, (list, tuple)) and (not words or (bool(text) and isinstance(text[0], (list, tuple))))
    texts = list(text) if batched else [text]
    if batched and pair is None and not words and texts and isinstance(texts[0], (list, tuple)):
        if any(not isinstance(t, (list, tuple)) or len(t) != 2 for t in texts):
            raise InvalidInput("A list in a batch is a pair of texts; for words, pass is_split_into_words=True.")
        texts, pair = [t[0] for t in texts], [t[1] for t in texts]
    pairs = None if pair is None else (list(pair) if batched and isinstance(pair, (list, tuple)) else [pair])
    for number, one in enumerate([*texts, *(pairs or [])]):
        right = (
            all(isinstance(w, str) for w in one) if words and isinstance(one, (list, tuple)) else isinstance(one, str)
        )
        if not right:
            what = "a list of words" if words else "a string"
            raise InvalidInput(f"Input {number} must be {what}, not {type(one).__name__}.")
    if pairs is None:
        return texts, batched
    if len(pairs) != len(texts):
        raise InvalidInput(f"There are {len(texts)} texts and {len(pairs)} second texts.")
    return list(zip(texts, pairs, strict=True)), batched


def limits_of(tokenizer: TokenizerCore, options: Options) -> dict[str, Any] | None:
    """Return the library's truncation settings, or None for no truncation."""
    strategy = STRATEGIES.get(options.truncation)
    if options.truncation is None and options.max_length is not None and options.padding is False:
        strategy = "longest_first"  # max_length alone means truncation, as the reference takes it
    limit = options.max_length if options.max_length is not None else tokenizer.model_max_length
    if strategy is None or limit > 10**9:
        return None
    room = limit - (tokenizer.num_special_tokens_to_add(False) if options.add_special_tokens else 0)
    if options.stride and options.stride >= room:
        raise InvalidInput(
            f"stride = {options.stride} leaves no new token in windows of {room} tokens (max_length = {limit})."
        )
    return {"max_length": limit, "stride": options.stride, "strategy": strategy, "direction": tokenizer.truncation_side}


def pad_encodings(tokenizer: TokenizerCore, rows: Sequence[Any], options: Options) -> None:
    """Pad the library's encodings in place. Raises InvalidInput without a padding token."""
    if options.padding in (False, "do_not_pad", None):
        return
    length = padded_length(tokenizer, rows, options)
    token, number = padding(tokenizer)
    side = options.padding_side or tokenizer.padding_side
    for row in rows:
        row.pad(
            length,
            direction=side,
            pad_id=number,
            pad_type_id=tokenizer.pad_token_type_id,
            pad_token=token,
        )


def padded_length(tokenizer: TokenizerCore, rows: Sequence[Any], options: Options) -> int:
    """Return the tokens of a padded row. Raises InvalidInput for "max_length" where no limit is set."""
    length = max(map(len, rows), default=0)
    if options.padding == "max_length":
        length = options.max_length if options.max_length is not None else tokenizer.model_max_length
        if length > 10**9:
            raise InvalidInput("padding='max_length' needs max_length: this tokenizer's model has no limit of its own.")
    multiple = options.pad_to_multiple_of or 1
    return -(-length // multiple) * multiple


def padding(tokenizer: TokenizerCore) -> tuple[str, int]:
    """Return the padding token and its id. Raises InvalidInput where there is none."""
    if tokenizer.pad_token is None or tokenizer.pad_token_id is None:
        raise InvalidInput(
            "This tokenizer has no padding token. Choose one: tokenizer.pad_token = tokenizer.eos_token, or "
            "tokenizer.add_special_tokens({'pad_token': '[PAD]'})."
        )
    return tokenizer.pad_token, tokenizer.pad_token_id


def columns(tokenizer: TokenizerCore, rows: Sequence[Any], options: Options) -> dict[str, Any]:
    """Return name -> one list a row, for the outputs that were requested or that the model takes."""
    names = tokenizer.model_input_names
    types = options.return_token_type_ids if options.return_token_type_ids is not None else "token_type_ids" in names
    mask = options.return_attention_mask if options.return_attention_mask is not None else "attention_mask" in names
    data: dict[str, Any] = {"input_ids": [row.ids for row in rows]}
    if types:
        data["token_type_ids"] = [row.type_ids for row in rows]
    if mask:
        data["attention_mask"] = [row.attention_mask for row in rows]
    if options.return_special_tokens_mask:
        data["special_tokens_mask"] = [row.special_tokens_mask for row in rows]
    if options.return_offsets_mapping:
        data["offset_mapping"] = [row.offsets for row in rows]
    if options.return_length:
        data["length"] = [len(row.ids) for row in rows]
    return data


def pad_rows(
    tokenizer: TokenizerCore,
    encoded: Any,
    *,
    padding: bool | str = True,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_attention_mask: bool | None = None,
    return_tensors: str | None = None,
    verbose: bool = True,
) -> Encodings:
    """Pad rows that were encoded separately, or one row.

    Args:
        encoded: a mapping of lists, or a list of mappings, with `input_ids`. Ids, masks and types are padded; any other
            column stays as it is.
        return_tensors: "pt", "np", or None for what the ids were: tensors, arrays, or lists.

    Raises:
        InvalidInput: no `input_ids`, no padding token, no limit to pad to, or columns that make no tensor.
    """
    if isinstance(encoded, (list, tuple)):
        encoded = {name: [row[name] for row in encoded] for name in (encoded[0] if encoded else ())}
    if "input_ids" not in encoded:
        raise InvalidInput(f"pad needs input_ids; there is {', '.join(encoded) or 'nothing'}.")
    kind = return_tensors or container_kind(encoded["input_ids"])
    data = {name: to_lists(values) for name, values in encoded.items()}
    single = bool(data["input_ids"]) and isinstance(data["input_ids"][0], int)
    if single:
        data = {name: [values] for name, values in data.items()}
    options = options_of({
        "padding": padding, "max_length": max_length, "padding_side": padding_side,
        "pad_to_multiple_of": pad_to_multiple_of,
    })  # fmt: skip
    if return_attention_mask or (return_attention_mask is None and "attention_mask" in tokenizer.model_input_names):
        data.setdefault("attention_mask", [[1] * len(row) for row in data["input_ids"]])
    if options.padding not in (False, "do_not_pad", None):
        fill_rows(tokenizer, data, options)
    if single:
        data = {name: values[0] for name, values in data.items()}
    return Encodings(to_tensors(data, kind) if kind else data)


def fill_rows(tokenizer: TokenizerCore, data: dict[str, Any], options: Options) -> None:
    """Pad the per-token columns in place. Raises InvalidInput without a padding token."""
    length = padded_length(tokenizer, data["input_ids"], options)
    fill = {
        "input_ids": padding(tokenizer)[1],
        "attention_mask": 0,
        "token_type_ids": tokenizer.pad_token_type_id,
        "special_tokens_mask": 1,
    }
    left = (options.padding_side or tokenizer.padding_side) == "left"
    for name in fill.keys() & data.keys():
        more = [[fill[name]] * (length - len(row)) for row in data[name]]
        data[name] = [[*end, *row] if left else [*row, *end] for row, end in zip(data[name], more, strict=True)]


def container_kind(ids: Any) -> str | None:
    """Return the container of ids: "pt" for tensors, "np" for arrays, None for lists."""
    while isinstance(ids, (list, tuple)) and ids:
        ids = ids[0]
    return {"torch": "pt", "numpy": "np"}.get(type(ids).__module__.partition(".")[0])


def to_lists(values: Any) -> Any:
    """Convert tensors and arrays inside lists to lists; leave other values unchanged."""
    if isinstance(values, list):
        return [to_lists(one) for one in values]
    return values.tolist() if hasattr(values, "tolist") else values
