"""Wall time until a network of 10, 50 and 200 hosts stands: plain Mininet (TCLink) and this testbed, in one kernel.

The same city twice, each in a guest of its own: daemons of Open vSwitch, namespaces, veth pairs, addresses, switches
and their ports, shaped links; no processes on the hosts. A guest's clock stands still while it computes, so
the processor's cycle counter is read. Plain Mininet gets at most 1 Gbit/s, above which it would not shape.

Run: python -m benchmarks.startup [--hosts 10 50 200] [--json FILE]
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from testbed.plan import Plan, from_json, to_json

KINDS = ("plain", "ours")
OVS = Path("/run/openvswitch")
CONTROLLER = "tcp:127.0.0.1:6653"  # nobody listens there
QUEUE_PACKETS = 1000
MININET_MAX_MBIT = 1000
WALL_LIMIT_S = 1200.0


# -- in the guest


def main(run_folder: Path) -> None:
    """The guest's director: builds what the folder says and writes how long that took."""
    from testbed.kernel.cycles import stopwatch
    from testbed.network.namespace import loopback_up

    plan = from_json((run_folder / "plan.json").read_text())
    build = {"plain": _plain, "ours": _ours}[(run_folder / "kind").read_text()]
    loopback_up()
    now_us = stopwatch(run_folder)
    started_us = now_us()
    hosts = build(plan)
    took_us = now_us() - started_us
    (run_folder / "took.json").write_text(json.dumps({"hosts": hosts, "wall_us": took_us}))


def _ours(plan: Plan) -> int:
    from testbed.network.network import running_network

    return len(running_network(plan, OVS, CONTROLLER, plan.datapath).__enter__().hosts)  # ends with the guest


def _plain(plan: Plan) -> int:
    from mininet.link import TCLink
    from mininet.log import setLogLevel
    from mininet.net import Mininet
    from mininet.node import OVSSwitch
    from mininet.topo import Topo

    from testbed.network.switch import start_daemons

    setLogLevel("error")
    start_daemons(OVS)
    topo = Topo()
    for host in plan.hosts:
        topo.addHost(host.name, ip=f"{host.ip}/16", mac=host.mac)
    for switch in plan.switches:
        topo.addSwitch(switch.name, dpid=f"{switch.dpid:016x}")
    for link in plan.links:
        options = {"bw": min(link.up.rate_bps / 1e6, MININET_MAX_MBIT), "delay": f"{link.up.delay_us}us"}
        topo.addLink(link.a, link.b, max_queue_size=QUEUE_PACKETS, **options)
    net = Mininet(topo, switch=partial(OVSSwitch, datapath="kernel"), link=TCLink, controller=None)
    net.start()
    return len(net.hosts)


# -- outside


def city(hosts: int, folder: Path) -> Plan:
    """Phones on base stations, a server for every ten of them, a fibre tree; not one process on any."""
    from testbed.compile import ModelFiles, compile_plan
    from testbed.experiment import load_experiment
    from testbed.topology.city import City, generate

    servers = max(2, hosts // 10)
    wanted = City(
        *("city", hosts - servers, max(2, hosts // 5), servers - 2, 1, 1),
        *("tree", 1, "vit_tiny", "1/s", "5s"),
    )  # fmt: skip
    file = folder / "city.yaml"
    file.write_text(generate(wanted, "benchmark", Random(1)))
    experiment = load_experiment(file)
    return compile_plan(experiment, {name: ModelFiles("", "", 1) for name in experiment.models})


def measure(kind: str, plan: Plan, folder: Path) -> float:
    """Wall seconds."""
    from testbed.kernel.build import installed
    from testbed.kernel.cycles import save_calibration
    from testbed.kernel.guest import GuestOptions, run_guest

    kernel = installed()
    if kernel is None:
        sys.exit("the guest kernel is not built yet: run `make setup`")
    folder.mkdir()
    (folder / "plan.json").write_text(to_json(plan))
    (folder / "kind").write_text(kind)
    save_calibration(folder)
    run_guest(kernel, folder, "benchmarks.startup", GuestOptions(wall_limit_s=WALL_LIMIT_S))
    took: dict[str, int] = json.loads((folder / "took.json").read_text())
    assert took["hosts"] == len(plan.hosts)
    return took["wall_us"] / 1e6


def compare(sizes: list[int], say: Callable[[str], None]) -> list[dict[str, Any]]:
    rows = []
    for hosts in sizes:
        with tempfile.TemporaryDirectory(prefix="startup-") as folder:
            plan = city(hosts, Path(folder))
            took = {kind: measure(kind, plan, Path(folder) / kind) for kind in KINDS}
        rows.append({"hosts": hosts, "links": len(plan.links), **took, "ratio": took["plain"] / took["ours"]})
        say(
            f"{hosts:6} {len(plan.links):6} {took['plain']:10.1f} s {took['ours']:10.1f} s"
            f" {1000 * took['plain'] / hosts:10.0f} ms {1000 * took['ours'] / hosts:10.0f} ms {rows[-1]['ratio']:8.1f}"
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="start-up of a network: plain Mininet and this testbed")
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--json", type=Path, help="where the figures go too")
    chosen = parser.parse_args()
    print(f"{'hosts':>6} {'links':>6} {'Mininet':>12} {'testbed':>12} {'a host':>13} {'a host':>13} {'ratio':>8}")
    found = compare(chosen.hosts, print)
    if chosen.json:
        chosen.json.write_text(json.dumps({"startup": found}, indent=1))
