"""Reader of `native.h`, which alone declares the structs and functions that Python and C++ share.

Needs only the standard library, since the package's build runs it before torch is there.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from keyword import iskeyword
from pathlib import Path
from typing import Any

HEADER = Path(__file__).parent / "native.h"
MARK = "mh_interface"  # the function with which a library names the header that it was built from
NUMBERS: dict[str, Any] = {
    "float": ctypes.c_float, "int": ctypes.c_int, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64,
}  # fmt: skip
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
STRUCT = re.compile(r"^struct (\w+) \{(.*?)^\};", re.MULTILINE | re.DOTALL)
FUNCTION = re.compile(r"^EXPORT ([^;(]+?)(mh_\w+)\(([^)]*)\);", re.MULTILINE)
DECLARATOR = re.compile(r"\s*(\*?)\s*(\w+)\s*(?:\[(\d+)\])?\s*")


class HeaderError(Exception):
    """`native.h` is not there, or has a declaration that is not understood."""


@dataclass(frozen=True)
class Interface:
    """Declarations of `native.h`.

    Args:
        structs: ctypes structures by the C++ name; one refuses a field that the header does not declare.
        functions: result (None for void) and arguments of each exported function, as ctypes has them.
        mark: hash of the declarations; comments and spaces do not change it.
    """

    structs: dict[str, type[ctypes.Structure]]
    functions: dict[str, tuple[Any, list[Any]]]
    mark: str


def read(header: Path = HEADER) -> Interface:
    """Parse a header.

    Raises:
        HeaderError: it is not there, or a field's or an argument's type is unknown.
    """
    try:
        text = COMMENT.sub("", header.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HeaderError(f"{header} cannot be read: {error}") from error
    structs: dict[str, type[ctypes.Structure]] = {}
    for name, body in STRUCT.findall(text):
        if "(" in body:
            continue  # pointers to functions: C++ alone uses such a struct
        fields = [field for line in body.split(";") if line.strip() for field in _fields(line, structs)]
        structs[name] = type(name, (ctypes.Structure,), {"__slots__": (), "_fields_": fields})
    functions = {
        name: (_type(result, structs), [_type(one.rpartition(" ")[0], structs) for one in arguments.split(",")])
        for result, name, arguments in FUNCTION.findall(text)
    }
    return Interface(structs, functions, sha256(" ".join(text.split()).encode()).hexdigest())


def proof(header: Path = HEADER) -> str:
    """Return C++ that compiles only where the compiler lays the structs out as ctypes does, and exports the mark."""
    interface, lines = read(header), ["#include <cstddef>", '#include "native.h"']
    for name, struct in interface.structs.items():
        lines.append(f'static_assert(sizeof({name}) == {ctypes.sizeof(struct)}, "{name}");')
        for field in struct._fields_:
            place = f"offsetof({name}, {field[0]}) == {getattr(struct, field[0]).offset}"
            lines.append(f'static_assert({place}, "{name}::{field[0]}");')
    return "\n".join([*lines, f'EXPORT const char* {MARK}() {{ return "{interface.mark}"; }}', ""])


def _fields(line: str, structs: dict[str, type[ctypes.Structure]]) -> Iterator[tuple[str, Any]]:
    """Yield names and types of one declaration, such as `const void *x, *y` or `int64_t counts[3]`."""
    words = line.replace("*", " *").split()
    words = words[1:] if words[0] == "const" else words
    for declarator in "".join(f" {word}" for word in words[1:]).split(","):
        found = DECLARATOR.fullmatch(declarator)
        if found is None or iskeyword(found[2]):
            raise HeaderError(f"native.h has a declaration that Python cannot read: {line.strip()!r}")
        kind = _type(words[0] + found[1], structs)
        yield found[2], kind * int(found[3]) if found[3] else kind


def _type(text: str, structs: dict[str, type[ctypes.Structure]]) -> Any:
    """Return the ctypes type of a C++ type; all pointers but strings are addresses."""
    name = "".join(word for word in text.split() if word != "const")
    if name.endswith("*"):
        return ctypes.c_char_p if name == "char*" else ctypes.c_void_p
    if name == "void":
        return None
    if name not in NUMBERS and name not in structs:
        raise HeaderError(f"native.h has a type that Python does not know: {text.strip()!r}")
    return NUMBERS.get(name) or structs[name]
