"""A director that takes links and switches of the town away by Python calls, under numbered datagrams.

Writes `failures.json`: name -> "source target" -> {"arrived": [number], "late_us": [how long each was on its way],
"damaged": [how many had arrived before each that was damaged]}; "held" -> what the kernel says of a phone's link
before, while and after it is down.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from testbed.emulation.director import CONTROLLER, SOCKETS, await_socket, sdn_command, start
from testbed.network.link import ShapedLink
from testbed.network.namespace import inside, loopback_up
from testbed.network.network import Network, running_network
from testbed.plan import Plan, from_json
from testbed.schedule import Lane, schedule
from testbed.trace.series import Series

SO_TIMESTAMPNS, SO_NO_CHECK, SO_RCVBUFFORCE = 35, 11, 33
PORT = 9
DISCOVERY_S = 6
EACH_US = 5_000
SETTLE_S = 1.0
DEGRADED = 2000
ISLAND = ("ue1", "ue2", "bs1", "edge1")
Calls = Mapping[int, Callable[[], object]]  # before the datagram of that number


def main(run_folder: Path) -> None:
    plan = from_json((run_folder / "plan.json").read_text())
    SOCKETS.mkdir(mode=0o700)
    loopback_up()
    sdn = start(run_folder, "sdn", sdn_command(run_folder, plan))
    with running_network(plan, Path("/run/openvswitch"), f"tcp:{CONTROLLER}", plan.datapath) as network:
        await_socket(SOCKETS / "sdn.sock", sdn)
        for _ in range(DISCOVERY_S):
            network.announce()
            time.sleep(1)
        results = measured(Town(plan, network))
    (run_folder / "failures.json").write_text(json.dumps(results))


class Town:
    def __init__(self, plan: Plan, network: Network) -> None:
        self.network, self.links = network, network.links
        self.ips = {host.name: host.ip for host in plan.hosts}
        self.sockets = {}
        for name, host in network.hosts.items():
            with inside(host.netns):
                end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            end.bind((self.ips[name], PORT))
            for option, value in ((SO_TIMESTAMPNS, 1), (SO_NO_CHECK, 1), (SO_RCVBUFFORCE, 16 << 20)):
                end.setsockopt(socket.SOL_SOCKET, option, value)
            end.setblocking(False)
            self.sockets[name] = end

    def send(self, *ways: tuple[str, str], count: int, calls: Calls, size: int = 40) -> dict[str, Any]:
        """Datagrams on each way, one every EACH_US; what arrived, under "source target"."""
        sent_ns: list[int] = []
        begin_ns = time.monotonic_ns()
        for number in range(count):
            calls.get(number, int)()
            time.sleep(max(0, begin_ns + number * EACH_US * 1000 - time.monotonic_ns()) / 1e9)
            sent_ns.append(time.time_ns())
            for source, target in ways:
                data = struct.pack("!I", number) * (size // 4)
                self.sockets[source].sendto(data, (self.ips[target], PORT))
        time.sleep(SETTLE_S)
        arrived = {target: self._arrived(target, sent_ns) for _, target in ways}
        return {f"{source} {target}": arrived[target] for source, target in ways}

    def _arrived(self, name: str, sent_ns: list[int]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"arrived": [], "late_us": [], "damaged": []}
        while True:
            try:
                data, controls, _, _ = self.sockets[name].recvmsg(2048, 64)
            except BlockingIOError:
                return found
            seconds, ns = struct.unpack("@ll", controls[0][2])
            number = struct.unpack("!I", data[:4])[0]
            if data != data[:4] * (len(data) // 4):
                found["damaged"].append(len(found["arrived"]))
                continue
            found["arrived"].append(number)
            found["late_us"].append((seconds * 10**9 + ns - sent_ns[number]) // 1000)


def measured(town: Town) -> dict[str, Any]:
    links, switches, network = town.links, town.network.switches, town.network
    far, near = ("ue1", "mec"), ("ue1", "edge1")
    other = ("ue3", "edge1")
    found: dict[str, Any] = {"before": town.send(far, count=20, calls={})}
    found["link"] = town.send(far, count=400, calls={100: links["bs1agg"].down, 300: links["bs1agg"].up})
    found["held"] = list(held(links["ue1"]))
    found["phone"] = town.send(far, count=300, calls={100: links["ue1"].down, 200: links["ue1"].up})
    found["nested"] = town.send(
        far,
        count=400,
        calls={
            100: lambda: links["mec"].down("storm"),
            150: lambda: links["mec"].down("digger"),
            200: lambda: links["mec"].up("storm"),
            300: lambda: links["mec"].up("digger"),
        },
    )
    cut = {
        100: lambda: links["ue1"].cut("up"),
        150: lambda: links["ue1"].set(delay="9ms"),
        200: lambda: links["ue1"].mend("up"),
    }
    found["cut"] = town.send(far, ("mec", "ue1"), count=300, calls=cut)
    apart = {100: lambda: network.partition(ISLAND), 200: lambda: network.heal(ISLAND)}
    found["partition"] = town.send(near, ("ue3", "mec"), ("mec", "ue2"), count=400, calls=apart)
    power = {100: switches["bs2"].down, 300: switches["bs2"].up}
    found["switch"] = town.send(far, other, count=600, calls=power)
    found["outage"] = town.send(far, count=600, calls=outage(links["ue1"]), size=1000)
    found["degraded"] = town.send(
        far, count=DEGRADED, size=1000, calls={0: lambda: links["ue1"].set(loss="2%", corrupt="1%", direction="up")}
    )
    return found


def outage(link: ShapedLink) -> Calls:
    """What a trace with a second of rate 0 does to the phone's way up, from datagram 100 to 300."""
    trace = Series("t", (0, 500_000, 1_500_000), 3_000_000, {"rate_bps": (20_000_000, 0, 20_000_000)})
    changes = schedule([Lane("ue1", "up", None, 8000, series=trace, end="hold")], [], [], 3_000_000).changes
    return {change.t_us // EACH_US: partial(link.apply, "up", change.shape) for change in changes}


def held(link: ShapedLink) -> Any:
    """Shapes, addresses, routes and permanent neighbours of the host's end."""
    for change in (id, ShapedLink.down, ShapedLink.up):
        change(link)
        netlink = link.intf1.netlink
        yield {
            "shapes": [link.verify(direction).delay_us for direction in ("up", "down")],
            "routes": len(netlink.get_routes(oif=link.intf1.index)),
            "neighbours": len(netlink.get_neighbours(ifindex=link.intf1.index)),
            "up": link.is_up,
        }
