"""Open vSwitch: private daemons, and Mininet switches that are made in one transaction and changed in others."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mininet.node import OVSSwitch

from testbed.network.ovsdb import DATABASE, Database, Operation, SwitchError, insert, mutate, named, new, select, update
from testbed.network.quiet import QuietNode

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
NONE = ["set", []]  # how an optional column says that it is empty
# without this type Open vSwitch removes every queueing discipline that it has not made itself
KEEP_QDISC = "linux-noop"
# ovs-vswitchd counts processors at most once in 10 s, and takes the clock's zero for its last count: started earlier
# after boot it finds none, makes no thread for the packets that the kernel hands up, and forwards nothing
UPTIME_MIN_S = 10.5


class OpenFlowSwitch(QuietNode, OVSSwitch):
    """A bridge that speaks OpenFlow 1.3 to the SDN application and keeps its flows when that is gone."""

    @classmethod
    def setup(cls) -> None:
        """Mininet would look for a running Open vSwitch here; `start_daemons` has started ours."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **params)
        self.held_down: set[str] = set()  # by what
        self.database: Database  # from the moment it is started
        self.controller = ""  # likewise

    def cmd(self, *args: Any, **kwargs: Any) -> Any:
        """Mininet brings the loopback up for each switch, which is up here; a shell would cost 16,000 system calls."""
        return "" if args == ("ifconfig", "lo", "up") else super().cmd(*args, **kwargs)

    def down(self, cause: str = "call") -> None:
        """Without power: no control channel, no flows, no carrier on any of its links; up after `up` for every cause.

        Raises SwitchError, ShapingError.
        """
        if self.is_up:
            self._control(up=False)
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
            self._control(up=True)

    @property
    def is_up(self) -> bool:
        return not self.held_down

    def shaped_links(self) -> list[Any]:
        return [interface.link for _, interface in sorted(self.intfs.items()) if interface.link]

    def _control(self, *, up: bool) -> None:
        """A controller row that no bridge names is gone at once."""
        where = named(self.name)
        made = [self._controller()] if up else []
        row = {"controller": new("controller") if up else NONE}
        self.database.commit(*made, update("Bridge", where, row))
        (held,) = self.database.transact(select("Bridge", where, "controller"))[0]["rows"]
        if (held["controller"] != NONE) != up:
            raise SwitchError(f"{self.name}: asked {'a' if up else 'no'} controller, Open vSwitch holds {held}")

    def _controller(self, name: str = "controller") -> Operation:
        row = {"target": self.controller, "connection_mode": "out-of-band", "max_backoff": 1000, "inactivity_probe": 0}
        return insert("Controller", row, name)

    def operations(self, number: int, qos: str) -> list[Operation]:
        """What makes this bridge with its ports; `number` tells its rows from those of others."""
        own = f"b{number}"
        made = [*_port(self.name, f"{own}p0", {"type": "internal"}), self._controller(f"{own}c")]
        for port, interface in sorted(self.intfs.items()):
            if port:
                made += _port(interface.name, f"{own}p{port}", {"ofport_request": port}, qos=new(qos))
        ports = ["set", [new(one["uuid-name"]) for one in made if one["table"] == "Port"]]
        row: dict[str, Any] = {"name": self.name, "ports": ports, "controller": new(f"{own}c"), "fail_mode": "secure"}
        row["other_config"] = ["map", [["datapath-id", self.dpid], ["disable-in-band", "true"]]]
        row["protocols"] = "OpenFlow13"
        if self.datapath == "user":
            row["datapath_type"] = "netdev"
        return [*made, insert("Bridge", row, own), mutate(DATABASE, [], ["bridges", "insert", ["set", [new(own)]]])]


def _port(name: str, row: str, interface: dict[str, Any], **words: Any) -> list[Operation]:
    ways = {"name": name, "interfaces": new(f"{row}i"), **words}
    return [insert("Interface", {"name": name, **interface}, f"{row}i"), insert("Port", ways, row)]


def start_daemons(run: Path) -> Database:
    """ovsdb-server and ovs-vswitchd of this sandbox only, with all their files in `run`."""
    run.mkdir(parents=True, exist_ok=True)
    time.sleep(max(0.0, UPTIME_MIN_S - time.monotonic()))
    file, wire = run / "conf.db", run / "db.sock"
    _call(["ovsdb-tool", "create", str(file), str(SCHEMA)])
    os.environ.update(OVS_RUNDIR=str(run), OVS_DBDIR=str(run), OVS_LOGDIR=str(run))
    _call(["ovsdb-server", str(file), f"--remote=punix:{wire}", *_daemon(run, "ovsdb-server")])
    database = Database(wire)
    database.transact(insert(DATABASE, {}, "first"))
    _call(["ovs-vswitchd", f"unix:{wire}", *_daemon(run, "ovs-vswitchd")])
    return database


def _daemon(run: Path, name: str) -> list[str]:
    files = [f"--pidfile={run / name}.pid", f"--log-file={run / name}.log"]
    return [*files, "--detach", "--no-chdir", "-vconsole:off", "-vsyslog:off", "-vfile:warn"]


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SwitchError(f"{command[0]}: exit {done.returncode}: {done.stderr.strip()[-400:]}")


def start_switches(database: Database, switches: Sequence[OpenFlowSwitch], controller: str) -> None:
    """All bridges and ports in one transaction. Raises SwitchError."""
    made = [insert("QoS", {"type": KEEP_QDISC}, "ours")]
    for number, switch in enumerate(switches):
        switch.database, switch.controller = database, controller
        made += switch.operations(number, "ours")
    database.commit(*made)
    _taken(database, [])


def leave(database: Database, bridge: str, port: str) -> None:
    """Take a port out of a bridge; its queueing discipline stays. Raises SwitchError."""
    row = _row(database, "Port", named(port))
    database.commit(mutate("Bridge", named(bridge), ["ports", "delete", row]))


def join(database: Database, bridge: str, port: str) -> None:
    """Put an interface into a bridge, under the next number that is free. Raises SwitchError."""
    qos = _row(database, "QoS", [["type", "==", KEEP_QDISC]])
    made = _port(port, "port", {}, qos=qos)
    database.commit(*made, mutate("Bridge", named(bridge), ["ports", "insert", ["set", [new("port")]]]))
    _taken(database, named(port))


def _row(database: Database, table: str, where: list[Any]) -> list[str]:
    found = database.transact(select(table, where, "_uuid"))[0]["rows"]
    if len(found) != 1:
        raise SwitchError(f"{len(found)} rows of table {table} where {where}")
    uuid: list[str] = found[0]["_uuid"]
    return uuid


def _taken(database: Database, where: list[Any]) -> None:
    """Open vSwitch says nothing aloud of an interface that it cannot take."""
    for row in database.transact(select("Interface", where, "name", "error", "ofport"))[0]["rows"]:
        if row["error"] != NONE or row["ofport"] in (NONE, -1):
            raise SwitchError(f"Open vSwitch does not take {row['name']}: {row['error']}, port {row['ofport']}")
