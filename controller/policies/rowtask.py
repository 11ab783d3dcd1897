"""The projection by rows: the same task with each head's rows beside it, and what that costs. Pure.

Instead of what each head gives, its d numbers, a node sends what all its heads add to the sum, D numbers, and the work
of the projection is shared out as the heads are. The sum is made where the layer's input is normed, so an input that is
elsewhere comes there first. Planners do not know of that: in their task every input goes the shortest way over any
node, which is never more, and `cost_s` says what their plan costs. Where that is more than they think, plans with all
sums on one node are looked at, too: then the inputs are there, if the layers end there.
"""

from dataclasses import replace

import numpy as np

from controller.heads.costs import Each, counts, head_phase_s, latencies_s, migration_s
from controller.heads.model import UNREACHABLE_S, Floats, Infeasible, Plan
from controller.heads.plus import bounded
from controller.heads.task import fits
from controller.heads.tolls import tolls_of
from controller.policies.headtask import HeadTask, carry_s, lag_s, run_s
from controller.policies.partway import layout_of
from controller.policies.rival import Scene
from controller.table import Row

SUMS = 3  # nodes that are tried
KNOWN = 1 + 1e-6  # of what a planner thinks: a plan that costs no more


def by_rows(scene: Scene, made: HeadTask) -> HeadTask | None:
    """None where the projection is one block."""
    layout, asked = layout_of(scene.table, scene.stream), made.asked
    if not made.rows.size:
        return None
    chain, first, left = scene.table.chain(scene.stream), list(layout.rows[0]), layout.proj[0]
    row = np.max([run_s(scene, i) for i in first], axis=0)
    spent = replace(
        asked.spent,
        head=np.minimum(asked.spent.head + row, UNREACHABLE_S),
        proj=run_s(scene, left),
        enter=_over_any(asked.spent.enter),
        gather=np.zeros_like(asked.spent.gather),
        delay=carry_s(scene, asked.need.proj_bytes, lag_s(scene)),
    )

    def each(had: Each, of: Floats) -> Each:
        return had._replace(head=had.head + float(of[first].max()), proj=float(of[left]))

    flops, size = each(asked.need.flops, np.diff(chain.work)), chain.weight + chain.working
    need = replace(asked.need, flops=flops, resident_bytes=each(asked.need.resident_bytes, size))
    task = replace(asked, spent=spent, need=need)
    least = made.there_s + tolls_of(task)[0]
    return replace(made, asked=replace(task, source=int(least.argmin())), least_s=least)


def plans(made: HeadTask, rows: HeadTask, first: Plan) -> list[Plan]:
    """The plan that was found, and the best with all sums on one of its nodes."""
    found, asked = [first], rows.asked
    for node in np.unique(first[:, -2])[:SUMS].tolist():
        alone = np.where(np.arange(asked.devices) == node, asked.spent.proj, UNREACHABLE_S)
        spent = replace(asked.spent, proj=alone, enter=made.asked.spent.enter)
        other = bounded(replace(asked, spent=spent, source=node))
        found += [] if isinstance(other, Infeasible) else [other.plan]
    return found


def cost_s(made: HeadTask, rows: HeadTask, plan: Plan) -> float:
    """The way there, D_T and D_mig / horizon of a plan by rows; infinite where it cannot be. `made`: not by rows."""
    asked, direct = rows.asked, replace(rows.asked.spent, enter=made.asked.spent.enter)
    begins, proj = rows.begins(plan, by_rows=True), plan[:, -2]
    start = np.concatenate(([begins], plan[:-1, -1]))
    on = counts(plan[:, : made.heads.shape[1]], asked.devices)
    more = direct.enter[start, proj] + head_phase_s(direct, on, proj, proj) - head_phase_s(asked.spent, on, start, proj)
    spent_s = float(latencies_s(plan[None], asked.spent, begins)[0] + more.sum() + made.there_s[begins])
    total = spent_s + migration_s(plan, asked.before, asked.spent) / asked.horizon
    return total if fits(asked, plan) and total < UNREACHABLE_S else float("inf")


def is_by_rows(made: HeadTask, row: Row) -> bool:
    at = np.array(row, dtype=np.intp)
    return bool((at[made.rows] != at[made.proj][:, None]).any())


def _over_any(enter: Floats) -> Floats:
    """(N, N) direct, or over one node."""
    return np.asarray(np.minimum(enter, (enter[:, :, None] + enter[None]).min(axis=1)))
