"""A director that measures how exact a link between two hosts is, each direction by itself.

Writes `accuracy.json`: "up", "down": {part: as in benchmarks.link_director}; "replays": one a recording; "full queue":
the first of them with many packets waiting.
"""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import link_director as links
from benchmarks.link_director import DEEP_FRAMES, DELAYS_US
from benchmarks.pairs import ours
from benchmarks.recordings import five
from benchmarks.replay import replay

__all__ = ["DELAYS_US", "RATES_BPS", "main"]

RATES_BPS = {1_000_000: 3, 10_000_000: 3, 100_000_000: 1, 1_000_000_000: 1}  # -> seconds


def main(run_folder: Path) -> None:
    results: dict[str, object] = {}
    for direction in ("up", "down"):
        with ours(direction) as pair:
            results[direction] = {
                "rates": {
                    rate_bps: links.saturated(pair, rate_bps, seconds) for rate_bps, seconds in RATES_BPS.items()
                },
                "delays": links.delays(pair),
                "changes": links.changes(pair),
            }
    with ours() as pair:
        recordings = list(five())
        results["replays"] = [asdict(one) | replay(pair, one.steps, one.length_us) for one in recordings]
        first = recordings[0]
        results["full queue"] = asdict(first) | replay(pair, first.steps, first.length_us, DEEP_FRAMES)
    (run_folder / "accuracy.json").write_text(json.dumps(results))
