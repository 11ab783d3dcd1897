"""How long a move takes, from the decision to the switch, beside what has to travel over the rate of the link.

Two short runs in the guest, without numbers: keys and values of SmolLM2, copied ahead while it speaks, and weights
of MiniLM. Layers go to a server behind a link of 100, 50 and 10 Mbit/s and back, some more each time.

Run: python -m benchmarks.moves [--json FILE]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controller.model import Decision, Placement, Problem, Snapshot, Trigger

MBIT = 1_000_000
RATES = (100 * MBIT, 50 * MBIT, 10 * MBIT)
TIME_LIMIT_S = 400
HOME, AWAY = "edge1", "edge2"

WORLD = """
name: moves
duration: {duration_s}s
seed: 1
nodes:
  ue1:   {{kind: phone, device: phone}}
  bs1:   {{kind: base_station}}
  edge1: {{kind: edge_server, device: edge_small}}
  edge2: {{kind: edge_server, device: edge_small}}
links:
  ue1:   {{from: ue1, to: bs1, both: {{rate: 100Mbit, delay: 5ms}}}}
  edge1: {{from: bs1, to: edge1, both: {{rate: 10Gbit, delay: 500us}}}}
  edge2: {{from: bs1, to: edge2, both: {{rate: 100Mbit, delay: 500us}}}}
models:
  m: {{family: {family}, {input}}}
workload:
  flow: {{model: m, phones: [ue1], {asked}, deadline: 60s}}
policy: {{name: {policy}, steps: {steps}}}
telemetry_period: 500ms
weights: {weights}
numerics: off
probes: off
events:
  - {{at: {slower_s}s, link: edge2, scale: 50%}}
  - {{at: {slowest_s}s, link: edge2, scale: 10%}}
sla: {{percentile: p95, latency: 60s, window: 5s}}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    family: str
    input: str
    asked: str
    weights: str
    layers: tuple[int, ...]  # that move, one after the other, each there and back
    pause_s: int  # between two moves at the first rate; so many times longer as the rate is lower


KINDS = (
    Kind(
        "keys and values",
        "smollm2",
        "prompts: [The capital of France is]",
        "rate: 0.25/s, generate: {tokens: 140, deadline: 30s}",
        "prestaged",
        (2, 6, 12),
        2,
    ),
    Kind("weights", "minilm", "inputs: 1", "rate: 0.1/s", "transfer", (1, 2), 3),
)


class Moving:
    """The policy: at each of `steps` ("second:layers") the first so many layers are on the other server, 0: at home."""

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        [self.stream], [model] = [stream.name for stream in problem.streams], problem.models.values()
        self.blocks = len(model.blocks)
        self.steps = [tuple(map(int, step.split(":"))) for step in options["steps"].split()]

    def start(self, snapshot: Snapshot) -> Decision:  # noqa: ARG002 as the protocol says
        return self._placed(Placement(0, {}), (), 0)

    def decide(self, snapshot: Snapshot, current: Placement, triggers: tuple[Trigger, ...]) -> Decision:
        layers = [count for at_s, count in self.steps if at_s * 1_000_000 <= snapshot.now_us]
        return self._placed(current, triggers, layers[-1] if layers else 0)

    def _placed(self, current: Placement, triggers: tuple[Trigger, ...], layers: int) -> Decision:
        row = tuple(AWAY if 1 <= block <= layers else HOME for block in range(self.blocks))
        if current.nodes.get(self.stream) == row:
            return Decision("KEEP", current, triggers, (), "as the steps say")
        return Decision("RESPLIT", Placement(current.epoch + 1, {self.stream: row}), triggers, (), "the next step")


@dataclass(frozen=True, slots=True)
class Moved:
    what: str
    rate_bps: int
    size_bytes: int
    took_ms: float  # from the decision until the phone has its new route
    least_ms: float  # bytes / rate


def steps_of(kind: Kind) -> tuple[list[tuple[int, int]], list[int]]:
    """(second, layers) of each move, and when each rate begins."""
    found, begins, at_s = list[tuple[int, int]](), list[int](), 2
    for rate_bps in RATES:
        begins.append(at_s - 1)
        for count in kind.layers:
            for layers in (count, 0):
                found.append((at_s, layers))
                slower = RATES[0] // rate_bps if kind.weights == "transfer" else 1
                at_s += kind.pause_s * slower
        at_s += 2
    return found, [*begins, at_s]


def measure(kind: Kind, folder: Path) -> list[Moved]:
    steps, (_, slower_s, slowest_s, end_s) = steps_of(kind)
    text = WORLD.format(
        family=kind.family,
        input=kind.input,
        asked=kind.asked,
        weights=kind.weights,
        duration_s=end_s,
        slower_s=slower_s,
        slowest_s=slowest_s,
        steps=json.dumps(" ".join(f"{at_s}:{layers}" for at_s, layers in steps)),
        policy=json.dumps(f"{Path(__file__).resolve()}:Moving"),
    )
    folder.mkdir()
    experiment = folder / "moves.yaml"
    experiment.write_text(text)
    command = [
        str(Path(sys.executable).parent / "testbed"),
        "run",
        str(experiment),
        "--out",
        str(folder / "run"),
        "--json",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=TIME_LIMIT_S)
    records = [json.loads(line) for line in (folder / "run" / "journal.jsonl").read_text().splitlines()]
    return list(moved(kind, records, slower_s, slowest_s))


def moved(kind: Kind, records: list[dict[str, Any]], slower_s: int, slowest_s: int) -> list[Moved]:
    """Each move that carried anything."""
    found = []
    decided = [r["t_us"] for r in records if r["kind"] == "decision" and r["action"] == "RESPLIT"]
    for number in sorted({r["move"] for r in records if r["kind"] == "move" and r["epoch"] > 1}):
        mine = [r for r in records if r["kind"] == "move" and r["move"] == number]
        size_bytes = sum(r["bytes"] for r in mine if r["phase"] == "prepare")
        switched = [r["t_us"] for r in mine if r["phase"] == "switch"]
        if not size_bytes or not switched:
            continue
        begun_us = max(t_us for t_us in decided if t_us < switched[0])
        rate_bps = RATES[(begun_us >= slower_s * 1_000_000) + (begun_us >= slowest_s * 1_000_000)]
        least_ms = size_bytes * 8e3 / rate_bps
        found.append(Moved(kind.name, rate_bps, size_bytes, (switched[0] - begun_us) / 1e3, least_ms))
    return found


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.table import RESULTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS / "moves.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        all_moved = [one for kind in KINDS for one in measure(kind, Path(folder) / kind.weights)]
    table = Table("what", "Mbit/s", "MB", "bytes / rate, ms", "decision to switch, ms", "ratio", title="moves")
    for one in all_moved:
        figures = (one.rate_bps / MBIT, one.size_bytes / 1e6, one.least_ms, one.took_ms, one.took_ms / one.least_ms)
        table.add_row(one.what, *(f"{figure:.4g}" for figure in figures))
    Console(width=100).print(table)
    asked.json.parent.mkdir(exist_ok=True)
    asked.json.write_text(json.dumps([asdict(one) for one in all_moved], indent=1))


if __name__ == "__main__":
    main()
