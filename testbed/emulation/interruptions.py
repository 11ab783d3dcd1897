"""Measures every handover from the phone's own packets: small numbered probes to an echo on another host, around each.

One thread a phone in the director's process; a socket belongs to the namespace that it was opened in. What the probes
tell is worked out in `testbed.mobility.interruption`.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from testbed.mobility.interruption import Run, extended, interruption, numbers
from testbed.network.handover import HANDOVERS, Handovers
from testbed.network.namespace import inside
from testbed.network.network import Network
from testbed.network.player import Clock
from testbed.plan import Change, HostPlan, Plan

ECHO_PORT = 7
PROBE = struct.Struct("!I")  # its number; in an answer the first and last of runs of numbers heard come behind it
RUN = struct.Struct("!II")
RUNS_TOLD = 8
LEAD_US = 100_000  # probes begin so long before
PATIENCE_US = 1_000_000  # and end so long after the phone is attached again, or when it has been answered
SPACING_MAX_US, SPACING_MIN_US = 1_000, 200
SHARE = 50  # of the interruption: the spacing is what it can be measured by
PHASE_US = 137  # off the round times at which everything else happens
ECHO_KINDS = ("mec_server", "edge_server", "cloud", "phone")  # the first there is


class Interruptions:
    """`start` when the clock runs; `wait` for the last handover's record."""

    def __init__(
        self, plan: Plan, network: Network, handovers: Handovers, *, clock: Clock, record: Callable[..., Any]
    ) -> None:
        self.network, self.handovers, self.clock, self.record = network, handovers, clock, record
        self.threads: list[threading.Thread] = []
        hosts = {host.name: host for host in plan.hosts}
        echoes: dict[str, HostPlan] = {}
        for link in plan.links:
            mine = [change for change in plan.changes if change.what in HANDOVERS and change.target == link.name]
            if mine:
                phone = hosts.get(link.a) or hosts[link.b]
                echo = _echo_host(plan, phone)
                echoes[echo.name] = echo
                self.threads.append(threading.Thread(target=self._watch, args=(phone, echo, mine), daemon=True))
        for echo in echoes.values():
            with inside(network.hosts[echo.name].netns):
                server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind((echo.ip, ECHO_PORT))
            threading.Thread(target=_echo, args=(server,), daemon=True).start()

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def wait(self) -> None:
        for thread in self.threads:
            thread.join()

    def _watch(self, phone: HostPlan, echo: HostPlan, changes: list[Change]) -> None:
        for detach, attach in zip(changes[::2], changes[1::2], strict=True):
            self.clock.sleep_until(detach.t_us - LEAD_US + PHASE_US)
            with inside(self.network.hosts[phone.name].netns):
                wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with wire:
                wire.connect((echo.ip, ECHO_PORT))
                found = interruption(*self._probe(wire, detach, attach), detach.t_us, attach.t_us)
            done = self.handovers.done_us
            detached_us, attached_us = done.get(detach), done.get(attach)
            self.record(
                "handover",
                detach.t_us if detached_us is None else detached_us,
                **{"phone": phone.name, "link": detach.target, "from": detach.place, "to": attach.place},
                **{"asked_us": detach.t_us, "detached_us": detached_us, "attached_us": attached_us},
                **{"interruption_us": detach.value, "measured_us": found.measured_us},
                **{"silent_us": found.silent_us, "lost_probes": found.lost_probes},
            )

    def _probe(self, wire: socket.socket, detach: Change, attach: Change) -> tuple[list[int], set[int], set[int]]:
        """When each probe was sent, which were answered, which heard; until one is that was sent after the attach."""
        wire.setblocking(False)
        spacing_us = max(SPACING_MIN_US, min(SPACING_MAX_US, detach.value // SHARE))
        begin_us = self.clock.now_us()
        sent_us: list[int] = []
        answered: set[int] = set()
        heard: set[int] = set()
        back = False
        while not back and self.clock.now_us() < attach.t_us + PATIENCE_US:
            self.clock.sleep_until(begin_us + len(sent_us) * spacing_us)
            sent_us.append(self.clock.now_us())
            wire.send(PROBE.pack(len(sent_us) - 1))
            for number, runs in _answers(wire):
                answered.add(number)
                heard |= numbers(runs)
                back = back or sent_us[number] > attach.t_us
        return sent_us, answered, heard


def _answers(wire: socket.socket) -> Iterator[tuple[int, list[Run]]]:
    """All that have come: the number of a probe, and the runs that the echo had heard by then."""
    while True:
        try:
            data = wire.recv(256)
        except BlockingIOError:
            return
        yield PROBE.unpack_from(data)[0], [(first, last) for first, last in RUN.iter_unpack(data[PROBE.size :])]


def _echo(server: socket.socket) -> None:
    heard: dict[Any, list[Run]] = {}
    while True:
        data, sender = server.recvfrom(64)
        heard[sender] = extended(heard.get(sender, ()), PROBE.unpack(data)[0], RUNS_TOLD)
        server.sendto(data + b"".join(RUN.pack(*run) for run in heard[sender]), sender)


def _echo_host(plan: Plan, phone: HostPlan) -> HostPlan:
    others = [host for host in plan.hosts if host.name != phone.name]
    return min(others or plan.hosts, key=lambda host: ECHO_KINDS.index(host.kind))
