"""A stream whose layers are placed by parts, as the head-level planners see it: the way there and back. Pure.

Times are the controller's own: a block's roofline time on what is left of a node, bytes over the rate of a path, its
delay, and `hop_overhead_us` for each transfer. The layers of a model are alike, so those of the first stand for all.
What comes before the layers is run where the whole is shortest, what comes behind them on the best node with room.
A head that moves takes its keys and values along; weights are there, or loaded before the switch and not counted.
Memory is what is free and what the stream itself has now; each block is charged its weights and its working set, more
than what is charged in the end. Waiting is not counted.
"""

from dataclasses import dataclass, replace

import numpy as np

from controller.cost import spare_now
from controller.heads.costs import Demand, Each, Times, counts, head_phase_s
from controller.heads.model import UNREACHABLE_S, HeadModel, Ints, Plan
from controller.heads.task import Task
from controller.heads.tolls import tolls_of
from controller.parts import in_parts
from controller.policies.partway import Layout, kinds_of, layout_of
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
    behind_at: Ints  # (N,) where what is behind runs best, by where the last layer ends
    there_s: Floats  # (N,) from the phone through what is before the layers, by where that is
    least_s: Floats  # (N,) no plan costs less, the way there included, by the same
    rows: Ints  # (layers, heads) of the projection, or (layers, 0) where it is one block

    def row(self, plan: Plan, by_rows: bool = False) -> Row:
        """`by_rows`: those of the projection go with their heads."""
        count, columns = self.heads.shape[1], self.asked.model.columns
        many = self.heads.size + self.rows.size + self.ffn.size + len(self.proj) + len(self.before) + len(self.behind)
        row = np.empty(many, np.intp)
        row[self.heads], row[self.proj] = plan[:, :count], plan[:, -2]
        if self.rows.size:
            row[self.rows] = plan[:, :count] if by_rows else plan[:, -2:-1]
        row[self.ffn] = plan[:, count:-2] if columns else plan[:, -1:]
        row[self.before], row[self.behind] = self.begins(plan, by_rows), self.behind_at[plan[-1, -1]]
        return tuple(row.tolist())

    def begins(self, plan: Plan, by_rows: bool = False) -> int:
        """Where what is before the first layer runs best, that layer being as it is."""
        spent, size, proj = self.asked.spent, self.asked.devices, int(plan[0, -2])
        if by_rows:
            return int((self.there_s + spent.enter[:, proj]).argmin())
        on = counts(plan[0, : self.heads.shape[1]], size)
        return int((self.there_s + head_phase_s(spent, on, np.arange(size), proj)).argmin())

    def bound_s(self, found_s: float = 0.0) -> float:
        """No plan costs less, wherever it begins; `found_s`: a bound of those that begin where this task does."""
        least = self.least_s.copy()
        begins = self.asked.source
        least[begins] = max(least[begins], self.there_s[begins] + found_s)
        return float(least.min())

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
    layout = layout_of(scene.table, scene.stream)
    layers, heads, ffn = len(layout.proj), len(layout.heads[0]), layout.ffn[0]
    columns = 0 if whole_ffn or len(ffn) == 1 else len(ffn)
    model = HeadModel(scene.stream, layers, heads, heads, 1, 0, columns=columns)
    need = _demand(scene, layout, model)
    home, behind_at = _homewards(scene, layout)
    spent = _times(scene, need, layout, columns, home)
    rate = np.asarray(scene.snapshot.rate_bps) / 8.0
    memory = np.where(spent.head < UNREACHABLE_S, _memory(scene), 0.0)
    asked = Task(model, need, spent, memory, np.full(len(memory), np.inf), rate, scene.source, horizon=horizon)
    places = (np.array(layout.heads), np.array(layout.proj), np.array(layout.ffn))
    nothing, rows = np.zeros(len(memory)), np.array(layout.rows, dtype=np.intp)
    ends = np.array(layout.before, dtype=np.intp), np.array(layout.behind, dtype=np.intp)
    found = HeadTask(asked, *places, *ends, behind_at, nothing, nothing, rows)
    if scene.current is not None:
        asked = replace(asked, before=found.plan(scene.current))
    there = _there(scene, layout)
    least = there + tolls_of(asked)[0]
    return replace(found, asked=replace(asked, source=int(least.argmin())), there_s=there, least_s=least)


def _memory(scene: Scene) -> Floats:
    """(N,) bytes: what is free, and what the stream itself has now."""
    own, chain = np.zeros(len(scene.room.free)), scene.table.chain(scene.stream)
    for block, node in enumerate(scene.current or ()):
        own[node] += chain.weight[block] + chain.working[block]
    return np.asarray(np.maximum(scene.room.free + own, 0.0))


