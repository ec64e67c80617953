"""Reads the pickles of torch's files as descriptions of tensors; no function that a file names is ever called.

What torch writes for a state dict: "Serialization semantics", pytorch.org/docs/stable/notes/serialization.html.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any, ClassVar, NamedTuple

import torch

from ..errors import CorruptFile, UnsafeFile

LONGEST = 1 << 25  # bytes of a pickle; a tensor takes about 200
KINDS: Mapping[str, torch.dtype | None] = {  # None: bytes, whose type a tensor tells
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": None,
}  # fmt: skip
# What a state dict is pickled with; other codes ask for more than data, or belong to formats that torch never wrote.
CODES = (
    "PROTO STOP FRAME MARK POP POP_MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE EMPTY_SET ADDITEMS DICT LIST TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BINGET LONG_BINGET BINPUT LONG_BINPUT "
    "MEMOIZE GLOBAL STACK_GLOBAL APPEND APPENDS SETITEM SETITEMS BUILD REDUCE NEWOBJ BINPERSID"
).split()


class Record(NamedTuple):
    """A storage in a file: `length` values, of which a view begins at `begin`."""

    key: str
    dtype: torch.dtype | None
    length: int
    begin: int = 0

    @property
    def width(self) -> int:
        """Return the bytes of one value."""
        return 1 if self.dtype is None else self.dtype.itemsize


class Described(NamedTuple):
    """A tensor: numbers of a record, from `offset` on, by shape and strides."""

    record: Record
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Kind(NamedTuple):
    """A class of storages."""

    dtype: torch.dtype | None


def read(source: bytes | BytesIO | Reader) -> Any:
    """Return the object in a pickle: plain values, with a `Described` for each tensor.

    Raises:
        UnsafeFile: it asks for something else than tensors and plain values; nothing of it was run.
        CorruptFile: tensors that are none. Others, of any kind, for a pickle that is damaged.
    """
    reader = source if isinstance(source, Reader) else Reader(BytesIO(source) if isinstance(source, bytes) else source)
    try:
        return reader.load()
    except KeyError as error:
        raise CorruptFile(f"it has the code {error}, which no table of tensors is pickled with") from error


def described(storage: Any, offset: Any, shape: Any, strides: Any, *more: Any, dtype: Any = None) -> Described:
    """Return a tensor's description, checked against its storage. Raises CorruptFile."""
    if not isinstance(storage, Record) or not whole([offset, *shape, *strides]) or len(shape) != len(strides):
        raise CorruptFile("it holds a tensor without numbers, a shape or strides")
    kind = dtype or storage.dtype
    if not isinstance(kind, torch.dtype):
        raise CorruptFile("it holds a tensor without a type of numbers")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if math.prod(shape) else offset - 1
    if storage.begin * storage.width + (last + 1) * kind.itemsize > storage.length * storage.width:
        raise CorruptFile(f"it holds a tensor of {tuple(shape)}, of which the record {storage.key!r} lacks a part")
    return Described(storage, kind, offset, tuple(shape), tuple(strides))


def whole(numbers: Iterable[Any]) -> bool:
    """True if all are integers that can be an index."""
    return all(type(n) is int and 0 <= n < 2**62 for n in numbers)


def described_as(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any,
                 *more: Any) -> Described:  # fmt: skip
    """A tensor of a type that its storage does not tell (torch's `_rebuild_tensor_v3`)."""
    return described(storage, offset, shape, strides, dtype=dtype)


def itself(tensor: Any, *more: Any) -> Any:
    """A parameter, which is its tensor here."""
    return tensor


def typed(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor with attributes of its own (torch's `_rebuild_from_type_v2`), without them."""
    if function not in (described, described_as, itself):
        raise CorruptFile("it holds tensors of a class of its own, which are not read")
    return function(*arguments)


def key(value: Any) -> Any:
    """Check a key of a dict. Raises CorruptFile for nested values, whose hash may never end."""
    plain = (str, int, float, bool, bytes, type(None), torch.dtype)
    if isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(v, plain) for v in value)):
        return value
    raise CorruptFile(f"it has a table with a {type(value).__name__} as a key")


def ordered(items: Any = ()) -> OrderedDict[Any, Any]:
    """An ordered table."""
    return OrderedDict((key(k), v) for k, v in (items.items() if isinstance(items, Mapping) else items))


def gathered(items: Any = ()) -> set[Any]:
    return {key(item) for item in items}


