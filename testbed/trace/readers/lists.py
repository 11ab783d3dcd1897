"""Lists of round trips and rates: CICV5G rows, MECPerf's one line, the .list files of 5G-MeMU22. Pure.

Half of a round trip goes into `delay_us`, for a link's delay is one way.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from testbed.trace.instants import instant_us
from testbed.trace.rows import MAX_ROWS, Clock, Rows, Texts, TraceError, number
from testbed.trace.series import Extra, Series

_HALF = "delay is half the round trip"
# after the two times and the delay of a CICV5G row
_CICV5G: tuple[Extra, ...] = ("x_m", "y_m", "heading_rad", "speed_mps", "cell", "sinr_db", "rsrp_dbm")
_MECPERF = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?_")
_RUN = re.compile(r"Run \d+")
_RATE_STEP_US = 100_000
_RTT_STEP_US = 200_000


def is_cicv5g(rows: Rows, _name: str) -> bool:
    return rows[0][1].startswith("pub_time(ms) sub_time(ms) delay(ms)")


def is_mecperf(rows: Rows, _name: str) -> bool:
    return _MECPERF.match(rows[0][1]) is not None


def is_memu22(rows: Rows, _name: str) -> bool:
    return _RUN.fullmatch(rows[0][1]) is not None


def is_memu22_rtt(rows: Rows, name: str) -> bool:
    return is_memu22(rows, name) and "ping" in name.lower()


def is_memu22_rate(rows: Rows, name: str) -> bool:
    return is_memu22(rows, name) and "throughput" in name.lower()


def refuse_memu22(_rows: Rows, _name: str) -> Series:
    raise TraceError(0, "lists of runs that do not say what they hold; --format memu22-rate or memu22-rtt is right")


def read_cicv5g(rows: Rows, name: str) -> Series:
    """What stands in a row beyond the tenth field is not named by the data set and left out."""
    clock, delays, shared = Clock(), [], Texts()
    extras: dict[Extra, list[str]] = {extra: [] for extra in _CICV5G}
    if len(rows) < 2:
        raise TraceError(rows[0][0], "only a header; at least one row of numbers is right")
    for line, text in rows[1:]:
        fields = text.split()
        if len(fields) < 3:
            raise TraceError(line, f"{len(fields)} fields; a row has the times of sending and receiving, and the delay")
        clock.add(line, fields[0], 1000)
        delays.append(round(number(fields[2], line, "the delay", 120_000) * 500))
        beside = [*fields[3:10], *[""] * len(_CICV5G)]
        if len(fields) == 9:  # a row without a cell
            beside.insert(_CICV5G.index("cell"), "")
        for extra, field in zip(_CICV5G, beside, strict=False):
            extras[extra].append(shared.one(field.replace(",", ";")))
    kept = {extra: tuple(values) for extra, values in extras.items()}
    return Series(name, tuple(clock.t_us), clock.length_us(), {"delay_us": tuple(delays)}, kept, "probing", (_HALF,))


def read_mecperf(rows: Rows, name: str) -> Series:
    """Each sample is stamped when its answer came, so it holds from the stamp before to its own."""
    times, rtts = [], []
    for line, text in rows:
        for item in text.rstrip(",").split(","):
            stamp, _, rtt = item.strip().partition("_")
            times.append(instant_us(stamp, line))
            rtts.append(number(rtt, line, "the round trip", 120_000))
            if times[1:] and times[-1] <= times[-2]:
                raise TraceError(line, f"time {stamp} does not come after the one before; times must rise")
            if len(times) > MAX_ROWS:
                raise TraceError(line, f"more than {MAX_ROWS} samples; cut the trace")
    first = times[0] - max(1, round(rtts[0] * 1000))
    clock = Clock()
    for start in (first, *times[:-1]):
        clock.add_us(rows[0][0], start, str(start))
    delays = tuple(round(rtt * 500) for rtt in rtts)
    return Series(name, tuple(clock.t_us), times[-1] - first, {"delay_us": delays}, {}, "probing", (_HALF,))


def read_memu22_rate(rows: Rows, name: str) -> Series:
    t_us, values, parts, end_us = _joined(rows, "the rate", _RATE_STEP_US)
    rates = tuple(round(value * 10**6) for value in values)
    return Series(name, t_us, end_us, {"rate_bps": rates}, {"part": parts}, "goodput", _runs(parts))


def read_memu22_rtt(rows: Rows, name: str) -> Series:
    t_us, values, parts, end_us = _joined(rows, "the round trip", _RTT_STEP_US)
    delays = tuple(round(value * 500) for value in values)
    made = (_HALF, "its step is not stated; 0.2 s taken", *_runs(parts))
    return Series(name, t_us, end_us, {"delay_us": delays}, {"part": parts}, "probing", made)


def _runs(parts: tuple[str, ...]) -> tuple[str, ...]:
    return (f"{len(set(parts))} runs joined",)


def _joined(rows: Rows, what: str, step_us: int) -> tuple[tuple[int, ...], list[float], tuple[str, ...], int]:
    """Runs one after the other: times, values, the run of each, the end."""
    t_us: list[int] = []
    values: list[float] = []
    parts: list[str] = []
    end_us = 0
    for run, line, times, found in _lists(rows, what):
        own = [round((t - times[0]) * 10**6) for t in times] if times else [i * step_us for i in range(len(found))]
        t_us += [end_us + t for t in own]
        values += found
        parts += [run] * len(found)
        end_us = t_us[-1] + step_us
        if len(values) > MAX_ROWS:
            raise TraceError(line, f"more than {MAX_ROWS} samples; cut the trace")
    if not values:
        raise TraceError(0, "runs without values; under 'Run 1' stands a list of numbers with commas between")
    return tuple(t_us), values, tuple(parts), end_us


def _lists(rows: Rows, what: str) -> Iterator[tuple[str, int, list[float], list[float]]]:
    """(run, line, times or nothing, values): a list that rises strictly before another as long is that one's times."""
    run = "0"
    times: list[float] = []
    most = 10**6
    for index, (line, text) in enumerate(rows):
        if _RUN.fullmatch(text):
            run, times = text.removeprefix("Run "), []
            continue
        found = [number(item, line, what, most) for item in text.strip(",").split(",")]
        after = rows[index + 1][1] if index + 1 < len(rows) else ""
        rises = all(round((b - a) * 10**6) > 0 for a, b in pairwise(found))
        if not times and rises and not _RUN.fullmatch(after) and after.strip(",").count(",") + 1 == len(found) > 1:
            times = found
            continue
        if times and len(times) != len(found):
            raise TraceError(line, f"{len(found)} values for {len(times)} times; as many is right")
        yield run, line, times, found
        times = []
