"""Open vSwitch: private daemons, and Mininet switches that are made in one transaction."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from mininet.node import OVSSwitch

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
TIMEOUT_S = "60"
# ovs-vswitchd counts processors at most once in 10 s, and takes the clock's zero for its last count: started earlier
# after boot it finds none, makes no thread for the packets that the kernel hands up, and forwards nothing
UPTIME_MIN_S = 10.5


class SwitchError(Exception):
    """A command of Open vSwitch failed."""


class OpenFlowSwitch(OVSSwitch):
    """A bridge that speaks OpenFlow 1.3 to the SDN application and keeps its flows when that is gone."""

    @classmethod
    def setup(cls) -> None:
        """Mininet would look for a running Open vSwitch here; `start_daemons` has started ours."""

    def transaction(self, controller: str) -> list[str]:
        """The ovs-vsctl words that make this bridge with its ports. `controller` is "tcp:127.0.0.1:6653"."""
        words = ["--", "add-br", self.name, "--", "set", "bridge", self.name, "fail_mode=secure"]
        words += [f"other-config:datapath-id={self.dpid}", "other-config:disable-in-band=true"]
        words += ["protocols=OpenFlow13"]
        if self.datapath == "user":
            words += ["datapath_type=netdev"]
        words += ["--", "set-controller", self.name, controller]
        words += ["--", "set", "controller", self.name, "connection-mode=out-of-band", "max_backoff=1000"]
        words += ["inactivity_probe=0"]
        for port, interface in sorted(self.intfs.items()):
            if port:
                words += ["--", "add-port", self.name, interface.name]
                words += ["--", "set", "interface", interface.name, f"ofport_request={port}"]
                words += ["--", "set", "port", interface.name, "qos=@ours"]
        return words


def start_daemons(run: Path) -> None:
    """ovsdb-server and ovs-vswitchd of this sandbox only, with all their files in `run`."""
    run.mkdir(parents=True, exist_ok=True)
    time.sleep(max(0.0, UPTIME_MIN_S - time.monotonic()))
    database = run / "conf.db"
    _call(["ovsdb-tool", "create", str(database), str(SCHEMA)])
    os.environ.update(OVS_RUNDIR=str(run), OVS_DBDIR=str(run), OVS_LOGDIR=str(run))
    socket = f"unix:{run / 'db.sock'}"
    _call(["ovsdb-server", str(database), f"--remote=p{socket}", *_daemon(run, "ovsdb-server")])
    _call(["ovs-vsctl", f"--db={socket}", "--no-wait", "init"])
    _call(["ovs-vswitchd", socket, *_daemon(run, "ovs-vswitchd")])


def _daemon(run: Path, name: str) -> list[str]:
    files = [f"--pidfile={run / name}.pid", f"--log-file={run / name}.log"]
    return [*files, "--detach", "--no-chdir", "-vconsole:off", "-vsyslog:off", "-vfile:warn"]


def start_switches(run: Path, switches: Sequence[OpenFlowSwitch], controller: str) -> None:
    """All bridges and ports in one transaction."""
    # without this type Open vSwitch removes every queueing discipline that it has not made itself
    words = ["--id=@ours", "create", "qos", "type=linux-noop"]
    words += [word for switch in switches for word in switch.transaction(controller)]
    _call(["ovs-vsctl", f"--db=unix:{run / 'db.sock'}", f"--timeout={TIMEOUT_S}", "--", *words])


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SwitchError(f"{' '.join(command[:3])}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
