"""Wall seconds that a virtual minute of light traffic takes with 10 and with 50 hosts, beside plain Mininet.

Two hosts a link, each sending one full frame every 10 ms; every tenth second each link changes. Both kinds in the same
guest, one after the other; a guest's clock stands still while it computes, so the processor's cycle counter is read.
"""

import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from mininet.link import TCLink
from mininet.log import setLogLevel
from mininet.net import Mininet
from pyroute2 import IPRoute

from benchmarks.pairs import FIRST, PLAN
from benchmarks.table import Row, show
from testbed.kernel import build
from testbed.kernel.cycles import save_calibration, stopwatch
from testbed.kernel.guest import GuestOptions, run_guest
from testbed.network.host import NetlinkHost, NetlinkIntf
from testbed.network.link import ShapedLink
from testbed.network.namespace import inside, set_parameters
from testbed.network.network import PlanTopo
from testbed.plan import HostPlan, LinkPlan, Plan

SIZES = (10, 50)
SECONDS, CHANGE_EACH_S, FRAME_EACH_S = 20, 10, 0.01
DELAY_US = 5000
PORT, PAYLOAD = 9, bytes(1472)
WALL_LIMIT_S = 600.0
Change = Callable[[int], None]  # all links to this rate


def main(run_folder: Path) -> None:
    now_us = stopwatch(run_folder)
    took: dict[str, dict[int, float]] = {"ours": {}, "plain": {}}
    for size in SIZES:
        for kind, build_it in (("ours", ours), ("plain", plain)):
            with build_it(plan(size)) as (namespaces, change):
                ways = list(sockets(plan(size), namespaces))
                started_us = now_us()
                arrived = traffic(ways, change)
                took[kind][size] = (now_us() - started_us) / 1e6 * 60 / SECONDS
            if arrived < 0.9 * SECONDS / FRAME_EACH_S * size:
                print(f"{kind} {size}: only {arrived} frames arrived", flush=True)
    (run_folder / "wall.json").write_text(json.dumps(took))


def plan(size: int) -> Plan:
    hosts = tuple(
        HostPlan(f"n{n}", "phone", "device", f"10.0.{n}.{1 + n % 2}", f"02:00:00:00:00:{n:02x}", "phone", 1, 1, 1)
        for n in range(size)
    )
    shape = replace(FIRST, delay_us=DELAY_US)
    pairs = zip(hosts[::2], hosts[1::2], strict=True)
    links = tuple(LinkPlan(f"l{n}", a.name, b.name, shape, shape) for n, (a, b) in enumerate(pairs))
    return replace(PLAN, hosts=hosts, links=links)


@contextmanager
def ours(plan: Plan) -> Iterator[tuple[list[str], Change]]:
    setLogLevel("error")
    set_parameters()
    with IPRoute() as root:
        link = partial(ShapedLink, root=root)
        mininet = Mininet(topo=PlanTopo(plan), host=NetlinkHost, link=link, intf=NetlinkIntf, controller=None)
        for shaped in mininet.links:
            shaped.bring_up({host.name: host.ip for host in plan.hosts})
            shaped.shape()

        def change(rate_bps: int) -> None:
            for shaped in mininet.links:
                for direction in ("up", "down"):
                    shaped.apply(direction, replace(shaped.plan.up, rate_bps=rate_bps))

        yield [mininet.get(host.name).netns for host in plan.hosts], change


@contextmanager
def plain(plan: Plan) -> Iterator[tuple[list[str], Change]]:
    setLogLevel("critical")
    mininet = Mininet(link=TCLink, controller=None)
    for host in plan.hosts:
        mininet.addHost(host.name, ip=f"{host.ip}/16", mac=host.mac)
    shaping = {"delay": f"{DELAY_US}us"}
    for link in plan.links:
        mininet.addLink(link.a, link.b, bw=link.up.rate_bps / 1e6, **shaping)
    mininet.build()

    def change(rate_bps: int) -> None:
        for link in mininet.links:
            for interface in (link.intf1, link.intf2):
                interface.config(bw=rate_bps / 1e6, **shaping)

    try:
        yield [f"/proc/{mininet.get(host.name).pid}/ns/net" for host in plan.hosts], change
    finally:
        mininet.stop()


def sockets(plan: Plan, namespaces: Sequence[str]) -> Iterator[socket.socket]:
    """One on each host, connected to its neighbour's."""
    for number, (host, netns) in enumerate(zip(plan.hosts, namespaces, strict=True)):
        with inside(netns):
            end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.bind((host.ip, PORT))
        end.connect((plan.hosts[number ^ 1].ip, PORT))
        end.setblocking(False)
        yield end


def traffic(ways: Sequence[socket.socket], change: Change) -> int:
    """How many frames arrived."""
    arrived, began, ticks = 0, time.monotonic(), round(SECONDS / FRAME_EACH_S)
    for tick in range(ticks):
        time.sleep(max(0.0, began + tick * FRAME_EACH_S - time.monotonic()))
        if tick % round(CHANGE_EACH_S / FRAME_EACH_S) == 0:
            change(5_000_000 + tick * 1000)
        for way in ways:
            way.send(PAYLOAD)
            arrived += _drained(way)
    return arrived


def _drained(way: socket.socket) -> int:
    count = 0
    while True:
        try:
            way.recv(1)
        except (BlockingIOError, ConnectionRefusedError):
            return count
        count += 1


def bench() -> None:
    kernel = build.installed()
    if kernel is None:
        raise RuntimeError("the guest kernel is not built: run `make setup`")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        save_calibration(Path(name))
        run_guest(kernel, Path(name), "benchmarks.wall", GuestOptions(wall_limit_s=WALL_LIMIT_S))
        took = json.loads((Path(name) / "wall.json").read_text())
    rows = [Row(f"a virtual minute, {size} hosts", "wall s", *(took[k][str(size)] for k in took)) for size in SIZES]
    show("wall", rows, took)


if __name__ == "__main__":
    bench()
