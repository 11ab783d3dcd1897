"""How exact the links are, beside plain Mininet (TCLink) in the same guest, measured by the same code.

    make bench

In virtual time: what a change costs in computing is free for both. What is measured, and what it showed:
docs/benchmarks.md.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.stream import FRAME_BYTES
from benchmarks.table import Row, show
from benchmarks.windows import errors, quantile, scheduled
from testbed.kernel import build
from testbed.kernel.guest import CONSOLE, GuestOptions, run_guest, tail

DIRECTOR = "benchmarks.link_director"
WALL_LIMIT_S = 900
SECOND = 10  # windows of 100 ms
FLOOR_PACKETS = 8  # a window that should carry less is not judged: one packet more or less is too much of it


def main() -> None:
    measured = measure()
    rows = list(compared(measured))
    show("links", rows, measured)
    show("token buckets", list(bucketed(measured)), {})


def measure(kernel: Path | None = None) -> dict[str, Any]:
    """Everything in one guest. Raises GuestFailed; RuntimeError when it measured nothing."""
    kernel = kernel or build.installed()
    if kernel is None:
        raise RuntimeError("the guest kernel is not built: run `make setup`")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        run_guest(kernel, folder, DIRECTOR, GuestOptions(wall_limit_s=WALL_LIMIT_S))
        result = folder / "links.json"
        if not result.exists():
            raise RuntimeError(f"the guest measured nothing; its console:\n{tail(folder / CONSOLE)}")
        return dict(json.loads(result.read_text()))


def compared(measured: Mapping[str, Any]) -> Iterator[Row]:
    both = [measured[kind] for kind in ("ours", "plain")]
    for rate_bps in both[0]["rates"]:
        found = [rate_errors(one["rates"][rate_bps], int(rate_bps)) for one in both]
        for window, values in zip(("1 s", "100 ms"), zip(*found, strict=True), strict=True):
            yield Row(f"rate error p95 at {int(rate_bps) / 1e6:g} Mbit/s, {window}", "%", *values)
    for delay_us in both[0]["delays"]:
        worst = [max(abs(late - int(delay_us)) for late in one["delays"][delay_us]) for one in both]
        yield Row(f"delay error at {int(delay_us) // 1000} ms, largest", "us", *worst)
    for what in both[0]["changes"]:
        lost = [100 * one["changes"][what]["lost"] / one["changes"][what]["sent"] for one in both]
        yield Row(f"lost during 10 changes a second of {what}", "%", *lost)
    for frames in both[0]["lone"]:
        ideal_us = int(frames) * FRAME_BYTES * 8 / 20
        missed = [abs(one["lone"][frames] - ideal_us) / ideal_us * 100 for one in both]
        yield Row(f"transit error of {frames} lone frames at 20 Mbit/s", "%", *missed)
    for name in both[0]["replays"]:
        judged = [replay_errors(one["replays"][name]) for one in both]
        for what in judged[0]:
            yield Row(f"replay, {name}: {what}", "%", judged[0][what], judged[1][what])
    late = [[us for one in kind["replays"].values() for us in one["late_us"]] for kind in both]
    yield Row("step lateness p95 (virtual: the computing is free)", "us", *(quantile(us, 0.95) for us in late))


def bucketed(measured: Mapping[str, Any]) -> Iterator[Row]:
    """The same recording under each discipline; beside plain Mininet's for the same sender."""
    for name, disciplines in {"ours": measured["ours"]["queues"], **measured["buckets"]}.items():
        for sender, one in disciplines.items():
            mine, its = replay_errors(one), replay_errors(measured["plain"]["queues"][sender])
            for what in mine:
                yield Row(f"{name}, {sender}: {what}", "%", mine[what], its[what])


def rate_errors(bits: Sequence[float], rate_bps: int) -> tuple[float, float]:
    """p95 in percent over windows of 1 s and of 100 ms."""
    seconds = [sum(bits[start : start + SECOND]) for start in range(0, len(bits), SECOND)]
    return (
        100 * quantile(errors(seconds, [rate_bps] * len(seconds)), 0.95),
        100 * quantile(errors(bits, [rate_bps / SECOND] * len(bits)), 0.95),
    )


def replay_errors(one: Mapping[str, Any]) -> dict[str, float]:
    """In percent: p95 over windows of 1 s, p50 and p95 over 100 ms, and of the total."""
    found = {
        name: 100 * quantile(errors(*zip(*judged(one, width), strict=True)), share)
        for name, width, share in (("1 s p95", SECOND, 0.95), ("100 ms p50", 1, 0.5), ("100 ms p95", 1, 0.95))
    }
    carried, wanted = zip(*judged(one, len(one["bits"])), strict=True)
    return found | {"total": 100 * errors(carried, wanted)[0]}


def judged(one: Mapping[str, Any], width: int) -> list[tuple[float, float]]:
    """(bits carried, bits that the steps allow) of windows of so many tenths of a second, but for the near-empty."""
    edges_us = range(0, (len(one["bits"]) + 1) * 100_000, 100_000)
    wanted = [bits / 1e6 for bits in scheduled(one["steps"], edges_us)]
    pairs = [
        (sum(one["bits"][start : start + width]), sum(wanted[start : start + width]))
        for start in range(0, len(wanted), width)
    ]
    return [pair for pair in pairs if pair[1] >= FLOOR_PACKETS * FRAME_BYTES * 8]


if __name__ == "__main__":
    main()
