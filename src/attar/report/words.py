"""Numbers as text, and a metric's values and drops with their unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from attar.report.ledger import mapping, number
from attar.types import Json

NONE = "\N{EN DASH}"
"""What stands for a number that is not known."""
THIN = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
_SIZE_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(value: Json) -> str:
    """Bytes with a decimal unit and three digits.

    >>> size(54076).replace(THIN, " "), size(999).replace(THIN, " ")
    ('54.1 kB', '999 bytes')
    """
    count = number(value)
    if count is None:
        return NONE
    divisor, unit = size_unit(count)
    text = f"{count:,.0f}" if divisor == 1 else three_digits(count / divisor)
    return f"{text}{THIN}{unit}"


def size_unit(count: float) -> tuple[int, str]:
    """The decimal unit that suits a number of bytes: (1000, 'kB')."""
    power = 0
    while abs(count) >= 999.5 * 1000**power and power < len(_SIZE_UNITS) - 1:
        power += 1
    return 1000**power, _SIZE_UNITS[power]


def three_digits(value: float) -> str:
    """Three digits or two, and an exponent only for the very small.

    >>> three_digits(31.87), three_digits(1234), three_digits(0.5), three_digits(2e-7).replace(MINUS, "-")
    ('31.9', '1,234', '0.500', '2.0e-7')
    """
    magnitude = abs(value)
    if magnitude >= 99.95:
        return signed(f"{value:,.0f}")
    if magnitude >= 9.995:
        return signed(f"{value:.1f}")
    if magnitude >= 0.995 or magnitude == 0:
        return signed(f"{value:.2f}" if magnitude else "0")
    for digits, least in ((3, 0.1), (4, 0.001), (5, 0.0001)):
        if magnitude >= least:
            return signed(f"{value:.{digits}f}")
    mantissa, exponent = f"{value:.1e}".split("e")
    return signed(f"{mantissa}e{int(exponent)}")


def significant(value: float, digits: int) -> str:
    """So many digits, and an exponent only for the very small and the very large.

    >>> significant(0.70098, 4), significant(0.0066281, 3), significant(18310.2, 4), significant(0, 3)
    ('0.7010', '0.00663', '18,310', '0')
    """
    if not 1e-5 <= abs(value) < 1e7:
        return signed(f"{value:.{digits}g}".replace("e-0", "e-"))
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return signed(f"{value:,.{max(decimals, 0)}f}")


def file_name(path: Json) -> str:
    """The last part of a path of any system: where a model lies is its owner's business.

    >>> file_name("/srv/models/models/lenet5.onnx"), file_name("C:\\\\m\\\\a.onnx"), file_name("saved/")
    ('lenet5.onnx', 'a.onnx', 'saved')
    """
    text = "" if path is None else str(path)
    return next((part for part in reversed(re.split(r"[\\/]", text)) if part), text)


def signed(text: str) -> str:
    """With a typographic minus, and without one before zero."""
    if not text.startswith("-"):
        return text.replace("e-", f"e{MINUS}")
    bare = text[1:].replace("e-", f"e{MINUS}")
    return bare if not any(digit in bare for digit in "123456789") else MINUS + bare


def whole(value: Json) -> str:
    """An integer with thousands separators."""
    count = number(value)
    return NONE if count is None else signed(f"{count:,.0f}")


def ratio(value: Json) -> str:
    """A ratio as 31.9x."""
    times = number(value)
    return NONE if times is None else f"{signed(f'{times:.2f}') if times < 9.995 else three_digits(times)}{TIMES}"


def percent(value: Json, digits: int = 1) -> str:
    """A fraction as per cent."""
    fraction = number(value)
    if fraction is None:
        return NONE
    least = 10.0**-digits
    if 0 < 100 * fraction < least / 2:
        return f"<{THIN}{least:g}{THIN}%"
    return signed(f"{100 * fraction:.{digits}f}") + f"{THIN}%"


def plain(value: Json) -> str:
    """A number with three digits, or a dash."""
    known = number(value)
    return NONE if known is None else three_digits(known)


def duration(value: Json) -> str:
    """Seconds in the two largest units that matter.

    >>> duration(41).replace(THIN, " "), duration(200).replace(THIN, " "), duration(7300).replace(THIN, " ")
    ('41 s', '3 min 20 s', '2 h 1 min')
    """
    seconds = number(value)
    if seconds is None or seconds < 0:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest}{THIN}s"
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{minutes // 60:,}{THIN}h {minutes % 60}{THIN}min"


def moment(value: Json) -> str:
    """An event's time: an ISO 8601 string, or seconds since 1970, to the minute in UTC where it has a zone."""
    seconds = number(value)
    try:
        if seconds is not None:
            when = datetime.fromtimestamp(seconds, UTC)
        elif isinstance(value, str):
            when = datetime.fromisoformat(value)
        else:
            return ""
    except (ValueError, OverflowError, OSError):
        return ""
    zone = ""
    if when.tzinfo is not None:
        when, zone = when.astimezone(UTC), " UTC"
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"


