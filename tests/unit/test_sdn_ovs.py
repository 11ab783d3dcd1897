"""The real application against real Open vSwitch: three switches in a triangle, a host on each.

Everything lives in private network, mount and pid namespaces, with OVS's database, sockets and logs in a folder of the
test: this file is also the script that runs inside (`main`). Nothing is shaped, so the latencies are small.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPENFLOW = "127.0.0.1:6653"
PERIOD_S = 0.2
HOSTS = {f"h{i}": f"10.0.0.{i}" for i in (1, 2, 3)}
WIRES = (("1", "2"), ("2", "3"), ("3", "1"))
TOOLS = (
    "ovsdb-server",
    "ovs-vswitchd",
    "ovs-vsctl",
    "ovsdb-tool",
    "ovs-ofctl",
    "unshare",
    "ip",
    "ethtool",
    "ping",
    "mount",
)


def missing() -> str:
    """Why this machine cannot run it; empty when it can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    gone = [tool for tool in TOOLS if shutil.which(tool) is None]
    if gone:
        return f"needs {', '.join(gone)} (Debian: openvswitch-switch iproute2 ethtool iputils-ping)"
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "may not create namespaces"


def test_application_on_open_vswitch(tmp_path: Path) -> None:
    why = missing()
    if why:
        pytest.skip(f"not run: real Open vSwitch {why}")
    inside = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*inside, sys.executable, __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    log = (tmp_path / "sdn.log").read_text() if (tmp_path / "sdn.log").exists() else "no log"
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}\n{log}"
    seen = json.loads(done.stdout)
    assert seen["pinged"] == seen["pinged_after_cut"] == 6
    # which path is shortest is noise here; that the other one is taken after the cut is not
    assert sorted([seen["before"], seen["after"]]) == [[1, 2], [1, 3, 2]]
    assert all(0 <= latency_us < 1_000_000 for latency_us in seen["latencies_us"])
    assert len(seen["latencies_us"]) == 6
    assert f"port down s1s{seen['before'][1]}" in seen["changes"]
    was, now = ("-".join(str(dpid) for dpid in seen[when]) for when in ("before", "after"))
    assert f"reroute {was} to {now}" in seen["changes"]
    assert "switch 3 left" in seen["changes"]
    assert seen["changes"].count("switch 3 joined") == 2
    assert seen["pinged_after_rejoin"] == 6
    assert seen["rx_bps"] > 0
    assert seen["pinged_headless"] == 6
    assert seen["stop_code"] == 0
    assert "ERROR" not in log


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def start_ovs(place: Path) -> None:
    """ovsdb-server and ovs-vswitchd in folders of their own, three userspace bridges with fixed dpids."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")  # named network namespaces live there
    os.environ.update(OVS_RUNDIR=str(place), OVS_DBDIR=str(place), OVS_LOGDIR=str(place), OVS_SYSCONFDIR=str(place))
    database, socket = str(place / "conf.db"), f"unix:{place}/db.sock"
    run("ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema")
    run("ovsdb-server", database, f"--remote=p{socket}", "--detach", "--pidfile", f"--log-file={place}/ovsdb.log")
    run("ovs-vsctl", "--no-wait", "init")
    run("ovs-vswitchd", socket, "--detach", "--pidfile", f"--log-file={place}/vswitchd.log")
    for i in (1, 2, 3):
        bridge = f"s{i}"
        # fmt: off
        run("ovs-vsctl", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev",
            "protocols=OpenFlow13", "fail_mode=secure", f"other-config:datapath-id={i:016x}",
            "other-config:disable-in-band=true",
            "--", "set-controller", bridge, f"tcp:{OPENFLOW}")
        # fmt: on


def wire(a: str, b: str) -> None:
    run("ip", "link", "add", a, "type", "veth", "peer", "name", b)
    for end in (a, b):
        run("ethtool", "-K", end, "tx", "off")
        run("ip", "link", "set", end, "up")


def silence() -> None:
    """As in the emulation: no interface speaks IPv6 of itself, so that every frame is the test's own."""
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


