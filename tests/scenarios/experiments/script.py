"""A policy that follows a script: the parts of SmolLM2 move at set times, and leave the edge server when it fails."""

from controller.model import Decision, Placement

STREAM = "talk.ue1"
# (from second, how many of the 32 blocks run on the phone, on the edge server, on the MEC server)
SCRIPT = ((0, (8, 12, 12)), (3, (8, 18, 6)), (5, (2, 24, 6)), (9, (2, 10, 20)))
WITHOUT_EDGE = (2, 0, 30)


class Script:
    def __init__(self, problem, options):
        self.edge = [host.name for host in problem.hosts].index("edge1")

    def start(self, snapshot):
        return self._placed(Placement(0, {}), (), SCRIPT[0][1])

    def decide(self, snapshot, current, triggers):
        shares = [shares for begin_s, shares in SCRIPT if begin_s * 1_000_000 <= max(0, snapshot.now_us)][-1]
        return self._placed(current, triggers, shares if snapshot.nodes[self.edge].up else WITHOUT_EDGE)

    @staticmethod
    def _placed(current, triggers, shares):
        row = tuple(name for name, count in zip(("ue1", "edge1", "mec"), shares, strict=True) for _ in range(count))
        if current.nodes.get(STREAM) == row:
            return Decision("KEEP", current, triggers, (), "as the script says")
        return Decision("RESPLIT", Placement(current.epoch + 1, {STREAM: row}), triggers, (), "the script goes on")
