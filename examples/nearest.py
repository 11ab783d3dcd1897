"""A policy in thirty lines: all streams on the one node that is nearest to their phones and where that can be.

testbed run topologies/minimal.yaml --policy examples/nearest.py:Nearest
"""

from controller.model import Decision, Placement
from controller.planner import Planner


class Nearest:
    def __init__(self, problem, options):  # noqa: ARG002
        self.planner = Planner(problem)
        self.phones = [self.planner.table.index[stream.source] for stream in problem.streams]

    def start(self, snapshot):
        return self.decide(snapshot, Placement(0, {}), ())

    def decide(self, snapshot, current, triggers):
        table = self.planner.table
        loaded = {stream: table.row(nodes) for stream, nodes in current.nodes.items()}
        for n in sorted(range(len(table.memory)), key=lambda n: snapshot.delay_us[self.phones, n].sum()):
            rows = {stream: (n,) * len(table.chain(stream).weight) for stream in table.streams}
            if self.planner.permitted(snapshot, rows) and self.planner.fits(rows, loaded):
                nodes, where = {stream: table.names(row) for stream, row in rows.items()}, table.names((n,))[0]
                if nodes == current.nodes or (current.epoch and not triggers):
                    return Decision("KEEP", current, triggers, (), "the nearest serves, or nothing has changed")
                return Decision("REMAP", Placement(current.epoch + 1, nodes), triggers, (), f"nearest is {where}")
        return Decision("INFEASIBLE", current, triggers, (), "no node may hold everything")