def build() -> None:
    silence()
    run("ip", "link", "set", "lo", "up")
    for a, b in WIRES:
        wire(f"s{a}s{b}", f"s{b}s{a}")
        run("ovs-vsctl", "add-port", f"s{a}", f"s{a}s{b}", "--", "add-port", f"s{b}", f"s{b}s{a}")
    for name, ip in HOSTS.items():
        i = name[1]
        wire(f"s{i}{name}", f"{name}e")
        run("ovs-vsctl", "add-port", f"s{i}", f"s{i}{name}")
        run("ip", "netns", "add", name)
        run("ip", "link", "set", f"{name}e", "address", mac(name), "netns", name)
        run("ip", "-n", name, "addr", "add", f"{ip}/24", "dev", f"{name}e")
        run("ip", "-n", name, "link", "set", f"{name}e", "up")
        for other, there in HOSTS.items():
            if other != name:
                run("ip", "-n", name, "neigh", "add", there, "lladdr", mac(other), "dev", f"{name}e")


def mac(host: str) -> str:
    return f"02:00:00:00:00:0{host[1]}"


def ping_all() -> int:
    """How many of the six ordered pairs reach each other at the first packet."""
    ok = 0
    for name in HOSTS:
        for other, there in HOSTS.items():
            if other != name:
                ping = ["ip", "netns", "exec", name, "ping", "-c", "1", "-W", "2", there]
                ok += subprocess.run(ping, capture_output=True, check=False).returncode == 0
    return ok


def announce() -> None:
    """A packet to nobody in particular makes each host known: unknown destinations are dropped."""
    for name in HOSTS:
        run("ip", "-n", name, "neigh", "replace", "10.0.0.99", "lladdr", "02:00:00:00:00:99", "dev", f"{name}e")
        ping = ["ip", "netns", "exec", name, "ping", "-c", "1", "-W", "0.05", "10.0.0.99"]
        subprocess.run(ping, capture_output=True, check=False)


@contextlib.contextmanager
def application(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--openflow", OPENFLOW, "--socket", str(place / "sdn.sock"), "--period", str(PERIOD_S)]
    process = subprocess.Popen([sys.executable, "-m", "controller.sdn", *options, "--log", str(place / "sdn.log")])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def main(place: Path) -> None:
    import grpc

    from controller.sdn import linkstate_pb2 as pb
    from controller.sdn import linkstate_pb2_grpc as pb_grpc

    start_ovs(place)
    build()
    with application(place) as process, grpc.insecure_channel(f"unix:{place}/sdn.sock") as channel:
        stream = pb_grpc.LinkStateStub(channel).Watch(pb.WatchRequest(), wait_for_ready=True, timeout=300)
        changes: list[str] = []

        def until(true: Callable[[pb.Report], bool], deadline_s: float = 60) -> pb.Report:
            limit = time.monotonic() + deadline_s
            for report in stream:
                changes.extend(report.changes)
                if true(report):
                    return report
                if time.monotonic() > limit:
                    raise RuntimeError(f"not in time; the last report was {report}")
            raise RuntimeError("the stream ended")

        def path(report: pb.Report) -> list[int]:
            ends = (mac("h1"), mac("h2"))
            return next((list(p.dpids) for p in report.paths if (p.from_mac, p.to_mac) == ends), [])

        until(lambda r: sum(link.up for link in r.links) == 6)
        announce()
        before = until(lambda r: len(r.paths) == 6)
        pinged = ping_all()
        first = path(before)[1]
        run("ip", "link", "set", f"s1s{first}", "down")
        after = until(lambda r: path(r)[1:2] not in ([], [first]))
        pinged_after_cut = ping_all()
        busy = until(lambda r: any(p.rx_bps for p in r.ports))
        run("ovs-vsctl", "del-controller", "s3")
        until(lambda r: len(r.paths) < 6)
        run("ovs-vsctl", "set-controller", "s3", f"tcp:{OPENFLOW}")
        until(lambda r: len(r.paths) == 6)
        pinged_after_rejoin = ping_all()
        process.terminate()
        stop_code = process.wait(60)
        result = {
            "pinged": pinged,
            "before": path(before),
            "after": path(after),
            "pinged_after_cut": pinged_after_cut,
            "pinged_after_rejoin": pinged_after_rejoin,
            "latencies_us": [link.latency_us for link in before.links],
            "changes": changes,
            "rx_bps": max(p.rx_bps for p in busy.ports),
            "stop_code": stop_code,
            "pinged_headless": ping_all(),  # the flows outlive the application
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
