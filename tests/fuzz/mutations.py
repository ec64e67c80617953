"""What is done to good files: each mutation knows its format, so that most of them get past the first check.

A mutation gives new bytes, and whether it may honestly change what the file stands for: another weight is another
number (True), another type of an entry is damage (False), and what is left out may have a default where a warning names
it (that name).
"""

from __future__ import annotations

import copy
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Honest = bool | str
Mutated = tuple[bytes, Honest]

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 255, 65_536, 2**31 - 1, 2**31, 2**63, 10**30, 0.0, 0.5, -1e-5, 1e308, math.nan,
    math.inf, "", "x", "0", "-1", "true", "null", "a" * 3000, "\x00", "\ud800", "../../x", "é", [], [None], [1], ["x"],
    [[]], {}, {"": None}, {"a": 1}, {"0": "x"}, {"__float__": "x"}, {"content": 1}, [{"a": []}],
]  # fmt: skip
NUMBERS = [0, 1, 2, 4, 31, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def odd(random: Random) -> Any:
    """A value of its own that hardly any entry takes."""
    return copy.deepcopy(random.choice(ODD))


def kind(value: Any) -> str:
    """JSON's type of a value."""
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def alike(old: Any, new: Any) -> bool:
    """Whether a value may honestly stand where another stood: none for a default, one for a list of it."""
    pair = kind(old), kind(new)
    return (
        old is None
        or new is None
        or pair[0] == pair[1]
        or pair == ("dict", "str")
        or (isinstance(new, list) and len(new) == 1 and kind(new[0]) == pair[0])
    )


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree; of long lists and objects the first few and the last."""
    yield path
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    for key in keys if len(keys) < 60 else [*keys[:8], *keys[-4:]]:
        yield from places(tree[key], (*path, key))


def json_tree(random: Random, data: bytes) -> Mutated:
    """One or two changes of a JSON text's tree, or of the text."""
    if random.random() < 0.12:
        return text(random, data)
    good = json.loads(data)
    tree = copy.deepcopy(good)
    for _ in range(random.choice((1, 1, 1, 2))):
        tree = _changed(random, tree)
    if random.random() < 0.02:
        deep = random.choice((900, 2000, 100_000))
        return json.dumps(tree).encode().replace(b"{", b'{"deep": ' + b"[" * deep + b"]" * deep + b", ", 1), True
    found = list(changes(good, tree, False))
    honest = True in found or not found or next((each for each in found if each), False)
    return json.dumps(tree, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass"), honest


def changes(old: Any, new: Any, name: Honest) -> Iterator[Honest]:
    """Each difference of two trees: whether it may change what they stand for, or the name of an entry that is none."""
    if kind(old) != kind(new):
        yield alike(old, new) or name
    elif isinstance(old, dict):
        yield from (True for key in old if key not in new)  # then its default stands
        for key in new:
            if key in old:
                yield from changes(old[key], new[key], key)
            else:  # a vocabulary may have one more, settings not
                yield (bool(old) and all(kind(each) == kind(new[key]) == "number" for each in old.values())) or key
    elif isinstance(old, list) and len(old) == len(new):
        for one, other in zip(old, new, strict=True):
            yield from changes(one, other, name)
    elif old != new:
        yield True


def _changed(random: Random, tree: Any) -> Any:
    path = random.choice(list(places(tree)))
    if not path:
        return odd(random) if random.random() < 0.1 else tree
    owner = tree
    for key in path[:-1]:
        owner = owner[key]
    key, old = path[-1], owner[path[-1]]
    how = random.random()
    if how < 0.55:
        owner[key] = odd(random)
    elif how < 0.7 and isinstance(old, (int, float)):
        owner[key] = random.choice([old + 1, old - 1, -old, old * 2, old * 1000, old / 3, int(old)])
    elif how < 0.8:
        del owner[key]
    elif how < 0.9 and isinstance(old, str):
        owner[key] = random.choice([old[1:], old + "x", old.upper(), old[::-1], f"{old}\x00"])
    elif isinstance(owner, dict):
        added = random.choice([f"{key}_", "model_type", "extra", "__class__", "self", f" {key}"])
        owner[added] = odd(random)
    else:
        owner.insert(key, odd(random))
    return tree


def text(random: Random, data: bytes) -> Mutated:
    """Bytes cut, flipped, doubled or put between others."""
    if not data:
        return b"\xff", True
    place, many = random.randrange(len(data)), random.choice((1, 1, 4, 100))
    how = random.randrange(7)
    if how == 0:
        return data[:place], True
    if how == 1:
        return data[:place] + data[place + many :], True
    if how == 2:
        return data[:place] + data[place : place + many] + data[place:], True
    if how == 3:
        return data[:place] + random.randbytes(many) + data[place:], True
    if how == 4:
        return data[:place] + b"9" * random.choice((400, 5000)) + data[place:], True
    if how == 5:
        return random.choice((b"", b"\x00" * 100, b"\xff\xfe", b"{}", b"[]", b"null")), True
    out = bytearray(data)
    for _ in range(many):
        out[random.randrange(len(out))] = random.randrange(256)
    return bytes(out), True


TYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "U16", "X", "C64"]
FLOATS = ("F16", "BF16", "F32", "F64")
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2,
          "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}  # fmt: skip


def safetensors(random: Random, data: bytes) -> Mutated:
    """Another dtype, shape, place or name of a tensor; the header and the data are made to fit mostly."""
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    name = random.choice(names)
    entry, how = header[name], random.randrange(12)
    honest: Honest = False
    begin, end = entry["data_offsets"]
    if how <= 2:  # another dtype, and as many bytes as it needs
        entry["dtype"] = random.choice(TYPES)
        count = math.prod(entry["shape"]) * WIDTHS.get(entry["dtype"], 4)
        last = random.random() < 0.5
        return _repacked(header, body, {name: (body[begin:end] * 9)[:count]}, last), entry["dtype"] in FLOATS
    if how == 3:  # the same bytes as another dtype
        old = WIDTHS[entry["dtype"]]
        entry["dtype"] = random.choice([kind for kind, width in WIDTHS.items() if width == old])
        honest = entry["dtype"] in FLOATS
    elif how == 4 and entry["shape"]:
        entry["shape"] = random.choice([
            entry["shape"][::-1], [math.prod(entry["shape"])], [*entry["shape"], 1], [1, *entry["shape"]], [],
            [-1, *entry["shape"][1:]], [2**40, *entry["shape"]], entry["shape"][1:], [str(entry["shape"][0])],
        ])  # fmt: skip
    elif how == 5:
        other = header[random.choice(names)]
        entry["data_offsets"], other["data_offsets"] = other["data_offsets"], entry["data_offsets"]
        honest = True
    elif how == 6:
        entry["data_offsets"] = [begin + random.choice((-1, 1, 4, 2**40)), end + random.choice((-1, 0, 1, 4, 2**40))]
    elif how == 7:
        header[random.choice([f"{name}x", "", "x", random.choice(names), name.replace("0", "1")])] = header.pop(name)
        honest = name
    elif how == 8:
        del header[name]
        return _repacked(header, body, {}, False), name
    elif how == 9:
        out = bytearray(body)
        for _ in range(random.choice((1, 8, 64))):
            out[random.randrange(len(out))] = random.randrange(256)
        body, honest = bytes(out), True
    elif how == 10:
        told = header.setdefault("__metadata__", {})
        told[random.choice([*told, "x"])] = random.choice(["", "x", "True", "int8", "[]", '{"a": "int4"}', 1, None, {}])
    else:
        changed = text(random, data)[0]
        return changed, changed[: 8 + size] == data[: 8 + size]
    made = json.dumps(header).encode()
    size = len(made) if random.random() < 0.97 else random.choice(NUMBERS)
    return struct.pack("<Q", size) + made + body, honest


def _repacked(header: dict[str, Any], body: bytes, changed: dict[str, bytes], last: bool) -> bytes:
    """A file whose tensors lie one after the other again, the changed one at the end where `last`."""
    rows = [name for name in header if name != "__metadata__" and not (last and name in changed)]
    out: dict[str, Any] = {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
    data = b""
    for name in rows + (list(changed) if last else []):
        begin, end = header[name]["data_offsets"]
        part = changed.get(name, body[begin:end])
        out[name] = {**header[name], "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text_ = json.dumps(out).encode()
    return struct.pack("<Q", len(text_)) + text_ + data


def header(size: int) -> Callable[[Random, bytes], Mutated]:
    """Numbers of a binary header, whose first bytes these are, become others; now and then the data too."""

    def mutate(random: Random, data: bytes) -> Mutated:
        if random.random() < 0.15:
            return text(random, data)
        out = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 4))):
            width = random.choice((1, 1, 4, 8))
            end = min(size, len(out) - 8) if random.random() < 0.9 else len(out) - 8
            place = random.randrange(max(end, 1))
            value = random.choice(NUMBERS) if width > 1 else random.randrange(256)
            out[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
        return bytes(out), True

    return mutate


def archive(random: Random, data: bytes) -> Mutated:
    """Members of a zip left out, renamed, packed, cut or doubled; bytes of its tables and pickles."""
    how = random.random()
    if how < 0.4:
        return text(random, data)
    if how < 0.6:
        return header(len(data))(random, data)
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    victim, honest = random.choice(source.namelist()), False
    with zipfile.ZipFile(out, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as to:
        for name in source.namelist():
            part = source.read(name)
            if name == victim:
                action = random.randrange(6)
                if action == 0:
                    continue
                if action == 1:
                    name = random.choice([f"{name}x", "../x", "x/data.pkl", "/etc/x", "y"])
                elif action == 2:
                    part = part[: len(part) // 2]
                elif action == 3:
                    part, honest = text(random, part)[0], True
                elif action == 4:
                    to.writestr(name, part)
                else:
                    part = bytes(len(part))
                    honest = True
            to.writestr(name, part)
    return out.getvalue(), honest


def protobuf(random: Random, data: bytes) -> Mutated:
    """Fields of a protocol buffer, one level deep or two, left out, doubled or changed."""
    from multihead.tokenizers.spm import fields

    if random.random() < 0.2:
        return text(random, data)
    rows = list(fields(data))
    place = random.randrange(len(rows))
    if random.random() < 0.4:  # the trainer's and the normalizer's settings come last
        place = len(rows) - 1 - random.randrange(min(4, len(rows)))
    number, value = rows[place]
    how, honest = random.randrange(5), True
    if how == 0:
        del rows[place]
        honest = number == 1  # a piece; no settings
    elif how == 1:
        rows.insert(place, rows[random.randrange(len(rows))])
    elif how == 2 and isinstance(value, bytes):
        rows[place] = number, text(random, value)[0]
    elif isinstance(value, bytes):
        try:
            inner = list(fields(value))
            spot = random.randrange(len(inner))
            old = inner[spot][1]
            inner[spot] = inner[spot][0], random.choice([0, 1, 5, 2**32, 2**64 - 1, 0.5, b"", b"\xff", b"xyz"])
            rows[place] = number, b"".join(map(_field, inner))
            honest = type(old) is type(inner[spot][1]) and inner[spot][1] not in (2**32, 2**64 - 1)
        except (ValueError, IndexError, struct.error):
            rows[place] = number, value[: len(value) // 2]
    else:
        rows[place], honest = (number, random.choice([0, 2**64 - 1, b"x", 1.5])), False
    return b"".join(map(_field, rows)), honest


def _field(row: tuple[int, Any]) -> bytes:
    number, value = row
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def gguf(random: Random, data: bytes) -> Mutated:
    """An entry of the metadata with another type or value, or a row of the table of tensors; then as `header`."""
    from . import gguf_file

    if random.random() < 0.35:
        changed = header(gguf_file.head(data))(random, data)[0]
        return changed, gguf_file.same_names(data, changed)
    return gguf_file.mutated(random, data)


PARTS = [
    "{{ x }}", "{% for m in messages %}", "{% endfor %}", "{% if m.role == 'user' %}", "{% endif %}", "{% else %}",
    "{{ m.content }}", "{{ m['content'] | trim }}", "{% set ns = namespace(a=0) %}", "{% set ns.a = ns.a + 1 %}",
    "{% break %}", "{% continue %}", "{{ messages | tojson }}", "{{ messages[0] }}", "{{ 10 ** 99 ** 9 }}",
    "{% macro f(a) %}{{ f(a) }}{% endmacro %}", "{{ f(1) }}", "{{ 'a' * 10 ** 9 }}", "{{ range(10 ** 9) }}",
    "{{ raise_exception('no') }}", "{% include 'x' %}", "{{ loop.index }}", "{{ ''.__class__ }}", "{{ 1 / 0 }}",
    "{{ messages | map(attribute='content') | join('') }}", "{% generation %}", "{% endgeneration %}", "{%- -%}",
    "{{ bos_token }}",
    "{{ strftime_now('%Y') }}", "{# ", " #}", "{{", "}}", "{%", "%}", "{{ m.content.split('x')[5] }}",
    "{{ m | attr('content') }}", "{% call f() %}{% endcall %}", "{{ x if }}", "{{ 'é' ~ none }}",
    "{{ m.content[::-1] }}",
    "{% set x %}{% for i in range(999) %}{{ i }}{% endfor %}{% endset %}", "{{ 'abc'.zfill(10 ** 9) }}", "\x00", "\n",
    "{{ '%s' % x }}", "{{ '{}'.format(x) }}", "{{ x | nothing }}", "{{ x is nothing }}", "{% autoescape true %}",
]  # fmt: skip


def template(random: Random, data: bytes) -> Mutated:
    """A template with parts of others in it, or made of them alone."""
    if random.random() < 0.2:
        return text(random, data)
    if random.random() < 0.5:
        return "".join(random.choices(PARTS, k=random.randrange(1, 14))).encode(), True
    source = data.decode()
    for _ in range(random.randrange(1, 5)):
        place = random.randrange(len(source))
        source = source[:place] + random.choice(PARTS) + source[place + random.choice((0, 0, 3, 30)) :]
    return source.encode(), True
