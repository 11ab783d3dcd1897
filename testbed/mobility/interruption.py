"""How long a handover kept a phone off the network, from the phone's own packets.

Numbered probes go to an echo, and each answer says which probes the echo has heard, as TCP's selective acknowledgements
do (RFC 2018). So the phone knows of every probe whether it went out, whatever became of its answer: the longest time
between two in a row that were heard is how long the radio was away. An answer also needs the core's round trip and a
network that knows the phone's new place: from the last answered probe to the first again the phone was in silence for
longer.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Run = tuple[int, int]  # numbers in a row: first and last


@dataclass(frozen=True, slots=True)
class Interruption:
    """None: no answer came before, or none came again."""

    measured_us: int | None
    silent_us: int | None
    lost_probes: int  # sent and not answered, up to the first that was again


def interruption(
    sent_us: Sequence[int], answered: Collection[int], heard: Collection[int], gone_us: int, back_us: int
) -> Interruption:
    """`sent_us`: when each was sent; `answered`, `heard`: their numbers; the phone left and was attached when."""
    before = any(sent_us[number] < gone_us for number in answered)
    if not before or not any(sent_us[number] > back_us for number in answered):
        return Interruption(None, None, len(sent_us) - len(answered))
    gap, silence = _longest(sent_us, {*heard, *answered}), _longest(sent_us, answered)
    return Interruption(
        sent_us[gap[1]] - sent_us[gap[0]],
        sent_us[silence[1]] - sent_us[silence[0]],
        sum(number not in answered for number in range(silence[1])),
    )


def extended(runs: Sequence[Run], number: int, most: int) -> list[Run]:
    """Runs of what was heard with a further number, later than the last but for reordering; the last `most` of them."""
    if runs and number == runs[-1][1] + 1:
        return [*runs[:-1], (runs[-1][0], number)]
    return [*runs, (number, number)][-most:]


def numbers(runs: Iterable[Run]) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}


def _longest(sent_us: Sequence[int], found: Collection[int]) -> tuple[int, int]:
    """The ends of the longest gap between two or more."""
    return max(pairwise(sorted(found)), key=lambda pair: sent_us[pair[1]] - sent_us[pair[0]])
