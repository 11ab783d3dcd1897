"""How long AMP4EC's node selection takes, and how evenly it spreads: both modes, more and more nodes.

    python -m benchmarks.scheduling

The authors' own code, measured on two shared cores: 12.8 us at 3 nodes, 21.6 at 5, 41 at 10, 196 at 50, 408 at 100; one
node of five got 1998 of 2000 tasks.
"""

import json
import random
import time
from typing import get_args

from rich.console import Console
from rich.table import Table

from benchmarks.table import RESULTS
from controller.amp4ec.scheduler import Mode, Offer, Request, Scheduler, balance

NODES = (3, 5, 10, 50, 100)
TASKS = 2000
GIB = 1 << 30


def offers(count: int) -> list[Offer]:
    draw = random.Random(count)
    return [
        Offer(f"n{i}", draw.uniform(0.4, 1.0), draw.uniform(0.5, 1.0) * GIB, draw.uniform(0, 0.5), draw.uniform(1, 20))
        for i in range(count)
    ]


def measure(mode: Mode, count: int) -> dict[str, float]:
    """Microseconds a decision (median, p99), and Jain's index of the tasks of all nodes."""
    scheduler, offered, request = Scheduler(mode), offers(count), Request(0.05, GIB / 16)
    took_us, running = list[float](), list[str]()
    for _ in range(TASKS):
        began = time.perf_counter_ns()
        chosen = scheduler.select(request, offered)
        took_us.append((time.perf_counter_ns() - began) / 1000)
        assert chosen is not None
        running.append(chosen)
        scheduler.ran(chosen, 20.0)
        if len(running) > 2 * count:  # so many are under way at a time
            scheduler.ended(running.pop(0))
    took_us.sort()
    spread = balance([scheduler.tasks().get(offer.name, 0) for offer in offered])
    return {"p50_us": took_us[TASKS // 2], "p99_us": took_us[TASKS * 99 // 100], "balance": spread}


def main() -> None:
    table, results = Table("mode", "nodes", "p50, us", "p99, us", "balance (1 is even)", title="node selection"), {}
    for mode in get_args(Mode):
        for count in NODES:
            figures = results[f"{mode} {count}"] = measure(mode, count)
            table.add_row(mode, str(count), *(f"{value:.3g}" for value in figures.values()))
    Console(width=100).print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scheduling.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