def _demand(scene: Scene, layout: Layout, model: HeadModel) -> Demand:
    """Of the largest block of each kind, where they differ."""
    chain, kinds = scene.table.chain(scene.stream), kinds_of(scene.table, scene.stream, layout)
    heads, proj, ffn = list(layout.heads[0]), [layout.proj[0], *layout.rows[0]], list(layout.ffn[0])

    def each(of: Floats) -> Each:
        ends = (0.0, float(of[ffn].max())) if model.columns else (float(of[ffn].sum()), 0.0)
        return Each(float(of[heads].max()), float(of[proj].sum()), *ends)

    return Demand(
        mode="physical",
        flops=each(np.diff(chain.work)),
        resident_bytes=each(chain.weight + chain.working),
        moving_bytes=Each(kinds.kept_bytes, 0.0, 0.0),
        input_bytes=kinds.input_bytes,
        head_bytes=kinds.head_bytes,
        proj_bytes=kinds.proj_bytes,
        answer_bytes=None,  # in `_homewards`
    )


def _times(scene: Scene, need: Demand, layout: Layout, columns: int, home: Floats) -> Times:
    """Seconds, `UNREACHABLE_S` at most."""
    size, whole = len(home), not columns
    nothing, never = np.zeros(size), np.zeros((size, size))
    ffn = [run_s(scene, i) for i in layout.ffn[0]]
    lag = lag_s(scene)
    return Times(
        head=np.max([run_s(scene, i) for i in layout.heads[0]], axis=0),
        proj=np.minimum(np.sum([run_s(scene, i) for i in (layout.proj[0], *layout.rows[0])], axis=0), UNREACHABLE_S),
        ffn=np.minimum(np.sum(ffn, axis=0), UNREACHABLE_S) if whole else nothing,
        column=nothing if whole else np.max(ffn, axis=0),
        enter=carry_s(scene, need.input_bytes, lag),
        gather=carry_s(scene, need.head_bytes, 0.0),
        delay=lag,
        onward=carry_s(scene, need.proj_bytes, lag),
        home=home,
        move_head=carry_s(scene, need.moving_bytes.head, lag) if need.moving_bytes.head else never,
        move_proj=never,
        move_ffn=never,
        move_column=never,
        columns=columns,
    )


def lag_s(scene: Scene) -> Floats:
    """(N, N) seconds beside bytes / rate, 0 on the diagonal."""
    lag = (np.asarray(scene.snapshot.delay_us) + scene.table.problem.hop_overhead_us) / 1e6
    return np.asarray(lag * (1 - np.eye(len(lag))))


def carry_s(scene: Scene, size_bytes: float, lag: Floats | float) -> Floats:
    """(N, N) seconds, 0 on the diagonal."""
    rate = np.asarray(scene.snapshot.rate_bps, dtype=np.float64)
    wire = np.where(rate > 0, size_bytes * 8.0 / np.where(rate > 0, rate, 1.0) + lag, UNREACHABLE_S)
    return np.asarray(np.minimum(wire, UNREACHABLE_S) * (1 - np.eye(len(rate))))


def run_s(scene: Scene, block: int) -> Floats:
    """(N,) seconds of a block on each node."""
    chain, spare = scene.table.chain(scene.stream), spare_now(scene.snapshot)
    may = chain.allowed[block] & (spare > 0)
    took = (chain.time[block + 1] - chain.time[block]) / np.where(may, spare, 1.0) / 1e6
    return np.asarray(np.where(may, np.minimum(took, UNREACHABLE_S), UNREACHABLE_S))


def _there(scene: Scene, layout: Layout) -> Floats:
    """(N,) seconds from the phone through what is before the layers, on each node."""
    way = carry_s(scene, float(scene.table.chain(scene.stream).data[0]), lag_s(scene))[scene.source]
    return np.asarray(way + np.sum([run_s(scene, block) for block in layout.before], axis=0))


def _homewards(scene: Scene, layout: Layout) -> tuple[Floats, Ints]:
    """(N,) seconds from the end of the last layer to the phone, and where what is between runs: where it has room."""
    chain, lag, behind = scene.table.chain(scene.stream), lag_s(scene), list(layout.behind)
    need = chain.weight[behind, None] * ~scene.room.held[behind] + chain.working[behind, None]
    room = _memory(scene) >= need.sum(axis=0)
    ran = np.where(room, np.sum([run_s(scene, block) for block in behind], axis=0), UNREACHABLE_S)
    way = carry_s(scene, float(chain.data[behind[0]]), lag) + ran
    way = way + carry_s(scene, float(chain.data[-1]), lag)[:, scene.source]
    return np.minimum(way.min(axis=1), UNREACHABLE_S), np.asarray(way.argmin(axis=1), dtype=np.intp)