NAMES = {
    "f1": "F1",
    "auroc": "AUROC",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "cosine": "cosine similarity",
    "kl": "KL divergence",
}
"""What attar's metrics are called in a sentence, where that is not their name."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What was measured: its name, the unit of a drop, and which way is better."""

    name: str = "metric"
    unit: str = ""
    higher_is_better: bool = True

    @classmethod
    def of(cls, declared: Json, certificate: Json = None) -> Metric:
        """From a run event's `metric`, or a certificate's name of it."""
        known = mapping(declared)
        name = str(known.get("name") or mapping(certificate).get("metric") or "metric")
        name = NAMES.get(name, re.sub(r"^top(\d+)$", r"top-\1 accuracy", name))
        return cls(name, str(known.get("unit") or ""), known.get("higher_is_better") is not False)

    def value(self, value: Json) -> str:
        """A value; metrics whose drop is in points are per cent."""
        known = number(value)
        if known is None:
            return NONE
        return signed(f"{known:.2f}") + f"{THIN}%" if self.unit == "points" else significant(known, 4)

    def bare(self, value: Json) -> str:
        """A drop without its unit."""
        known = number(value)
        if known is None:
            return NONE
        return signed(f"{known:.2f}") if self.unit == "points" else significant(known, 3)

    def beside(self, value: Json, limit: Json) -> str:
        """A drop with as many digits as show on which side of the limit it is.

        >>> Metric("accuracy", "points").beside(0.5021, 0.5), Metric("accuracy", "points").beside(0.4979, 0.5)
        ('0.502', '0.50')
        """
        known, allowed, text = number(value), number(limit), self.bare(value)
        if known is None or allowed is None or known <= allowed or float(text.replace(",", "")) > allowed:
            return text
        return next((f"{known:.{digits}f}" for digits in range(3, 9) if round(known, digits) > allowed), f"{known:g}")

    def drop(self, value: Json) -> str:
        """A drop with its unit."""
        return self.counted(self.bare(value))

    def limit(self, value: Json) -> str:
        """An allowed drop as the user wrote it, 0.5 points and not 0.50; one that was worked out to three digits."""
        known = number(value)
        if known is None:
            return NONE
        short = f"{known:g}"
        return self.counted(signed(short if len(short) < 7 else f"{known:.3g}"))

    def counted(self, text: str) -> str:
        """A number with the unit, in the singular after 1."""
        if text == NONE or not self.unit:
            return text
        return f"{text} {self.unit[:-1] if text == '1' and self.unit in ('points', 'nats') else self.unit}"

    @property
    def title(self) -> str:
        """The name at the beginning of a line."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def change(self) -> str:
        """The direction that is worse."""
        return "drop" if self.higher_is_better else "rise"

    @property
    def loss(self) -> str:
        """What getting worse is called."""
        return f"{self.name} drop" if self.higher_is_better else f"rise in {self.name}"
