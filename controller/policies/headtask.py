"""A stream whose layers are placed by parts, as the head-level planners see it: the way there and back. Pure.

Times are the controller's own: a block's roofline time on what is left of a node, bytes over the rate of a path, its
delay, and `hop_overhead_us` for each transfer. The layers of a model are alike, so those of the first stand for all.
What comes before the layers is run where the whole begins best, what comes behind them where the last layer ends. A
head that moves takes its keys and values along; weights are there, or loaded before the switch and not counted.
Memory is what is free and what the stream itself has now; each block is charged its weights and its working set, more
than what is charged in the end. Waiting is not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from controller.cost import spare_now
from controller.heads.costs import Demand, Each, Times
from controller.heads.model import UNREACHABLE_S, HeadModel, Ints, Plan
from controller.heads.task import Task
from controller.heads.tolls import tolls_of
from controller.model import Block
from controller.parts import HEADS, PROJ, in_parts
from controller.policies.rival import Scene
from controller.table import Floats, Row


@dataclass(frozen=True, slots=True, eq=False)
class HeadTask:
    asked: Task
    heads: Ints  # (layers, heads) positions in the row of the stream
    proj: Ints  # (layers,)
    ffn: Ints  # (layers, columns), or (layers, 1) and more where it is placed as one
    before: Ints  # positions of what is before the layers
    behind: Ints

    def row(self, plan: Plan) -> Row:
        count, columns = self.heads.shape[1], self.asked.model.columns
        row = np.empty(self.heads.size + self.ffn.size + len(self.proj) + len(self.before) + len(self.behind), np.intp)
        row[self.heads], row[self.proj] = plan[:, :count], plan[:, -2]
        row[self.ffn] = plan[:, count:-2] if columns else plan[:, -1:]
        row[self.before], row[self.behind] = self.asked.source, plan[-1, -1]
        return tuple(row.tolist())

    def plan(self, row: Row) -> Plan:
        """Of a FFN that is placed as one, where most of it is."""
        at = np.array(row, dtype=np.intp)
        heads, proj, ffn = at[self.heads], at[self.proj][:, None], at[self.ffn]
        most = np.array([[np.bincount(layer).argmax()] for layer in ffn])
        if not self.asked.model.columns:
            return np.concatenate((heads, proj, most), axis=1)
        end = np.where((ffn == most).all(axis=1, keepdims=True), most, proj)
        return np.concatenate((heads, ffn, proj, end), axis=1)


def by_heads(scene: Scene) -> bool:
    return in_parts(scene.table.problem.models[scene.table.streams[scene.stream].model])


def head_task(scene: Scene, horizon: float = 1.0, whole_ffn: bool = False) -> HeadTask:
    """`horizon`: the rounds that a migration is weighed against; `whole_ffn`: columns stay together."""
    blocks = scene.table.problem.models[scene.table.streams[scene.stream].model].blocks
    layers = sorted({block.unit for block in blocks if block.part})
    heads, proj, ffn = ([_of(blocks, unit, kind) for unit in layers] for kind in (HEADS, PROJ, ""))
    units = np.array([block.unit for block in blocks])
    before, behind = np.flatnonzero(units < layers[0]), np.flatnonzero(units > layers[-1])
    columns = 0 if whole_ffn or len(ffn[0]) == 1 else len(ffn[0])
    model = HeadModel(scene.stream, len(layers), len(heads[0]), len(heads[0]), 1, 0, columns=columns)
    need = _demand(scene, blocks, model, (heads[0], proj[0], ffn[0]))
    spent = _times(scene, need, (heads[0], proj[0], ffn[0], behind.tolist()), columns)
    own = np.zeros(len(scene.room.free))
    chain = scene.table.chain(scene.stream)
    for block, node in enumerate(scene.current or ()):
        own[node] += chain.weight[block] + chain.working[block]
    rate = np.asarray(scene.snapshot.rate_bps) / 8.0
    memory = np.where(spent.head < UNREACHABLE_S, np.maximum(scene.room.free + own, 0.0), 0.0)
    asked = Task(model, need, spent, memory, np.full(len(own), np.inf), rate, scene.source, horizon=horizon)
    found = HeadTask(asked, np.array(heads), np.array(proj)[:, 0], np.array(ffn), before, behind)
    if scene.current is not None:
        asked = replace(asked, before=found.plan(scene.current))
    return replace(found, asked=replace(asked, source=_beginning(scene, asked, before)))


def _of(blocks: Sequence[Block], unit: int, kind: str) -> list[int]:
    """The positions of the heads, the projection, or else the FFN of a layer."""
    mine = [(i, block.part) for i, block in enumerate(blocks) if block.unit == unit]
    if kind:
        return [i for i, part in mine if part.startswith(kind)]
    return [i for i, part in mine if not part.startswith((HEADS, PROJ))]


def _demand(scene: Scene, blocks: Sequence[Block], model: HeadModel, layer: tuple[list[int], ...]) -> Demand:
    """Of the largest block of each kind, where they differ."""
    chain, (heads, proj, ffn) = scene.table.chain(scene.stream), layer

    def each(of: Floats) -> Each:
        ends = (0.0, float(of[ffn].max())) if model.columns else (float(of[ffn].sum()), 0.0)
        return Each(float(of[heads].max()), float(of[proj[0]]), *ends)

    kept = max(blocks[i].read_bytes - blocks[i].weight_bytes for i in heads)  # keys and values are read in each round
    return Demand(
        mode="physical",
        flops=each(np.diff(chain.work)),
        resident_bytes=each(chain.weight + chain.working),
        moving_bytes=Each(float(max(kept, 0)), 0.0, 0.0),
        input_bytes=float(chain.data[heads[0]]),
        head_bytes=max(float(blocks[i].output_bytes) for i in heads),
        proj_bytes=float(blocks[proj[0]].output_bytes),
        answer_bytes=None,  # in `_times`
    )


def _times(scene: Scene, need: Demand, kinds: tuple[Sequence[int], ...], columns: int) -> Times:
    """Seconds, `UNREACHABLE_S` at most; `kinds`: the heads, projection and FFN of a layer, and what is behind them."""
    chain, snapshot = scene.table.chain(scene.stream), scene.snapshot
    heads, proj, ffn, behind = ([_run(scene, i) for i in kind] for kind in kinds)
    size = len(scene.room.free)
    nothing, never = np.zeros(size), np.zeros((size, size))
    rate = np.asarray(snapshot.rate_bps, dtype=np.float64)
    late = (np.asarray(snapshot.delay_us) + scene.table.problem.hop_overhead_us) / 1e6
    off = 1 - np.eye(size)

    def carry(size_bytes: float, delay: Floats | float) -> Floats:
        wire = np.where(rate > 0, size_bytes * 8.0 / np.where(rate > 0, rate, 1.0) + delay, UNREACHABLE_S)
        return np.asarray(np.minimum(wire, UNREACHABLE_S) * off)

    whole = not columns
    answer = carry(float(chain.data[-1]), late)[:, scene.source]
    return Times(
        head=np.max(heads, axis=0),
        proj=proj[0],
        ffn=np.minimum(np.sum(ffn, axis=0), UNREACHABLE_S) if whole else nothing,
        column=nothing if whole else np.max(ffn, axis=0),
        enter=carry(need.input_bytes, late),
        gather=carry(need.head_bytes, 0.0),
        delay=late * off,
        onward=carry(need.proj_bytes, late),
        home=np.minimum(np.sum(behind, axis=0) + answer, UNREACHABLE_S),
        move_head=carry(need.moving_bytes.head, late) if need.moving_bytes.head else never,
        move_proj=never,
        move_ffn=never,
        move_column=never,
        columns=columns,
    )


def _run(scene: Scene, block: int) -> Floats:
    """(N,) seconds of a block on each node."""
    chain, spare = scene.table.chain(scene.stream), spare_now(scene.snapshot)
    may = chain.allowed[block] & (spare > 0)
    took = (chain.time[block + 1] - chain.time[block]) / np.where(may, spare, 1.0) / 1e6
    return np.asarray(np.where(may, np.minimum(took, UNREACHABLE_S), UNREACHABLE_S))


def _beginning(scene: Scene, asked: Task, before: Ints) -> int:
    """The node of what is before the layers: where the whole can be shortest."""
    snapshot, chain = scene.snapshot, scene.table.chain(scene.stream)
    rate = np.asarray(snapshot.rate_bps[scene.source, :], dtype=np.float64)
    late = (np.asarray(snapshot.delay_us[scene.source, :]) + scene.table.problem.hop_overhead_us) / 1e6
    way = np.where(rate > 0, float(chain.data[0]) * 8.0 / np.where(rate > 0, rate, 1.0) + late, UNREACHABLE_S)
    way[scene.source] = 0.0
    run = np.sum([_run(scene, int(block)) for block in before], axis=0)
    return int((way + run + tolls_of(asked)[0]).argmin())
