"""Delays and rates of a large network in little memory: nodes at sites, sites between each other. Pure.

The value from node a to node b is `out[a]`, `between[site[a], site[b]]` and `into[b]` put together: added up
(delays), or the narrowest of them (rates). It is indexed as the dense (N, N) array that it stands for, `paths[a, b]`,
with numbers or index arrays that are broadcast against each other: 10,000 nodes at 200 sites need 0.4 MB where the
dense one needs 800. A node to itself has delay 0; of a rate that is ignored.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

APART = 128  # nodes of which every pair is looked at
Integers = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]


class Sites:
    """Where each node is; `order` has the nodes of a site side by side, beginning at `starts`. Made once a run."""

    def __init__(self, at: Indices) -> None:
        self.at = at  # (N,)
        self.order = np.argsort(at, kind="stable")
        self.present, self.starts = np.unique(at[self.order], return_index=True)
        self.sizes = np.diff(self.starts, append=len(at))


@dataclass(frozen=True, slots=True, eq=False)
class Sited:
    sites: Sites
    out: Integers  # (N,) of the way from a node to its site
    into: Integers  # (N,) of the way from its site to a node
    between: Integers  # (S, S) from site to site, within one on the diagonal
    narrowest: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.out), len(self.out)

    def __getitem__(self, key: tuple[Any, Any]) -> Any:
        if isinstance(key[0], int) and isinstance(key[1], int):
            return self._one(*key)
        a, b = (np.arange(len(self.out))[part] if isinstance(part, slice) else np.asarray(part) for part in key)
        if isinstance(key[0], slice):
            a = a.reshape(-1, *(1,) * b.ndim)
        elif isinstance(key[1], slice):
            a = a[..., None]
        middle = self.between[self.sites.at[a], self.sites.at[b]]
        if self.narrowest:
            return np.minimum(np.minimum(self.out[a], middle), self.into[b])
        return np.where(a == b, 0, self.out[a] + middle + self.into[b])

    def _one(self, a: int, b: int) -> int:
        out, into = int(self.out[a]), int(self.into[b])
        middle = int(self.between[self.sites.at[a], self.sites.at[b]])
        if self.narrowest:
            return min(out, middle, into)
        return 0 if a == b else out + middle + into

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:, :], dtype=dtype)


Paths = npt.NDArray[np.int64] | Sited


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What any `Paths` has at least (delays) or at most (rates), factored. Nodes are in the order of `sites`."""

    sites: Sites
    delay_out: npt.NDArray[np.float64]  # (N,) microseconds
    delay_in: npt.NDArray[np.float64]  # (N,)
    delay: npt.NDArray[np.float64]  # (S, S)
    rate_out: npt.NDArray[np.float64]  # (N,) bits/s
    rate_in: npt.NDArray[np.float64]  # (N,)
    rate: npt.NDArray[np.float64]  # (S, S), no wider than the widest access at both ends


def factors(delay_us: Paths, rate_bps: Paths) -> Factors:
    """Dense arrays say nothing of sites: up to `APART` nodes each is one, in larger ones all are one site.

    Then each node is entered by its shortest and widest path.
    """
    if isinstance(delay_us, Sited) and isinstance(rate_bps, Sited) and delay_us.sites is rate_bps.sites:
        sites = delay_us.sites
        out, into = (np.maximum.reduceat(way[sites.order], sites.starts) for way in (rate_bps.out, rate_bps.into))
        pairs = np.ix_(sites.present, sites.present)
        rate = np.minimum(np.minimum(out[:, None], rate_bps.between[pairs]), into).astype(float)
        delay_out, delay_in, rate_out, rate_in = (
            way[sites.order].astype(float) for of in (delay_us, rate_bps) for way in (of.out, of.into)
        )
        delay = delay_us.between[pairs].astype(float)
        return Factors(sites, delay_out, delay_in, delay, rate_out, rate_in, rate)
    every = np.array(rate_bps)
    np.fill_diagonal(every, 0)
    rate_out, rate_in = (every.max(axis=to, initial=0).astype(float) for to in (1, 0))
    zero = np.zeros(len(every))
    if len(every) <= APART:
        each = Sites(np.arange(len(every)))
        return Factors(each, zero, zero, np.asarray(delay_us).astype(float), rate_out, rate_in, every.astype(float))
    nearest = np.where(every > 0, np.asarray(delay_us), np.iinfo(np.int64).max).min(axis=0).astype(float)
    whole = np.array([[rate_out.max(initial=0.0)]])
    return Factors(Sites(zero.astype(np.intp)), zero, nearest, np.zeros((1, 1)), rate_out, rate_in, whole)
