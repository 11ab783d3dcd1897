"""Whether saturated links carried what the schedule says: `carried` records -> judged windows. Pure.

From one sample to a later one a queue was never empty when something that had come by the first had not left by the
second: it is a FIFO, and what has come may leave after the delay. Only such times are judged for being too slow;
too fast is a fault at any time.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from testbed.fidelity.asked import Asked, Key, Kinds, Record, Span, asked, at, away, between, overlaps, possible_bytes

WINDOW_US = 1_000_000
LEAST, LONGEST = 0.99, 1.5  # of a window, what is taken for one
MEMORY_US = 2_000_000  # a change is that long ago when nothing of before it waits any more, where that is not known


@dataclass(frozen=True, slots=True)
class Window:
    """`error` is a share of what was asked, negative for too little; `replay_error` against the schedule to the moment,
    without regard for what waited in the queue when it changed."""

    link: str
    direction: str
    t_us: int
    until_us: int
    asked_bytes: int
    carried_bytes: int
    error: float
    replay_error: float


@dataclass(frozen=True, slots=True)
class Judged:
    windows: tuple[Window, ...]
    seconds: int  # of a direction, in which something was carried
    unjudged: int  # of those: not saturated, or not to be judged


@dataclass(frozen=True, slots=True)
class _Sample:
    t_us: int
    left: int  # bytes, since the start
    packets: int
    come: int  # bytes


def judge_rates(kinds: Kinds, window_us: int = WINDOW_US) -> Judged:
    """Windows of about `window_us`. Where a new rate holds for what is queued (`run.replans`), no lag excuses."""
    shapes, gone = asked(kinds), away(kinds)
    replans = any(run.get("replans") for run in kinds["run"])
    samples: dict[Key, list[_Sample]] = defaultdict(list)
    for record in kinds["carried"]:
        samples[record["link"], record["direction"]].append(_sample(record))
    windows: list[Window] = []
    seconds = 0
    for key, own in samples.items():
        if key in shapes:
            seconds += len({one.t_us // WINDOW_US for one, later in pairwise(own) if later.left > one.left})
            found = _windows(key, own, shapes[key], gone.get(key[0], []), window_us=window_us, replans=replans)
            windows.extend(found)
    judged = sum(round((window.until_us - window.t_us) / WINDOW_US) for window in windows)
    return Judged(tuple(windows), seconds, max(0, seconds - judged))


def _sample(record: Record) -> _Sample:
    return _Sample(record["t_us"], record["bytes"], record["packets"], record["bytes"] + record["backlog_bytes"])


def _windows(
    key: Key,
    samples: Sequence[_Sample],
    shapes: Sequence[Asked],
    gone: Sequence[Span],
    *,
    window_us: int,
    replans: bool,
) -> Iterator[Window]:
    for run in _unbroken(samples):
        full = list(_full(run, _busy(run, shapes), window_us))
        spans = [(run[one].t_us, run[last].t_us) for one, last in full]
        for one, last in full:
            window = _judged(key, (run[one], run[last]), shapes, 0 if replans else _lag(run, one, last))
            if window and not overlaps(gone, window.t_us, window.until_us):
                yield window
        for start, end in pairwise(run):
            if LEAST * window_us <= end.t_us - start.t_us <= LONGEST * window_us and not overlaps(
                spans, start.t_us, end.t_us
            ):
                window = _judged(key, (start, end), shapes, 0 if replans else MEMORY_US)
                if window and window.error > 0 and not overlaps(gone, window.t_us, window.until_us):
                    yield window


def _unbroken(samples: Sequence[_Sample]) -> Iterator[list[_Sample]]:
    """Where counters go back, or what had come is gone without leaving, a new queue begins."""
    run: list[_Sample] = []
    for sample in samples:
        if run and (sample.left < run[-1].left or sample.come < run[-1].come):
            yield run
            run = []
        run.append(sample)
    if run:
        yield run


def _busy(run: Sequence[_Sample], shapes: Sequence[Asked]) -> list[Span]:
    """The times in which the queue certainly gave out without a pause, merged."""
    found: list[Span] = []
    last = 0
    ready_us = 0
    for place, sample in enumerate(run):
        last = max(last, place)
        while last + 1 < len(run) and run[last + 1].left < sample.come:
            last += 1
        ready_us = max(ready_us, sample.t_us + _reach_us(shapes, sample.t_us))
        if last > place and run[last].t_us > ready_us:
            if found and ready_us <= found[-1][1]:
                found[-1] = found[-1][0], max(found[-1][1], run[last].t_us)
            else:
                found.append((ready_us, run[last].t_us))
    return found


def _reach_us(shapes: Sequence[Asked], t_us: int) -> int:
    """How long from now what has come by now may still be held by its delay."""
    held = between(shapes, t_us - MEMORY_US, t_us + 1)
    return max(min(until_us, t_us) + shape.reach_us - t_us for shape, _, until_us in held)


def _full(run: Sequence[_Sample], busy: Sequence[Span], window_us: int) -> Iterator[tuple[int, int]]:
    """(first sample, last sample) of each window, one behind the other."""
    for since_us, until_us in busy:
        inside = [place for place, sample in enumerate(run) if since_us <= sample.t_us <= until_us]
        first = inside[0] if inside else 0
        for place in inside:
            took_us = run[place].t_us - run[first].t_us
            if took_us >= LEAST * window_us:
                if took_us <= LONGEST * window_us:
                    yield first, place
                first = place


def _lag(run: Sequence[_Sample], first: int, last: int) -> int:
    """The longest that what left in a window can have been in the queue."""
    longest = 0
    for sample in run[first : last + 1]:
        earlier = [one.t_us for one in run if one.come <= sample.left and one.t_us <= sample.t_us]
        longest = max(longest, sample.t_us - (earlier[-1] if earlier else run[0].t_us - MEMORY_US))
    return longest


def _judged(key: Key, ends: tuple[_Sample, _Sample], shapes: Sequence[Asked], lag_us: int) -> Window | None:
    start, end = ends
    held = [shape for shape, _, _ in between(shapes, start.t_us - lag_us, end.t_us)]
    now = at(shapes, start.t_us)
    same = all((s.overhead_bytes, s.cell_bytes) == (now.overhead_bytes, now.cell_bytes) and s.paced for s in held)
    size, packets = end.left - start.left, end.packets - start.packets
    if not same or (not packets and end.come == end.left):
        return None
    exact, _ = possible_bytes(shapes, start.t_us, end.t_us, 0)
    least, most = possible_bytes(shapes, start.t_us, end.t_us, lag_us)
    charged = now.charged(size, packets)
    frame = charged[1] / packets if packets else 0.0  # counters count whole frames
    return Window(
        *key,
        start.t_us,
        end.t_us,
        asked_bytes=round(exact),
        carried_bytes=size,
        error=_off(charged, (least, most), frame) / exact,
        replay_error=_off(charged, (exact, exact), frame) / exact,
    )


def _off(charged: tuple[int, int], possible: tuple[float, float], frame: float) -> float:
    """How far the two ranges are apart, beyond one frame; negative when too little was carried."""
    if charged[0] > possible[1]:
        return max(0.0, charged[0] - possible[1] - frame)
    return min(0.0, charged[1] - possible[0] + frame)
