"""A director that measures every direction of every link, alone and all together, and journals what it finds.

Records are those of a run, so that the same judgement holds; a part of the journal for each phase of PHASES. No path of
the network is used, only links.
"""

import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from nodes.clock import MonotonicClock
from testbed.calibration import PHASES, window_us, windows
from testbed.emulation import headroom
from testbed.emulation.carried import Carried, part_us
from testbed.emulation.delays import Prober
from testbed.emulation.director import CONTROLLER, OVS, SOCKETS
from testbed.emulation.live import LiveFile
from testbed.emulation.saturate import FRAME_BYTES, Saturator
from testbed.journal import Journal
from testbed.network.gauge import Gauge, Key
from testbed.network.host import NetlinkHost
from testbed.network.link import DIRECTIONS
from testbed.network.namespace import loopback_up
from testbed.network.network import Network, running_network
from testbed.plan import Plan, from_json
from testbed.probing import read_frames

PROBES = 20
LEAST_PART_US = 200
WARM_UP = 0.2  # of a window


def main(run_folder: Path) -> None:
    plan = from_json((run_folder / "plan.json").read_text())
    SOCKETS.mkdir(mode=0o700)
    loopback_up()
    live = LiveFile(run_folder)
    live.phase("network")
    with running_network(plan, OVS, f"tcp:{CONTROLLER}", plan.datapath) as network:
        prepared(network)
        for phase in PHASES:
            Calibration(plan, network, run_folder, phase, live).measure()
    (run_folder / "done.json").write_text("{}")


def prepared(network: Network) -> None:
    """For tests, which spoil a link here behind the testbed's back."""


class Calibration:
    """One phase, journalled as the part of its name."""

    def __init__(self, plan: Plan, network: Network, run_folder: Path, phase: str, live: LiveFile) -> None:
        self.network, self.phase, self.live = network, phase, live
        self.real = plan.clock == "real"
        self.clock = MonotonicClock(time.monotonic_ns() // 1000)
        self.record = Journal(run_folder, phase).record
        self.frames = read_frames(run_folder)
        self.gauge = Gauge(network)
        self.numbers = count()
        keys: list[Key] = [(link, direction) for link in network.links for direction in DIRECTIONS]
        self.groups = [keys] if phase == "together" else [[key] for key in keys]

    def measure(self) -> None:
        if self.real:
            forever = 10**12
            threading.Thread(target=headroom.watch, args=(self.clock, forever, self.record), daemon=True).start()
        self._delays()
        for group in self.groups:
            self.live.phase(f"rates, {self.phase}" + (f": {' '.join(group[0])}" if len(group) == 1 else ""))
            self._rates(group)
            self._drain(group)

    def _delays(self) -> None:
        self.live.phase(f"delays, {self.phase}")
        prober = Prober(self.network, self.gauge, self.frames, self.record, stamped=self.real, wire_max_us=float("inf"))
        for group in self.groups:
            for _ in range(PROBES):
                for key in group:
                    prober.probe(key, next(self.numbers), self.clock.now_us())
                self._drain(group)
        time.sleep(1)
        prober.close(self.clock.now_us())

    def _rates(self, group: Sequence[Key]) -> None:
        threads = [threading.Thread(target=self._rate, args=(key,), daemon=True) for key in group]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _rate(self, key: Key) -> None:
        link, direction = self.network.links[key[0]], key[1]
        shape = link.asked[direction]
        node = link.interface(direction).node
        saturator = Saturator(self.network, key, self.frames[node.name if isinstance(node, NetlinkHost) else ""])
        carried = Carried(Gauge(self.network), self.clock, self.record)
        saturator.start()
        each_us, long_us = part_us(shape, least_us=LEAST_PART_US), window_us(shape.rate_bps)
        begin_us = self.clock.now_us() + shape.delay_us + round(WARM_UP * long_us)
        end_us = begin_us + windows(shape.rate_bps) * (long_us + each_us) + 2 * each_us
        for t_us in range(begin_us, end_us, each_us):
            self.clock.sleep_until(t_us)
            carried.say(key)
        saturator.stop()

    def _drain(self, group: Sequence[Key]) -> None:
        """Until nothing waits or is on its way."""
        for key in group:
            shape = self.network.links[key[0]].asked[key[1]]
            while (counted := self.gauge.one(*key)) is not None and counted.backlog_bytes:
                time.sleep(max(0.001, min(1.0, shape.delay_us / 1e6, counted.backlog_bytes * 8 / shape.rate_bps)))
            time.sleep(FRAME_BYTES * 8 / shape.rate_bps)
