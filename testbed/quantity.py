"""Suffixed values of people ("10ms", "100Mbit", "2GiB", "50%", "1/s") to integers with a fixed unit, and back.

Rules: exact decimal arithmetic; a bare number is an error, for nobody can see its unit; every error says what would
be right. One function for each quantity; each takes what YAML gives (text or a number) and raises `QuantityError`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

PPM = 1_000_000
PACKET_BITS = 1500 * 8  # netem counts packets; a full one is an Ethernet MTU


class QuantityError(ValueError):
    """The text is not a quantity of this kind; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Kind:
    name: str  # with its article
    example: str
    units: Mapping[str, Decimal]  # suffix -> how many of the inside unit
    most: int


def _thousands(*names: str, first: int = 1) -> dict[str, Decimal]:
    return {name: Decimal(first) * 1000**power for power, name in enumerate(names)}


_BYTES = _thousands("B", "kB", "MB", "GB", "TB") | {
    name: Decimal(1024) ** power for power, name in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)
}
_DAY_US = 86_400 * 10**6

DURATION = Kind(
    "a duration",
    "10ms",
    _thousands("us", "ms", "s") | {"min": Decimal(60 * 10**6), "h": Decimal(3600 * 10**6)},
    7 * _DAY_US,
)
RATE = Kind("a rate", "100Mbit", _thousands("bit", "kbit", "Mbit", "Gbit", "Tbit"), 10**12)
SIZE = Kind("a size", "2GiB", _BYTES, 2**50)
SPEED = Kind("a speed", "2TFLOPS", _thousands("FLOPS", "kFLOPS", "MFLOPS", "GFLOPS", "TFLOPS", "PFLOPS"), 10**18)
BANDWIDTH = Kind("a memory bandwidth", "60GB/s", {f"{unit}/s": size for unit, size in _BYTES.items()}, 10**14)
SHARE = Kind("a share", "50%", {"%": Decimal(10_000)}, PPM)
SCALE = Kind("a scale", "50%", {"%": Decimal(10_000)}, 1000 * PPM)
FREQUENCY = Kind("a frequency", "1/s", {"/s": Decimal(1), "/min": Decimal(1) / 60, "/h": Decimal(1) / 3600}, 100_000)
JITTER = Kind("a jitter", "2ms", DURATION.units, 2 * 10**6)  # netem holds it as nanoseconds in 31 bits
FRAMING = Kind("a number of bytes of a packet", "24B", {"B": Decimal(1)}, 65_535)
LEVEL = Kind("a level", "3dB", {"dB": Decimal(1000)}, 100_000)
PACKETS = Kind("a number of packets", "50packets", {"packets": Decimal(1), "packet": Decimal(1)}, 10**6)

_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([A-Za-z%/]*)", re.ASCII)
_LENGTH = 40  # characters; longer is no quantity and would only make arithmetic slow


