"""The run measured while it goes on, by a thread each: what links carry, what delays are, what the machine has left."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodes.clock import Clock
from testbed.emulation import headroom
from testbed.emulation.carried import Carried
from testbed.emulation.delays import Prober
from testbed.network.gauge import Gauge
from testbed.network.network import Network
from testbed.plan import Plan
from testbed.probing import read_frames


class Measuring:
    """From `start` until the end of the plan; `finish` when that is over."""

    def __init__(
        self, plan: Plan, network: Network, run_folder: Path, *, clock: Clock, record: Callable[..., Any]
    ) -> None:
        real = plan.clock == "real"
        self.record, self.clock = record, clock
        carried = Carried(Gauge(network), clock, record)
        self.threads = [threading.Thread(target=self._safely, args=(carried.watch, plan.duration_us), daemon=True)]
        if plan.probes:
            prober = Prober(network, Gauge(network), read_frames(run_folder), record, stamped=real)
            self.threads.append(
                threading.Thread(target=self._safely, args=(prober.watch, clock, plan.duration_us), daemon=True)
            )
        if real:
            arguments = (headroom.watch, clock, plan.duration_us, record)
            self.threads.append(threading.Thread(target=self._safely, args=arguments, daemon=True))

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def finish(self) -> None:
        for thread in self.threads:
            thread.join()

    def _safely(self, watch: Callable[..., None], *arguments: Any) -> None:
        """A measurement that fails is a fault of the run, not its silence."""
        try:
            watch(*arguments)
        except Exception as error:
            self.record("fault", self.clock.now_us(), what="measuring", why=f"{type(error).__name__}: {error}")
            raise
