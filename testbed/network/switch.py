"""Open vSwitch: private daemons, and Mininet switches that are made in one transaction."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mininet.node import OVSSwitch

from testbed.network.quiet import QuietNode

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
TIMEOUT_S = "60"
# ovs-vswitchd counts processors at most once in 10 s, and takes the clock's zero for its last count: started earlier
# after boot it finds none, makes no thread for the packets that the kernel hands up, and forwards nothing
UPTIME_MIN_S = 10.5


class SwitchError(Exception):
    """A command of Open vSwitch failed."""


class OpenFlowSwitch(QuietNode, OVSSwitch):
    """A bridge that speaks OpenFlow 1.3 to the SDN application and keeps its flows when that is gone."""

    @classmethod
    def setup(cls) -> None:
        """Mininet would look for a running Open vSwitch here; `start_daemons` has started ours."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **params)
        self.held_down: set[str] = set()  # by what
        self.run, self.controller = Path(), ""  # until it is started

    def down(self, cause: str = "call") -> None:
        """Without power: no control channel, no flows, no carrier on any of its links; up after `up` for every cause.

        Raises SwitchError, ShapingError.
        """
        if self.is_up:
            self._control(["--", "del-controller", self.name], up=False)
        self.held_down.add(cause)
        for link in self.shaped_links():
            link.down(self.name)

    def up(self, cause: str = "call") -> None:
        """All back but the flows, which the SDN application lays again. Raises SwitchError, ShapingError."""
        if not self.held_down:
            return
        self.held_down.discard(cause)
        if self.is_up:
            for link in self.shaped_links():
                link.up(self.name)
            self._control(self._controlled(self.controller), up=True)

    @property
    def is_up(self) -> bool:
        return not self.held_down

    def shaped_links(self) -> list[Any]:
        return [interface.link for _, interface in sorted(self.intfs.items()) if interface.link]

    def _control(self, words: list[str], *, up: bool) -> None:
        command = ["ovs-vsctl", f"--db=unix:{self.run / 'db.sock'}", f"--timeout={TIMEOUT_S}"]
        held = _call([*command, *words, "--", "get", "bridge", self.name, "controller"]).strip()
        if (held != "[]") != up:
            raise SwitchError(f"{self.name}: asked {'a' if up else 'no'} controller, Open vSwitch holds {held}")

    def _controlled(self, controller: str) -> list[str]:
        words = ["--", "set-controller", self.name, controller]
        words += ["--", "set", "controller", self.name, "connection-mode=out-of-band", "max_backoff=1000"]
        return [*words, "inactivity_probe=0"]

    def transaction(self, controller: str) -> list[str]:
        """The ovs-vsctl words that make this bridge with its ports. `controller` is "tcp:127.0.0.1:6653"."""
        words = ["--", "add-br", self.name, "--", "set", "bridge", self.name, "fail_mode=secure"]
        words += [f"other-config:datapath-id={self.dpid}", "other-config:disable-in-band=true"]
        words += ["protocols=OpenFlow13"]
        if self.datapath == "user":
            words += ["datapath_type=netdev"]
        words += self._controlled(controller)
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
    for switch in switches:
        switch.run, switch.controller = run, controller
    words = ["--id=@ours", "create", "qos", "type=linux-noop"]
    words += [word for switch in switches for word in switch.transaction(controller)]
    _call([*_vsctl(run), "--", *words])


def leave(run: Path, bridge: str, port: str) -> None:
    """Take a port out of a bridge; its queueing discipline stays."""
    _call([*_vsctl(run), "--", "del-port", bridge, port])


def join(run: Path, bridge: str, port: str) -> None:
    """Put an interface into a bridge, under the next number that is free."""
    words = ["--id=@ours", "create", "qos", "type=linux-noop", "--", "add-port", bridge, port]
    _call([*_vsctl(run), "--", *words, "--", "set", "port", port, "qos=@ours"])


def _vsctl(run: Path) -> list[str]:
    return ["ovs-vsctl", f"--db=unix:{run / 'db.sock'}", f"--timeout={TIMEOUT_S}"]


def _call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SwitchError(f"{' '.join(command[:3])}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout
