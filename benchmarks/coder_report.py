"""What the coder's benchmark prints: sizes and speeds of all coders, then the targets beside the measured figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from acceptance import Line, markdown, number, table
from coder_parts import RATES
from timing import machine

COLUMNS = [f"{bits:g}" for bits in RATES]
HUFF0 = ("huff0_x1", "huff0_x2")
Part = dict[str, Any]
Parts = dict[str, Part]
Figure = Callable[[Part], float]


def text(parts: Parts) -> str:
    """All of it, as Markdown."""
    every, slow, dense = parts["every"], parts["slow"], parts["dense"]
    return "\n\n".join(
        [
            f"{machine()}; attar's path: {every['path']}; one thread",
            _sample("A", every) + "; " + _sample("B", slow),
            *sorted({reason for part in parts.values() for reason in part.get("missing", [])}),
            markdown(["bytes / order-0 entropy, by bits", *COLUMNS], _rows("A", every, size)
                     + _rows("A", dense, size) + _rows("B", slow, size)),
            markdown(["decode, 10^9/s, by bits", *COLUMNS], _rows("A", every, decode)
                     + _rows("A", dense, decode) + _rows("B", slow, decode)
                     + [row for name in ("avx512", "avx2", "scalar") for row in _path_rows(parts[name])]),
            markdown(["encode, 10^9/s, by bits", *COLUMNS], _rows("A", every, encode)
                     + _rows("A", dense, encode) + _rows("B", slow, encode)),
            table("targets, by bits of entropy", COLUMNS, lines(parts)),
            table("targets", ["measured"], [_same_bytes(parts)]),
            _loading(parts["fused"]),
        ]
    )  # fmt: skip


def lines(parts: Parts) -> list[Line]:
    """The acceptance list's figures by rate."""
    every, slow, dense = parts["every"], parts["slow"], parts["dense"]
    fast = every if every["path"].endswith("avx512") else {}
    wide = parts["avx2"] if parts["avx2"]["path"].endswith("avx2") else {}
    return [
        Line("size over order-0 entropy, order-0 tables", 1, _each(every, "order-0", excess), at_most=True, unit="%"),
        Line("fast over order-0 entropy", -4, _each(every, "rans", excess, RATES[1:5]), at_most=True, unit="%"),
        Line("dense over order-0 entropy", -10, _each(dense, "dense", excess, RATES[1:4]), at_most=True, unit="%"),
        Line("fast over pooled entropy, one step for all", -4, _pooled(parts, "rans"), at_most=True, unit="%"),
        Line("dense over pooled entropy, one step for all", -10, _pooled(parts, "dense", 3), at_most=True, unit="%"),
        Line("AVX-512 decode / zstd -19", 2.5, _faster(fast, ("zstd",)), unit="x"),
        Line("AVX-512 decode / huff0's fastest", 1.3, _faster(fast, HUFF0), unit="x"),
        Line("AVX-512 decode, order-0 tables / zstd -19", 2.5, _faster(fast, ("zstd",), "order-0"), unit="x"),
        Line("AVX-512 decode, order-0 tables / huff0's", 1.3, _faster(fast, HUFF0, "order-0"), unit="x"),
        Line("AVX2 decode / huff0's fastest", 1.0, _faster(wide, HUFF0), unit="x"),
        Line("scalar decode / constriction", 10, _faster(parts["scalar"], ("ans",)), unit="x"),
        Line("fast decode / NNCodec", 200, _faster(slow, ("cabac",)), unit="x"),
        Line("fast size / NNCodec", 1.06, _smaller(slow, "rans"), at_most=True, unit="x"),
        Line("dense size / NNCodec", 1.0, _smaller(slow, "dense"), at_most=True, unit="x"),
        Line("dense decode / NNCodec", 1.0, _faster(slow, ("cabac",), "dense"), unit="x"),
        Line("encode, 10^9 symbols/s", 0.3, _each(every, "rans", encode)),
        Line("encode with order-0 tables", 0.3, _each(every, "order-0", encode)),
        Line("decode on two threads / one", 1.8, _of(parts["threads"], lambda s: s["1"] / s["2"]), unit="x",
             note=f"one matrix, {parts['threads']['symbols']} symbols"),
        Line("fused float32 / copy to new array", 0.4, _of(parts["fused"], lambda s: s["copy"] / s["fused"]), unit="x"),
    ]  # fmt: skip


def size(rate: Part, name: str) -> float:
    """Bytes over those of the order-0 entropy."""
    return float(rate["coders"][name]["bytes"] / rate["entropy"])


def excess(rate: Part, name: str) -> float:
    """The same in per cent above."""
    return 100 * (size(rate, name) - 1)


def decode(rate: Part, name: str) -> float:
    """10^9 symbols a second."""
    return float(rate["symbols"] / rate["coders"][name]["decode"] / 1e9)


def encode(rate: Part, name: str) -> float:
    """10^9 symbols a second."""
    return float(rate["symbols"] / rate["coders"][name]["encode"] / 1e9)


def _each(part: Part, name: str, figure: Callable[[Part, str], float], bits: tuple[float, ...] = RATES) -> list[Any]:
    """One coder's figure at each rate that is asked for."""
    wanted = [b in bits and name in rate["coders"] for b, rate in zip(RATES, part["rates"], strict=True)]
    return [figure(rate, name) if want else None for want, rate in zip(wanted, part["rates"], strict=True)]


def _faster(part: Part, rivals: tuple[str, ...], name: str = "rans") -> list[float | None]:
    """How many times as fast as the fastest of the rivals; no figures for the part of a path that is missing here."""
    if not part:
        return [None] * len(RATES)
    found = []
    for rate in part["rates"]:
        seconds = [rate["coders"][rival]["decode"] for rival in rivals if rival in rate["coders"]]
        own = rate["coders"].get(name)
        found.append(min(seconds) / own["decode"] if seconds and own else None)
    return found


def _pooled(parts: Parts, name: str, rates: int | None = None) -> list[float | None]:
    """Per cent over the entropy of all matrices as one sample, at 1 to 4 bits; dense at 1 to 3."""
    found = [excess(rate, name) for rate in parts["pooled"]["rates"]][:rates]
    return [None, *found, *[None] * (len(RATES) - 1 - len(found))]


def _smaller(part: Part, name: str) -> list[float | None]:
    """Size over NNCodec's."""
    both = [(rate["coders"].get(name), rate["coders"].get("cabac")) for rate in part["rates"]]
    return [own["bytes"] / rival["bytes"] if own and rival else None for own, rival in both]


def _of(part: Part, figure: Figure) -> list[float | None]:
    return [figure(rate) for rate in part["rates"]] if "rates" in part else [None] * len(RATES)


def _rows(sample: str, part: Part, figure: Callable[[Part, str], float]) -> list[list[str]]:
    return [
        [f"{title} [{sample}]", *(number(value, "") for value in _each(part, name, figure))]
        for name, title in part["names"].items()
    ]


def _path_rows(part: Part) -> list[list[str]]:
    return [[title, *row] for (title, *row) in _rows("B", part, decode) if title.startswith("attar")]


def _sample(letter: str, part: Part) -> str:
    return f"sample {letter}: {part['matrices']} matrices, {part['rates'][0]['symbols'] / 1e6:.1f} million codes"


def _same_bytes(parts: Parts) -> Line:
    digests = [part["digest"] for part in parts.values() if "digest" in part]
    return Line("runs on all paths and in the numpy twin that wrote the same bytes", len(digests),
                [float(digests.count(parts["twin"]["digest"]))])  # fmt: skip


def _loading(part: Part) -> str:
    """The bandwidth below which reading and decoding the archive beats reading plain float32."""
    if "rates" not in part:
        return "no bandwidth: " + "; ".join(part["missing"])
    cells = [(rate["raw"] - rate["coded"]) / rate["fused"] / 1e9 for rate in part["rates"]]
    return markdown(
        ["loading the archive beats loading float32 below (GB/s)", *COLUMNS],
        [["fused decode", *(number(c, "") for c in cells)]],
    )
