"""Algorithm 1 of arXiv 2505.02533: the resource-aware assignment, with its score, repairs and bounds.

Works on `Blocks`, whatever they are: heads, projections and FFNs of one or many layers, or whole layers. Line
numbers are the paper's. What the text leaves open is decided so:
  * a block exchanges data with what it feeds and what feeds it; CommFactor counts those that are placed elsewhere
  * the devices are tried in order of the score; only when no device has room, others' blocks are moved
  * of equal scores the device the block is on wins, then the first
  * Tmax needs a clock, given as an argument; without one only the bound U on moves and on backtracks holds
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from controller.heads.model import Floats, Infeasible, Ints

RESERVE = 1 + 1e-9  # sums of floats in different orders


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """What is to be placed, B blocks, where it may go and where it was."""

    memory: Floats  # (B,) m_i bytes
    flops: Floats  # (B,) b_i
    sends: Floats  # (B, B) bytes block i sends to block k
    may: npt.NDArray[np.bool_]  # (B, N)
    before: Ints | None  # (B,)


@dataclass(frozen=True, slots=True, eq=False)
class Devices:
    memory: Floats  # (N,) M_j
    work: Floats  # (N,) FLOP within an interval, infinite without a limit
    flops_per_s: Floats  # (N,) C_j
    second_per_byte: Floats  # (N, N) 1 / R_jk, diagonal 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Line 1-3, the score, and the two safeguards."""

    score: Literal["max", "weighted"] = "max"  # weighted: the mode the authors' experiments use
    weights: tuple[float, float, float] = (0.4, 0.3, 0.3)  # compute, memory, communication: their defaults
    moves: int = 1000  # U
    time_s: float = float("inf")  # Tmax
    clock: Callable[[], float] | None = None


class _Stopped(Exception):
    """U or Tmax was reached."""