def encoded(text: Any, coding: Any = "latin1") -> bytes:
    """Bytes, as the second protocol writes them."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise CorruptFile("it holds bytes that are none")
    return text.encode("latin1")


def array(value: Any = b"", *more: Any) -> bytes:
    """A byte array with what is in it; one that is only a size is refused."""
    if not isinstance(value, (bytes, str)):
        raise CorruptFile("it asks for memory that it does not fill")
    return value if isinstance(value, bytes) else value.encode("latin1", "replace")


def sized(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values)


def device_name(*parts: Any) -> str:
    """A device's name."""
    return ":".join(str(part) for part in parts if isinstance(part, (str, int)))


KNOWN: Mapping[str, Any] = {
    "torch._utils._rebuild_tensor": described, "torch._utils._rebuild_tensor_v2": described,
    "torch._utils._rebuild_tensor_v3": described_as, "torch._utils._rebuild_parameter": itself,
    "torch._utils._rebuild_parameter_with_state": itself, "torch._tensor._rebuild_from_type_v2": typed,
    "torch.nn.parameter.Parameter": itself, "torch.Tensor": itself, "torch.Size": sized, "torch.device": device_name,
    "torch.serialization._get_layout": device_name, "collections.OrderedDict": ordered, "collections.Counter": ordered,
    "builtins.set": gathered, "builtins.complex": complex, "builtins.bytearray": array, "_codecs.encode": encoded,
}  # fmt: skip


class Reader(pickle._Unpickler):
    """Unpickles plain values and descriptions of tensors.

    It is Python's own in Python: the one in C allocates as much memory as a damaged pickle asks for.

    Attributes:
        widths: record -> bytes of each of its numbers.
    """

    def __init__(self, stream: BytesIO) -> None:
        super().__init__(stream, encoding="utf-8")
        self.widths: dict[str, int] = {}

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name in a file. Raises UnsafeFile, CorruptFile for names without one."""
        path = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if path in KNOWN:
            return KNOWN[path]
        if module in ("torch", "torch.storage", "torch.cuda") and name in KINDS:
            return Kind(KINDS[name])
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if path == "torch._utils._rebuild_meta_tensor_no_storage":
            raise CorruptFile("it holds tensors without numbers, of torch's meta device")
        if module in ("torch", "torch.storage", "torch._utils") and ("Storage" in name or name.startswith("_rebuild_")):
            raise CorruptFile(f"it holds tensors of a kind that is not read ({path})")
        raise UnsafeFile(f"it asks for {path}")

    def persistent_load(self, pid: Any) -> Record:
        """Return the record of a storage."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or text(pid[0]) != "storage":
            raise CorruptFile("it asks for objects that are no numbers")
        kind, name, place, count = pid[1:5]
        if not isinstance(kind, Kind) or not isinstance(name, (str, int, bytes)) or not whole([count]):
            raise CorruptFile("it names numbers without a type, a record or a count")
        if text(place) == "meta":
            raise CorruptFile("it holds tensors without numbers, of torch's meta device")
        record = Record(text(name), kind.dtype, count)
        if self.widths.setdefault(record.key, record.width) != record.width:
            raise CorruptFile(f"it takes the record {record.key!r} for numbers of two types")
        if len(pid) == 6 and pid[5] is not None:  # a view of another storage, before torch 1.6
            _, begin, size = pid[5]
            if not whole([begin, size]) or begin + size > count:
                raise CorruptFile("it names a view outside of its record")
            return record._replace(begin=begin)
        return record

    def load_build(self) -> None:
        """Ignore the attributes of an object; a tensor needs none."""
        self.stack.pop()

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = called(self.stack[-1], arguments)

    def load_setitem(self) -> None:
        value, name = self.stack.pop(), self.stack.pop()
        table(self.stack[-1])[key(name)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        into = table(self.stack[-1])
        for name, value in zip(items[::2], items[1::2], strict=True):
            into[key(name)] = value

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({key(name): value for name, value in zip(items[::2], items[1::2], strict=True)})

    def load_additems(self) -> None:
        items = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise CorruptFile("it adds to what is no set")
        self.stack[-1].update(map(key, items))

    codes: ClassVar[dict[int, Any]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in CODES
    }
    dispatch = codes | {
        pickle.BUILD[0]: load_build, pickle.REDUCE[0]: load_reduce, pickle.NEWOBJ[0]: load_reduce,
        pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
    }  # fmt: skip


def called(function: Any, arguments: Any) -> Any:
    """Return the result of one of the functions above. Raises CorruptFile for any other function."""
    if not any(function is known for known in KNOWN.values()) or not isinstance(arguments, tuple):
        raise CorruptFile("it calls what is no function of the format")
    return function(*arguments)


def table(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise CorruptFile("it puts entries into what is no table")
    return value


def text(value: Any) -> str:
    """Return a string of a file, which older files hold as bytes."""
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
