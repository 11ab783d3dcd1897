"""Ten minutes of noisy links over two servers that are nearly alike: nobody moves more than once a minute."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from controller.model import NodeState, Sla, Snapshot
from controller.plugins import find
from tests.unit.test_coordinator import PROBLEM, SECOND, World, coordinator

ALIKE = dataclasses.replace(
    PROBLEM,
    hosts=tuple(dataclasses.replace(h, flops_per_s=95 * 10**9) if h.name == "mec" else h for h in PROBLEM.hosts),
    weights="prestaged",  # so that moving is cheap
    sla=Sla(95, 300_000, 5_000_000),  # which is held throughout: who is late may be moved sooner
)
PERIODS = 600
DELAY = np.array([[0, 2000, 2200], [2000, 0, 2000], [2200, 2000, 0]])


class Noisy(World):
    """Rates and delays with noise and spikes; which of the servers is a little better drifts to and fro."""

    def __init__(self):
        super().__init__()
        self.draw, self.worse = np.random.default_rng(5), []

    def snapshot(self, now_us):
        noise = np.exp(0.15 * self.draw.standard_normal((2, 3, 3)))
        noise[0] *= 1 + 2 * (self.draw.random((3, 3)) < 0.03)
        drift = 1 + 0.1 * np.sin(now_us / (20 * SECOND)) * np.array([[0, 1, -1], [1, 0, 0], [-1, 0, 0]])
        load = (300_000 + 50_000 * self.draw.standard_normal(3)).astype(int).tolist()
        latency = {s: round(90_000 * float(np.exp(0.1 * self.draw.standard_normal()))) for s in ("s", "t")}
        rate = (50_000_000 * noise[1] * drift).astype(np.int64)
        nodes = tuple(NodeState(True, max(0, ppm), 0) for ppm in load)
        return Snapshot(now_us, nodes, (DELAY * noise[0]).astype(np.int64), rate, latency)


def moved_at(monkeypatch, path, policy, periods=PERIODS):
    """When it moved, and how many triggers there were."""
    monkeypatch.setattr("tests.unit.test_coordinator.PROBLEM", ALIKE)
    world = Noisy()
    loop = coordinator(world, path, policy)
    loop.begin(0)
    loop.run(periods * SECOND)
    triggers = [t for d in world.of("decision")[1:] for t in d["triggers"]]
    return [r["t_us"] for r in world.of("move") if r["phase"] == "commit" and r["epoch"] > 1], len(triggers)


@pytest.mark.parametrize("name", ["joint", "dynamic"])
def test_at_most_one_move_a_minute(monkeypatch, tmp_path, name):
    times, triggers = moved_at(monkeypatch, tmp_path, find(name))
    assert triggers > 20, "there is nothing to be calm about"
    assert all(b - a >= 60 * SECOND for a, b in pairwise(times)), [t / 1e6 for t in times]


def test_what_has_no_margin_and_no_rest_flaps_in_this_noise(monkeypatch, tmp_path):
    options = {"min_gain": 0, "cooldown_s": 0, "disturb_ms": 0, "rest_s": 0}
    times, _ = moved_at(monkeypatch, tmp_path, lambda problem, _: find("joint")(problem, options), 150)
    assert len(times) > 10
