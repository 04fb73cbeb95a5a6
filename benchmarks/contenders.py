"""attar's coders in the form of the rivals, and the measuring of any of them over a list of matrices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TypedDict

import numpy as np

import rivals
from attar import registry
from attar.coding import simd_path
from attar.errors import AttarError
from attar.types import Array
from inputs import order0_bytes
from timing import medians


class Figures(TypedDict):
    """What one coder did with all matrices: their sizes together, and the seconds for all of them."""

    bytes: int
    encode: float
    decode: float


class Rate(TypedDict):
    """All coders at one rate; entropy is the bytes of the order-0 entropies of the matrices."""

    symbols: int
    entropy: float
    coders: dict[str, Figures]


class Attar:
    """One of the registered coders; `order0` hides rows and columns from it."""

    def __init__(self, coder: str, order0: bool = False) -> None:
        self.NAME = f"attar {coder}" + (", order-0 tables" if order0 else f", {simd_path()}" if coder == "rans" else "")
        self._coder = registry.get("coder", coder)
        self._order0 = order0

    def encode(self, codes: Array) -> bytes:
        """See rivals.Rival."""
        data: bytes = self._coder.encode(codes.reshape(1, -1) if self._order0 else codes)
        return data

    def decode(self, data: bytes, shape: tuple[int, int]) -> Array:
        """See rivals.Rival."""
        codes: Array = self._coder.decode(data, "int8", (1, shape[0] * shape[1]) if self._order0 else shape)
        return codes.reshape(shape)


def choose(names: Sequence[str]) -> tuple[dict[str, rivals.Rival], list[str]]:
    """The contenders by name ("rans", "dense", "order-0" are attar's), and why others are missing."""
    found: dict[str, rivals.Rival] = {}
    reasons = []
    for name in names:
        one = rivals.load(name) if name in rivals.CODERS else _own(name)
        if isinstance(one, str):
            reasons.append(one)
        else:
            found[name] = one
    return found, reasons


def _own(name: str) -> Attar | str:
    try:
        return Attar("rans", order0=True) if name == "order-0" else Attar(name)
    except (AttarError, KeyError):
        return f"{name} is not measured: attar has no such coder"


def measure(contenders: dict[str, rivals.Rival], matrices: list[Array], repeats: int) -> Rate:
    """Sizes, median seconds of encoding and of decoding; raises where a coder does not give codes back."""
    coded: dict[str, list[bytes]] = {}

    def encode_all(name: str) -> None:
        coded[name] = [contenders[name].encode(codes) for codes in matrices]

    encode_seconds = medians({name: partial(encode_all, name) for name in contenders}, repeats)
    for name, coder in contenders.items():
        for codes, data in zip(matrices, coded[name], strict=True):
            if not np.array_equal(coder.decode(data, codes.shape), codes):
                raise SystemExit(f"{coder.NAME} does not give the codes back")
    actions = {n: lambda n=n, c=c: _decode_all(c, coded[n], matrices) for n, c in contenders.items()}
    decode_seconds = medians(actions, repeats)
    return {
        "symbols": sum(codes.size for codes in matrices),
        "entropy": sum(map(order0_bytes, matrices)),
        "coders": {
            n: {"bytes": sum(map(len, coded[n])), "encode": encode_seconds[n], "decode": decode_seconds[n]}
            for n in contenders
        },
    }


def _decode_all(coder: rivals.Rival, coded: list[bytes], matrices: list[Array]) -> None:
    for data, codes in zip(coded, matrices, strict=True):
        coder.decode(data, codes.shape)


def digest(matrices: list[Array]) -> str:
    """Of the bytes that rans writes, which must not depend on the path."""
    rans = Attar("rans")
    return hashlib.sha256(b"".join(map(rans.encode, matrices))).hexdigest()