class Algorithm1:
    """One run; `assign` is the algorithm."""

    def __init__(self, blocks: Blocks, devices: Devices, bounds: Bounds) -> None:
        self._blocks, self._devices, self._bounds = blocks, devices, bounds
        self._need = np.stack((blocks.memory, blocks.flops), axis=1)  # (B, 2)
        self._have = np.stack((devices.memory, devices.work), axis=1) * RESERVE  # (N, 2)
        self._used = np.zeros_like(self._have)
        self._at = np.full(len(blocks.memory), -1, dtype=np.intp)
        self._began = bounds.clock() if bounds.clock else 0.0
        self._moved = self._backtracked = 0
        self._talks = blocks.sends + blocks.sends.T

    def assign(self) -> Ints | Infeasible:
        """(B,) devices."""
        try:
            for block in self._queue():  # 5
                order = self._order(block)
                if not order.size:
                    return Infeasible(f"block {block} fits on no device by itself")
                fitting = order[self._fits(block)[order]]
                if fitting.size:
                    self._put(block, int(fitting[0]))
                elif not self._resolve(block, order):  # 12-18: escalated, lines 23-29 have to cure it
                    self._put(block, int(order[0]))
            while (over := np.flatnonzero((self._used > self._have).any(axis=1))).size:  # 23
                if not self._backtrack(int(over[0])):
                    return Infeasible("backtracking cannot cure the overload")
        except _Stopped as stop:
            return Infeasible(str(stop))
        return self._at  # 30

    def _queue(self) -> list[int]:
        """4: the highest demand first, memory and compute as shares of the largest device."""
        demand = self._shares(self._need / np.maximum(self._have.max(axis=0), 1.0))
        return [int(block) for block in np.argsort(-demand, kind="stable")]

    def _shares(self, part: Floats) -> Floats:
        rate = self._blocks.flops / max(float(self._devices.flops_per_s.max()), 1.0)
        return np.asarray(part[:, 0] + rate)

    def _score(self, block: int) -> Floats:
        """(N,) S(i, j, tau); infinite where the block may not be."""
        blocks, devices = self._blocks, self._devices
        with np.errstate(divide="ignore", invalid="ignore"):
            memory = np.where(devices.memory > 0, blocks.memory[block] / devices.memory, np.inf)
            compute = np.where(devices.flops_per_s > 0, blocks.flops[block] / devices.flops_per_s, np.inf)
        placed = (self._at >= 0) & (self._talks[block] > 0)
        sizes = np.bincount(self._at[placed], weights=self._talks[block][placed], minlength=len(memory))
        talk = sizes @ devices.second_per_byte
        if self._bounds.score == "weighted":
            a, b, c = self._bounds.weights
            score = a * compute + b * memory + c * talk
        else:
            score = np.maximum(np.maximum(memory, compute), talk)
        return np.where(blocks.may[block], score, np.inf)

    def _order(self, block: int) -> Ints:
        """The devices that are feasible for the block alone, the lowest score first."""
        score = self._score(block)
        alone = (self._need[block] <= self._have).all(axis=1) & np.isfinite(score)
        stays = np.full(len(score), True)
        if self._blocks.before is not None:
            stays[self._blocks.before[block]] = False
        order = np.lexsort((stays, score))
        return np.asarray(order[alone[order]], dtype=np.intp)

    def _fits(self, block: int) -> npt.NDArray[np.bool_]:
        return np.asarray((self._used + self._need[block] <= self._have).all(axis=1))

    def _put(self, block: int, device: int) -> None:
        if self._at[block] >= 0:
            self._used[self._at[block]] -= self._need[block]
        self._at[block] = device
        self._used[device] += self._need[block]

    def _count(self, backtrack: bool = False) -> None:
        self._moved, self._backtracked = self._moved + (not backtrack), self._backtracked + backtrack
        if max(self._moved, self._backtracked) > self._bounds.moves:
            raise _Stopped(f"more than {self._bounds.moves} moves or backtracks (U)")
        if self._bounds.clock and self._bounds.clock() - self._began > self._bounds.time_s:
            raise _Stopped(f"longer than {self._bounds.time_s:g} s (Tmax)")

    def _resolve(self, block: int, order: Ints) -> bool:
        """ResolveResourceOverload (IV-B1): others move from a device, each to where it fits, until the block fits."""
        for device in order.tolist():
            undo = self._at.copy(), self._used.copy()
            others = np.flatnonzero(self._at == device)
            load = (self._need[others] / np.maximum(self._have[device], 1.0)).max(axis=1)
            for other in others[np.argsort(-load, kind="stable")].tolist():
                self._away(other, device)
                if self._fits(block)[device]:
                    self._put(block, device)
                    return True
            self._at, self._used = undo
        return False

    def _away(self, block: int, device: int) -> bool:
        """The block to the best of the other devices that has room."""
        order = self._order(block)
        fitting = order[self._fits(block)[order] & (order != device)]
        if not fitting.size:
            return False
        self._count()
        self._put(block, int(fitting[0]))
        return True

    def _backtrack(self, device: int) -> bool:
        """BacktrackForResourceViolations (IV-B2): the fewest blocks whose leaving cures the device are placed anew."""
        self._count(backtrack=True)
        worst = int((self._used[device] / np.maximum(self._have[device], 1.0)).argmax())
        others = np.flatnonzero(self._at == device)
        for other in others[np.argsort(-self._need[others, worst], kind="stable")].tolist():
            if not (self._used[device] > self._have[device]).any():
                return True
            if not self._away(other, device):
                self._swap(other, device)
        return not (self._used[device] > self._have[device]).any()

    def _swap(self, block: int, device: int) -> bool:
        """The block changes places with a smaller one elsewhere, where both then fit."""
        for other in np.flatnonzero((self._at >= 0) & (self._at != device)).tolist():
            there = int(self._at[other])
            swapped = self._need[block] - self._need[other]
            smaller = (swapped >= 0).all() and (swapped > 0).any()
            allowed = self._blocks.may[block, there] and self._blocks.may[other, device]
            if smaller and allowed and (self._used[there] + swapped <= self._have[there]).all():
                self._count()
                self._put(other, device)
                self._put(block, there)
                return True
        return False
