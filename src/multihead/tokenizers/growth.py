"""Size checks of template operators, methods and filters before they run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from ..errors import ChatTemplateError

LONGEST = 50_000_000  # characters of a value
WIDEST = 1_000_000  # what a filter may fill or count up to
BITS = 1 << 14  # of a whole number: Python writes none of more than 4,300 digits
EAGER = frozenset({"join", "list", "sum", "sort", "unique", "batch", "slice", "groupby", "min", "max", "reverse"})
METHODS = frozenset(
    "center ljust rjust zfill to_bytes expandtabs join replace translate split rsplit splitlines fromkeys".split()
)
Size = Callable[[Any], int]


def refuse_over(size: float, limit: int = LONGEST) -> None:
    """Raise ChatTemplateError for a size above the limit."""
    if size > limit:
        what = "bits" if limit == BITS else "characters or items"
        raise ChatTemplateError(f"The chat template makes something of more than {limit:,} {what}.")


def check_operator(operator: str, left: Any, right: Any, size: Size) -> None:
    """Refuse an operator whose result would be too large. Raises ChatTemplateError."""
    if operator == "%" and isinstance(left, (str, bytes)):
        check_format(left, "%", right if isinstance(right, tuple) else (right,), size)
    elif operator == "+" and isinstance(left, (str, bytes, list, tuple)):
        refuse_over(size(left) + size(right))
    elif operator == "*":
        for value, count in ((left, right), (right, left)):
            if isinstance(value, (str, bytes, list, tuple)) and isinstance(count, int):
                refuse_over(size(value) * count)
        if isinstance(left, int) and isinstance(right, int):
            refuse_over(left.bit_length() + right.bit_length(), BITS)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        refuse_over(left.bit_length() * abs(right), BITS)


def check_format(text: Any, mark: str, values: Iterable[Any], size: Size) -> None:
    """Refuse a format string whose fields would print too much. Raises ChatTemplateError."""
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    if mark not in text:
        return
    given = [v for value in values for v in (value.values() if isinstance(value, Mapping) else [value])]
    digits = sum(int(run[:9]) for run in re.findall(r"[0-9]+", text))
    largest = max(map(size, given), default=0)
    nested = text.count("*") if mark == "%" else len(re.findall(r"[:!.\[][^{}]*\{", text))
    if nested and not all(isinstance(value, (str, int, float)) for value in given):
        raise ChatTemplateError("The chat template takes the width of a field out of a list or dict.")
    widths = [int(run[:9]) for value in given for run in re.findall(r"[0-9]+", str(value)[:1000])]
    refuse_over(len(text) + digits + text.count(mark) * largest + nested * max(widths, default=0))


def check_method(
    owner: Any, name: str, args: tuple[Any, ...], named: Mapping[str, Any], listed: Callable[[Any], list[Any]]
) -> tuple[Any, ...]:
    """Check the arguments of a method of a text, number, list or dict; iterators become lists.

    Raises:
        ChatTemplateError: the result would be too large.
    """
    if not isinstance(owner, (str, bytes, int, dict, type)):  # methods of the user's own objects
        return args
    first = args[0] if args else next(iter(named.values()), None)
    text: Any = owner
    if name in ("center", "ljust", "rjust", "zfill", "to_bytes") and isinstance(first, int):
        refuse_over(first)
    elif name == "expandtabs" and isinstance(owner, (str, bytes)):
        refuse_over(len(text) + text.count("\t" if isinstance(owner, str) else b"\t") * _whole(first, 8))
    elif name == "join" and args and isinstance(owner, (str, bytes)):
        parts = listed(args[0])
        refuse_over(sum(len(part) + len(text) for part in parts if isinstance(part, (str, bytes))))
        return (parts, *args[1:])
    elif name == "replace" and len(args) > 1 and all(isinstance(x, (str, bytes)) for x in (owner, *args[:2])):
        refuse_over(len(text) + text.count(args[0]) * len(args[1]))
    elif name == "translate" and isinstance(owner, str) and isinstance(first, Mapping):
        refuse_over(len(text) * max((len(v) for v in first.values() if isinstance(v, str)), default=1))
    elif name in ("split", "rsplit", "splitlines") and isinstance(owner, (str, bytes)):
        refuse_over(len(text) + 16 * (text.count(first) if isinstance(first, (str, bytes)) else len(text) // 2))
    elif name == "fromkeys" and args:
        return (listed(args[0]), *args[1:])
    return args


def _whole(value: Any, usual: int) -> int:
    return abs(value) if isinstance(value, int) else usual


def check_center(size: Size, value: Any, width: Any = 80) -> None:
    refuse_over(_whole(width, 80), WIDEST)


def check_indent(size: Size, s: Any, width: Any = 4, first: Any = False, blank: Any = False) -> None:
    wide = len(width) if isinstance(width, str) else _whole(width, 4)
    refuse_over(size(s) + (len(str(s).splitlines()) + 1) * wide)


def check_batch(size: Size, value: Any, linecount: Any, fill_with: Any = None) -> None:
    refuse_over(_whole(linecount, 0), WIDEST)
    check_flat(size, value)


def check_slice(size: Size, value: Any, slices: Any, fill_with: Any = None) -> None:
    refuse_over(_whole(slices, 0), WIDEST // 100)
    check_flat(size, value)


def check_round(size: Size, value: Any, precision: Any = 0, method: Any = "common") -> None:
    refuse_over(_whole(precision, 0), 300)


def check_replace(size: Size, s: Any, old: Any, new: Any, count: Any = None) -> None:
    text = str(s)
    refuse_over(len(text) + text.count(str(old)) * size(new))


def check_join(size: Size, value: Any, d: Any = "", attribute: Any = None) -> None:
    refuse_over(size(value) + (len(value) * size(d) if hasattr(value, "__len__") else 0))


def check_format_filter(size: Size, value: Any, *args: Any, **named: Any) -> None:
    check_format(str(value), "%", (*args, *named.values()), size)


def check_json(
    size: Size,
    value: Any,
    ensure_ascii: Any = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: Any = False,
) -> None:
    refuse_over(len(indent) if isinstance(indent, str) else _whole(indent, 0), 100)
    refuse_over(max((size(part) for part in separators or ()), default=0), 100)
    size(value)


def check_flat(size: Size, value: Any = (), *_: Any, **__: Any) -> None:
    """Check filters that copy their argument into a list, or search it in a way that is slow for long texts."""
    if isinstance(value, (str, bytes)):
        refuse_over(len(value), WIDEST)


def lorem_ipsum(call: Callable[..., Any]) -> Callable[..., Any]:
    """Jinja's filler text with a limited number of paragraphs."""

    @wraps(call)
    def wrapper(n: Any = 5, html: Any = True, min: Any = 20, max: Any = 100) -> Any:
        refuse_over(_whole(n, 0) * _whole(max, 0), 100_000)
        return call(n, html, min, max)

    return wrapper


FILTERS: Mapping[str, Callable[..., None]] = {
    "center": check_center,
    "indent": check_indent,
    "batch": check_batch,
    "slice": check_slice,
    "round": check_round,
    "replace": check_replace,
    "join": check_join,
    "format": check_format_filter,
    "tojson": check_json,
    **dict.fromkeys(
        ("list", "sort", "unique", "groupby", "min", "max", "random", "map", "select", "reject", "selectattr",
         "rejectattr", "urlize", "wordwrap", "striptags", "pprint", "title", "wordcount", "urlencode", "dictsort"),
        check_flat,
    ),
}  # fmt: skip
