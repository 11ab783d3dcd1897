"""Where AMP4EC cuts a model: contiguous partitions of its layers. Pure.

`by_cost` is the paper's greedy rule; `by_capability` follows the nodes' shares; `balanced` is what the paper's
objective asks for at its word: the smallest largest of (computing + sending) over all contiguous cuts, exactly.
Partitions are sizes, in layers, in order; the nodes stand in the order in which the partitions use them.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise


def by_cost(costs: Sequence[float], parts: int) -> tuple[int, ...]:
    """Equation 13 and the greedy cut: layers are added until the partition has the target cost, the rest comes last."""
    if not 1 <= parts <= len(costs):
        raise ValueError(f"{parts} partitions of {len(costs)} layers; 1 to {len(costs)} are right")
    target = sum(costs) / parts
    sizes, size, cost = list[int](), 0, 0.0
    for layer, one in enumerate(costs):
        size, cost = size + 1, cost + one
        left = len(costs) - layer - 1
        full = cost >= target and left > 0
        if len(sizes) < parts - 1 and (full or left == parts - 1 - len(sizes)):
            sizes, size, cost = [*sizes, size], 0, 0.0
    return (*sizes, size)


def by_capability(layers: int, capabilities: Sequence[float]) -> tuple[int, ...]:
    """Equations 3 and 4: layers by the share of each node, the rest to the strongest; one at least for each."""
    parts = len(capabilities)
    if not 1 <= parts <= layers or min(capabilities) <= 0:
        raise ValueError(
            f"{layers} layers for nodes of capability {list(capabilities)}; one for each at least is right"
        )
    total = sum(capabilities)
    sizes = [max(1, int(layers * capability / total)) for capability in capabilities]
    strongest = max(range(parts), key=lambda i: (capabilities[i], -i))
    while sum(sizes) > layers:
        sizes[max(range(parts), key=lambda i: (sizes[i], i))] -= 1
    sizes[strongest] += layers - sum(sizes)
    return tuple(sizes)


def corrected(sizes: Sequence[int], costs: Sequence[float], most: float = 1.5) -> tuple[int, ...]:
    """Equation 5, the correction: a partition of more than `most` times the mean cost gives layers to a neighbour.

    The authors move layers anywhere, which no pipeline can run; here they go over a border, to the lighter side.
    """
    found = list(sizes)
    for _ in range(len(costs) * len(found)):
        loads = partition_costs(found, costs)
        heaviest = max(range(len(found)), key=lambda i: (loads[i], -i))
        neighbours = [i for i in (heaviest - 1, heaviest + 1) if 0 <= i < len(found)]
        if found[heaviest] == 1 or not neighbours or loads[heaviest] <= most * sum(loads) / len(loads):
            break
        lighter = min(neighbours, key=lambda i: (loads[i], i))
        trial = list(found)
        trial[heaviest], trial[lighter] = trial[heaviest] - 1, trial[lighter] + 1
        if max(partition_costs(trial, costs)) >= loads[heaviest]:
            break
        found = trial
    return tuple(found)


def balanced(
    work: Sequence[float], crossing: Sequence[float], speeds: Sequence[float], rates: Sequence[float]
) -> tuple[int, ...]:
    """The cut whose slowest stage is fastest: stage i takes work / speeds[i] + what it sends / rates[i] (equation 6).

    `work` of each layer, `crossing` bytes behind each layer; `rates` in bytes, infinite where sending costs nothing.
    Exact, by dynamic programming over (stage, layers placed): O(stages * layers^2). The last stage sends the answer.
    """
    layers, stages = len(work), len(speeds)
    if not 1 <= stages <= layers:
        raise ValueError(f"{stages} stages of {layers} layers; 1 to {layers} are right")
    before = [0.0, *accumulate(work)]

    def stage(i: int, first: int, last: int) -> float:
        return (before[last] - before[first]) / speeds[i] + crossing[last - 1] / rates[i]

    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}  # layers placed -> (slowest stage so far, sizes)
    for i in range(stages):
        new = dict[int, tuple[float, tuple[int, ...]]]()
        for last in range(i + 1, layers - (stages - i - 1) + 1):
            options = [
                (max(slowest, stage(i, first, last)), (*sizes, last - first))
                for first, (slowest, sizes) in best.items()
                if first < last
            ]
            new[last] = min(options)
        best = new
    return best[layers][1]


def partition_costs(sizes: Sequence[int], costs: Sequence[float]) -> list[float]:
    edges = [0, *accumulate(sizes)]
    return [sum(costs[a:b]) for a, b in pairwise(edges)]


def imbalance(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Largest over mean: 1 is balanced."""
    loads = partition_costs(sizes, costs)
    return max(loads) * len(loads) / sum(loads) if sum(loads) else 1.0
