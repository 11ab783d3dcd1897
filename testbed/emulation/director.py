"""Starts everything of a run inside its sandbox, plays the schedule, counts what the links carried.

The same on every kernel: the plan says what to build, the run folder takes the results. The processes: this one
(network and player), the SDN application, and one preloaded parent, from which the coordinator and an agent per host
are forked. Any of them ending early ends the run.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from nodes.clock import MonotonicClock, PreparationClock
from nodes.threads import fail_loudly
from nodes.wire import engine
from nodes.zygote import Spawner
from testbed.emulation.interruptions import Interruptions
from testbed.emulation.live import LiveFile
from testbed.emulation.measuring import Measuring
from testbed.journal import Journal
from testbed.kernel import cgroup
from testbed.network.failures import STATES, Failures
from testbed.network.handover import HANDOVERS, Handovers
from testbed.network.namespace import loopback_up
from testbed.network.network import Network, running_network
from testbed.network.player import NODES, LinkInformation, NodeChanges, play, read_zero
from testbed.network.precedence import give_way
from testbed.plan import Change, Plan, from_json

SOCKETS = Path("/run/testbed")
OVS = Path("/run/openvswitch")
CONTROLLER = "127.0.0.1:6653"
SOCKET_TIMEOUT_S = 120.0
SPAWN_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0
DONE = "coordinator.json"  # the coordinator's last word
POLL_S = 0.05
ANNOUNCE_EVERY_S = 0.5
# in real time memory that a pass has used is kept for the next: to have its pages anew takes longer than the pass
KEPT_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


class DirectorFailed(Exception):
    """A process of the run did not come up or ended early."""


def main(run_folder: Path) -> None:
    """Runs the plan of the folder to its end; the caller ends the sandbox."""
    plan = from_json((run_folder / "plan.json").read_text())
    SOCKETS.mkdir(mode=0o700)
    os.mkfifo(SOCKETS / "zero.pipe")
    loopback_up()
    live, journal, clock = LiveFile(run_folder), Journal(run_folder, "director"), PreparationClock()
    fail_loudly(journal.record, clock, _end_main)
    live.phase("network")
    with ExitStack() as stack:
        sdn = start(run_folder, "sdn", sdn_command(run_folder, plan))
        give_way(plan.clock, sdn.pid)
        parent = start(run_folder, "roles", _roles_command(), _roles_environment(plan, run_folder))
        network = stack.enter_context(running_network(plan, OVS, f"tcp:{CONTROLLER}", plan.datapath))
        live.phase("processes")
        await_socket(SOCKETS / "sdn.sock", sdn)
        await_socket(SOCKETS / "zygote.sock", parent)
        groups = cgroup.Groups(cgroup.find(), os.environ[cgroup.VARIABLE]) if plan.compute == "cgroup" else None
        spawner, agents = _spawn_roles(plan, network, run_folder, groups)
        threading.Thread(target=_announce, args=(network,), daemon=True).start()
        threading.Thread(target=_watch, args=(spawner, sdn, run_folder, journal, groups), daemon=True).start()
        nodes = NodeChanges(SOCKETS, plan.changes)
        clock.t0_us = read_zero(SOCKETS / "zero.pipe")
        if groups is not None:
            groups.hold()
        information = LinkInformation(SOCKETS)
        failures = Failures(network, information, clock=clock, record=journal.record)
        handovers = Handovers(network, information, clock=clock, record=journal.record)
        interruptions = Interruptions(plan, network, handovers, clock=clock, record=journal.record)
        interruptions.start()
        measuring = Measuring(plan, network, run_folder, clock=clock, record=journal.record)
        measuring.start()
        others: dict[str, Callable[[Change], None]] = {
            **dict.fromkeys(NODES, nodes),
            **dict.fromkeys(STATES, failures),
            **dict.fromkeys(HANDOVERS, handovers),
            "privacy": lambda change: None,  # noqa: ARG005 a rule of the mind, which has the plan and a clock
        }
        play(plan.changes, network.links, others, information, clock=clock, record=journal.record)
        _await_coordinator(run_folder)
        if plan.clock == "real":  # else it takes no time
            _await_ends(agents)
        interruptions.wait()
        measuring.finish()
        _count_traffic(plan, network, journal, clock)
        if groups is not None:
            _record_groups(groups, journal, clock.now_us())
    (run_folder / DONE).replace(run_folder / "done.json")


def sdn_command(run_folder: Path, plan: Plan) -> list[str]:
    command = [sys.executable, "-m", "controller.sdn", "--openflow", CONTROLLER, "--socket", str(SOCKETS / "sdn.sock")]
    return [*command, "--period", str(plan.telemetry_period_us / 1e6), "--log", str(run_folder / "sdn.log")]


def _roles_command() -> list[str]:
    return [sys.executable, "-m", "testbed.emulation.roles", str(SOCKETS / "zygote.sock")]


def _roles_environment(plan: Plan, run_folder: Path) -> dict[str, str]:
    """What has to be said before gRPC is loaded: why a host refused a handshake is in its log alone, if asked for."""
    asked = {} if plan.encrypt == "none" else {"GRPC_VERBOSITY": "INFO"}
    kept = KEPT_MEMORY if plan.clock == "real" else {}
    return {"TESTBED_RUN": str(run_folder), **engine.ENVIRONMENT, **asked, **kept}


def start(
    run_folder: Path, name: str, command: list[str], environment: dict[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    with (run_folder / f"{name}.out").open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )


def await_socket(path: Path, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(int(SOCKET_TIMEOUT_S / POLL_S)):
        if path.exists():
            return
        if process.poll() is not None:
            raise DirectorFailed(f"the process of {path.name} ended with {process.returncode} before it was ready")
        time.sleep(POLL_S)
    raise DirectorFailed(f"{path.name} did not come up within {SOCKET_TIMEOUT_S:.0f} s")


def _spawn_roles(
    plan: Plan, network: Network, run_folder: Path, groups: cgroup.Groups | None
) -> tuple[Spawner, list[int]]:
    """Also the processes of the agents."""
    logs = run_folder / "logs"
    logs.mkdir()
    spawner = Spawner(SOCKETS / "zygote.sock", SPAWN_TIMEOUT_S)
    config, agents = {"run": str(run_folder), "sockets": str(SOCKETS)}, []
    for host in plan.hosts:
        mine = {**config, "role": "host", "name": host.name}
        netns, log = network.hosts[host.name].netns, logs / f"{host.name}.log"
        agents.append(spawner.spawn(host.name, netns=netns, log=log, config=mine))
        if groups is not None:
            groups.group(host.name, host.cpus_ppm, host.memory_bytes).place(agents[-1])
    coordinator = {**config, "role": "coordinator"}
    spawner.spawn("coordinator", netns=None, log=logs / "coordinator.log", config=coordinator)
    return spawner, agents


def _announce(network: Network) -> None:
    """Hosts say where they are until the experiment begins; a switch that joins late still hears it."""
    while not (SOCKETS / "zero").exists():
        network.announce()
        time.sleep(ANNOUNCE_EVERY_S)


def _watch(
    spawner: Spawner,
    sdn: "subprocess.Popen[bytes]",
    run_folder: Path,
    journal: Journal,
    groups: cgroup.Groups | None,
) -> None:
    """A process that ends early ends the run: a hanging run says nothing, a failed one says what failed."""
    while not (run_folder / DONE).exists():
        ended = [f"{exit.name} ended early with {exit.code}" for exit in spawner.exits(0) if exit.code]
        if sdn.poll() is not None:
            ended.append(f"the SDN application ended early with {sdn.returncode}")
        if ended:
            if groups is not None:
                ended += _killed(groups, journal)
            journal.record("fault", 0, what="process", why="; ".join(ended))
            print("FAILED:", "; ".join(ended), *_last_words(run_folder), sep="\n", flush=True)
            _end_main()
            return
        time.sleep(ANNOUNCE_EVERY_S)


def _end_main() -> None:
    """What the main thread waits for ends with KeyboardInterrupt, and the run with it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _last_words(run_folder: Path) -> list[str]:
    """The end of every log that is not empty."""
    logs = [*sorted((run_folder / "logs").glob("*.log")), run_folder / "sdn.out", run_folder / "roles.out"]
    return [f"{log.name}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()[-3:]]


def _await_coordinator(run_folder: Path) -> None:
    while not (run_folder / DONE).exists():
        time.sleep(POLL_S)


def _await_ends(agents: Iterable[int]) -> None:
    """They write what they still hold before they end."""
    for _ in range(int(END_TIMEOUT_S / POLL_S)):
        if not any(Path("/proc", str(process)).exists() for process in agents):
            return
        time.sleep(POLL_S)


def _count_traffic(plan: Plan, network: Network, journal: Journal, clock: MonotonicClock) -> None:
    for link in plan.links:
        for direction in ("up", "down"):
            journal.record(
                "traffic",
                clock.now_us(),
                link=link.name,
                direction=direction,
                **network.links[link.name].traffic(direction),
            )


def _record_groups(groups: cgroup.Groups, journal: Journal, t_us: int) -> None:
    for host, figures in groups.figures():
        journal.record("group", t_us, node=host, **figures)


def _killed(groups: cgroup.Groups, journal: Journal) -> list[str]:
    """Who was killed for want of memory; also records what the groups did until the end of a run that failed."""
    _record_groups(groups, journal, 0)
    killed = groups.killed()
    for why in killed:
        journal.record("fault", 0, what="memory", why=why)
    return killed
