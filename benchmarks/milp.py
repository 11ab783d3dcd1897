"""One stream as a mixed integer programme for HiGHS: the exact measure of the planner, and what it costs to have it so.

Layered flow: r[i, j, n] is the run of blocks i..j-1 on node n, h[j, n, m] the hop before block j. Each layer keeps the
flow, each node its memory. The costs are those of the planner's own programme, so both minimise the same. It stays out
of the guest, which has no scipy.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from controller.chain import Costs, Group, run_ends
from controller.cost import Load
from controller.model import Problem, Snapshot
from controller.table import Floats, Row, tabulate


@dataclass(frozen=True, slots=True)
class Solved:
    cost_us: float  # infinite: nothing fits
    row: Row
    proven: bool


def optimum(problem: Problem, snapshot: Snapshot, stream: str, limit_s: float = 60.0) -> Solved:
    """The cheapest placement of one stream, nobody else there, all nodes and their memory considered."""
    table = tabulate(problem)
    nodes = np.arange(len(table.memory))[None]
    costs = Group(table, snapshot, [stream], nodes).costs([0], [Load()], [1.0])
    chain = table.chain(stream)
    return solved(costs, _needs(chain.weight, chain.working), table.memory, limit_s)


def _needs(weight: Floats, working: Floats) -> Floats:
    """(P,) bytes of each run."""
    first, last = run_ends(len(weight))
    total = np.concatenate(([0.0], np.cumsum(weight)))
    peak = np.array([working[i:j].max() for i, j in zip(first, last, strict=True)])
    return np.asarray(total[last] - total[first] + peak, dtype=np.float64)


def solved(costs: Costs, needs: Floats, memory: Floats, limit_s: float) -> Solved:
    blocks, hosts = len(costs.kind) - 1, costs.run.shape[2]
    first, last = run_ends(blocks)
    run = costs.run[0].copy()  # (P, N)
    run[first == 0] += costs.enter[0]
    run[last == blocks] += costs.leave[0]
    cuts = np.array([costs.hop[0, costs.kind[j]] for j in range(1, blocks)]).reshape(-1, hosts, hosts)
    price = np.concatenate((run.ravel(), cuts.ravel()))
    usable = np.isfinite(price)
    p, n = (part.ravel() for part in np.indices(run.shape))
    j, a, b = (part.ravel() for part in np.indices(cuts.shape))
    hops = run.size + np.arange(cuts.size)
    flow, layer = (blocks - 1) * hosts, np.arange(run.size)
    ends, starts = last[p] < blocks, first[p] > 0
    one = first[p] == 0
    parts = [  # (row, variable, factor): what a hop takes was a run's end, what it brings a run's start, one beginning
        ((last[p] - 1) * hosts + n, layer, 1.0, ends),
        (j * hosts + a, hops, -1.0, np.ones(cuts.size, bool)),
        (flow + (first[p] - 1) * hosts + n, layer, 1.0, starts),
        (flow + j * hosts + b, hops, -1.0, np.ones(cuts.size, bool)),
        (np.full(run.size, 2 * flow), layer, 1.0, one),
    ]
    rows = np.concatenate([row[keep] for row, _, _, keep in parts])
    columns = np.concatenate([column[keep] for _, column, _, keep in parts])
    factors = np.concatenate([np.full(int(keep.sum()), factor) for _, _, factor, keep in parts])
    kept = coo_array((factors, (rows, columns)), shape=(2 * flow + 1, len(price))).tocsr()
    target = np.zeros(2 * flow + 1)
    target[-1] = 1.0
    room = coo_array((needs[p], (n, layer)), shape=(hosts, len(price))).tocsr()
    found = milp(
        np.where(usable, price, 0.0),
        constraints=[LinearConstraint(kept, target, target), LinearConstraint(room, -np.inf, memory)],
        integrality=np.concatenate((np.ones(run.size), np.zeros(cuts.size))),
        bounds=Bounds(0, usable.astype(float)),
        options={"time_limit": limit_s, "mip_rel_gap": 1e-9},
    )
    if found.x is None:
        return Solved(float("inf"), (), found.status == 2)
    chosen = sorted(
        (int(first[k // hosts]), int(last[k // hosts]), k % hosts) for k in np.flatnonzero(found.x[: run.size] > 0.5)
    )
    return Solved(float(found.fun), tuple(m for i, k, m in chosen for _ in range(i, k)), found.status == 0)
