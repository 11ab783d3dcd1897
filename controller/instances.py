"""Small random problems and what happens to them, by number: the same number gives the same."""

from dataclasses import replace

import numpy as np

from controller.model import (
    Block,
    Host,
    Model,
    NodeState,
    Placement,
    PrivacyClass,
    Problem,
    Sla,
    Snapshot,
    Stream,
    Trigger,
)

Draw = np.random.Generator
ZONES = ("home", "site", "cloud")
MS = 1000


def problem(seed: int) -> Problem:
    """2 to 6 nodes, 2 to 7 blocks, 1 to 3 streams; zones, little memory, pins and vetoes in part of them."""
    draw = np.random.default_rng(seed)
    hosts, blocks, streams = (int(draw.integers(*size)) for size in ((2, 7), (2, 8), (1, 4)))
    model = _model(draw, blocks)
    size = sum(block.weight_bytes for block in model.blocks)
    made = Problem(
        hosts=tuple(_host(draw, n, size) for n in range(hosts)),
        models={"m": model},
        streams=tuple(Stream(f"s{i}", "m", f"n{i % hosts}", int(draw.integers(50, 2000)) * MS) for i in range(streams)),
        sla=Sla(95, 200 * MS, 5000 * MS),
        zones=_zones(draw),
        weights="transfer" if draw.random() < 0.5 else "prestaged",
        seed=seed,
    )
    return _wishes(draw, made)


def _model(draw: Draw, blocks: int) -> Model:
    kinds: list[PrivacyClass] = ["feature", "raw", "public"]
    made = tuple(
        Block(
            f"b{i}",
            int(draw.integers(1, 50)) * 10**8,
            int(draw.integers(1, 9)) * 10**6,
            int(draw.integers(1, 600)) * 1000,
            int(draw.integers(0, 3)) * 10**6,
            kinds[min(i, int(draw.integers(0, 3)))] if i else "raw",
        )
        for i in range(blocks)
    )
    return Model("m", made, int(draw.integers(1, 600)) * 1000)


def _host(draw: Draw, n: int, size: int) -> Host:
    memory = int(size * draw.uniform(0.4, 4.0))
    return Host(f"n{n}", str(draw.choice(ZONES)), int(draw.integers(10, 400)) * 10**9, memory)


def _zones(draw: Draw) -> dict[PrivacyClass, frozenset[str]]:
    zones: dict[PrivacyClass, frozenset[str]] = {}
    if draw.random() < 0.6:
        zones["raw"] = frozenset(draw.choice(ZONES, 2).tolist())
    if draw.random() < 0.3:
        zones["feature"] = frozenset({*zones.get("raw", ()), str(draw.choice(ZONES))})
    return zones


def _wishes(draw: Draw, made: Problem) -> Problem:
    names = [host.name for host in made.hosts]
    if draw.random() < 0.2:
        made = replace(made, vetoes=frozenset({names[-1]}))
    if draw.random() < 0.2:
        made = replace(made, pins={("s0", 0): names[0]})
    return made


def scene(made: Problem, seed: int, now_us: int = 0) -> Snapshot:
    """What may be known of it: some nodes down, some paths missing, loads and backlogs."""
    draw, size = np.random.default_rng((seed, now_us)), len(made.hosts)
    nodes = tuple(
        NodeState(bool(draw.random() > 0.08), int(draw.integers(0, 800_000)), int(draw.integers(0, 9000)))
        for _ in range(size)
    )
    delay = draw.integers(100, 20_000, (size, size))
    np.fill_diagonal(delay, 0)
    rate = draw.integers(5, 500, (size, size)) * 10**6 * (draw.random((size, size)) > 0.08)
    latency = {s.name: int(draw.integers(20, 400)) * MS for s in made.streams if draw.random() < 0.7}
    return Snapshot(now_us, nodes, delay, rate, latency)


def triggers(seed: int, period: int) -> tuple[Trigger, ...]:
    """In two periods of three something has changed."""
    changed = np.random.default_rng((seed, period, 1)).random() < 0.67
    return (Trigger("link_latency", "n0->n1", 2.0, 1.0),) if changed else ()


def steps(made: Problem, seed: int, count: int) -> list[tuple[Snapshot, tuple[Trigger, ...]]]:
    """`count` periods of 4 s, each with a world of its own."""
    return [(scene(made, seed, period * 4_000_000), triggers(seed, period)) for period in range(1, count + 1)]


NOTHING = Placement(0, {})
