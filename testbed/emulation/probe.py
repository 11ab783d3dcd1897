"""A director that measures the emulated network itself: round trips of every pair, the rate of saturated links.

Writes `probe.json`: {"rtt": [{"from", "to", "configured_us", "measured_us"}],
"rate": [{"link", "direction", "scheduled_bps", "windows_bps"}], "unsaturated": ["link direction: why"]}.
Sockets belong to the namespace they were opened in, so threads of this one process stand in for all hosts.
"""

import itertools
import json
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.emulation.director import CONTROLLER, SOCKETS, await_socket, sdn_command, start
from testbed.emulation.live import LiveFile
from testbed.emulation.routes import Way, paths, ways
from testbed.network.link import Direction
from testbed.network.namespace import inside, loopback_up
from testbed.network.network import Network, running_network
from testbed.plan import HostPlan, Plan, from_json

ECHO_PORT, SINK_PORT = 7, 9
DISCOVERY_S = 4.0
PROBES = 5
PROBE_BYTES = 18
WARM_UP_S = 3
WINDOWS = 5
BLOCK = bytes(65536)
RATE_MAX_BPS = 200_000_000  # faster links need too many packets for a quick probe


def main(run_folder: Path) -> None:
    plan = from_json((run_folder / "plan.json").read_text())
    SOCKETS.mkdir(mode=0o700)
    loopback_up()
    sdn = start(run_folder, "sdn", sdn_command(run_folder, plan))
    live = LiveFile(run_folder)
    live.phase("network")
    with running_network(plan, Path("/run/openvswitch"), f"tcp:{CONTROLLER}", plan.datapath) as network:
        await_socket(SOCKETS / "sdn.sock", sdn)
        for _ in range(int(DISCOVERY_S)):
            time.sleep(1)
            network.announce()
        time.sleep(DISCOVERY_S)
        for host in plan.hosts:
            _serve(network, host)
        live.phase("round trips")
        rtt = _round_trips(plan, network)
        live.phase("rates")
        rates, unsaturated = _rates(plan, network, live)
        results = {"rtt": rtt, "rate": rates, "unsaturated": unsaturated, "lump_segments": _lumps(network)}
    (run_folder / "probe.json").write_text(json.dumps(results))


def _lumps(network: Network) -> dict[str, int]:
    """By interface, of how many segments the kernel lets TCP make one packet."""
    ends = [end for link in network.links.values() for end in (link.intf1, link.intf2)]
    held = {end.name: end.netlink.get_links(end.index)[0] for end in ends}
    return {name: link.get_attr("IFLA_GSO_MAX_SEGS") for name, link in held.items()}


def _serve(network: Network, host: HostPlan) -> None:
    """An echo and a sink on a host, as threads."""
    with inside(network.hosts[host.name].netns):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind((host.ip, ECHO_PORT))
        sink = socket.create_server((host.ip, SINK_PORT))
    threading.Thread(target=_echo, args=(echo,), daemon=True).start()
    threading.Thread(target=_sink, args=(sink,), daemon=True).start()


def _echo(server: socket.socket) -> None:
    while True:
        data, sender = server.recvfrom(2048)
        server.sendto(data, sender)


def _sink(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            while connection.recv(1 << 20):
                pass


def _round_trips(plan: Plan, network: Network) -> list[dict[str, Any]]:
    """The least of a few round trips of a small datagram, every pair of hosts in both orders."""
    path = paths(plan, ways(plan.links, {}, {}))
    found = []
    for a, b in itertools.permutations(plan.hosts, 2):
        with inside(network.hosts[a.name].netns):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(5)
        samples = []
        for _ in range(PROBES):
            sent_ns = time.monotonic_ns()
            client.sendto(bytes(PROBE_BYTES), (b.ip, ECHO_PORT))
            client.recv(2048)
            samples.append((time.monotonic_ns() - sent_ns) // 1000)
        client.close()
        there, back = path[a.name, b.name], path[b.name, a.name]
        configured_us = sum(way.delay_us for way in there + back)
        wire_us = sum((PROBE_BYTES + 42) * 8 * 1_000_000 / way.rate_bps for way in there + back)
        found.append(
            {"from": a.name, "to": b.name, "configured_us": configured_us}
            | {"serialisation_us": round(wire_us), "measured_us": min(samples), "samples_us": samples}
        )
    return found


def _rates(plan: Plan, network: Network, live: LiveFile) -> tuple[list[dict[str, Any]], list[str]]:
    """What each link direction carries a second while one TCP stream saturates it."""
    now = ways(plan.links, {}, {})
    path = paths(plan, now)
    measured, unsaturated = [], []
    for target in now:
        pair = None if target.rate_bps > RATE_MAX_BPS else _bottleneck_pair(plan, path, target)
        if pair is None:
            unsaturated.append(f"{target.link} {target.direction}: no path that it alone limits, or too fast")
            continue
        live.phase(f"rate of {target.link} {target.direction}")
        measured.append(
            {"link": target.link, "direction": target.direction, "scheduled_bps": target.rate_bps}
            | {"windows_bps": _saturate(network, *pair, target)}
        )
    return measured, unsaturated


def _saturate(network: Network, source: HostPlan, sink: HostPlan, target: Way) -> list[int]:
    with inside(network.hosts[source.name].netns):
        stream = socket.create_connection((sink.ip, SINK_PORT), timeout=30)
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            stream.sendall(BLOCK)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    time.sleep(WARM_UP_S)
    direction: Direction = "up" if target.direction == "up" else "down"
    counts = []
    for _ in range(WINDOWS + 1):
        counts.append((time.monotonic_ns(), network.links[target.link].traffic(direction)["tx_bytes"]))
        time.sleep(1)
    stop.set()
    sender.join()
    stream.close()
    time.sleep(1)
    return [
        round((later - earlier) * 8e9 / (end_ns - start_ns))
        for (start_ns, earlier), (end_ns, later) in itertools.pairwise(counts)
    ]


def _bottleneck_pair(
    plan: Plan, path: Mapping[tuple[str, str], list[Way]], target: Way
) -> tuple[HostPlan, HostPlan] | None:
    """Two hosts whose path has `target` as its only narrowest link."""
    for a, b in itertools.permutations(plan.hosts, 2):
        own = path[a.name, b.name]
        if target in own and all(way.rate_bps > target.rate_bps for way in own if way != target):
            return a, b
    return None
