"""Random worlds by number, as the experiments of arXiv 2505.02533 draw them: the same number gives the same.

Memory and compute are log-normal and clipped, links uniform, everyone linked with everyone, device 0 is the source.
In each interval background tasks take uniform shares of memory and compute. What the paper leaves open (the
parameters of the log-normals) is of its authors' configurations, in the units they meant.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from controller.heads.model import Device, Floats, Scene

GB, GFLOPS, GBIT = 1e9, 1e9, 1e9 / 8


@dataclass(frozen=True, slots=True)
class Sort:
    """What worlds of a sort have in common."""

    devices: int
    memory_gb: tuple[float, float, float, float] = (1.0, 0.5, 2.0, 8.0)  # mu, sigma, least, most
    gflops: tuple[float, float, float, float] = (3.0, 0.5, 5.0, 50.0)
    gbit_per_s: tuple[float, float] = (1.0, 10.0)
    background: float = 0.3  # the largest share that other tasks take
    delay_s: float = 0.0  # one way, between any two


@dataclass(frozen=True, slots=True, eq=False)
class World:
    sort: Sort
    seed: int
    devices: tuple[Device, ...]
    rate_bytes_per_s: Floats  # (N, N)


def world(sort: Sort, seed: int) -> World:
    draw = np.random.default_rng((seed, 0))
    memory = _clipped(draw, sort.devices, sort.memory_gb) * GB
    speed = _clipped(draw, sort.devices, sort.gflops) * GFLOPS
    rate = np.triu(draw.uniform(*sort.gbit_per_s, (sort.devices, sort.devices)), 1) * GBIT
    devices = tuple(Device(f"n{n}", int(speed[n]), int(memory[n])) for n in range(sort.devices))
    return World(sort, seed, devices, rate + rate.T)


def scene(made: World, token: int) -> Scene:
    """What is known before the interval that begins after `token` tokens."""
    draw, size = np.random.default_rng((made.seed, 1, token)), made.sort.devices
    taken = draw.uniform(0.0, made.sort.background, (2, size)) if made.sort.background else np.zeros((2, size))
    memory = np.array([float(device.memory_bytes) for device in made.devices])
    speed = np.array([float(device.flops_per_s) for device in made.devices])
    delay = np.full((size, size), made.sort.delay_s)
    np.fill_diagonal(delay, 0.0)
    return Scene(memory * (1 - taken[0]), speed * (1 - taken[1]), made.rate_bytes_per_s, delay, 0, token)


def scenes(made: World, tokens: int, interval_tokens: int = 1) -> Iterator[Scene]:
    return (scene(made, token) for token in range(0, tokens, interval_tokens))


def _clipped(draw: np.random.Generator, size: int, shape: tuple[float, float, float, float]) -> Floats:
    mu, sigma, least, most = shape
    return np.clip(draw.lognormal(mu, sigma, size), least, most)
