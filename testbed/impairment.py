"""What a link direction does to packets, as people write it, and the `Shape` that netem holds of it. Pure.

One reading of each word for the experiment's file and for a change by call. What a word may say, and what holds for
it in netem, is described in docs/links.md. Every error is a `QuantityError` that says what would be right.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from testbed import quantity
from testbed.plan import Distribution, GilbertElliott, Markov, Shape, Slot
from testbed.quantity import PACKET_BITS, PPM, QuantityError, Queue

NONE = "none"
DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)
LEAST_QUEUE_PACKETS = 1000  # the usual length of an interface queue; radio links buffer at least that much
LEAST_OVERHEAD_BYTES = -14  # without the Ethernet header: rates of IP packets
NO_SLOT = Slot(0, 0)
TAIL = 4  # standard deviations: as far as netem's tables reach

Loss = int | GilbertElliott | Markov  # parts a million, or a model


@dataclass(frozen=True, slots=True)
class Reorder:
    jitter: bool = False  # whether packets of different jitter may overtake one another
    share_ppm: int = 0
    gap: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    size_bytes: int = 0
    overhead_bytes: int = 0


def distribution(value: object) -> Distribution:
    for known in DISTRIBUTIONS:
        if value == known:
            return known
    raise QuantityError(f"{_shown(value)} is no distribution; right are {', '.join(DISTRIBUTIONS)}")


def loss(value: object) -> Loss:
    """ "1%", or a mapping with the name of a model and its probabilities."""
    if not isinstance(value, Mapping):
        return quantity.share_ppm(value)
    kind = value.get("model")
    given = {key: part for key, part in value.items() if key != "model"}
    if kind == "gilbert_elliott":
        read = _shares(given, ("p", "r"), {"bad": PPM, "good": 0})
        return GilbertElliott(read["p"], read["r"], read["bad"], read["good"])
    if kind == "markov":
        read = _shares(given, ("p13", "p31"), {"p32": 0, "p23": 0, "p14": 0})
        for one, other in (("p13", "p14"), ("p31", "p32")):
            if read[one] + read[other] > PPM:
                raise QuantityError(f"{one} and {other} are together more than 100%; they leave the same state")
        return Markov(**{f"{name}_ppm": read[name] for name in ("p13", "p31", "p32", "p23", "p14")})
    raise QuantityError(f"{_shown(kind)} is no model of losses; right are gilbert_elliott, markov")


def reorder(value: object) -> Reorder:
    """ "none", "allowed" (jitter may reorder), "5%", or {share: 5%, gap: 4packets}."""
    if value in (NONE, "allowed"):
        return Reorder(jitter=value == "allowed")
    if isinstance(value, Mapping):
        _known(value, ("share", "gap"), needed=("share",))
        share_ppm = quantity.share_ppm(value["share"])
        gap = quantity.packets(value.get("gap", "1packet"))
    elif isinstance(value, str) and value.rstrip().endswith("%"):
        share_ppm, gap = quantity.share_ppm(value), 1
    else:
        raise QuantityError(
            f"{_shown(value)} is not known; 'none', 'allowed' (by jitter) or a share like '5%' is right"
        )
    return Reorder(share_ppm=share_ppm, gap=gap if share_ppm else 0)


def slot(value: object) -> Slot:
    """ "none", "10ms", or {min: 5ms, max: 10ms, packets: 4packets, bytes: 6kB}."""
    if value == NONE:
        return NO_SLOT
    if not isinstance(value, Mapping):
        every_us = quantity.positive_duration_us(value)
        return Slot(every_us, every_us)
    _known(value, ("min", "max", "packets", "bytes"), needed=("min",))
    least_us = quantity.positive_duration_us(value["min"])
    most_us = quantity.positive_duration_us(value.get("max", value["min"]))
    if most_us < least_us:
        raise QuantityError("max is less than min; min is the shortest time from slot to slot")
    return Slot(
        least_us,
        most_us,
        quantity.packets(value["packets"]) if "packets" in value else 0,
        quantity.size_bytes(value["bytes"]) if "bytes" in value else 0,
    )


def overhead_bytes(value: object) -> int:
    """ "24B", and "-14B" for rates without the Ethernet header."""
    if isinstance(value, str) and value.startswith("-"):
        less = -quantity.framing_bytes(value[1:])
        if less < LEAST_OVERHEAD_BYTES:
            raise QuantityError(f"{_shown(value)} leaves nothing of small packets; at least -14B is right")
        return less
    return quantity.framing_bytes(value)


def cell(value: object) -> Cell:
    """ "none" or {size: 48B, overhead: 5B}."""
    if value == NONE:
        return Cell()
    if not isinstance(value, Mapping):
        raise QuantityError(f"{_shown(value)} is no cell; 'none' or {{size: 48B, overhead: 5B}} is right")
    _known(value, ("size", "overhead"), needed=("size",))
    size = quantity.framing_bytes(value["size"])
    if size < 1:
        raise QuantityError("a cell of 0B carries nothing; 48B is that of ATM")
    return Cell(size, quantity.framing_bytes(value.get("overhead", "0B")))


WORDS: Mapping[str, Callable[[object], Any]] = {
    "rate": quantity.rate_bps,
    "overhead": overhead_bytes,
    "cell": cell,
    "delay": quantity.duration_us,
    "jitter": quantity.jitter_us,
    "distribution": distribution,
    "reorder": reorder,
    "loss": loss,
    "duplicate": quantity.share_ppm,
    "corrupt": quantity.share_ppm,
    "slot": slot,
    "queue": quantity.queue,
}
_PLAIN = {
    **{"rate": "rate_bps", "delay": "delay_us", "jitter": "jitter_us", "overhead": "overhead_bytes"},
    **{"distribution": "distribution", "duplicate": "duplicate_ppm", "corrupt": "corrupt_ppm"},
}


def fields(word: str, value: Any) -> dict[str, Any]:
    """The fields of a `Shape` that the read value of a word stands for; a queue needs the rest of the shape."""
    if word in _PLAIN:
        return {_PLAIN[word]: value}
    if word == "loss":
        return {"loss_ppm": loss_ppm(value), "loss_model": None if isinstance(value, int) else value}
    if word == "reorder":
        return {"jitter_reorders": value.jitter, "reorder_ppm": value.share_ppm, "reorder_gap": value.gap}
    if word == "slot":
        return {"slot": None if value == NO_SLOT else value}
    return {"cell_bytes": value.size_bytes, "cell_overhead_bytes": value.overhead_bytes}


def changed(shape: Shape, words: Mapping[str, object]) -> Shape:
    """The shape after a change by words, such as {"rate": "20Mbit"}; raises QuantityError.

    The queue keeps what may wait and makes room for what more is on its way.
    """
    read = {}
    for word, value in words.items():
        if word not in WORDS:
            raise QuantityError(f"no impairment '{word[:40]}'; {_nearest(word, WORDS)}")
        try:
            read[word] = WORDS[word](value)
        except QuantityError as fault:
            raise QuantityError(f"{word}: {fault}") from None
    given = {
        name: part for word, value in read.items() if word != "queue" for name, part in fields(word, value).items()
    }
    after = replace(shape, **given)
    held = held_packets(after)
    if "queue" in read:
        return replace(after, queue_packets=queue_packets(read["queue"], after.rate_bps, held))
    return replace(after, queue_packets=shape.queue_packets + max(0, held - held_packets(shape)))


def held_packets(shape: Shape) -> int:
    """Full packets that are on their way at most."""
    spread = 1 if shape.distribution == "uniform" else TAIL
    longest_us = shape.delay_us + spread * shape.jitter_us + (shape.slot.max_us if shape.slot else 0)
    return -(-shape.rate_bps * longest_us // (PPM * PACKET_BITS))


def queue_packets(queue: Queue | None, rate_bps: int, held: int) -> int:
    """netem's limit, `held` packets being on their way.

    Without a queue twice the bandwidth-delay product of a round trip (4 x held), at least the usual length.
    """
    return max(LEAST_QUEUE_PACKETS, 4 * held) if queue is None else held + queue.packets(rate_bps)


def loss_ppm(said: Loss) -> int:
    """The share of packets that is lost in the long run."""
    if isinstance(said, int):
        return said
    if isinstance(said, GilbertElliott):
        turns = said.p_ppm + said.r_ppm
        return round((said.p_ppm * said.bad_ppm + said.r_ppm * said.good_ppm) / turns) if turns else said.good_ppm
    return round(PPM * _lost_of_four_states(said))


def _lost_of_four_states(model: Markov) -> float:
    """The stationary share of states 3 and 4, for one unit of time in 3 where that state is ever left and reached."""
    p13, p31, p32, p23, p14 = (
        value / PPM for value in (model.p13_ppm, model.p31_ppm, model.p32_ppm, model.p23_ppm, model.p14_ppm)
    )
    if p13 == 0:
        return p14 / (1 + p14)
    if p32 > 0 and p23 == 0:
        return 0.0  # in the end it stays in state 2
    second = p32 / p23 if p32 else 0.0
    first, fourth = p31 / p13, p14 * p31 / p13
    return (1 + fourth) / (1 + fourth + second + first)


def show(word: str, value: Any) -> str:
    """The value of a word in the text of an event: "5Mbit", "gilbert_elliott of 3.85%"."""
    return _SHOWN[word](value) if word in _SHOWN else str(value)


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:g}%"


def _loss_text(said: Loss) -> str:
    if isinstance(said, int):
        return _percent(said)
    return f"{'markov' if isinstance(said, Markov) else 'gilbert_elliott'} of {_percent(loss_ppm(said))}"


def _slot_text(said: Slot) -> str:
    times = dict.fromkeys(quantity.show_duration(part) for part in (said.min_us, said.max_us))
    return NONE if said == NO_SLOT else " to ".join(times)


def _reorder_text(said: Reorder) -> str:
    return "allowed" if said.jitter else _percent(said.share_ppm) if said.share_ppm else NONE


_SHOWN: Mapping[str, Callable[[Any], str]] = {
    "rate": quantity.show_rate,
    "overhead": "{}B".format,
    "cell": lambda cell: f"{cell.size_bytes}B + {cell.overhead_bytes}B" if cell.size_bytes else NONE,
    "delay": quantity.show_duration,
    "jitter": quantity.show_duration,
    "reorder": _reorder_text,
    "loss": _loss_text,
    "duplicate": _percent,
    "corrupt": _percent,
    "slot": _slot_text,
    "queue": lambda queue: f"{queue.amount}{queue.unit}",
}


def _shares(given: Mapping[str, object], needed: Collection[str], others: Mapping[str, int]) -> dict[str, int]:
    _known(given, (*needed, *others), needed)
    read = dict(others)
    for name, value in given.items():
        try:
            read[name] = quantity.share_ppm(value)
        except QuantityError as fault:
            raise QuantityError(f"{name}: {fault}") from None
    return read


def _known(given: Mapping[str, object], known: Collection[str], needed: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise QuantityError(f"unknown key {_shown(name)}; {_nearest(str(name), known)}")
    for name in needed:
        if name not in given:
            raise QuantityError(f"'{name}' is missing; right are {', '.join(known)}")


def _nearest(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word[:64], known, 1)
    return f"did you mean '{close[0]}'?" if close else f"right are {', '.join(known)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
