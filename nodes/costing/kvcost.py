"""What is cheaper when slices of a generation move: to copy their keys and values, or to compute them again. Pure.

copying   each node pulls what it lacks, all of them at once: bytes / rate of each way, and two ways there and back
replica   the same, of the last token alone where a node goes on that has stood by
again     the input in one round, all tokens since in the next, through all slices: of each block the larger of
          FLOPs / speed and bytes / speed of the memory, as its node will take, and the ways between

To keep a replica costs its way all the time, a token's rows each round. Summed up over a session these are all its rows
once, whatever the pace; a loss, or a move to who stands by, saves computing them there. Kept up it is where that sum
takes less than `RISK` of what would be saved: as if one session in ten lost its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodes.compute.processor import Speed
from nodes.slices import BlockCost, rows_bytes, step_work

WAYS = 4  # of a connection that is made for it, and the request: there and back, twice
ENDLESS = float("inf")
RISK = 0.1


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
    stood_by: bool = False  # the target has kept up with it: it lacks the last token, if any


@dataclass(frozen=True, slots=True)
class Stop:
    node: str
    first: int
    last: int


def copy_us(
    costs: Sequence[BlockCost],
    begin: int,
    end: int,
    transfers: Sequence[Transfer],
    reaches: Mapping[tuple[str, str], Reach],
) -> float:
    """Until the last node has the rows of the tokens begin..end-1; infinite where no way is known."""
    sizes: dict[tuple[str, str], int] = {}
    for transfer in transfers:
        blocks, pair = range(transfer.first, transfer.last), (transfer.source, transfer.target)
        first = max(begin, end - 1) if transfer.stood_by else begin
        size = sum(rows_bytes(costs[block], first, end, transfer.heads) for block in blocks)
        sizes[pair] = sizes.get(pair, 0) + size
    return max((_over(reaches.get(pair), size, WAYS) for pair, size in sizes.items()), default=0.0)


def replica_pays(costs: Sequence[BlockCost], kept: Transfer, tokens: int, speed: Speed, reach: Reach | None) -> bool:
    """Whether to keep up with a session of so many tokens costs little beside computing them at the target's speed."""
    upkeep_us = copy_us(costs, 0, tokens, [kept], {} if reach is None else {(kept.source, kept.target): reach})
    again = sum(
        speed.effort([step_work(costs, block, block + 1, 0, tokens)]) * _share(costs[block], kept.heads)
        for block in range(kept.first, kept.last)
    )
    return upkeep_us <= RISK * again * 1e6 / speed.flops_per_s


def _share(cost: BlockCost, heads: int) -> float:
    """Of a block's work, what so many heads of it are; 0: all."""
    return heads / cost.split.movable if heads and cost.split is not None else 1.0


def rounds_us(  # noqa: PLR0917 what is computed, where, and what is known of it
    costs: Sequence[BlockCost],
    rounds: Sequence[tuple[int, int]],
    phone: str,
    route: Sequence[Stop],
    speeds: Mapping[str, Speed],
    reaches: Mapping[tuple[str, str], Reach],
) -> float:
    """Of rounds (tokens before, tokens) from the phone through the route and back; infinite if a thing is unknown."""
    total = 0.0
    for before, tokens in rounds:
        at, entering = phone, 8 * tokens
        for stop in route:
            speed = speeds.get(stop.node)
            if speed is None:
                return ENDLESS
            total += speed.effort([step_work(costs, stop.first, stop.last, before, tokens)]) * 1e6 / speed.flops_per_s
            total += _over(reaches.get((at, stop.node)), entering) if stop.node != at else 0.0
            at, entering = stop.node, _leaving_bytes(costs, stop.last - 1, tokens)
        total += _over(reaches.get((at, phone)), 8) if at != phone else 0.0
    return total


def _over(reach: Reach | None, size_bytes: int, ways: int = 1) -> float:
    if reach is None or reach.rate_bps <= 0:
        return ENDLESS
    return size_bytes * 8e6 / reach.rate_bps + ways * reach.delay_us


def _leaving_bytes(costs: Sequence[BlockCost], block: int, tokens: int) -> int:
    shape = costs[block].output_shape
    width = 1
    for size in shape[2:]:
        width *= size
    return 4 * tokens * width
