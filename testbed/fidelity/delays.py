"""Whether a frame took the time that was asked: `probe` records -> error of each. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from testbed.fidelity.asked import Kinds, asked, at, away, between, overlaps
from testbed.percentile import UNANSWERED

APART_US = 20_000  # nearer to a change of the link it is not known which shape a frame met


@dataclass(frozen=True, slots=True)
class Probed:
    """`error_us` is what a probe took beyond delay and serialisation; infinite when it never arrived."""

    link: str
    direction: str
    t_us: int
    expected_us: float
    error_us: float


def judge_delays(kinds: Kinds) -> Iterator[Probed]:
    shapes, gone = asked(kinds), away(kinds)
    for probe in kinds["probe"]:
        key, t_us = (probe["link"], probe["direction"]), probe["t_us"]
        if key not in shapes or len(between(shapes[key], t_us - APART_US, t_us + APART_US)) > 1:
            continue
        shape = at(shapes[key], t_us)
        expected_us = shape.delay_us + shape.wire_us(probe["bytes"])
        if overlaps(gone.get(key[0], ()), t_us, t_us + round(expected_us)):
            continue
        took_ns = probe["took_ns"]
        error_us = UNANSWERED if took_ns is None else took_ns / 1000 - expected_us
        yield Probed(*key, t_us, expected_us, error_us)
