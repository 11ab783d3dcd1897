"""A policy that follows a script: heads go round the servers one by one, then leave one that fails and come back."""

from controller.model import Decision, Placement
from controller.parts import COLUMNS, HEADS

STREAM, SERVERS = "talk.ue1", ("edge1", "edge2", "edge3")
ROUND_US = 5_500_000  # until then heads go round, a head each time
FAILING = "edge3"


class Heads:
    def __init__(self, problem, options):
        [self.model] = problem.models.values()
        self.failing = [host.name for host in problem.hosts].index(FAILING)
        self.heads = [i for i, block in enumerate(self.model.blocks) if block.part.startswith(HEADS)]
        self.moved = 0

    def start(self, snapshot):
        return self._placed(Placement(0, {}), (), self._first())

    def decide(self, snapshot, current, triggers):
        row = list(current.nodes[STREAM])
        if 0 < snapshot.now_us < ROUND_US:
            at = self.heads[self.moved % len(self.heads)]
            row[at] = SERVERS[(SERVERS.index(row[at]) + 1) % 3]
            self.moved += 1
        else:
            row = self._first()
            if not snapshot.nodes[self.failing].up:
                row = ["edge1" if node == FAILING else node for node in row]
        return self._placed(current, triggers, row)

    def _first(self):
        """Each layer on all three: heads in turn, the projection on one, the feed-forward part on one or in columns."""
        names = {"proj": "edge2", "mlp": "edge3", "": "edge1"}
        return [names.get(block.part) or _in_turn(block.part) for block in self.model.blocks]

    @staticmethod
    def _placed(current, triggers, row):
        if current.nodes.get(STREAM) == tuple(row):
            return Decision("KEEP", current, triggers, (), "as the script says")
        placed = Placement(current.epoch + 1, {STREAM: tuple(row)})
        return Decision("RESPLIT", placed, triggers, (), "the script goes on")


class Some(Heads):
    """Every eighth layer by heads, the others whole: a third of the model on each server."""

    def __init__(self, problem, options):
        super().__init__(problem, options)
        self.heads = [i for i in self.heads if self.model.blocks[i].unit % 8 == 4]

    def _first(self):
        row = []
        for block, spread in zip(self.model.blocks, super()._first(), strict=True):
            row.append(spread if block.unit % 8 == 4 else SERVERS[min(block.unit // 11, 2)])
        return row


def _in_turn(part):
    """Heads by their number; the first columns on one server, all others on another."""
    if part.startswith(HEADS):
        return SERVERS[int(part.removeprefix(HEADS)) % 3]
    return "edge3" if part.startswith(f"{COLUMNS}0-") else "edge1"
