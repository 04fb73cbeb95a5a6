"""Tensors of a PyTorch zip checkpoint: the pickle is read as a list of instructions and never run.

What is packed are storages, each under the name of its first tensor; tensors are views on them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any

from attar.archive.base import MOST_AXES, count
from attar.archive.packed import SpanInfo, ViewInfo
from attar.coding import known_dtype
from attar.errors import UsageError
from attar.formats import zipped
from attar.formats.source import Bytes, Found, apart

LONGEST = 1 << 28
"""Bytes of pickle that are read."""
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "Float8_e4m3fnStorage": "float8_e4m3fn", "Float8_e5m2Storage": "float8_e5m2",
}  # fmt: skip
DTYPES = {
    "float8_e4m3fn": "float8_e4m3fn", "float8_e5m2": "float8_e5m2", "float8_e4m3fnuz": "float8_e4m3fnuz",
    "float8_e5m2fnuz": "float8_e5m2fnuz", "float8_e8m0fnu": "float8_e8m0fnu", "uint16": "uint16", "uint32": "uint32",
    "uint64": "uint64",
}  # fmt: skip
REBUILDS = ("_rebuild_tensor_v2", "_rebuild_tensor_v3")


def accepts(source: Bytes) -> bool:
    """Whether a file is a zip file with PyTorch's pickle in it; raises UsageError for a bare pickle."""
    head = source.read(0, min(source.size, 4))
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise UsageError(
            f"file {source.path.name!r}: a PyTorch checkpoint must be a zip file. Received a bare pickle, which is not "
            "read without running it. Load it in PyTorch with weights_only=True and torch.save it again."
        )
    if head != zipped.MAGIC:
        return False
    with zipped.opened(source) as archive:
        return any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.namelist())


def find(source: Bytes) -> Found:
    """Its storages and the tensors on them; raises FormatError where the pickle does not end."""
    with zipped.opened(source) as archive:
        members = {name: (start, size) for name, start, size in zipped.stored(source, archive)}
    pickle = next((name for name in members if name == "data.pkl" or name.endswith("/data.pkl")), None)
    if pickle is None or members[pickle][1] > LONGEST:
        raise source.broken("its data.pkl must be stored, and 256 MiB at most", "another one")
    folder = pickle.removesuffix("data.pkl") + "data/"
    try:
        tensors = list(_tensors(source.read(*members[pickle])))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise source.broken("its data.pkl must be a pickle", str(error)[:100]) from error
    spans: dict[str, SpanInfo] = {}
    views = []
    for name, dtype, key, offset, shape, strides in tensors:
        start, size = members.get(folder + key, (0, 0))
        width = known_dtype(dtype).itemsize
        if folder + key not in members or size % width:
            continue
        span = spans.setdefault(key, SpanInfo(f"storage {key}", dtype, (size // width,), start))
        whole = offset == 0 and count(shape) * width == size and strides == _rows(shape)
        if whole and span.name == f"storage {key}":
            spans[key] = SpanInfo(name, dtype, shape, start)
        elif span.dtype == dtype:
            views.append(ViewInfo(name, key, offset, shape, strides))
    named = tuple(ViewInfo(v.name, spans[v.span].name, v.offset, v.shape, v.strides) for v in views)
    kept = apart(list(spans.values()))
    names = {span.name for span in kept}
    return Found("torch", kept, tuple(view for view in named if view.span in names and view.name not in names))


def _rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of an array in C order."""
    return tuple(count(shape[k + 1 :]) for k in range(len(shape)))


Tensor = tuple[str, str, str, int, tuple[int, ...], tuple[int, ...]]


def _tensors(data: bytes) -> Iterator[Tensor]:
    """Name, dtype, storage, offset, shape and strides of each tensor that a pickle puts into a dictionary.

    A key that was there before, as an optimizer's are for every weight, gets a number behind it.
    """
    times: dict[str, int] = {}
    for name, value in _items(data):
        if isinstance(value, _Call) and value.name in REBUILDS:
            tensor = _tensor(name, value.arguments)
            if tensor is not None:
                label = name
                while label in times:
                    times[name] += 1
                    label = f"{name} ({times[name]})"
                times[label] = 1
                yield (label, *tensor[1:])


def _tensor(name: str, arguments: Any) -> Tensor | None:
    """What _rebuild_tensor_v2(storage, offset, shape, strides, ...) says; None where it is of another kind."""
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, _Stored) or len(storage.record) < 3 or storage.record[0] != "storage":
        return None
    kind, key = storage.record[1], storage.record[2]
    dtype = STORAGES.get(getattr(kind, "name", ""), "")
    if len(arguments) > 6:
        dtype = DTYPES.get(getattr(arguments[6], "name", ""), dtype)
    sizes = (*shape, *strides, offset)
    right = isinstance(key, str) and len(shape) == len(strides) <= MOST_AXES
    if not dtype or not right or any(type(n) is not int or not 0 <= n < 1 << 40 for n in sizes):
        return None
    return name, dtype, key, offset, tuple(shape), tuple(strides)


class _Global:
    def __init__(self, name: str) -> None:
        self.name = name


class _Call:
    def __init__(self, name: str, arguments: Any) -> None:
        self.name, self.arguments = name, arguments


class _Stored:
    def __init__(self, record: Any) -> None:
        self.record = record


def _items(data: bytes) -> Iterator[tuple[str, Any]]:
    """Keys and values of all dictionaries, by a stack machine that makes tuples and names and calls nothing."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    marks: list[int] = []

    def since_mark() -> list[Any]:
        at = marks.pop()
        taken = stack[at:]
        del stack[at:]
        return taken

    for opcode, argument, _ in pickletools.genops(data):
        op = opcode.name
        if op == "MARK":
            marks.append(len(stack))
        elif op in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(str(argument))] = stack[-1]
        elif op == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(str(argument))])
        elif op == "GLOBAL":
            stack.append(_Global(str(argument).split(" ")[-1]))
        elif op == "STACK_GLOBAL":
            stack[-2:] = [_Global(stack[-1])]
        elif op in ("TUPLE", "LIST", "DICT", "FROZENSET"):
            stack.append(tuple(since_mark()))
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(op[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif op in ("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
            stack.append(())
        elif op in ("REDUCE", "NEWOBJ"):
            called, arguments = stack[-2:]
            stack[-2:] = [_Call(getattr(called, "name", ""), arguments)]
            if getattr(called, "name", "") == "_rebuild_parameter" and arguments and isinstance(arguments[0], _Call):
                stack[-1] = arguments[0]
        elif op == "BINPERSID":
            stack.append(_Stored(stack.pop()))
        elif op in ("SETITEM", "BUILD", "APPEND"):
            taken = stack[-2:] if op == "SETITEM" else []
            del stack[-2 if op == "SETITEM" else -1 :]
            if taken and isinstance(taken[0], str):
                yield taken[0], taken[1]
        elif op in ("SETITEMS", "APPENDS", "ADDITEMS"):
            taken = since_mark()
            for key, value in zip(taken[::2], taken[1::2], strict=False) if op == "SETITEMS" else ():
                if isinstance(key, str):
                    yield key, value
        elif op == "POP" and marks and marks[-1] == len(stack):
            marks.pop()
        elif op == "POP":
            stack.pop()
        elif op == "POP_MARK":
            since_mark()
        elif op in ("NEWTRUE", "NEWFALSE"):
            stack.append(op == "NEWTRUE")
        elif op not in ("PROTO", "FRAME", "STOP"):
            stack.append(argument)