def _parse(kind: Kind, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise QuantityError(f"{_shown(value)} is not {kind.name}; write one like '{kind.example}'")
    text = str(value).strip()
    match = _FORM.fullmatch(text) if len(text) <= _LENGTH else None
    if match is None:
        sign = "must not be negative" if text.startswith("-") else f"is not {kind.name}"
        raise QuantityError(f"{_shown(value)} {sign}; write one like '{kind.example}' (units: {', '.join(kind.units)})")
    number, unit = match.groups()
    if not unit:
        raise QuantityError(f"{number} has no unit; write {kind.name} like '{kind.example}' ({', '.join(kind.units)})")
    if unit not in kind.units:
        raise QuantityError(f"{_shown(value)}: no unit '{unit}' for {kind.name}; {_nearest(kind, number, unit)}")
    amount = Decimal(number) * kind.units[unit]
    if amount > kind.most:
        raise QuantityError(f"{_shown(value)} is too much for {kind.name}; at most {_shortest(kind, kind.most)}")
    return amount


def _nearest(kind: Kind, number: str, unit: str) -> str:
    """The same letters in another case, or with 'bps' or 'b/s' meant as bits, are the usual slips."""
    meant = re.sub(r"(bps|bit/s|bits?|b/s)$", "bit", unit, flags=re.IGNORECASE)
    for known in kind.units:
        if known.lower() == meant.lower():
            return f"write '{number}{known}'"
    return f"write one like '{kind.example}' (units: {', '.join(kind.units)})"


def _shortest(kind: Kind, amount: int) -> str:
    """The amount in the largest unit that leaves a whole number."""
    fitting = [(size, unit) for unit, size in kind.units.items() if amount % size == 0]
    size, unit = max(fitting)
    return f"{amount // size}{unit}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LENGTH else text[:_LENGTH] + "..."


def _positive(kind: Kind, value: object) -> int:
    amount = round(_parse(kind, value))
    if amount < 1:
        raise QuantityError(f"{_shown(value)} is too little; {kind.name} is more than zero, like '{kind.example}'")
    return amount


def duration_us(value: object) -> int:
    """Microseconds; zero is allowed."""
    return round(_parse(DURATION, value))


def positive_duration_us(value: object) -> int:
    return _positive(DURATION, value)


def jitter_us(value: object) -> int:
    """Microseconds, at most 2 s; zero is none."""
    return round(_parse(JITTER, value))


def level_mdb(value: object) -> int:
    """Thousandths of a decibel, at most 100 dB; zero is allowed."""
    return round(_parse(LEVEL, value))


def framing_bytes(value: object) -> int:
    """Bytes that belong to one packet; zero is none."""
    return round(_parse(FRAMING, value))


def packets(value: object) -> int:
    return _positive(PACKETS, value)


def rate_bps(value: object) -> int:
    """Bits a second; never zero, which would mean an unshaped link to netem."""
    return _positive(RATE, value)


def size_bytes(value: object) -> int:
    return _positive(SIZE, value)


def flops_per_s(value: object) -> int:
    return _positive(SPEED, value)


def bytes_per_s(value: object) -> int:
    return _positive(BANDWIDTH, value)


def share_ppm(value: object) -> int:
    """Parts a million of a whole: 0% to 100%."""
    return round(_parse(SHARE, value))


def scale_ppm(value: object) -> int:
    """A factor in parts a million: "50%" halves, "200%" doubles; never zero."""
    return _positive(SCALE, value)


def period_us(value: object) -> int:
    """The mean time between two of "2/s", at least 1 us."""
    frequency = _parse(FREQUENCY, value)
    if frequency == 0:
        raise QuantityError(f"{_shown(value)} is never; {FREQUENCY.name} is more than zero, like '{FREQUENCY.example}'")
    return max(1, round(PPM / frequency))


@dataclass(frozen=True, slots=True)
class Queue:
    """How much a link direction may hold back, in the unit its author chose."""

    amount: int
    unit: Literal["packets", "us", "bytes"]

    def packets(self, rate: int) -> int:
        """Full packets at a rate in bit/s, at least one."""
        if self.unit == "packets":
            return self.amount
        bits = self.amount * 8 if self.unit == "bytes" else self.amount * rate // PPM
        return max(1, -(-bits // PACKET_BITS))


def queue(value: object) -> Queue:
    """ "50packets", "100ms" or "256KiB"."""
    text = value.strip() if isinstance(value, str) else ""
    unit = text.lstrip("0123456789. ")
    if unit in PACKETS.units:
        return Queue(_positive(PACKETS, value), "packets")
    if unit in DURATION.units:
        return Queue(_positive(DURATION, value), "us")
    if unit in SIZE.units:
        return Queue(_positive(SIZE, value), "bytes")
    raise QuantityError(f"{_shown(value)} is not a queue; write one like '50packets', '100ms' or '256KiB'")


def show_duration(amount_us: int) -> str:
    return _show(DURATION, amount_us)


def show_rate(amount_bps: int) -> str:
    return _show(RATE, amount_bps)


def _show(kind: Kind, amount: int) -> str:
    """Readable, at most two decimals: "12.5Mbit"."""
    unit, size = max(
        ((u, s) for u, s in kind.units.items() if s <= max(amount, 1) and u not in ("min", "h")),
        key=lambda pair: pair[1],
    )
    return f"{float(amount / size):.2f}".rstrip("0").rstrip(".") + unit
