"""What is cheaper when slices of a generation move: to copy their keys and values, or to compute them again. Pure.

copying   each node pulls what it lacks, all of them at once: rows / rate, and two ways to ask and be answered
prefill   the whole text goes through all slices again, one behind the other: FLOPs / speed, and the way between
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodes.slices import BlockCost, rows_bytes, step_work

WAYS = 4  # of a connection that is made for it, and the request: there and back, twice


@dataclass(frozen=True, slots=True)
class Reach:
    """What is known of the way from one node to another."""

    rate_bps: int  # 0: none
    delay_us: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Rows of the blocks first..last-1, from where they are to where they should be."""

    source: str
    target: str
    first: int
    last: int
    heads: int = 0  # of each block; 0: all


@dataclass(frozen=True, slots=True)
class Stop:
    node: str
    first: int
    last: int


def copy_us(
    costs: Sequence[BlockCost], tokens: int, transfers: Sequence[Transfer], reaches: Mapping[tuple[str, str], Reach]
) -> float:
    """Until the last node has its rows; infinite where no way is known."""
    longest = 0.0
    for transfer in transfers:
        reach = reaches.get((transfer.source, transfer.target))
        if reach is None or reach.rate_bps <= 0:
            return float("inf")
        blocks = range(transfer.first, transfer.last)
        size = sum(rows_bytes(costs[block], 0, tokens, transfer.heads) for block in blocks)
        longest = max(longest, size * 8e6 / reach.rate_bps + WAYS * reach.delay_us)
    return longest


def prefill_us(  # noqa: PLR0917 what is computed, where, and what is known of it
    costs: Sequence[BlockCost],
    tokens: int,
    phone: str,
    route: Sequence[Stop],
    speeds: Mapping[str, int],
    reaches: Mapping[tuple[str, str], Reach],
) -> float:
    """Of `tokens` from the phone through the route; infinite where a speed or a way is not known."""
    total, before, entering = 0.0, phone, 8 * tokens
    for stop in route:
        speed = speeds.get(stop.node, 0)
        if speed <= 0:
            return float("inf")
        flops = sum(work.flops for work in step_work(costs, stop.first, stop.last, 0, tokens))
        total += flops * 1e6 / speed
        if stop.node != before:
            reach = reaches.get((before, stop.node))
            if reach is None or reach.rate_bps <= 0:
                return float("inf")
            total += entering * 8e6 / reach.rate_bps + reach.delay_us
        before, entering = stop.node, _leaving_bytes(costs, stop.last - 1, tokens)
    return total


def _leaving_bytes(costs: Sequence[BlockCost], block: int, tokens: int) -> int:
    shape = costs[block].output_shape
    width = 1
    for size in shape[2:]:
        width *= size
    return 4 * tokens * width
